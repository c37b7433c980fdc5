//! Policies of IAM, keys, buckets, topics: statements in one shape, however they are written.

use crate::value::{At, Entry, Kind, Value};

/// One statement.
#[derive(Clone, Debug)]
pub struct Statement<'a> {
    /// Where it is.
    pub at: &'a At,
    /// Whether it allows; else it denies.
    pub allows: bool,
    /// Whom: `("AWS", "arn:...")`, `("Service", "...")`, `("*", "*")`. Empty in a policy of an identity.
    pub principals: Vec<(&'a str, &'a str)>,
    /// Whether `NotPrincipal` is used.
    pub not_principal: bool,
    /// Actions, as written.
    pub actions: Vec<&'a str>,
    /// Whether `NotAction` is used.
    pub not_action: bool,
    /// Resources, as rendered.
    pub resources: Vec<&'a str>,
    /// Whether `NotResource` is used.
    pub not_resource: bool,
    /// Operator, key and values: `("StringEquals", "aws:SourceAccount", [..])`.
    pub conditions: Vec<(&'a str, &'a str, Vec<String>)>,
}

/// Properties that hold a policy, of whatever type.
const PROPERTIES: &[&str] = &[
    "AccessPolicy",
    "AssumeRolePolicyDocument",
    "KeyPolicy",
    "Policy",
    "PolicyDocument",
    "RepositoryPolicyText",
    "ResourcePolicy",
];

/// Reads the policies among a resource's properties that are given as text, which AWS takes too; all that
/// is read out of a text is at the text's line.
pub(crate) fn read_texts(properties: &mut Value) {
    let Kind::Map(entries) = &mut properties.kind else { return };
    for entry in entries {
        if PROPERTIES.contains(&entry.key.as_str()) {
            read_text(&mut entry.value);
        } else if let ("Policies", Kind::List(inline)) = (entry.key.as_str(), &mut entry.value.kind)
        {
            inline.iter_mut().for_each(read_texts);
        }
    }
}

fn read_text(value: &mut Value) {
    let json = value.as_str().and_then(|text| serde_json::from_str(text).ok());
    // What is no document stays a text, and `statements` takes it for the worst.
    if let Some(json @ serde_json::Value::Object(_)) = json {
        *value = from_json(&value.at, json);
    }
}

/// The depth is bounded by the reader of JSON.
fn from_json(at: &At, json: serde_json::Value) -> Value {
    use serde_json::Value as Json;
    let kind = match json {
        Json::Null => Kind::Null,
        Json::Bool(b) => Kind::Bool(b),
        Json::Number(n) => n.as_i64().map_or_else(|| Kind::Text(n.to_string()), Kind::Int),
        Json::String(text) => Kind::Text(text),
        Json::Array(items) => Kind::List(items.into_iter().map(|v| from_json(at, v)).collect()),
        Json::Object(map) => Kind::Map(
            map.into_iter()
                .map(|(key, v)| Entry { key, at: at.clone(), value: from_json(at, v) })
                .collect(),
        ),
    };
    Value::new(at, kind)
}

/// The statements of a policy document. One that cannot be read counts as letting everybody do everything.
#[must_use]
pub fn statements(document: &Value) -> Vec<Statement<'_>> {
    if document.as_str().is_some() {
        return vec![Statement {
            at: &document.at,
            allows: true,
            principals: vec![("*", "*")],
            not_principal: false,
            actions: vec!["*"],
            not_action: false,
            resources: vec!["*"],
            not_resource: false,
            conditions: Vec::new(),
        }];
    }
    let list = document.get("Statement").map(Value::one_or_more).unwrap_or_default();
    list.iter().map(statement).collect()
}

fn statement(value: &Value) -> Statement<'_> {
    let texts = |key: &str| -> Vec<&str> {
        value
            .get(key)
            .map(Value::one_or_more)
            .unwrap_or_default()
            .iter()
            .filter_map(Value::as_str)
            .collect()
    };
    let both = |key: &str, not: &str| [texts(key), texts(not)].concat();
    let principal = value.get("Principal").or_else(|| value.get("NotPrincipal"));
    Statement {
        at: &value.at,
        allows: value.get("Effect").is_some_and(|e| e.is("Allow")),
        principals: principal.map(principals).unwrap_or_default(),
        not_principal: value.get("NotPrincipal").is_some(),
        actions: both("Action", "NotAction"),
        not_action: value.get("NotAction").is_some(),
        resources: both("Resource", "NotResource"),
        not_resource: value.get("NotResource").is_some(),
        conditions: value
            .get("Condition")
            .map(Value::entries)
            .unwrap_or_default()
            .iter()
            .flat_map(conditions)
            .collect(),
    }
}

fn principals(value: &Value) -> Vec<(&str, &str)> {
    if let Some(all) = value.as_str() {
        return vec![("*", all)];
    }
    value
        .entries()
        .iter()
        .flat_map(|e| {
            e.value.one_or_more().iter().filter_map(|v| Some((e.key.as_str(), v.as_str()?)))
        })
        .collect()
}

fn conditions(operator: &Entry) -> impl Iterator<Item = (&str, &str, Vec<String>)> {
    operator.value.entries().iter().map(|key| {
        let values = key.value.one_or_more().iter().filter_map(Value::scalar).collect();
        (operator.key.as_str(), key.key.as_str(), values)
    })
}

impl Statement<'_> {
    /// Whether a pattern of its actions covers this one: `s3:Get*` covers `s3:GetObject`.
    #[must_use]
    pub fn covers_action(&self, action: &str) -> bool {
        self.actions.iter().any(|pattern| matches(pattern, action)) != self.not_action
    }

    /// Whether a pattern of its resources covers this one.
    #[must_use]
    pub fn covers_resource(&self, resource: &str) -> bool {
        self.resources.iter().any(|pattern| matches(pattern, resource)) != self.not_resource
    }

    /// The values of a condition, whatever its operator.
    #[must_use]
    pub fn condition(&self, key: &str) -> Option<&[String]> {
        let found = self.conditions.iter().find(|(_, k, _)| k.eq_ignore_ascii_case(key));
        found.map(|(_, _, values)| values.as_slice())
    }
}

/// Whether a text fits a pattern of `*` and `?`, without regard to case, as IAM compares actions.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    let (p, t) = (pattern.as_bytes(), text.as_bytes());
    let (mut i, mut j) = (0, 0);
    // Where the last star was, and how much of the text it has taken.
    let mut star: Option<(usize, usize)> = None;
    while j < t.len() {
        match p.get(i) {
            Some(b'*') => {
                star = Some((i, j));
                i += 1;
            }
            Some(c) if *c == b'?' || t.get(j).is_some_and(|t| t.eq_ignore_ascii_case(c)) => {
                i += 1;
                j += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    i = at + 1;
                    j = taken + 1;
                }
                None => return false,
            },
        }
    }
    p.get(i..).unwrap_or_default().iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_iam() {
        for (pattern, text, fits) in [
            ("*", "s3:GetObject", true),
            ("s3:Get*", "S3:getobject", true),
            ("s3:Get*", "s3:PutObject", false),
            ("arn:aws:s3:::a*/x?", "arn:aws:s3:::abc/xy", true),
            ("arn:aws:s3:::a*/x?", "arn:aws:s3:::abc/x", false),
            ("a*b*c", "axxbyybzzc", true),
            ("", "", true),
            ("a", "", false),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn a_policy_given_as_text_is_read_and_one_that_cannot_be_is_taken_for_the_worst() {
        let text = r#"
PolicyDocument: '{"Statement": {"Effect": "Deny", "Principal": "*", "Action": ["s3:GetObject"]}}'
Policies: [{ PolicyDocument: '{"Statement": []}' }]
KeyPolicy: '{{resolve:ssm:/policy}}'
Description: '{"Statement": []}'
"#;
        let mut value = crate::yaml::read(&"p.yaml".into(), text).unwrap();
        read_texts(&mut value);
        let of = |path: &str| statements(value.path(path).unwrap());
        let read = of("PolicyDocument");
        assert_eq!((read.len(), read[0].at.line, read[0].allows), (1, 2, false));
        assert!(
            read[0].covers_action("s3:GetObject") && of("Policies.0.PolicyDocument").is_empty()
        );
        let worst = of("KeyPolicy");
        assert_eq!(worst[0].principals, [("*", "*")]);
        assert!(worst[0].allows && worst[0].covers_action("kms:Decrypt"));
        assert!(value.get("Description").unwrap().as_str().is_some());
    }

    #[test]
    fn one_shape_for_all_ways_of_writing() {
        let text = "
Statement:
  Effect: Allow
  Principal: { AWS: [a, b], Service: s }
  Action: s3:Get*
  Resource: '*'
  Condition: { StringEquals: { aws:SourceAccount: '1' }, Bool: { aws:SecureTransport: false } }
";
        let value = crate::yaml::read(&"p.yaml".into(), text).unwrap();
        let all = statements(&value);
        let [one] = all.as_slice() else { unreachable!("one statement") };
        assert_eq!(one.principals, [("AWS", "a"), ("AWS", "b"), ("Service", "s")]);
        assert!(
            one.allows && one.covers_action("s3:GetObject") && !one.covers_action("s3:PutObject")
        );
        assert_eq!(one.condition("aws:securetransport").unwrap(), ["false"]);
    }
}
