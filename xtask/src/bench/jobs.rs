//! Programs to be run, as each supervisor wants to be told of them.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::peers::{Peer, Tools};
use crate::{cmd::Cmd, host};

/// Bytes after which a log is rotated where it is to be.
const ROTATE_AT: u64 = 50_000_000;

/// One program. It is started with its supervisor and whenever it ends.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) name: String,
    /// Words with spaces between, the first one a path.
    pub(crate) command: String,
    pub(crate) copies: usize,
    /// What becomes of its standard output.
    pub(crate) log: Log,
    /// It counts as up from its first moment.
    pub(crate) at_once: bool,
}

/// What becomes of a standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Log {
    None,
    /// A file that grows.
    File,
    /// A file that is rotated, one old one kept.
    Rotated,
}

impl Job {
    /// One copy without a log.
    pub(crate) fn new(name: &str, command: String) -> Self {
        Self { name: name.to_owned(), command, copies: 1, log: Log::None, at_once: false }
    }
}

/// The file that the output of a job goes to.
pub(crate) fn log_file(peer: Peer, dir: &Path, job: &str) -> PathBuf {
    match peer {
        Peer::Supervisord | Peer::Palisade | Peer::Circus => dir.join(format!("{job}.log")),
        Peer::S6 | Peer::Runit => dir.join(format!("{job}.logs/current")),
    }
}

/// Writes the jobs down as this supervisor reads them, and returns how it is started.
pub(super) fn lay_out(peer: Peer, tools: &Tools, dir: &Path, jobs: &[Job]) -> Result<Cmd> {
    match peer {
        Peer::Supervisord => {
            let config = dir.join("supervisord.conf");
            host::write(&config, supervisord(dir, jobs))?;
            Ok(Cmd::new(&tools.supervisord).args(["-n", "-c"]).arg(&config).bare_env())
        }
        Peer::Palisade => {
            let config = dir.join("palisade.yaml");
            host::write(&config, palisade(dir, jobs))?;
            Ok(Cmd::new(&tools.palisade).args(["run", "-c"]).arg(&config).bare_env())
        }
        Peer::Circus => {
            let config = dir.join("circus.ini");
            host::write(&config, circus(dir, jobs))?;
            let circusd = tools.circusd.as_ref().context("circus is not installed")?;
            Ok(Cmd::new(circusd).arg(&config).bare_env())
        }
        Peer::S6 | Peer::Runit => {
            let services = dir.join("services");
            for job in jobs {
                for copy in 0..job.copies {
                    service(peer, dir, &services.join(format!("{}-{copy}", job.name)), job)?;
                }
            }
            let scanner = if peer == Peer::S6 { "s6-svscan" } else { "runsvdir" };
            Ok(Cmd::new(scanner).arg(services).bare_env())
        }
    }
}

fn supervisord(dir: &Path, jobs: &[Job]) -> String {
    let shown = dir.display();
    let mut text = format!(
        "[supervisord]\nlogfile={shown}/supervisord.log\npidfile={shown}/pid\n\
         [unix_http_server]\nfile={shown}/sock\n\
         [rpcinterface:supervisor]\n\
         supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
    );
    for Job { name, command, copies, log, at_once } in jobs {
        let startsecs = if *at_once { 0 } else { 1 };
        text += &format!(
            "[program:{name}]\ncommand={command}\nprocess_name=%(program_name)s_%(process_num)d\n\
             numprocs={copies}\nautorestart=true\nstartsecs={startsecs}\nstderr_logfile=NONE\n"
        );
        let file = log_file(Peer::Supervisord, dir, name);
        text += &match log {
            Log::None => "stdout_logfile=NONE\n".to_owned(),
            Log::File => format!("stdout_logfile={}\nstdout_logfile_maxbytes=0\n", file.display()),
            Log::Rotated => format!(
                "stdout_logfile={}\nstdout_logfile_maxbytes={ROTATE_AT}\n\
                 stdout_logfile_backups=1\n",
                file.display()
            ),
        };
    }
    text
}

fn palisade(dir: &Path, jobs: &[Job]) -> String {
    let shown = dir.display();
    let mut text = format!(
        "version: 1\nhost: {{ role: origin, state_dir: {shown}/state, run_dir: {shown}/run }}\n\
         control: {{ socket: {shown}/sock }}\nprograms:\n"
    );
    for Job { name, command, copies, log, at_once } in jobs {
        let startsecs = if *at_once { 0 } else { 1 };
        text += &format!(
            "  {name}:\n    command: {command}\n    numprocs: {copies}\n    autorestart: true\n    \
             startsecs: {startsecs}s\n    stderr_logfile: NONE\n"
        );
        let file = log_file(Peer::Palisade, dir, name);
        text += &match log {
            Log::None => "    stdout_logfile: NONE\n".to_owned(),
            Log::File => {
                format!("    stdout_logfile: {}\n    stdout_logfile_maxbytes: 0\n", file.display())
            }
            Log::Rotated => format!(
                "    stdout_logfile: {}\n    stdout_logfile_maxbytes: {ROTATE_AT}B\n    \
                 stdout_logfile_backups: 1\n",
                file.display()
            ),
        };
    }
    text
}

fn circus(dir: &Path, jobs: &[Job]) -> String {
    let shown = dir.display();
    let mut text = format!(
        "[circus]\nendpoint = ipc://{shown}/ctl\npubsub_endpoint = ipc://{shown}/pub\n\
         statsd = False\n"
    );
    for Job { name, command, copies, log, at_once: _ } in jobs {
        text += &format!(
            "[watcher:{name}]\ncmd = {command}\nnumprocesses = {copies}\ncopy_env = True\n\
             max_retry = -1\n"
        );
        if *log != Log::None {
            let file = log_file(Peer::Circus, dir, name);
            text += &format!(
                "stdout_stream.class = FileStream\nstdout_stream.filename = {}\n",
                file.display()
            );
        }
        if *log == Log::Rotated {
            text +=
                &format!("stdout_stream.max_bytes = {ROTATE_AT}\nstdout_stream.backup_count = 1\n");
        }
    }
    text
}

/// A service directory of s6 or runit.
fn service(peer: Peer, dir: &Path, service: &Path, job: &Job) -> Result<()> {
    let silence = if job.log == Log::None { " >/dev/null" } else { "" };
    script(&service.join("run"), &format!("exec {}{silence}", job.command))?;
    if job.log == Log::None {
        return Ok(());
    }
    let file = log_file(peer, dir, &job.name);
    let logs = file.parent().context("a log has a directory")?;
    fs::create_dir_all(logs).with_context(|| format!("create {}", logs.display()))?;
    let size = if job.log == Log::Rotated { ROTATE_AT } else { 0 };
    let command = match peer {
        Peer::S6 => {
            // It knows no file that grows for ever; this is its most.
            let size = if size == 0 { 268_435_455 } else { size };
            format!("exec s6-log n1 s{size} {}", logs.display())
        }
        Peer::Supervisord | Peer::Palisade | Peer::Circus | Peer::Runit => {
            host::write(&logs.join("config"), format!("s{size}\nn2\n"))?;
            format!("exec svlogd {}", logs.display())
        }
    };
    script(&service.join("log/run"), &command)
}

fn script(path: &Path, command: &str) -> Result<()> {
    host::write(path, format!("#!/bin/sh\n{command}\n"))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("make {} executable", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> Job {
        Job { log: Log::Rotated, copies: 2, ..Job::new("web", "/bin/web -x".to_owned()) }
    }

    #[test]
    fn each_peer_is_told_the_same() {
        let (dir, jobs) = (Path::new("/d"), [job()]);
        let (s, p, c) = (supervisord(dir, &jobs), palisade(dir, &jobs), circus(dir, &jobs));
        for (text, words) in [
            (&s, ["command=/bin/web -x", "numprocs=2", "=/d/web.log", "maxbytes=50000000"]),
            (&p, ["command: /bin/web -x", "numprocs: 2", ": /d/web.log", "maxbytes: 50000000B"]),
            (&c, ["cmd = /bin/web -x", "numprocesses = 2", "= /d/web.log", "= 50000000"]),
        ] {
            for word in words {
                assert!(text.contains(word), "{word} is not in\n{text}");
            }
        }
    }

    #[test]
    fn a_service_has_a_logger_only_if_it_has_a_log() {
        let root = std::env::temp_dir().join(format!("palisade-jobs-{}", std::process::id()));
        service(Peer::Runit, &root, &root.join("a"), &job()).unwrap();
        service(Peer::S6, &root, &root.join("b"), &Job { log: Log::None, ..job() }).unwrap();
        let read = |path: &str| host::read(&root.join(path));
        assert_eq!(read("a/run").unwrap(), "#!/bin/sh\nexec /bin/web -x\n");
        assert!(read("a/log/run").unwrap().contains("exec svlogd"));
        assert_eq!(read("web.logs/config").unwrap(), "s50000000\nn2\n");
        assert!(read("b/run").unwrap().contains(">/dev/null"));
        assert!(read("b/log/run").is_err());
        fs::remove_dir_all(root).unwrap();
    }
}
