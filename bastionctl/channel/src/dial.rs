//! Makes the WebSocket: TCP, a proxy, TLS, the signed request, and the message that opens the channel.

use std::{
    io,
    sync::{Arc, OnceLock},
    time::Duration,
};

use rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName};
use serde::Serialize;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{self, Message, client::IntoClientRequest as _, protocol::WebSocketConfig},
};
use uuid::Uuid;

use crate::{
    end::End,
    frame::MAX_FRAME,
    handshake::CLIENT_VERSION,
    proxy::{self, Proxy},
    service::{Service, ServiceError, Token},
    text::printable,
    url::{Endpoint, Target},
};

/// For each attempt, from the name's lookup to the open channel.
const PATIENCE: Duration = Duration::from_secs(15);
/// Large, so that many frames are one call to the kernel.
const BUFFER: usize = 128 << 10;

/// A byte stream below a WebSocket.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

pub(crate) type Wire = WebSocketStream<Box<dyn Io>>;

/// How to reach the service. Clones share what was loaded.
#[derive(Clone, Debug, Default)]
pub struct Dialer {
    /// Used instead of the host in `StreamUrl`.
    pub endpoint: Option<Endpoint>,
    /// Used to get out.
    pub proxy: Option<Proxy>,
    tls: Arc<OnceLock<Arc<ClientConfig>>>,
}

/// Why an attempt failed.
#[derive(Debug)]
pub(crate) enum DialError {
    /// Worth another attempt.
    Later(String),
    /// Not.
    Never(End),
}

impl Dialer {
    /// A dialer that has read nothing yet.
    #[must_use]
    pub fn new(endpoint: Option<Endpoint>, proxy: Option<Proxy>) -> Self {
        Self { endpoint, proxy, tls: Arc::default() }
    }

    /// Trusts what `config` trusts instead of the system's certificates.
    #[must_use]
    pub fn with_tls(self, config: Arc<ClientConfig>) -> Self {
        Self { tls: Arc::new(OnceLock::from(config)), ..self }
    }

    /// Reads the system's certificates now, say while `StartSession` is under way.
    pub fn warm_up(&self) {
        // Whoever dials meets the error again and says it.
        drop(self.tls());
    }

    pub(crate) async fn dial(
        &self,
        service: &impl Service,
        client: Uuid,
        token: &Token,
        stream_url: &str,
    ) -> Result<Wire, DialError> {
        let target = Target::judge(stream_url, self.endpoint.as_ref())
            .map_err(|bad| DialError::Never(End::Address(bad.to_string())))?;
        let attempt = Box::pin(self.attempt(service, client, token, &target));
        timeout(PATIENCE, attempt).await.unwrap_or_else(|_| {
            Err(DialError::Later(format!("{}: no answer within {PATIENCE:?}", target.host)))
        })
    }

    async fn attempt(
        &self,
        service: &impl Service,
        client: Uuid,
        token: &Token,
        target: &Target,
    ) -> Result<Wire, DialError> {
        let at = |what: &str, e: &dyn std::fmt::Display| {
            DialError::Later(printable(&format!("{what} {}: {e}", target.host)))
        };
        let url = target.url();
        // While the connection is made: signing may have to fetch credentials.
        let (io, signed) = tokio::join!(self.connect(target), service.sign(&url));
        let io = io.map_err(|e| at("connect to", &e))?;
        let signed = signed.map_err(|error| match error {
            ServiceError::Later(why) => at("sign the request for", &why),
            ServiceError::Never(why) => DialError::Never(End::Denied { why }),
        })?;
        let address = signed.url.as_deref().unwrap_or(&url);
        let mut request = address.into_client_request().map_err(|e| at("ask", &e))?;
        request.headers_mut().extend(signed.headers);
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER)
            .write_buffer_size(BUFFER)
            .max_write_buffer_size(4 * MAX_FRAME)
            .max_message_size(Some(MAX_FRAME))
            .max_frame_size(Some(MAX_FRAME));
        let (mut wire, _) = client_async_with_config(request, io, Some(config)).await.map_err(
            |error| match error {
                tungstenite::Error::Http(answer) => refused(&answer),
                other => at("open a WebSocket to", &other),
            },
        )?;
        let open = Message::text(opening(client, token));
        futures_util::SinkExt::send(&mut wire, open).await.map_err(|e| at("write to", &e))?;
        Ok(wire)
    }

    async fn connect(&self, target: &Target) -> io::Result<Box<dyn Io>> {
        let proxy = self.proxy.as_ref().filter(|proxy| proxy.serves(target.name()));
        let mut tcp = match proxy {
            None => TcpStream::connect((target.name(), target.port)).await?,
            Some(proxy) => TcpStream::connect((proxy.host.as_str(), proxy.port)).await?,
        };
        tcp.set_nodelay(true)?;
        if let Some(proxy) = proxy {
            through(proxy, &mut tcp, target).await?;
        }
        if !target.tls {
            return Ok(Box::new(tcp));
        }
        let name = ServerName::try_from(target.name().to_owned()).map_err(io::Error::other)?;
        let tls = TlsConnector::from(self.tls()?).connect(name, tcp).await?;
        Ok(Box::new(tls))
    }

    fn tls(&self) -> io::Result<Arc<ClientConfig>> {
        if let Some(config) = self.tls.get() {
            return Ok(config.clone());
        }
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (kept, _) = roots.add_parsable_certificates(found.certs);
        if kept == 0 {
            let why = found.errors.first().map_or_else(String::new, |e| format!(": {e}"));
            return Err(io::Error::other(format!("the system has no root certificates{why}")));
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(self.tls.get_or_init(|| Arc::new(config)).clone())
    }
}

/// Asks a proxy for a tunnel. Its answer is read byte by byte, so that nothing behind it is lost.
async fn through(proxy: &Proxy, tcp: &mut TcpStream, target: &Target) -> io::Result<()> {
    const MOST: usize = 8 << 10;
    tcp.write_all(proxy.request(target.name(), target.port).as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= MOST {
            return Err(io::Error::other("the proxy's answer has no end"));
        }
        head.push(tcp.read_u8().await?);
    }
    match proxy::status(&head) {
        Some(200..=299) => Ok(()),
        Some(407) => {
            Err(io::Error::other("the proxy wants a login (407): put it into HTTPS_PROXY"))
        }
        Some(status) => Err(io::Error::other(format!("the proxy refuses with status {status}"))),
        None => Err(io::Error::other("the proxy does not speak HTTP")),
    }
}

fn refused(answer: &http::Response<Option<Vec<u8>>>) -> DialError {
    let status = answer.status().as_u16();
    let body = answer.body().as_deref().unwrap_or_default();
    let body = printable(&String::from_utf8_lossy(body.get(..300).unwrap_or(body)));
    if status == 429 || status >= 500 {
        return DialError::Later(format!(
            "the data channel answers with HTTP status {status}: {body}"
        ));
    }
    DialError::Never(End::Refused { status, body })
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Open<'a> {
    message_schema_version: &'a str,
    request_id: String,
    token_value: &'a str,
    client_id: String,
    client_version: &'a str,
}

/// The first message of every socket.
fn opening(client: Uuid, token: &Token) -> String {
    let open = Open {
        message_schema_version: "1.0",
        request_id: Uuid::new_v4().to_string(),
        token_value: token.reveal(),
        client_id: client.to_string(),
        client_version: CLIENT_VERSION,
    };
    // Serialising strings does not fail.
    serde_json::to_string(&open).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_message_has_the_five_fields_that_the_service_wants() {
        let text = opening(Uuid::from_u128(7), &Token::new("secret"));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["MessageSchemaVersion"], "1.0");
        assert_eq!(value["TokenValue"], "secret");
        assert_eq!(value["ClientId"], "00000000-0000-0000-0000-000000000007");
        assert_eq!(value["ClientVersion"], "1.2.764.0");
        assert_eq!(value["RequestId"].as_str().map(str::len), Some(36));
        assert_eq!(value.as_object().map(serde_json::Map::len), Some(5));
    }
}
