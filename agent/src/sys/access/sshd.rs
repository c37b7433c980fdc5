//! The drop-in that makes sshd ask for granted keys: put in place and taken away so that sshd's
//! configuration is valid at every moment at which sshd could read it and when we are done.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    super::{
        children::Children,
        exec::{self, Cmd, ExecError},
        files,
    },
    facts::writable,
    sshd_unit,
};

/// The drop-in, below sshd's directory. An early number: sshd takes the first value that it meets.
pub const DROP_IN: &str = "sshd_config.d/50-palisade.conf";
/// EC2 Instance Connect's own helper: ours asks it in turn.
const EIC: &str = "eic_run_authorized_keys";
/// The name of our verb, by which our own command is known.
pub(super) const VERB: &str = " authorized-keys ";
const WITHIN: Duration = Duration::from_secs(20);

/// Where sshd is, and what it is to ask.
#[derive(Clone, Debug)]
pub struct Sshd {
    /// Its program.
    pub program: PathBuf,
    /// Its directory: `/etc/ssh`.
    pub dir: PathBuf,
    /// What knows how it is started: systemd's program, where systemd starts it.
    pub systemctl: Option<PathBuf>,
}

/// What it is to ask.
#[derive(Clone, Debug)]
pub struct Helper {
    /// The program.
    pub program: PathBuf,
    /// The socket that it asks at, where that is not the usual one.
    pub socket: Option<PathBuf>,
    /// Who runs it.
    pub user: String,
}

/// Why sshd was not changed.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// sshd would refuse to run the helper.
    #[error("sshd would not run {program}: {why}")]
    Unsafe {
        /// Which.
        program: PathBuf,
        /// Why not.
        why: String,
    },
    /// sshd could not be asked.
    #[error("ask {program} for its configuration")]
    Ask {
        /// Which.
        program: PathBuf,
        /// Why.
        source: ExecError,
    },
    /// Its configuration has a mistake, without a change of ours.
    #[error("sshd's configuration is not valid as it is: {0}")]
    InvalidBefore(String),
    /// It has one with our change; it was taken back.
    #[error("sshd's configuration would not be valid: {0}")]
    Invalid(String),
    /// Somebody else's command is there.
    #[error("sshd asks another program for keys already: {0}")]
    Other(String),
    /// Its unit has the option too.
    #[error("sshd is started with an AuthorizedKeysCommand, which beats every file: by {0}")]
    CommandLine(PathBuf),
    /// Our drop-in has no effect; it was taken back.
    #[error(
        "{0} has no effect: sshd's configuration does not include it, or sets another value first"
    )]
    NotIncluded(PathBuf),
    /// A file.
    #[error("change {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// sshd's settings for one user, by their lower-case names.
pub type Effective = BTreeMap<String, Vec<String>>;

impl Helper {
    /// The words of `AuthorizedKeysCommand`.
    #[must_use]
    pub fn command(&self) -> String {
        let socket = self.socket.as_ref().map(|s| format!("--socket {} ", s.display()));
        format!("{}{VERB}{}%u %t %k %f", self.program.display(), socket.unwrap_or_default())
    }

    /// The text of the drop-in.
    #[must_use]
    pub fn drop_in(&self) -> String {
        format!(
            "# Of palisade: `palisade access setup` writes it, `palisade access remove` takes it away.\n\
             # Keys of live grants are asked for here; keys in files go on working beside them.\n\
             AuthorizedKeysCommand {}\nAuthorizedKeysCommandUser {}\n\
             # Forwarding of Unix sockets cannot be limited key by key: with it a tunnel to one port would\n\
             # reach every socket of its user, systemd's and Docker's among them.\n\
             AllowStreamLocalForwarding no\n",
            self.command(),
            self.user
        )
    }
}

impl Sshd {
    fn cmd(&self, args: &[&str]) -> Cmd {
        let config = self.dir.join("sshd_config");
        Cmd::new(&self.program)
            .args(["-f".as_ref(), config.as_os_str()])
            .args(args)
            .deadline(WITHIN)
    }

    async fn run(
        &self,
        children: &Children,
        args: &[&str],
    ) -> Result<Result<String, String>, SetupError> {
        // Where no sshd ran yet since boot.
        files::ensure_dir(Path::new("/run/sshd"), 0o755).unwrap_or_default();
        let out = exec::run(children, self.cmd(args)).await;
        let out =
            out.map_err(|source| SetupError::Ask { program: self.program.clone(), source })?;
        let text = |b: &[u8]| String::from_utf8_lossy(b).trim().replace('\n', "; ");
        Ok(match out.code {
            Some(0) => Ok(String::from_utf8_lossy(&out.stdout).into_owned()),
            _ => Err(text(&out.stderr)),
        })
    }

    /// The settings that are in force for a user who comes through SSM.
    ///
    /// # Errors
    /// When sshd does not say.
    pub async fn effective(
        &self,
        children: &Children,
        user: &str,
    ) -> Result<Effective, SetupError> {
        let who = format!("user={user},host=localhost,addr=127.0.0.1");
        let said = self.run(children, &["-T", "-C", &who]).await?;
        let text = said.map_err(SetupError::InvalidBefore)?;
        let mut all = Effective::new();
        for line in text.lines() {
            let (key, value) = line.split_once(' ').unwrap_or((line, ""));
            all.entry(key.to_lowercase()).or_default().push(value.to_owned());
        }
        Ok(all)
    }

    /// Where the drop-in is.
    #[must_use]
    pub fn drop_in(&self) -> PathBuf {
        self.dir.join(DROP_IN)
    }

    /// Puts the drop-in in place. True if it was not there before as it is now.
    ///
    /// # Errors
    /// Why not; sshd's configuration is as it was then.
    pub async fn set_up(&self, children: &Children, helper: &Helper) -> Result<bool, SetupError> {
        if let Some(why) = writable(&helper.program) {
            return Err(SetupError::Unsafe { program: helper.program.clone(), why });
        }
        if let Some(systemctl) = self.systemctl.clone()
            && let Some(by) = sshd_unit::rival(children, systemctl).await
        {
            return Err(SetupError::CommandLine(by));
        }
        let before = self.effective(children, "root").await?;
        if let Some(other) = command_of(&before)
            && !other.contains(VERB)
            && !other.contains(EIC)
        {
            return Err(SetupError::Other(other));
        }
        let path = self.drop_in();
        let file = |source| SetupError::File { path: path.clone(), source };
        let old = match fs::read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            read => Some(read.map_err(file)?),
        };
        let new = helper.drop_in();
        if old.as_deref() == Some(new.as_bytes()) && command_of(&before) == Some(helper.command()) {
            return Ok(false);
        }
        if let Some(dir) = path.parent() {
            files::ensure_dir(dir, 0o755).map_err(file)?;
        }
        files::write_atomic(&path, new.as_bytes(), 0o644).map_err(file)?;
        let checked = self.check(children, helper).await;
        if checked.is_err() {
            match old {
                Some(old) => files::write_atomic(&path, &old, 0o644),
                None => fs::remove_file(&path),
            }
            .map_err(file)?;
        }
        checked.map(|()| true)
    }

    async fn check(&self, children: &Children, helper: &Helper) -> Result<(), SetupError> {
        self.run(children, &["-t"]).await?.map_err(SetupError::Invalid)?;
        let after = self.effective(children, "root").await?;
        let is_shut = after.get("allowstreamlocalforwarding").is_some_and(|v| *v == ["no"]);
        if command_of(&after) == Some(helper.command()) && is_shut {
            return Ok(());
        }
        Err(SetupError::NotIncluded(self.drop_in()))
    }

    /// Takes the drop-in away. True if it was there.
    ///
    /// # Errors
    /// When sshd's configuration would not be valid without it, which it was with it; it stays then.
    pub async fn remove(&self, children: &Children) -> Result<bool, SetupError> {
        let path = self.drop_in();
        let file = |source| SetupError::File { path: path.clone(), source };
        let old = match fs::read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            read => read.map_err(file)?,
        };
        // An sshd that is being removed too has nothing to say.
        let judged = self.program.exists();
        let valid_before = judged && self.run(children, &["-t"]).await?.is_ok();
        fs::remove_file(&path).map_err(file)?;
        if judged
            && let Err(why) = self.run(children, &["-t"]).await?
            && valid_before
        {
            files::write_atomic(&path, &old, 0o644).map_err(file)?;
            return Err(SetupError::Invalid(why));
        }
        Ok(true)
    }
}

fn command_of(settings: &Effective) -> Option<String> {
    let value = settings.get("authorizedkeyscommand")?.first()?.trim();
    (!value.is_empty() && value != "none").then(|| value.to_owned())
}

/// What in sshd's settings keeps a granted user out, or asks for more than a key.
#[must_use]
pub fn obstacles(user: &str, settings: &Effective) -> Vec<String> {
    let first = |key: &str| settings.get(key).and_then(|v| v.first()).map(String::as_str);
    let mut all = Vec::new();
    if first("pubkeyauthentication") == Some("no") {
        all.push(format!("{user} cannot log in by key: PubkeyAuthentication is no"));
    }
    if let Some(allowed) = settings.get("allowusers")
        && !allowed.iter().flat_map(|l| l.split_ascii_whitespace()).any(|p| names(p, user))
    {
        all.push(format!("{user} is not among AllowUsers, so sshd refuses it: add it there"));
    }
    if let Some(groups) = settings.get("allowgroups") {
        all.push(format!("{user} must be in one of AllowGroups: {}", groups.join(" ")));
    }
    if let Some(denied) = settings.get("denyusers")
        && denied.iter().flat_map(|l| l.split_ascii_whitespace()).any(|p| names(p, user))
    {
        all.push(format!("{user} is among DenyUsers, so sshd refuses it"));
    }
    if user == "root" && first("permitrootlogin") == Some("no") {
        all.push("root cannot log in: PermitRootLogin is no".to_owned());
    }
    if user == "root" && first("permitrootlogin") == Some("forced-commands-only") {
        all.push("root can be granted files and tunnels only: PermitRootLogin".to_owned());
    }
    match first("authenticationmethods") {
        None | Some("any") => {}
        Some(methods) if methods.split(' ').any(|m| m == "publickey") => {}
        Some(methods) => {
            all.push(format!(
                "{user} needs more than the granted key: AuthenticationMethods {methods}"
            ));
        }
    }
    all
}

/// Whether a pattern of sshd's, `USER` or `USER@HOST` with `*` and `?`, may mean a user.
fn names(pattern: &str, user: &str) -> bool {
    let pattern = pattern.split('@').next().unwrap_or(pattern);
    pattern == user || pattern.contains(['*', '?'])
}

#[cfg(test)]
#[path = "sshd_tests.rs"]
mod tests;
