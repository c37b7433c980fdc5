//! Effects: children are made with the sockets that are held for them, and are stopped.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
};

use nix::sys::signal::Signal;
use palisade_types::ProcessName;

use super::{
    FdStore, Host, Inherited, Launch, ListenAddr, OutputSink, SpawnError, StartError, Whom,
    machine::Event,
    ports::{Child as _, OutputPipe as _},
    reconcile::{self, SOCKET_KEY, socket_key},
    slot::Slot,
    task::Owner,
};
use crate::{clock::WallClock, errors::Chain};

impl<H: Host, S: OutputSink, F: FdStore, C: WallClock> Owner<H, S, F, C> {
    pub(super) fn spawn_program(&mut self, name: &ProcessName) -> (Event, String) {
        let now = self.clock.now();
        if let Some(slot) = self.slots.get_mut(name) {
            slot.chronicle.started(now);
        }
        match self.try_spawn(name) {
            Ok(pid) => (Event::Spawned(pid), "spawned".to_owned()),
            Err(error) => {
                if let Some(slot) = self.slots.get_mut(name) {
                    slot.failed(&error);
                }
                (Event::SpawnFailed, error.to_string())
            }
        }
    }

    pub(super) fn try_spawn(&mut self, name: &ProcessName) -> Result<i32, SpawnError> {
        let gone = || SpawnError::Step { step: "look up".to_owned(), why: "gone".to_owned() };
        let spec = Arc::clone(&self.slots.get(name).ok_or_else(gone)?.spec);
        // What only the child before needed is let go first: it may overlap with what this one needs.
        self.sort_out_sockets(&mut Inherited::new());
        for socket in &spec.sockets {
            self.ensure_socket(&socket.listen)?;
        }
        let stdin = self.prepare_input(name, &spec)?;
        let slot = self.slots.get_mut(name).ok_or_else(gone)?;
        let pipe_error = |e: std::io::Error| SpawnError::step("open output pipe", &e);
        let launch = Launch {
            name,
            spec: &spec,
            stdin,
            stdout: slot.stdout.writer().map_err(pipe_error)?,
            stderr: match &slot.stderr {
                Some(pipe) if !spec.redirect_stderr => Some(pipe.writer().map_err(pipe_error)?),
                Some(_) | None => None,
            },
            sockets: spec
                .sockets
                .iter()
                .filter_map(|s| self.sockets.get(&socket_key(&s.listen)))
                .map(|(_, fd)| fd.as_fd())
                .collect(),
        };
        let child = Arc::new(self.host.spawn(launch)?);
        let pid = child.identity().pid;
        slot.child = Some(Arc::clone(&child));
        slot.born = Some(spec);
        slot.born_with = slot.fingerprint.clone();
        slot.is_dying = false;
        slot.last_failure = StartError::AbnormalTermination;
        self.newborn.push(child);
        self.watch(name);
        self.listen_to(name, false);
        Ok(pid)
    }

    /// The socket of an address, made if there is none yet.
    pub(super) fn ensure_socket(&mut self, addr: &ListenAddr) -> Result<(), SpawnError> {
        let key = socket_key(addr);
        if self.sockets.contains_key(&key) {
            return Ok(());
        }
        let step = || format!("listen on {}", reconcile::address(addr));
        let fd = self.host.listen(addr).map_err(|e| {
            // It may be the service manager that still holds it for an agent which did not take it.
            // What it lets go of can be had at the next try.
            self.forget_stored(&key);
            SpawnError::step(step(), &e)
        })?;
        self.keep_socket(key, addr.clone(), fd);
        Ok(())
    }

    pub(super) fn keep_socket(&mut self, key: String, addr: ListenAddr, fd: OwnedFd) {
        if let Err(e) = self.store.store(&key, fd.as_fd()) {
            tracing::warn!(error = %Chain(&e), "socket not kept by the service manager");
        }
        self.sockets.insert(key, (addr, fd));
    }

    /// Keeps the inherited sockets that are wanted, and lets go of those that are not.
    pub(super) fn sort_out_sockets(&mut self, inherited: &mut Inherited) {
        let wanted: BTreeMap<_, _> = self
            .slots
            .values()
            .filter(|s| !self.is_vacant(s))
            .flat_map(|s| {
                s.spec.sockets.iter().chain(s.rules().sockets.iter()).cloned().collect::<Vec<_>>()
            })
            .map(|s| s.listen)
            .chain(self.slots.values().filter_map(Slot::shared_socket).map(|s| s.listen))
            .map(|listen| (socket_key(&listen), listen))
            .collect();
        for (key, addr) in &wanted {
            if self.sockets.contains_key(key) {
                continue;
            }
            if let Some(fd) = inherited.remove(key)
                && self.host.is_listening(fd.as_fd(), addr)
            {
                self.keep_socket(key.clone(), addr.clone(), fd);
            }
        }
        let unwanted: Vec<_> =
            self.sockets.keys().filter(|k| !wanted.contains_key(*k)).cloned().collect();
        for key in unwanted {
            if let Some((addr, _)) = self.sockets.remove(&key) {
                self.host.clean_up(&addr);
            }
            self.forget_stored(&key);
        }
        for (key, _) in std::mem::take(inherited) {
            // What is not a socket of ours never was in the store, or is somebody else's there.
            if key.starts_with(SOCKET_KEY) {
                self.forget_stored(&key);
            }
        }
    }

    /// Lets the service manager keep the socket on which processes say that they are ready.
    pub(super) fn keep_notices(&self) {
        let kept = self.host.notice_socket();
        let kept = kept.and_then(|(name, fd)| self.store.store(&name, fd.as_fd()));
        if let Err(e) = kept {
            tracing::warn!(error = %Chain(&e), "notification socket not kept by the service manager");
        }
    }

    pub(super) fn forget_stored(&self, key: &str) {
        if let Err(e) = self.store.remove(key) {
            tracing::warn!(error = %Chain(&e), "the service manager was not told to let a file go");
        }
    }

    /// Signals the child of a process. What the kernel answers, if it refuses.
    pub(super) fn terminate(&self, name: &ProcessName, signal: Signal) -> Result<(), String> {
        let Some(slot) = self.slots.get(name) else { return Ok(()) };
        let whom = if slot.rules().stopasgroup { Whom::Group } else { Whom::Process };
        let sent = slot.child.as_ref().map_or(Ok(()), |c| c.signal(signal, whom));
        sent.map_err(|e| {
            tracing::error!(process = %name, %signal, error = %Chain(&e), "stop signal not sent");
            format!("{signal} not sent: {e}")
        })
    }

    /// Kills a process and all that it started. What the kernel answers, if it refuses.
    pub(super) fn kill(&self, name: &ProcessName) -> Result<(), String> {
        let Some(slot) = self.slots.get(name) else { return Ok(()) };
        let whom = if slot.rules().killasgroup { Whom::Group } else { Whom::Process };
        tracing::warn!(process = %name, "did not stop in time; killing it");
        slot.child.as_ref().map_or(Ok(()), |c| c.kill(whom)).map_err(|e| {
            tracing::error!(process = %name, error = %Chain(&e), "not killed");
            format!("SIGKILL not sent: {e}")
        })
    }
}
