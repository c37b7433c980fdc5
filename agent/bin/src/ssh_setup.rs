//! `palisade access setup` and `remove`: what they say, and which sshd is meant.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use palisade_agent::{
    access, config,
    sys::{
        access::sshd::{Helper, SetupError, Sshd, obstacles},
        children::Children,
        exec::{self, Cmd},
        users,
    },
};
use palisade_types::control::{Failure, FailureKind};

use crate::{
    cli::Place,
    exit::Failed,
    printer::{Printer, Tone},
};

/// Where the helper asks if nothing else is said.
const USUAL_SOCKET: &str = "/run/palisade/authorized-keys.sock";
const USUAL_DIR: &str = "/etc/ssh";
const SYSTEMCTL: &str = "/usr/bin/systemctl";
const USUAL_SSHD: &str = "/usr/sbin/sshd";
/// What sshd is called by Debian and by Amazon Linux.
const UNITS: [&str; 2] = ["ssh.service", "sshd.service"];

/// Makes sshd ask.
pub(crate) async fn setup(place: &Place, printer: &Printer) -> Result<ExitCode, Failed> {
    let settings = config::load(&place.config)
        .map_err(|mistakes| Failed::Usage(format!("read the configuration: {mistakes}")))?;
    let Some(access) = settings.access else {
        let error = "access is not configured";
        let hint = "add an access section to palisade.yaml, then run this again";
        return Err(Failed::Agent(Failure::new(FailureKind::NotFound, error).hint(hint)));
    };
    let sshd = sshd_of(Some(&access));
    let helper = helper(&access)?;
    let children = Children::default();
    let changed = sshd.set_up(&children, &helper).await.map_err(|e| failed(&e))?;
    let drop_in = sshd.drop_in();
    match changed {
        true => printer.line(format_args!("sshd asks for granted keys: {}", drop_in.display())),
        false => printer.line("sshd asks for granted keys already"),
    }
    for user in access.users.keys() {
        let effective = sshd.effective(&children, user.as_str()).await.map_err(|e| failed(&e))?;
        for what in obstacles(user.as_str(), &effective) {
            printer.line(printer.paint(Tone::Busy, format_args!("note: {what}")));
        }
    }
    reload(&children, &sshd.dir, printer).await?;
    Ok(ExitCode::SUCCESS)
}

/// Makes sshd stop asking. The configuration may be gone already.
pub(crate) async fn remove(place: &Place, printer: &Printer) -> Result<ExitCode, Failed> {
    let access = config::load(&place.config).ok().and_then(|s| s.access);
    let sshd = sshd_of(access.as_ref());
    let children = Children::default();
    if !sshd.remove(&children).await.map_err(|e| failed(&e))? {
        printer.line("sshd does not ask for granted keys");
        return Ok(ExitCode::SUCCESS);
    }
    printer.line("sshd no longer asks for granted keys; keys in files go on working");
    reload(&children, &sshd.dir, printer).await?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn sshd_of(access: Option<&access::Settings>) -> Sshd {
    let mut programs = access.into_iter().flat_map(|a| &a.sshd);
    let program = programs.find(|p| p.exists() && p.ends_with("sshd")).cloned();
    let dir = access.map_or_else(|| PathBuf::from(USUAL_DIR), |a| a.ssh_dir.clone());
    Sshd {
        program: program.unwrap_or_else(|| PathBuf::from(USUAL_SSHD)),
        systemctl: is_systemds(&dir).then(|| PathBuf::from(SYSTEMCTL)),
        dir,
    }
}

/// Whether systemd starts the sshd whose directory this is.
fn is_systemds(dir: &Path) -> bool {
    dir == Path::new(USUAL_DIR) && Path::new("/run/systemd/system").exists()
}

fn helper(access: &access::Settings) -> Result<Helper, Failed> {
    if let Err(e) = users::identity(&access.helper_user) {
        let error = format!("sshd cannot run its helper as {}: {e}", access.helper_user);
        let hint =
            "systemd-sysusers palisade.conf makes the user; access.helper_user names another";
        return Err(Failed::Agent(Failure::new(FailureKind::NotFound, error).hint(hint)));
    }
    let socket = access.socket();
    Ok(Helper {
        program: std::env::current_exe().context("find this program")?,
        socket: (socket != Path::new(USUAL_SOCKET)).then_some(socket),
        user: access.helper_user.clone(),
    })
}

/// Lets a running sshd read its configuration, which was found valid. Open logins go on.
async fn reload(children: &Children, dir: &Path, printer: &Printer) -> Result<(), Failed> {
    if !is_systemds(dir) {
        printer.line("reload sshd for it to take effect");
        return Ok(());
    }
    let systemctl = |args: [&'static str; 3]| {
        Cmd::new(SYSTEMCTL)
            .args(args)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .deadline(Duration::from_secs(30))
    };
    for unit in UNITS {
        let active = exec::run(children, systemctl(["is-active", "--quiet", unit])).await;
        if active.context("ask systemd for sshd")?.code != Some(0) {
            continue;
        }
        let done = exec::run(children, systemctl(["--no-ask-password", "reload", unit])).await;
        let done = done.with_context(|| format!("reload {unit}"))?;
        if done.code != Some(0) {
            let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
            let failure = Failure::new(FailureKind::Failed, format!("reload {unit}: {said}"))
                .hint(format!("the configuration is valid; systemctl reload {unit}"));
            return Err(Failed::Agent(failure));
        }
        // Debian has the second name as an alias of the first.
        printer.line(format_args!("{unit} reloaded"));
        return Ok(());
    }
    Ok(())
}

fn failed(e: &SetupError) -> Failed {
    let (kind, hint) = match e {
        SetupError::Unsafe { .. } => {
            (FailureKind::Refused, "it and every directory above it must be root's, and go-w")
        }
        SetupError::Ask { .. } => (FailureKind::Failed, "is OpenSSH's server installed?"),
        SetupError::InvalidBefore(_) => (FailureKind::Failed, "sshd -t shows it; mend it first"),
        SetupError::Invalid(_) => (FailureKind::Failed, "nothing was changed"),
        SetupError::Other(_) => (
            FailureKind::Refused,
            "sshd has room for one AuthorizedKeysCommand; take that one away if it is not needed",
        ),
        SetupError::CommandLine(_) => (
            FailureKind::Refused,
            "put an empty file of the same name into the unit's directory below /etc/systemd/system \
             (such as ssh.service.d), run systemctl daemon-reload, restart sshd, and run this again; \
             palisade's helper asks EC2 Instance Connect by itself; nothing was changed",
        ),
        SetupError::NotIncluded(_) => (
            FailureKind::Failed,
            "put `Include /etc/ssh/sshd_config.d/*.conf` at the top of sshd_config; nothing was changed",
        ),
        SetupError::File { .. } => (FailureKind::Failed, "run as root"),
    };
    let error = palisade_agent::errors::Chain(e).to_string();
    Failed::Agent(Failure::new(kind, error).hint(hint))
}
