//! A state directory on a real file system that fills, cannot be written, or an agent without
//! descriptors: what programs say arrives all the same, each line once.
#![expect(clippy::unwrap_used, reason = "allow-unwrap-in-tests covers test functions, not helpers")]
#![expect(clippy::disallowed_methods, reason = "tests that mount, and set limits of a process")]
#![expect(clippy::print_stdout, reason = "a test that is skipped says why")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use palisade_e2e::{
    agent::Agent,
    aws::logs::{Fake, Faults},
    wait::wait_until,
};

const BINARY: &str = env!("CARGO_BIN_EXE_palisade-under-test");
/// How long tens of thousands of lines may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(180);
/// More than twice of what the small disk holds.
const LINES: u64 = 60_000;
const CONFIG: &str = "aws: { region: eu-central-1 }\nprograms:\n  counter:\n    command: [@DIR@/counter]\n    \
                      stdout_logfile: NONE\nlogs:\n  group: /g\n  stream: s\n  flush_every: 200ms\n  agent: false\n";
/// Says its lines as fast as they are taken, but no more than the file beside it allows.
const COUNTER: &str = "#!/usr/bin/python3\nimport os, time\nn = 0\nwhile True:\n    \
                       upto = int(open('@DIR@/upto').read() or 0)\n    while n < upto:\n        n += 1\n        \
                       os.write(1, b'%d %s\\n' % (n, b'x' * 190))\n    time.sleep(0.02)\n";

/// A disk of its own.
struct Disk(PathBuf);

impl Disk {
    /// In memory. None where one may not mount.
    fn in_memory(at: PathBuf, size: &str) -> Option<Self> {
        let options = format!("size={size},mode=755");
        Self::mount(at, &["-t", "tmpfs", "-o", &options, "palisade"])
    }

    /// In a file beside it: one whose errors can be brought about. None where one may not mount.
    fn in_file(at: PathBuf, size: &str) -> Option<Self> {
        let image = at.with_extension("ext4").to_str().unwrap().to_owned();
        let made = Command::new("mkfs.ext4").args(["-q", &image, size]).status().unwrap();
        assert!(made.success(), "mkfs.ext4");
        Self::mount(at, &["-o", "loop,errors=remount-ro", &image])
    }

    fn mount(at: PathBuf, options: &[&str]) -> Option<Self> {
        fs::create_dir(&at).unwrap();
        if !Command::new("mount").args(options).arg(&at).status().unwrap().success() {
            println!("skipped: a file system cannot be mounted here");
            return None;
        }
        Some(Self(at))
    }

    /// Makes its file system find an error, after which it is read-only.
    fn fail(&self) {
        let mut find = Command::new("findmnt");
        let device = find.args(["-no", "SOURCE"]).arg(&self.0).output().unwrap().stdout;
        let device = String::from_utf8(device).unwrap();
        let name = device.trim().strip_prefix("/dev/").unwrap();
        fs::write(format!("/sys/fs/ext4/{name}/trigger_fs_error"), "1").unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: the agent may live until later. A failure leaves an empty mount below /tmp.
        Command::new("umount").arg("-l").arg(&self.0).status().map(drop).unwrap_or_default();
    }
}

struct Rig {
    agent: Agent,
    fake: Fake,
    disk: Disk,
}

impl Rig {
    fn start(faults: Faults, size: &str) -> Option<Self> {
        Self::start_on(faults, "", |at| Disk::in_memory(at, size))
    }

    fn start_on(
        faults: Faults,
        logs: &str,
        disk: impl FnOnce(PathBuf) -> Option<Disk>,
    ) -> Option<Self> {
        let fake = Fake::start(faults).unwrap();
        let agent = Agent::new(BINARY, &format!("{CONFIG}{logs}"));
        let disk = disk(agent.dir().join("state"))?;
        let dir = agent.dir().to_str().unwrap().to_owned();
        let counter = agent.dir().join("counter");
        fs::write(&counter, COUNTER.replace("@DIR@", &dir)).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&counter, mode).unwrap();
        let mut agent = agent
            .env("AWS_ENDPOINT_URL", &fake.url())
            .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", "not-a-secret")
            .env("AWS_EC2_METADATA_DISABLED", "true");
        allow(agent.dir(), 0);
        agent.start();
        agent.wait_running("counter");
        Some(Self { agent, fake, disk })
    }

    fn allow(&self, lines: u64) {
        allow(self.agent.dir(), lines);
    }

    fn wait_arrived(&self, lines: u64) {
        wait_until("the lines", PATIENCE, || self.fake.stats().distinct >= lines);
    }

    fn wait_told(&self, words: &str) {
        wait_until(words, PATIENCE, || self.agent.ok(&["status"]).contains(words));
    }

    /// That each line arrived, none twice, and that the agent and the program are those of the start.
    fn end(mut self, child: i32) {
        self.wait_arrived(LINES);
        self.agent.ok(&["logs", "flush", "--timeout", "25s"]);
        let stats = self.fake.stats();
        assert_eq!((stats.distinct, stats.duplicates), (LINES, 0), "{stats:?}");
        assert_eq!((stats.out_of_order, stats.violations.len()), (0, 0), "{stats:?}");
        assert_eq!(self.agent.wait_running("counter"), child);
        assert_eq!(self.agent.stop(), Some(0));
    }
}

fn allow(dir: &Path, lines: u64) {
    let new = dir.join("upto.new");
    fs::write(&new, lines.to_string()).unwrap();
    fs::rename(new, dir.join("upto")).unwrap();
}

#[test]
fn a_disk_that_fills_in_an_outage_makes_programs_wait_and_loses_nothing() {
    let faults = Faults { refuse: true, ..Faults::default() };
    let Some(rig) = Rig::start(faults, "6m") else { return };
    let child = rig.agent.wait_running("counter");
    rig.allow(LINES);
    rig.wait_told("programs wait when they print: No space left on device");
    // It fills the last byte, as others on a disk do.
    let rest = rig.disk.0.join("rest");
    let mut fill = Command::new("sh");
    fill.args(["-c", &format!("exec 2> /dev/null; cat /dev/zero > {}", rest.display())]);
    assert!(!fill.status().unwrap().success());
    assert!(!rig.agent.ok(&["status"]).is_empty());
    rig.fake.set_faults(Faults::default());
    rig.end(child);
}

#[test]
fn an_agent_that_may_open_nothing_more_for_a_while_loses_nothing() {
    let Some(rig) = Rig::start(Faults::default(), "64m") else { return };
    let child = rig.agent.wait_running("counter");
    rig.allow(1000);
    rig.wait_arrived(1000);
    let limit = |soft: &str| {
        let done = Command::new("prlimit")
            .args([&format!("--pid={}", rig.agent.pid()), &format!("--nofile={soft}:")])
            .status()
            .unwrap();
        assert!(done.success(), "prlimit {soft}");
    };
    limit("10");
    rig.fake.set_faults(Faults { cut: 1.0, ..Faults::default() });
    rig.allow(LINES);
    // Nobody can ask it meanwhile: that takes a descriptor too.
    std::thread::sleep(Duration::from_secs(3));
    limit("1024");
    rig.fake.set_faults(Faults::default());
    rig.end(child);
}

#[test]
fn a_disk_that_turns_read_only_holds_up_no_program_whose_lines_may_be_dropped() {
    let policy = "  spool: { on_full: drop_oldest }\n";
    let disk = |at| Disk::in_file(at, "64m");
    let Some(mut rig) = Rig::start_on(Faults::default(), policy, disk) else { return };
    let child = rig.agent.wait_running("counter");
    rig.allow(1000);
    rig.wait_arrived(1000);
    rig.disk.fail();
    rig.allow(LINES);
    rig.wait_told("new lines are dropped: Read-only file system");
    let dropped = || {
        let status = rig.agent.ok(&["logs", "status", "--json"]);
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        status["dropped_lines"].as_u64().unwrap()
    };
    // Told in the stream too, though no later line arrives.
    wait_until("the rest to be counted", PATIENCE, || dropped() == LINES - 1000);
    rig.wait_arrived(1001);
    let stats = rig.fake.stats();
    assert_eq!(
        (stats.duplicates, stats.out_of_order, stats.violations.len()),
        (0, 0, 0),
        "{stats:?}"
    );
    assert_eq!(rig.agent.wait_running("counter"), child);
    assert_eq!(rig.agent.stop(), Some(0));
}
