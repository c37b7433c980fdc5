//! One file for each verb, or for verbs that are done alike.

mod cp;
mod fleet;
mod grants;
mod hosts;
mod login;
mod proxy;
mod ssh;
mod ssh_config;
mod tunnel;

use crate::{child::Signals, cli::Verb, failed::Outcome, run::Run};

/// Does what was asked for, and returns the exit code.
pub(crate) async fn dispatch(run: &Run, verb: Verb, signals: &mut Signals) -> Outcome<u8> {
    match verb {
        Verb::Ssh(args) => ssh::ssh(run, args, signals).await,
        Verb::Sftp(args) => ssh::sftp(run, args, signals).await,
        Verb::Scp(args) => ssh::copy(run, ssh::SCP, args, signals).await,
        Verb::Rsync(args) => ssh::copy(run, ssh::RSYNC, args, signals).await,
        Verb::Tunnel(args) => tunnel::tunnel(run, args, signals).await,
        Verb::Grants(args) => run.until_signal(signals, grants::grants(run, args)).await,
        Verb::Revoke(args) => run.until_signal(signals, grants::revoke(run, args)).await,
        Verb::Hosts(args) => run.until_signal(signals, hosts::hosts(run, args)).await,
        Verb::Exec(args) => fleet::exec(run, args, signals).await,
        Verb::Status(args) => fleet::status(run, args, signals).await,
        Verb::Patch(args) => fleet::patch(run, args, signals).await,
        Verb::Restart(args) => fleet::restart(run, args, signals).await,
        Verb::Login(args) => run.until_signal(signals, login::login(run, args)).await,
        Verb::Proxy(args) => proxy::proxy(run, args, signals).await,
        Verb::SshConfig(args) => ssh_config::ssh_config(run, args),
        Verb::InternalKeeper(args) => run.until_signal(signals, proxy::keep(args)).await,
        Verb::Cp(args) => cp::cp(run, args, signals).await,
        // Done before there was a runtime.
        Verb::InternalFd(_) => Ok(2),
    }
}
