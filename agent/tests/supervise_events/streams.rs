//! A program's standard streams, its log file and its environment.

use std::fs;

use palisade_agent::supervise::{LogFile, LogPath, ProcessSpec, Stdin, Stream};
use palisade_types::{ByteSize, ProcessState};

use crate::rig::{Rig, listener, name, one, python, shell, wait_heard, wait_until};

#[tokio::test]
async fn output_and_communications_are_events_and_communications_are_no_output() {
    let dir = tempfile::tempdir().unwrap();
    let events = ["PROCESS_LOG", "PROCESS_COMMUNICATION"];
    let ears = listener(dir.path(), "ears", "ok", &events, 1000);
    let talks = LogFile {
        path: LogPath::Auto,
        capture_maxbytes: ByteSize::new(100_000),
        events_enabled: true,
        ..LogFile::default()
    };
    let code = r"
import sys, time
say = lambda t: (sys.stdout.write(t), sys.stdout.flush())
say('before\n<!--XSUPERV')
time.sleep(0.1)
say('ISOR:BEGIN-->short\nmessage<!--XSUPERVISOR:END-->between\n')
say('<!--XSUPERVISOR:BEGIN-->' + 'x' * 300000 + 'long<!--XSUPERVISOR:END-->after\n')
time.sleep(1000)
";
    let web = ProcessSpec { autostart: false, stdout: talks, ..python("web", code, &[]) };
    let rig = Rig::new(dir.path(), vec![ears, web]);
    rig.state("ears", ProcessState::Running).await;
    rig.handle.start(one("web")).await.unwrap();
    let pid = rig.state("web", ProcessState::Running).await.pid;
    let about = format!("processname:web groupname:web pid:{pid}");
    let lines = wait_heard(
        dir.path(),
        "ears",
        &[
            &format!("{about} channel:stdout|before|"),
            &format!("{about}|short|message"),
            &format!("{about} channel:stdout|between|"),
            "long",
            &format!("{about} channel:stdout|after|"),
        ],
    )
    .await;
    let long = lines.iter().find(|l| l.ends_with("xlong")).unwrap();
    let said = long.split_once('|').unwrap().1;
    assert_eq!((said.len(), said.trim_end_matches("long").trim_matches('x')), (100_000, ""));
    let path = rig.handle.log_path(name("web"), Stream::Stdout).await.unwrap().unwrap();
    assert_eq!(fs::read_to_string(path).unwrap(), "before\nbetween\nafter\n");
    rig.end().await;
}

#[tokio::test]
async fn what_is_sent_to_a_process_arrives_whichever_agent_lives() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let reads = ProcessSpec {
        stdin: Stdin::Pipe,
        ..shell("reads", &format!("while read line; do echo got $line >> {}; done", out.display()))
    };
    let deaf = ProcessSpec { stdin: Stdin::Pipe, ..shell("deaf", "exec sleep 1000") };
    let ears = listener(dir.path(), "ears", "ok", &["TICK_3600"], 10);
    let mute = shell("mute", "exec sleep 1000");
    let mut rig = Rig::new(dir.path(), vec![reads, deaf, ears, mute]);
    let pid = rig.state("reads", ProcessState::Running).await.pid;
    for (i, word) in ["one", "two", "three"].into_iter().enumerate() {
        rig.handle.send_stdin(name("reads"), format!("{word}\n").into_bytes()).await.unwrap();
        wait_until("line", || fs::read_to_string(&out).unwrap_or_default().contains(word)).await;
        rig = if i == 0 { rig.crash().await } else { rig.replace().await };
    }
    assert_eq!(fs::read_to_string(&out).unwrap(), "got one\ngot two\ngot three\n");
    assert_eq!(rig.state("reads", ProcessState::Running).await.pid, pid);
    // One that does not read has room for much, and then that is said.
    rig.state("deaf", ProcessState::Running).await;
    let mut refusal = String::new();
    for _ in 0..10_000 {
        if let Err(e) = rig.handle.send_stdin(name("deaf"), vec![b'x'; 5000]).await {
            refusal = e.to_string();
            break;
        }
    }
    assert_eq!(refusal, "its standard input is full: it does not read");
    let refused = async |who: &str, bytes: usize| {
        let sent = rig.handle.send_stdin(name(who), vec![b'x'; bytes]).await;
        sent.unwrap_err().to_string()
    };
    assert_eq!(refused("mute", 1).await, "its standard input is not a pipe");
    assert_eq!(refused("ears", 1).await, "its standard input is where its events come from");
    assert_eq!(refused("nobody", 1).await, "no such process nobody");
    assert_eq!(refused("reads", 70_000).await, "at most 65536 bytes may be sent at once");
    rig.handle.stop(one("reads")).await.unwrap();
    assert_eq!(refused("reads", 1).await, "not running");
    // What the last child did not read is not for the next.
    rig.handle.restart(one("deaf")).await.unwrap();
    rig.handle.send_stdin(name("deaf"), vec![b'x'; 5000]).await.unwrap();
    rig.end().await;
}

/// Says who it is to whoever connects to its standard input.

#[tokio::test]
async fn two_streams_and_two_programs_in_one_file_lose_and_mix_no_line_when_it_rotates() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("both.log");
    let log = LogFile {
        path: LogPath::At(path.clone()),
        maxbytes: ByteSize::new(20_000),
        backups: 50,
        ..LogFile::default()
    };
    let spec = |name: &str| {
        let code = format!(
            "i=0; while [ $i -lt 1500 ]; do echo {name} out $i; echo {name} err $i >&2; \
             i=$((i+1)); done; exec sleep 1000"
        );
        ProcessSpec { stdout: log.clone(), stderr: log.clone(), ..shell(name, &code) }
    };
    let rig = Rig::new(dir.path(), vec![spec("a"), spec("b")]);
    let lines = || {
        let files = fs::read_dir(dir.path()).unwrap().map(|f| f.unwrap().path());
        let logs = files.filter(|p| p.to_string_lossy().contains("both.log"));
        let mut lines: Vec<String> = logs
            .flat_map(|p| {
                let text = fs::read_to_string(p).unwrap_or_default();
                text.lines().map(str::to_owned).collect::<Vec<_>>()
            })
            .collect();
        lines.sort();
        lines
    };
    wait_until("lines", || lines().len() >= 6000).await;
    let mut want: Vec<String> = ["a out", "a err", "b out", "b err"]
        .iter()
        .flat_map(|w| (0..1500).map(move |i| format!("{w} {i}")))
        .collect();
    want.sort();
    assert!(lines() == want, "lines are lost, doubled or mixed");
    rig.end().await;
}

#[tokio::test]
async fn a_program_is_told_its_name_its_group_and_where_supervisors_tools_ask() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("env");
    let web = ProcessSpec {
        label: "label".to_owned(),
        group: "group".parse().unwrap(),
        serverurl: Some("unix:///run/x.sock".to_owned()),
        ..shell("web", &format!("env > {0}.new; mv {0}.new {0}; exec sleep 1000", out.display()))
    };
    let rig = Rig::new(dir.path(), vec![web]);
    wait_until("environment", || out.exists()).await;
    let env = fs::read_to_string(&out).unwrap();
    for line in [
        "SUPERVISOR_ENABLED=1",
        "SUPERVISOR_PROCESS_NAME=label",
        "SUPERVISOR_GROUP_NAME=group",
        "SUPERVISOR_SERVER_URL=unix:///run/x.sock",
    ] {
        assert!(env.lines().any(|l| l == line), "{line} is not in {env}");
    }
    rig.end().await;
}
