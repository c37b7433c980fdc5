//! A SecureString of Parameter Store.

use aws_sdk_ssm::{
    Client,
    error::ProvideErrorMetadata as _,
    types::{Parameter, ParameterType},
};
use palisade_agent::{
    clock::Timestamp,
    errors::Chain,
    origin::{Answer, SourceError, Stage},
};

use super::{Found, failed, hint};
use crate::Clients;

const ACTION: &str = "ssm:GetParameter";

/// The newest version and the one before it, unless the newest is the one called `tag`.
pub(super) async fn read(
    clients: &Clients,
    name: &str,
    tag: Option<&str>,
) -> Result<Answer, SourceError> {
    let client = Client::new(clients.config());
    let newest = get(&client, name, None, false).await?;
    let newest =
        newest.ok_or_else(|| failed(format!("parameter {name} is there without a version")))?;
    if newest.r#type() != Some(&ParameterType::SecureString) {
        return Err(SourceError {
            what: format!("parameter {name} is no SecureString"),
            hint: Some(
                "make it one, with another value: whoever may list parameters has read this"
                    .to_owned(),
            ),
            source: None,
        });
    }
    let version = newest.version();
    let now = version.to_string();
    if tag == Some(now.as_str()) {
        return Ok(Answer::Unchanged);
    }
    let mut found = Found::default();
    for (version, stage) in [(version, Stage::Current), (version - 1, Stage::Previous)] {
        if version < 1 {
            continue;
        }
        // The version before may be gone: SSM keeps a hundred.
        if let Some(p) = get(&client, name, Some(version), true).await? {
            let created = p.last_modified_date().map(|d| Timestamp::from_secs(d.secs()));
            found.take(p.value().unwrap_or_default(), stage, &version.to_string(), created);
        }
    }
    Ok(found.answer(Some(now)))
}

/// One version; none if there is none of that number.
async fn get(
    client: &Client,
    name: &str,
    version: Option<i64>,
    decrypted: bool,
) -> Result<Option<Parameter>, SourceError> {
    let selector = version.map_or_else(|| name.to_owned(), |v| format!("{name}:{v}"));
    let asked = client.get_parameter().name(selector).with_decryption(decrypted).send().await;
    match asked {
        Ok(answer) => Ok(answer.parameter),
        Err(e) => {
            let code = e.as_service_error().and_then(|s| s.code()).unwrap_or_default().to_owned();
            if code == "ParameterVersionNotFound" {
                return Ok(None);
            }
            let said = e.as_service_error().and_then(|s| s.message()).map(str::to_owned);
            let why = said.map_or_else(|| Chain(&e).to_string(), |m| format!("{code}: {m}"));
            Err(SourceError {
                what: format!("read parameter {name}: {why}"),
                hint: hint(&code, ACTION, &format!("parameter {name}")),
                source: None,
            })
        }
    }
}
