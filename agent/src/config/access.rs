//! The `access` section.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use ipnet::IpNet;
use palisade_types::{
    Span, format_duration,
    grant::{Binding, Only, Ttl, UserName},
};

use super::{
    section::{Field, Section},
    settings::Host,
};
use crate::access::{AtExpiry, Settings, UserRule};

const KINDS: [(&str, Only); 3] =
    [("shell", Only::Shell), ("sftp", Only::Sftp), ("tunnel", Only::Tunnel)];

pub(super) fn access(mut s: Section<'_>, host: &Host) -> Settings {
    let users = s.need("users");
    let users = users.map(|f| f.section().named().filter_map(|(e, f)| user(&e.key, &f)).collect());
    let sources = s.get("sources").map(|f| f.items().iter().filter_map(net).collect());
    let max_per_user = s.get("max_per_user").and_then(|f| f.int(1..=64));
    let max_per_host = s.get("max_per_host").and_then(|f| f.int(1..=512));
    // YAML reads a bare `off` as false.
    let bindings = [
        ("strict", Binding::Strict),
        ("warn", Binding::Warn),
        ("off", Binding::Off),
        ("false", Binding::Off),
    ];
    let binding = s.get("require_session_binding").and_then(|f| f.one_of(&bindings));
    let at_expiry = match s.get("end_at_expiry").and_then(|f| f.bool()) {
        Some(false) => AtExpiry::Leave,
        Some(true) | None => AtExpiry::End,
    };
    let slack = s.get("clock_slack").and_then(|f| f.parse::<Span>()).map(|Span(d)| d);
    let helper_user = s.get("helper_user").and_then(|f| f.parse::<UserName>());
    let ssh_port = s.get("ssh_port").and_then(|f| f.int::<u16>(1..=65_535));
    let ssh_dir = s.get("ssh_dir").and_then(|f| f.abs_path());
    let sshd = s.get("sshd").map(|f| paths(&f));
    let (ssm_dir, workers) = s.get("ssm").map(|f| ssm(f.section())).unwrap_or_default();
    s.finish();
    let usual = Settings::closed(&host.run_dir, &host.state_dir);
    Settings {
        users: users.unwrap_or_default(),
        sources: sources.unwrap_or_default(),
        max_per_user: max_per_user.unwrap_or(usual.max_per_user),
        max_per_host: max_per_host.unwrap_or(usual.max_per_host),
        binding: binding.unwrap_or_default(),
        at_expiry,
        clock_slack: slack.unwrap_or(usual.clock_slack),
        helper_user: helper_user.map_or(usual.helper_user, String::from),
        ssh_port: ssh_port.unwrap_or(usual.ssh_port),
        ssh_dir: ssh_dir.unwrap_or(usual.ssh_dir),
        sshd: sshd.unwrap_or(usual.sshd),
        workers: workers.unwrap_or(usual.workers),
        ssm_dir: ssm_dir.unwrap_or(usual.ssm_dir),
        run_dir: usual.run_dir,
        state_dir: usual.state_dir,
    }
}

fn user(name: &str, field: &Field<'_>) -> Option<(UserName, UserRule)> {
    let mut s = field.section();
    let max_ttl = s.need("max_ttl").and_then(|f| max_ttl(&f));
    let only: Option<BTreeSet<Only>> =
        s.get("only").map(|f| f.items().iter().filter_map(|i| i.one_of(&KINDS)).collect());
    let system = s.get("system").and_then(|f| f.bool());
    s.finish();
    let name =
        name.parse().map_err(|e: palisade_types::grant::BadField| field.wrong(e.to_string()));
    let rule = UserRule {
        max_ttl: max_ttl?,
        only: only.unwrap_or_else(|| KINDS.iter().map(|(_, kind)| *kind).collect()),
        system: system.unwrap_or(false),
    };
    Some((name.ok()?, rule))
}

fn max_ttl(field: &Field<'_>) -> Option<Duration> {
    let Span(ttl) = field.parse()?;
    let (min, max) = (Ttl::MIN.duration(), Ttl::MAX.duration());
    if ttl < min || ttl > max {
        field.wrong(format!("must be {} to {}", format_duration(min), format_duration(max)));
    }
    Some(ttl)
}

fn net(field: &Field<'_>) -> Option<IpNet> {
    let text = field.text()?;
    let net = text.parse::<IpNet>().ok().filter(|n| n.trunc() == *n && n.prefix_len() > 0);
    if net.is_none() {
        field.wrong(format!("{text:?} must be a network such as 10.20.0.0/24, without host bits"));
    }
    net
}

fn paths(field: &Field<'_>) -> Vec<PathBuf> {
    field.items().iter().filter_map(Field::abs_path).collect()
}

fn ssm(mut s: Section<'_>) -> (Option<PathBuf>, Option<Vec<PathBuf>>) {
    let dir = s.get("state_dir").and_then(|f| f.abs_path());
    let workers = s.get("workers").map(|f| paths(&f));
    s.finish();
    (dir, workers)
}
