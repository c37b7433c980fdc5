//! What a client does wrong is noted, and nothing else is.

use crate::{
    client::Client,
    support::{echo, peer, start, until},
};
use bytes::Bytes;
use futures_util::SinkExt as _;
use palisade_peer::{
    Peer,
    channel::frame::{Frame, payload},
};
use tokio_tungstenite::tungstenite::Message;

const SSH: &str = "AWS-StartSSHSession";

/// Waits for a violation with these words, and forgets all.
async fn noted(peer: &Peer, words: &str) {
    until(&format!("violation with {words:?}"), || {
        peer.violations().iter().any(|v| v.what.contains(words))
    })
    .await;
    peer.forgive();
}

#[tokio::test]
async fn data_before_the_handshake_is_complete_is_noted_and_discarded() {
    let peer = peer(&echo().await, |c| c.faults.handshake.complete_delay_ms = 100);
    let mut client = Client::open(&peer, &start(&peer, SSH).await).await;
    // The answer to the handshake is the first of its messages, this the second.
    while client.next == 0 {
        client.step().await;
    }
    client.send(payload::OUTPUT, b"early").await;
    noted(&peer, "payload of type 1 in phase Completing").await;
    client.run("completion", |c| c.complete && c.sent.is_empty()).await;
    client.send(payload::OUTPUT, b"late").await;
    client.run("echo", |c| c.data == b"late").await;
}

#[tokio::test]
async fn bad_frames_are_noted() {
    let peer = peer(&echo().await, |_| {});
    let (mut client, _) = Client::live(&peer, SSH).await;
    client.raw(Bytes::from_static(b"short")).await;
    noted(&peer, "shorter than a header").await;
    let good = client.frame(payload::OUTPUT, b"abc");
    let mut bytes = good.encode().to_vec();
    bytes[121] ^= 1;
    client.raw(bytes.into()).await;
    noted(&peer, "digest of input_stream_data 1").await;
    client.raw(good.encode()).await;
    client.run("echo", |c| c.data == b"abc").await;
    assert_eq!(peer.violations(), []);

    let again = Frame { payload: Bytes::from_static(b"abd"), ..good.clone() };
    client.raw(again.encode()).await;
    noted(&peer, "sequence number 1 used again").await;
    let gap = Frame { seq: 5, ..client.frame(payload::OUTPUT, b"x") };
    client.raw(gap.encode()).await;
    noted(&peer, "sequence number 5 where 2 is next").await;
    let other = Frame { kind: "output_stream_data".to_owned(), ..good.clone() };
    client.raw(other.encode()).await;
    noted(&peer, "a client sends no output_stream_data").await;
    client.ack(&good).await;
    noted(&peer, "acknowledges a message of type input_stream_data").await;
    let output = Frame { kind: "output_stream_data".to_owned(), seq: 999, ..good };
    client.ack(&output).await;
    noted(&peer, "acknowledges 999").await;
    client.socket.send(Message::Text("hello".into())).await.unwrap();
    noted(&peer, "text after the open message").await;
}

#[tokio::test]
async fn a_token_opens_one_socket_only() {
    let peer = peer(&echo().await, |_| {});
    let started = start(&peer, SSH).await;
    let mut first = Client::open(&peer, &started).await;
    first.run("completion", |c| c.complete).await;
    let mut second = Client::open(&peer, &started).await;
    assert!(!second.step().await, "a used token opened a socket");
    assert_eq!(peer.sessions()[0].stats.sockets, 1);
}

#[tokio::test]
async fn an_old_client_is_noted() {
    let peer = peer(&echo().await, |c| c.min_client_version = "9.9".to_owned());
    let (_client, _) = Client::live(&peer, SSH).await;
    let all: Vec<_> = peer.violations().into_iter().map(|v| v.what).collect();
    assert_eq!(
        all,
        [r#"ClientVersion "1.2.764.0", below 9.9"#, "client version 1.2.764.0, below 9.9"]
    );
}
