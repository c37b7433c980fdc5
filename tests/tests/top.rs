//! `palisade top` on a real pseudo-terminal, and `status --watch` and `--usage` without one.

#![expect(clippy::unwrap_used, reason = "allow-unwrap-in-tests covers test functions, not helpers")]
#![expect(clippy::disallowed_methods, reason = "tests start programs")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use palisade_e2e::{
    agent::{Agent, CAP},
    wait::{wait_for, wait_until},
};
use palisade_types::ProcessWithUsage;

const BINARY: &str = env!("CARGO_BIN_EXE_palisade-under-test");

const WEB: &str = "programs:\n  web:\n    command: [/bin/sh, -c, 'echo hello from web; exec sleep 1000']\n    \
                   startsecs: 0s\n";

const ROWS: usize = 24;
const COLUMNS: usize = 80;

/// What a terminal shows after these bytes: as much of one as our view makes use of.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut cells = vec![vec![' '; COLUMNS]; ROWS];
    let (mut row, mut column) = (0, 0);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' if chars.next_if_eq(&'[').is_some() => {
                let mut words = String::new();
                let end = loop {
                    match chars.next() {
                        Some(c) if ('@'..='~').contains(&c) => break c,
                        Some(c) => words.push(c),
                        None => break ' ',
                    }
                };
                let mut numbers = words.split(';').map(|w| w.parse::<usize>().unwrap_or(1));
                match end {
                    'H' => {
                        row = numbers.next().unwrap_or(1) - 1;
                        column = numbers.next().unwrap_or(1) - 1;
                    }
                    'J' => cells = vec![vec![' '; COLUMNS]; ROWS],
                    _ => {}
                }
            }
            '\x1b' => {}
            '\r' => column = 0,
            '\n' => row += 1,
            c if c.is_control() => {}
            c => {
                if let Some(cell) = cells.get_mut(row).and_then(|r| r.get_mut(column)) {
                    *cell = c;
                }
                column += 1;
            }
        }
    }
    let lines = cells.iter().map(|l| l.iter().collect::<String>().trim_end().to_owned());
    lines.collect::<Vec<_>>().join("\n")
}

/// `palisade top` on a terminal of its own.
struct Top {
    script: Child,
    keys: ChildStdin,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Top {
    fn start(agent: &Agent, env: &[(&str, &str)]) -> Self {
        let (binary, config) = (agent.binary().display(), agent.config());
        let command = format!(
            "stty rows {ROWS} cols {COLUMNS}; {binary} -c {} top; echo ended with $?; stty -a",
            config.display()
        );
        let mut script = Command::new("script")
            .args(["-q", "-f", "-c", &command, "/dev/null"])
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR")
            .envs(env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let keys = script.stdin.take().unwrap();
        let mut out = script.stdout.take().unwrap();
        let seen = Arc::<Mutex<Vec<u8>>>::default();
        let into = Arc::clone(&seen);
        thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(n) = out.read(&mut piece)
                && n > 0
            {
                into.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&piece[..n]);
            }
        });
        Self { script, keys, seen }
    }

    fn bytes(&self) -> Vec<u8> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    fn wait(&self, text: &str) {
        wait_until(&format!("{text:?} on the screen:\n{}", shown(&self.bytes())), CAP, || {
            shown(&self.bytes()).contains(text)
        });
    }

    /// The process of the view itself.
    fn pid(&self) -> i32 {
        let shell = child_of(i32::try_from(self.script.id()).unwrap());
        child_of(shell)
    }

    /// What came after the view gave the terminal back.
    fn after(&self) -> String {
        // The last thing that the shell prints is how its terminal is set.
        wait_until("the end of the view", CAP, || {
            let text = String::from_utf8_lossy(&self.bytes()).into_owned();
            text.rsplit_once("ended with ").is_some_and(|(_, end)| end.contains("icanon"))
        });
        let text = String::from_utf8_lossy(&self.bytes()).into_owned();
        let (before, after) = text.rsplit_once("\x1b[?1049l").unwrap_or((&text, ""));
        assert!(before.contains("\x1b[?1049h") && !after.is_empty(), "not given back: {text:?}");
        after.to_owned()
    }
}

impl Drop for Top {
    fn drop(&mut self) {
        // Ours, and most often gone already.
        drop(self.script.kill());
        drop(self.script.wait());
    }
}

fn child_of(pid: i32) -> i32 {
    wait_for("a child", CAP, || {
        let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        list.split_whitespace().next()?.parse().ok()
    })
}

fn has_script() -> bool {
    Command::new("script").arg("--version").stdout(Stdio::null()).status().is_ok()
}

macro_rules! need_script {
    () => {
        if !has_script() {
            println!("skipped: there is no script(1) to make a terminal with");
            return;
        }
    };
}

#[test]
fn top_shows_programs_acts_on_keys_and_gives_the_terminal_back() {
    need_script!();
    let mut agent = Agent::new(BINARY, WEB);
    agent.start();
    let before = agent.wait_running("web");
    let mut top = Top::start(&agent, &[]);
    top.wait(" web          RUNNING  yes");
    top.wait(&before.to_string());
    // Its memory is told too: a sleep has some hundred kilobytes at least.
    wait_until("memory of web", CAP, || {
        let screen = shown(&top.bytes());
        let row = screen.lines().find(|l| l.starts_with(" web ")).unwrap_or_default();
        row.split_whitespace().nth(4).is_some_and(|m| m.ends_with('K') || m.ends_with('M'))
    });
    top.press("r");
    top.wait("Restart web?");
    top.press("y");
    top.wait("web: started");
    let after = agent.wait_running("web");
    assert_ne!(before, after);
    top.wait(&after.to_string());
    top.press("t");
    top.wait("web stdout: following");
    top.wait("hello from web");
    top.press("q");
    top.wait(" web          RUNNING");
    top.press("s");
    top.wait("Stop web?");
    top.press("y");
    top.wait(" web          STOPPED");
    top.press("q");
    let after = top.after();
    assert!(after.contains("ended with 0"), "{after}");
    assert!(after.contains("icanon") && !after.contains("-icanon"), "{after}");
}

#[test]
fn top_ended_by_a_signal_gives_the_terminal_back() {
    need_script!();
    let mut agent = Agent::new(BINARY, WEB);
    agent.start();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let top = Top::start(&agent, &[]);
        top.wait(" web          RUNNING");
        kill(Pid::from_raw(top.pid()), signal).unwrap();
        let after = top.after();
        assert!(after.contains(&format!("ended with {}", 128 + signal as i32)), "{after}");
        assert!(after.contains("icanon") && !after.contains("-icanon"), "{after}");
    }
}

#[test]
fn top_ends_when_its_terminal_goes_away() {
    need_script!();
    let mut agent = Agent::new(BINARY, WEB);
    agent.start();
    let mut top = Top::start(&agent, &[]);
    top.wait(" web          RUNNING");
    let pid = top.pid();
    top.script.kill().unwrap();
    wait_until("the view to end", CAP, || !fs::exists(format!("/proc/{pid}")).unwrap());
}

#[test]
fn top_waits_for_an_agent_that_went_away_and_needs_no_colour() {
    need_script!();
    let mut agent = Agent::new(BINARY, WEB);
    agent.start();
    let top = Top::start(&agent, &[("NO_COLOR", "1")]);
    top.wait(" web          RUNNING");
    agent.kill_agent();
    top.wait("away for");
    agent.start();
    top.wait("running: palisade");
    let text = String::from_utf8_lossy(&top.bytes()).into_owned();
    for colour in ["\x1b[38;5;", "\x1b[31m", "\x1b[32m", "\x1b[33m"] {
        assert!(!text.contains(colour), "coloured by {colour:?}");
    }
}

#[test]
fn top_without_a_terminal_says_what_to_use_instead() {
    let mut agent = Agent::new(BINARY, WEB);
    agent.start();
    let out = agent.ctl(&["top"]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert!(said.contains("status --watch"), "{said}");
}

#[test]
fn usage_is_shown_when_it_is_asked_for() {
    let mut agent = Agent::new(BINARY, WEB);
    agent.start();
    agent.wait_running("web");
    let plain = agent.ok(&["status", "web"]);
    assert!(!plain.contains("CPU%") && plain.contains("RUNNING   pid "), "{plain}");
    let text = agent.ok(&["status", "--usage", "web"]);
    let mut lines = text.lines();
    assert!(lines.next().unwrap().contains("CPU%"), "{text}");
    assert!(lines.next().unwrap().contains("RUNNING"), "{text}");
    let json = agent.ok(&["status", "--usage", "--json"]);
    let rows: Vec<ProcessWithUsage> = serde_json::from_str(&json).unwrap();
    let usage = rows[0].usage.unwrap();
    assert!(usage.memory_bytes > 100 << 10 && usage.processes == 1, "{usage:?}");
    assert!(usage.cpu_percent.is_some(), "the first answer has a rate too: {usage:?}");
}

/// Lines of a command as they come.
fn lines_of(agent: &Agent, args: &[&str]) -> (Child, mpsc::Receiver<String>) {
    let mut child = Command::new(agent.binary())
        .args(["-c".as_ref(), agent.config().as_os_str()])
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let (tx, rx) = mpsc::channel();
    thread::spawn(move || {
        for line in out.lines().map_while(Result::ok) {
            if tx.send(line).is_err() {
                break;
            }
        }
    });
    (child, rx)
}

#[test]
fn a_watch_without_a_terminal_is_a_line_for_each_change_and_outlives_the_agent() {
    let mut agent = Agent::new(BINARY, WEB);
    agent.start();
    let first = agent.wait_running("web");
    let (mut child, lines) = lines_of(&agent, &["status", "--watch"]);
    let next = |what: &str| loop {
        let line = lines.recv_timeout(CAP).unwrap();
        if line.contains(what) {
            break line;
        }
    };
    assert!(next("RUNNING").contains(&format!("pid {first}")));
    agent.ok(&["restart", "web"]);
    let second = agent.wait_running("web");
    next(&format!("pid {second}"));
    agent.kill_agent();
    agent.start();
    agent.ok(&["stop", "web"]);
    next("STOPPED");
    // Nobody reads any more: it ends with the next change.
    drop(lines);
    agent.ok(&["start", "web"]);
    agent.ok(&["stop", "web"]);
    wait_until("the end of the watch", CAP, || {
        agent.ok(&["start", "web"]);
        agent.ok(&["stop", "web"]);
        child.try_wait().unwrap().is_some()
    });
}

#[test]
fn a_watch_in_json_is_one_object_a_line() {
    let mut agent = Agent::new(BINARY, WEB);
    agent.start();
    agent.wait_running("web");
    let (mut child, lines) = lines_of(&agent, &["status", "--watch", "--json"]);
    let row: serde_json::Value = serde_json::from_str(&lines.recv_timeout(CAP).unwrap()).unwrap();
    assert_eq!((&row["name"], &row["state"]), (&"web".into(), &"RUNNING".into()));
    agent.configure("programs: {}\n");
    agent.ok(&["update"]);
    loop {
        let line: serde_json::Value =
            serde_json::from_str(&lines.recv_timeout(CAP).unwrap()).unwrap();
        if line["gone"] == "web" {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
}
