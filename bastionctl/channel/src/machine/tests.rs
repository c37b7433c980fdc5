//! A machine against a simulated agent over a link that loses, doubles and reorders, in virtual time.

use std::collections::{BinaryHeap, VecDeque};

use bytes::BufMut as _;
use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);

/// Bytes of a stream, as the hub gives them.
struct Bytestream {
    left: VecDeque<u8>,
}

impl Source for Bytestream {
    fn fill(&mut self, out: &mut BytesMut, room: usize) {
        let count = room.min(self.left.len());
        for byte in self.left.drain(..count) {
            out.put_u8(byte);
        }
    }

    fn backlog(&self) -> usize {
        self.left.len()
    }
}

fn nothing() -> Bytestream {
    Bytestream { left: VecDeque::new() }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| u8::try_from((i * 7 + i / 251) % 256).unwrap()).collect()
}

/// The agent: the other direction of the same two halves, with the frames' kinds exchanged.
struct Agent {
    inbound: Inbound,
    outbound: Outbound,
    ids: Ids,
    got: Vec<u8>,
    handshaken: bool,
    /// Frames with a longer payload vanish.
    most: usize,
    longest: usize,
}

impl Agent {
    fn new(most: usize) -> Self {
        let mut outbound = Outbound::new(FrameSize::fixed(1024), 4 << 20);
        let request = br#"{"AgentVersion":"3.3.1142.0","RequestedClientActions":[{"ActionType":"SessionType","ActionParameters":{"SessionType":"Port","Properties":{"portNumber":"22"}}}]}"#;
        outbound.control(PayloadType::HANDSHAKE_REQUEST, Bytes::from_static(request));
        Self {
            inbound: Inbound::default(),
            outbound,
            ids: Ids::new(Uuid::from_u128(99), 1),
            got: Vec::new(),
            handshaken: false,
            most,
            longest: 0,
        }
    }

    fn receive(&mut self, now: Duration, bytes: &Bytes) {
        let message = frame::decode(bytes).unwrap();
        match message.kind {
            Kind::Acknowledge => {
                self.outbound.acked(now, ack::read(&message.payload).unwrap());
            }
            Kind::Input if message.payload.len() <= self.most => {
                let Self { inbound, outbound, got, handshaken, longest, .. } = self;
                inbound.received(message, |kind, payload| match kind {
                    PayloadType::HANDSHAKE_RESPONSE => {
                        *handshaken = true;
                        outbound
                            .control(PayloadType::HANDSHAKE_COMPLETE, Bytes::from_static(b"{}"));
                    }
                    PayloadType::OUTPUT => {
                        assert!(*handshaken, "data before the handshake");
                        *longest = payload.len().max(*longest);
                        got.extend_from_slice(&payload);
                    }
                    PayloadType::SIZE => {
                        serde_json::from_slice::<serde_json::Value>(&payload).unwrap();
                    }
                    other => panic!("unexpected payload type {other:?}"),
                });
            }
            Kind::Input => {}
            other => panic!("a client does not send {other:?}"),
        }
    }

    fn poll(&mut self, now: Duration, source: &mut Bytestream) -> Option<Bytes> {
        let as_agent = |frame: Bytes| {
            let message = frame::decode(&frame).unwrap();
            let head = Head {
                kind: if message.kind == Kind::Input { Kind::Output } else { message.kind },
                sequence: message.sequence,
                flags: 0,
                id: message.id,
                payload_type: message.payload_type,
                created_ms: 1,
            };
            frame::encode(head, &message.payload)
        };
        if let Some(owed) = self.inbound.next_ack() {
            let mut payload = BytesMut::new();
            owed.write(&mut payload);
            let head = Head {
                kind: Kind::Acknowledge,
                sequence: 0,
                flags: 3,
                id: self.ids.next(),
                payload_type: PayloadType::NONE,
                created_ms: 1,
            };
            return Some(frame::encode(head, &payload));
        }
        let live = self.handshaken;
        self.outbound.poll(now, live, &mut self.ids, source).map(as_agent)
    }
}

/// What a link does to frames, in percent.
#[derive(Clone, Copy, Debug)]
struct Faults {
    lose: u64,
    double: u64,
    late: u64,
    one_way: Duration,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Flying {
    at: std::cmp::Reverse<Duration>,
    order: std::cmp::Reverse<u64>,
    to_agent: bool,
    bytes: Bytes,
}

struct World {
    client: Machine,
    agent: Agent,
    faults: Faults,
    dice: Ids,
    flying: BinaryHeap<Flying>,
    order: u64,
    now: Duration,
    events: Vec<Event>,
    most_under_way: usize,
}

impl World {
    fn new(faults: Faults, seed: u128, frame: FrameSize, agent_most: usize) -> Self {
        let limits = Limits { frame, window: 1 << 20 };
        Self {
            client: Machine::new(limits, Uuid::from_u128(seed), 1),
            agent: Agent::new(agent_most),
            faults,
            dice: Ids::new(Uuid::from_u128(!seed), 1),
            flying: BinaryHeap::new(),
            order: 0,
            now: Duration::ZERO,
            events: Vec::new(),
            most_under_way: 0,
        }
    }

    fn send(&mut self, to_agent: bool, bytes: &Bytes) {
        let roll = |dice: &mut Ids, percent| dice.random() % 100 < percent;
        let copies = 1 + u32::from(roll(&mut self.dice, self.faults.double));
        for _ in 0..copies {
            if roll(&mut self.dice, self.faults.lose) {
                continue;
            }
            let late =
                if roll(&mut self.dice, self.faults.late) { 15 * MS } else { Duration::ZERO };
            self.order += 1;
            self.flying.push(Flying {
                at: std::cmp::Reverse(self.now + self.faults.one_way + late),
                order: std::cmp::Reverse(self.order),
                to_agent,
                bytes: bytes.clone(),
            });
        }
    }

    /// Runs until `done` or the time is over; gives the time it took.
    fn run(
        &mut self,
        up: &mut Bytestream,
        down: &mut Bytestream,
        until: Duration,
        done: impl Fn(&Self) -> bool,
    ) -> Option<Duration> {
        let begin = self.now;
        while self.now < begin + until {
            while let Some(frame) = self.client.poll(self.now, up) {
                self.send(true, &frame);
            }
            while let Some(frame) = self.agent.poll(self.now, down) {
                self.send(false, &frame);
            }
            self.most_under_way = self.most_under_way.max(self.client.outbound.under_way());
            if done(self) {
                return Some(self.now.saturating_sub(begin));
            }
            let timers = [self.client.deadline(), self.agent.outbound.deadline()];
            let next = self.flying.peek().map(|f| f.at.0);
            let next = timers.into_iter().flatten().chain(next).min()?;
            self.now = next.max(self.now + MS / 10);
            while self.flying.peek().is_some_and(|f| f.at.0 <= self.now) {
                let Some(Flying { to_agent, bytes, .. }) = self.flying.pop() else { break };
                if to_agent {
                    self.agent.receive(self.now, &bytes);
                } else {
                    let events = &mut self.events;
                    self.client.receive(self.now, &bytes, |event| events.push(event)).unwrap();
                }
            }
        }
        None
    }

    fn downloaded(&self) -> Vec<u8> {
        let data = self.events.iter().filter_map(|e| match e {
            Event::Data(bytes) => Some(bytes.as_ref()),
            _ => None,
        });
        data.collect::<Vec<_>>().concat()
    }
}

const CLEAN: Faults = Faults { lose: 0, double: 0, late: 0, one_way: MS };

fn live(frame: FrameSize) -> World {
    let mut world = World::new(CLEAN, 1, frame, usize::MAX);
    let (mut up, mut down) = (nothing(), nothing());
    world.run(&mut up, &mut down, 60 * MS, |w| w.client.is_live()).unwrap();
    world
}

#[test]
fn the_handshake_comes_before_data_and_tells_the_mode() {
    let mut world = World::new(CLEAN, 1, FrameSize::fixed(1024), usize::MAX);
    let mut up = Bytestream { left: pattern(10).into() };
    world.run(&mut up, &mut nothing(), 60 * MS, |w| w.agent.got.len() == 10).unwrap();
    assert_eq!(world.events, [Event::Mode(Mode::Basic), Event::Live(String::new())]);
    assert_eq!(world.agent.got, pattern(10));
}

#[test]
fn a_quarter_of_all_frames_lost_costs_less_than_three_seconds_for_512_kib() {
    for one_way in [MS / 2, 5 * MS, 20 * MS] {
        for seed in 0..8 {
            let faults = Faults { lose: 25, double: 0, late: 0, one_way };
            let mut world = World::new(faults, seed, FrameSize::fixed(1024), usize::MAX);
            let data = pattern(512 << 10);
            let mut up = Bytestream { left: data.clone().into() };
            let mut down = Bytestream { left: data.clone().into() };
            let size = data.len();
            let took = world.run(&mut up, &mut down, 3000 * MS, |w| {
                w.agent.got.len() == size
                    && w.client.stats().received.bytes >= u64::try_from(size).unwrap()
                    && w.downloaded().len() == size
            });
            assert!(
                took.is_some(),
                "seed {seed}, {one_way:?} one way: {} up",
                world.agent.got.len()
            );
            assert!(world.agent.got == data && world.downloaded() == data);
        }
    }
}

#[test]
fn a_clean_line_sends_nothing_twice() {
    let mut world = live(FrameSize::default());
    let data = pattern(2 << 20);
    let mut up = Bytestream { left: data.clone().into() };
    let size = data.len();
    world.run(&mut up, &mut nothing(), 60_000 * MS, |w| w.agent.got.len() == size).unwrap();
    assert!(world.agent.got == data);
    assert_eq!(world.client.stats().sent.resent, 0);
}

#[test]
fn frames_grow_to_the_limit_when_the_line_takes_them() {
    let mut world = live(FrameSize::probing(1024, 16 << 10));
    let mut up = Bytestream { left: pattern(2 << 20).into() };
    world.run(&mut up, &mut nothing(), 60_000 * MS, |w| w.agent.got.len() == 2 << 20).unwrap();
    assert_eq!(world.client.stats().frame_size, 16 << 10);
    assert_eq!(world.agent.longest, 16 << 10);
}

#[test]
fn frames_that_vanish_for_their_size_bring_no_loss_and_the_smaller_size_stays() {
    let mut world = World::new(CLEAN, 3, FrameSize::probing(1024, 16 << 10), 3000);
    let data = pattern(1 << 20);
    let mut up = Bytestream { left: data.clone().into() };
    let size = data.len();
    let took = world.run(&mut up, &mut nothing(), 10_000 * MS, |w| w.agent.got.len() == size);
    assert!(took.is_some_and(|t| t < 3000 * MS), "{took:?}");
    assert!(world.agent.got == data);
    assert_eq!(world.client.stats().frame_size, 2048);
}

#[test]
fn a_close_for_size_takes_back_the_probe() {
    let mut world = live(FrameSize::probing(1024, 16 << 10));
    let mut up = Bytestream { left: pattern(1 << 20).into() };
    let now = world.now;
    let longest = |world: &mut World, up: &mut Bytestream| {
        std::iter::from_fn(|| world.client.poll(now, up)).map(|f| f.len() - frame::HEAD).max()
    };
    assert_eq!(longest(&mut world, &mut up), Some(2048));
    assert_eq!(world.client.too_large(), Ok(()));
    world.client.reconnected(now);
    assert_eq!(longest(&mut world, &mut up), Some(1024));
    assert_eq!(world.client.too_large(), Err(1024));
}

#[test]
fn a_probe_that_two_sockets_died_of_is_taken_back_though_neither_said_why() {
    let mut world = live(FrameSize::probing(1024, 16 << 10));
    let mut up = Bytestream { left: pattern(1 << 20).into() };
    let now = world.now;
    for longest in [2048, 2048, 1024] {
        let frames = std::iter::from_fn(|| world.client.poll(now, &mut up));
        assert_eq!(frames.map(|f| f.len() - frame::HEAD).max(), Some(longest));
        world.client.reconnected(now);
    }
}

#[test]
fn a_new_socket_gets_what_was_not_acknowledged_in_order_and_nothing_else() {
    let mut world = live(FrameSize::fixed(1024));
    let mut up = Bytestream { left: pattern(10 << 10).into() };
    let now = world.now;
    let numbers = |world: &mut World, up: &mut Bytestream| -> Vec<i64> {
        let frames = std::iter::from_fn(|| world.client.poll(now, up));
        frames.map(|f| frame::decode(&f).unwrap().sequence).collect()
    };
    let sent = numbers(&mut world, &mut up);
    assert_eq!(sent.len(), 10);
    world.client.outbound.acked(now, sent[3]);
    world.client.reconnected(now);
    let again = numbers(&mut world, &mut up);
    assert_eq!(again, [&sent[..3], &sent[4..]].concat());
}

#[test]
fn a_pause_stops_new_data_until_the_start_and_never_what_is_overdue() {
    let mut world = live(FrameSize::fixed(1024));
    let mut up = Bytestream { left: pattern(4 << 10).into() };
    assert!(world.client.poll(world.now, &mut up).is_some());
    world.client.outbound.pause(world.now);
    assert!(world.client.poll(world.now, &mut up).is_none());
    let later = world.now + 500 * MS;
    assert!(world.client.poll(later, &mut up).is_some(), "the overdue frame");
    assert!(world.client.poll(later, &mut up).is_none());
    world.client.outbound.start();
    assert!(world.client.poll(later, &mut up).is_some());
    assert_eq!(up.left.len(), 2 << 10);
}

#[test]
fn a_pause_without_a_start_ends_by_itself() {
    let mut world = live(FrameSize::fixed(1024));
    world.client.outbound.pause(world.now);
    let mut up = Bytestream { left: pattern(1 << 10).into() };
    assert!(world.client.poll(world.now, &mut up).is_none());
    let due = world.client.deadline().unwrap();
    assert!(due <= world.now + 5000 * MS);
    assert!(world.client.poll(due, &mut up).is_some());
}

#[test]
fn a_window_that_is_full_stops_the_source_and_drops_nothing() {
    let mut world = live(FrameSize::fixed(1024));
    let mut up = Bytestream { left: pattern(8 << 20).into() };
    let frames = std::iter::from_fn(|| world.client.poll(world.now, &mut up)).count();
    assert!((100..150).contains(&frames), "{frames}");
    assert!(up.left.len() > 7 << 20);
}

#[test]
fn every_overdue_frame_goes_again_and_not_only_the_oldest() {
    let mut world = live(FrameSize::fixed(1024));
    let mut up = Bytestream { left: pattern(40 << 10).into() };
    let first = std::iter::from_fn(|| world.client.poll(world.now, &mut up)).count();
    let later = world.now + 400 * MS;
    let again = std::iter::from_fn(|| world.client.poll(later, &mut up)).count();
    assert_eq!((first, again), (40, 40));
}

#[test]
fn acknowledgements_pauses_and_starts_are_not_acknowledged() {
    let mut world = live(FrameSize::fixed(1024));
    let now = world.now;
    for kind in [Kind::Acknowledge, Kind::Pause, Kind::Start, Kind::Other, Kind::ChannelClosed] {
        let head = Head {
            kind,
            sequence: 0,
            flags: 0,
            id: Uuid::nil(),
            payload_type: PayloadType::NONE,
            created_ms: 1,
        };
        world.client.receive(now, &frame::encode(head, b"{}"), |_| {}).unwrap();
    }
    assert_eq!(world.client.poll(now, &mut nothing()), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn everything_arrives_once_and_in_order_whatever_the_line_does(
        seed: u128, lose in 0u64..40, double in 0u64..40, late in 0u64..50, way in 1u32..40,
        up_size in 0usize..60_000, down_size in 0usize..60_000,
    ) {
        let faults = Faults { lose, double, late, one_way: way * MS };
        let mut world = World::new(faults, seed, FrameSize::default(), usize::MAX);
        let (up_data, down_data) = (pattern(up_size), pattern(down_size));
        let mut up = Bytestream { left: up_data.clone().into() };
        let mut down = Bytestream { left: down_data.clone().into() };
        let done = world.run(&mut up, &mut down, 120_000 * MS, |w| {
            w.agent.got.len() >= up_size && w.downloaded().len() >= down_size && w.client.is_live()
        });
        prop_assert!(done.is_some());
        prop_assert!(world.agent.got == up_data);
        prop_assert!(world.downloaded() == down_data);
        prop_assert!(world.most_under_way <= 1 << 20);
    }

    #[test]
    fn hostile_frames_neither_panic_nor_fill_the_memory(
        frames in prop::collection::vec(
            (0usize..7, any::<i64>(), 0u32..14, prop::collection::vec(any::<u8>(), 0..200)), 0..200),
    ) {
        let mut world = live(FrameSize::fixed(1024));
        let kinds = [Kind::Input, Kind::Output, Kind::Acknowledge, Kind::ChannelClosed,
                     Kind::Start, Kind::Pause, Kind::Other];
        for (kind, sequence, payload_type, payload) in frames {
            let head = Head {
                kind: kinds[kind], sequence, flags: 0, id: Uuid::nil(),
                payload_type: PayloadType(payload_type), created_ms: 1,
            };
            let frame = frame::encode(head, &payload);
            world.client.receive(world.now, &frame, |_| {}).unwrap_or_default();
            prop_assert!(world.client.inbound.held_bytes() <= 8 << 20);
        }
    }
}
