//! A command on two hundred hosts. A file of its own, since other tests beside it would have to share the
//! machine with two hundred shells.

#[expect(dead_code, reason = "this file uses a part of it")]
mod common;

use std::time::Duration;

use common::{many, output_within, stderr};

/// G37.
#[test]
fn of_two_hundred_hosts_each_has_its_result_and_failures_make_the_exit_code() {
    let Some(lab) = many(200, |_, _| {}) else { return };
    // Every twentieth host fails.
    let line = "n=$(printf '%d' 0x${INSTANCE#i-}); echo host $n; [ $((n % 20)) -ne 19 ] || exit 3";
    let args = ["exec", "tag:Role=web", "--concurrency", "10", "--max-errors", "10%", "--json"];
    // The peer reckons hundreds of signatures, unoptimised, beside other tests.
    let bound = Duration::from_secs(180);
    let out = output_within(lab.bastionctl().args(args).args(["--", line]), bound);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let results: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let results = results.as_array().unwrap();
    assert_eq!(results.len(), 200);
    for (n, result) in results.iter().enumerate() {
        let bad = n % 20 == 19;
        assert_eq!(result["stdout"].as_str().unwrap().trim(), format!("host {n}"), "{result}");
        assert_eq!(result["exit_code"], if bad { 3 } else { 0 }, "{result}");
        assert_eq!(result["status"] == "Success", !bad, "{result}");
    }
}
