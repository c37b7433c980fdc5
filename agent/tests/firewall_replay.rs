//! Every state that AWS's origin-facing list ever had, and real whole files, through the reader and
//! the guards.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "allow-unwrap-in-tests covers test functions, not helpers; figures and skips are printed"
)]

use std::{
    fs::{self, File},
    io::Read as _,
    path::PathBuf,
    time::Duration,
};

use flate2::read::GzDecoder;
use palisade_agent::{
    clock::Timestamp,
    firewall::{
        AddrSet, FeedKey, FeedList, FeedLocation, FeedSource, FeedState, Guard, ORIGIN_FACING,
        Offered, SourceName, parse_feed,
    },
};
use serde::Deserialize;

const GUARD: Guard = Guard {
    max_address_loss_permille: 50,
    withdraw_after: Duration::from_secs(86_400),
    max_ranges: 4096,
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Past {
    sync_token: String,
    v4: Vec<String>,
    v6: Vec<String>,
}

fn data() -> Option<PathBuf> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/ip-ranges");
    if dir.is_dir() {
        return Some(dir);
    }
    println!("skipped: there is no {}", dir.display());
    None
}

fn whole_files(dir: &PathBuf) -> Vec<Vec<u8>> {
    let mut names: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    names.retain(|p| p.extension().is_some_and(|x| x == "gz"));
    names.sort();
    let unpack = |path: &PathBuf| {
        let mut bytes = Vec::new();
        GzDecoder::new(File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
        bytes
    };
    names.iter().map(unpack).collect()
}

/// A feed of a service that has nothing built in, so that history can begin in 2021.
fn blank_feed() -> FeedState {
    let source = FeedSource {
        service: "REPLAY".to_owned(),
        location: FeedLocation::File("/nowhere".into()),
        every: Duration::from_secs(900),
    };
    FeedState::new(source, None)
}

fn history(dir: &std::path::Path) -> Vec<FeedList> {
    let text = fs::read(dir.join("origin-facing-history.json")).unwrap();
    let past: Vec<Past> = serde_json::from_slice(&text).unwrap();
    past.iter()
        .map(|p| {
            let all = p.v4.iter().chain(&p.v6).map(String::as_str);
            FeedList {
                sync_token: p.sync_token.parse().unwrap(),
                set: AddrSet::parse(all).unwrap(),
                stray: AddrSet::default(),
            }
        })
        .collect()
}

#[test]
fn all_25_real_states_pass_and_no_listed_address_is_ever_shut_out() {
    let Some(dir) = data() else { return };
    let history = history(&dir);
    assert_eq!(history.len(), 25);
    let mut feed = blank_feed();
    let (mut held, mut least, mut most_leaving) = (0, usize::MAX, 0);
    for list in &history {
        let now = Timestamp::from_secs(i64::try_from(list.sync_token).unwrap() + 900);
        feed.expire(&GUARD, now);
        let offered = feed.offer(list.clone(), None, &GUARD, now);
        held += u32::from(offered != Offered::Accepted);
        assert_eq!(offered, Offered::Accepted, "{}", list.sync_token);
        let in_force = feed.in_force();
        assert!(list.set.difference(&in_force).is_empty(), "{}", list.sync_token);
        least = least.min(in_force.v4.len());
        most_leaving = most_leaving.max(in_force.len() - list.set.len().min(in_force.len()));
    }
    println!(
        "25 states: {held} held, fewest IPv4 ranges in force {least}, most kept longer {most_leaving}"
    );
    assert!(held == 0 && least > 0);
}

#[test]
fn the_two_hours_of_october_2025_shut_nobody_out() {
    let Some(dir) = data() else { return };
    let history = history(&dir);
    let at = |token| history.iter().position(|l| l.sync_token == token).unwrap();
    let (thinned, restored) = (at(1_761_592_704), at(1_761_599_921));
    let before = &history[thinned - 1];
    let missing = before.set.difference(&history[thinned].set).difference(&AddrSet::default());
    let back = history[restored].set.v4.addresses() - history[thinned].set.v4.addresses();
    println!("missing for two hours: {} IPv4 addresses; {back} more after", missing.v4.addresses());
    assert!(missing.v4.addresses() > 0);

    let mut feed = blank_feed();
    for list in &history[..=restored] {
        let now = Timestamp::from_secs(i64::try_from(list.sync_token).unwrap() + 900);
        assert_eq!(feed.offer(list.clone(), None, &GUARD, now), Offered::Accepted);
        feed.expire(&GUARD, now);
        if list.sync_token >= history[thinned].sync_token {
            assert!(before.set.difference(&feed.in_force()).is_empty());
        }
    }
}

#[test]
fn every_whole_file_is_read_as_the_history_says_and_inside_cloudfront() {
    let Some(dir) = data() else { return };
    let history = history(&dir);
    let files = whole_files(&dir);
    assert_eq!(files.len(), 14);
    for bytes in &files {
        let list = parse_feed(bytes, ORIGIN_FACING, 4096).unwrap();
        assert!(list.stray.is_empty());
        let state = history.iter().rev().find(|h| h.sync_token <= list.sync_token).unwrap();
        assert_eq!(list.set, state.set, "{}", list.sync_token);
    }
}

#[test]
fn a_file_cut_short_anywhere_is_refused() {
    let Some(dir) = data() else { return };
    let newest = whole_files(&dir).pop().unwrap();
    // The whole file at coarse steps, and its CloudFront entries alone at fine ones: an unoptimised
    // reader takes minutes for the whole file at every kilobyte.
    let mut small: serde_json::Value = serde_json::from_slice(&newest).unwrap();
    for list in ["prefixes", "ipv6_prefixes"] {
        let entries = small[list].as_array_mut().unwrap();
        entries.retain(|e| e["service"].as_str().unwrap().starts_with("CLOUDFRONT"));
    }
    let small = serde_json::to_vec(&small).unwrap();
    parse_feed(&small, ORIGIN_FACING, 4096).unwrap();
    let mut cuts = 0;
    for (bytes, step) in [(&newest, 256 << 10), (&small, 61)] {
        for at in (0..bytes.len()).step_by(step).chain([bytes.len() - 1]) {
            assert!(parse_feed(&bytes[..at], ORIGIN_FACING, 4096).is_err(), "cut at {at}");
            cuts += 1;
        }
    }
    println!("{cuts} cuts refused");
}

#[test]
fn the_list_built_in_is_the_newest_file() {
    let Some(dir) = data() else { return };
    let list = parse_feed(&whole_files(&dir).pop().unwrap(), ORIGIN_FACING, 4096).unwrap();
    let source = FeedSource {
        service: ORIGIN_FACING.to_owned(),
        location: FeedLocation::File("/nowhere".into()),
        every: Duration::from_secs(900),
    };
    let baked = FeedState::new(source, None);
    let good = baked.good().unwrap();
    assert_eq!((good.sync_token, &good.set), (list.sync_token, &list.set));
    let name = SourceName::try_from("cloudfront".to_owned()).unwrap();
    assert_eq!(FeedKey { source: name, nth: 0 }.file_stem(), "cloudfront");
}
