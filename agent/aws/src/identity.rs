//! Who this host is and where: instance id and region.
//!
//! The instance metadata may be late at boot or away for a while. What it said is kept on disk, so
//! that a host that has been somebody once stays it; but only on the same machine, since a disk may
//! become an image of others.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use aws_config::{imds, provider_config::ProviderConfig};
use palisade_agent::{errors::Chain, sys::files::write_atomic};
use serde_json::{Value, json};

use crate::https_client;

/// The instance metadata is on this host: it answers at once or not at all.
const METADATA: Duration = Duration::from_secs(1);
/// Version of the file.
const VERSION: u64 = 1;
/// Longest file that is ours.
const MAX_FILE: u64 = 4096;
/// Where Nitro writes the instance's id, without any network.
const ASSET_TAG: &str = "/sys/devices/virtual/dmi/id/board_asset_tag";
/// What tells one machine from another: the second one of each image differs.
const MACHINE: [&str; 2] = ["/etc/machine-id", "/sys/devices/virtual/dmi/id/product_uuid"];

/// A VPC, as a host in it knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vpc {
    /// `vpc-...`.
    pub id: String,
    /// Its networks, as prefixes.
    pub networks: Vec<String>,
}

/// Networks of one family that a VPC may have, and more.
const MAX_NETWORKS: usize = 64;

/// What is known of this host, by instance metadata and by a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostIdentity {
    file: PathBuf,
    machine: String,
    metadata: Option<String>,
}

impl HostIdentity {
    /// Keeps what it learns in `host.json` of this directory.
    #[must_use]
    pub fn kept_in(dir: &Path) -> Self {
        let texts = MACHINE.map(|p| fs::read_to_string(p).unwrap_or_default());
        let machine = texts.map(|t| t.trim().to_owned()).join("/");
        Self { file: dir.join("host.json"), machine, metadata: None }
    }

    /// Asks this endpoint instead of the usual one.
    #[must_use]
    pub fn with_metadata_at(mut self, endpoint: impl Into<String>) -> Self {
        self.metadata = Some(endpoint.into());
        self
    }

    /// The instance id: what the metadata says within seconds, else what it said before, else what
    /// the firmware says. None where nobody knows; the caller takes the host's name.
    pub async fn instance(&self) -> Option<String> {
        let said = self.ask().await;
        if let Some(id) = &said {
            self.remember("instance", id);
        }
        said.or_else(|| self.recall("instance")).or_else(firmware_id)
    }

    /// The Auto Scaling group that the instance is in, by its tags in the metadata, and else what they
    /// said before; none where the instance is in no group or does not show its tags
    /// (`InstanceMetadataTags`).
    pub async fn auto_scaling_group(&self) -> Option<String> {
        if std::env::var("AWS_EC2_METADATA_DISABLED").is_ok_and(|v| v == "true") {
            return None;
        }
        let client = self.client()?;
        if let Some(group) = get(&client, "tags/instance/aws:autoscaling:groupName").await {
            self.remember("group", &group);
            return Some(group);
        }
        // Metadata that answers and knows of no group is believed: instances leave groups.
        match get(&client, "instance-id").await {
            Some(_) => None,
            None => self.recall("group"),
        }
    }

    /// The region, if it is `found`, and else the last one that was.
    pub(crate) fn region(&self, found: Option<&str>) -> Option<String> {
        if let Some(region) = found {
            self.remember("region", region);
        }
        found.map(str::to_owned).or_else(|| self.recall("region"))
    }

    /// The VPC that this host's first interface is in, as the metadata says it; none where that is
    /// switched off (`AWS_EC2_METADATA_DISABLED`) or does not answer within seconds.
    pub async fn vpc(&self) -> Option<Vpc> {
        if std::env::var("AWS_EC2_METADATA_DISABLED").is_ok_and(|v| v == "true") {
            return None;
        }
        let client = self.client()?;
        let mac = get(&client, "mac").await?;
        if !mac.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') {
            return None;
        }
        let at = |what: &str| format!("network/interfaces/macs/{mac}/{what}");
        let id = get(&client, &at("vpc-id")).await?;
        let mut networks = Vec::new();
        // A VPC without IPv6 has no such entry.
        for what in ["vpc-ipv4-cidr-blocks", "vpc-ipv6-cidr-blocks"] {
            let text = get(&client, &at(what)).await.unwrap_or_default();
            networks.extend(text.lines().take(MAX_NETWORKS).map(|l| l.trim().to_owned()));
        }
        Some(Vpc { id, networks })
    }

    async fn ask(&self) -> Option<String> {
        get(&self.client()?, "instance-id").await
    }

    fn client(&self) -> Option<imds::Client> {
        let mut client = imds::Client::builder()
            .connect_timeout(METADATA)
            .read_timeout(METADATA)
            .operation_attempt_timeout(METADATA)
            .operation_timeout(METADATA * 3)
            .max_attempts(2)
            .configure(&ProviderConfig::empty().with_http_client(https_client()));
        if let Some(endpoint) = &self.metadata {
            client = client.endpoint(endpoint).ok()?;
        }
        Some(client.build())
    }

    fn recall(&self, key: &str) -> Option<String> {
        let text = |v: Option<&Value>| v.and_then(Value::as_str).map(str::to_owned);
        text(self.read().get(key)).filter(|t| !t.is_empty())
    }

    /// What the file says of this machine; empty if it says nothing.
    fn read(&self) -> Value {
        let size = fs::metadata(&self.file).map_or(u64::MAX, |m| m.len());
        let read = (size <= MAX_FILE).then(|| fs::read(&self.file).ok()).flatten();
        let value: Value =
            read.and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or(Value::Null);
        let ours = value["v"] == VERSION && value["machine"] == self.machine.as_str();
        if ours { value } else { Value::Null }
    }

    /// Writes it down if it is news. Without a machine to tell it from others nothing is kept.
    fn remember(&self, key: &str, text: &str) {
        let mut known = self.read();
        if known[key] == text || self.machine.trim_matches('/').is_empty() {
            return;
        }
        if known.is_null() {
            known = json!({ "v": VERSION, "machine": self.machine });
        }
        known[key] = text.into();
        if let Err(e) = write_atomic(&self.file, known.to_string().as_bytes(), 0o600) {
            tracing::warn!(file = %self.file.display(), error = %Chain(&e), "who this host is could not be kept");
        }
    }
}

/// What the metadata says of one thing; none if it says nothing.
async fn get(client: &imds::Client, what: &str) -> Option<String> {
    let said = client.get(format!("/latest/meta-data/{what}")).await.ok()?;
    Some(said.as_ref().trim().to_owned()).filter(|text| !text.is_empty())
}

/// An instance id from the firmware, as Nitro has it.
fn firmware_id() -> Option<String> {
    instance_id(&fs::read_to_string(ASSET_TAG).ok()?)
}

/// The text as an instance id, if it is one.
fn instance_id(text: &str) -> Option<String> {
    let id = text.trim();
    let hex = id.strip_prefix("i-")?;
    let good = matches!(hex.len(), 8 | 17) && hex.bytes().all(|b| b.is_ascii_hexdigit());
    good.then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(dir: &Path, machine: &str) -> HostIdentity {
        HostIdentity { machine: machine.to_owned(), ..HostIdentity::kept_in(dir) }
    }

    #[test]
    fn a_region_that_was_found_once_serves_when_it_is_not_found() {
        let dir = tempfile::tempdir().unwrap();
        let host = host(dir.path(), "m/");
        assert_eq!(host.region(None), None);
        assert_eq!(host.region(Some("eu-central-1")).as_deref(), Some("eu-central-1"));
        assert_eq!(host.region(None).as_deref(), Some("eu-central-1"));
        assert_eq!(host.region(Some("us-east-1")).as_deref(), Some("us-east-1"));
        assert_eq!(host.region(None).as_deref(), Some("us-east-1"));
    }

    #[test]
    fn another_machine_with_the_same_disk_is_nobody_yet() {
        let dir = tempfile::tempdir().unwrap();
        host(dir.path(), "first/").remember("instance", "i-0123456789abcdef0");
        assert_eq!(host(dir.path(), "second/").recall("instance"), None);
        let first = host(dir.path(), "first/").recall("instance");
        assert_eq!(first.as_deref(), Some("i-0123456789abcdef0"));
    }

    #[test]
    fn a_machine_without_any_id_keeps_nothing() {
        let dir = tempfile::tempdir().unwrap();
        host(dir.path(), "/").remember("instance", "i-0123456789abcdef0");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_is_damaged_or_too_long_is_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let host = host(dir.path(), "m/");
        host.remember("instance", "i-0123456789abcdef0");
        let good = fs::read_to_string(&host.file).unwrap();
        let long = format!("{good}{}", " ".repeat(5000));
        for bad in ["", "{", "[]", &good.replace("\"v\":1", "\"v\":2"), &long] {
            write_atomic(&host.file, bad.as_bytes(), 0o600).unwrap();
            assert_eq!(host.recall("instance"), None, "{bad}");
            host.remember("region", "eu-central-1");
            assert_eq!(host.recall("region").as_deref(), Some("eu-central-1"));
        }
    }

    #[test]
    fn only_an_instance_id_is_taken_from_the_firmware() {
        assert_eq!(instance_id("i-0123456789abcdef0\n").as_deref(), Some("i-0123456789abcdef0"));
        for other in ["", "Not Specified", "i-", "i-0123456789abcdefg", "0123456789abcdef0"] {
            assert_eq!(instance_id(other), None, "{other}");
        }
    }
}
