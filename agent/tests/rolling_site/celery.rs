//! Celery's three ways to stop, as steps: TERM lets running tasks finish, QUIT does not, KILL is last.

use std::{net::TcpListener, process::Command, time::Duration};

use nix::sys::signal::Signal;
use palisade_agent::supervise::{ProcessSpec, StopStep, Target};
use palisade_types::ProcessState;

use crate::rig::{CAP, Rig, name, spec, tool};

const TASKS: &str = "
import time
from celery import Celery
app = Celery('tasks', broker='redis://127.0.0.1:@PORT@/0')
app.conf.broker_connection_retry_on_startup = True

@app.task
def work(seconds):
    print('BEGUN', flush=True)
    time.sleep(seconds)
    print('FINISHED', flush=True)
";

/// A worker, its broker, and so many tasks of so many seconds that have begun.
async fn working(tasks: usize, seconds: u32, stop: (u64, Vec<StopStep>)) -> Option<Rig> {
    let celery = tool("celery")?;
    if Command::new("redis-server").arg("--version").output().is_err() {
        println!("skipped: no redis-server; `cargo xtask setup` installs it");
        return None;
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let dir = Rig::files(&[("tasks.py", &TASKS.replace("@PORT@", &port.to_string()))]);
    let port = port.to_string();
    let redis = ["redis-server", "--port", &port, "--bind", "127.0.0.1", "--save", ""];
    let celery = celery.display().to_string();
    let worker = [&celery, "-A", "tasks", "worker", "-l", "INFO", "-c", "2", "-n", "w@%h"];
    let (wait, stop_then) = stop;
    let worker = ProcessSpec {
        stopwaitsecs: Duration::from_secs(wait),
        stop_then,
        ..spec("worker", worker.map(str::to_owned).to_vec(), dir.path())
    };
    let redis = spec("redis", redis.map(str::to_owned).to_vec(), dir.path());
    let rig = Rig::start(dir, vec![redis, worker]);
    rig.running("worker").await;
    let python = tool("python")?;
    let code = format!("import tasks\nfor _ in range({tasks}): tasks.work.delay({seconds})");
    let dir = rig.dir.path().to_owned();
    let sent = tokio::task::spawn_blocking(move || {
        Command::new(python).args(["-c", &code]).current_dir(dir).status().unwrap()
    });
    assert!(sent.await.unwrap().success());
    rig.said("BEGUN", tasks).await;
    Some(rig)
}

async fn stop_worker(rig: &Rig) {
    let stop = rig.handle.stop(vec![Target::Process(name("worker"))]);
    let stopped = tokio::time::timeout(CAP, stop).await.unwrap().unwrap();
    assert_eq!(stopped[0].1, Ok(()));
    let rows = rig.handle.status().borrow().clone();
    assert_eq!(rows[1].state, ProcessState::Stopped);
}

fn quit() -> Vec<StopStep> {
    vec![StopStep { signal: Signal::SIGQUIT, wait: Duration::from_secs(15) }]
}

#[tokio::test]
async fn celery_finishes_its_running_tasks_before_it_stops() {
    let Some(rig) = working(2, 4, (60, quit())).await else { return };
    stop_worker(&rig).await;
    rig.said("FINISHED", 2).await;
    rig.end().await;
}

#[tokio::test]
async fn celery_that_takes_too_long_is_told_to_quit_and_needs_no_kill() {
    let Some(rig) = working(1, 300, (2, quit())).await else { return };
    let began = tokio::time::Instant::now();
    stop_worker(&rig).await;
    assert!(began.elapsed() < Duration::from_secs(30), "the task was waited for");
    let exit = rig.handle.status().borrow()[1].exit.clone();
    assert_ne!(exit.as_deref(), Some("signal KILL"));
    assert!(!rig.output().contains("FINISHED"));
    rig.end().await;
}
