use bytes::BufMut as _;

use super::*;

const MS: Duration = Duration::from_millis(1);
const LINGER: Duration = Duration::from_secs(1);

fn hub(mode: Mode) -> Hub {
    let mut hub = Hub::new(LINGER);
    hub.begin(mode);
    hub
}

fn mux() -> Hub {
    hub(Mode::Mux { keep_alive: false })
}

/// What one frame of `room` bytes would carry.
fn frame(hub: &mut Hub, room: usize) -> Vec<Piece> {
    let mut out = BytesMut::new();
    hub.fill(&mut out, room);
    assert!(out.len() <= room);
    let mut pieces = Vec::new();
    Decoder::default().take(out.freeze(), |piece| pieces.push(piece)).unwrap();
    pieces
}

fn push(hub: &mut Hub, id: u32, bytes: &[u8]) {
    let mut out = BytesMut::new();
    for part in bytes.chunks(smux::MOST) {
        smux::write(&mut out, Command::Push, id, u16::try_from(part.len()).unwrap());
        out.put_slice(part);
    }
    hub.received(out.freeze()).unwrap();
}

fn finish(hub: &mut Hub, id: u32) {
    let mut out = BytesMut::new();
    smux::write(&mut out, Command::Finish, id, 0);
    hub.received(out.freeze()).unwrap();
}

#[test]
fn streams_have_odd_numbers_from_three_and_are_announced_before_they_have_bytes() {
    let mut hub = mux();
    assert_eq!((hub.open(), hub.open()), (Ok(3), Ok(5)));
    assert_eq!(frame(&mut hub, 1024), [Piece::Open(3), Piece::Open(5)]);
    assert_eq!(frame(&mut hub, 1024), []);
}

#[test]
fn sending_streams_take_turns() {
    let mut hub = mux();
    let (a, b) = (hub.open().unwrap(), hub.open().unwrap());
    frame(&mut hub, 1024);
    hub.write(a, &[1; 5000]);
    hub.write(b, &[2; 10]);
    let first = frame(&mut hub, 1000);
    assert!(matches!(first.as_slice(), [Piece::Data(3, data)] if data.len() == 992));
    let second = frame(&mut hub, 1000);
    assert!(
        matches!(second.as_slice(), [Piece::Data(5, small), Piece::Data(3, _)] if small.len() == 10)
    );
}

#[test]
fn a_writer_gets_no_more_than_its_buffer() {
    let mut hub = mux();
    let id = hub.open().unwrap();
    assert_eq!(hub.write(id, &vec![0; 1 << 20]), OUT);
    assert_eq!(hub.write(id, &[0]), 0);
    assert!(!hub.lines[&id].has_room());
    assert_eq!(hub.backlog(), OUT);
}

#[test]
fn the_end_of_writing_is_told_after_the_other_side_has_been_silent() {
    let mut hub = mux();
    let id = hub.open().unwrap();
    hub.write(id, b"request");
    hub.done(id, false);
    assert_eq!(frame(&mut hub, 1024).len(), 2, "no end yet: it would cut the answer off");
    assert_eq!(hub.deadline(), Some(LINGER));
    hub.tick(600 * MS);
    push(&mut hub, id, b"half an answer");
    hub.tick(1200 * MS);
    assert_eq!(frame(&mut hub, 1024), []);
    hub.tick(1600 * MS);
    assert_eq!(frame(&mut hub, 1024), [Piece::Finish(id)]);
    assert!(!hub.lines[&id].in_done, "the rest of the answer may still come");
    hub.tick(1600 * MS + FIN_WAIT);
    assert!(hub.lines[&id].in_done);
}

#[test]
fn a_stream_that_is_dropped_sends_what_was_written_and_ends_at_once() {
    let mut hub = mux();
    let id = hub.open().unwrap();
    hub.write(id, b"bye");
    hub.done(id, true);
    hub.tick(MS);
    let pieces = frame(&mut hub, 1024);
    assert_eq!(
        pieces,
        [Piece::Open(id), Piece::Data(id, Bytes::from_static(b"bye")), Piece::Finish(id)]
    );
    hub.tick(2 * MS);
    assert!(hub.lines.is_empty());
    push(&mut hub, id, b"late");
    assert_eq!(hub.waiting_in, 0);
}

#[test]
fn a_refused_connection_breaks_its_stream_and_no_other() {
    let mut hub = mux();
    let (a, b) = (hub.open().unwrap(), hub.open().unwrap());
    push(&mut hub, a, b"works");
    hub.connect_failed();
    finish(&mut hub, b);
    finish(&mut hub, a);
    assert_eq!(hub.lines[&b].failed, Some(StreamError::ConnectFailed));
    assert_eq!(hub.lines[&a].failed, None);
}

#[test]
fn the_word_that_a_connection_failed_may_come_behind_the_streams_end() {
    let mut hub = mux();
    let (a, b) = (hub.open().unwrap(), hub.open().unwrap());
    finish(&mut hub, a);
    assert!(!hub.lines[&a].in_done);
    hub.connect_failed();
    assert_eq!(hub.lines[&a].failed, Some(StreamError::ConnectFailed));
    finish(&mut hub, b);
    hub.tick(hub.deadline().unwrap());
    assert!(hub.lines[&b].in_done, "without a word it is a plain end");
    assert_eq!(hub.lines[&b].failed, None);
}

#[test]
fn a_stream_that_is_not_read_is_given_up_when_it_has_held_up_others_for_long() {
    let mut hub = mux();
    let (slow, other) = (hub.open().unwrap(), hub.open().unwrap());
    push(&mut hub, slow, &vec![0; POOL]);
    assert!(!hub.can_receive());
    hub.tick(MS);
    assert_eq!(hub.deadline(), Some(MS + STUCK));
    hub.tick(STUCK);
    assert!(!hub.can_receive());
    hub.tick(MS + STUCK);
    assert!(hub.can_receive());
    assert_eq!(hub.lines[&slow].failed, Some(StreamError::Stuck));
    assert_eq!(hub.lines[&other].failed, None);
}

#[test]
fn a_stream_alone_may_wait_for_its_reader_for_ever() {
    let mut hub = mux();
    let only = hub.open().unwrap();
    push(&mut hub, only, &vec![0; ALONE]);
    assert!(!hub.can_receive());
    hub.tick(100 * STUCK);
    assert_eq!(hub.lines[&only].failed, None);
    hub.lines.get_mut(&only).unwrap().input.drain(..1000);
    hub.took(1000);
    assert!(hub.can_receive());
}

#[test]
fn bytes_for_streams_that_do_not_exist_are_dropped() {
    let mut hub = mux();
    for id in [0, 1, 2, 4, u32::MAX] {
        push(&mut hub, id, b"?");
        finish(&mut hub, id);
    }
    assert_eq!((hub.lines.len(), hub.waiting_in), (0, 0));
}

#[test]
fn old_agents_get_signs_of_life_and_new_ones_do_not() {
    let mut old = hub(Mode::Mux { keep_alive: true });
    assert_eq!(old.deadline(), Some(KEEP_ALIVE));
    old.tick(KEEP_ALIVE);
    assert_eq!(frame(&mut old, 1024), [Piece::Nothing]);
    assert_eq!(frame(&mut old, 1024), []);
    assert_eq!(old.deadline(), Some(2 * KEEP_ALIVE));
    assert_eq!(mux().deadline(), None);
}

#[test]
fn a_basic_session_has_one_stream_which_keeps_what_comes_before_it_is_claimed() {
    let mut hub = hub(Mode::Basic);
    hub.received(Bytes::from_static(b"SSH-2.0\r\n")).unwrap();
    assert_eq!(hub.open(), Ok(0));
    assert_eq!(hub.lines[&0].input.len(), 9);
    assert_eq!(hub.open(), Err(OpenError::InUse));
}

#[test]
fn a_sequential_session_has_one_stream_after_another() {
    let mut hub = hub(Mode::Sequential);
    let first = hub.open().unwrap();
    assert_eq!(hub.open(), Err(OpenError::InUse));
    hub.done(first, true);
    assert!(hub.tick(MS), "now the agent is told to disconnect");
    assert!(!hub.tick(2 * MS), "once");
    hub.received(Bytes::from_static(b"of the old connection")).unwrap();
    hub.closed();
    let second = hub.open().unwrap();
    hub.done(first, true);
    assert!(hub.lines[&second].input.is_empty() && hub.lines[&second].out_done.is_none());
}

#[test]
fn numbers_of_streams_are_bounded() {
    let mut hub = mux();
    for _ in 0..MOST_STREAMS {
        hub.open().unwrap();
    }
    assert_eq!(hub.open(), Err(OpenError::TooMany));
    let mut hub = mux();
    hub.next = u32::MAX;
    assert_eq!(hub.open(), Err(OpenError::Exhausted));
}

#[test]
fn the_only_stream_of_a_session_waits_in_no_queue() {
    for mode in [Mode::Basic, Mode::Sequential] {
        let mut hub = hub(mode);
        let id = hub.open().unwrap();
        for _ in 0..100 {
            assert_eq!(hub.write(id, b"abc"), 3);
            let mut out = BytesMut::new();
            hub.fill(&mut out, 1024);
            assert_eq!(out.as_ref(), b"abc");
        }
        assert!(hub.turns.is_empty(), "{} turns", hub.turns.len());
    }
}
