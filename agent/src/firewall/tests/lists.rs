//! Several lists in one source: each with its own fate, and none able to harm what another gives.

use super::*;

fn prefix_list(nth: usize) -> Ec2List {
    Ec2List::PrefixList(ORIGIN_FACING_LISTS[nth].to_owned())
}

fn origins() -> Ec2List {
    Ec2List::VpcOrigins(None)
}

fn ec2(list: Ec2List) -> Source {
    Source::Feed(FeedSource::ec2(list, Duration::from_secs(300)))
}

/// The published list, both prefix lists and VPC origins, as one source.
fn united() -> Settings {
    let mut settings = settings();
    let parts = settings.sources.get_mut(&source("cloudfront")).unwrap();
    parts.extend([ec2(prefix_list(0)), ec2(prefix_list(1)), ec2(origins())]);
    settings
}

fn start(settings: Settings) -> World {
    let (kernel, feed, files) = Default::default();
    World::start(kernel, feed, files, settings)
}

impl World {
    /// Whether the kernel lets the address in by any set of the source.
    fn kernel_lets_in(&self, ip: &str) -> bool {
        let ip: IpAddr = ip.parse().unwrap();
        let Observed::Table(table) = self.kernel.observed() else { return false };
        table.sets.iter().any(|(name, set)| {
            name.starts_with("cloudfront")
                && match (set, ip) {
                    (Elements::V4(s), IpAddr::V4(ip)) => s.find(ip.into()).is_some(),
                    (Elements::V6(s), IpAddr::V6(ip)) => s.find(ip.into()).is_some(),
                    _ => false,
                }
        })
    }

    async fn outcomes(&self) -> Vec<(String, Outcome)> {
        let brought = self.handle.refresh().await.unwrap();
        brought.into_iter().map(|r| (r.service, r.outcome)).collect()
    }

    async fn feed_status(&self, service: &str) -> FeedStatus {
        let status = self.handle.status().await.unwrap();
        status.feeds.into_iter().find(|f| f.service.starts_with(service)).unwrap()
    }
}

const V6: &str = "2600:9000:1000::7";

#[tokio::test(start_paused = true)]
async fn a_source_that_is_down_takes_nothing_away_from_what_it_gave() {
    // Only the two prefix lists, each of one family.
    let mut only_lists = settings();
    let parts = vec![ec2(prefix_list(0)), ec2(prefix_list(1))];
    only_lists.sources.insert(source("cloudfront"), parts);
    let w = start(only_lists.clone());
    w.feed.answer(&prefix_list(0), Some(&["13.124.199.0/24"]));
    w.feed.answer(&prefix_list(1), Some(&["2600:9000:1000::/36", "2600:9000:5200::/40"]));
    // The lists built in are larger, so that these are held until somebody says that they are good.
    for (service, outcome) in w.outcomes().await {
        assert!(service.contains("ipv6") || matches!(outcome, Outcome::Held { .. }), "{outcome:?}");
    }
    assert!(w.kernel_lets_in(V6) && w.kernel_lets_in("13.124.199.7"));

    w.feed.answer(&prefix_list(1), None);
    w.outcomes().await;
    let v6 = w.feed_status("prefix-list com.amazonaws.global.ipv6").await;
    assert_eq!((v6.error.as_deref(), v6.failures > 0), (Some("the source is down"), true));
    assert!(w.kernel_lets_in(V6), "IPv6 was emptied");
    assert!(w.kernel_lets_in("13.124.199.7"));

    // Neither does a restart while all are down, in another order of the file.
    w.feed.answer(&prefix_list(0), None);
    w.stop.cancel();
    w.task.await.unwrap();
    only_lists.sources.get_mut(&source("cloudfront")).unwrap().reverse();
    let w = World::start(w.kernel, w.feed, w.files, only_lists);
    w.handle.in_force().await.unwrap();
    assert!(w.kernel_lets_in(V6) && w.kernel_lets_in("13.124.199.7"));
}

#[tokio::test(start_paused = true)]
async fn a_list_of_ec2_outlives_a_restart_and_a_move_in_the_file() {
    let origins_at = "10.0.1.5";
    let w = start(united());
    w.feed.answer(&origins(), Some(&["10.0.1.5/32", "2600:1f18::5/128"]));
    w.outcomes().await;
    assert!(w.kernel_lets_in(origins_at) && w.kernel_lets_in("2600:1f18::5"));
    w.feed.answer(&origins(), None);
    w.stop.cancel();
    w.task.await.unwrap();
    let mut moved = united();
    let parts = moved.sources.get_mut(&source("cloudfront")).unwrap();
    parts.reverse();
    parts.truncate(1);
    let w = World::start(w.kernel, w.feed, w.files, moved.clone());
    w.handle.in_force().await.unwrap();
    assert!(w.kernel_lets_in(origins_at), "after a restart with other neighbours");
    // And in a running agent too.
    let parts = moved.sources.get_mut(&source("cloudfront")).unwrap();
    parts.insert(0, ec2(prefix_list(0)));
    let mut seen = w.handle.watch();
    w.settings.send_replace(moved);
    seen.wait_for(|s| s.feeds.len() == 2).await.unwrap();
    assert!(w.kernel_lets_in(origins_at), "after a reload");
}

#[tokio::test(start_paused = true)]
async fn interfaces_may_go_at_once_by_half_or_all_and_leave_after_a_day_and_two_answers() {
    let w = start(united());
    let both = ["10.0.1.5/32", "10.0.2.5/32"];
    w.feed.answer(&origins(), Some(&both));
    w.outcomes().await;
    w.feed.answer(&origins(), Some(&both[..1]));
    let outcome = w.outcomes().await.pop().unwrap().1;
    assert!(matches!(outcome, Outcome::Accepted { .. }), "half of two is no alarm: {outcome:?}");
    assert!(w.kernel_lets_in("10.0.2.5"));
    w.set_time(T0 + 2 * DAY);
    // The second answer to lack it; the day is over, so it goes with it.
    w.outcomes().await;
    assert!(!w.kernel_lets_in("10.0.2.5") && w.kernel_lets_in("10.0.1.5"));

    w.feed.answer(&origins(), Some(&[]));
    w.outcomes().await;
    w.set_time(T0 + 2 * DAY + 60);
    w.outcomes().await;
    assert!(w.kernel_lets_in("10.0.1.5"), "an empty answer is none the less an answer");
    w.set_time(T0 + 4 * DAY);
    w.outcomes().await;
    assert!(!w.kernel_lets_in("10.0.1.5"));
    assert_eq!(w.feed_status("vpc-origin").await.error, None);
}

#[tokio::test(start_paused = true)]
async fn an_answer_with_what_must_not_be_let_in_changes_nothing() {
    let w = start(united());
    w.feed.answer(&origins(), Some(&["10.0.1.5/32"]));
    w.outcomes().await;
    let applied = w.kernel.applied();
    for bad in ["0.0.0.0/0", "127.0.0.1/32", "10.0.0.0/8", "fe80::1/128", "localhost/32", "x"] {
        w.feed.answer(&origins(), Some(&["10.0.2.5/32", bad]));
        let outcome = w.outcomes().await.pop().unwrap().1;
        assert!(matches!(&outcome, Outcome::Failed { why } if why.contains(bad)), "{outcome:?}");
    }
    assert!(w.kernel_lets_in("10.0.1.5") && !w.kernel_lets_in("10.0.2.5"));
    assert_eq!(w.kernel.applied(), applied);
}

#[tokio::test(start_paused = true)]
async fn a_list_with_an_address_of_the_hosts_own_vpc_is_refused() {
    let w = World::fresh();
    w.feed.put(list(T0, &baked_and(&["13.0.0.0/24"])));
    w.refresh().await;
    w.feed.set_own(&["15.158.0.0/20", "10.0.0.0/16"]);
    w.feed.put(list(T0 + 60, &baked_and(&["13.0.0.0/24", "13.0.2.0/24"])));
    let outcome = w.refresh().await;
    let says = "of this host's own VPC";
    assert!(matches!(&outcome, Outcome::Failed { why } if why.contains(says)), "{outcome:?}");
    assert!(w.lets_in("13.0.0.1").await && !w.lets_in("13.0.2.1").await);
    w.feed.set_own(&["10.0.0.0/16"]);
    assert_eq!(w.refresh().await, Outcome::Accepted { sync_token: T0 + 60 });
}

#[tokio::test(start_paused = true)]
async fn an_unchanged_answer_and_a_new_tag_for_the_same_ranges_touch_no_kernel() {
    let w = World::fresh();
    w.feed.put(list(T0, &baked_and(&["13.0.0.0/24"])));
    w.refresh().await;
    let applied = w.kernel.applied();
    assert_eq!(w.refresh().await, Outcome::Unchanged, "the same tag");
    // The same text under another tag, and a newer version with the same ranges otherwise written.
    w.feed.put(list(T0, &baked_and(&["13.0.0.0/24"])));
    w.refresh().await;
    w.feed.put(list(T0 + 60, &baked_and(&["13.0.0.128/25", "13.0.0.0/25"])));
    assert_eq!(w.refresh().await, Outcome::Accepted { sync_token: T0 + 60 });
    assert_eq!(w.kernel.applied(), applied);
}

#[tokio::test(start_paused = true)]
async fn a_list_cut_at_any_kilobyte_leaves_the_last_good_one() {
    let w = World::fresh();
    let many: Vec<String> = (0..=255).map(|i| format!("13.0.{i}.0/25")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    w.feed.put(list(T0, &baked_and(&many)));
    w.refresh().await;
    let (applied, files) = (w.kernel.applied(), w.files.all());
    let next = list(T0 + 60, &baked_and(&many[1..]));
    let cuts: Vec<usize> = (0..next.len()).step_by(1024).chain([next.len() - 1]).collect();
    assert!(cuts.len() > 40, "{} cuts", cuts.len());
    for at in cuts {
        w.feed.put(&next.as_bytes()[..at]);
        assert!(matches!(w.refresh().await, Outcome::Failed { .. }), "cut at {at}");
    }
    assert_eq!((w.kernel.applied(), w.files.all()), (applied, files));
    w.feed.put(next);
    assert_eq!(w.refresh().await, Outcome::Accepted { sync_token: T0 + 60 });
}

#[tokio::test(start_paused = true)]
async fn an_old_answer_does_not_approve_a_change_that_came_since() {
    let w = World::fresh();
    let new = |more: &str| vec![more.to_owned(), "2600:9000:1000::/36".to_owned()];
    w.feed.put(list(T0, &new("13.0.0.0/24")));
    w.refresh().await;
    assert_eq!(w.feed_status("CLOUDFRONT").await.held.unwrap().sync_token, T0);
    w.feed.put(list(T0 + 60, &new("13.0.1.0/24")));
    w.refresh().await;
    let cloudfront = || source("cloudfront");
    let refused = w.handle.approve(cloudfront(), Some(T0), "uid 0").await.unwrap_err();
    let other = ApproveError::OtherVersion {
        source_name: "cloudfront".to_owned(),
        asked: T0,
        held: T0 + 60,
    };
    assert_eq!(refused, other);
    assert!(!w.lets_in("13.0.1.1").await);
    // A newer version of the same ranges is what was looked at.
    w.feed.put(list(T0 + 120, &new("13.0.1.0/24")));
    w.refresh().await;
    let approved = w.handle.approve(cloudfront(), Some(T0 + 60), "uid 0").await;
    assert_eq!(approved, Ok(Outcome::Accepted { sync_token: T0 + 120 }));
    assert!(w.lets_in("13.0.1.1").await);
}

#[tokio::test(start_paused = true)]
async fn a_change_that_waits_waits_again_after_a_restart() {
    let w = World::fresh();
    w.feed.put(list(T0, &["13.0.0.0/24".to_owned()]));
    assert!(matches!(w.refresh().await, Outcome::Held { .. }));
    let w = w.restart().await;
    w.handle.in_force().await.unwrap();
    let mut seen = w.handle.watch();
    seen.wait_for(|s| s.feeds.iter().any(|f| f.held.is_some())).await.unwrap();
    assert!(!w.lets_in("13.0.0.1").await && w.lets_in("13.124.199.7").await);
}

#[tokio::test(start_paused = true)]
async fn lists_that_are_old_or_far_apart_are_told() {
    let w = start(united());
    w.feed.put(list(T0, &baked_and(&[])));
    let half: Vec<String> = super::baked::origin_facing().prefixes();
    let half: Vec<&str> = half.iter().filter(|p| !p.contains(':')).map(String::as_str).collect();
    w.feed.answer(&prefix_list(0), Some(&half));
    w.outcomes().await;
    let v4 = "prefix-list com.amazonaws.global.cloudfront";
    let near = w.feed_status(v4).await;
    assert_eq!((near.stale, near.apart.map(|a| a.is_alarming())), (false, Some(false)));
    assert_eq!(w.feed_status("CLOUDFRONT").await.apart, None);
    let more: Vec<&str> = half.iter().copied().chain(["13.0.0.0/14"]).collect();
    w.feed.answer(&prefix_list(0), Some(&more));
    w.outcomes().await;
    let apart = w.feed_status(v4).await.apart.unwrap();
    assert!(apart.is_alarming() && apart.extra_permille > 400, "{apart:?}");

    assert!(!w.feed_status("CLOUDFRONT").await.stale);
    w.set_time(T0 + 31 * DAY);
    assert!(w.feed_status("CLOUDFRONT").await.stale, "by the time of its publication");
    w.outcomes().await;
    assert!(!w.feed_status(v4).await.stale, "EC2 has answered just now");
}

#[test]
fn each_kind_of_list_is_a_part_of_its_own_where_a_source_has_several() {
    let mut settings = united();
    let parts = settings.sources.get_mut(&source("cloudfront")).unwrap();
    parts.push(Source::Cidrs(vec!["192.0.2.0/24".parse().unwrap()]));
    parts.push(Source::Cidrs(vec!["198.51.100.0/24".parse().unwrap()]));
    let sources = Sources::new(&settings, Sources::default(), |_, _| None);
    let all = sources.in_force_by_part();
    let names = |name: &str| all[&source(name)].iter().map(|p| p.name.clone()).collect::<Vec<_>>();
    assert_eq!(
        names("cloudfront"),
        ["cloudfront.ranges", "cloudfront.prefixes", "cloudfront.origins", "cloudfront.cidrs"]
    );
    assert_eq!(names("bastion"), ["bastion"]);
    let cloudfront = &all[&source("cloudfront")];
    assert_eq!(cloudfront[3].set.prefixes(), ["192.0.2.0/24", "198.51.100.0/24"]);
    assert_eq!(cloudfront[0].set, cloudfront[1].set, "both prefix lists are built in");
    assert!(cloudfront[2].set.is_empty());
    let union = cloudfront.iter().fold(AddrSet::default(), |all, p| all.union(&p.set));
    assert_eq!(sources.in_force()[&source("cloudfront")], union);
}
