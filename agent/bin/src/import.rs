//! `palisade import`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, anyhow};
use palisade_agent::{
    config::{
        self,
        supervisor::{self, Disk, Refusal},
    },
    sys::files,
};
use palisade_types::control::{Failure, FailureKind};

use crate::{
    cli::{ImportArgs, ImportFormat},
    exit,
    exit::Failed,
    printer::Printer,
};

/// The environment of a program may hold passwords.
const MODE: u32 = 0o600;

/// Reads Supervisor's files and writes what comes of them; exit code 2 if Supervisor would refuse them.
pub(crate) fn supervisor(args: &ImportArgs, printer: &Printer) -> Result<ExitCode, Failed> {
    if let Some(output) = args.output.as_ref().filter(|o| !args.force && o.exists()) {
        let error = format!("{} is there already", output.display());
        return Err(Failed::Agent(
            Failure::new(FailureKind::Failed, error)
                .hint("name another file, or add --force to write over it"),
        ));
    }
    let root = args.root.as_deref().map(std::path::absolute).transpose();
    let root = root.context("find the folder of --root")?;
    let names =
        args.files.iter().map(|f| below(f, root.as_deref())).collect::<Result<Vec<_>, _>>()?;
    let host = Disk::below(root);
    let world = host.world();
    let read = supervisor::read(&names, &host, &world);
    if args.format == ImportFormat::Canonical {
        let text =
            serde_json::to_string_pretty(&supervisor::canonical(&read)).context("print as JSON")?;
        write(args, printer, &text)?;
        return Ok(if read.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(exit::USAGE) });
    }
    let configs = read.map_err(refused)?;
    let mut import = supervisor::import(&configs, &host, &world);
    supervisor::in_yaml(&mut import, &configs, &world);
    let text = supervisor::yaml(&import, &names);
    write(args, printer, text.trim_end())?;
    if args.output.is_some() {
        for remark in &import.remarks {
            printer.note(format_args!("warning: {remark}"));
        }
    }
    told(&import, printer);
    let main = args.output.clone().unwrap_or_else(|| "palisade.yaml".into());
    if let Err(mistakes) = config::check_texts(vec![(main, text)].into()) {
        printer.note(&mistakes);
        return Err(anyhow!("palisade check would refuse what came of it").into());
    }
    Ok(ExitCode::SUCCESS)
}

/// The name of a file as the host has it whose files are below a folder.
fn below(file: &Path, root: Option<&Path>) -> anyhow::Result<PathBuf> {
    let Some(root) = root else { return Ok(file.to_owned()) };
    let whole = std::path::absolute(file).with_context(|| format!("find {}", file.display()))?;
    Ok(Path::new("/").join(whole.strip_prefix(root).unwrap_or(file)))
}

fn write(args: &ImportArgs, printer: &Printer, text: &str) -> Result<(), Failed> {
    match &args.output {
        None => printer.line(text),
        Some(path) => files::write_atomic(path, format!("{text}\n").as_bytes(), MODE)
            .with_context(|| format!("write {}", path.display()))?,
    }
    Ok(())
}

fn told(import: &supervisor::Import, printer: &Printer) {
    let count =
        |n: usize, one: &str, many: &str| format!("{n} {}", if n == 1 { one } else { many });
    let (written, left_out): (Vec<_>, Vec<_>) =
        import.processes.iter().partition(|p| p.can_be_written());
    printer.note(format_args!(
        "{}, {}",
        count(written.len(), "process", "processes"),
        count(import.remarks.len(), "remark", "remarks"),
    ));
    let left_out: Vec<_> = left_out.iter().map(|p| p.spec.name.as_str()).collect();
    if !left_out.is_empty() {
        let names = left_out.join(", ");
        printer.note(format_args!("{} left out, which cannot start: {names}", left_out.len()));
    }
    if !import.unread.is_empty() {
        let files = import.unread.join(", ");
        printer.note(format_args!("not read, with all that is in them: {files}"));
    }
}

fn refused(refusal: Refusal) -> Failed {
    let failure = Failure::new(FailureKind::BadRequest, refusal.to_string());
    if refusal.is_ours() {
        return Failed::Agent(failure);
    }
    let hint = if refusal.names_unset_variable() {
        "set the variables that supervisord is started with: NAME=value palisade import supervisor ..."
    } else {
        "Supervisor would not start with this file either; correct it there"
    };
    Failed::Agent(failure.hint(hint))
}
