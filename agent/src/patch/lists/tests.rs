use super::*;

fn targets() -> Vec<Target> {
    let one = |suite: &str| Target {
        source: format!("file:/bad {suite}"),
        release: vec![format!("a={suite}"), "l=X".to_owned()],
        file: format!("/lists/{suite}"),
        base: String::new(),
    };
    vec![one("stable"), one("stable-security"), one("stable-updates")]
}

const T0: Timestamp = Timestamp::from_secs(100);
const T1: Timestamp = Timestamp::from_secs(200);

/// All was good at `T0`; then came this, at `T1`.
fn after(output: &str, clean: bool) -> BTreeMap<String, Fetch> {
    let good = Fetch { fetched: Some(T0), trouble: None };
    let sources = targets().into_iter().map(|t| (t.source, good.clone())).collect();
    after_update(&Fetches { v: 1, sources }, &targets(), output, clean, T1).sources
}

fn security_alone_failed(output: &str, untrusted: bool, words: &str) {
    let got = after(output, false);
    let bad = &got["file:/bad stable-security"];
    let trouble = bad.trouble.as_ref().unwrap();
    assert!(trouble.what.contains(words), "{trouble:?}");
    assert_eq!((trouble.untrusted, bad.fetched), (untrusted, Some(T0)));
    for good in ["file:/bad stable", "file:/bad stable-updates"] {
        assert_eq!(got[good], Fetch { fetched: Some(T1), trouble: None }, "{good}");
    }
}

const REST: &str =
    "Get:1 file:/bad stable InRelease [1364 B]\nHit:3 file:/bad stable-updates InRelease\n";

#[test]
fn a_source_that_cannot_be_reached_keeps_the_age_of_its_lists() {
    let text = "Err:2 file:/bad stable-security InRelease\n  Could not connect to 127.0.0.1:9\n  more\n\
        E: Failed to fetch file:/bad/dists/stable-security/InRelease  Could not connect\n\
        E: Some index files failed to download. They have been ignored, or old ones used instead.\n";
    security_alone_failed(&(REST.to_owned() + text), false, "Could not connect to 127.0.0.1:9");
}

#[test]
fn a_damaged_forged_unsigned_or_expired_source_is_not_trusted() {
    let damaged = "Get:2 file:/bad stable-security InRelease [1 B]\n\
        Err:5 file:/bad stable-security/main amd64 Packages\n  Hash Sum mismatch\n  Hashes of expected file:\n\
        E: Failed to fetch file:/bad/dists/stable-security/main/binary-amd64/Packages.gz  Hash Sum mismatch\n";
    let forged = "Err:2 file:/bad stable-security InRelease\n  The following signatures were invalid: BADSIG 4F\n\
        E: The repository 'file:/bad stable-security InRelease' is not signed.\n";
    let unsigned = "Ign:2 file:/bad stable-security InRelease\nGet:4 file:/bad stable-security Release [1109 B]\n\
        E: The repository 'file:/bad stable-security Release' is not signed.\n";
    let expired = "Get:2 file:/bad stable-security InRelease [1429 B]\n\
        E: Release file for file:/bad/dists/stable-security/InRelease is expired (invalid since 328d 19h).\n";
    let gone = "Err:4 file:/bad stable-security Release\n  File not found\n\
        E: The repository 'file:/bad stable-security Release' does not have a Release file.\n";
    for (text, words) in [
        (damaged, "Hash Sum mismatch"),
        (forged, "BADSIG"),
        (unsigned, "is not signed"),
        (expired, "is expired"),
        (gone, "File not found"),
    ] {
        security_alone_failed(&(REST.to_owned() + text), true, words);
    }
}

#[test]
fn a_file_that_failed_first_and_came_then_is_good() {
    let text = REST.to_owned()
        + "Err:2 file:/bad stable-security InRelease\n  timeout\nGet:2 file:/bad stable-security InRelease\n";
    assert!(after(&text, true).values().all(|f| *f == Fetch { fetched: Some(T1), trouble: None }));
}

#[test]
fn a_failure_that_names_nobody_counts_for_all() {
    let text = REST.to_owned() + "Hit:2 file:/bad stable-security InRelease\nE: disk full\n";
    let got = after(&text, false);
    assert!(got.values().all(|f| f.fetched == Some(T0) && f.trouble.is_some()), "{got:?}");
    let nothing = after("", false);
    assert!(nothing.values().all(|f| f.trouble.is_some()));
}

#[test]
fn a_source_is_security_if_its_release_carries_the_label_and_present_if_a_file_is_there() {
    let got =
        sources(&targets(), &Fetches::default(), &["l=X,a=stable-security".to_owned()], |f| {
            f.file == "/lists/stable"
        });
    let flags: Vec<_> = got.iter().map(|s| (s.security, s.present, s.fetched)).collect();
    assert_eq!(flags, [(false, true, None), (true, false, None), (false, false, None)]);
}

#[test]
fn targets_are_read_stanza_by_stanza_and_releases_from_their_files() {
    let text = "MetaKey: main/binary-amd64/Packages\nFilename: /lists/sec_dists_x_main_binary-amd64_Packages\n\
        Repo-URI: http://sec/debian/\nRelease: bookworm-security\n\nMetaKey: broken\n";
    let got = parse_targets(text);
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].source, "http://sec/debian bookworm-security");
    assert_eq!(got[0].base, "/lists/sec_dists_x_");
    let release = parse_release(
        "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nOrigin: Debian\nLabel: Debian-Security\n\
        Suite: stable-security\nCodename: bookworm-security\n",
    );
    assert!(carries(&release, "o=Debian,a=stable-security"));
    assert!(!carries(&release, "l=Debian"));
}

#[test]
fn when_nothing_went_wrong_a_source_counts_that_apt_prints_by_another_name() {
    // A mirror list: the target is the list, what is printed is the mirror.
    let text = "Hit:1 https://cdn.example.org/debian stable InRelease\n";
    assert!(after(text, true).values().all(|f| f.fetched == Some(T1) && f.trouble.is_none()));
    assert!(after(text, false).values().all(|f| f.fetched == Some(T0)));
}

#[test]
fn a_password_is_not_part_of_a_sources_name() {
    let stanza = "MetaKey: main/binary-amd64/Packages\nFilename: /l/x\n\
        Repo-URI: https://tok:s3cr3t@repo.example.org/debian/\nRelease: stable\n";
    let target = &parse_targets(stanza)[0];
    assert_eq!(target.source, "https://repo.example.org/debian stable");
    assert_eq!(without_password("file:/srv/a@b/"), "file:/srv/a@b/");
}
