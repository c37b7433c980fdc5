//! What every verb has in hand: settings, output, debts, signals.

use palisade_types::grant::Only;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::{
    child::Signals,
    cli::Common,
    cloud::Cloud,
    debts::Debts,
    dirs,
    failed::{Failed, Outcome},
    printer::Printer,
    settings::{Place, Settings},
};

/// For sessions to end; each is bounded by itself.
const END: std::time::Duration = std::time::Duration::from_secs(4);

/// One run of the program.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) common: Common,
    pub(crate) settings: Settings,
    pub(crate) printer: Printer,
    pub(crate) debts: Debts,
    /// Where sessions are counted, so that the program's end can wait for theirs.
    pub(crate) tasks: TaskTracker,
    began: Instant,
}

impl Run {
    /// Reads the settings.
    ///
    /// # Errors
    /// When they are wrong.
    pub(crate) fn new(common: Common, printer: Printer) -> Outcome<Self> {
        let settings = Settings::load(&common, dirs::config())?;
        Ok(Self {
            common,
            settings,
            printer,
            debts: Debts::default(),
            tasks: TaskTracker::new(),
            began: Instant::now(),
        })
    }

    /// The account in which this host is.
    ///
    /// # Errors
    /// When it cannot be told which.
    pub(crate) async fn cloud_of(&self, place: &Place) -> Outcome<Cloud> {
        Ok(Cloud::open(&self.settings.aws_of(place, &self.common)).await?)
    }

    /// The account in which all of these hosts are.
    ///
    /// # Errors
    /// When it cannot be told which, or there are several.
    pub(crate) async fn cloud_of_all(&self, words: &[String]) -> Outcome<Cloud> {
        Ok(Cloud::open(&self.settings.aws_of_all(words, &self.common)?).await?)
    }

    /// What to grant for a verb that needs `needed`.
    ///
    /// # Errors
    /// When the command line asks for less.
    pub(crate) fn only(&self, needed: Only) -> Outcome<Only> {
        match self.settings.only {
            None | Some(Only::Shell) if needed == Only::Shell => Ok(Only::Shell),
            None => Ok(needed),
            Some(said) if said == needed || said == Only::Shell => Ok(said),
            Some(said) => Err(Failed::usage(format!(
                "--only {} is not enough: this needs {}",
                said.as_str(),
                needed.as_str()
            ))),
        }
    }

    /// For who asked with `-v`: what has just been done, and when.
    pub(crate) fn at(&self, what: &str) {
        self.printer.detail(format_args!("{:>6} ms  {what}", self.began.elapsed().as_millis()));
    }

    /// Pays what is owed and waits for sessions that are being ended, within a bound.
    pub(crate) async fn settle(&self) {
        self.tasks.close();
        let sessions = tokio::time::timeout(END, self.tasks.wait());
        let (late, ()) = tokio::join!(sessions, self.debts.settle());
        // A session that is late is ended by the service's own limits.
        drop(late);
    }

    /// Does this until it is done or a signal says to end; then the debts are settled by whoever
    /// called.
    ///
    /// # Errors
    /// What it returns, or that it was interrupted.
    pub(crate) async fn until_signal<T>(
        &self,
        signals: &mut Signals,
        work: impl Future<Output = Outcome<T>>,
    ) -> Outcome<T> {
        // Losing the work's arm loses nothing that is not written down among the debts.
        tokio::select! {
            done = work => done,
            signal = signals.any() => {
                Err(Failed::plain(format!("interrupted by {}", signal.as_str())))
            }
        }
    }
}
