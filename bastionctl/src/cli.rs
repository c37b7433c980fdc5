//! The command line. Made of clap and std only: `cargo xtask package` reads this file too, for man
//! pages and completions. What the words mean is checked in `settings`, `targets` and `forward`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 failed, 2 usage, 4 agent or host not reachable, 5 refused by policy.
ssh, sftp, scp, rsync and cp pass on the exit code of the program they run.

HOST is an instance id (i-... or mi-...), a Name tag, tag:KEY=VALUE, or an alias of the
configuration file (default: ~/.config/bastionctl/config.toml).";

/// Short-lived SSH, SFTP and tunnels to Palisade hosts through SSM.
#[derive(Debug, Parser)]
#[command(name = "bastionctl", version, max_term_width = 100, after_help = EXIT_CODES)]
#[command(arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Options of every verb.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Common {
    /// How long the grant lives, for example 30m or 4h
    #[arg(long, global = true, value_name = "TIME", help_heading = "Grant")]
    pub(crate) ttl: Option<String>,
    /// Why, for the audit log of the host
    #[arg(long, global = true, value_name = "TEXT", help_heading = "Grant")]
    pub(crate) reason: Option<String>,
    /// Grant this and nothing else
    #[arg(long, global = true, value_enum, help_heading = "Grant")]
    pub(crate) only: Option<Only>,
    /// Leave the grant in force at the end instead of revoking it
    #[arg(long, global = true, help_heading = "Grant")]
    pub(crate) keep: bool,
    /// Reach HOST by SSH from this bastion, which is reached through SSM
    #[arg(long, global = true, value_name = "BASTION", help_heading = "Way")]
    pub(crate) via: Option<String>,
    /// Port of sshd on HOST
    #[arg(long, global = true, value_name = "PORT", help_heading = "Way")]
    pub(crate) ssh_port: Option<u16>,
    /// AWS region
    #[arg(long, global = true, help_heading = "AWS")]
    pub(crate) region: Option<String>,
    /// AWS profile
    #[arg(long, global = true, help_heading = "AWS")]
    pub(crate) profile: Option<String>,
    /// Send every AWS request to this URL
    #[arg(long, global = true, value_name = "URL", help_heading = "AWS")]
    pub(crate) endpoint_url: Option<String>,
    /// Open data channels at this URL instead of the host that SSM names (PrivateLink, tests)
    #[arg(long, global = true, value_name = "URL", help_heading = "AWS")]
    pub(crate) ssmmessages_endpoint: Option<String>,
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say on stderr what takes how long
    #[arg(long, short = 'v', global = true)]
    pub(crate) verbose: bool,
    /// Configuration file
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// What a grant allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Only {
    /// A shell and what belongs to it
    Shell,
    /// File transfer and no shell
    Sftp,
    /// One TCP target and no shell
    Tunnel,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Log in to a host, or run a command there
    #[command(after_help = "Example:\n  bastionctl ssh --ttl 30m deploy@web1\n  \
                            bastionctl ssh web1 -- journalctl -n 20")]
    Ssh(Ssh),
    /// Transfer files interactively
    #[command(after_help = "Example:\n  bastionctl sftp deploy@web1\n  \
                            bastionctl sftp web1 -- -b batch.txt")]
    Sftp(Sftp),
    /// Copy files with scp
    #[command(after_help = "Example:\n  bastionctl scp -r web1:/var/log/nginx ./logs")]
    Scp(Pass),
    /// Copy files with rsync
    #[command(after_help = "Example:\n  bastionctl rsync -az ./site/ deploy@web1:/srv/site/")]
    Rsync(Pass),
    /// Copy one file fast: a download runs over several sessions and is checked by SHA-256
    #[command(after_help = "Example:\n  bastionctl cp web1:/var/backups/db.dump .\n  \
                            bastionctl cp ./release.tar.zst web1:/tmp/")]
    Cp(Cp),
    /// Carry stdin and stdout to sshd on a host: the ProxyCommand of ssh-config
    #[command(
        after_help = "Example:\n  ssh -o ProxyCommand='bastionctl proxy --user %r %n %p' web1"
    )]
    Proxy(Proxy),
    /// Forward a local port to a host or, through it, to a database
    #[command(after_help = "Example:\n  bastionctl tunnel web1 15432:db.internal:5432\n  \
                            bastionctl tunnel web1 8080")]
    Tunnel(Tunnel),
    /// List the grants that a host holds
    #[command(after_help = "Example:\n  bastionctl grants web1 --json")]
    Grants(OneHost),
    /// End a grant and its live sessions
    #[command(
        after_help = "Example:\n  bastionctl revoke web1 7d1f7c1e-2f55-4a1b-9d6c-3a1c0d9e7b10"
    )]
    Revoke(Revoke),
    /// Run a command as root on many hosts through Run Command
    #[command(after_help = "Example:\n  bastionctl exec tag:Role=web --concurrency 10 -- uptime")]
    Exec(Exec),
    /// Show the state of hosts
    #[command(after_help = "Example:\n  bastionctl status tag:Role=web --what patch")]
    Status(Status),
    /// Plan or install updates on hosts
    #[command(after_help = "Example:\n  bastionctl patch tag:Role=web --mode run --concurrency 1")]
    Patch(Patch),
    /// Restart a program on hosts
    #[command(after_help = "Example:\n  bastionctl restart tag:Role=web --program web --rolling")]
    Restart(Restart),
    /// Get a session with MFA for a profile that needs one
    #[command(after_help = "Example:\n  bastionctl login --profile prod --mfa 123456")]
    Login(Login),
    /// List the hosts that SSM knows
    #[command(after_help = "Example:\n  bastionctl hosts --json")]
    Hosts(Hosts),
    /// Print an ssh_config for VS Code, Ansible, rsync and git
    #[command(
        after_help = "Example:\n  bastionctl ssh-config web1 web2 > ~/.ssh/bastionctl.conf\n  \
                      then in ~/.ssh/config, at the top: Include ~/.ssh/bastionctl.conf"
    )]
    SshConfig(SshConfig),
    /// Pass a socket of this program's parent to ssh (ProxyUseFdpass)
    #[command(hide = true)]
    InternalFd(InternalFd),
    /// Hold keys for `proxy` until their grants have ended
    #[command(hide = true)]
    InternalKeeper(InternalKeeper),
}

/// `ssh`.
#[derive(Debug, Args)]
pub(crate) struct Ssh {
    /// Option of OpenSSH, for example ServerAliveInterval=30
    #[arg(short = 'o', value_name = "OPTION")]
    pub(crate) options: Vec<String>,
    /// Local forwarding, as ssh -L
    #[arg(short = 'L', value_name = "SPEC")]
    pub(crate) local: Vec<String>,
    /// Remote forwarding, as ssh -R
    #[arg(short = 'R', value_name = "SPEC")]
    pub(crate) remote: Vec<String>,
    /// SOCKS proxy, as ssh -D
    #[arg(short = 'D', value_name = "SPEC")]
    pub(crate) dynamic: Vec<String>,
    /// A terminal even with a command
    #[arg(short = 't')]
    pub(crate) tty: bool,
    /// No command, only forwarding
    #[arg(short = 'N')]
    pub(crate) no_command: bool,
    /// Where to
    #[arg(value_name = "[USER@]HOST")]
    pub(crate) host: String,
    /// Command and its words
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<String>,
}

/// `sftp`.
#[derive(Debug, Args)]
pub(crate) struct Sftp {
    /// Where to
    #[arg(value_name = "[USER@]HOST[:PATH]")]
    pub(crate) host: String,
    /// Options of sftp
    #[arg(last = true, value_name = "OPTION")]
    pub(crate) options: Vec<String>,
}

/// `scp` and `rsync`.
#[derive(Debug, Args)]
pub(crate) struct Pass {
    /// The host, where the words do not tell it
    #[arg(long, value_name = "[USER@]HOST")]
    pub(crate) host: Option<String>,
    // No doc comment, which rustdoc would take for a link.
    #[arg(
        help = "Options and paths as the program takes them; one side is [USER@]HOST:PATH",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARG"
    )]
    pub(crate) args: Vec<String>,
}

/// `cp`.
#[derive(Debug, Args)]
pub(crate) struct Cp {
    /// Sessions of a download
    #[arg(long, short = 'j', default_value_t = 8, value_name = "N")]
    pub(crate) sessions: u8,
    #[arg(help = "[USER@]HOST:PATH or a local file", value_name = "FROM")]
    pub(crate) from: String,
    #[arg(help = "[USER@]HOST:PATH or a local file or directory", value_name = "TO")]
    pub(crate) to: String,
}

/// `proxy`.
#[derive(Debug, Args)]
pub(crate) struct Proxy {
    /// The user who logs in: %r
    #[arg(long, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// Where to: %n
    #[arg(value_name = "HOST")]
    pub(crate) host: String,
    /// Port of sshd: %p
    #[arg(value_name = "PORT")]
    pub(crate) port: Option<u16>,
}

/// `tunnel`.
#[derive(Debug, Args)]
pub(crate) struct Tunnel {
    /// Local address to listen on
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub(crate) bind: std::net::IpAddr,
    /// The host that carries it
    #[arg(value_name = "[USER@]HOST")]
    pub(crate) host: String,
    /// PORT of the host, REMOTE:PORT, or LOCAL:REMOTE:PORT
    #[arg(value_name = "[LOCAL:]REMOTE[:PORT]")]
    pub(crate) spec: String,
}

/// A verb on one host.
#[derive(Debug, Args)]
pub(crate) struct OneHost {
    /// Which
    #[arg(value_name = "HOST")]
    pub(crate) host: String,
}

/// `revoke`.
#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// Where it was granted
    #[arg(value_name = "HOST")]
    pub(crate) host: String,
    /// The grant's id
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

/// What fleet verbs share.
#[derive(Debug, Args)]
pub(crate) struct Fleet {
    /// Hosts at a time, as a number or a percentage
    #[arg(long, default_value = "10", value_name = "N|%")]
    pub(crate) concurrency: String,
    /// Stop after this many failures, as a number or a percentage
    #[arg(long, default_value = "0", value_name = "N|%")]
    pub(crate) max_errors: String,
    /// Give up waiting after this long and cancel what has not ended
    #[arg(long, default_value = "10m", value_name = "TIME")]
    pub(crate) timeout: String,
    /// Instance ids, Name tags, tag:KEY=VALUE or aliases
    #[arg(required = true, value_name = "TARGETS")]
    pub(crate) targets: Vec<String>,
}

/// `exec`.
#[derive(Debug, Args)]
pub(crate) struct Exec {
    #[command(flatten)]
    pub(crate) fleet: Fleet,
    /// Command and its words; one word is taken as a line of shell
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<String>,
}

/// `status`.
#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) fleet: Fleet,
    /// Which part
    #[arg(long, value_enum, default_value_t = What::Status)]
    pub(crate) what: What,
}

/// Parts of a host's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    /// Programs and modules
    Status,
    /// Grants
    Access,
    /// Updates
    Patch,
    /// Rules and lists
    Firewall,
    /// Shipping of logs
    Logs,
}

/// `patch`.
#[derive(Debug, Args)]
pub(crate) struct Patch {
    #[command(flatten)]
    pub(crate) fleet: Fleet,
    /// What to do
    #[arg(long, value_enum, default_value_t = PatchMode::Plan)]
    pub(crate) mode: PatchMode,
}

/// What `patch` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PatchMode {
    /// Say what is missing
    Plan,
    /// Install it
    Run,
    /// Say how the last run went
    Status,
}

/// `restart`.
#[derive(Debug, Args)]
pub(crate) struct Restart {
    #[command(flatten)]
    pub(crate) fleet: Fleet,
    /// Program or group, as `palisade restart` takes it
    #[arg(long, value_name = "NAME")]
    pub(crate) program: String,
    /// One process at a time, the next when the last is ready
    #[arg(long)]
    pub(crate) rolling: bool,
}

/// `login`.
#[derive(Debug, Args)]
pub(crate) struct Login {
    /// The code that the device shows; asked for when left out
    #[arg(long, value_name = "CODE")]
    pub(crate) mfa: Option<String>,
    /// The device, where the profile has no mfa_serial
    #[arg(long, value_name = "ARN")]
    pub(crate) serial: Option<String>,
    /// How long the session lives
    #[arg(long, default_value = "12h", value_name = "TIME")]
    pub(crate) duration: String,
}

/// `hosts`.
#[derive(Debug, Args)]
pub(crate) struct Hosts {
    /// Only these
    #[arg(value_name = "TARGETS")]
    pub(crate) targets: Vec<String>,
}

/// `ssh-config`.
#[derive(Debug, Args)]
pub(crate) struct SshConfig {
    /// Names to write; all aliases of the configuration file when left out
    #[arg(value_name = "HOST")]
    pub(crate) hosts: Vec<String>,
}

/// `internal-fd`.
#[derive(Debug, Args)]
pub(crate) struct InternalFd {
    pub(crate) socket: PathBuf,
}

/// `internal-keeper`.
#[derive(Debug, Args)]
pub(crate) struct InternalKeeper {
    pub(crate) directory: PathBuf,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_sound_and_every_visible_verb_shows_an_example() {
        let command = Cli::command();
        command.clone().debug_assert();
        for verb in command.get_subcommands().filter(|v| !v.is_hide_set()) {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("bastionctl "), "{} has no example", verb.get_name());
        }
    }

    #[test]
    fn words_after_two_dashes_are_the_command_and_options_before_them_are_ours() {
        let line = ["bastionctl", "ssh", "--ttl", "5m", "deploy@web1", "--", "ls", "--ttl"];
        let cli = Cli::try_parse_from(line).unwrap();
        assert_eq!(cli.common.ttl.as_deref(), Some("5m"));
        let Verb::Ssh(ssh) = cli.verb else { panic!("not ssh") };
        assert_eq!(
            (ssh.host.as_str(), ssh.command),
            ("deploy@web1", vec!["ls".into(), "--ttl".into()])
        );
    }

    #[test]
    fn scp_and_rsync_keep_their_own_options() {
        let cli =
            Cli::try_parse_from(["bastionctl", "rsync", "-az", "--delete", "a/", "w:b/"]).unwrap();
        let Verb::Rsync(pass) = cli.verb else { panic!("not rsync") };
        assert_eq!(pass.args, ["-az", "--delete", "a/", "w:b/"]);
    }
}
