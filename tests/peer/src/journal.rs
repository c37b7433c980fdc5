//! Every call, in the shape of a CloudTrail record, without secrets.

use std::{collections::VecDeque, sync::Mutex};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::{ApiError, clock, config::Config, keys::Signer, lock};

/// Most records; the oldest go then.
const MOST: usize = 100_000;
const HIDDEN: &str = "HIDDEN_DUE_TO_SECURITY_REASONS";

/// The records.
#[derive(Debug, Default)]
pub(crate) struct Journal(Mutex<VecDeque<Value>>);

impl Journal {
    /// Adds a call.
    pub(crate) fn add(
        &self,
        config: &Config,
        source: &str,
        name: &str,
        signer: &Signer,
        request: &Value,
        outcome: &Result<Value, ApiError>,
    ) {
        let kind = if signer.arn.contains(":assumed-role/") { "AssumedRole" } else { "IAMUser" };
        let mut record = json!({
            "eventVersion": "1.11",
            "eventID": Uuid::new_v4().to_string(),
            "eventTime": clock::iso(clock::now_ms()),
            "eventSource": format!("{source}.amazonaws.com"),
            "eventName": name,
            "awsRegion": config.region,
            "sourceIPAddress": "127.0.0.1",
            "userIdentity": {
                "type": kind,
                "arn": signer.arn,
                "accountId": config.account,
                "accessKeyId": signer.access_key,
            },
            "requestParameters": hidden(camel(request)),
        });
        match outcome {
            Ok(answer) => record["responseElements"] = hidden(camel(answer)),
            Err(e) => {
                record["errorCode"] = json!(e.kind);
                record["errorMessage"] = json!(e.message);
            }
        }
        let mut list = lock(&self.0);
        if list.len() == MOST {
            list.pop_front();
        }
        list.push_back(record);
    }

    pub(crate) fn all(&self) -> Vec<Value> {
        lock(&self.0).iter().cloned().collect()
    }
}

/// CloudTrail begins names with a small letter; keys of maps of the caller are left as they are.
fn camel(value: &Value) -> Value {
    let Value::Object(fields) = value else { return value.clone() };
    let small = |name: &String| {
        let mut chars = name.chars();
        chars.next().map(|c| c.to_ascii_lowercase()).into_iter().chain(chars).collect::<String>()
    };
    Value::Object(fields.iter().map(|(n, v)| (small(n), v.clone())).collect())
}

fn hidden(mut value: Value) -> Value {
    for name in ["tokenValue", "tokenCode", "credentials"] {
        if let Some(v) = value.get_mut(name).filter(|v| !v.is_null()) {
            *v = json!(HIDDEN);
        }
    }
    value
}
