//! The bus with listeners in memory, whose agents die between any two of their system calls.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use proptest::prelude::*;

use super::{Counts, Join, Line, Message, event::BusEvent, task::Bus};
use crate::{
    clock::{SetClock, Timestamp},
    supervise::{Listener, Notes, WrittenTo},
};

/// What a host keeps while agents come and go.
#[derive(Debug, Default)]
struct World {
    /// System calls that the agent makes before it dies; none if it lives on.
    left: Option<u32>,
    notes: BTreeMap<String, Vec<u8>>,
    /// The pool serials of events that the listener has not read.
    stdin: VecDeque<u64>,
    is_written: bool,
    stdout: Vec<u8>,
}

#[derive(Clone, Debug, Default)]
struct Host(Arc<Mutex<World>>);

impl Host {
    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The world for one system call, if the agent lives to make it.
    fn call(&self) -> Option<MutexGuard<'_, World>> {
        let mut world = self.world();
        match &mut world.left {
            Some(0) => return None,
            Some(left) => *left -= 1,
            None => {}
        }
        Some(world)
    }
}

impl Notes for Host {
    fn note(&self, key: &str, bytes: &[u8]) -> io::Result<()> {
        if let Some(mut world) = self.call() {
            world.notes.insert(key.to_owned(), bytes.to_vec());
        }
        Ok(())
    }

    fn noted(&self, key: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.world().notes.get(key).cloned())
    }

    fn forget(&self, key: &str) {
        if let Some(mut world) = self.call() {
            world.notes.remove(key);
        }
    }
}

impl Line for Host {
    fn peek(&self, into: &mut Vec<u8>) -> io::Result<()> {
        into.clone_from(&self.world().stdout);
        Ok(())
    }

    fn consume(&self, bytes: usize) -> io::Result<()> {
        if bytes > 0 {
            match self.call() {
                Some(mut world) => drop(world.stdout.drain(..bytes)),
                // What a dead agent does not take out it does not see again either.
                None => return Err(io::ErrorKind::BrokenPipe.into()),
            }
        }
        Ok(())
    }

    fn offer(&self, bytes: &[u8]) -> io::Result<()> {
        if let Some(mut world) = self.call() {
            let text = String::from_utf8_lossy(bytes).into_owned();
            let serial = text.split_once("poolserial:").unwrap().1;
            world.stdin.push_back(serial.split(' ').next().unwrap().parse().unwrap());
            world.is_written = true;
        }
        Ok(())
    }

    fn mark(&self) -> io::Result<()> {
        if let Some(mut world) = self.call() {
            world.is_written = false;
        }
        Ok(())
    }

    fn written(&self) -> WrittenTo {
        if self.world().is_written { WrittenTo::Yes } else { WrittenTo::No }
    }
}

fn bus(host: &Host) -> Bus<Host, SetClock> {
    let clock = Arc::new(SetClock::at(Timestamp::from_secs(1_000_000)));
    let mut bus = Bus::new(host.clone(), clock, Arc::new(Counts::default()));
    let listener = Listener::new(["EVENT".to_owned()].into(), 1000);
    bus.hear(Message::Pools([("mail".parse().unwrap(), listener)].into()));
    bus
}

fn join(bus: &mut Bus<Host, SetClock>, host: &Host, is_adopted: bool) {
    bus.hear(Message::Join(Join {
        name: "mail".parse().unwrap(),
        group: "mail".parse().unwrap(),
        pid: 7,
        is_adopted,
        is_up: true,
        line: Box::new(host.clone()),
    }));
}

fn read(bus: &mut Bus<Host, SetClock>) {
    let (tx, _rx) = tokio::sync::oneshot::channel();
    bus.hear(Message::Look("mail".parse().unwrap(), 7, tx));
    bus.dispatch();
}

fn happens(bus: &mut Bus<Host, SetClock>, host: &Host, n: u64) {
    bus.hear(Message::Happened(BusEvent::remote("n", &n.to_string())));
    if host.world().left.is_none() {
        bus.dispatch();
    }
}

/// What the listener is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Nothing,
    Waits,
    Works(u64),
}

#[derive(Clone, Debug)]
enum Move {
    Happens,
    SaysReady,
    Reads,
    Answers(bool),
    AgentReads,
    AgentSaves,
    /// The agent dies after so many system calls, at the latest before the next move.
    AgentDies(u32),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        3 => Just(Move::Happens),
        3 => Just(Move::SaysReady),
        3 => Just(Move::Reads),
        3 => prop::bool::weighted(0.8).prop_map(Move::Answers),
        4 => Just(Move::AgentReads),
        1 => Just(Move::AgentSaves),
        2 => (0..8_u32).prop_map(Move::AgentDies),
    ];
    proptest::collection::vec(one, 0..150)
}

fn listener_moves(m: &Move, host: &Host, doing: &mut Doing, done: &mut Vec<u64>) {
    let mut world = host.world();
    match (m, *doing) {
        (Move::SaysReady, Doing::Nothing) => {
            world.stdout.extend_from_slice(b"READY\n");
            *doing = Doing::Waits;
        }
        (Move::Reads, Doing::Waits) => {
            if let Some(serial) = world.stdin.pop_front() {
                *doing = Doing::Works(serial);
            }
        }
        (Move::Answers(ok), Doing::Works(serial)) => {
            let answer: &[u8] = if *ok { b"RESULT 2\nOK" } else { b"RESULT 4\nFAIL" };
            world.stdout.extend_from_slice(answer);
            if *ok {
                done.push(serial);
            }
            *doing = Doing::Nothing;
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whenever agents die, a listener has one event at most, is sent none that it has dealt with, in
    /// order, and hears of what happens in the end.
    #[test]
    fn a_listener_does_not_notice_that_agents_die(moves in moves()) {
        let host = Host::default();
        let mut agent = bus(&host);
        join(&mut agent, &host, false);
        let (mut doing, mut done, mut n) = (Doing::Nothing, Vec::new(), 0);
        for m in &moves {
            match m {
                Move::Happens => {
                    n += 1;
                    happens(&mut agent, &host, n);
                }
                Move::AgentReads => read(&mut agent),
                Move::AgentSaves => agent.save(),
                Move::AgentDies(calls) => {
                    host.world().left = Some(*calls);
                    read(&mut agent);
                    host.world().left = None;
                    agent = bus(&host);
                    join(&mut agent, &host, true);
                    agent.dispatch();
                }
                Move::SaysReady | Move::Reads | Move::Answers(_) => {
                    listener_moves(m, &host, &mut doing, &mut done);
                }
            }
            let in_hand = usize::from(matches!(doing, Doing::Works(_)));
            prop_assert!(host.world().stdin.len() + in_hand <= 1, "two events at once");
        }
        // It is asked no more of the world, and the last event comes through.
        happens(&mut agent, &host, n + 1);
        let last = agent.last_accepted();
        for _ in 0..1000 {
            for m in [Move::SaysReady, Move::Reads, Move::Answers(true)] {
                read(&mut agent);
                listener_moves(&m, &host, &mut doing, &mut done);
            }
            if done.last() == Some(&last) {
                break;
            }
        }
        prop_assert_eq!(done.last(), Some(&last), "stuck");
        prop_assert!(done.is_sorted_by(|a, b| a < b), "doubled or out of order: {:?}", done);
    }
}

#[test]
fn a_listener_that_dies_leaves_its_event_to_the_next() {
    let host = Host::default();
    let mut agent = bus(&host);
    join(&mut agent, &host, false);
    happens(&mut agent, &host, 1);
    host.world().stdout.extend_from_slice(b"READY\n");
    read(&mut agent);
    assert_eq!(host.world().stdin.pop_front(), Some(0));
    agent.hear(Message::Leave("mail".parse().unwrap(), 7));
    host.world().stdout.clear();
    join(&mut agent, &host, false);
    host.world().stdout.extend_from_slice(b"READY\n");
    read(&mut agent);
    assert_eq!(host.world().stdin.pop_front(), Some(0));
}

#[test]
fn the_event_of_a_listener_that_died_with_its_agent_is_dealt_with_by_the_next() {
    let host = Host::default();
    let mut agent = bus(&host);
    join(&mut agent, &host, false);
    happens(&mut agent, &host, 1);
    host.world().stdout.extend_from_slice(b"READY\n");
    read(&mut agent);
    host.world().stdin.clear();
    host.world().stdout.clear();
    let mut agent = bus(&host);
    agent.hear(Message::Lost("mail".parse().unwrap(), "mail".parse().unwrap()));
    join(&mut agent, &host, false);
    host.world().stdout.extend_from_slice(b"READY\n");
    read(&mut agent);
    assert_eq!(host.world().stdin.pop_front(), Some(0));
}
