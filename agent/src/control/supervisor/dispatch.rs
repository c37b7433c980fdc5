//! From a call to its result: which method, with what, and what it asks of whom.

use jiff::tz::TimeZone;
use palisade_types::control::FailureKind;

use super::{
    Backend,
    act::{self, Act, ended},
    config_info,
    fault::{Code, Fault},
    info, logs,
    methods::{ALL, Method as M, Told, find},
    names::{self, Meant},
    params::Params,
    read::Call,
    value::Value,
};
use crate::{
    clock::{SystemClock, WallClock as _},
    control::GroupRefusal,
    supervise::{Info, Stream, SuperviseError},
};

/// Version of the interface.
const API_VERSION: &str = "3.0";
/// The version of Supervisor that this is like: clients compare it.
const SUPERVISOR_VERSION: &str = "4.3.0";
/// Calls within one `multicall`.
const MOST_CALLS: usize = 1024;

/// Carries out a call.
pub(super) async fn call(b: &Backend, by: &str, call: Call) -> Result<Value, Fault> {
    match find(&call.method) {
        Some(told) if told.method == M::Multicall => {
            let calls = Params::of(told, &call.params)?.array(0)?;
            if calls.len() > MOST_CALLS {
                return Err(Fault::about(Code::BadArguments, "too many calls"));
            }
            let (mut results, mut room) = (Vec::new(), logs::MOST);
            for one in calls {
                let result = within(b, by, one, room).await.unwrap_or_else(|f| f.to_value());
                room = room.saturating_sub(result.weight());
                results.push(result);
            }
            Ok(Value::Array(results))
        }
        Some(told) => single(b, by, told, &call.params, logs::MOST).await,
        None => Err(Fault::new(Code::UnknownMethod)),
    }
}

/// One call within a `multicall` whose answer has so much room left.
async fn within(b: &Backend, by: &str, call: &Value, room: u64) -> Result<Value, Fault> {
    if room == 0 {
        return Err(logs::too_much());
    }
    let wrong = |what| Fault::about(Code::IncorrectParameters, what);
    let Some(Value::Text(name)) = call.member("methodName") else {
        return Err(wrong("No methodName"));
    };
    let params: &[Value] = match call.member("params") {
        Some(Value::Array(params)) => params,
        Some(_) => return Err(Fault::new(Code::IncorrectParameters)),
        None => &[],
    };
    match find(name) {
        Some(told) if told.method == M::Multicall => {
            Err(wrong("Recursive system.multicall forbidden"))
        }
        Some(told) => single(b, by, told, params, room).await,
        None => Err(Fault::new(Code::UnknownMethod)),
    }
}

/// Any method but `multicall`.
async fn single(
    b: &Backend,
    by: &str,
    told: &Told,
    values: &[Value],
    room: u64,
) -> Result<Value, Fault> {
    let p = Params::of(told, values)?;
    let is_about_methods = told.name.starts_with("system.");
    if !is_about_methods && told.method != M::SendRemote && b.app.is_stopping() {
        return Err(Fault::new(Code::ShutdownState));
    }
    match told.method {
        M::ApiVersion => Ok(Value::text(API_VERSION)),
        M::SupervisorVersion => Ok(Value::text(SUPERVISOR_VERSION)),
        M::Identification => Ok(Value::text(b.identifier.as_str())),
        M::State => {
            // In any other state there is SHUTDOWN_STATE instead of an answer.
            let running = Value::text("RUNNING");
            Ok(Value::members([("statecode", Value::Int(1)), ("statename", running)]))
        }
        M::Pid => Ok(Value::Int(std::process::id().into())),
        M::ReadLog => logs::read(Some(main_log(b)), p.int(0)?, p.int(1)?, room).await,
        M::ClearLog => {
            asked(b, by, told, "the main log");
            done(logs::empty(&main_log(b)).await)
        }
        M::Shutdown => done(b.app.shut_down(by.to_owned()).await.map_err(|_| busy())),
        M::Restart => done(b.app.restart(by.to_owned()).await.map_err(|_| busy())),
        M::ReloadConfig => reload_config(b, by).await,
        M::AddGroup => {
            let group = p.text(0)?;
            let added = b.app.add_group(group.to_owned(), by.to_owned()).await;
            done(added.map_err(|e| refused(&e, group)))
        }
        M::RemoveGroup => {
            let group = p.text(0)?;
            let removed = b.app.remove_group(group.to_owned(), by.to_owned()).await;
            done(removed.map_err(|e| refused(&e, group)))
        }
        M::Start => named(b, by, told, p.text(0)?, Act::Start { wait: p.wait(1) }).await,
        M::Stop => named(b, by, told, p.text(0)?, Act::Stop { wait: p.wait(1) }).await,
        M::Signal => {
            let (name, word) = (p.text(0)?, p.word(1)?);
            let all = infos(b).await?;
            // A wrong name is told before a wrong signal.
            let meant = names::find(&all, name)?;
            asked(b, by, told, name);
            match meant {
                Meant::One(one) => done(act::one(b, Act::signal(&word)?, one, name).await),
                Meant::Group(members) => act::signal_all(b, &word, &members).await,
            }
        }
        M::StartGroup => group(b, by, told, p.text(0)?, Act::Start { wait: p.wait(1) }).await,
        M::StopGroup => group(b, by, told, p.text(0)?, Act::Stop { wait: p.wait(1) }).await,
        M::SignalGroup => {
            let (name, word) = (p.text(0)?, p.word(1)?);
            let all = infos(b).await?;
            let members = members(&all, name)?;
            asked(b, by, told, name);
            act::signal_all(b, &word, &members).await
        }
        M::StartAll => everything(b, by, told, Act::Start { wait: p.wait(0) }).await,
        M::StopAll => everything(b, by, told, Act::Stop { wait: p.wait(0) }).await,
        M::SignalAll => {
            let all = infos(b).await?;
            asked(b, by, told, "all");
            act::signal_all(b, &p.word(0)?, &names::by_priority(&all)).await
        }
        M::AllConfigInfo => {
            let read = b.app.configured().await.map_err(|_| busy())?;
            Ok(config_info::all(&read, &infos(b).await?, &b.url, b.uid))
        }
        M::ProcessInfo => {
            let all = infos(b).await?;
            let one = names::one(&all, p.text(0)?)?;
            Ok(info::process(one, SystemClock.now(), &TimeZone::system()))
        }
        M::AllProcessInfo => {
            let all = infos(b).await?;
            let (now, zone) = (SystemClock.now(), TimeZone::system());
            let each = names::by_name(&all).into_iter().map(|i| info::process(i, now, &zone));
            Ok(Value::Array(each.collect()))
        }
        M::ReadStdout => read_log(b, &p, Stream::Stdout, room).await,
        M::ReadStderr => read_log(b, &p, Stream::Stderr, room).await,
        M::TailStdout => tail_log(b, &p, Stream::Stdout, room).await,
        M::TailStderr => tail_log(b, &p, Stream::Stderr, room).await,
        M::ClearLogs => {
            let all = infos(b).await?;
            let name = p.text(0)?;
            let one = names::one(&all, name)?;
            asked(b, by, told, name);
            done(clear(b, one, name).await)
        }
        M::ClearAllLogs => {
            let all = infos(b).await?;
            asked(b, by, told, "all");
            let mut results = Vec::new();
            for one in names::by_priority(&all) {
                results.push(act::outcome(one, &clear(b, one, &names::full(one)).await));
            }
            Ok(Value::Array(results))
        }
        M::SendStdin => {
            let (name, chars) = (p.text(0)?, p.text(1)?);
            let all = infos(b).await?;
            let one = names::one(&all, name)?;
            asked(b, by, told, name);
            done(super::stdin::send(b, one, name, chars).await)
        }
        M::SendRemote => {
            let (kind, data) = (p.text(0)?, p.text(1)?);
            asked(b, by, told, kind);
            done(super::stdin::remote(b, kind, data).await)
        }
        M::ListAll => Ok(Value::Array(ALL.iter().map(|t| Value::text(t.name)).collect())),
        M::Help => method(&p).map(|t| Value::text(t.help())),
        M::Signature => {
            let types = |t: &Told| t.types.iter().map(|name| Value::text(*name)).collect();
            method(&p).map(|t| Value::Array(types(t)))
        }
        M::Multicall => Err(Fault::new(Code::IncorrectParameters)),
    }
}

fn method(p: &Params<'_>) -> Result<&'static Told, Fault> {
    find(p.text(0)?).ok_or_else(|| Fault::new(Code::SignatureUnsupported))
}

/// Supervisor's answer to what simply was done.
fn done(result: Result<(), Fault>) -> Result<Value, Fault> {
    result.map(|()| Value::Bool(true))
}

fn busy() -> Fault {
    Fault::new(Code::ShutdownState)
}

fn main_log(b: &Backend) -> logs::Log {
    logs::Log { path: b.main_log.clone(), is_promised: false }
}

async fn infos(b: &Backend) -> Result<Vec<Info>, Fault> {
    b.supervise.infos().await.map_err(ended)
}

/// The most of a name or type that is taken down: whoever asks may not fill the record with it.
const MOST_TAKEN_DOWN: usize = 200;

/// Takes down who asked for what.
fn asked(b: &Backend, by: &str, told: &Told, about: &str) {
    let end = about.floor_char_boundary(MOST_TAKEN_DOWN);
    b.events.asked("supervise", told.name, about.get(..end).unwrap_or_default(), "", by);
}

async fn named(b: &Backend, by: &str, told: &Told, name: &str, act: Act) -> Result<Value, Fault> {
    let all = infos(b).await?;
    match names::find(&all, name)? {
        Meant::One(one) => {
            asked(b, by, told, name);
            done(act::one(b, act, one, name).await)
        }
        Meant::Group(members) => {
            asked(b, by, told, name);
            act::all(b, act, &members).await
        }
    }
}

async fn group(b: &Backend, by: &str, told: &Told, name: &str, act: Act) -> Result<Value, Fault> {
    let all = infos(b).await?;
    let members = members(&all, name)?;
    asked(b, by, told, name);
    act::all(b, act, &members).await
}

fn members<'a>(all: &'a [Info], group: &str) -> Result<Vec<&'a Info>, Fault> {
    names::group(all, group).ok_or_else(|| Fault::about(Code::BadName, group))
}

async fn everything(b: &Backend, by: &str, told: &Told, act: Act) -> Result<Value, Fault> {
    let all = infos(b).await?;
    asked(b, by, told, "all");
    act::all(b, act, &act::meant_by_all(&all)).await
}

async fn read_log(b: &Backend, p: &Params<'_>, stream: Stream, room: u64) -> Result<Value, Fault> {
    let all = infos(b).await?;
    let one = names::one(&all, p.text(0)?)?;
    logs::read(logs::of(one, stream), p.int(1)?, p.int(2)?, room).await
}

async fn tail_log(b: &Backend, p: &Params<'_>, stream: Stream, room: u64) -> Result<Value, Fault> {
    let all = infos(b).await?;
    let one = names::one(&all, p.text(0)?)?;
    logs::tail(logs::of(one, stream), p.int(1)?, p.int(2)?, room).await
}

/// Empties the logs of a process; one without logs has none that are not empty.
async fn clear(b: &Backend, info: &Info, name: &str) -> Result<(), Fault> {
    match b.supervise.clear(info.spec.name.clone()).await {
        Ok(()) | Err(SuperviseError::NoLogFile) => Ok(()),
        Err(SuperviseError::LogFile { .. }) => Err(Fault::about(Code::Failed, name)),
        Err(e) => Err(ended(e)),
    }
}

async fn reload_config(b: &Backend, by: &str) -> Result<Value, Fault> {
    let changes = b.app.reread(by.to_owned()).await.map_err(|failure| match failure.kind {
        FailureKind::Busy => busy(),
        FailureKind::BadRequest
        | FailureKind::NotFound
        | FailureKind::Refused
        | FailureKind::Failed => Fault::about(Code::CantReread, &failure.error),
    })?;
    let names = |groups: Vec<String>| Value::Array(groups.into_iter().map(Value::Text).collect());
    let changes = [names(changes.added), names(changes.changed), names(changes.removed)];
    Ok(Value::Array(vec![Value::Array(changes.into())]))
}

fn refused(refusal: &GroupRefusal, group: &str) -> Fault {
    match refusal {
        GroupRefusal::Unknown => Fault::about(Code::BadName, group),
        GroupRefusal::AlreadyThere => Fault::about(Code::AlreadyAdded, group),
        GroupRefusal::StillRunning => Fault::about(Code::StillRunning, group),
        GroupRefusal::Busy => busy(),
    }
}
