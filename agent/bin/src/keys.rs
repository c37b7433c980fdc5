//! `palisade authorized-keys USER TYPE KEY FINGERPRINT`: sshd's helper.
//!
//! It runs as an unprivileged user, before the rest of this program is even set up. It prints what the
//! agent answers and nothing else, and what is odd in any way prints nothing: sshd takes no line of a
//! helper that fails. Keys that no grant has are left to EC2 Instance Connect's helper, where that is
//! installed, so that keys of either are taken; it gets its turn also while no agent answers.

use std::{
    ffi::OsString,
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::mpsc,
    thread,
    time::Duration,
};

use palisade_agent::{
    access::{MAX_LINE, decode_answer, encode_question},
    sys::access::chain,
};
use tokio::time::Instant;

const VERB: &str = "authorized-keys";
const SOCKET: &str = "/run/palisade/authorized-keys.sock";
/// EC2 Instance Connect's helper, of Amazon Linux and of Ubuntu and Debian.
const EIC: [&str; 2] = [
    "/opt/aws/bin/eic_run_authorized_keys",
    "/usr/share/ec2-instance-connect/eic_run_authorized_keys",
];
/// The agent has this long, much more than it needs on a loaded host. Its own deadline is shorter, so
/// that a late answer is none for both. [`IN_ALL`] keeps sshd from waiting two seconds.
const WITHIN: Duration = Duration::from_millis(1300);
/// An agent that is being replaced is back within this.
const AWAY: Duration = Duration::from_millis(600);
const PAUSE: Duration = Duration::from_millis(20);
/// How long the next helper may take: after an answer, and where none came.
const CHAIN: Duration = Duration::from_secs(5);
const CHAIN_LATE: Duration = Duration::from_millis(900);
/// No agent and the next helper together, however slow the host is.
const IN_ALL: Duration = Duration::from_millis(1800);

/// What sshd and its configuration say.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    socket: PathBuf,
    chain: Vec<PathBuf>,
    user: String,
    kind: String,
    key: String,
    fingerprint: OsString,
}

/// The helper, if that is what this process was started as.
pub(crate) fn main() -> Option<ExitCode> {
    let mut words = std::env::args_os().skip(1).peekable();
    words.next_if(|w| w == VERB)?;
    // clap has the help of every verb.
    if words.peek().is_some_and(|w| w == "--help" || w == "-h") {
        return None;
    }
    Some(match parse(words) {
        Some(asked) => answer(&asked),
        None => failed("usage: palisade authorized-keys [--socket PATH] USER TYPE KEY FINGERPRINT"),
    })
}

fn parse(mut words: impl Iterator<Item = OsString>) -> Option<Asked> {
    let (mut socket, mut chain) = (PathBuf::from(SOCKET), None);
    let user = loop {
        let word = words.next()?;
        match word.to_str()? {
            "--socket" => socket = words.next()?.into(),
            "--then" => chain = Some(vec![words.next()?.into()]),
            user => break user.to_owned(),
        }
    };
    let mut text = || words.next()?.into_string().ok();
    let (kind, key) = (text()?, text()?);
    let fingerprint = words.next()?;
    words.next().is_none().then(|| Asked {
        socket,
        chain: chain.unwrap_or_else(|| EIC.iter().map(PathBuf::from).collect()),
        user,
        kind,
        key,
        fingerprint,
    })
}

fn answer(asked: &Asked) -> ExitCode {
    let begun = Instant::now();
    let (socket, question) =
        (asked.socket.clone(), encode_question(&asked.user, &asked.kind, &asked.key));
    let (tell, told) = mpsc::channel();
    let ask = move || {
        let answer = question.map_err(io::Error::from).and_then(|q| ask(&socket, &q));
        // Nobody waits any more after the deadline.
        tell.send(answer).unwrap_or_default();
    };
    // On a thread of its own, so that no system call can hold sshd up beyond the deadline.
    if let Err(e) = thread::Builder::new().spawn(ask) {
        return failed(&format!("ask the agent: {e}"));
    }
    let late = || Err(io::Error::from(io::ErrorKind::TimedOut));
    match told.recv_timeout(WITHIN).unwrap_or_else(|_| late()) {
        Ok(lines) if !lines.is_empty() => print(&lines),
        Ok(_) => next_helper(asked, CHAIN, ExitCode::SUCCESS),
        Err(e) => {
            let code = failed(&format!("no answer at {}: {e}", asked.socket.display()));
            let left = IN_ALL.saturating_sub(begun.elapsed());
            next_helper(asked, CHAIN_LATE.min(left), code)
        }
    }
}

/// The lines that the agent answers.
fn ask(socket: &Path, question: &[u8]) -> io::Result<Vec<String>> {
    let mut stream = connect(socket)?;
    stream.set_read_timeout(Some(WITHIN))?;
    stream.set_write_timeout(Some(WITHIN))?;
    stream.write_all(question)?;
    let mut bytes = Vec::new();
    stream.take(MAX_LINE as u64).read_to_end(&mut bytes)?;
    decode_answer(&bytes).ok_or_else(|| io::Error::other("the agent's answer is not understood"))
}

/// Connects, and tries again for a moment while an agent is being replaced.
fn connect(socket: &Path) -> io::Result<UnixStream> {
    let mut waited = Duration::ZERO;
    loop {
        match UnixStream::connect(socket) {
            Err(e) if waited < AWAY && may_come_back(&e) => {
                thread::park_timeout(PAUSE);
                waited += PAUSE;
            }
            done => return done,
        }
    }
}

fn may_come_back(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound)
}

fn print(lines: &[String]) -> ExitCode {
    let text: String = lines.iter().map(|l| format!("{l}\n")).collect();
    print_bytes(text.as_bytes())
}

fn print_bytes(bytes: &[u8]) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Says what the next helper says, if there is one; else ends as it would have.
fn next_helper(asked: &Asked, within: Duration, otherwise: ExitCode) -> ExitCode {
    let Some(next) = asked.chain.iter().find(|p| p.exists()) else { return otherwise };
    let words = [OsString::from(&asked.user), asked.fingerprint.clone()];
    match chain::ask(next, &words, within) {
        Ok((status, said)) if status.success() => print_bytes(&said),
        Ok((status, _)) => {
            let code = status.code().and_then(|c| u8::try_from(c).ok());
            code.map_or(ExitCode::FAILURE, ExitCode::from)
        }
        Err(e) => failed(&format!("run {}: {e}", next.display())),
    }
}

/// sshd logs what its helper complains of, at its own level.
fn failed(why: &str) -> ExitCode {
    writeln!(io::stderr().lock(), "palisade authorized-keys: {why}").unwrap_or_default();
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(words: &[&str]) -> Option<Asked> {
        parse(words.iter().map(OsString::from))
    }

    #[test]
    fn what_sshd_says_is_read_and_anything_else_refused() {
        let good = asked(&["--socket", "/x", "deploy", "ssh-ed25519", "AAAA", "SHA256:y"]).unwrap();
        assert_eq!(good.socket, Path::new("/x"));
        assert_eq!((good.user.as_str(), good.key.as_str()), ("deploy", "AAAA"));
        assert_eq!(good.chain.len(), 2);
        for bad in [
            &[][..],
            &["deploy"],
            &["--socket"],
            &["deploy", "ssh-ed25519", "AAAA"],
            &["deploy", "ssh-ed25519", "AAAA", "SHA256:y", "more"],
        ] {
            assert_eq!(asked(bad), None, "{bad:?}");
        }
    }
}
