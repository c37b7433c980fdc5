//! One SDK configuration and one HTTP client for all services.

use std::time::Duration;

use aws_config::{
    BehaviorVersion, Region, SdkConfig, retry::RetryConfig,
    stalled_stream_protection::StalledStreamProtectionConfig, timeout::TimeoutConfig,
};
use aws_smithy_http_client::{
    Builder, Connector,
    proxy::ProxyConfig,
    tls::{Provider, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::http::SharedHttpClient;

use crate::{
    HostIdentity,
    proxy::{self, ProxyError},
};

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
    /// The environment names a proxy that is none.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
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
            Self::Proxy(_) => {
                "make it http://HOST:PORT or https://HOST:PORT, with USER:PASSWORD@ if the proxy asks \
                 for them, in the agent's unit (`systemctl edit palisade`)"
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
    /// When no region is known, or the environment's proxy is none.
    pub async fn load(region: Option<String>, host: &HostIdentity) -> Result<Self, LoadError> {
        let timeouts =
            TimeoutConfig::builder().connect_timeout(CONNECT).operation_attempt_timeout(ATTEMPT);
        let proxy = proxy::from_env(|name| std::env::var(name).ok())?;
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(client_by(proxy))
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

/// An HTTP client with rustls and ring, and no proxy. Clones share connections.
#[must_use]
pub fn https_client() -> SharedHttpClient {
    client_by(ProxyConfig::disabled())
}

/// As [`https_client`], whose encrypted requests go through `proxy`.
fn client_by(proxy: ProxyConfig) -> SharedHttpClient {
    // The client keeps a connector, thus its connections, for each pair of time limits. Its other
    // builders know no proxy.
    Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = Connector::builder().proxy_config(proxy.clone());
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(|c| c.sleep_impl()));
        connector.tls_provider(Provider::Rustls(CryptoMode::Ring)).build()
    })
}
