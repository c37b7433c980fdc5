//! What must hold for every package before anybody gets it: it runs on the oldest host we support,
//! and it tells nothing about the machine that built it.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};

use super::{Job, elf, empty};
use crate::{cargo, cmd::Cmd, host, say};

/// Amazon Linux 2023's.
const GLIBC: (u32, u32) = (2, 34);
/// Shorter values of secret-looking variables are too common to look for.
const SHORTEST_SECRET: usize = 10;

/// Opens every .deb in `dir` and looks into each of its files. The .rpm are made of the same files.
pub(crate) fn check(job: &Job, dir: &Path) -> Result<()> {
    let forbidden = forbidden(job)?;
    let tree = job.target.join("packages.look");
    for package in host::files_below(dir)? {
        let name = package.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.ends_with(".deb") {
            let told = leaks(&fs::read(&package).context("read a package")?, &forbidden);
            ensure!(told.is_empty(), "{name} tells {}", told.join(", "));
            continue;
        }
        empty(&tree)?;
        Cmd::new("dpkg-deb").arg("-R").arg(&package).arg(&tree).run()?;
        let mut installed = 0;
        for file in host::files_below(&tree)? {
            let shown = file.strip_prefix(&tree).unwrap_or(&file).display().to_string();
            let bytes = fs::read(&file).with_context(|| format!("read {shown}"))?;
            installed += bytes.len();
            let told = leaks(&bytes, &forbidden);
            ensure!(told.is_empty(), "{name}: {shown} tells {}", told.join(", "));
            if shown.starts_with("usr/bin/") {
                let (major, minor) = elf::newest_glibc(&file)?;
                ensure!(
                    (major, minor) <= GLIBC,
                    "{name}: {shown} needs glibc {major}.{minor}, newer than {}.{} of the oldest host",
                    GLIBC.0,
                    GLIBC.1
                );
            }
        }
        say::progress(&format!("package: {name}: {} KiB installed", installed / 1024));
    }
    fs::remove_dir_all(&tree).with_context(|| format!("remove {}", tree.display()))
}

/// Something that must not be in a package, and how to call it without repeating it.
struct Forbidden {
    what: String,
    bytes: Vec<u8>,
}

/// Where things are on this machine, and the secrets of its environment.
fn forbidden(job: &Job) -> Result<Vec<Forbidden>> {
    let paths = cargo::private_paths(&job.target)?;
    let paths = paths.into_iter().map(|(path, _)| Forbidden {
        what: format!("a path of the build machine ({})", path.display()),
        bytes: path.as_os_str().as_encoded_bytes().to_vec(),
    });
    let secrets = std::env::vars().filter(|(name, value)| {
        let secret = ["TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "_KEY"];
        secret.iter().any(|s| name.contains(s)) && value.len() >= SHORTEST_SECRET
    });
    let secrets = secrets.map(|(name, value)| Forbidden {
        what: format!("the value of the variable {name}"),
        bytes: value.into_bytes(),
    });
    Ok(paths.chain(secrets).collect())
}

fn leaks(bytes: &[u8], forbidden: &[Forbidden]) -> Vec<String> {
    let mut told: Vec<_> =
        forbidden.iter().filter(|f| contains(bytes, &f.bytes)).map(|f| f.what.clone()).collect();
    if has_access_key(bytes) {
        told.push("an AWS access key".to_owned());
    }
    if contains(bytes, b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n") {
        told.push("a private key".to_owned());
    }
    told
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    // The first byte is looked for alone, which is what makes this fast enough for megabytes.
    let Some((first, rest)) = wanted.split_first() else { return false };
    let mut from = bytes;
    while let Some(at) = from.iter().position(|b| b == first) {
        from = from.get(at + 1..).unwrap_or_default();
        if from.starts_with(rest) {
            return true;
        }
    }
    false
}

/// `AKIA` or `ASIA` and sixteen capitals or digits, alone. Those of AWS's documentation end in
/// `EXAMPLE` and are no secret.
fn has_access_key(bytes: &[u8]) -> bool {
    let is_key_byte = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit();
    bytes.split(|b| !is_key_byte(b)).any(|word| {
        word.len() == 20
            && (word.starts_with(b"AKIA") || word.starts_with(b"ASIA"))
            && !word.ends_with(b"EXAMPLE")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_and_a_secret_are_found_and_the_secret_is_not_repeated() {
        let forbidden = [
            Forbidden { what: "a path".to_owned(), bytes: b"/home/me/src".to_vec() },
            Forbidden { what: "the value of X_TOKEN".to_owned(), bytes: b"s3cr3t".to_vec() },
        ];
        assert_eq!(leaks(b"\0/home//home/me/src/a.rs\0", &forbidden), ["a path"]);
        assert_eq!(leaks(b"ss3cr3t", &forbidden), ["the value of X_TOKEN"]);
        assert!(leaks(b"/home/me/other s3cr3", &forbidden).is_empty());
    }

    #[test]
    fn an_access_key_is_told_from_words() {
        assert!(has_access_key(b"key=AKIAQQ3TESTTESTTEST7;"));
        for harmless in [&b"AKIAIOSFODNN7EXAMPLE"[..], b"AKIA", b"XAKIAQQ3TESTTESTTEST7"] {
            assert!(!has_access_key(harmless));
        }
    }
}
