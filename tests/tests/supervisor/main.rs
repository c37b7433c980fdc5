//! Supervisor's behaviour, case by case, each put to Supervisor 4.3 and to the agent with the same
//! file. Cases wait more than they work, so many run at a time.

#![expect(clippy::unwrap_used, reason = "tests fail by panics")]
#![expect(clippy::print_stdout, reason = "a test says why it is skipped")]
#![expect(clippy::disallowed_methods, reason = "tests start programs and write files")]

mod better;
mod ctl;
mod events;
mod files;
mod logs;
mod reload;
mod rig;
mod starts;
mod stops;
mod superlance;
mod xmlrpc;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use rig::{Kind, Subject};

/// Cases at a time.
const AT_A_TIME: usize = 8;

/// One case.
struct Case {
    /// The sections of the file.
    conf: &'static str,
    /// What must hold.
    check: fn(&mut Subject),
}

/// Cases of this module.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub(crate) const CASES: &[(&str, fn() -> crate::Case)] =
            &[$((stringify!($name), $name)),*];
    };
}
pub(crate) use cases;

fn main() -> ExitCode {
    let mut args = Arguments::from_args();
    args.test_threads = args.test_threads.or(Some(AT_A_TIME));
    let both = [
        starts::CASES,
        stops::CASES,
        files::CASES,
        reload::CASES,
        logs::CASES,
        events::CASES,
        superlance::CASES,
    ];
    let mut trials = Vec::new();
    let has_reference = rig::venv().is_absolute();
    // Its client comes with Supervisor itself.
    let with_client = [ctl::CASES, ctl::tails::CASES, ctl::changes::CASES, ctl::rpc::CASES];
    let with_client = with_client.into_iter().filter(|_| has_reference);
    for (name, case) in both.into_iter().chain(with_client).flatten() {
        for kind in [Kind::Supervisord, Kind::Palisade] {
            if kind == Kind::Supervisord && !has_reference {
                continue;
            }
            trials.push(trial(&format!("{kind:?}::{name}"), *case, kind));
        }
    }
    for (name, case) in better::CASES {
        trials.push(trial(&format!("Palisade::{name}"), *case, Kind::Palisade));
    }
    if !has_reference {
        println!("skipped: no demo-venv with Supervisor; `cargo xtask setup` makes it");
    }
    libtest_mimic::run(&args, trials).exit_code()
}

fn trial(name: &str, case: fn() -> Case, kind: Kind) -> Trial {
    Trial::test(name, move || {
        let Case { conf, check } = case();
        let mut subject = Subject::start(kind, conf);
        check(&mut subject);
        Ok(())
    })
}
