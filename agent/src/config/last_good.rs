//! The last configuration without a mistake, kept beside the agent's state: a host that boots with a
//! broken file goes on as before instead of not at all.

use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};

use super::{Settings, Texts, check_texts};
use crate::sys::files;

const NAME: &str = "config.last-good.json";
const VERSION: u32 = 1;

/// The file's content, version first.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    v: u32,
    #[serde(flatten)]
    texts: Texts,
}

/// Keeps the files of a configuration that has no mistakes. They may hold passwords.
///
/// # Errors
/// When the disk does not take it; what was kept before is kept on.
pub fn keep(state_dir: &Path, files: &Texts) -> io::Result<()> {
    let text = serde_json::to_vec(&Kept { v: VERSION, texts: files.clone() })?;
    let path = state_dir.join(NAME);
    if fs::read(&path).is_ok_and(|kept| kept == text) {
        return Ok(());
    }
    files::ensure_dir(state_dir, 0o755)?;
    files::write_atomic(&path, &text, 0o600)
}

/// What was kept, if it is there and still has no mistakes for this version of the agent.
#[must_use]
pub fn last_good(state_dir: &Path) -> Option<Settings> {
    let text = fs::read(state_dir.join(NAME)).ok()?;
    let Kept { v, texts } = serde_json::from_slice(&text).ok()?;
    (v == VERSION).then(|| check_texts(texts).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_good_is_found_again_for_root_alone_and_rubbish_is_not() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        assert!(last_good(dir.path()).is_none());
        let text = "version: 1\nprograms: { a: { command: [sleep, '9'] } }\n";
        let files = Texts::from(vec![("/etc/palisade/palisade.yaml".into(), text.to_owned())]);
        keep(dir.path(), &files).unwrap();
        let kept = last_good(dir.path()).unwrap();
        assert_eq!(kept, check_texts(files).unwrap());
        let path = dir.path().join(NAME);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        files::write_atomic(&path, b"{\"v\":2,\"files\":[]}", 0o600).unwrap();
        assert!(last_good(dir.path()).is_none());
    }
}
