//! Each fault of the data channel does what it says.

use std::time::{Duration, Instant};

use crate::{
    client::Client,
    support::{bad, echo, good, pattern, peer, start, until},
};
use palisade_peer::{
    Cut, State,
    channel::{
        faults::{Chances, Hostile},
        frame::payload,
    },
};
use serde_json::json;

const SSH: &str = "AWS-StartSSHSession";

async fn echo_through(client: &mut Client, size: usize) {
    let sent = pattern(size);
    for part in sent.chunks(500) {
        client.send(payload::OUTPUT, part).await;
    }
    client.run("echo", |c| c.data.len() >= size && c.sent.is_empty()).await;
    assert!(client.data == sent, "the echo is not what was sent");
}

#[tokio::test]
async fn data_comes_whole_through_loss_duplication_and_reordering() {
    let peer = peer(&echo().await, |_| {});
    let (mut client, _) = Client::live(&peer, SSH).await;
    peer.faults(|f| {
        let some = Chances { lose: 0.1, duplicate: 0.1, reorder: 0.1, ..Chances::default() };
        f.to_agent.data = some.clone();
        f.to_agent.ack = some.clone();
        f.to_client.data = some.clone();
        f.to_client.ack = some;
    });
    echo_through(&mut client, 60_000).await;
    assert_eq!(peer.violations(), []);
    let stats = peer.sessions().remove(0).stats;
    assert!(stats.duplicates_in > 0 && stats.resends_out > 0, "{stats:?}");
}

#[tokio::test]
async fn a_wrong_digest_is_not_acknowledged_and_not_held_against_the_client() {
    let peer = peer(&echo().await, |_| {});
    let (mut client, _) = Client::live(&peer, SSH).await;
    peer.faults(|f| f.to_agent.data.corrupt = 0.3);
    echo_through(&mut client, 5000).await;
    assert_eq!(peer.violations(), []);
}

#[tokio::test]
async fn a_lost_acknowledgement_is_sent_again_when_the_message_comes_again() {
    let peer = peer(&echo().await, |_| {});
    let (mut client, _) = Client::live(&peer, SSH).await;
    peer.faults(|f| f.to_client.ack.lose = 1.0);
    client.send(payload::OUTPUT, b"x").await;
    client.run("echo", |c| c.data == b"x").await;
    assert!(!client.acked.contains(&1));
    peer.faults(|f| f.to_client.ack.lose = 0.0);
    client.run("acknowledgement", |c| c.acked.contains(&1)).await;
    assert_eq!(client.data, b"x", "what came twice was written twice");
}

#[tokio::test]
async fn a_session_goes_on_where_it_was_after_a_cut() {
    let peer = peer(&echo().await, |_| {});
    let (mut client, session) = Client::live(&peer, SSH).await;
    for (n, how) in [Cut::Abrupt, Cut::Bye, Cut::Abrupt].into_iter().enumerate() {
        client.send(payload::OUTPUT, &[b'a' + u8::try_from(n).unwrap()]).await;
        client.run("echo", |c| c.data.len() == n + 1).await;
        assert!(peer.cut(&session, how));
        while client.step().await {}
        client.resume(&peer, &session).await;
    }
    client.send(payload::OUTPUT, b"d").await;
    client.run("echo", |c| c.data == b"abcd").await;
    assert_eq!(peer.violations(), []);
    assert_eq!(peer.sessions()[0].stats.sockets, 4);
}

#[tokio::test]
async fn resuming_fails_as_it_is_told() {
    let peer = peer(&echo().await, |_| {});
    let (_client, session) = Client::live(&peer, SSH).await;
    peer.faults(|f| f.resume_error = "InternalServerError".to_owned());
    assert_eq!(
        bad(&peer, "ResumeSession", json!({ "SessionId": session })).await.0,
        "InternalServerError"
    );
    peer.faults(|f| {
        f.resume_error.clear();
        f.resume_null = true;
    });
    let answer = good(&peer, "ResumeSession", json!({ "SessionId": session })).await;
    assert!(answer["TokenValue"].is_null());
    let gone = bad(&peer, "ResumeSession", json!({ "SessionId": "alice-none" })).await;
    assert_eq!(gone.0, "DoesNotExistException");
}

#[tokio::test]
async fn a_frame_over_the_limit_closes_the_socket() {
    let peer = peer(&echo().await, |_| {});
    let (mut client, _) = Client::live(&peer, SSH).await;
    peer.faults(|f| f.max_frame = 2000);
    client.send(payload::OUTPUT, &pattern(1880)).await;
    client.run("echo", |c| c.data.len() == 1880).await;
    client.send(payload::OUTPUT, &pattern(1881)).await;
    while client.step().await {}
    assert_eq!(peer.violations(), []);
}

#[tokio::test]
async fn the_round_trip_is_as_long_as_it_is_told() {
    let peer = peer(&echo().await, |_| {});
    let (mut client, _) = Client::live(&peer, SSH).await;
    peer.faults(|f| f.rtt_ms = 80);
    let before = Instant::now();
    client.send(payload::OUTPUT, b"x").await;
    client.run("echo", |c| !c.data.is_empty()).await;
    assert!(before.elapsed() >= Duration::from_millis(80));
}

#[tokio::test]
async fn a_paced_agent_sends_a_kilobyte_a_millisecond_at_most() {
    let peer = peer(&echo().await, |c| c.faults.pace_us = 1000);
    let (mut client, _) = Client::live(&peer, SSH).await;
    let before = Instant::now();
    client.send(payload::OUTPUT, &pattern(100 << 10)).await;
    client.run("echo", |c| c.data.len() == 100 << 10).await;
    assert!(before.elapsed() >= Duration::from_millis(99), "{:?}", before.elapsed());
}

#[tokio::test]
async fn a_hanging_peer_says_nothing_until_it_goes_on() {
    let peer = peer(&echo().await, |_| {});
    let (mut client, _) = Client::live(&peer, SSH).await;
    peer.faults(|f| f.hang = true);
    // What was being waited for when the fault came may still arrive; nothing after it does.
    client.send(payload::OUTPUT, b"1").await;
    let quiet = tokio::time::timeout(Duration::from_millis(300), async {
        while client.data.is_empty() {
            client.step().await;
        }
    });
    assert!(quiet.await.is_err());
    peer.faults(|f| f.hang = false);
    client.run("echo", |c| c.data == b"1").await;
}

#[tokio::test]
async fn an_unread_destination_pauses_the_client() {
    // A small buffer, so that little data fills it.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 << 10).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let peer =
        peer(&listener.local_addr().unwrap().to_string(), |c| c.faults.pause_above = 1 << 20);
    let (mut client, _) = Client::live(&peer, SSH).await;
    let (mut socket, _) = listener.accept().await.unwrap();
    for _ in 0..240 {
        client.send(payload::OUTPUT, &pattern(32 << 10)).await;
    }
    client.run("pause", |c| c.pauses == [true]).await;
    let reader = tokio::spawn(async move {
        tokio::io::copy(&mut socket, &mut tokio::io::sink()).await.unwrap_or_default()
    });
    client.run("start", |c| c.pauses == [true, false] && c.sent.is_empty()).await;
    drop(client);
    drop(peer);
    assert_eq!(reader.await.unwrap(), 240 * (32 << 10));
}

#[tokio::test]
async fn the_service_ends_a_session_with_its_words() {
    let peer = peer(&echo().await, |_| {});
    let (mut client, session) = Client::live(&peer, SSH).await;
    assert!(peer.end(&session, "maintenance"));
    client.run("end", |c| c.closed.as_deref() == Some("maintenance")).await;
    let (mut client, session) = Client::live(&peer, SSH).await;
    assert!(peer.hostile(&session, Hostile::EscapedClose));
    client.run("end", |c| c.closed.as_ref().is_some_and(|o| o.contains('\u{1b}'))).await;
}

#[tokio::test]
async fn a_session_that_is_terminated_closes_its_connection() {
    let peer = peer(&echo().await, |_| {});
    let (mut client, session) = Client::live(&peer, SSH).await;
    good(&peer, "TerminateSession", json!({ "SessionId": session })).await;
    client.run("end", |c| c.closed.is_some()).await;
    until("end", || peer.sessions()[0].state == State::Ended("TerminateSession".to_owned())).await;
}

#[tokio::test]
async fn handshakes_go_wrong_as_they_are_told() {
    let asking = peer(&echo().await, |c| c.faults.handshake.unknown_action = true);
    let mut client = Client::open(&asking, &start(&asking, SSH).await).await;
    client.run("refusal", |c| c.closed.is_some()).await;
    assert!(client.closed.unwrap().contains("Levitation"));
    assert_eq!(asking.violations(), []);

    let deaf = peer(&echo().await, |c| {
        c.timing.handshake_ms = 200;
        c.faults.to_agent.data.lose = 1.0;
    });
    let mut client = Client::open(&deaf, &start(&deaf, SSH).await).await;
    client.run("timeout", |c| c.closed.is_some()).await;
    assert!(client.closed.unwrap().starts_with("Handshake timed out"));
}

#[tokio::test]
async fn hostile_frames_reach_the_client() {
    use futures_util::StreamExt as _;
    let peer = peer(&echo().await, |_| {});
    let (mut client, session) = Client::live(&peer, SSH).await;
    for (what, frames) in [
        (Hostile::HugeLength, 1),
        (Hostile::HeaderZero, 1),
        (Hostile::HeaderPastEnd, 1),
        (Hostile::Short, 1),
        (Hostile::NegativeSeq, 1),
        (Hostile::Text, 1),
        (Hostile::OutOfOrder { from: 50, count: 5000 }, 5000),
    ] {
        assert!(peer.hostile(&session, what.clone()));
        let mut seen = 0;
        crate::support::soon(&format!("{what:?}"), async {
            while seen < frames {
                let message = client.socket.next().await.unwrap().unwrap();
                seen += u32::from(message.is_binary() || message.is_text());
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_client_that_answers_no_ping_is_dropped_and_one_that_does_is_not() {
    let peer = peer(&echo().await, |c| {
        c.timing.ping_ms = 30;
        c.timing.pong_ms = 5000;
    });
    let (mut client, _) = Client::live(&peer, SSH).await;
    // Reading answers pings.
    let reading =
        tokio::time::timeout(Duration::from_secs(6), async { while client.step().await {} });
    assert!(reading.await.is_err() && peer.sessions()[0].connected);
    until("end of the socket", || !peer.sessions()[0].connected).await;
    assert_eq!(peer.sessions()[0].state, State::Live, "the session outlives its socket");
}

#[tokio::test]
async fn every_socket_is_cut_after_so_many_frames() {
    let peer = peer(&echo().await, |_| {});
    let (mut client, session) = Client::live(&peer, SSH).await;
    peer.faults(|f| f.cut_after = 40);
    let (sent, mut sockets) = (pattern(20_000), 1);
    for (n, part) in sent.chunks(500).enumerate() {
        client.send(payload::OUTPUT, part).await;
        while client.data.len() < (n + 1) * 500 || !client.sent.is_empty() {
            assert!(sockets < 100, "no progress");
            let step = tokio::time::timeout(Duration::from_millis(300), client.step()).await;
            if step == Ok(false) {
                client.resume(&peer, &session).await;
                sockets += 1;
            }
        }
    }
    assert!(client.data == sent && sockets > 2, "{sockets} sockets");
    assert_eq!(peer.violations(), []);
}

#[tokio::test]
async fn a_terminated_session_lets_go_of_a_destination_that_reads_nothing() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let peer = peer(&address, |_| {});
    let (mut client, session) = Client::live(&peer, SSH).await;
    let (socket, _) = listener.accept().await.unwrap();
    for _ in 0..300 {
        client.send(payload::OUTPUT, &pattern(32 << 10)).await;
    }
    good(&peer, "TerminateSession", json!({ "SessionId": session })).await;
    client.run("end", |c| c.closed.is_some()).await;
    // The other end is closed once nothing more comes after what had been written.
    let mut rest = vec![0; 1 << 20];
    crate::support::soon("end of the connection", async {
        loop {
            socket.readable().await.unwrap();
            match socket.try_read(&mut rest) {
                Ok(0) => return,
                Err(e) if e.kind() != std::io::ErrorKind::WouldBlock => return,
                _ => {}
            }
        }
    })
    .await;
}
