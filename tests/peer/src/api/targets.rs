//! Which instances a command is for.

use serde::Deserialize;

use super::ApiError;
use crate::config::{Instance, Ping};

/// `tag:Name` and the like.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct Target {
    pub(super) key: String,
    #[serde(default)]
    pub(super) values: Vec<String>,
}

/// The instances in the order of `all` that fit every target.
pub(super) fn select(all: &[Instance], targets: &[Target]) -> Result<Vec<String>, ApiError> {
    for target in targets {
        let tag = target.key.strip_prefix("tag:").is_some_and(|t| !t.is_empty());
        if !tag && !matches!(target.key.as_str(), "InstanceIds" | "tag-key") {
            let message = format!("target key {} is not known", target.key);
            return Err(ApiError::new("InvalidTarget", message));
        }
        if target.values.is_empty() || target.values.len() > 50 {
            return Err(ApiError::invalid(format!("{} values of a target", target.values.len())));
        }
    }
    let managed = all.iter().filter(|i| matches!(i.ping, Ping::Online | Ping::ConnectionLost));
    let fits = |i: &&Instance| targets.iter().all(|t| matches(i, t));
    Ok(managed.filter(fits).map(|i| i.id.clone()).collect())
}

pub(super) fn matches(instance: &Instance, target: &Target) -> bool {
    let any = |value: &String| target.values.contains(value);
    match target.key.strip_prefix("tag:") {
        Some(tag) => instance.tags.get(tag).is_some_and(any),
        None if target.key == "tag-key" => instance.tags.keys().any(any),
        None => any(&instance.id),
    }
}

/// `"10"` or `"25%"` of `of`; a part of something is at least `least`.
pub(super) fn share(text: &str, of: usize, least: usize) -> usize {
    match text.strip_suffix('%') {
        Some(percent) => (percent.parse().unwrap_or(100) * of / 100).max(least),
        None => text.parse().unwrap_or(of),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_numbers_or_percents() {
        assert_eq!((share("10", 200, 1), share("25%", 200, 1), share("1%", 10, 1)), (10, 50, 1));
        assert_eq!((share("0", 10, 0), share("5%", 10, 0)), (0, 0));
    }
}
