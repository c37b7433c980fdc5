//! What is lost and doubled when things go wrong: each scene is one way in which they do.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result};

use super::rig::Rig;
use crate::{host, say};

/// Lines a second while something happens.
const LIVE: usize = 15_000;
/// How long the last lines may take once all is well again.
const PATIENCE: Duration = Duration::from_secs(120);

type Scene = (&'static str, fn(&mut Rig, usize) -> Result<()>);

const SCENES: [Scene; 18] = [
    ("kill -9 at 40 %, restart", |rig, lines| {
        rig.write("app.log", lines)?;
        kill_at(rig, lines as u64 * 2 / 5)?;
        rig.start()
    }),
    ("8 kill -9", |rig, lines| {
        for n in 1..=8 {
            rig.write("app.log", lines / 8)?;
            kill_at(rig, (lines / 8 * n) as u64 - 2000)?;
            rig.start()?;
        }
        Ok(())
    }),
    ("endpoint down for 20 s", |rig, _| {
        rig.live("app.log", LIVE, secs(2))?;
        rig.faults(r#"{"refuse":true}"#)?;
        rig.live("app.log", LIVE, secs(20))?;
        rig.faults("{}")
    }),
    ("down, kill -9 in the outage", |rig, _| {
        rig.live("app.log", LIVE, secs(2))?;
        rig.faults(r#"{"refuse":true}"#)?;
        rig.live("app.log", LIVE, secs(4))?;
        rig.kill()?;
        rig.start()?;
        rig.live("app.log", LIVE, secs(2))?;
        rig.faults("{}")
    }),
    ("down, SIGTERM in the outage", |rig, _| {
        rig.faults(r#"{"refuse":true}"#)?;
        rig.live("app.log", LIVE, secs(3))?;
        rig.stop()?;
        rig.faults("{}")?;
        rig.start()
    }),
    ("8 renames", |rig, _| rotate(rig, Rig::rename)),
    ("8 renames while down", |rig, _| {
        rig.faults(r#"{"refuse":true}"#)?;
        rotate(rig, Rig::rename)?;
        rig.faults("{}")
    }),
    ("8 renames while the shipper is dead", |rig, _| dead(rig, Rig::rename)),
    ("8 copytruncates", |rig, _| rotate(rig, Rig::copy)),
    ("8 copytruncates while down", |rig, _| {
        rig.faults(r#"{"refuse":true}"#)?;
        rotate(rig, Rig::copy)?;
        rig.faults("{}")
    }),
    ("8 copytruncates while the shipper is dead", |rig, _| dead(rig, Rig::copy)),
    ("stream deleted", |rig, _| {
        rig.live("app.log", LIVE, secs(2))?;
        rig.settle(PATIENCE)?;
        // What a deleted stream had is gone with it, and was delivered.
        rig.delete_streams()?;
        rig.live("app.log", LIVE, secs(2))
    }),
    ("30 % throttled", |rig, lines| with(rig, lines, r#"{"throttle":0.3}"#)),
    ("30 % answered 500", |rig, lines| with(rig, lines, r#"{"error":0.3}"#)),
    ("30 % cut off", |rig, lines| with(rig, lines, r#"{"cut":0.3}"#)),
    ("10 % of answers lost", |rig, lines| with(rig, lines, r#"{"drop_ack":0.1}"#)),
    ("500 ms latency", |rig, lines| with(rig, lines, r#"{"delay_ms":500}"#)),
    ("denied, then expired, then a wrong clock", |rig, _| {
        for faults in [r#"{"denied":true}"#, r#"{"expired":true}"#, r#"{"clock_ahead_s":600}"#] {
            rig.faults(faults)?;
            rig.live("app.log", LIVE, secs(2))?;
        }
        rig.faults("{}")
    }),
];

/// What came of one scene.
pub(super) struct Outcome {
    pub(super) name: &'static str,
    pub(super) written: u64,
    pub(super) lost: u64,
    pub(super) doubled: u64,
    pub(super) out_of_order: u64,
    pub(super) violations: u64,
}

/// Plays all scenes, each with an agent and a stand-in of its own.
pub(super) fn play(palisade: &Path, fake: &Path, lines: usize) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for (name, scene) in SCENES {
        say::progress(&format!("bench: {name}"));
        let files = "  files: [{ path: '@LOG@/app.log' }]\n";
        let mut rig = Rig::new(palisade, fake, files)?;
        rig.write("app.log", 1)?;
        rig.start()?;
        scene(&mut rig, lines).with_context(|| name)?;
        let arrived = rig.settle(PATIENCE)?;
        // What is still on its way, or comes twice, may do so now.
        rig.stop()?;
        let arrived_after = rig.arrived()?;
        outcomes.push(Outcome {
            name,
            written: rig.written(),
            lost: rig.written().saturating_sub(arrived.distinct.max(arrived_after.distinct)),
            doubled: arrived_after.duplicates,
            out_of_order: arrived_after.out_of_order,
            violations: arrived_after.violations.values().sum(),
        });
    }
    Ok(outcomes)
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// SIGKILL as soon as so many lines arrived.
fn kill_at(rig: &mut Rig, lines: u64) -> Result<()> {
    let begin = host::now();
    while rig.arrived()?.lines < lines && begin.elapsed() < PATIENCE {
        host::pause(Duration::from_millis(2));
    }
    rig.kill()
}

fn rotate(rig: &mut Rig, how: fn(&Rig) -> Result<()>) -> Result<()> {
    for _ in 0..8 {
        rig.live("app.log", LIVE, secs(2))?;
        how(rig)?;
    }
    rig.live("app.log", LIVE, secs(1))
}

fn dead(rig: &mut Rig, how: fn(&Rig) -> Result<()>) -> Result<()> {
    rig.live("app.log", LIVE, secs(2))?;
    rig.stop()?;
    for _ in 0..8 {
        rig.write("app.log", LIVE)?;
        how(rig)?;
    }
    rig.write("app.log", LIVE)?;
    rig.start()
}

fn with(rig: &mut Rig, lines: usize, faults: &str) -> Result<()> {
    rig.faults(faults)?;
    rig.write("app.log", lines)?;
    rig.settle(PATIENCE)?;
    rig.faults("{}")
}
