//! The configuration file, `~/.config/bastionctl/config.toml`. Invariant: an unknown key is a
//! mistake, and a mistake is told with file and line.

use std::{collections::BTreeMap, fs, io, path::Path};

use palisade_types::grant::UserName;
use serde::Deserialize;

use crate::failed::{Failed, Outcome};

/// Longest file.
const MAX_BYTES: u64 = 1 << 20;

/// The file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) region: Option<String>,
    pub(super) profile: Option<String>,
    pub(super) user: Option<UserName>,
    pub(super) ttl: Option<String>,
    #[serde(default)]
    pub(super) hosts: BTreeMap<String, Alias>,
}

/// A name for a host.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Alias {
    /// What it stands for; the name itself when left out.
    pub(crate) target: Option<String>,
    pub(crate) user: Option<UserName>,
    pub(crate) via: Option<String>,
    pub(crate) port: Option<u16>,
    pub(crate) region: Option<String>,
    pub(crate) profile: Option<String>,
}

/// Reads the file. One that is not there is empty, unless it was `asked_for`.
pub(super) fn read(path: &Path, asked_for: bool) -> Outcome<File> {
    let what = || format!("read {}", path.display());
    let size = match fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound && !asked_for => return Ok(File::default()),
        Err(e) => return Err(Failed::because(what(), &e)),
        Ok(meta) => meta.len(),
    };
    if size > MAX_BYTES {
        return Err(Failed::usage(format!("{}: more than {MAX_BYTES} bytes", what())));
    }
    let text = fs::read_to_string(path).map_err(|e| Failed::because(what(), &e))?;
    parse(path, &text)
}

pub(super) fn parse(path: &Path, text: &str) -> Outcome<File> {
    toml::from_str(text).map_err(|e| {
        let before = e.span().and_then(|s| text.get(..s.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        Failed::usage(format!("{}:{line}: {}", path.display(), e.message()))
            .hint("docs/ops/bastionctl.md lists the keys")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_told_with_file_and_line() {
        let text = "user = \"deploy\"\n[hosts.a]\ntaget = \"i-1\"\n";
        let failed = parse("c.toml".as_ref(), text).unwrap_err().to_string();
        assert!(failed.starts_with("c.toml:3: ") && failed.contains("taget"), "{failed}");
        let failed = parse("c.toml".as_ref(), "\nuser = \"No!\"\n").unwrap_err().to_string();
        assert!(failed.starts_with("c.toml:2: "), "{failed}");
    }

    #[test]
    fn a_file_that_was_asked_for_must_be_there() {
        let nowhere = Path::new("/nowhere/c.toml");
        assert!(read(nowhere, false).unwrap().hosts.is_empty());
        assert!(read(nowhere, true).unwrap_err().to_string().contains("/nowhere/c.toml"));
    }
}
