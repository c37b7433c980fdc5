//! What the metadata service knows of a host: a tree whose leaves are texts.

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::Identity;

const ACCOUNT: &str = "123456789012";
const IMAGE: &str = "ami-0123456789abcdef0";

/// The text at a path such as `/latest/meta-data/instance-id`; of a directory the names in it.
pub(super) fn find(path: &str, caller: IpAddr, host: &Identity) -> Option<String> {
    let path = path.split('?').next().unwrap_or_default();
    let mut parts = path.split('/').filter(|p| !p.is_empty());
    if parts.next().is_none() {
        return Some("2021-03-23\nlatest".to_owned());
    }
    let parts: Vec<_> = parts.collect();
    let tree = tree(caller, host);
    let mut here = &tree;
    for part in &parts {
        here = here.get(part)?;
    }
    match here {
        Value::String(text) => Some(text.clone()),
        Value::Object(names) => Some(list(&parts, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => None,
    }
}

fn list(parts: &[&str], names: &Map<String, Value>) -> String {
    let of_keys = parts.ends_with(&["public-keys"]);
    let named = names.iter().map(|(name, value)| match value {
        // EC2 names a key by its number and its name.
        Value::Object(_) if of_keys => format!("{name}=test-key"),
        Value::Object(_) => format!("{name}/"),
        _ => name.clone(),
    });
    named.collect::<Vec<_>>().join("\n")
}

fn tree(caller: IpAddr, host: &Identity) -> Value {
    let mut tree = json!({
        "meta-data": meta_data(caller, host),
        "dynamic": { "instance-identity": { "document": identity(caller, host), "pkcs7": "", "signature": "" } },
    });
    if let Some(data) = &host.user_data {
        tree["user-data"] = json!(data);
    }
    tree
}

fn meta_data(caller: IpAddr, host: &Identity) -> Value {
    let zone = format!("{}{}", host.region, host.zone);
    let address = caller.to_string();
    let name = format!("ip-{}.{}.compute.internal", address.replace('.', "-"), host.region);
    let mac = mac(caller);
    let interface = json!({
        "device-number": "0", "interface-id": "eni-0123456789abcdef0", "local-hostname": name,
        "local-ipv4s": address, "mac": mac, "owner-id": ACCOUNT, "security-groups": "origin",
        "subnet-id": "subnet-0123456789abcdef0", "subnet-ipv4-cidr-block": "10.77.0.0/24",
        "vpc-id": "vpc-0123456789abcdef0", "vpc-ipv4-cidr-block": "10.77.0.0/16",
        "vpc-ipv4-cidr-blocks": "10.77.0.0/16",
    });
    let mut data = json!({
        "ami-id": IMAGE, "ami-launch-index": "0", "ami-manifest-path": "(unknown)",
        "autoscaling": { "target-lifecycle-state": host.lifecycle },
        "block-device-mapping": { "ami": "xvda", "root": "/dev/xvda" },
        "hostname": name, "instance-action": "none", "instance-id": host.instance_id,
        "instance-life-cycle": "on-demand", "instance-type": "t3.small",
        "local-hostname": name, "local-ipv4": address, "mac": mac,
        "network": { "interfaces": { "macs": { mac.as_str(): interface } } },
        "placement": { "availability-zone": zone, "region": host.region },
        "profile": "default-hvm", "reservation-id": "r-0123456789abcdef0",
        "security-groups": "origin", "services": { "domain": "amazonaws.com", "partition": "aws" },
        "tags": { "instance": host.tags },
    });
    if let Some(role) = &host.role {
        data["iam"] = iam(role, host);
    }
    if let Some(key) = &host.ssh_key {
        data["public-keys"] = json!({ "0": { "openssh-key": key } });
    }
    if let Some(action) = &host.spot_action {
        data["instance-life-cycle"] = json!("spot");
        data["spot"] = json!({ "instance-action": action });
    }
    data
}

fn iam(role: &str, host: &Identity) -> Value {
    let now = Timestamp::now();
    let until = now.saturating_add(SignedDuration::from_secs(host.credentials_for)).unwrap_or(now);
    let credentials = json!({
        "Code": "Success", "LastUpdated": seconds(now), "Type": "AWS-HMAC",
        "AccessKeyId": format!("ASIATEST{}", host.instance_id.to_uppercase().replace('-', "")),
        "SecretAccessKey": "test-secret", "Token": "test-session", "Expiration": seconds(until),
    });
    let info = json!({
        "Code": "Success", "LastUpdated": seconds(now), "InstanceProfileId": "AIPATEST",
        "InstanceProfileArn": format!("arn:aws:iam::{ACCOUNT}:instance-profile/{role}"),
    });
    json!({ "info": info.to_string(), "security-credentials": { role: credentials.to_string() } })
}

fn identity(caller: IpAddr, host: &Identity) -> String {
    let document = json!({
        "accountId": ACCOUNT, "architecture": "x86_64", "imageId": IMAGE,
        "availabilityZone": format!("{}{}", host.region, host.zone),
        "instanceId": host.instance_id, "instanceType": "t3.small", "pendingTime": "2026-01-01T00:00:00Z",
        "privateIp": caller.to_string(), "region": host.region, "version": "2017-09-30",
    });
    document.to_string()
}

/// One for each address, locally administered.
fn mac(caller: IpAddr) -> String {
    let [a, b, c, d] = match caller {
        IpAddr::V4(v4) => v4.octets(),
        IpAddr::V6(_) => [0, 0, 0, 6],
    };
    format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

fn seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
