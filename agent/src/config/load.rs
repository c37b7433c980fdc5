//! Reading the configuration from its files.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    check,
    mistakes::{Mistake, Mistakes, Notebook, Place},
    raw::{self, Node},
    settings::Settings,
    supervisor::{Answers, Disk, Kept, Recorder, World},
    supervisor_conf::Surroundings,
};
use crate::clock::{SystemClock, WallClock as _};

/// A larger file is not a configuration.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Reads `palisade.yaml` at `path` and every `conf.d/*.yaml` beside it, and the files of Supervisor that
/// they name.
///
/// # Errors
/// Every mistake in every file.
pub fn load(path: &Path) -> Result<Settings, Mistakes> {
    read(path).map(|(settings, _)| settings)
}

/// The same, and the texts that it was read from.
///
/// # Errors
/// Every mistake in every file.
pub fn read(path: &Path) -> Result<(Settings, Texts), Mistakes> {
    let (files, unreadable) = read_all(path);
    let notes = Notebook::default();
    for (file, e) in unreadable {
        notes.note(&Place::whole(&file), "", format!("cannot be read: {e}"));
    }
    let host = Recorder::new(Disk::default());
    let world = World::of_this_process();
    let around = Surroundings { host: &host, world: &world, now: SystemClock.now() };
    let settings = check_noted(files.clone(), &around, notes)?;
    let (supervisor, answers) = host.recorded();
    Ok((settings, Texts { files, supervisor, answers }))
}

/// The control socket as the files at `path` name it, also where they have mistakes elsewhere: whoever
/// wants to ask an agent about a bad file must still reach it. None if a file cannot be read at all.
#[must_use]
pub fn control_socket(path: &Path) -> Option<PathBuf> {
    let (files, _) = read_all(path);
    let trees: Vec<Node> =
        files.into_iter().filter_map(|(file, text)| raw::parse(file, &text).ok()).collect();
    let read = !trees.is_empty();
    let (host, world) = (Kept::default(), World::default());
    let around = Surroundings { host: &host, world: &world, now: SystemClock.now() };
    read.then(|| check::check(&trees, &around, &Notebook::default()).control.socket)
}

/// Checks files that are already read.
///
/// # Errors
/// Every mistake in every file.
pub fn check_texts(texts: Texts) -> Result<Settings, Mistakes> {
    let bytes = |(file, text): (PathBuf, String)| (file, text.into_bytes());
    let host = Kept::new(texts.supervisor.into_iter().map(bytes)).with(texts.answers);
    let world = World::of_this_process();
    check_noted(
        texts.files,
        &Surroundings { host: &host, world: &world, now: SystemClock.now() },
        Notebook::default(),
    )
}

fn check_noted(
    files: Files,
    around: &Surroundings<'_>,
    notes: Notebook,
) -> Result<Settings, Mistakes> {
    let mut trees: Vec<Node> = Vec::new();
    for (file, text) in files {
        match raw::parse(file, &text) {
            Ok(tree) => trees.push(tree),
            Err(Mistake { place, key, what }) => notes.note(&place, &key, what),
        }
    }
    // With no file read there is nothing to find missing in it.
    let settings = (!trees.is_empty()).then(|| check::check(&trees, around, &notes));
    notes.unless_mistaken(settings)?.ok_or_else(|| {
        Mistake { place: Place::whole(Path::new("")), key: String::new(), what: "no file".into() }
            .into()
    })
}

/// Name and text of each of some files.
type Files = Vec<(PathBuf, String)>;

/// All that a configuration was read from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Texts {
    /// Those of palisade, the main one first.
    pub files: Files,
    /// Supervisor's own, as `supervisor_conf` and they themselves name them.
    #[serde(default)]
    pub supervisor: Files,
    /// What else the host was asked about Supervisor's.
    #[serde(default)]
    pub answers: Answers,
}

impl From<Files> for Texts {
    fn from(files: Files) -> Self {
        Self { files, ..Self::default() }
    }
}

fn read_all(main: &Path) -> (Files, Vec<(PathBuf, io::Error)>) {
    let (mut texts, mut unreadable) = (Vec::new(), Vec::new());
    let mut files = vec![main.to_owned()];
    let conf_d = main.with_file_name("conf.d");
    match conf_d_files(&conf_d) {
        Ok(more) => files.extend(more),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => unreadable.push((conf_d, e)),
    }
    for file in files {
        match read_bounded(&file) {
            Ok(text) => texts.push((file, text)),
            Err(e) => unreadable.push((file, e)),
        }
    }
    (texts, unreadable)
}

/// The `*.yaml` files of a directory in the order of their names; hidden ones are left out.
fn conf_d_files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let hidden = path.file_name().is_none_or(|n| n.to_string_lossy().starts_with('.'));
        if !hidden && path.extension().is_some_and(|x| x == "yaml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read_bounded(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    let read = File::open(file)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if read as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other("larger than 1 MiB"));
    }
    Ok(text)
}

#[cfg(test)]
mod supervisor_tests;
#[cfg(test)]
mod tests;
