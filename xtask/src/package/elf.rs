//! What a binary asks of the C library it will meet.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::cmd::Cmd;

/// The newest version of glibc that a symbol of the binary asks for.
pub(crate) fn newest_glibc(binary: &Path) -> Result<(u32, u32)> {
    let said = Cmd::new("objdump").arg("-T").arg(binary).run()?;
    newest(&said).with_context(|| format!("{} asks for no version of glibc", binary.display()))
}

fn newest(symbols: &str) -> Option<(u32, u32)> {
    symbols
        .split("GLIBC_")
        .skip(1)
        .filter_map(|rest| {
            let end = rest.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(rest.len());
            let (major, minor) = rest.get(..end)?.split_once('.')?;
            let minor = minor.split('.').next()?;
            Some((major.parse().ok()?, minor.parse().ok()?))
        })
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let said = "0 DF *UND* 0 (GLIBC_2.2.5) read\n0 DF *UND* 0 (GLIBC_2.34) a\n (GLIBC_2.9) b\n";
        assert_eq!(newest(said), Some((2, 34)));
        assert_eq!(newest("nothing"), None);
    }
}
