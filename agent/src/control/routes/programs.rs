//! Requests about programs.

use std::{fmt::Display, sync::Arc};

use axum::{
    Extension, Json,
    body::Body,
    extract::{Query, State},
    response::{IntoResponse as _, Response},
};
use palisade_types::{
    ProcessName, ProcessStatus, ProcessWithUsage,
    control::{Failure, FailureKind, Names, Outcome, SignalNames},
};
use serde::Deserialize;

use super::{Answer, Backend, Failed};
use crate::{
    control::{Peer, follow, select, signal::parse_signal, watch as watching, without_scheduled},
    errors::Chain,
    supervise::{PerProcess, StartError, StopError, Stream, SuperviseError, Target},
};

/// Whether to tell what is used, which takes a look at the whole host.
#[derive(Debug, Deserialize)]
pub(super) struct WithUsage {
    #[serde(default)]
    pub(super) usage: bool,
}

pub(super) async fn list(
    State(b): State<Backend>,
    Query(q): Query<WithUsage>,
) -> Answer<Vec<ProcessWithUsage>> {
    let usage = if q.usage { b.supervise.usage().await.map_err(ended)? } else { Arc::default() };
    let all = b.supervise.status().borrow().clone();
    let row = |status: ProcessStatus| ProcessWithUsage {
        usage: usage.get(&status.name).copied(),
        status,
    };
    Ok(Json(all.into_iter().map(row).collect()))
}

/// Every process, and what changes, until the client leaves.
pub(super) async fn watch(State(b): State<Backend>) -> Body {
    Body::new(watching::body(b.supervise.status()))
}

pub(super) async fn start(
    State(b): State<Backend>,
    Extension(peer): Extension<Peer>,
    Json(names): Json<Names>,
) -> Answer<Vec<Outcome>> {
    let chosen = kept_running(&b, &names.names)?;
    asked(&b, "start asked for", &names.names, peer);
    let done = b.supervise.start(targets(&chosen)).await.map_err(ended)?;
    Ok(Json(started(done)))
}

pub(super) async fn stop(
    State(b): State<Backend>,
    Extension(peer): Extension<Peer>,
    Json(names): Json<Names>,
) -> Answer<Vec<Outcome>> {
    let chosen = chosen(&b, &names.names)?;
    asked(&b, "stop asked for", &names.names, peer);
    let done = b.supervise.stop(targets(&chosen)).await.map_err(ended)?;
    Ok(Json(stopped(done)))
}

pub(super) async fn restart(
    State(b): State<Backend>,
    Extension(peer): Extension<Peer>,
    Json(names): Json<Names>,
) -> Answer<Vec<Outcome>> {
    let chosen = kept_running(&b, &names.names)?;
    asked(&b, "restart asked for", &names.names, peer);
    let (mut before, after) = b.supervise.restart(targets(&chosen)).await.map_err(ended)?;
    // That a process did not run before it was restarted is no news.
    before.retain(|(_, result)| *result != Err(StopError::NotRunning));
    let mut all = stopped(before);
    all.extend(started(after));
    Ok(Json(all))
}

/// Replaces processes one after the other, and ends at the first that does not come up.
pub(super) async fn roll(
    State(b): State<Backend>,
    Extension(peer): Extension<Peer>,
    Json(names): Json<Names>,
) -> Answer<Vec<Outcome>> {
    let chosen = kept_running(&b, &names.names)?;
    asked(&b, "rolling restart asked for", &names.names, peer);
    let mut done = Vec::new();
    for name in chosen {
        let rolled = b.supervise.roll(name.clone()).await.map_err(ended)?;
        let is_over = rolled.is_err();
        done.push(match rolled {
            Ok(how) => outcome(&name, Ok::<_, String>(()), &how.to_string()),
            Err(e) => outcome(&name, Err(Chain(&e).to_string()), ""),
        });
        if is_over {
            break;
        }
    }
    Ok(Json(done))
}

/// Waits until none of these is being replaced, and tells which run on as they were.
pub(super) async fn replaced(
    State(b): State<Backend>,
    Json(names): Json<Names>,
) -> Answer<Vec<Outcome>> {
    let chosen = chosen(&b, &names.names)?;
    let done = b.supervise.replaced(chosen).await.map_err(ended)?;
    Ok(Json(outcomes(done, "as set")))
}

pub(super) async fn signal(
    State(b): State<Backend>,
    Extension(peer): Extension<Peer>,
    Json(SignalNames { names, signal }): Json<SignalNames>,
) -> Answer<Vec<Outcome>> {
    let signal = parse_signal(&signal)
        .ok_or_else(|| Failure::new(FailureKind::BadRequest, format!("no signal {signal:?}")))?;
    let chosen = chosen(&b, &names)?;
    asked(&b, "signal asked for", &names, peer);
    let done = b.supervise.signal(signal, targets(&chosen)).await.map_err(ended)?;
    Ok(Json(outcomes(done, "signalled")))
}

pub(super) async fn clear(
    State(b): State<Backend>,
    Extension(peer): Extension<Peer>,
    Json(names): Json<Names>,
) -> Answer<Vec<Outcome>> {
    let chosen = chosen(&b, &names.names)?;
    asked(&b, "clearing of log files asked for", &names.names, peer);
    let mut done = Vec::new();
    for name in chosen {
        let cleared = b.supervise.clear(name.clone()).await;
        done.push(outcome(&name, cleared.map_err(|e| Chain(&e).to_string()), "cleared"));
    }
    Ok(Json(done))
}

#[derive(Debug, Deserialize)]
pub(super) struct Tail {
    name: String,
    stream: String,
    bytes: u64,
    #[serde(default)]
    follow: bool,
}

pub(super) async fn tail(
    State(b): State<Backend>,
    Query(q): Query<Tail>,
) -> Result<Response, Failed> {
    let stream = match q.stream.as_str() {
        "stdout" => Stream::Stdout,
        "stderr" => Stream::Stderr,
        other => {
            let what = format!("stream {other:?} must be stdout or stderr");
            return Err(Failure::new(FailureKind::BadRequest, what).into());
        }
    };
    let chosen = chosen(&b, &[q.name])?;
    let [name] = chosen.as_slice() else {
        let what = "tail shows one process; name one";
        return Err(Failure::new(FailureKind::BadRequest, what).into());
    };
    let seen = b.supervise.tail(name.clone(), stream, q.bytes).await.map_err(ended)?;
    if !q.follow {
        return Ok(seen.into_response());
    }
    let path = b.supervise.log_path(name.clone(), stream).await.map_err(ended)?;
    let path = path.ok_or_else(|| ended(SuperviseError::NoLogFile))?;
    Ok(Body::new(follow::body(path, seen)).into_response())
}

fn chosen(b: &Backend, names: &[String]) -> Result<Vec<ProcessName>, Failure> {
    select(&b.supervise.status().borrow(), names).map_err(|unknown| {
        let list: Vec<_> = unknown.iter().map(|u| format!("{}: {}", u.name, u.what)).collect();
        Failure::new(FailureKind::NotFound, list.join(", "))
            .hint("palisade status shows every name")
    })
}

/// Those that are meant, without scheduled ones that are not named themselves: `start all` does not
/// mean the nightly run.
fn kept_running(b: &Backend, names: &[String]) -> Result<Vec<ProcessName>, Failure> {
    let chosen = chosen(b, names)?;
    Ok(without_scheduled(&b.supervise.status().borrow(), names, chosen))
}

fn asked(b: &Backend, what: &str, names: &[String], peer: Peer) {
    b.events.asked("supervise", what, names.join(" "), "", &peer.to_string());
}

fn targets(names: &[ProcessName]) -> Vec<Target> {
    names.iter().cloned().map(Target::Process).collect()
}

/// What was asked for is so, also where it was so before: a process that runs already is started.
fn started(done: PerProcess<StartError>) -> Vec<Outcome> {
    let one = |(name, result): (ProcessName, Result<(), StartError>)| match result {
        Err(e @ StartError::AlreadyStarted) => outcome(&name, Ok::<_, String>(()), &e.to_string()),
        result => outcome(&name, result, "started"),
    };
    done.into_iter().map(one).collect()
}

fn stopped(done: PerProcess<StopError>) -> Vec<Outcome> {
    let one = |(name, result): (ProcessName, Result<(), StopError>)| match result {
        Err(e @ StopError::NotRunning) => outcome(&name, Ok::<_, String>(()), &e.to_string()),
        result => outcome(&name, result, "stopped"),
    };
    done.into_iter().map(one).collect()
}

fn outcomes<E: Display>(done: PerProcess<E>, word: &str) -> Vec<Outcome> {
    done.into_iter().map(|(name, result)| outcome(&name, result, word)).collect()
}

fn outcome<E: Display>(name: &ProcessName, result: Result<(), E>, word: &str) -> Outcome {
    let (ok, what) = match result {
        Ok(()) => (true, word.to_owned()),
        Err(e) => (false, e.to_string()),
    };
    Outcome { name: name.to_string(), ok, what }
}

pub(super) fn ended(e: SuperviseError) -> Failed {
    let kind = match &e {
        SuperviseError::Unknown(_) | SuperviseError::NoLogFile => FailureKind::NotFound,
        SuperviseError::Ended => FailureKind::Busy,
        SuperviseError::LogFile { .. }
        | SuperviseError::Pipe { .. }
        | SuperviseError::Stdin(_)
        | SuperviseError::HandOver(_) => FailureKind::Failed,
    };
    Failed(Failure::new(kind, Chain(&e).to_string()))
}
