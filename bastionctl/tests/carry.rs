//! Tunnels, proxy and copies: what carries bytes.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test starts programs and tells its figures"
)]

#[expect(dead_code, reason = "this file uses a part of it")]
mod common;

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use common::{INSTANCE, Lab, good, lab, lab_with, pattern, stderr, until, until_within};

/// Gives back what it gets, on any number of connections.
fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut writer = stream.try_clone()?;
                std::io::copy(&mut &stream, &mut writer)
            });
        }
    });
    port
}

/// A tunnel and where it listens.
fn tunnel(lab: &Lab, spec: &str) -> (Child, u16) {
    let mut child = lab
        .bastionctl()
        .args(["tunnel", INSTANCE, spec, "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    while !text.contains('}') {
        assert_ne!(out.read_line(&mut text).unwrap(), 0, "no tunnel: {text}");
    }
    let said: serde_json::Value = serde_json::from_str(&text).unwrap();
    let port = said["local"].as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap();
    (child, port)
}

fn turn(port: u16, bytes: &[u8]) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let sent = bytes.to_vec();
    let sender = thread::spawn(move || writer.write_all(&sent));
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back).unwrap();
    sender.join().unwrap().unwrap();
    assert!(back == bytes, "{} bytes came back wrong", bytes.len());
    stream.shutdown(Shutdown::Both).unwrap_or_default();
}

fn end(mut child: Child, lab: &Lab) {
    let mut kill = Command::new("kill");
    assert!(kill.args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert!(until(|| matches!(child.try_wait(), Ok(Some(_)))));
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(lab.all_sessions_end());
    assert_eq!(lab.peer.violations(), []);
}

#[test]
fn a_tunnel_to_the_host_carries_many_connections_and_survives_a_cut() {
    let port = echo();
    let Some(lab) = lab() else { return };
    let (child, local) = tunnel(&lab, &format!("0:{port}"));
    let threads: Vec<_> =
        (0..8).map(|n| thread::spawn(move || turn(local, &pattern(20_000 + n)))).collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
    let session = lab.peer.sessions().remove(0).id;
    assert!(lab.peer.cut(&session, palisade_peer::Cut::Abrupt));
    turn(local, &pattern(50_000));
    end(child, &lab);
}

#[test]
fn a_tunnel_leads_through_the_host_to_a_database() {
    let port = echo();
    let Some(lab) = lab_with(|config| {
        let to = format!("127.0.0.1:{port}");
        config.instances[0].dialer.ports.insert("db.internal:5432".into(), to);
    }) else {
        return;
    };
    let (child, local) = tunnel(&lab, "0:db.internal:5432");
    turn(local, b"select 1\n");
    end(child, &lab);
    let out = lab.run(&["tunnel", INSTANCE, "0:169.254.169.254:80"]);
    assert_ne!(out.status.code(), Some(0));
    assert!(stderr(&out).starts_with("error: "), "{}", stderr(&out));
}

/// G39 in small: cut three times, whole in the end; many sessions faster than one at the agent's pace.
#[test]
fn a_striped_copy_is_whole_after_cuts_and_faster_than_one_session() {
    let Some(lab) = lab() else { return };
    let bytes = pattern((2 << 20) + 1);
    fs::write(lab.file("big"), &bytes).unwrap();
    lab.peer.faults(|f| f.pace_us = 1000);
    let copy = |sessions: &str, name: &str| {
        let (from, to) = (format!("web1:{}", lab.file("big").display()), lab.file(name));
        let began = Instant::now();
        let mut child = lab
            .bastionctl()
            .args(["cp", "-j", sessions, &from, &to.display().to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut cuts = 0;
        let carried = || {
            if sessions != "1" && cuts < 3 {
                let mut live = lab.peer.sessions();
                live.retain(|s| format!("{:?}", s.state).starts_with("Live"));
                let cut =
                    live.last().is_some_and(|s| lab.peer.cut(&s.id, palisade_peer::Cut::Abrupt));
                cuts += u8::from(cut);
            }
            matches!(child.try_wait(), Ok(Some(_)))
        };
        // The agent's pace, on a loaded machine.
        assert!(until_within(carried, Duration::from_secs(120)));
        let out = child.wait_with_output().unwrap();
        good(&out);
        assert!(fs::read(&to).unwrap() == bytes, "the copy is another file");
        began.elapsed()
    };
    let (one, many) = (copy("1", "one"), copy("3", "many"));
    println!("2 MiB at the agent's pace: one session {one:?}, three sessions with cuts {many:?}");
    assert!(lab.all_sessions_end());
}

#[test]
fn an_upload_arrives_whole_under_its_name_and_a_missing_file_is_told() {
    let Some(lab) = lab() else { return };
    let bytes = pattern(700_000);
    fs::write(lab.file("small file"), &bytes).unwrap();
    let from = lab.file("small file").display().to_string();
    let to = lab.file("there");
    fs::create_dir(&to).unwrap();
    good(&lab.run(&["cp", &from, &format!("web1:{}", to.display())]));
    assert_eq!(fs::read(to.join("small file")).unwrap(), bytes);
    assert_eq!(fs::read_dir(&to).unwrap().count(), 1);
    let out = lab.run(&["cp", "web1:/nowhere/at all", &lab.file("x").display().to_string()]);
    assert_eq!(out.status.code(), Some(1));
    assert!(stderr(&out).contains("/nowhere/at all: no such file"), "{}", stderr(&out));
    assert!(!lab.file("x").exists());
}
