//! Kept lists on a disk that is damaged, full or read-only: what is in force then, by real packets.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "allow-unwrap-in-tests covers test functions, not helpers; skips are printed"
)]

#[path = "firewall_lab/mod.rs"]
#[expect(dead_code, reason = "other tests use the rest of the lab")]
mod lab;

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use lab::{Agent, EDGE4, Lab, ORIGIN4, STRANGER4, feed_source, settings, source};
use palisade_agent::firewall::{
    FeedSource, FeedState, ORIGIN_FACING, Outcome, Source, Status, decode_cache, encode_cache,
};

const SOON: Duration = Duration::from_secs(3);
const NEVER: Duration = Duration::from_millis(200);
/// The version of the list built in; others come seconds later, so that none is in the future.
const BAKED: u64 = 1_787_411_825;
/// A range that the list built in does not have.
const MORE: &str = "13.0.0.0/24";

#[expect(clippy::disallowed_methods, reason = "a test mounts a small disk")]
fn mount(args: &[&str], at: &Path) {
    let out = Command::new("mount").args(args).arg(at).output().unwrap();
    assert!(out.status.success(), "mount {args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// A disk of 64 KiB; it is unmounted when this goes.
struct Disk(PathBuf);

impl Disk {
    fn at(path: &Path) -> Self {
        fs::create_dir_all(path).unwrap();
        mount(&["-t", "tmpfs", "-o", "size=64k,mode=0700", "palisade-test"], path);
        Self(path.to_owned())
    }

    fn fill(&self) {
        let mut file = fs::File::create(self.0.join("filler")).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
    }

    fn remount(&self, how: &str) {
        mount(&["-o", &format!("remount,{how}")], &self.0);
    }
}

impl Drop for Disk {
    #[expect(clippy::disallowed_methods, reason = "a test unmounts its small disk")]
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).output());
    }
}

/// Puts a list where the feed is read: what is built in, and more.
fn put_list(lab: &Lab, token: u64, more: &[&str]) {
    let baked = FeedState::new(feed_source(lab), None).in_force().prefixes();
    let all: Vec<&str> = baked.iter().map(String::as_str).chain(more.iter().copied()).collect();
    let (v6, v4): (Vec<&str>, Vec<&str>) = all.into_iter().partition(|p| p.contains(':'));
    let entries = |key: &str, prefixes: &[&str]| -> Vec<serde_json::Value> {
        // As in AWS's own file, every origin-facing range also stands under CLOUDFRONT and AMAZON.
        let services = [ORIGIN_FACING, "CLOUDFRONT", "AMAZON"];
        let entry = |p: &&str| services.map(|s| serde_json::json!({ key: p, "service": s }));
        prefixes.iter().flat_map(entry).collect()
    };
    let list = serde_json::json!({
        "syncToken": token.to_string(),
        "prefixes": entries("ip_prefix", &v4),
        "ipv6_prefixes": entries("ipv6_prefix", &v6),
    });
    let new = lab.dir.path().join("new.json");
    fs::File::create(&new).unwrap().write_all(list.to_string().as_bytes()).unwrap();
    fs::rename(new, lab.dir.path().join("ip-ranges.json")).unwrap();
}

async fn refresh(agent: &Agent) -> Outcome {
    agent.handle.refresh().await.unwrap().remove(0).outcome
}

/// The version in force, and what is wrong with the kept lists, of an agent that found the feed gone.
async fn after_restart(lab: &Lab) -> (Agent, u64, Option<String>) {
    fs::remove_file(lab.dir.path().join("ip-ranges.json")).unwrap_or_default();
    let agent = Agent::start(lab).await;
    agent.handle.in_force().await.unwrap();
    let status: Status = agent.handle.status().await.unwrap();
    let token = status.feeds[0].list.as_ref().map_or(0, |l| l.sync_token);
    (agent, token, status.cache_error)
}

fn kernel_has_more(lab: &Lab) -> bool {
    lab.nft("list table inet palisade").contains(MORE)
}

fn files_in(dir: &Path) -> Vec<String> {
    let name = |e: fs::DirEntry| e.file_name().into_string().unwrap();
    let mut all: Vec<String> = fs::read_dir(dir).unwrap().map(|e| name(e.unwrap())).collect();
    all.sort_unstable();
    all
}

#[tokio::test]
async fn a_disk_that_is_full_or_read_only_keeps_the_old_list_and_the_new_one_is_in_force() {
    let Some(lab) = Lab::build("ful") else { return };
    lab.listen(443);
    let state = settings(&lab).state_dir;
    let disk = Disk::at(&state);
    put_list(&lab, BAKED + 1, &[]);
    let agent = Agent::start(&lab).await;
    agent.handle.in_force().await.unwrap();
    refresh(&agent).await;
    let current = state.join("cloudfront.current.json");
    let before = fs::read(&current).unwrap();
    assert_eq!(decode_cache(&before).unwrap().sync_token, BAKED + 1);
    agent.stop().await;

    for (token, errno) in [(BAKED + 2, "No space left"), (BAKED + 3, "Read-only file system")] {
        let (agent, found, error) = after_restart(&lab).await;
        assert_eq!((found, error), (BAKED + 1, None), "{errno}");
        assert!(!kernel_has_more(&lab));
        if errno.starts_with("No") {
            disk.fill();
        } else {
            fs::remove_file(state.join("filler")).unwrap();
            disk.remount("ro");
        }
        let files = files_in(&state);
        put_list(&lab, token, &[MORE]);
        assert_eq!(refresh(&agent).await, Outcome::Accepted { sync_token: token });
        assert!(kernel_has_more(&lab), "{errno}: the new list is not in force");
        assert!(lab.connects("edge", EDGE4, ORIGIN4, 443, SOON));
        assert!(!lab.connects("stranger", STRANGER4, ORIGIN4, 443, NEVER));
        let error = agent.handle.status().await.unwrap().cache_error;
        assert!(error.as_ref().is_some_and(|e| e.contains(errno)), "{errno}: {error:?}");
        assert_eq!(fs::read(&current).unwrap(), before, "{errno}");
        assert_eq!(files_in(&state), files, "{errno} left litter");
        agent.stop().await;
    }
    disk.remount("rw");
    let (agent, found, error) = after_restart(&lab).await;
    assert_eq!((found, error), (BAKED + 1, None));
    put_list(&lab, BAKED + 4, &[MORE]);
    refresh(&agent).await;
    assert_eq!(decode_cache(&fs::read(&current).unwrap()).unwrap().sync_token, BAKED + 4);
    agent.stop().await;
}

/// Something that happens to a file.
type Damage = (&'static str, fn(Vec<u8>) -> Vec<u8>);

const DAMAGES: [Damage; 5] = [
    ("a flipped bit", |mut bytes| {
        let at = bytes.len() / 2;
        bytes[at] ^= 4;
        bytes
    }),
    ("nothing left", |_| Vec::new()),
    ("half of it", |mut bytes| bytes.split_off(bytes.len() / 2)),
    ("an older form", |bytes| {
        String::from_utf8(bytes).unwrap().replacen("\"v\":1", "\"v\":0", 1).into_bytes()
    }),
    ("zeros, as after a power cut", |bytes| vec![0; bytes.len()]),
];

#[tokio::test]
async fn a_damaged_list_gives_way_to_the_previous_one_then_to_the_one_built_in_and_it_is_told() {
    let Some(lab) = Lab::build("dmg") else { return };
    lab.listen(443);
    let state = settings(&lab).state_dir;
    let agent = Agent::start(&lab).await;
    agent.handle.in_force().await.unwrap();
    // The same ranges under a newer version would be no reason to write.
    for (token, more) in [(BAKED + 1, [MORE].as_slice()), (BAKED + 2, &[MORE, "13.0.2.0/24"])] {
        put_list(&lab, token, more);
        refresh(&agent).await;
    }
    agent.stop().await;
    let file = |which: &str| state.join(format!("cloudfront.{which}.json"));
    let good = ["current", "previous"].map(|which| fs::read(file(which)).unwrap());
    for (what, damage) in DAMAGES {
        for (which, bytes) in ["current", "previous"].into_iter().zip(&good) {
            fs::File::create(file(which)).unwrap().write_all(bytes).unwrap();
        }
        for (which, bytes, falls_to) in
            [("current", &good[0], BAKED + 1), ("previous", &good[1], BAKED)]
        {
            fs::File::create(file(which)).unwrap().write_all(&damage(bytes.clone())).unwrap();
            let (agent, found, error) = after_restart(&lab).await;
            assert_eq!(found, falls_to, "{what} in {which}");
            let named = error.as_ref().is_some_and(|e| e.contains(&format!("{which}.json")));
            assert!(named, "{what} in {which}: {error:?}");
            assert_eq!(kernel_has_more(&lab), falls_to != BAKED, "{what} in {which}");
            agent.stop().await;
        }
    }
    assert!(lab.connects("edge", EDGE4, ORIGIN4, 443, SOON), "the list built in lets the edge in");
    assert!(!lab.connects("stranger", STRANGER4, ORIGIN4, 443, NEVER));
}

#[tokio::test]
async fn where_no_list_is_left_and_none_is_built_in_the_port_is_closed_to_all() {
    let Some(lab) = Lab::build("non") else { return };
    lab.listen(443);
    let mut wanted = settings(&lab);
    let feed = FeedSource { service: "OTHER".to_owned(), ..feed_source(&lab) };
    wanted.sources = [(source("cloudfront"), vec![Source::Feed(feed)])].into();
    // A good file of another service is no list for this one.
    let mut good = FeedState::new(feed_source(&lab), None).good().unwrap().clone();
    fs::create_dir_all(&wanted.state_dir).unwrap();
    let path = wanted.state_dir.join("cloudfront.current.json");
    fs::File::create(&path).unwrap().write_all(&encode_cache(&good).unwrap()).unwrap();
    let agent = Agent::start_with(&lab, wanted.clone()).await;
    agent.handle.in_force().await.unwrap();
    assert!(!lab.connects("edge", EDGE4, ORIGIN4, 443, NEVER));
    agent.stop().await;

    // Of its own service it is one, until it is damaged.
    good.service = "OTHER".to_owned();
    let bytes = encode_cache(&good).unwrap();
    fs::File::create(&path).unwrap().write_all(&bytes).unwrap();
    let agent = Agent::start_with(&lab, wanted.clone()).await;
    agent.handle.in_force().await.unwrap();
    assert!(lab.connects("edge", EDGE4, ORIGIN4, 443, SOON));
    agent.stop().await;
    fs::File::create(&path).unwrap().write_all(&bytes[..bytes.len() / 2]).unwrap();
    let agent = Agent::start_with(&lab, wanted).await;
    agent.handle.in_force().await.unwrap();
    assert!(!lab.connects("edge", EDGE4, ORIGIN4, 443, NEVER));
    assert!(agent.handle.status().await.unwrap().cache_error.is_some());
    agent.stop().await;
}
