//! FastCGI: programs of a group that share a socket.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use palisade_agent::supervise::{Kind, ListenAddr, ProcessSpec, SharedSocket, Stdin, Target};
use palisade_types::ProcessState;
use tokio::time;

use crate::rig::{CAP, Rig, one, python, wait_until};

const ANSWERS: &str = r"
import os, socket
s = socket.socket(fileno=0)
while True:
    c, _ = s.accept()
    c.sendall(os.environ['SUPERVISOR_PROCESS_NAME'].encode())
    c.close()
";

fn ask(addr: SocketAddr) -> String {
    let mut answer = String::new();
    if let Ok(mut stream) = TcpStream::connect(addr) {
        stream.write_all(b"x").unwrap_or_default();
        stream.read_to_string(&mut answer).unwrap_or_default();
    }
    answer
}

#[tokio::test]
async fn a_fastcgi_group_shares_a_socket_that_is_open_while_any_of_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let shared = |listen| SharedSocket { listen, backlog: None, mode: 0o700, owner: None };
    let member = |n: u8| ProcessSpec {
        kind: Kind::FastCgi,
        stdin: Stdin::Socket(shared(ListenAddr::Tcp(addr))),
        group: "app".parse().unwrap(),
        label: format!("worker_{n}"),
        autostart: false,
        ..python(&format!("app_{n}"), ANSWERS, &[])
    };
    let path = dir.path().join("fcgi.sock");
    let unix = ProcessSpec {
        kind: Kind::FastCgi,
        stdin: Stdin::Socket(shared(ListenAddr::Unix(path.clone()))),
        autostart: false,
        ..python("unix", ANSWERS, &[])
    };
    let mut rig = Rig::new(dir.path(), vec![member(0), member(1), unix]);
    assert!(TcpStream::connect(addr).is_err(), "listens before the first start");
    rig.handle.start(vec![Target::Group("app".parse().unwrap())]).await.unwrap();
    rig.handle.start(one("unix")).await.unwrap();
    wait_until("answer", || ask(addr).starts_with("worker_")).await;
    assert!(path.exists());
    // With one of them stopped the other answers, and an agent that is killed changes nothing.
    rig.handle.stop(one("app_0")).await.unwrap();
    assert_eq!(ask(addr), "worker_1");
    rig = rig.crash().await;
    rig.handle.start(one("app_0")).await.unwrap();
    rig.handle.stop(one("app_1")).await.unwrap();
    wait_until("answer", || ask(addr) == "worker_0").await;
    rig = rig.replace().await;
    assert_eq!(ask(addr), "worker_0");
    // With the last one the socket goes.
    rig.handle.stop(vec![Target::All]).await.unwrap();
    wait_until("end of the socket", || TcpStream::connect(addr).is_err() && !path.exists()).await;
    rig.handle.start(one("app_1")).await.unwrap();
    wait_until("answer", || ask(addr) == "worker_1").await;
    rig.end().await;
}

#[tokio::test]
async fn a_shared_socket_that_cannot_be_had_is_a_failed_start_that_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let listen = ListenAddr::Tcp(addr);
    let shared = SharedSocket { listen, backlog: None, mode: 0o700, owner: None };
    let app = ProcessSpec {
        kind: Kind::FastCgi,
        stdin: Stdin::Socket(shared),
        startretries: 0,
        ..python("app", ANSWERS, &[])
    };
    let rig = Rig::new(dir.path(), vec![app]);
    let row = rig.state("app", ProcessState::Fatal).await;
    let error = row.error.unwrap();
    assert!(error.starts_with(&format!("listen on tcp:{addr}: Address already in use")), "{error}");
    drop(taken);
    // A child that another test forks in this moment has a copy of the socket until its exec.
    let started = async {
        while rig.handle.start(one("app")).await.unwrap().iter().any(|(_, r)| r.is_err()) {
            time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(time::timeout(CAP, started).await.is_ok(), "the address stays taken");
    wait_until("answer", || ask(addr) == "app").await;
    rig.end().await;
}
