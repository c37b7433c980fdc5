//! GetParameter, GetParameters and PutParameter.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{rules::parameter_name_is_good, state::State};
use crate::aws::http::ApiError;

/// Most bytes of a standard parameter.
const MAX_VALUE: usize = 4096;
/// Most versions that are kept.
const MAX_VERSIONS: usize = 100;

/// One version of a parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Parameter {
    pub(super) kind: String,
    pub(super) value: String,
    pub(super) version: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Put {
    name: String,
    value: String,
    r#type: Option<String>,
    #[serde(default)]
    overwrite: bool,
    data_type: Option<String>,
    #[serde(rename = "Description")]
    _description: Option<String>,
    #[serde(rename = "KeyId")]
    _key_id: Option<String>,
    #[serde(default, rename = "Tags")]
    tags: Vec<Value>,
    #[serde(rename = "Tier")]
    _tier: Option<String>,
}

/// Makes a parameter, or a new version of it.
pub(super) fn put(state: &mut State, body: &[u8]) -> Result<Value, ApiError> {
    const INVALID: &str = "ValidationException";
    let put: Put = serde_json::from_slice(body)
        .map_err(|e| state.broken("SerializationException", &e.to_string()))?;
    if !parameter_name_is_good(&put.name) {
        return Err(state.broken(INVALID, "name of a parameter"));
    }
    if put.value.is_empty() || put.value.len() > MAX_VALUE {
        return Err(state.broken(INVALID, "length of a parameter's value"));
    }
    if put.data_type.as_deref() == Some("aws:ec2:image") && !put.value.starts_with("ami-") {
        return Err(state.broken(INVALID, "a value that is no AMI"));
    }
    let versions = state.parameters.get(&put.name);
    let last = versions.and_then(|v| v.last()).cloned();
    if last.is_some() && !put.overwrite {
        return Err((400, "ParameterAlreadyExists", "The parameter already exists.".to_owned()));
    }
    // Tags come with a parameter that is made, and not with a version.
    if put.overwrite && !put.tags.is_empty() {
        return Err(state.broken(INVALID, "tags and overwrite together"));
    }
    let Some(kind) = put.r#type.or_else(|| last.as_ref().map(|l| l.kind.clone())) else {
        return Err(state.broken(INVALID, "a new parameter without a type"));
    };
    if !["String", "StringList", "SecureString"].contains(&kind.as_str()) {
        return Err(state.broken(INVALID, "type of a parameter"));
    }
    let version = last.map_or(1, |l| l.version + 1);
    let versions = state.parameters.entry(put.name).or_default();
    versions.push(Parameter { kind, value: put.value, version });
    if versions.len() > MAX_VERSIONS {
        versions.remove(0);
    }
    Ok(json!({ "Version": version, "Tier": "Standard" }))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Get {
    name: Option<String>,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    with_decryption: bool,
}

/// One parameter; `NAME:3` is its third version.
pub(super) fn get(state: &mut State, body: &[u8]) -> Result<Value, ApiError> {
    let get: Get = serde_json::from_slice(body)
        .map_err(|e| state.broken("SerializationException", &e.to_string()))?;
    let name = get.name.unwrap_or_default();
    let found = find(state, &name, get.with_decryption)?;
    Ok(json!({ "Parameter": found }))
}

/// Several, at most ten; those that do not exist are named.
pub(super) fn get_many(state: &mut State, body: &[u8]) -> Result<Value, ApiError> {
    let get: Get = serde_json::from_slice(body)
        .map_err(|e| state.broken("SerializationException", &e.to_string()))?;
    if !(1..=10).contains(&get.names.len()) {
        return Err(state.broken("ValidationException", "not 1 to 10 names"));
    }
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for name in get.names {
        match find(state, &name, get.with_decryption) {
            Ok(p) => found.push(p),
            Err(_) => missing.push(name),
        }
    }
    Ok(json!({ "Parameters": found, "InvalidParameters": missing }))
}

fn find(state: &State, name: &str, decrypt: bool) -> Result<Value, ApiError> {
    let (name, version) = match name.split_once(':') {
        Some((name, version)) => (name, Some(version)),
        None => (name, None),
    };
    let versions = state.parameters.get(name);
    let versions = versions.ok_or((400, "ParameterNotFound", format!("{name} is not there")))?;
    let found = match version {
        None => versions.last(),
        Some(v) => versions.iter().find(|p| p.version.to_string() == v),
    };
    let p =
        found.ok_or((400, "ParameterVersionNotFound", format!("{name} has no such version")))?;
    let secret = p.kind == "SecureString" && !decrypt;
    let value = if secret { "AQICAHh-not-decrypted" } else { p.value.as_str() };
    Ok(json!({
        "Name": name, "Type": p.kind, "Value": value, "Version": p.version,
        "ARN": format!("arn:aws:ssm:eu-central-1:123456789012:parameter/{}", name.trim_start_matches('/')),
        "DataType": "text",
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(v: &Value) -> Vec<u8> {
        v.to_string().into_bytes()
    }

    #[test]
    fn a_parameter_is_overwritten_only_when_told_to_and_versions_stay() {
        let mut s = State::default();
        let new =
            json!({ "Name": "/palisade/prod/ami/origin", "Value": "ami-1", "Type": "String" });
        assert_eq!(put(&mut s, &bytes(&new)).unwrap()["Version"], 1);
        assert_eq!(put(&mut s, &bytes(&new)).unwrap_err().1, "ParameterAlreadyExists");
        let next =
            json!({ "Name": "/palisade/prod/ami/origin", "Value": "ami-2", "Overwrite": true });
        assert_eq!(put(&mut s, &bytes(&next)).unwrap()["Version"], 2);
        for (name, value) in [("", "ami-2"), (":1", "ami-1"), (":2", "ami-2")] {
            let get_it = json!({ "Name": format!("/palisade/prod/ami/origin{name}") });
            assert_eq!(get(&mut s, &bytes(&get_it)).unwrap()["Parameter"]["Value"], value);
        }
        let gone = json!({ "Name": "/palisade/prod/ami/origin:3" });
        assert_eq!(get(&mut s, &bytes(&gone)).unwrap_err().1, "ParameterVersionNotFound");
    }

    #[test]
    fn a_secure_string_is_shown_only_decrypted() {
        let mut s = State::default();
        let new = json!({ "Name": "/s", "Value": "hush", "Type": "SecureString" });
        put(&mut s, &bytes(&new)).unwrap();
        let shown = |s: &mut State, decrypt: bool| {
            let body = json!({ "Names": ["/s", "/t"], "WithDecryption": decrypt });
            get_many(s, &bytes(&body)).unwrap()
        };
        assert_ne!(shown(&mut s, false)["Parameters"][0]["Value"], "hush");
        let all = shown(&mut s, true);
        assert_eq!(
            (&all["Parameters"][0]["Value"], &all["InvalidParameters"]),
            (&json!("hush"), &json!(["/t"]))
        );
    }
}
