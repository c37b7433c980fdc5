//! Checksums of what was made, and a detached signature of the checksums: who trusts the key can
//! check every file, whatever its format.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use crate::{cmd::Cmd, host};

/// The list, as `sha256sum --check` reads it.
pub(crate) const SUMS: &str = "SHA256SUMS";

/// Checks that the key is one that the tools can read, before anything is built for minutes.
pub(crate) fn readable_key(path: &Path) -> Result<PathBuf> {
    let path = std::path::absolute(path).context("find the key")?;
    let text = fs::read(&path).with_context(|| format!("read the key {}", path.display()))?;
    ensure!(
        text.starts_with(b"-----BEGIN PGP PRIVATE KEY BLOCK-----"),
        "{} is no ASCII-armoured private key; make one by `gpg --armor --export-secret-keys ID`",
        path.display()
    );
    Ok(path)
}

/// Writes `SHA256SUMS` over every file in `dir`, and `SHA256SUMS.asc` if there is a key.
pub(crate) fn sums(dir: &Path, key: Option<&Path>) -> Result<()> {
    let signature = dir.join(format!("{SUMS}.asc"));
    if signature.exists() {
        fs::remove_file(&signature).with_context(|| format!("remove {}", signature.display()))?;
    }
    let names: Vec<String> = host::files_below(dir)?
        .iter()
        .filter_map(|file| Some(file.strip_prefix(dir).ok()?.display().to_string()))
        .filter(|name| name != SUMS && !name.starts_with('.'))
        .collect();
    ensure!(!names.is_empty(), "{} holds nothing to sum up", dir.display());
    let text = Cmd::new("sha256sum").arg("--").args(&names).dir(dir).run()?;
    host::write(&dir.join(SUMS), text)?;
    match key {
        Some(key) => sign(&dir.join(SUMS), &signature, key),
        None => Ok(()),
    }
}

/// Whether every file is as it was summed up, and the signature (if there is one) is of `key`.
pub(crate) fn verify_sums(dir: &Path, key: Option<&Path>) -> Result<()> {
    Cmd::new("sha256sum").args(["--check", "--strict", "--quiet", SUMS]).dir(dir).run()?;
    let Some(key) = key else { return Ok(()) };
    let home = Keyring::new(key)?;
    home.gpg()
        .arg("--verify")
        .arg(dir.join(format!("{SUMS}.asc")))
        .arg(dir.join(SUMS))
        .run()
        .map(|_| ())
}

fn sign(file: &Path, signature: &Path, key: &Path) -> Result<()> {
    let home = Keyring::new(key)?;
    home.gpg()
        .args(["--armor", "--detach-sign", "--output"])
        .arg(signature)
        .arg(file)
        .run()
        .map(|_| ())
        .with_context(|| format!("sign {}", file.display()))
}

/// A keyring with one key in it, removed when dropped: the user's own is not touched.
struct Keyring {
    home: PathBuf,
}

impl Keyring {
    fn new(key: &Path) -> Result<Self> {
        // Short, because gpg's agent listens on a socket in it.
        let said = Cmd::new("mktemp").args(["-d", "/tmp/palisade-gpg.XXXXXX"]).run()?;
        let ring = Self { home: PathBuf::from(said.trim()) };
        fs::set_permissions(&ring.home, fs::Permissions::from_mode(0o700))
            .context("close the keyring to others")?;
        ring.gpg().arg("--import").arg(key).run().context("read the key")?;
        Ok(ring)
    }

    fn gpg(&self) -> Cmd {
        Cmd::new("gpg").args(["--batch", "--quiet", "--no-tty", "--homedir"]).arg(&self.home)
    }
}

impl Drop for Keyring {
    fn drop(&mut self) {
        // The agent that gpg started ends when its directory is gone; asking is quicker.
        drop(Cmd::new("gpgconf").arg("--homedir").arg(&self.home).args(["--kill", "all"]).said());
        drop(fs::remove_dir_all(&self.home));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::find;

    fn key(dir: &Path) -> PathBuf {
        let file = dir.join("key.asc");
        let script = "h=$(mktemp -d /tmp/palisade-gpg.XXXXXX); chmod 700 $h; \
            gpg --batch --quiet --no-tty --homedir $h --passphrase '' \
            --quick-gen-key 'Test <test@palisade.example>' ed25519 sign never; \
            gpg --batch --quiet --homedir $h --armor --export-secret-keys > \"$0\"; \
            gpgconf --homedir $h --kill all; rm -rf $h";
        Cmd::new("sh").args(["-ec", script]).arg(&file).run().unwrap();
        file
    }

    #[test]
    fn a_changed_file_and_a_foreign_signature_are_seen() {
        if find("gpg").is_none() {
            crate::say::line("skipped: gpg is not installed");
            return;
        }
        let dir = std::env::temp_dir().join(format!("xtask-sign-{}", std::process::id()));
        let out = dir.join("out");
        host::write(&out.join("a.deb"), "a").unwrap();
        let mine = readable_key(&key(&dir)).unwrap();
        sums(&out, Some(&mine)).unwrap();
        verify_sums(&out, Some(&mine)).unwrap();
        host::write(&dir.join("other/x"), "").unwrap();
        let other = key(&dir.join("other"));
        assert!(verify_sums(&out, Some(&other)).is_err());
        host::write(&out.join("a.deb"), "b").unwrap();
        assert!(verify_sums(&out, Some(&mine)).is_err());
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_key_that_is_not_armoured_is_refused_with_the_way_out() {
        let file = std::env::temp_dir().join(format!("xtask-key-{}", std::process::id()));
        host::write(&file, [0x95, 0x01]).unwrap();
        let e = readable_key(&file).unwrap_err().to_string();
        assert!(e.contains("--export-secret-keys"), "{e}");
        fs::remove_file(&file).unwrap();
    }
}
