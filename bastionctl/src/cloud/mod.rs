//! A light client of the few AWS operations that this tool needs. Requests are made by hand and
//! signed by `aws-sigv4`; credentials and region come from `aws-config`, as every AWS tool finds
//! them. See docs/adr/0010-bastionctl-has-a-light-aws-client.md.
//!
//! Invariant: every request is bounded in time and size, and credentials are in no message.

mod callers;
mod config;
mod ec2;
mod endpoint;
mod error;
mod http;
pub(crate) mod mfa;
mod sign;
pub(crate) mod ssm;
mod sts;
mod xml;

use std::sync::Arc;

use aws_config::SdkConfig;
use aws_credential_types::{Credentials, provider::ProvideCredentials as _};
use serde_json::Value;
use tokio::sync::Mutex;

pub(crate) use ec2::Instance;
pub(crate) use error::CloudError;
pub(crate) use sts::Session;

use crate::{clock, settings::AwsSettings};

/// Credentials this close to their end are asked for anew.
const REFRESH: std::time::Duration = std::time::Duration::from_secs(60);

/// One account in one region. Clones share connections and credentials.
#[derive(Clone)]
pub(crate) struct Cloud {
    inner: Arc<Inner>,
}

struct Inner {
    http: reqwest::Client,
    config: SdkConfig,
    region: String,
    profile: Option<String>,
    endpoint: Option<String>,
    /// Those in use; the lock is held while they are asked for, so that they are asked for once.
    credentials: Mutex<Option<Credentials>>,
}

impl std::fmt::Debug for Cloud {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cloud").field("region", &self.inner.region).finish_non_exhaustive()
    }
}

/// Whether an operation may be sent again when nobody knows whether it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Twice does what once does.
    Always,
    /// Twice would start two: only if it was surely not carried out.
    IfNotDone,
}

impl Cloud {
    /// Finds region and credentials the way every AWS tool does. Credentials are asked for when
    /// they are first needed.
    ///
    /// # Errors
    /// When no region is known or TLS cannot be set up.
    pub(crate) async fn open(settings: &AwsSettings) -> Result<Self, CloudError> {
        Self::build(settings, true).await
    }

    /// The same, with the profile's own keys even if `login` got a session for it.
    ///
    /// # Errors
    /// As [`Cloud::open`].
    pub(crate) async fn open_without_login(settings: &AwsSettings) -> Result<Self, CloudError> {
        Self::build(settings, false).await
    }

    async fn build(settings: &AwsSettings, with_login: bool) -> Result<Self, CloudError> {
        let http = http::client()?;
        let env = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let profile = settings.profile.clone().or_else(|| env("AWS_PROFILE"));
        // Its state is large; every caller's would hold it.
        let config = Box::pin(config::load(settings, profile.as_deref())).await;
        let region = config.region().map(|r| r.as_ref().to_owned()).ok_or(CloudError::NoRegion)?;
        // Keys in the environment win over a session of `login`, unless a profile was asked for.
        let from_env = settings.profile.is_none() && env("AWS_ACCESS_KEY_ID").is_some();
        let wanted = with_login && !from_env;
        let kept = if wanted { mfa::kept(profile.as_deref(), clock::now()) } else { None };
        Ok(Self {
            inner: Arc::new(Inner {
                http,
                config,
                region,
                profile,
                endpoint: settings.endpoint.clone(),
                credentials: Mutex::new(kept),
            }),
        })
    }

    /// The region.
    pub(crate) fn region(&self) -> &str {
        &self.inner.region
    }

    /// The profile that was chosen, if any was.
    pub(crate) fn profile(&self) -> Option<&str> {
        self.inner.profile.as_deref()
    }

    /// Credentials that live for a while yet.
    pub(crate) async fn credentials(&self) -> Result<Credentials, CloudError> {
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

    /// One operation of Systems Manager.
    pub(crate) async fn ssm(
        &self,
        operation: &'static str,
        body: &Value,
        repeat: Repeat,
    ) -> Result<Value, CloudError> {
        let request = http::Call::json("ssm", operation, body);
        let answer = self.send(&request, repeat).await?;
        serde_json::from_slice(&answer)
            .map_err(|e| CloudError::Answer { operation, why: e.to_string() })
    }

    /// One operation of a service with the Query protocol; the answer is XML.
    pub(crate) async fn query(
        &self,
        service: &'static str,
        operation: &'static str,
        parameters: &[(String, String)],
    ) -> Result<String, CloudError> {
        let request = http::Call::query(service, operation, parameters);
        let answer = self.send(&request, Repeat::Always).await?;
        String::from_utf8(answer).map_err(|e| CloudError::Answer { operation, why: e.to_string() })
    }

    /// Headers that sign the opening of a data channel at this URL.
    pub(crate) async fn sign_upgrade(
        &self,
        url: &str,
    ) -> Result<Vec<(String, String)>, CloudError> {
        let credentials = self.credentials().await?;
        sign::upgrade(url, &self.inner.region, credentials, clock::now())
    }
}
