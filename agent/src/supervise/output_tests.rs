//! A pump between a pipe, a log and a sink that are in memory.

use std::{os::fd::OwnedFd, sync::atomic::AtomicBool};

use super::*;
use crate::supervise::{Stream, bus};

/// A pipe in memory.
#[derive(Debug, Default)]
struct MemPipe {
    content: Mutex<Vec<u8>>,
    grown: Notify,
}

impl MemPipe {
    fn put(&self, bytes: &[u8]) {
        self.content.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        self.grown.notify_one();
    }
}

impl OutputPipe for MemPipe {
    fn writer(&self) -> io::Result<OwnedFd> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn duplicate(&self) -> io::Result<OwnedFd> {
        Err(io::ErrorKind::Unsupported.into())
    }
    async fn grown(&self) -> io::Result<()> {
        self.grown.notified().await;
        Ok(())
    }
    fn peek(&self, into: &mut Vec<u8>) -> io::Result<()> {
        into.clone_from(&self.content.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }
    fn consume(&self, bytes: usize) -> io::Result<()> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner).drain(..bytes);
        Ok(())
    }
}

/// A sink that refuses while told to, and keeps the rest.
#[derive(Debug, Default)]
struct MemSink {
    refusals: Mutex<u32>,
    is_stuck: AtomicBool,
    got: Mutex<Vec<u8>>,
}

impl OutputSink for MemSink {
    async fn write(&self, _: &OutputSource, bytes: &[u8]) -> io::Result<()> {
        if self.is_stuck.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        if *refusals > 0 {
            *refusals -= 1;
            return Err(io::Error::other("spool full"));
        }
        self.got.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(())
    }
}

/// A log file in memory, and the line that it was to show last.
#[derive(Clone, Debug, Default)]
struct MemLog {
    is_full: Arc<AtomicBool>,
    written: Arc<Mutex<Vec<u8>>>,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl ProgramLog for MemLog {
    fn append(&mut self, bytes: &[u8]) -> LogOutcome {
        if self.is_full.load(Ordering::Relaxed) {
            return LogOutcome::Failed(io::Error::other("full"));
        }
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.extend_from_slice(bytes);
        LogOutcome::Written
    }
    fn show(&mut self, line: &[u8]) {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = line.to_vec();
    }
}

struct Rig {
    pipe: Arc<MemPipe>,
    sink: Arc<MemSink>,
    log: MemLog,
    lane: Arc<Lane>,
    stop: CancellationToken,
    finish: CancellationToken,
    abandon: CancellationToken,
    news: mpsc::Receiver<News>,
    alive: mpsc::Receiver<()>,
}

impl Rig {
    fn new() -> (Self, impl Future<Output = ()>) {
        Self::with_capture(100)
    }

    fn with_capture(capture: usize) -> (Self, impl Future<Output = ()>) {
        let (tx, alive) = mpsc::channel(1);
        let (news_tx, news) = mpsc::channel(1);
        let rig = Self {
            pipe: Arc::default(),
            sink: Arc::default(),
            log: MemLog::default(),
            lane: Arc::default(),
            stop: CancellationToken::new(),
            finish: CancellationToken::new(),
            abandon: CancellationToken::new(),
            news,
            alive,
        };
        let pump = Pump {
            pipe: Arc::clone(&rig.pipe),
            log: Some(rig.log.clone()),
            sink: Arc::clone(&rig.sink),
            source: OutputSource {
                program: "web".parse().unwrap(),
                process: "web".parse().unwrap(),
                stream: Stream::Stdout,
            },
            telling: Telling {
                bus: bus::channel().0,
                label: "web".to_owned(),
                group: "web".parse().unwrap(),
                is_log_told: true,
                capture,
            },
            lane: Arc::clone(&rig.lane),
            stop: rig.stop.clone(),
            finish: rig.finish.clone(),
            abandon: rig.abandon.clone(),
            news: news_tx,
            alive: tx,
        };
        (rig, pump.run())
    }

    fn shown(&self) -> String {
        let shown = self.log.shown.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&shown).into_owned()
    }

    fn written(&self) -> String {
        let written = self.log.written.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&written).into_owned()
    }

    fn got(&self) -> String {
        let got = self.sink.got.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&got).into_owned()
    }

    fn left(&self) -> usize {
        self.pipe.content.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

const SOON: Duration = Duration::from_millis(10);

#[tokio::test(start_paused = true)]
async fn an_unfinished_line_stays_in_the_pipe_until_its_rest_comes() {
    let (rig, pump) = Rig::new();
    let check = async {
        rig.pipe.put(b"one\ntw");
        time::sleep(SOON).await;
        assert_eq!((rig.got().as_str(), rig.left()), ("one\n", 2));
        rig.pipe.put(b"o\n");
        time::sleep(SOON).await;
        assert_eq!((rig.got().as_str(), rig.left()), ("one\ntwo\n", 0));
        rig.stop.cancel();
    };
    tokio::join!(pump, check);
}

#[tokio::test(start_paused = true)]
async fn the_log_file_is_to_show_an_unfinished_line_in_time_even_if_it_grows() {
    let (rig, pump) = Rig::with_capture(0);
    let check = async {
        rig.pipe.put(b"one\nsure? ");
        time::sleep(SOON).await;
        assert_eq!((rig.written().as_str(), rig.shown().as_str()), ("one\n", ""));
        for _ in 0..25 {
            rig.pipe.put(b".");
            time::sleep(SOON).await;
        }
        assert!(rig.shown().starts_with("sure? ..."), "{}", rig.shown());
        rig.pipe.put(b"yes\n");
        time::sleep(SOON).await;
        let whole = format!("one\nsure? {}yes\n", ".".repeat(25));
        assert_eq!((&rig.written(), &rig.got()), (&whole, &whole));
        rig.stop.cancel();
    };
    tokio::join!(pump, check);
}

#[tokio::test(start_paused = true)]
async fn a_pipe_that_grows_behind_an_unfinished_line_need_not_say_so() {
    let (rig, pump) = Rig::new();
    let check = async {
        rig.pipe.put(b"one\ntw");
        time::sleep(LOOK_MAX * 5).await;
        assert_eq!(rig.left(), 2);
        rig.pipe.content.lock().unwrap().extend_from_slice(b"o\n");
        time::sleep(LOOK_MAX).await;
        assert_eq!((rig.got().as_str(), rig.left()), ("one\ntwo\n", 0));
        rig.stop.cancel();
    };
    tokio::join!(pump, check);
}

#[tokio::test(start_paused = true)]
async fn that_the_log_file_is_not_written_is_known_and_news_while_it_is_so() {
    let (mut rig, pump) = Rig::new();
    let (stop, pipe, lane) = (rig.stop.clone(), Arc::clone(&rig.pipe), Arc::clone(&rig.lane));
    let is_full = Arc::clone(&rig.log.is_full);
    let check = async {
        is_full.store(true, Ordering::Relaxed);
        pipe.put(b"one\n");
        assert!(rig.news.recv().await.is_some());
        assert_eq!(lane.trouble().as_deref(), Some("log of stdout not written: full"));
        is_full.store(false, Ordering::Relaxed);
        pipe.put(b"two\n");
        assert!(rig.news.recv().await.is_some());
        assert_eq!(lane.trouble(), None);
        stop.cancel();
    };
    tokio::join!(pump, check);
}

#[tokio::test(start_paused = true)]
async fn the_last_words_of_a_process_are_kept_without_a_newline() {
    let (rig, pump) = Rig::new();
    let check = async {
        rig.pipe.put(b"fatal: no");
        time::sleep(SOON).await;
        assert_eq!(rig.got(), "");
        rig.lane.ended.notify_one();
        time::sleep(SOON).await;
        assert_eq!(rig.got(), "fatal: no");
        rig.stop.cancel();
    };
    tokio::join!(pump, check);
}

#[tokio::test(start_paused = true)]
async fn a_pump_told_to_finish_gives_away_all_and_ends() {
    let (rig, pump) = Rig::new();
    rig.pipe.put(b"one\ntwo");
    rig.finish.cancel();
    pump.await;
    assert_eq!((rig.got().as_str(), rig.left()), ("one\ntwo", 0));
}

#[tokio::test(start_paused = true)]
async fn a_communication_is_no_output_and_is_not_waited_for_with_what_is() {
    let (rig, pump) = Rig::new();
    let check = async {
        rig.pipe.put(b"one\n<!--XSUPERVISOR:BEGIN-->said<!--XSU");
        time::sleep(SOON).await;
        assert_eq!((rig.got().as_str(), rig.left()), ("one\n", 35));
        rig.pipe.put(b"PERVISOR:END-->two\n");
        time::sleep(SOON).await;
        assert_eq!((rig.got().as_str(), rig.left()), ("one\ntwo\n", 0));
        rig.stop.cancel();
    };
    tokio::join!(pump, check);
}

#[tokio::test(start_paused = true)]
async fn a_line_too_long_for_the_pipe_is_given_away_in_parts() {
    let (rig, pump) = Rig::new();
    let check = async {
        rig.pipe.put(&vec![b'x'; LONGEST_LINE]);
        time::sleep(SOON).await;
        assert_eq!((rig.got().len(), rig.left()), (LONGEST_LINE, 0));
        rig.stop.cancel();
    };
    tokio::join!(pump, check);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_refuses_is_asked_again_and_nothing_is_lost_or_doubled() {
    let (rig, pump) = Rig::new();
    *rig.sink.refusals.lock().unwrap() = 10;
    let check = async {
        rig.pipe.put(b"one\n");
        time::sleep(SOON).await;
        assert_eq!(rig.left(), 4, "not consumed before it is safe");
        time::sleep(RETRY_MAX * 10).await;
        assert_eq!((rig.got().as_str(), rig.left()), ("one\n", 0));
        rig.stop.cancel();
    };
    tokio::join!(pump, check);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_pump_leaves_the_rest_in_the_pipe_and_tells_its_end() {
    let (mut rig, pump) = Rig::new();
    *rig.sink.refusals.lock().unwrap() = 1000;
    let stop = rig.stop.clone();
    let pipe = Arc::clone(&rig.pipe);
    let check = async {
        pipe.put(b"one\n");
        time::sleep(SOON).await;
        stop.cancel();
        assert!(rig.alive.recv().await.is_none());
    };
    tokio::join!(pump, check);
    assert_eq!(rig.left(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_never_answers_holds_a_pump_only_until_it_is_abandoned() {
    let (rig, pump) = Rig::new();
    rig.sink.is_stuck.store(true, Ordering::Relaxed);
    rig.pipe.put(b"one\n");
    let check = async {
        time::sleep(SOON).await;
        rig.stop.cancel();
        time::sleep(SOON).await;
        rig.abandon.cancel();
    };
    tokio::join!(pump, check);
    assert_eq!((rig.got().as_str(), rig.left()), ("", 4));
}
