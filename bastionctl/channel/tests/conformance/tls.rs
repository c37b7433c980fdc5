//! The channel over TLS: a certificate that is trusted lets the session through, any other ends it
//! before the token is sent.

use std::{sync::Arc, time::Duration};

use palisade_channel::{Dialer, End, Endpoint, Session};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsAcceptor;

use crate::support::*;

/// A TLS end in front of `plain`; gives its address and its certificate.
async fn tls_before(plain: String) -> (String, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let addr = server(move |socket| {
        let (acceptor, plain) = (acceptor.clone(), plain.clone());
        async move {
            let Ok(mut outside) = acceptor.accept(socket).await else { return };
            let mut inside = TcpStream::connect(plain).await.unwrap();
            tokio::io::copy_bidirectional(&mut outside, &mut inside).await.unwrap_or_default();
        }
    })
    .await;
    (addr, certificate)
}

fn trusting(certificate: CertificateDer<'static>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

#[tokio::test]
async fn a_trusted_certificate_lets_the_session_through_and_another_does_not() {
    let peer = peer(&echo().await, |_| {});
    let plain = peer.ws_url().trim_start_matches("ws://").to_owned();
    let (addr, certificate) = tls_before(plain.clone()).await;
    let port = addr.rsplit_once(':').unwrap().1;
    let endpoint = Endpoint::read(&format!("wss://localhost:{port}")).unwrap();
    let (started, aws, mut options) = started(&peer, SSH).await;
    options.dialer = Dialer::new(Some(endpoint.clone()), None).with_tls(trusting(certificate));
    let session = Session::open(started, aws, options);
    let mut stream = session.stream().await.unwrap();
    let data = pattern(300_000);
    let (mut reader, mut writer) = tokio::io::split(&mut stream);
    let mut got = vec![0; data.len()];
    let (sent, read) =
        tokio::join!(writer.write_all(&data), soon("echo", reader.read_exact(&mut got)));
    sent.unwrap();
    read.unwrap();
    assert!(got == data);
    assert_eq!(peer.violations(), []);

    let (_, other) = tls_before(plain).await;
    let (started, aws, mut options) = crate::support::started(&peer, SSH).await;
    options.dialer = Dialer::new(Some(endpoint), None).with_tls(trusting(other));
    options.handshake = Duration::from_secs(1);
    let session = Session::open(started, aws.clone(), options);
    let end = within("end", Duration::from_secs(10), session.end()).await;
    assert!(matches!(&end, End::Unreachable { why } if why.contains("certificate")), "{end}");
    assert_eq!(view(&peer, &aws).stats.sockets, 0);
}
