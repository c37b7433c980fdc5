//! What is asked of the host while a request is looked at, and whether sshd can ask us at all.

use std::{
    fs, io,
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use nix::unistd::User;
use palisade_types::grant::UserName;

use super::{super::users, sshd_unit};
use crate::access::{Account, Facts};

/// Host keys that are told.
const MAX_KEYS: usize = 8;
const MAX_KEY_FILE: u64 = 16 << 10;

/// This host.
#[derive(Clone, Debug)]
pub struct HostFacts {
    /// Where sshd's host keys are.
    pub ssh_dir: PathBuf,
    /// The helper's program.
    pub helper: PathBuf,
    /// The user that sshd runs it as.
    pub helper_user: String,
    /// What makes sshd ask us, below `ssh_dir`.
    pub drop_in: PathBuf,
    /// sshd's programs.
    pub sshd: Vec<PathBuf>,
}

impl Facts for HostFacts {
    fn account(&self, user: &UserName) -> io::Result<Option<Account>> {
        let found = User::from_name(user.as_str())?;
        Ok(found.map(|u| Account { uid: u.uid.as_raw(), shell: u.shell.display().to_string() }))
    }

    fn host_keys(&self) -> Vec<String> {
        let listed = fs::read_dir(&self.ssh_dir).into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> = listed.map(|e| e.path()).filter(|p| is_host_key(p)).collect();
        files.sort();
        files.iter().take(MAX_KEYS).filter_map(|f| public_key(f)).collect()
    }

    fn troubles(&self) -> Vec<String> {
        let mut troubles = Vec::new();
        if let Some(who) = writable(&self.helper) {
            troubles.push(format!(
                "sshd refuses to run {}: {who}; chmod go-w it and chown it to root",
                self.helper.display()
            ));
        }
        if let Err(e) = users::identity(&self.helper_user) {
            troubles.push(format!(
                "sshd cannot run the helper as {}: {e}; run systemd-sysusers palisade.conf",
                self.helper_user
            ));
        }
        if !self.drop_in.exists() {
            troubles.push(format!(
                "sshd does not ask for granted keys: {} is not there; run palisade access setup",
                self.drop_in.display()
            ));
        }
        if let Some(pid) = sshd_unit::running_rival(&self.sshd) {
            troubles.push(format!(
                "sshd does not ask for granted keys: it (pid {pid}) was started with another \
                 AuthorizedKeysCommand; palisade access setup says what to do"
            ));
        }
        troubles
    }
}

fn is_host_key(path: &Path) -> bool {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    name.starts_with("ssh_host_") && name.ends_with("_key.pub")
}

/// `ALGORITHM BASE64` of a public key file, without its comment.
fn public_key(path: &Path) -> Option<String> {
    let mut text = String::new();
    fs::File::open(path).ok()?.take(MAX_KEY_FILE).read_to_string(&mut text).ok()?;
    let mut words = text.split_ascii_whitespace();
    let (kind, key) = (words.next()?, words.next()?);
    let plain = |w: &str| w.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=-.@".contains(&b));
    (plain(kind) && plain(key)).then(|| format!("{kind} {key}"))
}

/// Who else than root may change a program, or a directory on its path: sshd looks for the same.
pub(super) fn writable(program: &Path) -> Option<String> {
    let real = match program.canonicalize() {
        Ok(real) => real,
        Err(e) => return Some(format!("it cannot be found: {e}")),
    };
    for part in real.ancestors() {
        let Ok(meta) = fs::metadata(part) else { continue };
        let shown = part.display();
        if meta.uid() != 0 {
            return Some(format!("{shown} belongs to uid {}", meta.uid()));
        }
        if meta.mode() & 0o022 != 0 {
            return Some(format!(
                "{shown} may be written by others (mode {:o})",
                meta.mode() & 0o7777
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_program_in_a_directory_that_others_may_write_is_found_out() {
        assert_eq!(writable(Path::new("/usr/bin/env")), None);
        let dir = tempfile::tempdir_in("/root").unwrap();
        let program = dir.path().join("helper");
        super::super::super::files::write_atomic(&program, b"", 0o755).unwrap();
        assert_eq!(writable(&program), None);
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o775)).unwrap();
        assert!(writable(&program).unwrap().contains("mode 775"));
        assert!(writable(&dir.path().join("absent")).unwrap().contains("cannot be found"));
    }

    #[test]
    fn host_keys_are_told_without_their_comments() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            super::super::super::files::write_atomic(
                &dir.path().join(name),
                text.as_bytes(),
                0o644,
            )
            .unwrap();
        };
        write("ssh_host_ed25519_key.pub", "ssh-ed25519 AAAA root@host\n");
        write("ssh_host_rsa_key.pub", "ssh-rsa \"x\"\n");
        write("sshd_config", "Port 22\n");
        let facts = HostFacts {
            ssh_dir: dir.path().to_owned(),
            helper: "/usr/bin/env".into(),
            helper_user: "root".to_owned(),
            drop_in: dir.path().join("sshd_config"),
            sshd: Vec::new(),
        };
        assert_eq!(facts.host_keys(), ["ssh-ed25519 AAAA"]);
        assert_eq!(facts.troubles(), Vec::<String>::new());
    }
}
