//! `hosts`: what SSM and EC2 know.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    cli,
    cloud::{Instance, ssm::Managed},
    failed::Outcome,
    run::Run,
    targets,
};
use palisade_cloud::terminal::{clean, table};

/// A host.
#[derive(Debug, Serialize, PartialEq, Eq)]
struct Row {
    id: String,
    name: String,
    state: String,
    ping: String,
    address: String,
    platform: String,
    ssm_agent: String,
}

pub(crate) async fn hosts(run: &Run, args: cli::Hosts) -> Outcome<u8> {
    let cloud = run.cloud_of_all(&args.targets).await?;
    let filters = if args.targets.is_empty() {
        Vec::new()
    } else {
        let found = targets::many(&cloud, &run.settings, &args.targets).await?;
        let ids: Vec<_> = found.online.into_iter().chain(found.offline).collect();
        vec![("InstanceIds".to_owned(), ids)]
    };
    // Names and states come from EC2, where this may be asked; without it the list is still useful.
    let (managed, instances) = tokio::join!(cloud.managed(&filters), cloud.instances(&[]));
    let instances = instances.unwrap_or_else(|e| {
        run.printer.note(format_args!("note: names are missing: {e}"));
        Vec::new()
    });
    let all = filters.is_empty();
    let rows = rows(managed?, instances, all);
    if run.printer.is_json() {
        run.printer.json(&rows);
        return Ok(0);
    }
    let head = ["ID", "NAME", "STATE", "SSM", "ADDRESS", "PLATFORM"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    lines.extend(rows.into_iter().map(|r| {
        [r.id, r.name, r.state, r.ping, r.address, r.platform].iter().map(|c| clean(c)).collect()
    }));
    for line in table(&lines) {
        run.printer.line(line);
    }
    Ok(0)
}

/// Every host that SSM knows, and with `all` those too that only EC2 knows and that still exist.
fn rows(managed: Vec<Managed>, instances: Vec<Instance>, all: bool) -> Vec<Row> {
    let mut ec2: BTreeMap<String, Instance> =
        instances.into_iter().map(|i| (i.id.clone(), i)).collect();
    let mut rows: Vec<Row> = managed
        .into_iter()
        .map(|m| {
            let known = ec2.remove(&m.instance_id);
            let named = known.as_ref().map(|i| i.name.clone()).filter(|n| !n.is_empty());
            let other = if m.name.is_empty() { m.computer_name } else { m.name };
            Row {
                id: m.instance_id,
                name: named.unwrap_or(other),
                state: known.map_or_else(String::new, |i| i.state),
                ping: m.ping_status,
                address: m.ip_address,
                platform: format!("{} {}", m.platform_name, m.platform_version).trim().to_owned(),
                ssm_agent: m.agent_version,
            }
        })
        .collect();
    let rest = ec2.into_values().filter(|i| all && i.state != "terminated");
    rows.extend(rest.map(|i| Row {
        id: i.id,
        name: i.name,
        state: i.state,
        ping: "-".to_owned(),
        address: i.private_ip.unwrap_or_default(),
        platform: String::new(),
        ssm_agent: String::new(),
    }));
    rows.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_both_services_are_joined_by_id_and_sorted_by_name() {
        let managed = Managed {
            instance_id: "i-2".into(),
            ping_status: "Online".into(),
            computer_name: "ip-10-0-0-2".into(),
            ..Managed::default()
        };
        let instance = |id: &str, name: &str, state: &str| Instance {
            id: id.into(),
            name: name.into(),
            state: state.into(),
            private_ip: None,
        };
        let known = vec![
            instance("i-2", "web", "running"),
            instance("i-1", "db", "stopped"),
            instance("i-0", "old", "terminated"),
        ];
        let found = rows(vec![managed.clone()], known.clone(), true);
        let names: Vec<_> = found.iter().map(|r| (r.name.as_str(), r.ping.as_str())).collect();
        assert_eq!(names, [("db", "-"), ("web", "Online")]);
        assert_eq!(rows(vec![managed.clone()], known, false).len(), 1);
        assert_eq!(rows(vec![managed], Vec::new(), true)[0].name, "ip-10-0-0-2");
    }
}
