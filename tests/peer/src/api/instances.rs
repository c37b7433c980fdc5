//! DescribeInstanceInformation and ListTagsForResource.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    ApiError, fields,
    targets::{Target, matches},
};
use crate::{
    Signer, clock,
    config::{Instance, Ping},
    lock,
    peer::Shared,
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Describe {
    #[serde(default)]
    filters: Vec<Target>,
    max_results: Option<usize>,
    next_token: Option<String>,
}

pub(super) fn describe(shared: &Shared, body: &Value, signer: &Signer) -> Result<Value, ApiError> {
    let describe: Describe = fields::read(body)?;
    shared.keys.allow(signer, "ssm:DescribeInstanceInformation", "*")?;
    let size = describe.max_results.unwrap_or(50);
    if !(5..=50).contains(&size) {
        return Err(ApiError::invalid(format!(
            "1 validation error detected: Value '{size}' at 'maxResults' failed to satisfy \
             constraint: Member must have value between 5 and 50"
        )));
    }
    for filter in &describe.filters {
        if filter.values.is_empty() || filter.values.len() > 100 {
            let message = format!("{} values of filter {}", filter.values.len(), filter.key);
            return Err(ApiError::new("InvalidInstanceInformationFilterValue", message));
        }
        let known = ["InstanceIds", "PingStatus", "PlatformTypes", "ResourceType", "tag-key"];
        if !known.contains(&filter.key.as_str()) && !filter.key.starts_with("tag:") {
            return Err(ApiError::new("InvalidFilterKey", filter.key.clone()));
        }
    }
    let fits =
        |i: &&Instance| i.ping != Ping::Unmanaged && describe.filters.iter().all(|f| fit(i, f));
    let all: Vec<_> =
        lock(&shared.instances).iter().filter(fits).map(|i| view(shared, i)).collect();
    let (page, next) = fields::page(all, describe.next_token.as_deref(), size)?;
    Ok(json!({ "InstanceInformationList": page, "NextToken": next }))
}

fn fit(instance: &Instance, filter: &Target) -> bool {
    let any = |text: &str| filter.values.iter().any(|v| v == text);
    match filter.key.as_str() {
        "PingStatus" => any(&format!("{:?}", instance.ping)),
        "PlatformTypes" => any("Linux"),
        "ResourceType" => any(kind(instance)),
        _ => matches(instance, filter),
    }
}

fn kind(instance: &Instance) -> &'static str {
    if instance.id.starts_with("mi-") { "ManagedInstance" } else { "EC2Instance" }
}

fn view(shared: &Shared, instance: &Instance) -> Value {
    json!({
        "InstanceId": instance.id,
        "PingStatus": format!("{:?}", instance.ping),
        "LastPingDateTime": clock::json(clock::now_ms()),
        "AgentVersion": shared.config.agent_version,
        "IsLatestVersion": true,
        "PlatformType": "Linux",
        "PlatformName": "Debian GNU/Linux",
        "PlatformVersion": "12",
        "ResourceType": kind(instance),
        "IPAddress": instance.ip,
        "ComputerName": format!("ip-{}", instance.ip.replace('.', "-")),
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Tags {
    resource_type: String,
    resource_id: String,
}

pub(super) fn tags(shared: &Shared, body: &Value, signer: &Signer) -> Result<Value, ApiError> {
    let tags: Tags = fields::read(body)?;
    shared.keys.allow(signer, "ssm:ListTagsForResource", &tags.resource_id)?;
    if tags.resource_type != "ManagedInstance" {
        return Err(ApiError::new("InvalidResourceType", tags.resource_type));
    }
    let none = || ApiError::new("InvalidResourceId", tags.resource_id.clone());
    let instance = shared.instance(&tags.resource_id).ok_or_else(none)?;
    let list: Vec<_> = instance.tags.iter().map(|(k, v)| json!({ "Key": k, "Value": v })).collect();
    Ok(json!({ "TagList": list }))
}
