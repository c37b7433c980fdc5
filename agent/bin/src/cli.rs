//! The command line: what may be said, and nothing about what it does. Made of clap and std only:
//! `cargo xtask package` reads this file too, for man pages and completions.

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Keeps a Django origin host up, closed and observed.
#[derive(Debug, Parser)]
#[command(
    name = "palisade",
    version,
    max_term_width = 100,
    after_help = "\
Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 some program is not running (status),
4 agent not reachable, 5 refused by a guard."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Which agent is meant.
#[derive(Clone, Debug, Args)]
pub(crate) struct Place {
    /// The configuration file.
    #[arg(
        short,
        long,
        global = true,
        value_name = "FILE",
        default_value = "/etc/palisade/palisade.yaml"
    )]
    pub(crate) config: PathBuf,
    /// The control socket; the configuration file names it otherwise.
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run the agent in the foreground. SIGHUP reloads, SIGUSR2 re-executes the binary at its path.
    #[command(after_help = "Example: palisade run -c /etc/palisade/palisade.yaml")]
    Run(RunArgs),
    /// Report every mistake in the configuration, with file, line and key.
    #[command(after_help = "Example: palisade check -c ./palisade.yaml")]
    Check,
    /// Tell what this host lacks for what the configuration wants, and what to do about it.
    #[command(after_help = "Example: palisade doctor --json\n\n\
        Exit code 1 if something that is wanted does not work. Changes nothing; see more as root.")]
    Doctor(JsonArgs),
    /// Turn the configuration of another supervisor into one of palisade.
    #[command(subcommand)]
    Import(ImportVerb),
    /// The lines of granted keys, as sshd's AuthorizedKeysCommand asks for them.
    #[command(
        hide = true,
        after_help = "Example: palisade authorized-keys deploy ssh-ed25519 AAAA... SHA256:..."
    )]
    AuthorizedKeys(KeyArgs),
    #[command(flatten)]
    Client(ClientVerb),
}

/// What sshd tells its helper. Read by `keys` before anything of clap's; here for its help.
#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    /// sshd's %u, %t, %k and %f.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) words: Vec<String>,
}

/// Whose configuration to import.
#[derive(Debug, Subcommand)]
pub(crate) enum ImportVerb {
    /// Read supervisord.conf as Supervisor itself reads it. What is not carried over is said in comments.
    #[command(
        after_help = "Example: palisade import supervisor /etc/supervisor/supervisord.conf -o palisade.yaml\n\n\
        Files without [supervisord] are taken as parts that belong to one. Variables of the environment\n\
        stand for %(ENV_x)s, as they do when supervisord starts."
    )]
    Supervisor(ImportArgs),
}

/// What to import, and where to.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// Main files or parts of one.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Where the files of the host are: FILE, its includes and its users are looked for below.
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Write to this file, which must not be there yet, instead of standard output.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Write over the file that is there.
    #[arg(long, requires = "output")]
    pub(crate) force: bool,
    /// What to write: a configuration, or all that Supervisor makes of the files as JSON.
    #[arg(long, value_enum, default_value_t = ImportFormat::Yaml)]
    pub(crate) format: ImportFormat,
}

/// How an import is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ImportFormat {
    /// A palisade.yaml.
    Yaml,
    /// JSON, for comparing.
    Canonical,
}

/// Options of `palisade run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Where the agent's own log goes; by default the journal if systemd started it, else text.
    #[arg(long, value_enum, default_value_t = LogFormat::Auto)]
    pub(crate) log: LogFormat,
    /// How much of it: error, warn, info, debug, or a filter such as palisade_agent::firewall=debug.
    #[arg(long, value_name = "FILTER", default_value = "info")]
    pub(crate) log_level: String,
}

/// Where the agent's own log goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// The journal if systemd connected standard error to it, else text.
    Auto,
    /// The systemd journal.
    Journald,
    /// Lines of text on standard error.
    Text,
    /// Lines of JSON on standard error.
    Json,
}

/// What the running agent is asked.
#[derive(Debug, Subcommand)]
pub(crate) enum ClientVerb {
    /// Show the agent, the firewall, the logs and every program.
    #[command(
        after_help = "Example: palisade status web\n\nExit code 3 if a program is not running."
    )]
    Status {
        /// Processes, programs, GROUP:* or all; everything if none is named.
        names: Vec<String>,
        /// The programs as JSON.
        #[arg(long)]
        json: bool,
        /// Go on: on a terminal a view that follows what changes, else a line for each change.
        #[arg(long)]
        watch: bool,
        /// Show the CPU and the memory of each program and all that it started.
        #[arg(long)]
        usage: bool,
    },
    /// Show the programs on the whole terminal, and restart, stop, signal or read them by keys.
    #[command(after_help = "Example: palisade top\n\nPress ? for the keys.")]
    Top,
    /// Start programs and wait until they run.
    #[command(after_help = "Example: palisade start web worker:*")]
    Start(NameArgs),
    /// Stop programs and wait until they are gone.
    #[command(after_help = "Example: palisade stop all")]
    Stop(NameArgs),
    /// Stop and start programs.
    #[command(after_help = "Example: palisade restart --rolling web")]
    Restart {
        #[command(flatten)]
        names: NameArgs,
        /// One process at a time, each up and ready before the next; ends at the first that is not.
        /// With `rolling: { overlap: true }` the new one is ready before the old one stops.
        #[arg(long)]
        rolling: bool,
    },
    /// Send a signal to programs.
    #[command(after_help = "Example: palisade signal HUP web")]
    Signal {
        /// HUP, SIGHUP or 1.
        signal: String,
        #[command(flatten)]
        names: NameArgs,
    },
    /// Show the end of a program's log file.
    #[command(after_help = "Example: palisade tail -f web stderr")]
    Tail {
        /// The process.
        name: String,
        /// Which of its outputs.
        #[arg(value_enum, default_value_t = Stream::Stdout)]
        stream: Stream,
        /// Keep showing what is added.
        #[arg(short, long)]
        follow: bool,
        /// How many bytes of what is there already.
        #[arg(short = 'n', long, value_name = "BYTES", default_value_t = 1600)]
        bytes: u64,
    },
    /// Empty a program's log files.
    #[command(after_help = "Example: palisade clear web")]
    Clear(NameArgs),
    /// Apply the configuration file: start new, stop gone, restart changed, leave the rest alone.
    #[command(after_help = "Example: palisade check && palisade update")]
    Update,
    /// Replace the running agent by the binary at its path; programs and sockets go on. Waits until the
    /// new one is up. If it does not come up, the one before it takes over again.
    #[command(after_help = "Example: palisade upgrade")]
    Upgrade,
    /// Show what the agent did lately and why.
    #[command(after_help = "Example: palisade events -n 50")]
    Events {
        /// How many.
        #[arg(short = 'n', long, default_value_t = 20)]
        last: usize,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// The firewall.
    #[command(subcommand)]
    Firewall(FirewallVerb),
    /// The secret header between CloudFront and the web server.
    #[command(subcommand)]
    Origin(OriginVerb),
    /// Log shipping.
    #[command(subcommand)]
    Logs(LogsVerb),
    /// Print what the agent counts, as Prometheus reads it.
    #[command(after_help = "Example: palisade metrics | grep palisade_program")]
    Metrics,
    /// Updates of the operating system.
    #[command(subcommand)]
    Patch(PatchVerb),
    /// Short-lived SSH access.
    #[command(subcommand)]
    Access(AccessVerb),
}

/// Programs to act on.
#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    /// Processes, programs, GROUP:* or all.
    #[arg(required = true)]
    pub(crate) names: Vec<String>,
}

/// Which output of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// What to ask of the firewall.
#[derive(Debug, Subcommand)]
pub(crate) enum FirewallVerb {
    /// What is in force, from where, and since when.
    #[command(after_help = "Example: palisade firewall status --json")]
    Status(JsonArgs),
    /// What the configuration file would change: ranges, rules, live sessions. Changes nothing.
    #[command(after_help = "Example: palisade firewall plan")]
    Plan(JsonArgs),
    /// Put the firewall section of the configuration file in force, for good or on trial.
    #[command(after_help = "Example: palisade firewall apply --confirm 60s\n\n\
        Exit code 5 if it would cut your own SSH session, leave no way in, or fail a test of the policy.")]
    Apply {
        /// Roll back after this long unless `firewall confirm` comes, even if the agent dies.
        #[arg(long, value_name = "TIME")]
        confirm: Option<String>,
        /// Apply also what would be refused.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        json: JsonArgs,
    },
    /// Keep what `apply --confirm` put in force.
    #[command(after_help = "Example: palisade firewall confirm")]
    Confirm,
    /// Take back what `apply --confirm` put in force.
    #[command(after_help = "Example: palisade firewall rollback")]
    Rollback,
    /// Try the tests of the configuration file with real packets, in a network of their own.
    #[command(after_help = "Example: palisade firewall test\n\nExit code 1 if one fails.")]
    Test(JsonArgs),
    /// Why an address may or may not reach a port.
    #[command(after_help = "Example: palisade firewall explain 130.176.0.10 443")]
    Explain {
        /// The address.
        ip: IpAddr,
        /// The TCP port.
        #[arg(default_value_t = 443)]
        port: u16,
        /// Also send a real packet, against the same rules in a network of their own.
        #[arg(long)]
        probe: bool,
        #[command(flatten)]
        json: JsonArgs,
    },
    /// Read the feeds now.
    #[command(after_help = "Example: palisade firewall refresh")]
    Refresh(JsonArgs),
    /// Put the rules of the lists on disk in force, without an agent: at boot, before the network.
    #[command(after_help = "Example: palisade firewall load")]
    Load,
    /// Rolls a trial back if the agent is dead by then; as the agent starts it.
    #[command(hide = true, after_help = "Example: palisade firewall guardian < order")]
    Guardian,
    /// Tries rules in a network of its own; as the agent starts it.
    #[command(hide = true, after_help = "Example: palisade firewall scratch < task")]
    Scratch,
    /// Let a change through that a guard held back.
    #[command(after_help = "Example: palisade firewall approve cloudfront 1787411825")]
    Approve {
        /// The source, as `firewall status` names it.
        source: String,
        /// The version that is meant, as `firewall status` names it: another one is not let through.
        version: Option<u64>,
    },
    /// The rules as `nft -j -f -` takes them, without grants: to be kept, or loaded where no agent runs.
    #[command(after_help = "Example: palisade firewall export > /root/palisade-rules.json")]
    Export,
    /// Who was turned away in the last quarter of an hour: sources, ports and reasons.
    #[command(after_help = "Example: palisade firewall drops")]
    Drops(JsonArgs),
    /// Each change of the rules in force: when, on whose word, and what it changed.
    #[command(after_help = "Example: palisade firewall history -n 50")]
    History {
        /// How many changes, counted from the last.
        #[arg(short = 'n', long = "last", default_value_t = 20)]
        last: usize,
        #[command(flatten)]
        json: JsonArgs,
    },
}

/// What to ask of the origin guard.
#[derive(Debug, Subcommand)]
pub(crate) enum OriginVerb {
    /// Which secrets are accepted, by their ids, since when, and whether requests have them.
    #[command(after_help = "Example: palisade origin status\n\n\
        An id is the first 8 hexadecimal digits of a secret's SHA-256. Exit code 1: what is wanted is not in force.")]
    Status(JsonArgs),
    /// Read the secret from its source and put it in force, now.
    #[command(after_help = "Example: palisade origin refresh")]
    Refresh(JsonArgs),
    /// Stop accepting an old secret that the source no longer has, now: it leaked. Requests that still have it
    /// are refused.
    #[command(after_help = "Example: palisade origin drop 1a2b3c4d")]
    Drop {
        /// Its id, as `origin status` shows it; never the secret itself.
        id: String,
    },
}

/// What to ask of log shipping.
#[derive(Debug, Subcommand)]
pub(crate) enum LogsVerb {
    /// Backlog, lag and losses of each source.
    #[command(after_help = "Example: palisade logs status")]
    Status(JsonArgs),
    /// Ship what waits, now.
    #[command(after_help = "Example: palisade logs flush --timeout 10s")]
    Flush {
        /// How long to wait.
        #[arg(long, default_value = "10s")]
        timeout: String,
    },
}

/// What to ask of patching.
#[derive(Debug, Subcommand)]
pub(crate) enum PatchVerb {
    /// Where the host stands, when the next run is due, and what the last one did.
    #[command(after_help = "Example: palisade patch status --json")]
    Status(JsonArgs),
    /// What a run would do now, and why the rest is left.
    #[command(after_help = "Example: palisade patch plan\n\n\
        With --exit-code: 0 nothing to do, 6 a run would change something, 7 nobody can tell.")]
    Plan {
        #[command(flatten)]
        json: JsonArgs,
        /// Tell by the exit code whether something would be done.
        #[arg(long)]
        exit_code: bool,
    },
    /// Start a run and wait until it is over. Outside of a window it is refused with exit code 5.
    #[command(after_help = "Example: palisade patch run --now")]
    Run {
        /// Run outside of a window too. The host is not restarted then.
        #[arg(long)]
        now: bool,
        /// Do not wait until it is over.
        #[arg(long)]
        no_wait: bool,
        #[command(flatten)]
        json: JsonArgs,
    },
    /// What earlier runs did.
    #[command(after_help = "Example: palisade patch history -n 5")]
    History {
        /// How many.
        #[arg(short = 'n', long, default_value_t = 20)]
        last: usize,
        #[command(flatten)]
        json: JsonArgs,
    },
    /// One run, as the agent starts it.
    #[command(hide = true, after_help = "Example: palisade patch work --run 20261125T191648007Z")]
    Work {
        /// The run in the journal.
        #[arg(long)]
        run: String,
    },
}

/// What to ask of access.
#[derive(Debug, Subcommand)]
pub(crate) enum AccessVerb {
    /// Grant what a JSON document on standard input asks for.
    #[command(after_help = "Example: palisade access grant < request.json\n\n\
        Exit code 5 if policy refuses it, 2 if it is no request.")]
    Grant(JsonArgs),
    /// The live grants and their logins.
    #[command(after_help = "Example: palisade access list --json")]
    List(JsonArgs),
    /// End a grant, and its logins with it.
    #[command(after_help = "Example: palisade access revoke 7b7c1f0e-6a55-4d0c-9a41-0d4f6f1d2a11")]
    Revoke {
        /// The grant, as `access list` names it.
        id: String,
        #[command(flatten)]
        json: JsonArgs,
    },
    /// Who was granted what, who logged in, what was refused. Needs no agent.
    #[command(after_help = "Example: palisade access audit --verify")]
    Audit {
        /// How many of the latest.
        #[arg(short = 'n', long, default_value_t = 20)]
        last: usize,
        /// Check that no line was changed, left out or cut off; exit code 1 if one was.
        #[arg(long)]
        verify: bool,
        #[command(flatten)]
        json: JsonArgs,
    },
    /// Make sshd ask for granted keys. Changes nothing if sshd would not take it.
    #[command(after_help = "Example: palisade access setup")]
    Setup,
    /// Make sshd stop asking for granted keys; it keeps its own.
    #[command(after_help = "Example: palisade access remove")]
    Remove,
}

/// Output as JSON.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct JsonArgs {
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_sound_and_every_verb_has_an_example() {
        let cli = Cli::command();
        cli.clone().debug_assert();
        fn leaves(c: &clap::Command, out: &mut Vec<clap::Command>) {
            if c.get_subcommands().next().is_none() {
                out.push(c.clone());
            }
            c.get_subcommands().for_each(|s| leaves(s, out));
        }
        let mut verbs = Vec::new();
        leaves(&cli, &mut verbs);
        for verb in verbs {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example: palisade "), "{} has no example", verb.get_name());
        }
    }

    #[test]
    fn the_socket_may_be_named_before_or_after_the_verb() {
        for words in
            [["palisade", "--socket", "/x", "update"], ["palisade", "update", "--socket", "/x"]]
        {
            let cli = Cli::try_parse_from(words).unwrap();
            assert_eq!(cli.place.socket.as_deref(), Some("/x".as_ref()));
        }
    }
}
