use std::path::Path;

use palisade_types::ByteSize;

use crate::{
    config::check_texts,
    logs::{OnFull, Settings},
};

fn check(section: &str) -> Result<Settings, String> {
    let text = format!(
        "version: 1\nhost: {{ state_dir: /tmp/s }}\naws: {{ region: auto }}\nlogs:\n{section}\n"
    );
    let checked = check_texts(vec![("palisade.yaml".into(), text)].into());
    let said = |m: crate::config::Mistakes| {
        m.all().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    checked.map(|s| s.logs.unwrap()).map_err(said)
}

#[test]
fn groups_are_made_with_the_key_that_is_named_by_its_arn() {
    let arn = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
    let s = check(&format!("  kms_key: {arn}\n  retention_days: 30")).unwrap();
    assert_eq!(s.new_groups.kms_key.as_deref(), Some(arn));
    assert_eq!(s.new_groups.retention_days, Some(30));
    for wrong in
        ["alias/logs", "arn:aws:kms:eu-central-1:111122223333:alias/logs", "arn:aws:s3:::b"]
    {
        let said = check(&format!("  kms_key: {wrong}")).unwrap_err();
        assert!(said.contains("logs.kms_key") && said.contains("ARN of a KMS key"), "{said}");
    }
}

#[test]
fn a_twentieth_of_the_disk_is_left_to_others_unless_said_otherwise() {
    let reserve = |s: &str| check(s).map(|s| s.spool.reserve_permille);
    assert_eq!(reserve("  programs: true"), Ok(50));
    assert_eq!(reserve("  spool: { reserve: 10% }"), Ok(100));
    assert_eq!(reserve("  spool: { reserve: 0% }"), Ok(0));
    for wrong in ["60%", "5", "-1%"] {
        assert!(reserve(&format!("  spool: {{ reserve: {wrong} }}")).is_err(), "{wrong}");
    }
}

#[test]
fn new_relic_is_a_second_sink_with_a_backlog_of_its_own() {
    assert_eq!(check("  programs: true").unwrap().second(), None);
    let s = check(
        "  spool: { max: 2GiB }\n  compress: false\n  \
         new_relic: { license_key_file: /etc/palisade/new-relic.key, region: eu, spool: { max: 64MiB } }",
    )
    .unwrap();
    let relic = s.new_relic.clone().unwrap();
    assert_eq!(relic.endpoint, "https://log-api.eu.newrelic.com/log/v1");
    assert_eq!(relic.key_file, Path::new("/etc/palisade/new-relic.key"));
    let second = s.second().unwrap();
    assert_eq!((second.spool.max, second.spool.on_full), (ByteSize::mib(64), OnFull::DropOldest));
    assert_eq!(s.spool.on_full, OnFull::Block);
    assert_eq!(second.state_dir, s.state_dir.join("new-relic"));
    let us = check("  new_relic: { license_key_file: /k }").unwrap().new_relic.unwrap();
    assert_eq!(us.endpoint, "https://log-api.newrelic.com/log/v1");
}

#[test]
fn a_license_key_goes_nowhere_unencrypted() {
    let with = |endpoint: &str| {
        check(&format!("  new_relic: {{ license_key_file: /k, endpoint: \"{endpoint}\" }}"))
    };
    for good in ["https://proxy.example.com/log/v1", "http://127.0.0.1:8080/log/v1"] {
        assert_eq!(with(good).unwrap().new_relic.unwrap().endpoint, good);
    }
    for wrong in [
        "http://proxy.example.com/log/v1",
        "http://127.0.0.1.example.com/log/v1",
        "http://127.0.0.1@example.com/",
        "https://",
        "ftp://x",
    ] {
        assert!(with(wrong).unwrap_err().contains("must be an https:// URL"), "{wrong}");
    }
    let said = check("  new_relic: { region: eu }").unwrap_err();
    assert!(said.contains("license_key_file"), "{said}");
}
