//! Tables of others that may drop what ours lets in.

use super::{
    children::Children,
    exec::{self, Cmd},
};
use crate::firewall::TABLE;

/// Notes that are told.
const MAX_NOTES: usize = 16;

/// In words, one for each chain of another table that drops by default what comes in.
pub(super) async fn notes(children: &Children) -> Vec<String> {
    // Chains only: rules and elements of others may be what no reader understands.
    let list = Cmd::new("/usr/sbin/nft").args(["-j", "list", "chains"]);
    let Ok(out) = exec::run(children, list).await else {
        return vec!["nft cannot be run, so nobody knows what other tables do".to_owned()];
    };
    serde_json::from_slice(&out.stdout).map(|json| read(&json)).unwrap_or_default()
}

fn read(json: &serde_json::Value) -> Vec<String> {
    let all = json.get("nftables").and_then(|n| n.as_array()).into_iter().flatten();
    let chains = all.filter_map(|object| object.get("chain"));
    let text = |chain: &serde_json::Value, key: &str| {
        chain.get(key).and_then(|v| v.as_str()).unwrap_or_default().to_owned()
    };
    let drops = chains.filter(|c| {
        let is_ours = text(c, "table") == TABLE && text(c, "family") == "inet";
        let comes_in = matches!(text(c, "hook").as_str(), "input" | "prerouting" | "ingress");
        !is_ours && comes_in && text(c, "policy") == "drop"
    });
    let note = |c: &serde_json::Value| {
        let (family, table, name) = (text(c, "family"), text(c, "table"), text(c, "name"));
        format!(
            "chain {name} of table {family} {table} drops what it does not accept itself: \
             see nft list table {family} {table}"
        )
    };
    drops.map(note).take(MAX_NOTES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_of_others_that_drop_by_default_are_named() {
        let json = serde_json::json!({ "nftables": [
            { "metainfo": {} },
            { "chain": { "family": "inet", "table": "palisade", "name": "input", "hook": "input", "policy": "drop" } },
            { "chain": { "family": "ip", "table": "filter", "name": "INPUT", "hook": "input", "policy": "drop" } },
            { "chain": { "family": "ip", "table": "filter", "name": "FORWARD", "hook": "forward", "policy": "drop" } },
            { "chain": { "family": "inet", "table": "f2b", "name": "c", "hook": "input", "policy": "accept" } },
            { "chain": { "family": "inet", "table": "f2b", "name": "d" } },
        ] });
        assert_eq!(
            read(&json),
            ["chain INPUT of table ip filter drops what it does not accept itself: \
              see nft list table ip filter"]
        );
        assert!(read(&serde_json::json!({})).is_empty());
    }
}
