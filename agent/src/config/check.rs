//! From the merged tree to [`Settings`], section by section.

use std::path::{Path, PathBuf};

use super::supervisor_conf::{self, Surroundings};
use super::{
    access, firewall, logs, merge, metrics,
    mistakes::Notebook,
    origin_guard, patch, processes,
    raw::Node,
    section::{Field, Section},
    settings::{Aws, Control, Host, Region, Role, Settings},
};
use crate::supervise;

/// Settings, complete only if nothing was noted.
pub(super) fn check(trees: &[Node], around: &Surroundings<'_>, notes: &Notebook) -> Settings {
    let root = merge::merge(trees, notes);
    let mut top = Section::new("", &root, notes);
    if let Some(version) = top.need("version") {
        version.int::<i64>(1..=1);
    }
    let host = host(&mut top);
    let aws = top.get("aws").map(|field| aws(field.section()));
    let (mut control, names_itself) = control(&mut top, &host.run_dir);
    let imported = supervisor_conf::read(&mut top, around, notes);
    if let Some(identifier) = imported.identifier().filter(|_| !names_itself) {
        control.identifier = identifier;
    }
    let mut programs = processes::processes(&mut top, &imported.programs());
    for process in &mut programs.processes {
        if let supervise::Kind::Listener(listener) = &mut process.kind {
            listener.server.clone_from(&control.identifier);
        }
    }
    let mut warnings = imported.warnings();
    warnings.extend(programs.warnings(around.now));
    let mut supervise = supervise::Settings {
        run_dir: host.run_dir.clone(),
        log_dir: host.state_dir.join("programs"),
        cgroup: cgroup(&mut top),
        processes: imported.beside(programs, notes),
    };
    if let Some(socket) = &control.supervisor_socket {
        // As Supervisor's AUTO does: programs that ask it find who answers in its place.
        let url = format!("unix://{}", socket.display());
        for process in &mut supervise.processes {
            process.serverurl.get_or_insert_with(|| url.clone());
        }
    }
    let access = top.get("access").map(|f| access::access(f.section(), &host));
    let direct = access.as_ref().is_some_and(|a| !a.sources.is_empty());
    let beside = firewall::Beside { direct, has_aws: aws.is_some() };
    let firewall =
        top.get("firewall").map(|f| firewall::firewall(f.section(), &host.state_dir, beside));
    let origin = top.get("origin_guard").and_then(|f| {
        let (state, has_aws) = (&host.state_dir, aws.is_some());
        origin_guard::origin_guard(f.section(), state, has_aws, firewall.as_ref())
    });
    let metrics = top.get("metrics").map(|f| metrics::metrics(f.section()));
    let programs = supervise.processes.iter().map(|p| p.program.to_string()).collect();
    let logs = top.get("logs").map(|f| {
        let header = origin.as_ref().map_or(origin_guard::HEADER, |o| o.header.as_str());
        logs::logs(f.section(), &host, aws.is_some(), header, &programs)
    });
    let patch = top
        .get("patch")
        .map(|f| patch::patch(f.section(), &host.state_dir, &programs, aws.is_some()));
    top.finish();
    Settings {
        host,
        aws,
        control,
        supervise,
        firewall,
        origin,
        logs,
        metrics,
        patch,
        access,
        warnings,
    }
}

fn host(top: &mut Section<'_>) -> Host {
    let mut host = Host {
        role: Role::Origin,
        env: "default".to_owned(),
        state_dir: PathBuf::from("/var/lib/palisade"),
        run_dir: PathBuf::from("/run/palisade"),
    };
    let Some(field) = top.get("host") else { return host };
    let mut s = field.section();
    if let Some(role) = s.get("role") {
        let roles = [("origin", Role::Origin), ("bastion", Role::Bastion)];
        host.role = role.one_of(&roles).unwrap_or(host.role);
    }
    if let Some(env) = s.get("env") {
        host.env = env.text().unwrap_or_default().to_owned();
        if host.env.is_empty() || !logs::is_group_name(&host.env) {
            env.wrong("must be 1 or more of a-z A-Z 0-9 . - _ / #: it becomes part of log groups");
        }
    }
    if let Some(dir) = s.get("state_dir").and_then(|f| f.abs_path()) {
        host.state_dir = dir;
    }
    if let Some(dir) = s.get("run_dir").and_then(|f| f.abs_path()) {
        host.run_dir = dir;
    }
    s.get("cgroup");
    s.finish();
    host
}

/// `host.cgroup`: `auto`, `off`, or a directory.
fn cgroup(top: &mut Section<'_>) -> supervise::Cgroup {
    let field = top.get("host").and_then(|host| host.section().get("cgroup"));
    let Some(field) = field else { return supervise::Cgroup::Auto };
    // YAML reads a bare `off` as false.
    match field.word().as_deref() {
        Some("auto") | None => supervise::Cgroup::Auto,
        Some("off" | "false") => supervise::Cgroup::Off,
        Some(path) if path.starts_with('/') => supervise::Cgroup::At(path.into()),
        Some(other) => {
            field.wrong(format!("{other:?} must be auto, off or the path of a cgroup directory"));
            supervise::Cgroup::Auto
        }
    }
}

fn aws(mut s: Section<'_>) -> Aws {
    let region = s.get("region").and_then(|f| {
        let name = f.text()?;
        if name == "auto" {
            return Some(Region::Auto);
        }
        let plausible = name.contains('-')
            && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        if !plausible {
            f.wrong(format!("{name:?} must be auto or a region such as eu-central-1"));
        }
        Some(Region::Named(name.to_owned()))
    });
    s.finish();
    Aws { region: region.unwrap_or(Region::Auto) }
}

/// `control`, and whether it has an `identifier`.
fn control(top: &mut Section<'_>, run_dir: &Path) -> (Control, bool) {
    let mut control = Control {
        group: "palisade".to_owned(),
        socket: run_dir.join("control.sock"),
        supervisor_socket: None,
        identifier: "supervisor".to_owned(),
    };
    let Some(field) = top.get("control") else { return (control, false) };
    let mut s = field.section();
    if let Some(group) = s.get("group").and_then(|f| f.word()) {
        control.group = group;
    }
    if let Some(path) = s.get("socket").and_then(|f| socket_path(&f)) {
        control.socket = path;
    }
    if let Some(field) = s.get("supervisor_socket") {
        control.supervisor_socket = socket_path(&field);
        if control.supervisor_socket.as_ref() == Some(&control.socket) {
            field.wrong("must not be control.socket: each speaks a language of its own");
        }
    }
    let identifier = s.get("identifier").and_then(|f| f.text().map(str::to_owned));
    let names_itself = identifier.is_some();
    control.identifier = identifier.unwrap_or(control.identifier);
    s.finish();
    (control, names_itself)
}

fn socket_path(field: &Field<'_>) -> Option<PathBuf> {
    let path = field.abs_path()?;
    // The kernel's limit on the path of a UNIX socket.
    if path.as_os_str().len() > 107 {
        field.wrong("must be at most 107 bytes long");
    }
    Some(path)
}
