//! `tunnel`: a local port that leads to a port of a host or, through it, of another host.

use std::net::SocketAddr;

use palisade_channel::{Mode, State, listener};
use palisade_types::grant::Only;
use serde::Serialize;
use tokio::net::TcpListener;

use crate::{
    child::{self, Signals},
    cli,
    failed::{Failed, Outcome},
    forward::Forward,
    program,
    run::Run,
    targets,
    way::{
        Way,
        dial::{Dial, bad_end},
    },
};

/// What is printed once it stands.
#[derive(Serialize)]
struct Listening<'a> {
    local: SocketAddr,
    instance: &'a str,
    remote: String,
}

pub(crate) async fn tunnel(run: &Run, args: cli::Tunnel, signals: &mut Signals) -> Outcome<u8> {
    let forward: Forward = args.spec.parse().map_err(|e| Failed::usage(format!("{e}")))?;
    let place = run.settings.place(&args.host)?;
    let listener = listen(args.bind, &forward).await?;
    let local = listener.local_addr().map_err(|e| Failed::because("listen", &e))?;
    if place.via.is_some() {
        return over_ssh(run, &place, &forward, listener, signals).await;
    }
    let setup = async {
        let cloud = run.cloud_of(&place).await?;
        let instance = targets::one(&cloud, &place.selector).await?;
        let dial = match &forward.host {
            None => Dial::to_port(run, &cloud, &instance, forward.port),
            Some(host) => Dial::to_remote(run, &cloud, &instance, (host, forward.port)),
        };
        let line = dial.open(dial.start().await?)?;
        let mode = line.session().live().await;
        match mode {
            Ok(mode) => Ok((instance, line, mode)),
            Err(end) => Err(bad_end(&instance, &end)
                .unwrap_or_else(|| Failed::plain(format!("{instance}: {end}")))),
        }
    };
    let (instance, line, mode) = run.until_signal(signals, setup).await?;
    if !matches!(mode, Mode::Mux { .. }) {
        run.printer.note("note: the host's SSM agent is old: one connection at a time");
    }
    say(run, &Listening { local, instance: &instance, remote: forward.to_string() });
    let session = line.session();
    let mut state = session.state();
    let mut serve = Box::pin(listener::serve(session, &listener));
    let end = loop {
        // Losing an arm loses nothing: each is asked again, or the tunnel is over.
        tokio::select! {
            end = &mut serve => break Ok(end),
            signal = signals.any() => break Err(signal),
            Ok(()) = state.changed() => {
                if let State::Reconnecting { why, attempt: 1 } = &*state.borrow_and_update() {
                    run.printer.note(format_args!("note: reconnecting: {why}"));
                }
            }
        }
    };
    match end {
        Ok(end) => match bad_end(&instance, &end) {
            Some(failed) => Err(failed),
            // A tunnel has no end of its own: whoever asked for it is told.
            None => Err(Failed::plain(format!("{instance}: {end}"))),
        },
        Err(signal) => {
            drop(serve);
            line.close().await;
            run.printer.note("tunnel closed");
            Ok(child::of_signal(signal) * u8::from(signal != nix::sys::signal::Signal::SIGINT))
        }
    }
}

fn say(run: &Run, listening: &Listening<'_>) {
    if run.printer.is_json() {
        run.printer.json(listening);
    } else {
        let Listening { local, instance, remote } = listening;
        run.printer.line(format_args!("{local} leads to {remote} through {instance}"));
    }
}

async fn listen(bind: std::net::IpAddr, forward: &Forward) -> Outcome<TcpListener> {
    let wanted = forward.local.unwrap_or(forward.port);
    match TcpListener::bind((bind, wanted)).await {
        Ok(listener) => Ok(listener),
        // Nobody asked for this very port.
        Err(_) if forward.local.is_none() => TcpListener::bind((bind, 0))
            .await
            .map_err(|e| Failed::because(format!("listen on {bind}"), &e)),
        Err(e) => Err(Failed::because(format!("listen on {bind}:{wanted}"), &e)
            .hint("choose another port in front, or 0 for any")),
    }
}

/// For a host behind a bastion: ssh forwards.
async fn over_ssh(
    run: &Run,
    place: &crate::settings::Place,
    forward: &Forward,
    listener: TcpListener,
    signals: &mut Signals,
) -> Outcome<u8> {
    let way = run.until_signal(signals, Way::open(run, place, Only::Shell)).await?;
    let local = listener.local_addr().map_err(|e| Failed::because("listen", &e))?;
    // ssh takes the port over.
    drop(listener);
    let bind = match local.ip() {
        std::net::IpAddr::V6(ip) => format!("[{ip}]"),
        std::net::IpAddr::V4(ip) => ip.to_string(),
    };
    let host = forward.host.as_deref().unwrap_or("localhost");
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let spec = format!("{bind}:{}:{host}:{}", local.port(), forward.port);
    say(run, &Listening { local, instance: way.name(), remote: forward.to_string() });
    let mut command = program::command("ssh");
    command.arg("-F").arg(way.config());
    command.args(["-N", "-o", "ExitOnForwardFailure=yes", "-L", &spec, "--", way.name()]);
    let ran = child::run(&mut command, signals).await;
    let went_wrong = way.close().await;
    match (ran, went_wrong) {
        (Err(e), _) => Err(Failed::because("run ssh", &e)),
        (Ok(code), Some(failed)) if code != 0 => Err(failed),
        (Ok(code), _) => Ok(code),
    }
}
