//! Supervisor's own configuration, read as Supervisor 4.3 itself reads it, to the letter.
//!
//! ```text
//! files ── ini ──> sections ── groups, program, servers ──> Config: what Supervisor would run
//!                                                             ├── canonical ──> JSON
//!                                                             ├── specs ──────> ProcessSpec
//!                                                             └── yaml ───────> palisade.yaml
//! ```
//!
//! A file that Supervisor refuses is refused here, in its words and with the line. What it takes without a
//! word and a person would not expect (an option it does not know, a section that is spelt wrong) is taken
//! too, and remarked on.

mod advice;
mod canonical;
mod files;
mod floats;
mod groups;
mod host;
mod ini;
mod losses;
mod maker;
mod model;
mod names;
mod paths;
mod percent;
mod program;
mod python;
mod reader;
mod servers;
mod signals;
mod sockets;
mod specs;
mod traps;
mod words;
mod yaml;

use std::{collections::BTreeMap, path::PathBuf};

pub use canonical::canonical;
pub(super) use groups::EVENTS;
pub use host::{Answers, Disk, Host, Kept, Recorder, Sort, World};
pub use losses::in_yaml;
pub use model::{Config, Refusal, Remark};
use reader::{Reader, Refused};
pub use specs::{Import, Imported, import};
pub use yaml::yaml;

use super::mistakes::Place;

/// Reads files. Each one that has a section `[supervisord]` is a supervisor of its own; the others are
/// read as if the first of these included them, or with no such file, as if a bare one did. A file that is
/// named twice, or by a link too, is read once: it is one supervisor.
///
/// # Errors
/// The first thing for which Supervisor would refuse to start.
pub fn read(files: &[PathBuf], host: &dyn Host, world: &World) -> Result<Vec<Config>, Refusal> {
    let (mut mains, mut loose, mut twice) = (Vec::new(), Vec::new(), Vec::new());
    let mut seen: BTreeMap<PathBuf, String> = BTreeMap::new();
    for file in files {
        let name = file.display().to_string();
        let real = host.real(file);
        if let Some(first) = seen.get(&real) {
            let what = match *first == name {
                true => "named twice".to_owned(),
                false => format!("the same file as {first}"),
            };
            let text = format!("is {what}, and is read once");
            let (section, option) = (String::new(), String::new());
            twice.push(Remark { place: Place::whole(file), section, option, text });
            continue;
        }
        seen.insert(real, name.clone());
        let to = if files::is_main(&name, host, world)? { &mut mains } else { &mut loose };
        to.push(name);
    }
    let mut all = Vec::new();
    if mains.is_empty() {
        all.push(one(None, &loose, host, world)?);
    }
    for main in &mains {
        all.push(one(Some(main), &std::mem::take(&mut loose), host, world)?);
    }
    if let Some(first) = all.first_mut() {
        first.remarks.append(&mut twice);
    }
    Ok(all)
}

/// The same for files that a host runs: one that is no main file and can be no part of one has lost
/// something, by a slip or half written, and what it stood for must not stop for that.
///
/// # Errors
/// As above, and where Supervisor would not start with such a file either.
pub(super) fn read_to_run(
    files: &[PathBuf],
    host: &dyn Host,
    world: &World,
) -> Result<Vec<Config>, Refusal> {
    for file in files {
        let file = file.display().to_string();
        if !files::is_main(&file, host, world)? && !files::is_part(&file, host, world) {
            return Err(files::no_main(&file));
        }
    }
    read(files, host, world)
}

fn one(
    main: Option<&str>,
    more: &[String],
    host: &dyn Host,
    world: &World,
) -> Result<Config, Refusal> {
    let mut reader = files::read(main, more, host, world)?;
    match config(&mut reader) {
        Ok(config) => Ok(config),
        Err(refused) => Err(reader.placed(refused)),
    }
}

/// In the order in which Supervisor looks at things, so that of two mistakes the same one is told.
fn config(reader: &mut Reader<'_>) -> Result<Config, Refused> {
    let supervisord = servers::supervisord(reader)?;
    servers::plugins(reader)?;
    let mut groups = groups::groups(reader)?;
    for process in groups.iter_mut().flat_map(|g| &mut g.processes) {
        for (key, value) in &supervisord.environment {
            process.environment.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    let servers = servers::servers(reader)?;
    Ok(Config {
        groups,
        supervisord,
        servers,
        warnings: std::mem::take(&mut reader.warnings),
        included: std::mem::take(&mut reader.included),
        unread: std::mem::take(&mut reader.unread),
        remarks: std::mem::take(&mut reader.remarks),
        here: reader.here.clone(),
        main: reader.main.clone(),
        has_main: reader.has_main,
        ini: std::mem::take(&mut reader.ini),
    })
}

#[cfg(test)]
mod around_tests;
#[cfg(test)]
mod tests;
