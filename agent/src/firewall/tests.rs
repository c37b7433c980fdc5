//! The task as a whole, with twins of the ports and a clock that stands still.

mod lists;
mod repairs;

use std::{collections::BTreeMap, net::IpAddr, num::NonZeroU16, path::PathBuf, time::Duration};

use tokio::{sync::watch, task::JoinHandle, time};
use tokio_util::sync::CancellationToken;

use super::{
    testutil::{MemChanges, MemFeed, MemFiles, MemHistory, MemKernel},
    *,
};
use crate::clock::{SetClock, Timestamp};

const DAY: u64 = 86_400;
/// Later than the list built in.
const T0: u64 = 1_790_000_000;

fn source(name: &str) -> SourceName {
    SourceName::try_from(name.to_owned()).unwrap()
}

fn settings() -> Settings {
    let feed = FeedSource {
        service: ORIGIN_FACING.to_owned(),
        location: FeedLocation::Url("https://feed.invalid/".to_owned()),
        every: Duration::from_secs(900),
    };
    let port = |p| NonZeroU16::new(p).unwrap();
    Settings {
        ports: vec![
            PortRule { tcp: vec![port(443)], from: vec![source("cloudfront")] },
            PortRule { tcp: vec![port(22)], from: vec![source("bastion")] },
        ],
        sources: [
            (source("cloudfront"), vec![Source::Feed(feed)]),
            (source("bastion"), vec![Source::Cidrs(vec!["10.20.0.10/32".parse().unwrap()])]),
        ]
        .into(),
        guard: Guard {
            max_address_loss_permille: 50,
            withdraw_after: Duration::from_secs(DAY),
            max_ranges: 4096,
        },
        enforce: Enforce::Yes,
        table_owner: TableOwner::Auto,
        guard_published: true,
        metadata_users: None,
        drops: drops::Settings { group: Some(drops::DEFAULT_GROUP), samples: false },
        tests: Vec::new(),
        state_dir: PathBuf::from("/state"),
    }
}

fn list(token: u64, prefixes: &[String]) -> String {
    let (v6, v4): (Vec<&String>, Vec<&String>) = prefixes.iter().partition(|p| p.contains(':'));
    // As in AWS's own file, every origin-facing range also stands under CLOUDFRONT and AMAZON.
    let entry = |key: &str, p: &String| {
        [ORIGIN_FACING, "CLOUDFRONT", "AMAZON"]
            .map(|service| format!(r#"{{"{key}":"{p}","service":"{service}"}}"#))
            .join(",")
    };
    let v4: Vec<String> = v4.into_iter().map(|p| entry("ip_prefix", p)).collect();
    let v6: Vec<String> = v6.into_iter().map(|p| entry("ipv6_prefix", p)).collect();
    format!(
        r#"{{"syncToken":"{token}","prefixes":[{}],"ipv6_prefixes":[{}]}}"#,
        v4.join(","),
        v6.join(",")
    )
}

/// The prefixes built in, and more.
fn baked_and(more: &[&str]) -> Vec<String> {
    let mut all = super::baked::origin_facing().prefixes();
    all.extend(more.iter().map(|s| (*s).to_owned()));
    all
}

struct World {
    kernel: MemKernel,
    feed: MemFeed,
    files: MemFiles,
    clock: SetClock,
    changes: tokio::sync::mpsc::Sender<Changed>,
    handle: Handle,
    history: history::Ask,
    settings: watch::Sender<Settings>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl World {
    fn start(kernel: MemKernel, feed: MemFeed, files: MemFiles, settings: Settings) -> Self {
        let clock = SetClock::at(guard::when(T0));
        let (changes, seen) = MemChanges::new();
        let (settings, wanted) = watch::channel(settings);
        let ports = Ports {
            kernel: kernel.clone(),
            changes: seen,
            feed: feed.clone(),
            files: files.clone(),
            clock: clock.clone(),
        };
        let (handle, firewall) = new(wanted, ports);
        let stop = CancellationToken::new();
        let (book, history, record) = history::new();
        let firewall = firewall.with_history(book, history::Who::Start);
        let (fire, kept) = (stop.clone(), stop.clone());
        #[expect(clippy::disallowed_methods, reason = "the test waits for it itself")]
        let task = tokio::spawn(async {
            let record = history::run(record, MemHistory::default(), kept);
            tokio::join!(firewall.run(fire), record);
        });
        Self { kernel, feed, files, clock, changes, handle, history, settings, stop, task }
    }

    fn fresh() -> Self {
        let (kernel, feed, files) = Default::default();
        Self::start(kernel, feed, files, settings())
    }

    async fn restart(self) -> Self {
        self.stop.cancel();
        self.task.await.unwrap();
        Self::start(self.kernel, self.feed, self.files, settings())
    }

    async fn refresh(&self) -> Outcome {
        self.handle.refresh().await.unwrap().remove(0).outcome
    }

    async fn lets_in(&self, ip: &str) -> bool {
        let said = self.handle.explain(ip.parse().unwrap(), Some(443)).await.unwrap();
        let Observed::Table(table) = self.kernel.observed() else { return false };
        let Elements::V4(set) = &table.sets["cloudfront_v4"] else { panic!("no set") };
        let IpAddr::V4(ip) = said.ip else { panic!("IPv4 only") };
        assert_eq!(said.accepted, set.find(ip.into()).is_some(), "explain and kernel disagree");
        said.accepted
    }

    fn set_time(&self, secs: u64) {
        self.clock.set(guard::when(secs));
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_boot_without_network_has_the_list_built_in_at_once() {
    let w = World::fresh();
    w.handle.in_force().await.unwrap();
    assert!(w.lets_in("13.124.199.7").await);
    let status = w.handle.status().await.unwrap();
    let list = status.feeds[0].list.clone().unwrap();
    assert_eq!((list.origin, list.sync_token), (Origin::Baked, super::baked::SYNC_TOKEN));
    assert!(status.feeds[0].error.is_some() && status.feeds[0].failures > 0, "{status:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refresh_is_answered_by_a_read_that_began_after_it() {
    let feed = MemFeed::default();
    feed.slow_down(Duration::from_secs(5));
    let w = World::start(Default::default(), feed, Default::default(), settings());
    // The first read is under way, and found nothing.
    time::sleep(Duration::from_secs(1)).await;
    w.feed.put(list(T0, &baked_and(&[])));
    assert_eq!(w.refresh().await, Outcome::Accepted { sync_token: T0 });
}

#[tokio::test(start_paused = true)]
async fn additions_are_immediate_and_withdrawals_wait_for_a_day_and_a_second_version() {
    let w = World::fresh();
    w.feed.put(list(T0, &baked_and(&["13.0.0.0/24"])));
    assert_eq!(w.refresh().await, Outcome::Accepted { sync_token: T0 });
    assert!(w.lets_in("13.0.0.1").await);

    w.feed.put(list(T0 + 60, &baked_and(&[])));
    w.set_time(T0 + 60);
    w.refresh().await;
    assert!(w.lets_in("13.0.0.1").await);
    w.set_time(T0 + 3 * DAY);
    assert_eq!(w.refresh().await, Outcome::Unchanged);
    assert!(w.lets_in("13.0.0.1").await, "one version alone takes nothing away");

    w.feed.put(list(T0 + 3 * DAY, &baked_and(&[])));
    w.refresh().await;
    assert!(!w.lets_in("13.0.0.1").await);
}

#[tokio::test(start_paused = true)]
async fn a_range_on_its_way_out_outlives_a_restart_and_then_goes() {
    let w = World::fresh();
    w.feed.put(list(T0, &baked_and(&["13.0.0.0/24"])));
    w.refresh().await;
    w.feed.put(list(T0 + 1, &baked_and(&[])));
    w.refresh().await;
    w.feed.put(list(T0 + 2, &baked_and(&[])));
    w.refresh().await;
    let w = w.restart().await;
    w.feed.take_down();
    w.handle.in_force().await.unwrap();
    assert!(w.lets_in("13.0.0.1").await);
    w.set_time(T0 + DAY + 60);
    // Nothing but the regular look lets it go.
    time::sleep(Duration::from_secs(61)).await;
    assert!(!w.lets_in("13.0.0.1").await);
}

#[tokio::test(start_paused = true)]
async fn whatever_is_wrong_with_a_list_the_last_good_one_stays() {
    let w = World::fresh();
    w.feed.put(list(T0, &baked_and(&["13.0.0.0/24"])));
    w.refresh().await;
    let (applied, files) = (w.kernel.applied(), w.files.all());
    let good = list(T0 + 60, &baked_and(&["13.0.0.0/24"]));
    let half: Vec<String> = baked_and(&[]).into_iter().step_by(2).collect();
    for (what, bad, says) in [
        ("truncated", good.chars().take(good.len() / 2).collect(), "EOF"),
        ("empty file", String::new(), "EOF"),
        ("a web page", "<html>".to_owned(), "expected value"),
        ("no such service", good.replace(ORIGIN_FACING, "X"), "no IPv4 prefix"),
        ("everything", good.replace("13.0.0.0/24", "0.0.0.0/0"), "not public"),
        ("private", good.replace("13.0.0.0/24", "10.0.0.0/24"), "not public"),
        ("octal", good.replace("13.0.0.0/24", "013.0.0.0/24"), "not an address prefix"),
        ("host bits", good.replace("13.0.0.0/24", "13.0.0.1/24"), "beyond its length"),
        ("older", list(T0 - 60, &baked_and(&[])), "older than the one in force"),
        ("same version", list(T0, &baked_and(&[])), "has other ranges"),
        ("future", list(T0 + 2 * DAY, &baked_and(&[])), "in the future"),
        ("no entries at all", list(T0 + 60, &[]), "no IPv4 prefix"),
        (
            "doubled key",
            good.replacen("\"prefixes\"", "\"syncToken\":\"9\",\"prefixes\"", 1),
            "twice",
        ),
        ("no parents", good.replace("\"AMAZON\"", "\"EC2\""), "not among the same file's"),
        ("half", list(T0 + 60, &half), "more than the 50/1000 allowed"),
        ("only IPv4", list(T0 + 60, &baked_and(&[])[..45]), "more than the 50/1000 allowed"),
    ] {
        w.feed.put(bad);
        let (Outcome::Failed { why } | Outcome::Held { why }) = w.refresh().await else {
            panic!("{what} is taken");
        };
        assert!(why.contains(says), "{what}: {why}");
        assert!(w.lets_in("13.0.0.1").await, "{what}");
        let feed = w.handle.status().await.unwrap().feeds.remove(0);
        let said = feed.error.or(feed.held.map(|h| h.why)).unwrap();
        assert!(said.contains(says), "{what}: {said}");
    }
    w.feed.take_down();
    assert!(matches!(w.refresh().await, Outcome::Failed { why } if why == "the source is down"));
    assert_eq!((w.kernel.applied(), w.files.all()), (applied, files));

    w.feed.put(list(T0 + 60, &baked_and(&["13.0.0.0/24"])));
    assert_eq!(w.refresh().await, Outcome::Accepted { sync_token: T0 + 60 });
    assert_eq!(w.kernel.applied(), applied, "the same ranges are not applied again");
}

#[tokio::test(start_paused = true)]
async fn a_held_list_waits_for_approval_and_then_leaves_slowly() {
    let w = World::fresh();
    assert_eq!(
        w.handle.approve(source("cloudfront"), None, "uid 0").await,
        Err(ApproveError::NothingHeld("cloudfront".to_owned()))
    );
    let bastion = w.handle.approve(source("bastion"), None, "uid 0").await;
    assert_eq!(bastion, Err(ApproveError::NoSource("bastion".to_owned())));
    let new = vec!["13.0.0.0/24".to_owned(), "2600:9000:1000::/36".to_owned()];
    w.feed.put(list(T0, &new));
    assert!(matches!(w.refresh().await, Outcome::Held { .. }));
    assert!(!w.lets_in("13.0.0.1").await);
    assert_eq!(w.handle.plan().await.unwrap().held.len(), 1);
    let approved = w.handle.approve(source("cloudfront"), None, "uid 0").await;
    assert_eq!(approved, Ok(Outcome::Accepted { sync_token: T0 }));
    assert!(w.lets_in("13.0.0.1").await && w.lets_in("13.124.199.7").await);
    assert_eq!(w.handle.status().await.unwrap().feeds[0].held, None);
}

#[tokio::test(start_paused = true)]
async fn a_damaged_file_falls_back_to_the_previous_and_then_to_the_list_built_in() {
    let w = World::fresh();
    for i in 0..2 {
        w.feed.put(list(T0 + i, &baked_and(&["13.0.0.0/24"])));
        w.refresh().await;
    }
    w.feed.take_down();
    let mut w = w;
    for (damage, token) in [("current", T0), ("previous", super::baked::SYNC_TOKEN)] {
        let path = PathBuf::from(format!("/state/cloudfront.{damage}.json"));
        w.files.tamper(|files| files.get_mut(&path).unwrap().truncate(100));
        w = w.restart().await;
        w.handle.in_force().await.unwrap();
        let status = w.handle.status().await.unwrap();
        assert_eq!(status.feeds[0].list.clone().unwrap().sync_token, token);
        assert!(status.cache_error.unwrap().contains(damage));
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_keeps_the_old_file_and_the_new_list_in_force() {
    let w = World::fresh();
    w.feed.put(list(T0, &baked_and(&[])));
    w.refresh().await;
    let before = w.files.all();
    w.files.set_full(true);
    w.feed.put(list(T0 + 1, &baked_and(&["13.0.0.0/24"])));
    w.refresh().await;
    assert!(w.lets_in("13.0.0.1").await);
    assert_eq!(w.files.all(), before);
    assert!(w.handle.status().await.unwrap().cache_error.is_some());
    w.files.set_full(false);
    time::sleep(Duration::from_secs(61)).await;
    assert_eq!(w.handle.status().await.unwrap().cache_error, None);
    assert_ne!(w.files.all(), before);
}

#[tokio::test(start_paused = true)]
async fn a_plan_touches_nothing() {
    let plan_only = Settings { enforce: Enforce::PlanOnly, ..settings() };
    let (kernel, feed, files) = Default::default();
    let w = World::start(kernel, feed, files, plan_only);
    w.handle.in_force().await.unwrap();
    let plan = w.handle.plan().await.unwrap();
    assert!(plan.differs && plan.sets.iter().any(|s| s.set == "cloudfront_v4"), "{plan:?}");
    assert!(plan.rules.contains(&"tcp 443 from cloudfront_v4".to_owned()), "{plan:?}");
    time::sleep(Duration::from_secs(200)).await;
    assert_eq!((w.kernel.applied(), w.kernel.observed()), (0, Observed::Absent));
    let state = w.handle.status().await.unwrap().state;
    assert_eq!(state, State::PlanOnly { differs: Some(true) });
}

#[tokio::test(start_paused = true)]
async fn who_turns_enforcement_off_is_not_kept_out_by_the_rules_of_before() {
    let w = World::fresh();
    w.handle.in_force().await.unwrap();
    assert!(matches!(w.kernel.observed(), Observed::Table(_)));
    w.settings.send_replace(Settings { enforce: Enforce::PlanOnly, ..settings() });
    w.handle.watch().wait_for(|s| matches!(s.state, State::PlanOnly { .. })).await.unwrap();
    assert_eq!(w.kernel.observed(), Observed::Absent);
    let removal = w.history.last(1).await.unwrap().entries.remove(0);
    assert_eq!(removal.who, [history::Who::Configuration]);
    assert_eq!(removal.changes, ["the table is removed: enforce is false"]);
    w.settings.send_replace(settings());
    w.handle.watch().wait_for(|s| matches!(s.state, State::InForce { .. })).await.unwrap();
    assert!(matches!(w.kernel.observed(), Observed::Table(_)));
}

#[tokio::test(start_paused = true)]
async fn new_settings_are_taken_over_without_losing_the_list() {
    let w = World::fresh();
    w.feed.put(list(T0, &baked_and(&["13.0.0.0/24"])));
    w.refresh().await;
    w.feed.take_down();
    let mut next = settings();
    next.ports[0].tcp.push(NonZeroU16::new(80).unwrap());
    next.ports.pop();
    let mut seen = w.handle.watch();
    w.settings.send_replace(next);
    let status = seen.wait_for(|s| s.sets.len() == 1).await.unwrap().clone();
    assert_eq!(status.sets[0].tcp, [80, 443]);
    assert!(w.lets_in("13.0.0.1").await);
    let Observed::Table(table) = w.kernel.observed() else { panic!("no table") };
    assert!(!table.sets.contains_key("bastion_v4"));
}

#[tokio::test(start_paused = true)]
async fn a_wrong_clock_refuses_lists_and_shuts_nobody_out() {
    let w = World::fresh();
    w.set_time(100);
    w.feed.put(list(T0, &baked_and(&["13.0.0.0/24"])));
    assert!(
        matches!(w.refresh().await, Outcome::Failed { why } if why.contains("this host's clock"))
    );
    assert!(w.lets_in("13.124.199.7").await);
    w.set_time(T0);
    assert_eq!(w.refresh().await, Outcome::Accepted { sync_token: T0 });
}

#[test]
fn a_status_reads_back_from_its_json() {
    let feed = FeedStatus {
        source: "cloudfront".to_owned(),
        part: "cloudfront".to_owned(),
        service: ORIGIN_FACING.to_owned(),
        location: "https://x/".to_owned(),
        list: None,
        held: Some(HeldStatus {
            sync_token: 1,
            since: Timestamp::from_secs(1),
            hold: Hold::AddressLoss { family: Family::V6, lost_permille: 9, max_permille: 5 },
            why: "x".to_owned(),
        }),
        checked: None,
        error: None,
        failures: 0,
        stale: true,
        apart: Some(Apart { missing_permille: 1, extra_permille: 2 }),
    };
    let status = Status {
        state: State::Failed { why: "x".to_owned(), hint: None, failures: 1 },
        sets: Vec::new(),
        feeds: vec![feed],
        drift: Drift::default(),
        packets: [("dropped".to_owned(), 3)].into(),
        cache_error: None,
        safety: None,
    };
    let json = serde_json::to_string(&status).unwrap();
    assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), status);
}

#[tokio::test(start_paused = true)]
async fn the_addresses_of_live_grants_are_let_in_and_shut_out_again() {
    let mut settings = settings();
    settings.sources.insert(source("grants"), vec![Source::Grants]);
    let port = NonZeroU16::new(2222).unwrap();
    settings.ports.push(PortRule { tcp: vec![port], from: vec![source("grants")] });
    let (kernel, clock) = (MemKernel::default(), SetClock::at(guard::when(T0)));
    let (_changes, seen) = MemChanges::new();
    let (_settings, wanted) = watch::channel(settings);
    let ports = Ports {
        kernel: kernel.clone(),
        changes: seen,
        feed: MemFeed::default(),
        files: MemFiles::default(),
        clock,
    };
    let (grants, live) = watch::channel(BTreeMap::new());
    let (handle, firewall) = new(wanted, ports);
    let stop = CancellationToken::new();
    #[expect(clippy::disallowed_methods, reason = "the test waits for it itself")]
    let task = tokio::spawn(firewall.with_grants(live).run(stop.clone()));
    handle.in_force().await.unwrap();
    let admin: IpAddr = "10.20.0.7".parse().unwrap();
    let let_in = async || handle.explain(admin, Some(2222)).await.unwrap().accepted;
    let in_kernel = || {
        let Observed::Table(table) = kernel.observed() else { panic!("no table") };
        let Elements::Timed4(set) = &table.sets["grants_v4"] else { panic!("no set") };
        set.len()
    };
    assert!(!let_in().await);
    assert_eq!(in_kernel(), 0);
    grants.send([(admin, 3_600_000)].into()).unwrap();
    assert!(let_in().await);
    assert_eq!(in_kernel(), 1);
    assert!(!handle.explain(admin, Some(22)).await.unwrap().accepted, "another port was opened");
    grants.send(BTreeMap::new()).unwrap();
    assert!(!let_in().await);
    assert_eq!(in_kernel(), 0);
    // Its end is no word that anything changed.
    grants.send([(admin, 3_600_000)].into()).unwrap();
    drop(grants);
    assert!(let_in().await);
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn each_change_of_the_rules_is_recorded_with_who_was_behind_it() {
    use history::{Culprit, Who};
    let w = World::fresh();
    w.handle.in_force().await.unwrap();
    w.feed.put(list(T0, &baked_and(&["13.0.0.0/24"])));
    w.refresh().await;
    // The same ranges in a newer list change nothing in the kernel, and are no entry.
    w.feed.put(list(T0 + 60, &baked_and(&["13.0.0.0/24"])));
    w.refresh().await;
    let mut next = settings();
    next.ports[0].tcp.push(NonZeroU16::new(80).unwrap());
    w.settings.send_replace(next);
    w.handle.watch().wait_for(|s| s.sets[1].tcp == [80, 443]).await.unwrap();
    // Too much at once is held, and taken on an operator's word.
    let mut half: Vec<String> = baked_and(&[]).into_iter().step_by(2).collect();
    half.extend(["13.0.0.0/24".to_owned(), "14.0.0.0/24".to_owned()]);
    w.feed.put(list(T0 + 120, &half));
    if let Outcome::Held { .. } = w.refresh().await {
        w.handle.approve(source("cloudfront"), None, "uid 0 pid 9").await.unwrap();
    } else {
        panic!("not held");
    }
    w.kernel.tamper(|o| *o = Observed::Absent);
    let place = Place { exe: Some("/usr/sbin/nft".into()), unit: Some("cron.service".to_owned()) };
    let by = Changed { by: Some((7, "nft".to_owned())), place: Some(place) };
    w.changes.send(by).await.unwrap();
    let mut seen = w.handle.watch();
    let status = seen.wait_for(|s| s.drift.repairs == 1).await.unwrap().clone();
    let named = "nft (pid 7, /usr/sbin/nft, cron.service)";
    assert_eq!(status.drift.last.unwrap().culprit.as_deref(), Some(named));

    let listed = w.history.last(100).await.unwrap();
    let who: Vec<&Who> = listed.entries.iter().flat_map(|e| &e.who).collect();
    let source = "cloudfront".to_owned();
    let culprit = Culprit {
        pid: 7,
        name: "nft".to_owned(),
        exe: Some("/usr/sbin/nft".into()),
        unit: Some("cron.service".to_owned()),
    };
    let what = format!("approval of cloudfront, version {},", T0 + 120);
    assert_eq!(
        who,
        [
            &Who::Start,
            &Who::Feed { source, version: T0 },
            &Who::Configuration,
            &Who::Operator { by: "uid 0 pid 9".to_owned(), what },
            &Who::Repair { culprit: Some(culprit) },
        ]
    );
    let feed = &listed.entries[1].sets;
    assert_eq!((feed.len(), feed[0].plus.as_slice()), (1, &["13.0.0.0/24".to_owned()][..]));
    let hashes: Vec<&str> = listed.entries.iter().map(|e| e.ruleset.as_str()).collect();
    assert!(hashes[..4].windows(2).all(|w| w[0] != w[1]), "{hashes:?}");
    assert_eq!(hashes[3], hashes[4], "a repair brings the same rules back");
}
