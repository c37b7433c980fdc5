use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::origin::{
    model::Stage,
    secret::Secret,
    settings::HealthPath,
    testutil::{at, offered, secret, settings},
};

fn site<'a>(settings: &'a Settings, secrets: &'a Secrets) -> Site<'a> {
    Site { settings, secrets, ranges: &[] }
}

fn two() -> Secrets {
    let mut secrets = Secrets::default();
    let both = [offered(1, Stage::Current), offered(2, Stage::Pending)];
    secrets.take(&both, at(0)).unwrap();
    secrets
}

fn text(files: &[File], name: &str) -> String {
    let file = files.iter().find(|f| f.path.ends_with(name)).unwrap();
    String::from_utf8(file.content.to_vec()).unwrap()
}

#[test]
fn only_the_map_has_secrets_and_it_has_them_anchored() {
    let settings = settings(Path::new("/etc/nginx"));
    let secrets = two();
    let files = site(&settings, &secrets).files();
    assert_eq!(files[0].path, PathBuf::from("/etc/nginx/palisade/origin.map"));
    let map = text(&files, "origin.map");
    let line =
        |n, weight| format!("\"~^{}$\" \"{} {weight}\";", secret(n).expose(), secret(n).id());
    let lines: Vec<_> = map.lines().skip(1).map(str::to_owned).collect();
    assert_eq!(lines, [line(1, 1), line(2, 16)]);
    for file in &files {
        let has = [1, 2]
            .iter()
            .any(|n| String::from_utf8_lossy(&file.content).contains(secret(*n).expose()));
        assert_eq!(has, file.access == Access::Secret, "{file:?}");
        assert!(!format!("{file:?}").contains(secret(1).expose()));
    }
}

#[test]
fn without_any_secret_the_map_is_closed_and_replaces_none() {
    let settings = settings(Path::new("/etc/nginx"));
    let files = site(&settings, &Secrets::default()).files();
    assert_eq!(files[0].when, When::Absent);
    assert!(text(&files, "origin.map").lines().all(|l| l.starts_with('#')));
    assert!(text(&files, "http.conf").contains("\"\" 0;"));
}

#[test]
fn trusted_ranges_are_sorted_and_their_file_waits_until_they_are_known() {
    let mut settings = settings(Path::new("/etc/nginx"));
    settings.real_ip = Some(RealIp {
        sources: vec!["cloudfront".to_owned()],
        trusted: vec!["10.20.0.0/16".parse().unwrap()],
    });
    let secrets = two();
    let files = site(&settings, &secrets).files();
    assert_eq!(files.last().unwrap().when, When::Absent);
    let ranges =
        ["2600:9000:1000::/36", "130.176.0.0/18", "10.20.0.0/16"].map(|r| r.parse().unwrap());
    let known = Site { settings: &settings, secrets: &secrets, ranges: &ranges };
    let text = text(&known.files(), "real-ip.conf");
    let from: Vec<_> = text.lines().filter(|l| l.starts_with("set_real_ip_from")).collect();
    assert_eq!(
        from,
        [
            "set_real_ip_from 10.20.0.0/16;",
            "set_real_ip_from 130.176.0.0/18;",
            "set_real_ip_from 2600:9000:1000::/36;"
        ]
    );
}

#[test]
fn a_health_path_is_matched_whole() {
    let mut settings = settings(Path::new("/etc/nginx"));
    settings.health = Some(Health {
        paths: vec![HealthPath::parse("/health/live.txt").unwrap()],
        from: vec!["10.20.0.0/16".parse().unwrap()],
    });
    let secrets = two();
    let http = text(&site(&settings, &secrets).files(), "http.conf");
    assert!(http.contains("\"~^\\|1\\|/health/live\\.txt$\" 1;"), "{http}");
    assert!(http.contains("geo $realip_remote_addr"), "{http}");
}

/// What an entry of the map lets in, read as nginx reads it: `"~^TEXT$" "VALUE";`, TEXT without anything
/// that a regular expression reads otherwise.
fn entries(map: &str) -> Vec<&str> {
    map.lines()
        .filter(|l| !l.starts_with('#'))
        .map(|l| l.strip_prefix("\"~^").unwrap().split_once("$\" \"").unwrap().0)
        .collect()
}

proptest! {
    #[test]
    fn no_text_makes_an_entry_that_lets_in_anything_but_itself(
        texts in proptest::collection::vec("\\PC{0,40}|[A-Za-z0-9]{14,40}|~.{20}|[a-z]{20}[\n;\"$]", 1..4)
    ) {
        let good: Vec<Secret> = texts.iter().filter_map(|t| Secret::parse(t).ok()).collect();
        let mut secrets = Secrets::default();
        for (n, s) in good.iter().enumerate() {
            let version = n.to_string();
            let o = crate::origin::model::Offered {
                secret: s.clone(), stage: Stage::Current, version, created: None,
            };
            secrets.take(&[o], at(0)).unwrap();
        }
        let settings = settings(Path::new("/etc/nginx"));
        let map = text(&site(&settings, &secrets).files(), "origin.map");
        let entries = entries(&map);
        prop_assert_eq!(entries.len(), secrets.accepted().len());
        for e in entries {
            prop_assert!(good.iter().any(|s| s.expose() == e));
            prop_assert!(e.len() >= 16 && e.bytes().all(|b| b.is_ascii_alphanumeric()));
        }
        prop_assert_eq!(map.matches('{').count(), 0);
    }
}
