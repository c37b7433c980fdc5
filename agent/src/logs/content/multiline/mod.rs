//! Which lines belong together.
//!
//! Each line either begins an event or goes on with the one that is open. One [`Joiner`] is one
//! stream's: two workers never share one.
//!
//! Invariants: the events' lines are the lines that came, in order, but for empty ones at an event's
//! end; what is one event does not depend on how the lines came in.

mod json;
mod leads;
mod python;

use self::{json::Balance, python::Trace};
use super::pattern::Pattern;

/// Most lines of an event; the next one begins another.
pub(crate) const MOST_LINES: usize = 500;
/// Most bytes of an event. It is less than the service takes, so that an event fits.
pub(crate) const MOST_BYTES: usize = 1_000_000;

/// By what lines are put together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Multiline {
    /// Each line is an event.
    None,
    /// Python's tracebacks, with the line before them and whatever they chain.
    Python,
    /// An event begins with a time or a level.
    Timestamp,
    /// An event ends when every brace of it is closed.
    Json,
    /// An event begins where this matches.
    Start(Pattern),
}

/// The open event of one stream.
#[derive(Clone, Debug)]
pub(crate) struct Joiner {
    state: State,
    text: String,
    lines: usize,
    /// Length without the empty lines at the end.
    content: usize,
}

#[derive(Clone, Debug)]
enum State {
    Apart,
    Python(Trace),
    Timestamp,
    Json(Balance),
    Start(Pattern),
}

impl Joiner {
    /// No event is open.
    #[must_use]
    pub(crate) fn new(rule: &Multiline) -> Self {
        let state = match rule {
            Multiline::None => State::Apart,
            Multiline::Python => State::Python(Trace::default()),
            Multiline::Timestamp => State::Timestamp,
            Multiline::Json => State::Json(Balance::default()),
            Multiline::Start(pattern) => State::Start(pattern.clone()),
        };
        Self { state, text: String::new(), lines: 0, content: 0 }
    }

    /// Whether the open event, if there is one, is over before this line.
    #[must_use]
    pub(crate) fn ends_before(&self, line: &str) -> bool {
        if self.lines == 0 {
            return false;
        }
        if self.lines >= MOST_LINES || self.text.len() + 1 + line.len() > MOST_BYTES {
            return true;
        }
        match &self.state {
            State::Apart => true,
            State::Python(trace) => !trace.goes_on_with(line),
            State::Timestamp => leads::begins(line),
            State::Json(balance) => balance.is_closed(),
            State::Start(pattern) => pattern.is_in(line.as_bytes()),
        }
    }

    /// Adds a line to the open event, or opens one with it.
    pub(crate) fn add(&mut self, line: &str) {
        let is_first = self.lines == 0;
        match &mut self.state {
            State::Python(trace) => trace.pass(line, is_first),
            State::Json(balance) => balance.pass(line, is_first),
            State::Apart | State::Timestamp | State::Start(_) => {}
        }
        if !is_first {
            self.text.push('\n');
        }
        self.text.push_str(line);
        self.lines += 1;
        if !line.is_empty() {
            self.content = self.text.len();
        }
    }

    /// Whether the open event is over whatever follows.
    #[must_use]
    pub(crate) fn is_whole(&self) -> bool {
        match &self.state {
            State::Json(balance) => self.lines > 0 && balance.is_closed(),
            State::Apart => self.lines > 0,
            State::Python(_) | State::Timestamp | State::Start(_) => false,
        }
    }

    /// The event as far as it came, without empty lines at its end.
    #[must_use]
    pub(crate) fn text(&self) -> &str {
        self.text.get(..self.content).unwrap_or(&self.text)
    }

    /// Lets go of the event.
    pub(crate) fn clear(&mut self) {
        self.text.clear();
        (self.lines, self.content) = (0, 0);
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
