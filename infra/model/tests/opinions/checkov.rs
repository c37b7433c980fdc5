//! checkov's checks of CloudFormation, on rendered stacks. It asks nobody: no account, no download.

use std::{collections::BTreeSet, path::Path, process::Command};

use serde_json::Value as Json;

use super::{
    reviewed::Opinion,
    tools::{Tools, said},
};

/// What failed.
pub(crate) fn opinions(tools: &Tools, dir: &Path) -> BTreeSet<Opinion> {
    let mut command = Command::new(tools.checkov());
    command.args(["--framework", "cloudformation", "--output", "json", "--quiet", "--compact"]);
    command.arg("--skip-download").arg("--directory").arg(dir);
    let told = said(&mut command);
    let of = |name: &str| told["results"][name].as_array().cloned().unwrap_or_default();
    let unread = of("parsing_errors");
    assert!(unread.is_empty(), "checkov cannot read {unread:?}");
    of("failed_checks").iter().map(opinion).collect()
}

fn opinion(told: &Json) -> Opinion {
    let text = |key: &str| told[key].as_str().unwrap_or("?");
    let file = Path::new(text("file_path")).file_stem().and_then(|n| n.to_str()).unwrap_or("?");
    // `AWS::S3::Bucket.LogBucket`.
    let logical = text("resource").rsplit('.').next().unwrap_or("?");
    Opinion {
        rule: text("check_id").into(),
        title: text("check_name").into(),
        file: file.into(),
        logical: logical.into(),
    }
}
