//! Keys of a program that hears events, or that gets its socket as its standard input.

use std::collections::BTreeSet;

use super::{
    readiness::listen,
    section::{Field, Section, did_you_mean},
    supervisor::EVENTS,
    values::{Template, template},
};
use crate::supervise::{Kind, Listener, SharedSocket, Stdin};

/// What these keys say.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    pub(super) kind: Kind,
    pub(super) stdin: Stdin,
    pub(super) serverurl: Option<Template<'a>>,
}

impl Draft<'_> {
    /// Priority of the group of a program that names none: listeners come before what they listen to.
    pub(super) fn group_priority(&self) -> i32 {
        match self.kind {
            Kind::Listener(_) => -1,
            Kind::Program | Kind::FastCgi => super::programs::DEFAULT_PRIORITY,
        }
    }
}

/// Events that may wait, unless a listener says otherwise.
const BUFFER: u32 = 10;

/// Reads these keys of a program.
pub(super) fn kind<'a>(s: &mut Section<'a>) -> Draft<'a> {
    let events = s.get("events");
    let buffer = s.get("buffer_size");
    let socket = s.get("fcgi_socket");
    let stdin = s.get("stdin");
    let serverurl = s.get("serverurl").and_then(template);
    let (kind, mut own) = match (&events, &socket) {
        (Some(events), _) => {
            let buffer_size = buffer.as_ref().and_then(|f| f.int(1..=1_000_000)).unwrap_or(BUFFER);
            let events = self::events(events);
            (Kind::Listener(Listener::new(events, buffer_size)), Stdin::Pipe)
        }
        (None, Some(socket)) => match self::socket(socket) {
            Some(socket) => (Kind::FastCgi, Stdin::Socket(socket)),
            None => (Kind::FastCgi, Stdin::Null),
        },
        (None, None) => (Kind::Program, Stdin::Null),
    };
    if let (Some(_), Some(socket)) = (&events, &socket) {
        socket.wrong("a program that hears events has a pipe as its standard input, not a socket");
    }
    if let (None, Some(buffer)) = (&events, &buffer) {
        buffer.wrong("is for a program with events");
    }
    if let Some(field) = stdin {
        let said = field.one_of(&[("null", Stdin::Null), ("pipe", Stdin::Pipe)]);
        match (said, &kind) {
            (Some(stdin), Kind::Program) => own = stdin,
            (Some(Stdin::Pipe), Kind::Listener(_)) | (None, _) => {}
            (Some(_), _) => field.wrong("cannot be chosen: events and fcgi_socket have their own"),
        }
    }
    Draft { kind, stdin: own, serverurl }
}

fn events(field: &Field<'_>) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for item in field.items() {
        let Some(name) = item.text().map(str::to_uppercase) else { continue };
        if !EVENTS.contains(&name.as_str()) {
            let hint = did_you_mean(&name, EVENTS.iter().copied());
            item.wrong(format!("there is no event {name}{hint}"));
        }
        all.insert(name);
    }
    if all.is_empty() {
        field.wrong("must name at least one event, such as PROCESS_STATE");
    }
    all
}

fn socket(field: &Field<'_>) -> Option<SharedSocket> {
    let mut s = field.section();
    let listen = s.need("listen").and_then(|f| listen(&f));
    let backlog = s.get("backlog").and_then(|f| f.int(1..=65_535));
    let mode = s.get("mode").and_then(|f| super::values::umask(&f)).unwrap_or(0o700);
    let owner = s.get("owner").and_then(|f| f.word());
    s.finish();
    Some(SharedSocket { listen: listen?, backlog, mode, owner })
}
