//! The origin's secret, from Parameter Store or from Secrets Manager.
//!
//! What it is worth asking for is asked first, without any value: the version of the parameter, or which
//! versions of the secret have which labels. Values are asked for only when that changed.
//!
//! Parameter Store: the newest version is current, the one before it previous. Secrets Manager:
//! `AWSCURRENT` is current and `AWSPENDING` pending, which has no value until the rotation makes one.

mod manager;
mod parameter;

use std::sync::Arc;

use palisade_agent::{
    clock::Timestamp,
    errors::Chain,
    origin::{Answer, Location, Offered, Secret, SecretSource, SourceError, Stage},
};
use tokio::sync::Mutex;

use self::manager::Manager;
use crate::{Clients, HostIdentity};

/// Reads the origin's secret in AWS. Clones share connections.
#[derive(Clone, Debug)]
pub struct OriginSecrets {
    region: Option<String>,
    host: HostIdentity,
    clients: Arc<Mutex<Option<Clients>>>,
    manager: Manager,
}

impl OriginSecrets {
    /// Finds region and credentials when it is first asked, and again until they are there.
    ///
    /// # Errors
    /// When no HTTP client can be built.
    pub fn new(region: Option<String>, host: HostIdentity) -> Result<Self, SourceError> {
        Ok(Self { region, host, clients: Arc::default(), manager: Manager::new()? })
    }

    /// With clients that somebody else made.
    ///
    /// # Errors
    /// When no HTTP client can be built.
    pub fn with(clients: Clients, host: HostIdentity) -> Result<Self, SourceError> {
        let made = Self::new(None, host)?;
        Ok(Self { clients: Arc::new(Mutex::new(Some(clients))), ..made })
    }

    async fn clients(&self) -> Result<Clients, SourceError> {
        let mut known = self.clients.lock().await;
        if let Some(clients) = known.as_ref() {
            return Ok(clients.clone());
        }
        // Its state is large; every caller's would hold it.
        let loaded = Box::pin(Clients::load(self.region.clone(), &self.host)).await;
        let clients = loaded.map_err(|e| SourceError {
            what: Chain(&e).to_string(),
            hint: Some(e.hint().to_owned()),
            source: None,
        })?;
        *known = Some(clients.clone());
        Ok(clients)
    }
}

impl SecretSource for OriginSecrets {
    async fn read(&self, from: &Location, tag: Option<&str>) -> Result<Answer, SourceError> {
        let clients = self.clients().await?;
        match from {
            Location::SsmParameter(name) => parameter::read(&clients, name, tag).await,
            Location::SecretsManager(id) => self.manager.read(&clients, id, tag).await,
            Location::File(path) => Err(failed(format!("{} is no place in AWS", path.display()))),
        }
    }
}

fn failed(what: impl Into<String>) -> SourceError {
    SourceError { what: what.into(), hint: None, source: None }
}

/// What was read so far.
#[derive(Debug, Default)]
struct Found {
    offered: Vec<Offered>,
    refused: Vec<String>,
}

impl Found {
    /// Takes a value, if it is a secret. What is of no use and was in use before is no matter.
    fn take(&mut self, value: &str, stage: Stage, version: &str, created: Option<Timestamp>) {
        match Secret::parse(value) {
            Ok(secret) => {
                let version = version.to_owned();
                self.offered.push(Offered { secret, stage, version, created });
            }
            Err(_) if stage == Stage::Previous => {}
            Err(e) => self.refused.push(format!("version {version} {e}")),
        }
    }

    fn answer(self, tag: Option<String>) -> Answer {
        Answer::Offer { offered: self.offered, refused: self.refused, tag }
    }
}

/// What to do about an error of either service.
fn hint(code: &str, action: &str, what: &str) -> Option<String> {
    Some(match code {
        "AccessDeniedException" | "AccessDenied" => {
            format!("allow {action} and kms:Decrypt for {what} to the instance's role")
        }
        "ParameterNotFound" | "ResourceNotFoundException" => {
            format!("{what} is not there in this region: check origin_guard.secret and aws.region")
        }
        "ExpiredTokenException" | "InvalidSignatureException" | "UnrecognizedClientException" => {
            "check the host's clock and that its role's credentials are valid".to_owned()
        }
        _ => return None,
    })
}
