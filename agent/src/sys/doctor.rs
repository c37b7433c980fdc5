//! The facts of this host for `palisade doctor`. Looks and asks; changes nothing.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{sys::statvfs::statvfs, unistd::Uid};

use super::{
    access::sshd::{self as sshd_setup},
    cgroup,
    children::Children,
    command,
    exec::{self, Cmd, ExecError},
    pidfd, proc, users,
};
use crate::{
    doctor::{Cgroups, Clock, Disk, Facts, Fault, Kernel, Sshd, Tool, Whose},
    errors::Chain,
    log_place,
    supervise::{self, LogPath, ProcessSpec},
};

const NFT: &str = "/usr/sbin/nft";
const NGINX: [&str; 2] = ["/usr/sbin/nginx", "/usr/local/sbin/nginx"];
/// As much of a tool's own words as is shown.
const MAX_WORDS: usize = 300;
/// The kernel's mark of a clock that nobody keeps.
const UNSYNCHRONISED: i32 = 0x40;

/// What is looked at.
#[derive(Debug)]
pub struct Look<'a> {
    /// The process of the running agent, if there is one.
    pub agent: Option<i32>,
    /// What the configuration says of programs and directories.
    pub supervise: &'a supervise::Settings,
    /// The agent's state directory.
    pub state_dir: &'a Path,
    /// Where sshd is.
    pub sshd: &'a sshd_setup::Sshd,
    /// Users that may be granted access.
    pub users: &'a [String],
}

/// Gathers what can be seen from here. What cannot be is a fact too.
pub async fn look(children: &Children, at: &Look<'_>) -> Facts {
    let nft = ask(children, Path::new(NFT), &["list", "tables"]).await;
    let nginx = NGINX.iter().map(Path::new).find(|p| p.exists());
    let nginx = match nginx {
        Some(program) => ask(children, program, &["-t", "-q"]).await,
        None => Tool::Missing,
    };
    let run_dir = at.supervise.run_dir.as_path();
    Facts {
        mistakes: None,
        is_root: Uid::effective().is_root(),
        agent: at.agent,
        kernel: kernel(),
        nft,
        cgroups: cgroups(&at.supervise.cgroup, at.agent),
        sshd: sshd(children, at.sshd, at.users).await,
        nginx,
        origin: None,
        clock: clock(),
        disks: vec![disk("state", at.state_dir), disk("run", run_dir)],
        credentials: None,
        programs: faults(&at.supervise.processes, path_of(at.agent).as_deref()),
    }
}

async fn ask(children: &Children, program: &Path, args: &[&str]) -> Tool {
    let cmd = Cmd::new(program).args(args).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    match exec::run(children, cmd).await {
        Ok(out) if out.code == Some(0) => Tool::Works,
        Ok(out) => {
            let text = String::from_utf8_lossy(&out.stderr);
            let words = text.lines().find(|l| !l.trim().is_empty()).unwrap_or("no reason given");
            Tool::Failed(words.chars().take(MAX_WORDS).collect())
        }
        Err(ExecError::Start { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Tool::Missing
        }
        Err(e) => Tool::Failed(Chain(&e).to_string()),
    }
}

fn kernel() -> Kernel {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let no_pidfd = pidfd::open(own).err().map(|e| e.to_string());
    Kernel { release: release.trim().to_owned(), no_pidfd }
}

fn cgroups(setting: &supervise::Cgroup, agent: Option<i32>) -> Cgroups {
    let mount = cgroup::mount();
    let (whose, dir) = match (setting, agent) {
        (supervise::Cgroup::Off, _) => return Cgroups { mount, ..Cgroups::default() },
        (supervise::Cgroup::At(dir), _) => (Whose::Named, Some(dir.clone())),
        (supervise::Cgroup::Auto, Some(pid)) => (Whose::Agent, own_of(mount.as_deref(), pid)),
        (supervise::Cgroup::Auto, None) => {
            let own = i32::try_from(std::process::id()).unwrap_or(0);
            (Whose::Command, own_of(mount.as_deref(), own))
        }
    };
    // The agent sits in a leaf of what was delegated to it.
    let above = dir.as_deref().filter(|d| d.ends_with("agent")).and_then(Path::parent);
    let above = above.filter(|d| cgroup::is_delegated(d)).map(Path::to_owned);
    let dir = above.or(dir).filter(|d| d.join("cgroup.procs").exists());
    let read = |file: &str| -> BTreeSet<String> {
        let text = dir.as_ref().map(|d| fs::read_to_string(d.join(file)).unwrap_or_default());
        text.unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect()
    };
    Cgroups {
        whose,
        is_delegated: dir
            .as_deref()
            .is_some_and(|d| whose == Whose::Named || cgroup::is_delegated(d)),
        controllers: read("cgroup.controllers"),
        handed_down: read("cgroup.subtree_control"),
        has_kill: dir.as_ref().is_some_and(|d| d.join("cgroup.kill").exists()),
        mount,
        dir,
    }
}

fn own_of(mount: Option<&Path>, pid: i32) -> Option<PathBuf> {
    Some(mount?.join(proc::cgroup_of(pid)?))
}

async fn sshd(children: &Children, sshd: &sshd_setup::Sshd, users: &[String]) -> Sshd {
    if !sshd.program.exists() {
        return Sshd::default();
    }
    let mut found = Sshd { tool: Tool::Works, ..Sshd::default() };
    let anybody = ["root".to_owned()];
    for user in if users.is_empty() { &anybody } else { users } {
        match sshd.effective(children, user).await {
            Ok(settings) => {
                let first = settings.get("authorizedkeyscommand").and_then(|v| v.first());
                found.keys_command = first.filter(|c| *c != "none").cloned();
                found.obstacles.extend(sshd_setup::obstacles(user, &settings));
            }
            Err(e) => {
                let words: String = Chain(&e).to_string().chars().take(MAX_WORDS).collect();
                return Sshd { tool: Tool::Failed(words), ..found };
            }
        }
    }
    found
}

#[expect(unsafe_code, reason = "no safe wrapper of adjtimex in nix")]
fn clock() -> Clock {
    // SAFETY: a struct of plain numbers, for which zeros are valid; with no mode set nothing is changed.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to our own struct, which lives throughout the call.
    if unsafe { libc::adjtimex(&raw mut state) } < 0 {
        return Clock::default();
    }
    let error = u64::try_from(state.maxerror).ok().map(Duration::from_micros);
    Clock { is_synchronised: Some(state.status & UNSYNCHRONISED == 0), error }
}

fn disk(what: &'static str, path: &Path) -> Disk {
    let disk = Disk { what, path: path.to_owned(), ..Disk::default() };
    match statvfs(path) {
        Ok(s) => Disk {
            bytes: (s.blocks_available() * s.fragment_size(), s.blocks() * s.fragment_size()),
            files: (s.files_available(), s.files()),
            ..disk
        },
        Err(e) => Disk { error: Some(io::Error::from(e).to_string()), ..disk },
    }
}

/// What programs need and do not find, each once for all processes of a program.
fn faults(processes: &[ProcessSpec], path: Option<&OsStr>) -> Vec<Fault> {
    let mut all: Vec<Fault> = Vec::new();
    for spec in processes {
        for what in faults_of(spec, path) {
            let fault = Fault { program: spec.program.to_string(), what };
            if !all.contains(&fault) {
                all.push(fault);
            }
        }
    }
    all
}

/// The `PATH` that commands are looked up in: the agent's, or where none runs that of this command.
fn path_of(agent: Option<i32>) -> Option<OsString> {
    let environ = agent.and_then(|pid| fs::read(format!("/proc/{pid}/environ")).ok());
    match environ {
        Some(environ) => proc::variable(&environ, "PATH"),
        None => std::env::var_os("PATH"),
    }
}

fn faults_of(spec: &ProcessSpec, path: Option<&OsStr>) -> Vec<String> {
    let mut all = Vec::new();
    if let Some(user) = &spec.user
        && let Err(e) = users::identity(user)
    {
        all.push(format!("user {user}: {e}"));
    }
    if let Some(dir) = spec.directory.as_ref().filter(|d| !d.is_dir()) {
        all.push(format!("directory {} is not there", dir.display()));
    }
    let hooks = spec.hooks.pre_start.iter().chain(&spec.hooks.post_start);
    let commands = hooks.filter_map(|h| h.argv.first()).chain(spec.argv.first());
    // The agent is in no directory of anybody's.
    let directory = spec.directory.clone().or_else(|| Some("/".into()));
    let at = ProcessSpec { directory, ..spec.clone() };
    all.extend(commands.filter_map(|c| command::find(c, &at, path).err()).map(|e| e.to_string()));
    for log in [&spec.stdout, &spec.stderr] {
        if let LogPath::At(path) = &log.path
            && let Err(why) = can_log(path)
        {
            all.push(format!("log {}: {why}", path.display()));
        }
    }
    all
}

/// Whether the agent could write a log there. It makes the directories that are not there.
fn can_log(path: &Path) -> Result<(), String> {
    // The root is there, so one is found.
    let there = path.ancestors().skip(1).find(|d| fs::symlink_metadata(d).is_ok());
    let Some(dir) = there.filter(|d| *d != Path::new("")) else { return Ok(()) };
    if !dir.is_dir() {
        return Err(format!("{} is no directory", dir.display()));
    }
    match log_place::find(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        found => found.map(drop).map_err(|e| e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::supervise::{LogFile, testutil::spec};

    #[test]
    fn this_host_has_a_kernel_a_clock_and_disks() {
        let kernel = kernel();
        assert!(kernel.release.starts_with(|c: char| c.is_ascii_digit()), "{kernel:?}");
        assert_eq!(kernel.no_pidfd, None);
        assert!(clock().is_synchronised.is_some());
        let found = disk("state", Path::new("/tmp"));
        assert!(found.bytes.0 > 0 && found.bytes.0 <= found.bytes.1, "{found:?}");
        assert!(disk("state", Path::new("/no/such/place")).error.is_some());
    }

    #[test]
    fn what_a_program_needs_and_does_not_find_is_told_once() {
        let mut bad = spec("web");
        bad.user = Some("no-such-user".to_owned());
        bad.directory = Some("/no/such/place".into());
        bad.argv = vec!["bin/web".to_owned()];
        bad.stdout = LogFile { path: LogPath::At("/dev/null/web.log".into()), ..bad.stdout };
        let all: Vec<_> = faults(&[bad.clone(), bad], None).into_iter().map(|f| f.what).collect();
        assert_eq!(all.len(), 4, "{all:?}");
        assert!(all[0].contains("no-such-user"), "{all:?}");
        assert_eq!(all[1], "directory /no/such/place is not there");
        assert_eq!(all[2], "can't find command 'bin/web'");
        assert_eq!(all[3], "log /dev/null/web.log: /dev/null is no directory");
        let mut good = spec("good");
        good.argv = vec!["/bin/true".to_owned()];
        assert_eq!(faults(&[good], None), []);
    }

    #[test]
    fn a_log_directory_that_the_agent_will_make_is_no_fault_and_a_link_not_to_be_followed_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let mut spec = spec("web");
        spec.argv = vec!["true".to_owned()];
        let path = dir.path().join("not/there/web.log");
        spec.stdout = LogFile { path: LogPath::At(path), ..spec.stdout };
        assert_eq!(faults_of(&spec, None), Vec::<String>::new());
        assert!(!dir.path().join("not").exists());
        let link = dir.path().join("web.log");
        std::os::unix::fs::symlink("real", &link).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        spec.stdout.path = LogPath::At(link);
        assert!(faults_of(&spec, None)[0].contains("symbolic link"));
    }

    #[test]
    fn a_command_without_a_slash_is_looked_up_as_at_its_start() {
        let mut spec = spec("web");
        spec.argv = vec!["truee".to_owned()];
        assert_eq!(faults_of(&spec, None), ["can't find command 'truee'"]);
        spec.argv = vec!["true".to_owned()];
        assert_eq!(faults_of(&spec, Some(OsStr::new("/no:/bin"))), Vec::<String>::new());
        assert_eq!(faults_of(&spec, Some(OsStr::new("/no"))), ["can't find command 'true'"]);
        spec.environment.insert("PATH".to_owned(), "/bin".to_owned());
        assert_eq!(faults_of(&spec, Some(OsStr::new("/no"))), Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_tool_that_is_not_there_or_fails_says_so() {
        let children = Children::default();
        assert_eq!(ask(&children, Path::new("/no/such/tool"), &[]).await, Tool::Missing);
        assert_eq!(ask(&children, Path::new("/bin/true"), &[]).await, Tool::Works);
        let said = ask(&children, Path::new("/bin/sh"), &["-c", "echo why >&2; exit 1"]).await;
        assert_eq!(said, Tool::Failed("why".to_owned()));
    }
}
