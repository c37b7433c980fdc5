//! One SDK configuration and one HTTP client for all services.

use std::time::Duration;

use aws_config::{
    BehaviorVersion, Region, SdkConfig, retry::RetryConfig,
    stalled_stream_protection::StalledStreamProtectionConfig, timeout::TimeoutConfig,
};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::http::SharedHttpClient;

use crate::HostIdentity;

/// Longest time for one request, from sending to the last byte of the answer. Without it, an
/// endpoint that takes a connection and never answers would hold a stream for ever.
const ATTEMPT: Duration = Duration::from_secs(30);
/// Longest time for a connection.
const CONNECT: Duration = Duration::from_secs(3);

/// What every AWS client is made of.
#[derive(Clone, Debug)]
pub struct Clients {
    config: SdkConfig,
}

/// Why AWS cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Nobody says which region.
    #[error("no AWS region is known")]
    Region,
}

impl LoadError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Region => {
                "set aws.region in palisade.yaml or AWS_REGION, or let the instance metadata answer \
                 (IMDSv2 with a hop limit that reaches the agent)"
            }
        }
    }
}

impl Clients {
    /// Reads environment, profile and instance metadata, as any AWS tool does. `region` is that of
    /// the settings; none means `auto`, which is the last one of this host while nobody says any.
    /// Credentials are looked for when first needed.
    ///
    /// # Errors
    /// When no region is known.
    pub async fn load(region: Option<String>, host: &HostIdentity) -> Result<Self, LoadError> {
        let timeouts =
            TimeoutConfig::builder().connect_timeout(CONNECT).operation_attempt_timeout(ATTEMPT);
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(https_client())
            // Whoever sends decides about trying again: it sees throttling and keeps the data.
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts.build())
            // Bodies are in memory; there is no stream to stall.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        let auto = region.is_none();
        if let Some(region) = region {
            loader = loader.region(Region::new(region));
        }
        let config = loader.load().await;
        if !auto {
            return Ok(Self { config });
        }
        let region = host.region(config.region().map(Region::as_ref)).ok_or(LoadError::Region)?;
        Ok(Self { config: config.into_builder().region(Region::new(region)).build() })
    }

    /// Clients of a configuration that somebody else made, for example for another account.
    #[must_use]
    pub fn with(config: SdkConfig) -> Self {
        Self { config }
    }

    /// The configuration, for one more service's client.
    #[must_use]
    pub fn config(&self) -> &SdkConfig {
        &self.config
    }
}

/// An HTTP client with rustls and ring. Clones share connections.
#[must_use]
pub fn https_client() -> SharedHttpClient {
    Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}
