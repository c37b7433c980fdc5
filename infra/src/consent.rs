//! What a person agrees to before it is done. Invariant: one question at a time, and without a terminal
//! or `--yes` the answer is no.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use tokio::sync::Mutex;

use crate::{
    failed::{Failed, Outcome},
    printer,
};

/// Who is asked.
#[derive(Debug)]
pub(crate) struct Consent {
    /// To everything, said before.
    yes: bool,
    /// Stacks are worked on side by side; their questions come one after the other.
    turn: Mutex<()>,
}

impl Consent {
    pub(crate) fn new(yes: bool) -> Self {
        Self { yes, turn: Mutex::new(()) }
    }

    /// Shows something and asks about it.
    ///
    /// # Errors
    /// When the answer is another than `wanted`, or nobody can be asked.
    pub(crate) async fn to(&self, shown: &[String], question: &str, wanted: &str) -> Outcome<()> {
        let _turn = self.turn.lock().await;
        shown.iter().for_each(printer::note);
        if self.yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() {
            return Err(Failed::usage("nobody can be asked: standard input is no terminal")
                .hint("look at the plan, then give --yes"));
        }
        write!(io::stderr().lock(), "{question} [{wanted}] ").unwrap_or_default();
        // Beside the runtime, which goes on hearing signals.
        let read = tokio::task::spawn_blocking(|| {
            let mut line = String::new();
            io::stdin().lock().read_line(&mut line).map(|_| line)
        });
        let line = read.await.map_err(io::Error::other).and_then(|read| read);
        let line = line.map_err(|e| Failed::because("read the answer", &e))?;
        if line.trim() == wanted {
            return Ok(());
        }
        Err(Failed::plain("nothing was changed").hint(format!("the answer was not {wanted}")))
    }
}
