//! What a `palisade.yaml` says otherwise than the files it is made from: names that are others, and values
//! that are now what they happened to be. None of it holds where the files are run as they are.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    World,
    model::{Config, Remark},
    specs::{Import, Imported, in_order},
};

/// Adds a remark for each.
pub fn in_yaml(import: &mut Import, configs: &[Config], world: &World) {
    let mut remarks = std::mem::take(&mut import.remarks);
    renamed(import, configs, &mut remarks);
    for config in configs {
        filled_in(config, world, &mut remarks);
        if config.has_main && import.identifier.as_ref() != Some(&config.supervisord.identifier) {
            let text = format!(
                "listeners of these programs are told {:?}: there is one identifier for all",
                import.identifier.as_deref().unwrap_or_default()
            );
            remarks.push(config.about("supervisord", "identifier", text));
        }
    }
    import.remarks = in_order(remarks);
}

/// What tools call a process, before and after; one remark for all copies.
fn renamed(import: &Import, configs: &[Config], remarks: &mut Vec<Remark>) {
    let mut others: BTreeMap<(usize, &str, &str), Vec<&Imported>> = BTreeMap::new();
    for process in import.processes.iter().filter(|p| p.can_be_written()) {
        if process.old_name() != process.new_name() {
            let key = (process.config, process.section.as_str(), process.group_section.as_str());
            others.entry(key).or_default().push(process);
        }
    }
    for ((config, section, _), processes) in others {
        let Some((config, first)) = configs.get(config).zip(processes.first()) else { continue };
        let more = match processes.len() - 1 {
            0 => String::new(),
            n => format!(", and {n} more likewise"),
        };
        let text = format!(
            "{} is {} here{more}: to supervisorctl, scripts and listeners that name it, too",
            first.old_name(),
            first.new_name()
        );
        remarks.push(config.about(section, "process_name", text));
    }
}

/// Values with the host's name or a variable of this process in them, which are constants from now on.
fn filled_in(config: &Config, world: &World, remarks: &mut Vec<Remark>) {
    const NODE: &str = "host_node_name";
    let own: BTreeSet<String> = config
        .groups
        .iter()
        .flat_map(|g| &g.processes)
        .flat_map(|p| p.environment.keys())
        .chain(config.supervisord.environment.keys())
        .map(|key| format!("ENV_{key}"))
        .collect();
    let names: Vec<String> = world
        .environment
        .keys()
        .map(|key| format!("ENV_{key}"))
        .filter(|name| !own.contains(name))
        .chain([NODE.to_owned()])
        .collect();
    for section in config.ini.sections() {
        let is_program = ["program:", "eventlistener:", "fcgi-program:", "supervisord"]
            .iter()
            .any(|kind| section.name.starts_with(kind));
        for (option, entry) in section.options.iter().filter(|_| is_program) {
            let used: Vec<String> = names
                .iter()
                .map(|name| format!("%({name})"))
                .filter(|name| entry.value.contains(name.as_str()))
                .collect();
            if !used.is_empty() {
                let text =
                    format!("{} is a constant here: what it was at the import", used.join(", "));
                remarks.push(config.about(&section.name, option, text));
            }
        }
    }
}
