//! Supervisor's events: their names, which stands for which, and the text of each, byte for byte as its
//! listeners parse it.

use std::fmt;

use palisade_types::GroupName;
use serde::{Deserialize, Serialize};

use crate::supervise::Stream;

/// An event that a listener can be sent, by the name that stands in its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "the names are the documentation: Supervisor's own")]
pub enum EventName {
    ProcessStateStarting,
    ProcessStateRunning,
    ProcessStateBackoff,
    ProcessStateStopping,
    ProcessStateExited,
    ProcessStateStopped,
    ProcessStateFatal,
    ProcessStateUnknown,
    ProcessCommunicationStdout,
    ProcessCommunicationStderr,
    ProcessLogStdout,
    ProcessLogStderr,
    RemoteCommunication,
    SupervisorStateChangeRunning,
    SupervisorStateChangeStopping,
    #[serde(rename = "TICK_5")]
    Tick5,
    #[serde(rename = "TICK_60")]
    Tick60,
    #[serde(rename = "TICK_3600")]
    Tick3600,
    ProcessGroupAdded,
    ProcessGroupRemoved,
}

use EventName as N;

impl EventName {
    /// Every event.
    pub const ALL: [Self; 20] = [
        N::ProcessStateStarting,
        N::ProcessStateRunning,
        N::ProcessStateBackoff,
        N::ProcessStateStopping,
        N::ProcessStateExited,
        N::ProcessStateStopped,
        N::ProcessStateFatal,
        N::ProcessStateUnknown,
        N::ProcessCommunicationStdout,
        N::ProcessCommunicationStderr,
        N::ProcessLogStdout,
        N::ProcessLogStderr,
        N::RemoteCommunication,
        N::SupervisorStateChangeRunning,
        N::SupervisorStateChangeStopping,
        N::Tick5,
        N::Tick60,
        N::Tick3600,
        N::ProcessGroupAdded,
        N::ProcessGroupRemoved,
    ];

    /// Its name in the header.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            N::ProcessStateStarting => "PROCESS_STATE_STARTING",
            N::ProcessStateRunning => "PROCESS_STATE_RUNNING",
            N::ProcessStateBackoff => "PROCESS_STATE_BACKOFF",
            N::ProcessStateStopping => "PROCESS_STATE_STOPPING",
            N::ProcessStateExited => "PROCESS_STATE_EXITED",
            N::ProcessStateStopped => "PROCESS_STATE_STOPPED",
            N::ProcessStateFatal => "PROCESS_STATE_FATAL",
            N::ProcessStateUnknown => "PROCESS_STATE_UNKNOWN",
            N::ProcessCommunicationStdout => "PROCESS_COMMUNICATION_STDOUT",
            N::ProcessCommunicationStderr => "PROCESS_COMMUNICATION_STDERR",
            N::ProcessLogStdout => "PROCESS_LOG_STDOUT",
            N::ProcessLogStderr => "PROCESS_LOG_STDERR",
            N::RemoteCommunication => "REMOTE_COMMUNICATION",
            N::SupervisorStateChangeRunning => "SUPERVISOR_STATE_CHANGE_RUNNING",
            N::SupervisorStateChangeStopping => "SUPERVISOR_STATE_CHANGE_STOPPING",
            N::Tick5 => "TICK_5",
            N::Tick60 => "TICK_60",
            N::Tick3600 => "TICK_3600",
            N::ProcessGroupAdded => "PROCESS_GROUP_ADDED",
            N::ProcessGroupRemoved => "PROCESS_GROUP_REMOVED",
        }
    }

    /// Whether a listener that asked for `subscription` hears this: its own name, that of a family
    /// (`PROCESS_STATE`, `TICK`), or `EVENT` for all. In any case of letters.
    #[must_use]
    pub fn is_meant_by(self, subscription: &str) -> bool {
        const FAMILIES: [&str; 6] = [
            "PROCESS_STATE",
            "PROCESS_COMMUNICATION",
            "PROCESS_LOG",
            "SUPERVISOR_STATE_CHANGE",
            "TICK",
            "PROCESS_GROUP",
        ];
        let asked = subscription.trim().to_ascii_uppercase();
        let name = self.as_str();
        let is_family = || {
            FAMILIES.contains(&asked.as_str())
                && name.strip_prefix(&asked).is_some_and(|rest| rest.starts_with('_'))
        };
        asked == "EVENT" || asked == name || is_family()
    }

    /// The events of the clock, and their periods in seconds.
    pub(super) const TICKS: [(Self, i64); 3] =
        [(N::Tick5, 5), (N::Tick60, 60), (N::Tick3600, 3600)];
}

impl fmt::Display for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Which process an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::supervise) struct About {
    /// What it is called in its group.
    pub(in crate::supervise) label: String,
    pub(in crate::supervise) group: GroupName,
    /// 0 if it has none.
    pub(in crate::supervise) pid: i32,
}

/// One event, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::supervise) struct BusEvent {
    pub(in crate::supervise) name: EventName,
    pub(in crate::supervise) payload: String,
}

impl BusEvent {
    fn new(name: EventName, payload: String) -> Self {
        Self { name, payload }
    }

    /// A process came into another state. `extra` is what this state adds, as ` key:value`.
    pub(super) fn state(name: EventName, about: &About, from: &str, extra: &str) -> Self {
        let About { label, group, .. } = about;
        Self::new(name, format!("processname:{label} groupname:{group} from_state:{from}{extra}"))
    }

    /// A process said something between its marks.
    pub(in crate::supervise) fn communication(about: &About, stream: Stream, data: &[u8]) -> Self {
        let name = match stream {
            Stream::Stdout => N::ProcessCommunicationStdout,
            Stream::Stderr => N::ProcessCommunicationStderr,
        };
        let About { label, group, pid } = about;
        let text = as_text(data);
        Self::new(name, format!("processname:{label} groupname:{group} pid:{pid}\n{text}"))
    }

    /// A process wrote something.
    pub(in crate::supervise) fn log(about: &About, stream: Stream, data: &[u8]) -> Self {
        let About { label, group, pid } = about;
        let text = as_text(data);
        let head = format!("processname:{label} groupname:{group} pid:{pid} channel:{stream}");
        Self::new(log_name(stream), format!("{head}\n{text}"))
    }

    /// Somebody said something through the remote interface.
    pub(in crate::supervise) fn remote(kind: &str, data: &str) -> Self {
        Self::new(N::RemoteCommunication, format!("type:{kind}\n{data}"))
    }

    /// A period of the clock began.
    pub(super) fn tick(name: EventName, when: i64) -> Self {
        Self::new(name, format!("when:{when}"))
    }

    /// The supervisor itself came up, or stops.
    pub(in crate::supervise) fn supervisor(name: EventName) -> Self {
        Self::new(name, String::new())
    }

    /// A group is new, or gone.
    pub(in crate::supervise) fn group(name: EventName, group: &GroupName) -> Self {
        Self::new(name, format!("groupname:{group}\n"))
    }
}

/// Which event a stream's output is.
pub(in crate::supervise) fn log_name(stream: Stream) -> EventName {
    match stream {
        Stream::Stdout => N::ProcessLogStdout,
        Stream::Stderr => N::ProcessLogStderr,
    }
}

/// What a process wrote, as text: what is no UTF-8 is shown as Supervisor shows it.
fn as_text(data: &[u8]) -> String {
    match std::str::from_utf8(data) {
        Ok(text) => text.to_owned(),
        Err(_) => format!("Undecodable: b'{}'", data.escape_ascii()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about() -> About {
        About { label: "web_00".to_owned(), group: "web".parse().unwrap(), pid: 7 }
    }

    #[test]
    fn a_name_stands_for_itself_its_family_for_all_below_it_and_event_for_everything() {
        let heard = |asked: &str| EventName::ALL.iter().filter(|n| n.is_meant_by(asked)).count();
        let counts =
            ["EVENT", "process_state", "TICK", "TICK_5", "PROCESS_LOG", "REMOTE_COMMUNICATION"]
                .map(heard);
        assert_eq!(counts, [20, 8, 3, 1, 2, 1]);
        // Prefixes that are no family mean nothing.
        assert_eq!(["PROCESS", "TICK_", "SUPERVISOR", ""].map(heard), [0; 4]);
    }

    #[test]
    fn names_are_read_back_as_they_are_written() {
        for name in EventName::ALL {
            let json = serde_json::to_string(&name).unwrap();
            assert_eq!(json, format!("\"{name}\""));
            assert_eq!(serde_json::from_str::<EventName>(&json).unwrap(), name);
        }
    }

    #[test]
    fn the_texts_are_supervisors() {
        let texts = [
            BusEvent::state(N::ProcessStateRunning, &about(), "STARTING", " pid:7"),
            BusEvent::communication(&about(), Stream::Stdout, b"hi"),
            BusEvent::log(&about(), Stream::Stderr, b"a\nb\n"),
            BusEvent::log(&about(), Stream::Stdout, b"\xff'"),
            BusEvent::remote("kind", "data"),
            BusEvent::tick(N::Tick60, 120),
            BusEvent::supervisor(N::SupervisorStateChangeRunning),
            BusEvent::group(N::ProcessGroupAdded, &about().group),
        ]
        .map(|e| e.payload);
        assert_eq!(
            texts,
            [
                "processname:web_00 groupname:web from_state:STARTING pid:7",
                "processname:web_00 groupname:web pid:7\nhi",
                "processname:web_00 groupname:web pid:7 channel:stderr\na\nb\n",
                "processname:web_00 groupname:web pid:7 channel:stdout\nUndecodable: b'\\xff\\''",
                "type:kind\ndata",
                "when:120",
                "",
                "groupname:web\n",
            ]
        );
    }
}
