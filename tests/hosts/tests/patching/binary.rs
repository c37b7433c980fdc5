//! The agent under test.

use std::path::PathBuf;

use palisade_hosts::trees::target_dir;

/// The agent's binary: `PALISADE_BIN`, else what cargo built last.
pub(crate) fn binary() -> Result<PathBuf, String> {
    let found = match std::env::var_os("PALISADE_BIN") {
        Some(path) => vec![PathBuf::from(path)],
        None => ["quick", "fast", "release", "debug"]
            .map(|p| target_dir().join(p).join("palisade"))
            .to_vec(),
    };
    let built = |p: &&PathBuf| std::fs::metadata(p).and_then(|m| m.modified()).ok();
    let file = found.iter().filter(|p| p.is_file()).max_by_key(built).cloned();
    file.ok_or_else(|| {
        format!("skipped: no agent at {} (`cargo build -p palisade`)", found[0].display())
    })
}
