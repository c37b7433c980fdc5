//! How fast and how cheap the client is. Prints figures; holds them against the promised bounds only
//! in an optimised build, since a debug build measures the compiler.
//!
//! The client has a thread of its own, whose processor time the kernel counts apart from the peer's.

use std::{future::Future, sync::Arc, thread, time::Duration};

use palisade_channel::{FrameSize, Session};
use palisade_peer::Peer;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    runtime::Builder,
    time::Instant,
};

use crate::support::*;

const MIB: usize = 1 << 20;

fn is_optimised() -> bool {
    if cfg!(debug_assertions) {
        println!("skipped: a build without optimisation says nothing about speed");
    }
    !cfg!(debug_assertions)
}

/// Processor time of this thread so far.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// Runs on a thread of its own: destinations.
fn beside<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
    let (give, take) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            give.send(future.await).unwrap();
            std::future::pending::<()>().await;
        });
    });
    take.recv().unwrap()
}

struct Figures {
    mb_s: f64,
    cpu_s_gib: f64,
}

/// Measures `transfer` of `size` bytes through a session.
fn measure<F: Future<Output = ()>>(
    what: &str,
    peer: &Arc<Peer>,
    document: &str,
    frame: usize,
    size: usize,
    transfer: impl FnOnce(Session) -> F,
) -> Figures {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let fixed = |o: &mut palisade_channel::Options| o.frame = FrameSize::fixed(frame);
        let (session, _) = open_with(peer, document, fixed).await;
        session.live().await.unwrap();
        let (begin, before) = (Instant::now(), cpu());
        soon(what, transfer(session)).await;
        let (took, used) = (begin.elapsed().as_secs_f64(), (cpu() - before).as_secs_f64());
        let bytes = f64::from(u32::try_from(size).unwrap());
        let figures =
            Figures { mb_s: bytes / took / 1e6, cpu_s_gib: used / bytes * 1_073_741_824.0 };
        println!("{what}: {:.1} MB/s, {:.2} CPU s/GiB", figures.mb_s, figures.cpu_s_gib);
        figures
    })
}

async fn up(session: Session, size: usize) {
    let mut stream = session.stream().await.unwrap();
    let data = pattern(256 << 10);
    for _ in 0..size / data.len() {
        stream.write_all(&data).await.unwrap();
    }
    let mut done = [0; 4];
    stream.read_exact(&mut done).await.unwrap();
    println!("  {:?}", session.stats());
}

async fn down(session: Session, size: usize) {
    let mut stream = session.stream().await.unwrap();
    let mut buffer = vec![0; 64 << 10];
    let mut got = 0;
    while got < size {
        got += stream.read(&mut buffer).await.unwrap();
    }
    println!("  {:?}", session.stats());
}

#[test]
fn uploads_are_twenty_times_those_of_the_official_plugin() {
    if !is_optimised() {
        return;
    }
    let size = 64 * MIB;
    let peer = peer(&beside(sink(size)), |_| {});
    for document in [SSH, FORWARD] {
        let small = measure("upload, 1 KiB frames", &peer, document, 1024, size, |s| up(s, size));
        let large =
            measure("upload, 16 KiB frames", &peer, document, 16 << 10, size, |s| up(s, size));
        assert!(small.mb_s >= 16.0 && large.mb_s >= 30.0);
        assert!(small.cpu_s_gib <= 50.0 && large.cpu_s_gib <= 8.0);
    }
}

#[test]
fn downloads_cost_a_third_of_the_official_plugins_processor_time() {
    if !is_optimised() {
        return;
    }
    let size = 64 * MIB;
    for (frame, most) in [(1024, 8.0), (16 << 10, 2.5)] {
        let peer = peer(&beside(source(size)), |c| c.faults.frame_size = frame);
        for document in [SSH, FORWARD] {
            let what = format!("download, {frame} B frames");
            let figures = measure(&what, &peer, document, 1024, size, |s| down(s, size));
            assert!(figures.cpu_s_gib <= most, "{}", figures.cpu_s_gib);
        }
    }
}

#[test]
fn the_first_byte_comes_within_twenty_milliseconds_of_the_started_session() {
    if !is_optimised() {
        return;
    }
    let greeting = beside(server(|mut socket| async move {
        socket.write_all(b"SSH-2.0-first\r\n").await.unwrap();
        let mut rest = [0; 16];
        socket.read(&mut rest).await.unwrap_or_default();
    }));
    let peer = peer(&greeting, |_| {});
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let mut times = Vec::new();
    for _ in 0..15 {
        runtime.block_on(async {
            let (started, aws, options) = started(&peer, SSH).await;
            let begin = Instant::now();
            let session = Session::open(started, aws, options);
            let mut stream = session.stream().await.unwrap();
            soon("greeting", stream.read_u8()).await.unwrap();
            times.push(begin.elapsed());
        });
    }
    times.sort();
    println!("first byte: median {:?}, worst {:?}", times[7], times[14]);
    assert!(times[7] <= Duration::from_millis(20), "{times:?}");
}
