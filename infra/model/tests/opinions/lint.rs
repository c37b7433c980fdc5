//! cfn-lint: every property of every template against the schemas of the resource types, for each region
//! in which the template is used.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use serde_json::Value as Json;

use super::{
    plain::Places,
    reviewed::Opinion,
    tools::{Tools, said},
};

/// Errors and warnings.
pub(crate) fn opinions(tools: &Tools, dir: &Path, places: &Places) -> BTreeSet<Opinion> {
    let mut of_region: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (file, regions) in places {
        for region in regions {
            of_region.entry(region).or_default().push(file);
        }
    }
    of_region.iter().flat_map(|(region, files)| in_region(tools, dir, region, files)).collect()
}

fn in_region(tools: &Tools, dir: &Path, region: &str, files: &[&str]) -> Vec<Opinion> {
    let mut command = Command::new(tools.cfn_lint());
    command.current_dir(dir).args(["--format", "json", "--regions", region, "--"]);
    command.args(files.iter().map(|f| format!("{f}.json")));
    said(&mut command).as_array().into_iter().flatten().map(opinion).collect()
}

fn opinion(told: &Json) -> Opinion {
    let text = |pointer: &str| told.pointer(pointer).and_then(Json::as_str).unwrap_or("?");
    let path = told.pointer("/Location/Path").and_then(Json::as_array).cloned().unwrap_or_default();
    let path: Vec<_> = path.iter().map(|p| p.to_string().replace('"', "")).collect();
    Opinion {
        rule: text("/Rule/Id").into(),
        title: format!("{}: {}", path.join("."), text("/Message")),
        file: text("/Filename").trim_end_matches(".json").into(),
        logical: path.get(1).cloned().unwrap_or_default(),
    }
}
