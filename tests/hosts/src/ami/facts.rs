//! What the template must say, whatever Packer is there to check it.

use std::collections::BTreeMap;

/// Path of a setting below `source "amazon-ebs" "origin"`, its value, and why.
const NEEDED: &[(&str, &str, &str)] = &[
    ("metadata_options.http_endpoint", "\"enabled\"", "the builder needs its identity"),
    ("metadata_options.http_tokens", "\"required\"", "no IMDSv1 on the builder"),
    ("metadata_options.http_put_response_hop_limit", "1", "tokens do not leave the builder"),
    ("imds_support", "\"v2.0\"", "no IMDSv1 on what starts from the image"),
    ("encrypt_boot", "true", "snapshots are encrypted"),
    ("kms_key_id", "var.kms_key_id", "with our own key"),
    ("launch_block_device_mappings.encrypted", "true", "the builder's disk is encrypted"),
    ("launch_block_device_mappings.volume_type", "\"gp3\"", "as the fleet's disks"),
    ("launch_block_device_mappings.delete_on_termination", "true", "no disk is left behind"),
    ("associate_public_ip_address", "false", "the builder has no public address"),
    ("ssh_interface", "\"session_manager\"", "the builder is reached through SSM only"),
    ("temporary_key_pair_type", "\"ed25519\"", "a key for one build"),
    ("ssh_clear_authorized_keys", "true", "that key is not in the image"),
    ("source_ami_filter.owners", "[\"136693071363\"]", "only Debian's own images"),
    ("deprecate_at", "timeadd(timestamp(), \"${var.deprecate_after_hours}h\")", "images age"),
    ("ami_org_arns", "var.share_with_organizations", "shared with whom it is said"),
    ("ami_users", "var.share_with_accounts", "shared with whom it is said"),
    ("tags", "local.tags", "an image says what it was made from"),
    ("snapshot_tags", "local.tags", "a snapshot too"),
];

/// Settings of the builder that would open it.
const FORBIDDEN: &[&str] =
    &["access_key", "secret_key", "ssh_password", "security_group_id", "skip_create_ami"];

/// Tags that every image carries.
const TAGS: &[&str] = &["AgentVersion", "GitSha", "SourceAmi"];

/// What is wrong with the template's text; empty if nothing is.
#[must_use]
pub fn problems(text: &str) -> Vec<String> {
    let settings = read(text);
    let below = |path: &str| settings.get(&format!("source.amazon-ebs.origin.{path}"));
    let mut found = Vec::new();
    for (path, want, why) in NEEDED {
        match below(path) {
            Some(have) if have == want => {}
            Some(have) => found.push(format!("{path} = {have}, must be {want}: {why}")),
            None => found.push(format!("{path} is missing, must be {want}: {why}")),
        }
    }
    for path in FORBIDDEN.iter().filter(|path| below(path).is_some()) {
        found.push(format!("{path} must not be set"));
    }
    for tag in TAGS.iter().filter(|tag| !settings.contains_key(&format!("locals.tags.{tag}"))) {
        found.push(format!("local.tags.{tag} is missing"));
    }
    found
}

/// Every `key = value` by the path of its blocks. Reads what `packer fmt` writes: one thing a line.
fn read(text: &str) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    let mut path: Vec<String> = Vec::new();
    let mut heredoc: Option<String> = None;
    for line in text.lines().map(str::trim) {
        if let Some(end) = &heredoc {
            if line == end {
                heredoc = None;
            }
            continue;
        }
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if matches!(line, "}" | "]" | "})") {
            path.pop();
            continue;
        }
        let key_value = line.split_once(" = ").map(|(k, v)| (k.trim(), v.trim()));
        match key_value {
            Some((key, value)) if value == "{" || value == "[" => path.push(key.to_owned()),
            Some((key, value)) => {
                heredoc = value.strip_prefix("<<-").map(str::to_owned);
                let mut whole = path.clone();
                whole.push(key.to_owned());
                settings.insert(whole.join("."), value.to_owned());
            }
            None => {
                if let Some(name) = line.strip_suffix('{') {
                    path.push(name.trim().replace('"', "").replace(' ', "."));
                }
            }
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_found_below_their_blocks_and_not_in_texts() {
        let text = "source \"amazon-ebs\" \"origin\" {\n  a    = 1\n  # b = 2\n  m {\n    t = \"x\"\n  }\n  \
                    u = <<-EOF\n    c = 3\n  EOF\n  l = [\n    \"y\",\n  ]\n  d = 4\n}\n";
        let settings = read(text);
        let keys: Vec<&str> = settings.keys().map(String::as_str).collect();
        let below = ["a", "d", "m.t", "u"].map(|k| format!("source.amazon-ebs.origin.{k}"));
        assert_eq!(keys, below);
        assert_eq!(settings["source.amazon-ebs.origin.m.t"], "\"x\"");
    }

    #[test]
    fn an_open_template_has_problems_that_say_what_and_why() {
        let text = "source \"amazon-ebs\" \"origin\" {\n  encrypt_boot = false\n  ssh_password = \"x\"\n}\n";
        let found = problems(text);
        assert!(
            found.contains(
                &"encrypt_boot = false, must be true: snapshots are encrypted".to_owned()
            )
        );
        assert!(found.contains(&"ssh_password must not be set".to_owned()));
        assert!(found.iter().any(|p| p.starts_with("metadata_options.http_tokens is missing")));
    }
}
