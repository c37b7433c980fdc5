//! How fast and how cheap the client is against the strict peer on loopback: `cargo bench --profile fast
//! -p palisade-channel`. It prints figures and judges nothing; what they mean is in docs/benchmarks.md.
//!
//! The client has a thread of its own, whose processor time the kernel counts apart from the peer's.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::string_slice,
    clippy::disallowed_methods,
    reason = "a measurement in real time, which ends where something fails"
)]

#[path = "../tests/conformance/support.rs"]
#[expect(dead_code, reason = "the cases use all of it, this a part")]
mod support;

use std::{future::Future, sync::Arc, thread, time::Duration};

use palisade_channel::{FrameSize, Session};
use palisade_peer::Peer;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    runtime::Builder,
    time::Instant,
};

use support::*;

const MIB: usize = 1 << 20;

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

/// Measures `transfer` of `size` bytes through a session.
fn measure<F: Future<Output = ()>>(
    what: &str,
    peer: &Arc<Peer>,
    document: &str,
    frame: usize,
    size: usize,
    transfer: impl FnOnce(Session) -> F,
) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let fixed = |o: &mut palisade_channel::Options| o.frame = FrameSize::fixed(frame);
        let (session, _) = open_with(peer, document, fixed).await;
        session.live().await.unwrap();
        let (begin, before) = (Instant::now(), cpu());
        soon(what, transfer(session)).await;
        let (took, used) = (begin.elapsed().as_secs_f64(), (cpu() - before).as_secs_f64());
        let bytes = f64::from(u32::try_from(size).unwrap());
        let (mb_s, cpu_s_gib) = (bytes / took / 1e6, used / bytes * 1_073_741_824.0);
        println!("{what}: {mb_s:.1} MB/s, {cpu_s_gib:.2} CPU s/GiB");
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
}

async fn down(session: Session, size: usize) {
    let mut stream = session.stream().await.unwrap();
    let mut buffer = vec![0; 64 << 10];
    let mut got = 0;
    while got < size {
        got += stream.read(&mut buffer).await.unwrap();
    }
}

/// The median of `rounds` times.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn first_byte() {
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
    let worst = times.iter().max().copied().unwrap_or_default();
    println!("first byte after StartSession, of 15: median {:?}, worst {worst:?}", median(times));
}

fn main() {
    let size = 64 * MIB;
    let sink = peer(&beside(sink(size)), |_| {});
    for (name, document) in [("ssh", SSH), ("forwarded port", FORWARD)] {
        for frame in [1024, 16 << 10] {
            let what = format!("upload, {name}, frames of {frame} B");
            measure(&what, &sink, document, frame, size, |s| up(s, size));
            let what = format!("download, {name}, frames of {frame} B");
            let source = peer(&beside(source(size)), |c| c.faults.frame_size = frame);
            measure(&what, &source, document, 1024, size, |s| down(s, size));
        }
    }
    first_byte();
}
