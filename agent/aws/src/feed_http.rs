//! Reads address lists over HTTP and HTTPS.
//!
//! What a hostile or broken server can cost is bounded: connecting, the whole answer, its bytes on
//! the wire, its bytes unpacked, and where it may send us: other paths of the same host, and never
//! from HTTPS to HTTP.

use std::{io::Read as _, sync::Arc, time::Duration};

use flate2::read::GzDecoder;
use palisade_agent::firewall::{Feed, FeedLocation, FetchError, Fetched, MAX_FEED_BYTES};
use reqwest::{
    Client, Response, StatusCode,
    header::{ACCEPT_ENCODING, CONTENT_ENCODING, ETAG, HeaderValue, IF_NONE_MATCH},
    redirect::{Attempt, Policy},
};
use rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::CertificateDer};
use tokio::time;

/// Redirects followed for one read.
const MAX_REDIRECTS: usize = 3;

/// What one read may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Time to connect, TLS included.
    pub connect: Duration,
    /// Time for everything.
    pub total: Duration,
    /// Bytes of the answer, on the wire and unpacked each.
    pub max_bytes: usize,
}

impl Default for Limits {
    /// 10 s to connect, 60 s in all, 8 MiB.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            total: Duration::from_secs(60),
            max_bytes: MAX_FEED_BYTES,
        }
    }
}

/// Why there is no HTTP client.
#[derive(Debug, thiserror::Error)]
pub enum HttpFeedError {
    /// A root certificate is not one.
    #[error("use a root certificate")]
    Root(#[source] rustls::Error),
    /// TLS cannot be set up.
    #[error("set up TLS")]
    Tls(#[source] rustls::Error),
    /// The client cannot be built.
    #[error("build the HTTP client")]
    Client(#[source] reqwest::Error),
}

/// The root certificates that the host trusts.
pub(crate) fn host_roots() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        tracing::warn!(
            errors = ?found.errors,
            "this host has no root certificates, so no HTTPS server is trusted; install ca-certificates"
        );
    }
    // A damaged certificate among the host's is no reason to trust none of them.
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    roots
}

/// An HTTP client that trusts these and follows so far.
pub(crate) fn client(
    roots: RootCertStore,
    connect: Duration,
    redirects: Policy,
) -> Result<Client, HttpFeedError> {
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(HttpFeedError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(concat!("palisade/", env!("CARGO_PKG_VERSION")))
        .redirect(redirects)
        .connect_timeout(connect)
        .referer(false)
        .build()
        .map_err(HttpFeedError::Client)
}

/// Reads lists by URL.
#[derive(Clone, Debug)]
pub struct HttpFeed {
    client: Client,
    limits: Limits,
}

impl HttpFeed {
    /// Trusts the host's root certificates.
    ///
    /// # Errors
    /// When no client can be built.
    pub fn new() -> Result<Self, HttpFeedError> {
        Self::build(host_roots(), Limits::default())
    }

    /// Trusts these root certificates only.
    ///
    /// # Errors
    /// When one of them is not a certificate, or no client can be built.
    pub fn with(
        roots: impl IntoIterator<Item = CertificateDer<'static>>,
        limits: Limits,
    ) -> Result<Self, HttpFeedError> {
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(root).map_err(HttpFeedError::Root)?;
        }
        Self::build(store, limits)
    }

    fn build(roots: RootCertStore, limits: Limits) -> Result<Self, HttpFeedError> {
        let client = client(roots, limits.connect, Policy::custom(same_host))?;
        Ok(Self { client, limits })
    }

    async fn read(&self, url: &str, tag: Option<&str>) -> Result<Fetched, FetchError> {
        let fail = |e: reqwest::Error| FetchError::because("read the list", e);
        let mut request = self.client.get(url).header(ACCEPT_ENCODING, "gzip");
        let tag = tag.and_then(|t| HeaderValue::from_str(t).ok());
        let asked_with_tag = tag.is_some();
        if let Some(tag) = tag {
            request = request.header(IF_NONE_MATCH, tag);
        }
        let response = request.send().await.map_err(fail)?;
        match response.status() {
            StatusCode::NOT_MODIFIED if asked_with_tag => Ok(Fetched::NotModified),
            StatusCode::OK => self.body(response).await,
            other => Err(FetchError::new(format!("the server answered {other}"))),
        }
    }

    async fn body(&self, mut response: Response) -> Result<Fetched, FetchError> {
        let max = self.limits.max_bytes;
        let header = |name| response.headers().get(name).and_then(|v| v.to_str().ok());
        let tag = header(ETAG).map(str::to_owned);
        let packed = match header(CONTENT_ENCODING) {
            None | Some("identity") => false,
            Some("gzip") => true,
            Some(other) => {
                return Err(FetchError::new(format!("the list is packed as {other:?}")));
            }
        };
        let mut bytes = Vec::new();
        while let Some(chunk) =
            response.chunk().await.map_err(|e| FetchError::because("read the list", e))?
        {
            if bytes.len() + chunk.len() > max {
                return Err(too_large(max));
            }
            bytes.extend_from_slice(&chunk);
        }
        if packed {
            bytes = unpack(&bytes, max)?;
        }
        Ok(Fetched::Body { bytes, tag })
    }
}

fn too_large(max: usize) -> FetchError {
    FetchError::new(format!("the list has more than {max} bytes"))
}

fn unpack(packed: &[u8], max: usize) -> Result<Vec<u8>, FetchError> {
    let most = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    GzDecoder::new(packed)
        .take(most)
        .read_to_end(&mut bytes)
        .map_err(|e| FetchError::because("unpack the list", e))?;
    if bytes.len() > max { Err(too_large(max)) } else { Ok(bytes) }
}

/// Follows a redirect to the same host, unless it gives up encryption.
fn same_host(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let Some(first) = attempt.previous().first() else { return attempt.stop() };
    let (to, same) = (attempt.url(), attempt.url().host_str() == first.host_str());
    if !same || (first.scheme() == "https" && to.scheme() != "https") {
        let why = format!("the server sends us to {}", to.origin().ascii_serialization());
        return attempt.error(why);
    }
    if attempt.previous().len() > MAX_REDIRECTS {
        return attempt.error("the server sends us from place to place");
    }
    attempt.follow()
}

impl Feed for HttpFeed {
    async fn fetch(
        &self,
        location: &FeedLocation,
        tag: Option<&str>,
    ) -> Result<Fetched, FetchError> {
        let url = match location {
            FeedLocation::Url(url) => url,
            FeedLocation::File(path) => {
                return Err(FetchError::new(format!("{} is not a URL", path.display())));
            }
            FeedLocation::Ec2(list) => {
                return Err(FetchError::new(format!("{list} is not a URL")));
            }
        };
        let late = || Err(FetchError::new(format!("no list within {:?}", self.limits.total)));
        time::timeout(self.limits.total, self.read(url, tag)).await.unwrap_or_else(|_| late())
    }
}
