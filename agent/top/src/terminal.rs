//! The terminal: entered whole, and left as it was found, however the program ends short of SIGKILL.

use std::{
    io::{self, IsTerminal as _, Stdout},
    panic,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ratatui::{
    Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor::Show,
        event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
        execute,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
};
use tokio::sync::mpsc;

use crate::input::Key;

/// How soon the reader of keys notices that it is to end.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What the person at the terminal did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Touch {
    Key(Key),
    /// The window has another size.
    Resized,
}

/// The whole terminal, given back when dropped.
#[derive(Debug)]
pub(crate) struct Screen {
    pub(crate) terminal: Terminal<CrosstermBackend<Stdout>>,
}

/// Whether there is a terminal to work on.
pub(crate) fn is_there() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// How many rows the terminal has, if standard output is one.
#[must_use]
pub fn rows() -> Option<usize> {
    let (_, rows) = ratatui::crossterm::terminal::size().ok()?;
    Some(usize::from(rows)).filter(|r| *r > 0 && io::stdout().is_terminal())
}

impl Screen {
    /// Takes the terminal.
    pub(crate) fn enter() -> io::Result<Self> {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            // First, or what the panic says is lost with the other screen.
            leave();
            before(info);
        }));
        enable_raw_mode()?;
        // From here on a failure must give it back too.
        let entered = execute!(io::stdout(), EnterAlternateScreen)
            .and_then(|()| Terminal::new(CrosstermBackend::new(io::stdout())));
        entered.map(|terminal| Self { terminal }).inspect_err(|_| leave())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

/// Gives the terminal back. Doing so twice does no harm; one that is gone needs nothing.
fn leave() {
    drop(execute!(io::stdout(), LeaveAlternateScreen, Show));
    drop(disable_raw_mode());
}

/// Reads keys until told to stop, or until the terminal fails, which closes the queue. Blocks; for ever if
/// the terminal is taken away.
pub(crate) fn read(stop: &Arc<AtomicBool>, into: &mpsc::Sender<Touch>) {
    while !stop.load(Ordering::Relaxed) {
        let event = match event::poll(LOOK_EVERY) {
            Ok(false) => continue,
            Ok(true) => event::read(),
            Err(e) => Err(e),
        };
        let touch = match event {
            Ok(Event::Key(key)) => key_of(key).map(Touch::Key),
            Ok(Event::Resize(..)) => Some(Touch::Resized),
            Ok(_) => None,
            Err(_) => return,
        };
        // Whoever pastes a book waits until it is taken.
        if touch.is_some_and(|t| into.blocking_send(t).is_err()) {
            return;
        }
    }
}

fn key_of(key: KeyEvent) -> Option<Key> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
    Some(match key.code {
        KeyCode::Char('c') if is_control => Key::Interrupt,
        KeyCode::Char('b') if is_control => Key::PageUp,
        KeyCode::Char('f') if is_control => Key::PageDown,
        KeyCode::Char(_) if is_control => return None,
        KeyCode::Char(c) => Key::Char(c),
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::Left => Key::Left,
        KeyCode::Right => Key::Right,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Escape,
        KeyCode::Tab => Key::Tab,
        KeyCode::Backspace => Key::Backspace,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_c_is_no_letter() {
        let key = |code, modifiers| key_of(KeyEvent::new(code, modifiers));
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Key::Interrupt));
        assert_eq!(key(KeyCode::Char('z'), KeyModifiers::CONTROL), None);
        assert_eq!(key(KeyCode::Char('G'), KeyModifiers::SHIFT), Some(Key::Char('G')));
        assert_eq!(key(KeyCode::F(1), KeyModifiers::NONE), None);
    }
}
