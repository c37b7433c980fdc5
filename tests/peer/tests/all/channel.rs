//! A client and the peer's data channel over real sockets.

use crate::{
    client::Client,
    support::{dial, echo, pattern, peer, start, until},
};
use palisade_peer::{State, channel::frame::payload};

const SSH: &str = "AWS-StartSSHSession";

#[tokio::test]
async fn a_session_echoes_what_is_sent_and_breaks_no_rule() {
    let peer = peer(&echo().await, |_| {});
    let (mut client, session) = Client::live(&peer, SSH).await;
    let sent = pattern(100_000);
    for part in sent.chunks(1000) {
        client.send(payload::OUTPUT, part).await;
    }
    client.run("echo", |c| c.data.len() >= 100_000).await;
    assert_eq!(client.data, sent);
    assert_eq!(peer.violations(), []);
    let view = peer.sessions().remove(0);
    assert_eq!((view.id, view.state), (session, State::Live));
    assert_eq!(view.stats.bytes_in, 100_000);
}

#[tokio::test]
async fn the_flag_ends_a_session_with_channel_closed() {
    let peer = peer(&echo().await, |_| {});
    let (mut client, _) = Client::live(&peer, SSH).await;
    client.send(payload::FLAG, &2_u32.to_be_bytes()).await;
    client.run("end", |c| c.closed.is_some()).await;
    until("end", || matches!(peer.sessions()[0].state, State::Ended(_))).await;
    assert_eq!(peer.violations(), []);
}

#[tokio::test]
async fn an_unsigned_upgrade_is_refused_and_noted() {
    let peer = peer(&echo().await, |_| {});
    let started = start(&peer, SSH).await;
    let session = started["SessionId"].as_str().unwrap();
    assert_eq!(dial(&peer, session, false).await.err(), Some(403));
    assert_eq!(peer.violations()[0].what, "upgrade: Missing Authentication Token");
}
