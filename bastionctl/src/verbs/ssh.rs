//! `ssh`, `sftp`, `scp` and `rsync`: OpenSSH does the work, over a way that this program opens.

use palisade_types::grant::Only;
use tokio::process::Command;

use crate::{
    child::{self, Signals},
    cli,
    failed::{Failed, Outcome},
    program,
    run::Run,
    way::Way,
};

/// ssh's own exit code for a failure of its own.
const SSH_FAILED: u8 = 255;

/// A program that copies over ssh.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Copier {
    name: &'static str,
    /// Its options, of one letter, that take the next word.
    with_value: &'static str,
    /// Its long options that take the next word.
    long_with_value: &'static [&'static str],
    needs: Only,
}

pub(crate) const SCP: Copier =
    Copier { name: "scp", with_value: "cDFiJloPSX", long_with_value: &[], needs: Only::Sftp };
pub(crate) const RSYNC: Copier = Copier {
    name: "rsync",
    with_value: "eBfMT@",
    long_with_value: &[
        "--exclude",
        "--include",
        "--filter",
        "--exclude-from",
        "--include-from",
        "--files-from",
        "--max-size",
        "--min-size",
        "--bwlimit",
        "--log-file",
        "--out-format",
        "--backup-dir",
        "--suffix",
        "--partial-dir",
        "--temp-dir",
        "--compare-dest",
        "--copy-dest",
        "--link-dest",
        "--chmod",
        "--chown",
        "--usermap",
        "--groupmap",
        "--timeout",
        "--rsync-path",
        "--info",
        "--debug",
        "--port",
        "--block-size",
        "--remote-option",
        "--skip-compress",
    ],
    // It runs a program on the host.
    needs: Only::Shell,
};

pub(crate) async fn ssh(run: &Run, args: cli::Ssh, signals: &mut Signals) -> Outcome<u8> {
    let place = run.settings.place(&args.host)?;
    let only = run.only(Only::Shell)?;
    let way = run.until_signal(signals, Way::open(run, &place, only)).await?;
    let mut command = program::command("ssh");
    command.arg("-F").arg(way.config());
    let repeated =
        [("-o", &args.options), ("-L", &args.local), ("-R", &args.remote), ("-D", &args.dynamic)];
    for (option, values) in repeated {
        command.args(values.iter().flat_map(|v| [option, v]));
    }
    command.args(args.tty.then_some("-t")).args(args.no_command.then_some("-N"));
    command.arg("--").arg(way.name());
    if !args.command.is_empty() {
        command.arg(words(&args.command)?);
    }
    finish(run, way, command, "ssh", signals).await
}

/// The command as one line for the shell there. One word is taken as it is, so that pipes and
/// variables may be written; several are quoted, so that each arrives as it was typed.
pub(crate) fn words(command: &[String]) -> Outcome<String> {
    match command {
        [line] => Ok(line.clone()),
        words => shlex::try_join(words.iter().map(String::as_str))
            .map_err(|e| Failed::usage(format!("the command cannot be quoted: {e}"))),
    }
}

pub(crate) async fn sftp(run: &Run, args: cli::Sftp, signals: &mut Signals) -> Outcome<u8> {
    let (host, path) = match args.host.split_once(':') {
        Some((host, path)) if !host.ends_with("tag") => (host, Some(path)),
        Some(_) | None => (args.host.as_str(), None),
    };
    let place = run.settings.place(host)?;
    let only = run.only(Only::Sftp)?;
    let way = run.until_signal(signals, Way::open(run, &place, only)).await?;
    let mut command = program::command("sftp");
    command.arg("-F").arg(way.config()).args(&args.options).arg("--");
    command.arg(path.map_or_else(|| way.name().to_owned(), |p| format!("{}:{p}", way.name())));
    finish(run, way, command, "sftp", signals).await
}

pub(crate) async fn copy(
    run: &Run,
    copier: Copier,
    args: cli::Pass,
    signals: &mut Signals,
) -> Outcome<u8> {
    let host = match args.host {
        Some(host) => host,
        None => remote(copier, &args.args)?,
    };
    let place = run.settings.place(&host)?;
    if !crate::ssh_files::is_plain_name(&place.name) {
        return Err(Failed::usage(format!(
            "{} takes no host of this name: {}",
            copier.name, place.name
        ))
        .hint("use the instance id or an alias of the configuration file"));
    }
    let only = run.only(copier.needs)?;
    let way = run.until_signal(signals, Way::open(run, &place, only)).await?;
    let mut command = program::command(copier.name);
    if copier.name == RSYNC.name {
        let config = way.config().display().to_string();
        let shell = words(&["ssh".into(), "-F".into(), config])?;
        command.arg("-e").arg(shell);
    } else {
        // By SFTP, for which alone the grant is good; before OpenSSH 9 that is not the default.
        command.arg("-s").arg("-F").arg(way.config());
    }
    command.args(&args.args);
    finish(run, way, command, copier.name, signals).await
}

/// The `[USER@]HOST` in front of the first colon of a path.
fn remote(copier: Copier, args: &[String]) -> Outcome<String> {
    let mut hosts: Vec<&str> = Vec::new();
    let mut words = args.iter();
    let mut options = true;
    while let Some(word) = words.next() {
        if options && word == "--" {
            options = false;
        } else if options && word.starts_with("--") {
            if copier.long_with_value.contains(&word.as_str()) {
                words.next();
            }
        } else if let Some(letters) = word.strip_prefix('-').filter(|_| options) {
            // The value may be glued on; only a letter at the end takes the next word.
            let first = letters.find(|c| copier.with_value.contains(c));
            if first.is_some_and(|at| at + 1 == letters.len()) {
                words.next();
            }
        } else if let Some((host, _)) = word.split_once(':').filter(|(h, _)| !h.contains('/'))
            && !host.is_empty()
            && !hosts.contains(&host)
        {
            hosts.push(host);
        }
    }
    match hosts.as_slice() {
        [host] => Ok((*host).to_owned()),
        [] => {
            Err(Failed::usage(format!("{}: no path is of the form [USER@]HOST:PATH", copier.name)))
        }
        several => Err(Failed::usage(format!(
            "{}: one host at a time, not {}",
            copier.name,
            several.join(" and ")
        ))),
    }
}

/// Runs the program over the way, and tells the one reason if it failed because of the way.
async fn finish(
    run: &Run,
    way: Way,
    mut command: Command,
    name: &str,
    signals: &mut Signals,
) -> Outcome<u8> {
    let ran = child::run(&mut command, signals).await;
    run.at("the program ended");
    let prints = way.fingerprints().join(", ");
    let went_wrong = way.close().await;
    run.at("session ended");
    if run.settings.keep {
        run.debts.keep_grants();
    }
    let code = ran.map_err(|e| {
        Failed::because(format!("run {name}"), &e).hint(format!("is {name} installed, in PATH?"))
    })?;
    match went_wrong {
        Some(failed) if code != 0 => run.printer.failure(&failed),
        None if code == SSH_FAILED => {
            // ssh has shown the key that it was offered, if that was the reason.
            run.printer.note(format_args!("note: host keys as their agents told them: {prints}"));
        }
        Some(_) | None => {}
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(copier: Copier, line: &str) -> Outcome<String> {
        remote(copier, &line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_host_is_found_among_the_words_of_scp_and_rsync() {
        assert_eq!(find(SCP, "-r web1:/var/log ./logs").unwrap(), "web1");
        assert_eq!(find(SCP, "-o A=b:c -P 22 a deploy@web1:").unwrap(), "deploy@web1");
        assert_eq!(find(SCP, "-- -a:b web1:x").err().map(|f| f.kind.code()), Some(2));
        assert_eq!(find(RSYNC, "-az --exclude a:b ./s/ u@w:/d/ ").unwrap(), "u@w");
        assert_eq!(find(RSYNC, "-avz w:/a w:/b dir/c:d .").unwrap(), "w");
        assert!(find(SCP, "a b").unwrap_err().to_string().contains("no path"));
        assert!(find(SCP, "a:x b:y").unwrap_err().to_string().contains("a and b"));
    }

    #[test]
    fn several_words_arrive_as_typed_and_one_is_a_line_of_shell() {
        let words =
            |w: &[&str]| super::words(&w.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        assert_eq!(words(&["ls | wc"]).unwrap(), "ls | wc");
        assert_eq!(words(&["echo", "a b", "$HOME"]).unwrap(), "echo 'a b' '$HOME'");
        assert!(words(&["a", "b\0"]).is_err());
    }
}
