//! What hinders a module, for the record and for `status`.

use palisade_agent::{clock::SystemClock, control::Modules, events::Events};
use tokio::sync::watch;

/// Why a module works less than fully, told once for each reason: to the record, and to `status`.
#[derive(Clone, Debug)]
pub(crate) struct Trouble {
    pub(super) key: &'static str,
    pub(super) events: Events<SystemClock>,
    pub(super) published: watch::Sender<Modules>,
}

impl Trouble {
    /// From now on this is the trouble, or there is none.
    pub(crate) fn is(&self, what: Option<String>) {
        let key = self.key;
        let before = self.published.borrow().troubles.get(key).cloned();
        if before == what {
            return;
        }
        match &what {
            Some(what) => self.events.happened(key, "in trouble", "", what.as_str()),
            None => self.events.happened(key, "out of trouble", "", ""),
        }
        self.published.send_modify(|m| match what {
            Some(what) => drop(m.troubles.insert(key, what)),
            None => drop(m.troubles.remove(key)),
        });
    }
}
