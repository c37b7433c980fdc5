//! The client against a strict peer: one test for each case of the list C01..C44 that concerns this
//! library, with the peer's list of broken rules empty at the end.

use std::{sync::Arc, sync::atomic::Ordering, time::Duration};

use palisade_channel::{
    End, Endpoint, FrameSize, Mode, OpenError, Session, SessionError, State, StreamError, stdio,
};
use palisade_peer::{Cut, Peer, channel::faults::Hostile};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{self, Instant},
};

use crate::support::*;

/// Sends `data` through a stream of its own and reads as much back.
async fn round_trip(session: &Session, data: &[u8]) -> Vec<u8> {
    let stream = session.stream().await.unwrap();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut got = vec![0; data.len()];
    let (sent, read) =
        soon("echo", async { tokio::join!(writer.write_all(data), reader.read_exact(&mut got)) })
            .await;
    sent.unwrap();
    read.unwrap();
    got
}

fn unbroken(peer: &Peer) {
    assert_eq!(peer.violations(), []);
}

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

// C14, C15
#[tokio::test]
async fn a_cut_of_either_kind_is_only_a_pause() {
    for (how, document) in
        [(Cut::Abrupt, SSH), (Cut::Bye, SSH), (Cut::Abrupt, FORWARD), (Cut::Bye, FORWARD)]
    {
        let peer = peer(&echo().await, |_| {});
        let (session, aws) = open(&peer, document).await;
        let mut stream = session.stream().await.unwrap();
        for round in 0..3 {
            let data = pattern(5_000 + round);
            stream.write_all(&data).await.unwrap();
            let mut got = vec![0; data.len()];
            soon("echo", stream.read_exact(&mut got)).await.unwrap();
            assert!(got == data);
            assert!(peer.cut(&aws.session, how));
        }
        until("resumed", || view(&peer, &aws).stats.sockets == 4).await;
        unbroken(&peer);
    }
}

// C16
#[tokio::test]
async fn a_transfer_survives_a_socket_that_is_cut_again_and_again() {
    let peer = peer(&echo().await, |_| {});
    let (session, aws) = open(&peer, SSH).await;
    soon("handshake", session.live()).await.unwrap();
    peer.faults(|f| f.cut_after = 300);
    let data = pattern(500_000);
    assert!(round_trip(&session, &data).await == data);
    assert!(view(&peer, &aws).stats.sockets > 3);
    unbroken(&peer);
}

// C17
#[tokio::test]
async fn a_session_that_cannot_be_resumed_ends_with_that_reason() {
    let peer = peer(&echo().await, |_| {});
    let (session, aws) = open(&peer, SSH).await;
    let mut stream = session.stream().await.unwrap();
    peer.faults(|f| f.resume_null = true);
    assert!(peer.cut(&aws.session, Cut::Abrupt));
    let end = within("end", Duration::from_secs(5), session.end()).await;
    assert!(matches!(end, End::Gone { .. }), "{end}");
    let error = stream.read_u8().await.unwrap_err();
    assert!(error.to_string().contains("the session is over"), "{error}");
}

// C18
#[tokio::test]
async fn a_resume_that_is_refused_ends_the_session_and_one_that_fails_is_tried_again() {
    let peer = peer(&echo().await, |_| {});
    let (session, aws) = open(&peer, SSH).await;
    let mut stream = session.stream().await.unwrap();
    peer.faults(|f| f.resume_error = "InternalServerError".to_owned());
    assert!(peer.cut(&aws.session, Cut::Abrupt));
    let mut state = session.state();
    let third = |s: &State| matches!(s, State::Reconnecting { attempt, .. } if *attempt >= 3);
    soon("third attempt", state.wait_for(third)).await.unwrap();
    stream.write_all(b"meanwhile").await.unwrap();
    peer.faults(|f| f.resume_error = String::new());
    let mut got = [0; 9];
    soon("echo", stream.read_exact(&mut got)).await.unwrap();
    assert_eq!(&got, b"meanwhile");
    peer.faults(|f| f.resume_error = "AccessDeniedException".to_owned());
    assert!(peer.cut(&aws.session, Cut::Abrupt));
    let end = within("end", Duration::from_secs(5), session.end()).await;
    assert!(matches!(&end, End::Denied { why } if why.contains("AccessDenied")), "{end}");
}

#[tokio::test]
async fn a_connection_that_does_not_come_back_in_time_ends_the_session_as_lost() {
    let peer = peer(&echo().await, |_| {});
    let short = |o: &mut palisade_channel::Options| o.resume_for = Duration::from_secs(1);
    let (session, aws) = open_with(&peer, SSH, short).await;
    soon("handshake", session.live()).await.unwrap();
    peer.faults(|f| f.resume_error = "InternalServerError".to_owned());
    assert!(peer.cut(&aws.session, Cut::Abrupt));
    let end = within("end", Duration::from_secs(10), session.end()).await;
    assert!(matches!(end, End::Lost { .. }), "{end}");
}

// C19, G35
#[tokio::test]
async fn the_services_reason_is_passed_on_without_its_escape_sequences() {
    let peer = peer(&echo().await, |_| {});
    let (session, aws) = open(&peer, SSH).await;
    soon("handshake", session.live()).await.unwrap();
    assert!(peer.end(&aws.session, "idle \u{1b}[31mfor\u{7} too long"));
    let end = soon("end", session.end()).await;
    assert_eq!(end, End::Closed { output: "idle [31mfor too long".to_owned() });
    assert_eq!(aws.terminated.load(Ordering::SeqCst), 0);
}

// C20
#[tokio::test]
async fn nothing_but_the_hosts_bytes_reaches_standard_output() {
    let greeting = server(|mut socket| async move {
        socket.write_all(b"SSH-2.0-test\r\n").await.unwrap();
    })
    .await;
    let peer = peer(&greeting, |c| c.faults.handshake.customer_message = "Welcome!".to_owned());
    let (session, _) = open(&peer, SSH).await;
    let state = session.state();
    let mut output = Vec::new();
    let (idle, _keep) = tokio::io::duplex(64);
    let end = soon("end", stdio::join(session, idle, &mut output)).await.unwrap();
    assert_eq!(output, b"SSH-2.0-test\r\n");
    assert!(matches!(end, End::Closed { .. }), "{end}");
    drop(state);
}

#[tokio::test]
async fn the_accounts_message_is_told_when_the_session_is_live() {
    let peer =
        peer(&echo().await, |c| c.faults.handshake.customer_message = "Hi\u{1b}[2J".to_owned());
    let (session, _) = open(&peer, SSH).await;
    soon("handshake", session.live()).await.unwrap();
    let live = State::Live { mode: Mode::Basic, message: "Hi[2J".to_owned() };
    assert_eq!(*session.state().borrow(), live);
}

// C22, C23
#[tokio::test]
async fn what_this_client_cannot_do_is_refused_in_the_handshake_with_a_reason() {
    for kms in [false, true] {
        let peer = peer(&echo().await, |c| {
            c.faults.handshake.unknown_action = !kms;
            c.faults.handshake.kms = kms;
        });
        let (session, aws) = open(&peer, SSH).await;
        let end = within("end", Duration::from_secs(8), session.end()).await;
        assert!(matches!(end, End::Unsupported(_)), "{end}");
        ended(&peer, &aws).await;
        unbroken(&peer);
    }
}

// C24, C25
#[tokio::test]
async fn a_slow_handshake_is_waited_for_and_no_data_goes_before_its_end() {
    let peer = peer(&echo().await, |c| {
        c.faults.handshake.request_delay_ms = 1500;
        c.faults.handshake.complete_delay_ms = 1500;
    });
    let (session, _) = open(&peer, SSH).await;
    assert_eq!(round_trip(&session, b"early").await, b"early");
    unbroken(&peer);
}

#[tokio::test]
async fn a_handshake_that_never_comes_ends_the_session_with_that_reason() {
    let peer = peer(&echo().await, |c| c.faults.handshake.never = true);
    let brief = |o: &mut palisade_channel::Options| o.handshake = Duration::from_secs(1);
    let (session, aws) = open_with(&peer, SSH, brief).await;
    let end = within("end", Duration::from_secs(8), session.end()).await;
    assert!(matches!(end, End::Handshake { .. }), "{end}");
    assert_eq!(aws.terminated.load(Ordering::SeqCst), 1);
}

// C27, C28: what a signal's handler does.
#[tokio::test]
async fn a_session_that_is_dropped_or_closed_is_terminated_on_the_host() {
    for close in [false, true] {
        let peer = peer(&echo().await, |_| {});
        let (session, aws) = open(&peer, SSH).await;
        let stream = session.stream().await.unwrap();
        if close {
            assert_eq!(
                within("close", Duration::from_secs(3), session.close()).await,
                End::Cancelled
            );
        } else {
            drop(session);
        }
        within("end", Duration::from_secs(3), ended(&peer, &aws)).await;
        drop(stream);
        unbroken(&peer);
    }
}

#[tokio::test]
async fn a_session_is_terminated_by_the_api_when_its_socket_is_gone() {
    let peer = peer(&echo().await, |_| {});
    let (session, aws) = open(&peer, SSH).await;
    soon("handshake", session.live()).await.unwrap();
    peer.faults(|f| f.resume_error = "InternalServerError".to_owned());
    assert!(peer.cut(&aws.session, Cut::Abrupt));
    let mut state = session.state();
    let lost = |s: &State| matches!(s, State::Reconnecting { .. });
    soon("loss", state.wait_for(lost)).await.unwrap();
    within("close", Duration::from_secs(4), session.close()).await;
    ended(&peer, &aws).await;
}

// C29
#[tokio::test]
async fn the_end_of_standard_input_sends_what_was_read_and_ends_the_session() {
    let peer = peer(&echo().await, |_| {});
    let (session, aws) = open(&peer, SSH).await;
    let data = pattern(100_000);
    let mut output = Vec::new();
    let end =
        within("end", Duration::from_secs(10), stdio::join(session, data.as_slice(), &mut output));
    assert_eq!(end.await.unwrap(), End::Finished);
    assert!(output == data);
    ended(&peer, &aws).await;
    unbroken(&peer);
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

// C31, C32
#[tokio::test]
async fn a_port_where_nobody_listens_is_said_to_be_one() {
    let peer = peer("127.0.0.1:1", |_| {});
    let (session, _) = open(&peer, FORWARD).await;
    let mut stream = session.stream().await.unwrap();
    let error = soon("refusal", stream.read_u8()).await.unwrap_err();
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<StreamError>());
    assert_eq!(inner, Some(&StreamError::ConnectFailed), "{error}");
    assert!(!session.is_over(), "another stream may work");
}

// C33
#[tokio::test]
async fn old_agents_get_the_keep_alive_that_they_wait_for() {
    let peer = peer(&echo().await, |c| c.agent_version = "3.1.1511.0".to_owned());
    let (session, aws) = open(&peer, FORWARD).await;
    assert_eq!(soon("handshake", session.live()).await, Ok(Mode::Mux { keep_alive: true }));
    until("sign of life", || view(&peer, &aws).stats.nops >= 1).await;
}

// C34
#[tokio::test]
async fn an_agent_without_multiplexer_serves_one_connection_after_another() {
    for version in ["2.3.0.0", "3.0.196.0"] {
        let peer = peer(&echo().await, |c| c.agent_version = version.to_owned());
        let (session, _) = open(&peer, FORWARD).await;
        assert_eq!(soon("handshake", session.live()).await, Ok(Mode::Sequential));
        for round in 0..3 {
            let data = pattern(3000 + round);
            assert!(round_trip(&session, &data).await == data, "{version}, connection {round}");
        }
        unbroken(&peer);
    }
}

// C35
#[tokio::test]
async fn a_basic_session_has_one_stream() {
    let peer = peer(&echo().await, |_| {});
    let (session, _) = open(&peer, SSH).await;
    let _first = session.stream().await.unwrap();
    let second = session.stream().await.map(|_| ());
    assert_eq!(second, Err(SessionError::Open(OpenError::InUse)));
}

// C38: what the receiving side can do for it. The real agent sends its oldest frame again every 100 ms and
// no other, which bounds it by itself: 128 lost frames take it 13 s, whoever listens.
#[tokio::test]
async fn a_download_that_loses_a_quarter_of_its_frames_is_as_fast_as_the_agent_sends_again() {
    let size = 512 << 10;
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
    assert!(got == pattern(size) && took < Duration::from_secs(3), "{took:?}");
    unbroken(&peer);
}

// C36: the peer resends one frame for each of its looks, as the real agent does.
#[tokio::test]
async fn an_upload_that_loses_a_quarter_of_its_frames_takes_less_than_three_seconds() {
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
    stream.write_all(&data).await.unwrap();
    let mut done = [0; 4];
    soon("answer", stream.read_exact(&mut done)).await.unwrap();
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    unbroken(&peer);
}

// C37
#[tokio::test]
async fn a_burst_that_is_lost_is_sent_again_as_one() {
    let peer = peer(&sink(200 << 10).await, |_| {});
    let fixed = |o: &mut palisade_channel::Options| o.frame = FrameSize::fixed(1024);
    let (session, _) = open_with(&peer, SSH, fixed).await;
    let mut stream = session.stream().await.unwrap();
    peer.faults(|f| f.to_agent.data.lose_first = 100);
    let begin = Instant::now();
    stream.write_all(&pattern(200 << 10)).await.unwrap();
    let mut done = [0; 4];
    soon("answer", stream.read_exact(&mut done)).await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
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
    let mut worst = Duration::ZERO;
    for _ in 0..15 {
        let peer = peer(&greeting, |_| {});
        let (started, aws, options) = started(&peer, SSH).await;
        let begin = Instant::now();
        let session = Session::open(started, aws, options);
        let mut stream = session.stream().await.unwrap();
        let mut got = [0; 15];
        soon("greeting", stream.read_exact(&mut got)).await.unwrap();
        worst = worst.max(begin.elapsed());
        assert_eq!(session.stats().received.duplicates, 0, "nothing had to come twice");
    }
    println!("first byte, worst of 15: {worst:?}");
    assert!(worst < Duration::from_millis(250), "{worst:?}");
}

// C41
#[tokio::test]
async fn sessions_leave_no_socket_behind() {
    let peer = peer(&echo().await, |_| {});
    let port: u16 = peer.ws_url().rsplit_once(':').unwrap().1.parse().unwrap();
    // Established, or closed by one end only.
    let open_sockets = || {
        let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
        let ours = format!(":{port:04X} ");
        let live = |line: &&str| line.contains(" 01 ") || line.contains(" 08 ");
        table.lines().filter(|line| line.contains(&ours)).filter(live).count()
    };
    for _ in 0..5 {
        let (session, aws) = open(&peer, FORWARD).await;
        assert_eq!(round_trip(&session, b"x").await, b"x");
        assert!(open_sockets() > 0);
        soon("close", session.close()).await;
        ended(&peer, &aws).await;
    }
    until("end of all sockets", || open_sockets() == 0).await;
}

// C42
#[tokio::test]
async fn a_wrong_token_ends_the_session_in_seconds() {
    let peer = peer(&echo().await, |_| {});
    let (mut started, aws, options) = started(&peer, SSH).await;
    started.token = palisade_channel::Token::new("wrong");
    peer.faults(|f| f.resume_null = true);
    let begin = Instant::now();
    let session = Session::open(started, aws, options);
    let end = within("end", Duration::from_secs(10), session.end()).await;
    assert!(matches!(end, End::Gone { .. } | End::Handshake { .. }), "{end}");
    println!("wrong token: {end} after {:?}", begin.elapsed());
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

// G33
#[tokio::test]
async fn a_token_is_not_sent_to_an_address_that_is_not_the_services() {
    let peer = peer(&echo().await, |_| {});
    let (mut started, aws, mut options) = started(&peer, SSH).await;
    started.stream_url = format!("{}/v1/data-channel/x?role=publish_subscribe", peer.ws_url());
    options.dialer.endpoint = None;
    let session = Session::open(started, aws.clone(), options);
    let end = within("end", Duration::from_secs(5), session.end()).await;
    assert!(matches!(end, End::Address(_)), "{end}");
    assert_eq!(view(&peer, &aws).stats.sockets, 0);
    assert_eq!(aws.terminated.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_service_that_cannot_be_reached_is_said_to_be_one() {
    let peer = peer(&echo().await, |_| {});
    let (session, _) = open_with(&peer, SSH, |o| {
        o.dialer.endpoint = Some(Endpoint::read("ws://127.0.0.1:1").unwrap());
        o.handshake = Duration::from_secs(1);
    })
    .await;
    let end = within("end", Duration::from_secs(10), session.end()).await;
    assert!(matches!(end, End::Unreachable { .. }), "{end}");
}

// G34
#[tokio::test]
async fn hostile_frames_are_survived_or_end_the_session_with_a_reason() {
    for what in [
        Hostile::HugeLength,
        Hostile::HeaderZero,
        Hostile::HeaderPastEnd,
        Hostile::Short,
        Hostile::NegativeSeq,
        Hostile::HugeSeq,
        Hostile::UnknownType,
        Hostile::FalseAck,
        Hostile::BadAck,
        Hostile::Text,
        Hostile::SecondHandshake,
        Hostile::OutOfOrder { from: 100_000, count: 50_000 },
        Hostile::Raw(vec![0; 3000]),
    ] {
        let peer = peer(&echo().await, |_| {});
        let (session, aws) = open(&peer, SSH).await;
        soon("handshake", session.live()).await.unwrap();
        assert!(peer.hostile(&aws.session, what.clone()));
        let data = pattern(5000);
        assert!(round_trip(&session, &data).await == data, "{what:?}");
    }
}

#[tokio::test]
async fn a_peer_that_sends_only_garbage_is_left() {
    let peer = peer(&echo().await, |_| {});
    let (session, aws) = open(&peer, SSH).await;
    soon("handshake", session.live()).await.unwrap();
    for _ in 0..100 {
        let told = peer.hostile(&aws.session, Hostile::HeaderZero);
        if !told {
            break;
        }
    }
    let end = within("end", Duration::from_secs(10), session.end()).await;
    assert!(matches!(end, End::Protocol { .. }), "{end}");
}

#[tokio::test]
async fn a_multiplexer_of_another_version_ends_the_session_with_that_reason() {
    for bytes in [vec![2, 0, 0, 0, 3, 0, 0, 0], vec![1, 9, 0, 0, 3, 0, 0, 0]] {
        let peer = peer(&echo().await, |_| {});
        let (session, aws) = open(&peer, FORWARD).await;
        soon("handshake", session.live()).await.unwrap();
        assert!(peer.hostile(&aws.session, Hostile::Data(bytes)));
        let end = within("end", Duration::from_secs(10), session.end()).await;
        assert!(matches!(end, End::Protocol { .. }), "{end}");
    }
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
    assert_eq!(within("echo", Duration::from_millis(500), stream.read_u8()).await.unwrap(), b'b');
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
