//! DescribeInstances.

use super::{ApiError, Form, denied, escaped, list};
use crate::{Signer, api::fields, config::Instance, lock, peer::Shared};

pub(super) fn describe(shared: &Shared, form: &Form, signer: &Signer) -> Result<String, ApiError> {
    shared.keys.allow(signer, "ec2:DescribeInstances", "*").map_err(|e| {
        denied(
            403,
            "UnauthorizedOperation",
            &format!("You are not authorized to perform this operation. {}", e.message),
        )
    })?;
    let ids = list(form, "InstanceId");
    let filters = filters(form)?;
    let size = match form.get("MaxResults") {
        None => 1000,
        Some(_) if !ids.is_empty() => {
            let message = "The parameter instancesSet cannot be used with the parameter maxResults";
            return Err(denied(400, "InvalidParameterCombination", message));
        }
        Some(text) => {
            text.parse().ok().filter(|n| (5..=1000).contains(n)).ok_or_else(|| {
                denied(400, "InvalidParameterValue", &format!("MaxResults {text}"))
            })?
        }
    };
    let all = lock(&shared.instances);
    for id in &ids {
        if !id.starts_with("i-") || !id.chars().skip(2).all(|c| c.is_ascii_hexdigit()) {
            let message = format!("Invalid id: \"{id}\"");
            return Err(denied(400, "InvalidInstanceID.Malformed", &message));
        }
        if !all.iter().any(|i| i.id == *id) {
            let message = format!("The instance ID '{id}' does not exist");
            return Err(denied(400, "InvalidInstanceID.NotFound", &message));
        }
    }
    let fits = |i: &&Instance| {
        i.id.starts_with("i-")
            && (ids.is_empty() || ids.contains(&i.id))
            && filters.iter().all(|(name, values)| fit(i, name, values))
    };
    let found: Vec<_> = all.iter().filter(fits).map(|i| item(shared, i)).collect();
    let token = form.get("NextToken").map(String::as_str).filter(|t| !t.is_empty());
    let (page, next) = fields::page(found, token, size)
        .map_err(|e| denied(400, "InvalidNextToken", &e.message))?;
    let next = next.map(|t| format!("<nextToken>{t}</nextToken>")).unwrap_or_default();
    Ok(format!("<reservationSet>{}</reservationSet>{next}", page.concat()))
}

fn filters(form: &Form) -> Result<Vec<(String, Vec<String>)>, ApiError> {
    let mut filters = Vec::new();
    for n in 1.. {
        let Some(name) = form.get(&format!("Filter.{n}.Name")) else { return Ok(filters) };
        let known = [
            "instance-id",
            "instance-state-name",
            "private-ip-address",
            "private-dns-name",
            "tag-key",
        ];
        if !known.contains(&name.as_str()) && !name.starts_with("tag:") {
            let message = format!("The filter '{name}' is invalid");
            return Err(denied(400, "InvalidParameterValue", &message));
        }
        let values = list(form, &format!("Filter.{n}.Value"));
        if values.is_empty() || values.len() > 200 {
            return Err(denied(400, "InvalidParameterValue", &format!("values of {name}")));
        }
        filters.push((name.clone(), values));
    }
    Ok(filters)
}

fn fit(instance: &Instance, name: &str, values: &[String]) -> bool {
    let any = |text: &str| values.iter().any(|v| like(v.as_bytes(), text.as_bytes()));
    match name {
        "instance-id" => any(&instance.id),
        "instance-state-name" => any(&instance.state),
        "private-ip-address" => any(&instance.ip),
        "private-dns-name" => any(&dns(instance)),
        "tag-key" => instance.tags.keys().any(|k| any(k)),
        tag => {
            let tag = tag.strip_prefix("tag:").unwrap_or(tag);
            instance.tags.get(tag).is_some_and(|v| any(v))
        }
    }
}

/// Whether text fits a pattern with `*` and `?`.
fn like(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            like(rest, text) || text.split_first().is_some_and(|(_, t)| like(pattern, t))
        }
        (Some((b'?', rest)), Some((_, t))) => like(rest, t),
        (Some((p, rest)), Some((c, t))) => p == c && like(rest, t),
        _ => false,
    }
}

fn dns(instance: &Instance) -> String {
    format!("ip-{}.ec2.internal", instance.ip.replace('.', "-"))
}

fn item(shared: &Shared, instance: &Instance) -> String {
    let code = match instance.state.as_str() {
        "pending" => 0,
        "running" => 16,
        "shutting-down" => 32,
        "terminated" => 48,
        "stopping" => 64,
        _ => 80,
    };
    let tag = |(k, v): (&String, &String)| {
        format!("<item><key>{}</key><value>{}</value></item>", escaped(k), escaped(v))
    };
    let tags: String = instance.tags.iter().map(tag).collect();
    format!(
        "<item><reservationId>r-{}</reservationId><ownerId>{}</ownerId><groupSet/><instancesSet>\
         <item><instanceId>{}</instanceId><imageId>ami-0123456789abcdef0</imageId><instanceState>\
         <code>{code}</code><name>{}</name></instanceState><privateDnsName>{}</privateDnsName>\
         <instanceType>t3.small</instanceType><placement><availabilityZone>{}a</availabilityZone>\
         </placement><privateIpAddress>{}</privateIpAddress><tagSet>{tags}</tagSet></item>\
         </instancesSet></item>",
        instance.id.trim_start_matches("i-"),
        shared.config.account,
        instance.id,
        escaped(&instance.state),
        dns(instance),
        shared.config.region,
        instance.ip,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_have_wildcards() {
        assert!(like(b"web-*", b"web-1") && like(b"*", b"") && like(b"w?b", b"web"));
        assert!(!like(b"web", b"web-1") && !like(b"w?b", b"wb"));
    }
}
