//! What an operator meets who makes a mistake in the configuration, or corrects one.

use nix::sys::signal::Signal;
use palisade_e2e::{
    agent::{Agent, CAP},
    wait::wait_until,
};
use palisade_types::ProcessState;

const BINARY: &str = env!("CARGO_BIN_EXE_palisade-under-test");

#[test]
fn check_lists_every_mistake_and_exits_2() {
    let agent = Agent::new(BINARY, "programs:\n  web: { comand: x }\nlgs: {}\n");
    let out = agent.ctl(&["check"]);
    let text = String::from_utf8(out.stdout).unwrap();
    assert_eq!(out.status.code(), Some(2));
    for part in
        ["programs.web.comand: unknown key; did you mean command?", "lgs: unknown key", ":5: "]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn an_agent_does_not_start_on_mistakes() {
    let agent = Agent::new(BINARY, "programs: { web: { command: [] } }\n");
    let out = agent.ctl(&["run", "--log", "text"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&out.stderr).contains("must name a program"));
}

#[test]
fn a_host_that_boots_with_a_broken_file_goes_on_with_the_last_good_one_and_says_so() {
    let mut agent = Agent::new(BINARY, "programs: { a: { command: [sleep, '1000'] } }\n");
    let state = agent.dir().join("state").to_str().unwrap().to_owned();
    agent = agent.env("STATE_DIRECTORY", &state);
    agent.start();
    agent.wait_running("a");
    assert_eq!(agent.stop(), Some(0));
    agent.configure("programs: { a: { comand: x } }\n");
    let socket = agent.dir().join("run/control.sock");
    agent.start();
    agent.wait_running("a");
    let status = agent.ok(&["--socket", socket.to_str().unwrap(), "status"]);
    assert!(status.contains("has mistakes") && status.contains("comand"), "{status}");
}

#[test]
fn a_bad_file_changes_nothing_is_visible_and_is_forgiven_once_mended() {
    let good = "programs: { a: { command: [sleep, '1000'] } }\n";
    let mut agent = Agent::new(BINARY, good);
    agent.start();
    let pid = agent.wait_running("a");

    agent.configure("programs: { a: { command: [sleep, '2000'], autostrat: false } }\n");
    let refused = agent.ctl(&["update"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("did you mean autostart?"));
    agent.signal(Signal::SIGHUP);
    wait_until("the second refusal", CAP, || {
        agent.log().matches("configuration refused").count() == 2
    });
    let status = agent.ok(&["status"]);
    assert!(status.contains("has mistakes") && status.contains("autostrat"), "{status}");
    assert_eq!(agent.wait_running("a"), pid);

    agent.configure(good);
    assert_eq!(agent.ok(&["update"]), "no changes\n");
    assert!(!agent.ok(&["status"]).contains("has mistakes"));
    assert_eq!(agent.wait_running("a"), pid);
}

#[test]
fn update_touches_only_what_changed() {
    let mut agent = Agent::new(
        BINARY,
        "programs:\n  same: { command: [sleep, '1000'] }\n  gone: { command: [sleep, '1000'] }\n  \
         other: { command: [sleep, '1000'] }\n",
    );
    agent.start();
    let (same, other) = (agent.wait_running("same"), agent.wait_running("other"));
    let gone = agent.wait_running("gone");
    agent.configure(
        "programs:\n  same: { command: [sleep, '1000'] }\n  other: { command: [sleep, '2000'] }\n  \
         new: { command: [sleep, '1000'] }\n",
    );
    let said = agent.ok(&["update"]);
    assert_eq!(said, "new: added\ngone: removed\nother: changed\n");
    agent.wait_running("new");
    assert_eq!(agent.wait_running("same"), same);
    wait_until("the changed one to run anew", CAP, || {
        agent.program("other").is_some_and(|p| p.pid > 0 && p.pid != other)
    });
    wait_until("the removed one to end", CAP, || {
        agent.program("gone").is_none() && !std::path::Path::new(&format!("/proc/{gone}")).exists()
    });
}

#[test]
fn two_agents_do_not_share_a_directory() {
    let mut agent = Agent::new(BINARY, "");
    agent.start();
    let out = agent.ctl(&["run", "--log", "text"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stderr).contains("another agent runs"));
    agent.ok(&["status"]).lines().next().unwrap();
}

#[test]
fn without_an_agent_the_command_line_says_so_and_exits_4() {
    let agent = Agent::new(BINARY, "");
    let out = agent.ctl(&["status"]);
    assert_eq!(out.status.code(), Some(4));
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(
        text.starts_with("error: connect to the agent at ") && text.contains("\nhint: "),
        "{text}"
    );
}

#[test]
fn a_listening_address_may_be_narrowed_to_one_that_the_old_one_covers() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let config = |ip: &str| {
        format!(
            "programs:\n  a:\n    command: [sleep, '1000']\n    startsecs: 0\n    sockets: [{{ name: s, \
             listen: \"{ip}:{port}\" }}]\n"
        )
    };
    let mut agent = Agent::new(BINARY, &config("0.0.0.0"));
    agent.start();
    let before = agent.wait_running("a");
    agent.configure(&config("127.0.0.1"));
    assert_eq!(agent.ok(&["update"]), "a: changed\n");
    wait_until("the program to run with the new socket", CAP, || {
        agent.program("a").is_some_and(|p| {
            p.state == ProcessState::Running && p.pid != before && p.error.is_none()
        })
    });
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
}
