//! A light client of AWS: requests made by hand and signed by `aws-sigv4`, credentials and region from
//! `aws-config` as every AWS tool finds them, and the sessions that `bastionctl login` got. See
//! docs/adr/0010-bastionctl-has-a-light-aws-client.md. It knows protocols, not services: a tool says
//! which [`Query`] or [`Json`] service it talks to, and reads the answers.
//!
//! Invariant: every request is bounded in time and size, and credentials are in no message.

mod callers;
mod chain;
pub mod clock;
mod config;
pub mod dirs;
mod endpoint;
mod error;
mod http;
pub mod mfa;
mod sign;
mod sts;
pub mod terminal;
pub mod xml;

use std::sync::Arc;

use aws_config::SdkConfig;
use aws_credential_types::{Credentials, provider::ProvideCredentials as _};
use serde_json::Value;
use tokio::sync::Mutex;

pub use chain::chain;
pub use error::{CloudError, Kind};
pub use sts::Session;

/// Credentials this close to their end are asked for anew.
const REFRESH: std::time::Duration = std::time::Duration::from_secs(60);

/// One account in one region. Clones share connections and credentials.
#[derive(Clone)]
pub struct Cloud {
    inner: Arc<Inner>,
    region: Arc<str>,
}

struct Inner {
    http: reqwest::Client,
    config: SdkConfig,
    profile: Option<String>,
    endpoint: Option<String>,
    /// Those in use; the lock is held while they are asked for, so that they are asked for once.
    credentials: Mutex<Option<Credentials>>,
}

impl std::fmt::Debug for Cloud {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cloud").field("region", &self.region).finish_non_exhaustive()
    }
}

/// Which account, as far as somebody said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AwsSettings {
    /// The region.
    pub region: Option<String>,
    /// The profile of `~/.aws/config`.
    pub profile: Option<String>,
    /// Where every request goes instead of to AWS.
    pub endpoint: Option<String>,
}

/// A service with the Query protocol: a form is sent, XML comes back.
#[derive(Clone, Copy, Debug)]
pub struct Query {
    /// In its host name and in signatures.
    pub name: &'static str,
    /// Of its interface.
    pub version: &'static str,
}

/// A service with the JSON 1.1 protocol.
#[derive(Clone, Copy, Debug)]
pub struct Json {
    /// In its host name and in signatures.
    pub name: &'static str,
    /// What stands before the operation in `X-Amz-Target`.
    pub target: &'static str,
}

/// Whether an operation may be sent again when nobody knows whether it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Twice does what once does.
    Always,
    /// Twice would start two: only if it was surely not carried out.
    IfNotDone,
}

impl Cloud {
    /// Finds region and credentials the way every AWS tool does. Credentials are asked for when
    /// they are first needed. `tool` is what sends, in user agents and names of sessions.
    ///
    /// # Errors
    /// When no region is known or TLS cannot be set up.
    pub async fn open(tool: &str, settings: &AwsSettings) -> Result<Self, CloudError> {
        Self::build(tool, settings, true).await
    }

    /// The same, with the profile's own keys even if `login` got a session for it.
    ///
    /// # Errors
    /// As [`Cloud::open`].
    pub async fn open_without_login(
        tool: &str,
        settings: &AwsSettings,
    ) -> Result<Self, CloudError> {
        Self::build(tool, settings, false).await
    }

    async fn build(
        tool: &str,
        settings: &AwsSettings,
        with_login: bool,
    ) -> Result<Self, CloudError> {
        let http = http::client(tool)?;
        let env = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let profile = settings.profile.clone().or_else(|| env("AWS_PROFILE"));
        // Its state is large; every caller's would hold it.
        let config = Box::pin(config::load(tool, settings, profile.as_deref())).await;
        let region = config.region().map(|r| Arc::from(r.as_ref())).ok_or(CloudError::NoRegion)?;
        // Keys in the environment win over a session of `login`, unless a profile was asked for.
        let from_env = settings.profile.is_none() && env("AWS_ACCESS_KEY_ID").is_some();
        let wanted = with_login && !from_env;
        let kept = if wanted { mfa::kept(profile.as_deref(), clock::now()) } else { None };
        Ok(Self {
            inner: Arc::new(Inner {
                http,
                config,
                profile,
                endpoint: settings.endpoint.clone(),
                credentials: Mutex::new(kept),
            }),
            region,
        })
    }

    /// The same account in another region.
    #[must_use]
    pub fn in_region(&self, region: &str) -> Self {
        Self { inner: Arc::clone(&self.inner), region: region.into() }
    }

    /// The region.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Whether requests to this service go elsewhere than to AWS.
    #[must_use]
    pub fn is_elsewhere(&self, service: &str) -> bool {
        !endpoint::is_aws(&self.endpoint(service))
    }

    /// Whether requests to this service stay on this machine, as an emulator's do. A host elsewhere may
    /// be a way to AWS, whatever it is called.
    #[must_use]
    pub fn is_here(&self, service: &str) -> bool {
        endpoint::is_loopback(&self.endpoint(service))
    }

    /// The profile that was chosen, if any was.
    #[must_use]
    pub fn profile(&self) -> Option<&str> {
        self.inner.profile.as_deref()
    }

    /// Credentials that live for a while yet.
    ///
    /// # Errors
    /// When none are found.
    pub async fn credentials(&self) -> Result<Credentials, CloudError> {
        let mut kept = self.inner.credentials.lock().await;
        let soon = clock::now() + REFRESH;
        let good = |c: &Credentials| c.expiry().is_none_or(|end| end > soon);
        if let Some(credentials) = kept.as_ref().filter(|c| good(c)) {
            return Ok(credentials.clone());
        }
        let profile = || self.inner.profile.clone();
        let provider =
            self.inner.config.credentials_provider().ok_or_else(|| CloudError::Credentials {
                profile: profile(),
                passing: false,
                why: "no way to find any is configured".into(),
            })?;
        let fresh = provider
            .provide_credentials()
            .await
            .map_err(|e| error::of_credentials(profile(), &e))?;
        *kept = Some(fresh.clone());
        Ok(fresh)
    }

    /// One operation of a service with the JSON protocol.
    ///
    /// # Errors
    /// When it is not answered, or with an error.
    pub async fn json(
        &self,
        service: Json,
        operation: &'static str,
        body: &Value,
        repeat: Repeat,
    ) -> Result<Value, CloudError> {
        let request = http::Call::json(service, operation, body);
        let answer = self.send(&request, repeat).await?;
        serde_json::from_slice(&answer)
            .map_err(|e| CloudError::Answer { operation, why: e.to_string() })
    }

    /// One operation of a service with the Query protocol; the answer is XML.
    ///
    /// # Errors
    /// When it is not answered, or with an error.
    pub async fn query(
        &self,
        service: Query,
        operation: &'static str,
        parameters: &[(String, String)],
        repeat: Repeat,
    ) -> Result<String, CloudError> {
        let request = http::Call::query(service, operation, parameters);
        let answer = self.send(&request, repeat).await?;
        String::from_utf8(answer).map_err(|e| CloudError::Answer { operation, why: e.to_string() })
    }

    /// Headers that sign the opening of a data channel at this URL.
    ///
    /// # Errors
    /// When there are no credentials or they cannot sign.
    pub async fn sign_upgrade(&self, url: &str) -> Result<Vec<(String, String)>, CloudError> {
        let credentials = self.credentials().await?;
        sign::upgrade(url, &self.region, credentials, clock::now())
    }
}
