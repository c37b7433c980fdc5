//! Which files are read, and in what order: a main file, what it includes, and loose files that belong to
//! a main file which is not here.

use std::{collections::BTreeMap, io, path::Path};

use super::{
    super::mistakes::Place,
    host::{Host, World},
    ini::Ini,
    model::Refusal,
    paths::{absolute, folder, matches},
    percent::Value,
    reader::{Extra, Reader, Refused},
};

/// More included files than anybody has.
const MAX_FILES: usize = 10_000;

/// Reads files as Supervisor would: `main` with what it includes, then `more` as if it included them. With
/// no main file, one is made up that holds nothing but `[supervisord]`.
pub(super) fn read<'a>(
    main: Option<&str>,
    more: &[String],
    host: &'a dyn Host,
    world: &'a World,
) -> Result<Reader<'a>, Refusal> {
    let name = main.or_else(|| more.first().map(String::as_str)).unwrap_or_default();
    let here = absolute(folder(name), world);
    let environment =
        world.environment.iter().map(|(k, v)| (format!("ENV_{k}"), v.clone())).collect();
    let mut reader = Reader {
        environment,
        here: here.clone(),
        has_main: main.is_some(),
        ..alone(name, host, world)
    };
    match main {
        Some(main) => {
            add(&mut reader, main)?.map_err(|e| missing(main, &e))?;
            include(&mut reader)?;
        }
        None => {
            let wrapper = reader.ini.read(Path::new(name), "[supervisord]\n");
            wrapper.map_err(|e| unreadable(name, e.line, e.text))?;
        }
    }
    for file in more {
        if main.is_some() {
            // What stands in the files before has their own folder by now.
            reader.ini.expand_here(&here);
        }
        read_more(&mut reader, file)?.map_err(|e| missing(file, &e))?;
    }
    Ok(reader)
}

/// Whether a file is a main file: it has `[supervisord]`, or includes a file that has.
pub(super) fn is_main(file: &str, host: &dyn Host, world: &World) -> Result<bool, Refusal> {
    let has = |reader: &Reader<'_>| reader.ini.section("supervisord").is_some();
    let mut alone = alone(file, host, world);
    // What was read up to a mistake still says what sort of file it is.
    let read = add(&mut alone, file);
    if has(&alone) {
        return Ok(true);
    }
    if read.is_err() || alone.ini.section("include").is_none() {
        return Ok(false);
    }
    match self::read(Some(file), &[], host, world) {
        Ok(reader) => Ok(has(&reader)),
        // What is wrong with `[include]` itself matters in a main file only.
        Err(refusal) if refusal.place.file.as_os_str() == file => Ok(false),
        Err(refusal) => Err(refusal),
    }
}

/// Whether a file that is no main file can be a part of one: it has programs, and nothing that Supervisor
/// looks for in its main file. One that cannot be read tells its mistake elsewhere.
pub(super) fn is_part(file: &str, host: &dyn Host, world: &World) -> bool {
    const PROGRAMS: [&str; 4] = ["program:", "group:", "eventlistener:", "fcgi-program:"];
    const MAINS: [&str; 4] = ["include", "unix_http_server", "inet_http_server", "rpcinterface:"];
    let mut alone = alone(file, host, world);
    if add(&mut alone, file).is_err() {
        return true;
    }
    let has = |of: [&str; 4]| {
        alone.ini.sections().iter().any(|s| of.iter().any(|start| s.name.starts_with(start)))
    };
    has(PROGRAMS) && !has(MAINS)
}

/// What Supervisor says of a main file that is none.
pub(super) fn no_main(file: &str) -> Refusal {
    let text = ".ini file does not include supervisord section; a file without it may hold programs and \
                groups alone, and must hold some";
    unreadable(file, 0, text.to_owned())
}

/// A reader that has read nothing yet.
fn alone<'a>(file: &str, host: &'a dyn Host, world: &'a World) -> Reader<'a> {
    Reader {
        host,
        world,
        ini: Ini::default(),
        environment: BTreeMap::new(),
        here: String::new(),
        main: file.to_owned(),
        has_main: true,
        opened_by: BTreeMap::new(),
        warnings: Vec::new(),
        included: Vec::new(),
        unread: Vec::new(),
        remarks: Vec::new(),
    }
}

fn include(reader: &mut Reader<'_>) -> Result<(), Refusal> {
    const INCLUDE: &str = "include";
    if reader.ini.section(INCLUDE).is_none() {
        return Ok(());
    }
    let here = reader.here.clone();
    reader.ini.expand_here(&here);
    let refused = |reader: &Reader<'_>, text: String| {
        Err(reader.placed(Refused::new(text, INCLUDE, "files")))
    };
    let Some(files) = reader.raw(INCLUDE, "files") else {
        return refused(reader, ".ini file has [include] section, but no files setting".to_owned());
    };
    let extra = Extra::from([
        ("here".to_owned(), Value::Text(here)),
        ("host_node_name".to_owned(), Value::Text(reader.world.node.clone())),
    ]);
    let files = match reader.expand(files, &extra, "include.files") {
        Ok(files) => files,
        Err(text) => return refused(reader, text),
    };
    let base = absolute(folder(&reader.main), reader.world);
    for pattern in files.split(super::python::is_space).filter(|p| !p.is_empty()) {
        let pattern = match (pattern.starts_with('/'), base.as_str()) {
            (true, _) => pattern.to_owned(),
            (false, "/") => format!("/{pattern}"),
            (false, base) => format!("{base}/{pattern}"),
        };
        let found = matches(&pattern, reader.host);
        if found.is_empty() {
            let text = format!("No file matches via include \"{pattern}\"");
            reader.warnings.push(text.clone());
            reader.remark(INCLUDE, "files", text);
        }
        for file in found {
            if reader.included.len() >= MAX_FILES {
                let text = format!("more than {MAX_FILES} files are included");
                return Err(reader.placed(Refused::new(text, INCLUDE, "files").ours()));
            }
            reader.included.push(file.clone());
            if let Err(e) = read_more(reader, &file)? {
                let text = format!("{file} cannot be read, and is left out: {e}");
                reader.remark(INCLUDE, "files", text);
                reader.unread.push(file);
            }
        }
    }
    Ok(())
}

/// One included file. Supervisor takes one that cannot be read for an empty one.
fn read_more(reader: &mut Reader<'_>, file: &str) -> Result<io::Result<()>, Refusal> {
    let before = reader.ini.sections().len();
    let read = add(reader, file)?;
    let new: Vec<_> = reader
        .ini
        .sections()
        .iter()
        .skip(before)
        .map(|s| (s.name.clone(), file.to_owned()))
        .collect();
    reader.opened_by.extend(new);
    let here = absolute(folder(file), reader.world);
    reader.ini.expand_here(&here);
    Ok(read)
}

fn add(reader: &mut Reader<'_>, file: &str) -> Result<io::Result<()>, Refusal> {
    let bytes = match reader.host.read(Path::new(file)) {
        Ok(bytes) => bytes,
        // Supervisor would read it: to go on without it would be to lose what is in it.
        Err(e) if e.kind() == io::ErrorKind::FileTooLarge => return Err(missing(file, &e)),
        Err(e) => return Ok(Err(e)),
    };
    let text = decode(&bytes).map_err(|(line, text)| unreadable(file, line, text))?;
    reader.ini.read(Path::new(file), text).map_err(|e| unreadable(file, e.line, e.text))?;
    Ok(Ok(()))
}

/// The text, which must be UTF-8 from the first byte to the last.
fn decode(bytes: &[u8]) -> Result<&str, (u64, String)> {
    std::str::from_utf8(bytes).map_err(|e| {
        let at = e.valid_up_to();
        let byte = bytes.get(at).copied().unwrap_or_default();
        let why = match e.error_len() {
            None => "unexpected end of data",
            Some(1) if !(0xc2..=0xf4).contains(&byte) => "invalid start byte",
            Some(_) => "invalid continuation byte",
        };
        let before = bytes.get(..at).unwrap_or_default();
        let line = before.iter().filter(|b| **b == b'\n').count() as u64 + 1;
        (line, format!("'utf-8' codec can't decode byte 0x{byte:02x} in position {at}: {why}"))
    })
}

fn unreadable(file: &str, line: u64, text: String) -> Refusal {
    let mut place = Place::whole(file.as_ref());
    place.line = line;
    Refusal { place, key: String::new(), text, is_ours: false }
}

fn missing(file: &str, why: &io::Error) -> Refusal {
    let text = format!("could not read config file {file}: {why}");
    Refusal { is_ours: true, ..unreadable(file, 0, text) }
}
