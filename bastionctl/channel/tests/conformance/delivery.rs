//! Bytes: they arrive once, whole and in order, whatever the line loses, doubles, delays or holds back. The
//! numbers are those of the list of cases; the peer's list of broken rules is empty at the end.

use std::{sync::Arc, time::Duration};

use palisade_channel::{FrameSize, Session};
use palisade_peer::channel::faults::Hostile;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{self, Instant},
};

use crate::support::*;

// C01, C02, C26
#[tokio::test]
async fn bytes_come_back_as_they_were_sent_and_no_rule_is_broken() {
    for document in [SSH, FORWARD] {
        let peer = peer(&echo().await, |_| {});
        let (session, aws) = open(&peer, document).await;
        let data = pattern(300_000);
        assert!(round_trip(&session, &data).await == data);
        soon("close", session.close()).await;
        ended(&peer, &aws).await;
        unbroken(&peer);
        assert_eq!(view(&peer, &aws).stats.client_version, "1.2.764.0");
    }
}

// C03, C04
#[tokio::test]
async fn a_newline_stays_a_newline_alone_and_at_the_end_of_a_frame() {
    for document in [SSH, FORWARD] {
        let peer = peer(&echo().await, |_| {});
        let (session, _) = open(&peer, document).await;
        let mut stream = session.stream().await.unwrap();
        let mut long = vec![b'x'; 1016];
        long.push(b'\n');
        for part in [b"\n".as_slice(), b"\r", b"\r\n", b"\x03\x1a\x00\xff", &long] {
            stream.write_all(part).await.unwrap();
            let mut got = vec![0; part.len()];
            soon("echo", stream.read_exact(&mut got)).await.unwrap();
            assert_eq!(got, part);
        }
    }
}

// C05
#[tokio::test]
async fn fifty_streams_at_a_time_keep_their_bytes_apart() {
    let peer = peer(&echo().await, |_| {});
    let (session, aws) = open(&peer, FORWARD).await;
    let session = Arc::new(session);
    let mut all = tokio::task::JoinSet::new();
    for n in 0..50_u8 {
        let session = session.clone();
        all.spawn(async move {
            let data: Vec<u8> = pattern(20_000).into_iter().map(|b| b.wrapping_add(n)).collect();
            assert!(round_trip(&session, &data).await == data);
        });
    }
    while let Some(done) = soon("streams", all.join_next()).await {
        done.unwrap();
    }
    assert_eq!(view(&peer, &aws).stats.streams, 50);
    unbroken(&peer);
}

// C06: the agent has no half-open connections, so the end of writing must not cut the answer off.
#[tokio::test]
async fn the_answer_to_a_finished_request_arrives_whole_before_the_stream_ends() {
    let answer = server(|mut socket| async move {
        let mut request = [0; 7];
        socket.read_exact(&mut request).await.unwrap();
        for part in pattern(200_000).chunks(50_000) {
            time::sleep(Duration::from_millis(300)).await;
            socket.write_all(part).await.unwrap_or_default();
        }
    })
    .await;
    for document in [SSH, FORWARD] {
        let peer = peer(&answer, |_| {});
        let (session, _) = open(&peer, document).await;
        let mut stream = session.stream().await.unwrap();
        stream.write_all(b"request").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut got = Vec::new();
        soon("answer", stream.read_to_end(&mut got)).await.unwrap();
        assert!(got == pattern(200_000), "{document}: {} bytes", got.len());
    }
}

/// Both directions at once under faults.
async fn survives(change: impl FnOnce(&mut palisade_peer::channel::faults::Faults)) {
    let peer = peer(&echo().await, |_| {});
    let (session, _) = open(&peer, SSH).await;
    soon("handshake", session.live()).await.unwrap();
    peer.faults(change);
    let data = pattern(60_000);
    assert!(round_trip(&session, &data).await == data);
    unbroken(&peer);
}

// C07
#[tokio::test]
async fn lost_frames_are_made_good() {
    survives(|f| {
        f.to_agent.data.lose = 0.1;
        f.to_client.data.lose = 0.1;
    })
    .await;
}

// C08
#[tokio::test]
async fn doubled_frames_count_once() {
    survives(|f| {
        f.to_agent.data.duplicate = 0.3;
        f.to_client.data.duplicate = 0.3;
        f.to_client.ack.duplicate = 0.3;
    })
    .await;
}

// C09
#[tokio::test]
async fn frames_out_of_order_are_put_in_order() {
    survives(|f| {
        f.to_agent.data.reorder = 0.3;
        f.to_client.data.reorder = 0.3;
    })
    .await;
}

// C10
#[tokio::test]
async fn frames_with_a_wrong_digest_are_dropped_and_come_again() {
    survives(|f| f.to_client.data.corrupt = 0.1).await;
}

// C11
#[tokio::test]
async fn lost_acknowledgements_cost_time_and_no_bytes() {
    survives(|f| {
        f.to_agent.ack.lose = 0.2;
        f.to_client.ack.lose = 0.2;
    })
    .await;
}

// C12, C13
#[tokio::test]
async fn all_faults_at_once_on_a_slow_line_lose_nothing() {
    survives(|f| {
        f.rtt_ms = 40;
        for lane in [&mut f.to_agent, &mut f.to_client] {
            lane.data.lose = 0.05;
            lane.data.duplicate = 0.05;
            lane.data.reorder = 0.05;
            lane.ack.lose = 0.05;
        }
        f.to_client.data.corrupt = 0.02;
    })
    .await;
}

// C44
#[tokio::test]
async fn a_frame_that_comes_again_is_acknowledged_again_so_a_lost_acknowledgement_is_no_stall() {
    let peer = peer(&echo().await, |_| {});
    let (session, aws) = open(&peer, SSH).await;
    soon("handshake", session.live()).await.unwrap();
    // Two acknowledgements of the handshake are through.
    peer.faults(|f| f.to_agent.ack.lose_first = 7);
    // The stream stays: without it, the session would be done.
    let mut stream = session.stream().await.unwrap();
    let data = pattern(20_000);
    stream.write_all(&data).await.unwrap();
    let mut got = vec![0; data.len()];
    soon("echo", stream.read_exact(&mut got)).await.unwrap();
    assert!(got == data);
    until("acknowledged", || session.stats().received.duplicates >= 5).await;
    assert!(view(&peer, &aws).stats.resends_out >= 5);
}

// C30
#[tokio::test]
async fn large_frames_of_the_agent_are_read() {
    let peer = peer(&source(2_000_000).await, |c| c.faults.frame_size = 60_000);
    let (session, _) = open(&peer, SSH).await;
    let mut got = vec![0; 2_000_000];
    soon("data", session.stream().await.unwrap().read_exact(&mut got)).await.unwrap();
    assert!(got == pattern(2_000_000));
}

// C38: what the receiving side can do for it. The real agent sends its oldest frame again every 100 ms and
// no other, which bounds it by itself: 128 lost frames take it 13 s, whoever listens.
#[tokio::test]
async fn a_download_that_loses_a_quarter_of_its_frames_is_as_fast_as_the_agent_sends_again() {
    let size = 512 << 10;
    quickest("the download", Duration::from_secs(3), async || {
        let peer = peer(&source(size).await, |c| {
            c.faults.resend_all = true;
            c.faults.to_client.data.lose = 0.25;
            c.faults.to_agent.ack.lose = 0.25;
        });
        let (session, _) = open(&peer, SSH).await;
        let mut stream = session.stream().await.unwrap();
        let begin = Instant::now();
        let mut got = vec![0; size];
        soon("download", stream.read_exact(&mut got)).await.unwrap();
        let took = begin.elapsed();
        assert!(got == pattern(size));
        unbroken(&peer);
        took
    })
    .await;
}

// C36: the peer resends one frame for each of its looks, as the real agent does.
#[tokio::test]
async fn an_upload_that_loses_a_quarter_of_its_frames_takes_less_than_three_seconds() {
    quickest("the upload", Duration::from_secs(3), async || {
        let peer = peer(&sink(512 << 10).await, |_| {});
        let fixed = |o: &mut palisade_channel::Options| o.frame = FrameSize::fixed(1024);
        let (session, _) = open_with(&peer, SSH, fixed).await;
        let mut stream = session.stream().await.unwrap();
        peer.faults(|f| {
            f.to_agent.data.lose = 0.25;
            f.to_client.ack.lose = 0.25;
        });
        let data = pattern(512 << 10);
        let begin = Instant::now();
        soon("upload", stream.write_all(&data)).await.unwrap();
        let mut done = [0; 4];
        soon("answer", stream.read_exact(&mut done)).await.unwrap();
        let took = begin.elapsed();
        unbroken(&peer);
        took
    })
    .await;
}

// C37
#[tokio::test]
async fn a_burst_that_is_lost_is_sent_again_as_one() {
    quickest("the upload", Duration::from_secs(2), async || {
        let peer = peer(&sink(200 << 10).await, |_| {});
        let fixed = |o: &mut palisade_channel::Options| o.frame = FrameSize::fixed(1024);
        let (session, _) = open_with(&peer, SSH, fixed).await;
        let mut stream = session.stream().await.unwrap();
        peer.faults(|f| f.to_agent.data.lose_first = 100);
        let begin = Instant::now();
        soon("upload", stream.write_all(&pattern(200 << 10))).await.unwrap();
        let mut done = [0; 4];
        soon("answer", stream.read_exact(&mut done)).await.unwrap();
        begin.elapsed()
    })
    .await;
}

// C39
#[tokio::test]
async fn what_the_host_says_first_is_there_at_once() {
    let greeting = server(|mut socket| async move {
        socket.write_all(b"SSH-2.0-early\r\n").await.unwrap();
        let mut rest = [0; 16];
        socket.read(&mut rest).await.unwrap_or_default();
    })
    .await;
    // Whoever is held up by other work for longer than this is told again, as it should be.
    const PROMPT: Duration = Duration::from_millis(90);
    let mut all = Vec::new();
    for _ in 0..15 {
        let peer = peer(&greeting, |_| {});
        let (started, aws, options) = started(&peer, SSH).await;
        let begin = Instant::now();
        let session = Session::open(started, aws, options);
        let mut stream = session.stream().await.unwrap();
        let mut got = [0; 15];
        soon("greeting", stream.read_exact(&mut got)).await.unwrap();
        let took = begin.elapsed();
        all.push(took);
        let duplicates = session.stats().received.duplicates;
        assert!(duplicates == 0 || took >= PROMPT, "nothing had to come twice within {took:?}");
    }
    all.sort_unstable();
    println!("first byte, best and worst of 15: {:?}, {:?}", all[0], all[14]);
    // Other work makes it slower and never quicker.
    assert!(all[0] < PROMPT, "{all:?}");
}

// C43
#[tokio::test]
async fn a_reader_that_does_not_read_stops_the_agent_and_not_the_memory() {
    let size = 64 << 20;
    let peer = peer(&source(size).await, |c| c.faults.frame_size = 16 << 10);
    let (session, _) = open(&peer, SSH).await;
    let mut stream = session.stream().await.unwrap();
    let taken = async |session: &Session| {
        let mut before = 0;
        loop {
            time::sleep(Duration::from_millis(500)).await;
            let now = session.stats().received.bytes;
            if now == before && now > 0 {
                return now;
            }
            before = now;
        }
    };
    let held = soon("standstill", taken(&session)).await;
    assert!(held < 3 << 20, "{held} bytes were taken in for nobody");
    let mut got = vec![0; 8 << 20];
    soon("data", stream.read_exact(&mut got)).await.unwrap();
    assert!(got == pattern(8 << 20));
}

#[tokio::test]
async fn a_pause_holds_new_data_back_and_the_start_lets_it_go() {
    let peer = peer(&echo().await, |_| {});
    let (session, aws) = open(&peer, SSH).await;
    let mut stream = session.stream().await.unwrap();
    stream.write_all(b"a").await.unwrap();
    soon("echo", stream.read_u8()).await.unwrap();
    assert!(peer.pause(&aws.session, true));
    // The pause is ahead of this in the same socket.
    assert!(peer.hostile(&aws.session, Hostile::Data(b"mark".to_vec())));
    let mut mark = [0; 4];
    soon("mark", stream.read_exact(&mut mark)).await.unwrap();
    let before = view(&peer, &aws).stats.bytes_in;
    stream.write_all(b"b").await.unwrap();
    assert!(time::timeout(Duration::from_millis(400), stream.read_u8()).await.is_err());
    assert_eq!(view(&peer, &aws).stats.bytes_in, before);
    assert!(peer.pause(&aws.session, false));
    assert_eq!(soon("echo", stream.read_u8()).await.unwrap(), b'b');
}

#[tokio::test]
async fn an_agent_that_pauses_a_fast_upload_gets_all_of_it() {
    let size = 4 << 20;
    let peer = peer(&sink(size).await, |c| c.faults.pause_above = 64 << 10);
    let (session, _) = open(&peer, SSH).await;
    let mut stream = session.stream().await.unwrap();
    soon("upload", stream.write_all(&pattern(size))).await.unwrap();
    let mut done = [0; 4];
    soon("answer", stream.read_exact(&mut done)).await.unwrap();
    unbroken(&peer);
}

#[tokio::test]
async fn a_service_that_closes_on_large_frames_gets_small_ones() {
    let size = 1 << 20;
    let peer = peer(&sink(size).await, |c| c.faults.max_frame = 3000);
    let (session, aws) = open(&peer, SSH).await;
    let mut stream = session.stream().await.unwrap();
    soon("upload", stream.write_all(&pattern(size))).await.unwrap();
    let mut done = [0; 4];
    soon("answer", stream.read_exact(&mut done)).await.unwrap();
    assert_eq!(session.stats().frame_size, 2048);
    assert_eq!(view(&peer, &aws).stats.sockets, 2);
    unbroken(&peer);
}

#[tokio::test]
async fn a_line_that_takes_large_frames_gets_them() {
    let size = 4 << 20;
    let peer = peer(&sink(size).await, |_| {});
    let (session, aws) = open(&peer, SSH).await;
    let mut stream = session.stream().await.unwrap();
    soon("upload", stream.write_all(&pattern(size))).await.unwrap();
    let mut done = [0; 4];
    soon("answer", stream.read_exact(&mut done)).await.unwrap();
    assert_eq!(view(&peer, &aws).stats.largest_in, 16 << 10);
    unbroken(&peer);
}
