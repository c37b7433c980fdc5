//! Signals as people name them.

use nix::sys::signal::Signal;

/// `HUP`, `SIGHUP` or `1`, in any case.
pub(super) fn parse_signal(text: &str) -> Option<Signal> {
    if let Ok(number) = text.parse::<i32>() {
        return Signal::try_from(number).ok();
    }
    let name = text.to_uppercase();
    name.parse().or_else(|_| format!("SIG{name}").parse()).ok()
}
