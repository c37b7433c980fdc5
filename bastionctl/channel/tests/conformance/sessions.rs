//! Sessions: how they begin, outlive their sockets and end, each end with its one reason, and what hostile
//! peers get. The numbers are those of the list of cases.

use std::{sync::atomic::Ordering, time::Duration};

use palisade_channel::{
    End, Endpoint, Mode, OpenError, Session, SessionError, State, StreamError, stdio,
};
use palisade_peer::{Cut, channel::faults::Hostile};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::Instant,
};

use crate::support::*;

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
