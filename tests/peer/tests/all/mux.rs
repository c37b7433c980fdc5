//! Port forwarding: many connections by smux, and one at a time with old agents.

use crate::{
    client::Client,
    support::{echo, pattern, peer, until},
};
use palisade_peer::{State, channel::frame::payload};

const FORWARD: &str = "AWS-StartPortForwardingSession";

fn smux(command: u8, stream: u32, data: &[u8]) -> Vec<u8> {
    let mut frame = vec![1, command];
    frame.extend_from_slice(&u16::try_from(data.len()).unwrap().to_le_bytes());
    frame.extend_from_slice(&stream.to_le_bytes());
    frame.extend_from_slice(data);
    frame
}

/// Data of one stream, and whether it was closed.
fn stream(client: &Client, wanted: u32) -> (Vec<u8>, bool) {
    let (mut data, mut closed, mut rest) = (Vec::new(), false, &client.data[..]);
    while rest.len() >= 8 {
        let size = usize::from(u16::from_le_bytes([rest[2], rest[3]]));
        if rest.len() < 8 + size {
            break;
        }
        if u32::from_le_bytes(rest[4..8].try_into().unwrap()) == wanted {
            data.extend_from_slice(&rest[8..8 + size]);
            closed |= rest[1] == 1;
        }
        rest = &rest[8 + size..];
    }
    (data, closed)
}

#[tokio::test]
async fn streams_echo_beside_each_other_and_close() {
    let peer = peer(&echo().await, |_| {});
    let (mut client, _) = Client::live(&peer, FORWARD).await;
    let sent = pattern(40_000);
    let all = [
        smux(0, 3, &[]),
        smux(0, 5, &[]),
        smux(3, 0, &[]),
        smux(2, 3, &sent[..20_000]),
        smux(2, 5, b"five"),
        smux(2, 3, &sent[20_000..]),
    ]
    .concat();
    for part in all.chunks(1000) {
        client.send(payload::OUTPUT, part).await;
    }
    client.run("echo", |c| stream(c, 3).0.len() == 40_000 && stream(c, 5).0 == b"five").await;
    assert!(stream(&client, 3).0 == sent);
    client.send(payload::OUTPUT, &smux(1, 3, &[])).await;
    client.run("close", |c| stream(c, 3).1).await;
    assert!(!stream(&client, 5).1);
    let stats = peer.sessions().remove(0).stats;
    assert_eq!((stats.streams, stats.nops), (2, 1));
    assert_eq!(peer.violations(), []);
}

#[tokio::test]
async fn a_refused_port_is_told_by_flag_and_end_of_the_stream() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let peer = peer(&unused.to_string(), |_| {});
    let (mut client, _) = Client::live(&peer, FORWARD).await;
    client.send(payload::OUTPUT, &smux(0, 3, &[])).await;
    client.run("flag and close", |c| c.flags == [3] && stream(c, 3).1).await;
    assert_eq!(peer.sessions()[0].state, State::Live);
}

#[tokio::test]
async fn a_broken_stream_of_frames_ends_the_session() {
    let peer = peer(&echo().await, |_| {});
    let (mut client, _) = Client::live(&peer, FORWARD).await;
    client.send(payload::OUTPUT, &smux(2, 7, b"never opened")).await;
    client.send(payload::OUTPUT, b"SSH-2.0-OpenSSH").await;
    client.run("end", |c| c.closed.is_some()).await;
    let all: Vec<_> = peer.violations().into_iter().map(|v| v.what).collect();
    assert_eq!(all[0], "smux stream 7 has data but was never opened");
    assert!(all[1].starts_with("smux frame of version 83"));
}

#[tokio::test]
async fn an_old_agent_takes_one_connection_at_a_time_and_the_flag_ends_it() {
    let peer = peer(&echo().await, |c| c.agent_version = "3.0.196.0".to_owned());
    let (mut client, _) = Client::live(&peer, FORWARD).await;
    for text in ["first", "second"] {
        client.data.clear();
        client.send(payload::OUTPUT, text.as_bytes()).await;
        client.run("echo", |c| c.data == text.as_bytes()).await;
        client.send(payload::FLAG, &1_u32.to_be_bytes()).await;
    }
    client.run("acknowledgements", |c| c.sent.is_empty()).await;
    client.send(payload::FLAG, &2_u32.to_be_bytes()).await;
    client.run("end", |c| c.closed.is_some()).await;
    until("end", || matches!(peer.sessions()[0].state, State::Ended(_))).await;
    assert_eq!(peer.violations(), []);
}
