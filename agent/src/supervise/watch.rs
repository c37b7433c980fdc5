//! The small tasks around each process: they wait for its exec and end, ask whether it is ready, and
//! carry its output. Each holds a share of `alive`, so that a hand-over can wait for all of them.

use std::{sync::Arc, time::Duration};

use palisade_types::ProcessName;
use tokio::{
    sync::mpsc,
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

use super::{
    FdStore, Host, OutputSink, OutputSource, Probe, Ready, RollError, SpawnError, Stream, Whom,
    machine::State,
    output::Pump,
    ports::Child as _,
    rolling::{RollAnswer, RollReply},
    slot::log_path,
    task::{News, Owner},
    waiters::{OpenReload, Waiter},
};
use crate::clock::WallClock;

/// A probe may take as long as the time between two, and at least this.
const MIN_ASK: Duration = Duration::from_secs(1);

/// How long a child may take to become its program: its directory may be on a dead file server.
const EXEC_WITHIN: Duration = Duration::from_secs(30);

impl<H: Host, S: OutputSink, F: FdStore, C: WallClock> Owner<H, S, F, C> {
    /// Watchers and pumps of everything.
    pub(super) fn watch_all(&mut self) {
        let bus = self.open_bus();
        for name in self.slots.keys().cloned().collect::<Vec<_>>() {
            self.pump(&name);
            self.watch(&name);
            self.mind(&name);
            self.listen_to(&name, true);
        }
        self.run_bus(bus);
        let (host, news, rest) = (self.host.clone(), self.news.clone(), self.rest.clone());
        let Some(alive) = self.alive.clone() else { return };
        self.scope.spawn("notify-socket", async move {
            // What was received is passed on before the next look at `rest`; what was not is still
            // in the socket.
            while let Some(notice) = rest.run_until_cancelled(host.notice()).await {
                if news.send(News::Notice(notice)).await.is_err() {
                    break;
                }
            }
            drop(alive);
        });
    }

    /// Starts to watch the child of a process.
    pub(super) fn watch(&mut self, name: &ProcessName) {
        let Some(slot) = self.slots.get_mut(name) else { return };
        let (Some(child), Some(alive)) = (slot.child.clone(), self.alive.clone()) else { return };
        let (news, rest, name) = (self.news.clone(), self.rest.clone(), name.clone());
        let lanes = slot.lanes.clone();
        let pid = child.identity().pid;
        if let (Ready::Probe(probe), false) =
            (&slot.rules().ready, matches!(slot.state, State::Running { .. }))
        {
            let token = rest.child_token();
            slot.probe = Some(token.clone().drop_guard());
            let ask =
                ask_until_ready(self.host.clone(), probe.clone(), name.clone(), pid, news.clone());
            self.scope.spawn("probe", async move {
                // Stopped at any moment: a probe holds nothing.
                token.run_until_cancelled(ask).await;
            });
        }
        self.scope.spawn("child", async move {
            // Both waits leave the child as it was when they are cancelled.
            let story = async {
                let execed = match time::timeout(EXEC_WITHIN, child.execed()).await {
                    Ok(execed) => execed,
                    Err(_) => {
                        // One that cannot even be killed is waited for below, as the kernel does.
                        child.kill(Whom::Process).unwrap_or_default();
                        let why = format!("took longer than {EXEC_WITHIN:?}");
                        Err(SpawnError::Step { step: "become the program".to_owned(), why })
                    }
                };
                let failure = execed.clone().err();
                if failure.is_none()
                    && news.send(News::Execed(name.clone(), pid, Ok(()))).await.is_err()
                {
                    return None;
                }
                let (exit, at) = child.ended().await;
                Some(match failure {
                    Some(error) => News::Execed(name, pid, Err(error)),
                    None => News::Ended(name, pid, exit, at),
                })
            };
            if let Some(Some(end)) = rest.run_until_cancelled(story).await {
                for lane in &lanes {
                    lane.ended.notify_one();
                }
                // If the owner is gone, so is whoever wanted to know.
                news.send(end).await.unwrap_or_default();
            }
            drop(alive);
        });
    }

    /// Sends a process its reload signal, and asks whether it is ready again.
    pub(super) fn reload(
        &mut self,
        key: &ProcessName,
        pid: i32,
        signal: nix::sys::signal::Signal,
        reply: RollReply,
    ) {
        let (host, news) = (self.host.clone(), self.news.clone());
        let Some(slot) = self.slots.get_mut(key) else { return };
        let sent = slot.child.as_ref().map_or(Ok(()), |c| c.signal(signal, Whom::Process));
        if let Err(e) = sent {
            let error = RollError::NotReloaded(format!("{signal} not sent: {e}"));
            drop(reply.send(Ok(RollAnswer::Over(Err(error)))));
            return;
        }
        tracing::info!(process = %slot.spec.name, pid, %signal, "reload");
        let rules = slot.rules();
        let stays_till = Instant::now() + rules.startsecs;
        let mut ready_after = None;
        if let Ready::Probe(probe) = &rules.ready {
            ready_after = Some((slot.readies, stays_till + probe.timeout));
            let token = self.rest.child_token();
            slot.probe = Some(token.clone().drop_guard());
            let (probe, key) = (probe.clone(), key.clone());
            self.scope.spawn("probe", async move {
                // What answers at once may be what is going. Stopped at any moment: it holds nothing.
                let ask = async {
                    time::sleep_until(stays_till).await;
                    ask_until_ready(host, probe, key, pid, news).await;
                };
                token.run_until_cancelled(ask).await;
            });
        }
        let key = key.clone();
        let open = OpenReload { key, pid, stays_till, ready_after, reply };
        self.waiters.push(Waiter::Reload(open));
    }

    /// Starts to carry the output of a process.
    pub(super) fn pump(&mut self, name: &ProcessName) {
        let (Some(slot), Some(alive)) = (self.slots.get_mut(name), self.alive.clone()) else {
            return;
        };
        slot.pumps = self.rest.child_token();
        slot.finish = CancellationToken::new();
        let Some(slot) = self.slots.get(name) else { return };
        let streams =
            [(Stream::Stdout, Some(&slot.stdout)), (Stream::Stderr, slot.stderr.as_ref())];
        for ((stream, pipe), lane) in streams.into_iter().zip(&slot.lanes) {
            let Some(pipe) = pipe else { continue };
            if stream == Stream::Stdout && slot.spec.listener().is_some() {
                // What a listener says there is for the bus.
                continue;
            }
            let file = slot.log_file(stream);
            let path = log_path(&self.settings.log_dir, &slot.spec, stream);
            let log = (path.is_some() || file.syslog)
                .then(|| self.host.log(path.as_deref(), file, &slot.spec.label));
            let pump = Pump {
                pipe: Arc::clone(pipe),
                log,
                sink: Arc::clone(&self.sink),
                source: OutputSource {
                    program: slot.spec.program.clone(),
                    process: slot.spec.name.clone(),
                    stream,
                },
                telling: self.telling(&slot.spec, stream),
                lane: Arc::clone(lane),
                stop: slot.pumps.clone(),
                finish: slot.finish.clone(),
                abandon: self.abandon.clone(),
                news: self.news.clone(),
                alive: alive.clone(),
            };
            self.scope.spawn("output", pump.run());
        }
    }
}

/// The name under which the pipe of a stream is handed over.
pub(super) fn pipe_key(name: &ProcessName, stream: Stream) -> String {
    format!("output-{name}.{stream}")
}

async fn ask_until_ready<H: Host>(
    host: H,
    probe: Probe,
    name: ProcessName,
    pid: i32,
    news: mpsc::Sender<News>,
) {
    // Ends with its token: when the process is up, is gone, or took too long.
    while !host.ask(&probe.target, probe.every.max(MIN_ASK)).await {
        time::sleep(probe.every).await;
    }
    // If the owner is gone, so is whoever wanted to know.
    news.send(News::Ready(name, pid)).await.unwrap_or_default();
}
