//! The task with its twins, in paused time.

use std::{path::PathBuf, time::Duration};

use tokio::{sync::watch, time};
use tokio_util::sync::CancellationToken;

use super::{
    testutil::{FakeHits, FakeServer, FakeSource, FakeStore, at, offered, secret, settings},
    *,
};
use crate::clock::SetClock;

struct Rig {
    source: FakeSource,
    server: FakeServer,
    hits: FakeHits,
    store: FakeStore,
    clock: SetClock,
    now: i64,
    settings: Settings,
    ranges: watch::Sender<Vec<ipnet::IpNet>>,
    map: PathBuf,
}

struct Running {
    handle: Handle,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Rig {
    fn new() -> Self {
        let settings = settings(std::path::Path::new("/etc/nginx"));
        Self {
            source: FakeSource::default(),
            server: FakeServer::default(),
            hits: FakeHits::default(),
            store: FakeStore::default(),
            clock: SetClock::at(at(0)),
            now: 0,
            map: settings.nginx.map.clone(),
            settings,
            ranges: watch::Sender::new(Vec::new()),
        }
    }

    fn start(&self) -> Running {
        let ports = Ports {
            source: self.source.clone(),
            server: self.server.clone(),
            hits: self.hits.clone(),
            store: self.store.clone(),
            clock: self.clock.clone(),
        };
        let (handle, task) = new(self.settings.clone(), self.ranges.subscribe(), ports);
        let stop = CancellationToken::new();
        #[expect(clippy::disallowed_methods, reason = "the test waits for it itself")]
        let task = tokio::spawn(task.run(stop.clone()));
        Running { handle, stop, task }
    }

    /// Lets time pass, on both clocks.
    async fn wait(&mut self, seconds: i64) {
        for _ in 0..seconds {
            self.now += 1;
            self.clock.set(at(self.now));
            time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Which of the secrets nginx answers by.
    fn in_force(&self) -> Vec<u32> {
        let map = self.server.loaded(&self.map).unwrap_or_default();
        (1..9).filter(|n| map.contains(secret(*n).expose())).collect()
    }
}

impl Running {
    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_rotation_takes_two_reloads_and_the_old_secret_goes_when_unused() {
    let mut rig = Rig::new();
    rig.source.has(vec![offered(1, Stage::Current)]);
    let running = rig.start();
    rig.wait(5).await;
    assert_eq!((rig.in_force(), rig.server.reloads()), (vec![1], 1));
    assert_eq!(running.handle.status().state, State::InForce);

    rig.source.has(vec![offered(1, Stage::Current), offered(2, Stage::Pending)]);
    rig.wait(70).await;
    assert_eq!((rig.in_force(), rig.server.reloads()), (vec![1, 2], 2));

    rig.source.has(vec![offered(2, Stage::Current)]);
    rig.wait(70).await;
    rig.hits.hit(at(rig.now), &secret(1));
    rig.wait(500).await;
    rig.hits.hit(at(rig.now), &secret(2));
    assert_eq!((rig.in_force(), rig.server.reloads()), (vec![1, 2], 2));
    rig.wait(120).await;
    assert_eq!((rig.in_force(), rig.server.reloads()), (vec![2], 3));
    let status = running.handle.status();
    assert_eq!(status.secrets.len(), 1);
    assert_eq!((&status.secrets[0].id, status.secrets[0].hits), (&secret(2).id(), 1));
    // Nothing happens where nothing changes.
    rig.wait(400).await;
    assert_eq!(rig.server.reloads(), 3);
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn changes_that_come_together_are_one_reload_and_the_next_waits_for_its_interval() {
    let mut rig = Rig::new();
    rig.settings.real_ip =
        Some(RealIp { sources: vec!["cloudfront".to_owned()], trusted: Vec::new() });
    rig.settings.every = Duration::from_secs(2);
    rig.source.has(vec![offered(1, Stage::Current)]);
    let running = rig.start();
    rig.wait(40).await;
    assert_eq!(rig.server.reloads(), 1);
    rig.source.has(vec![offered(1, Stage::Current), offered(2, Stage::Pending)]);
    rig.wait(2).await;
    rig.ranges.send_replace(vec!["130.176.0.0/18".parse().unwrap()]);
    rig.wait(4).await;
    assert_eq!((rig.in_force(), rig.server.reloads()), (vec![1, 2], 2));
    // The third within the interval waits, and both of its reasons are one reload.
    rig.ranges.send_replace(vec!["130.176.0.0/17".parse().unwrap()]);
    rig.wait(5).await;
    rig.source.has(vec![offered(2, Stage::Current), offered(3, Stage::Pending)]);
    rig.wait(5).await;
    assert_eq!(rig.server.reloads(), 2);
    rig.wait(30).await;
    assert_eq!((rig.in_force(), rig.server.reloads()), (vec![1, 2, 3], 3));
    let real_ip = rig.server.loaded(&rig.map.with_file_name("real-ip.conf")).unwrap();
    assert!(real_ip.contains("130.176.0.0/17"), "{real_ip}");
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_accepted_survives_a_restart_and_a_source_that_is_away() {
    let mut rig = Rig::new();
    rig.source.has(vec![offered(1, Stage::Current)]);
    let running = rig.start();
    rig.wait(5).await;
    running.end().await;
    rig.source.is_away();
    let running = rig.start();
    rig.wait(100).await;
    let status = running.handle.status();
    assert_eq!((rig.in_force(), status.state), (vec![1], State::InForce));
    assert_eq!(status.source.error.as_deref(), Some("it is away"));
    // The same bytes are no reason to reload.
    assert_eq!(rig.server.reloads(), 1);
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_dropped_while_the_source_cannot_be_read() {
    let mut rig = Rig::new();
    rig.source.has(vec![offered(1, Stage::Current)]);
    let running = rig.start();
    rig.wait(5).await;
    rig.source.has(vec![offered(2, Stage::Current)]);
    rig.wait(70).await;
    rig.hits.hit(at(rig.now), &secret(2));
    rig.source.is_away();
    rig.wait(1000).await;
    assert_eq!(rig.in_force(), [1, 2]);
    // Something that is no secret counts as not read, too.
    rig.source.has_bad(vec![offered(2, Stage::Current)], vec!["AWSPENDING is empty".to_owned()]);
    rig.wait(70).await;
    assert_eq!(rig.in_force(), [1, 2]);
    let error = running.handle.status().source.error.unwrap();
    assert!(error.contains("AWSPENDING is empty"), "{error}");
    rig.source.has(vec![offered(2, Stage::Current)]);
    rig.wait(100).await;
    assert_eq!(rig.in_force(), [2]);
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_failing_test_never_reloads_and_brings_the_old_files_back() {
    let mut rig = Rig::new();
    rig.source.has(vec![offered(1, Stage::Current)]);
    let running = rig.start();
    rig.wait(40).await;
    let before = rig.server.file(&rig.map);
    for (results, words) in [
        (vec![Err("site is broken"), Err("site is broken")], "its own configuration"),
        (vec![Err("only with the new"), Ok(())], "has the old ones"),
    ] {
        rig.server.next_tests(results);
        rig.source.has(vec![offered(1, Stage::Current), offered(2, Stage::Pending)]);
        let now = running.handle.refresh().await.unwrap().status;
        let State::Failed { why, hint, .. } = now.state else { panic!("{now:?}") };
        assert!(why.contains(words) && hint.is_some(), "{why}");
        assert_eq!((rig.server.file(&rig.map), rig.server.reloads()), (before.clone(), 1));
    }
    rig.server.refuses_apart(Some("no such directory"));
    let State::Failed { why, .. } = running.handle.refresh().await.unwrap().status.state else {
        panic!()
    };
    assert!(why.contains("no such directory"), "{why}");
    assert_eq!(rig.server.file(&rig.map), before);
    // Mended: it comes by itself.
    rig.server.refuses_apart(None);
    rig.wait(70).await;
    assert_eq!((rig.in_force(), rig.server.reloads()), (vec![1, 2], 2));
    assert_eq!(running.handle.status().state, State::InForce);
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_fills_up_in_the_middle_leaves_the_old_files() {
    let mut rig = Rig::new();
    rig.source.has(vec![offered(1, Stage::Current)]);
    rig.server.takes_only(2);
    let running = rig.start();
    rig.wait(2).await;
    let State::Failed { why, .. } = running.handle.status().state else { panic!() };
    assert!(why.contains("the disk is full"), "{why}");
    assert_eq!((rig.server.file(&rig.map), rig.server.reloads()), (None, 0));
    rig.server.takes_only(1000);
    rig.wait(20).await;
    assert_eq!(rig.in_force(), [1]);
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_deaf_is_told_again_and_one_that_is_down_is_not() {
    let mut rig = Rig::new();
    rig.source.has(vec![offered(1, Stage::Current)]);
    rig.server.is_deaf(true);
    let running = rig.start();
    rig.wait(3).await;
    assert!(matches!(running.handle.status().state, State::Failed { .. }));
    rig.server.is_deaf(false);
    rig.wait(20).await;
    assert_eq!((rig.in_force(), running.handle.status().state), (vec![1], State::InForce));
    let reloads = rig.server.reloads();
    rig.server.is_down(true);
    rig.source.has(vec![offered(2, Stage::Current)]);
    rig.wait(120).await;
    assert_eq!(running.handle.status().state, State::Written);
    rig.server.is_down(false);
    rig.wait(70).await;
    assert_eq!((rig.in_force(), rig.server.reloads()), (vec![1, 2], reloads));
    assert_eq!(running.handle.status().state, State::InForce);
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn with_reload_off_files_are_written_and_nobody_is_told() {
    let mut rig = Rig::new();
    rig.settings.nginx.reload = Reload::Never;
    rig.source.has(vec![offered(1, Stage::Current)]);
    let running = rig.start();
    rig.wait(200).await;
    assert_eq!(running.handle.status().state, State::Written);
    assert!(rig.server.file(&rig.map).unwrap().contains(secret(1).expose()));
    assert_eq!(rig.server.reloads(), 0);
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn without_a_secret_it_is_closed_but_keeps_a_map_of_before() {
    let mut rig = Rig::new();
    rig.source.is_away();
    let running = rig.start();
    rig.wait(3).await;
    assert_eq!(running.handle.status().state, State::Closed);
    assert!(rig.server.file(&rig.map).unwrap().lines().all(|l| l.starts_with('#')));
    rig.server.overwrite(&rig.map, "of before");
    rig.wait(130).await;
    assert_eq!(rig.server.file(&rig.map).as_deref(), Some("of before"));
    rig.source.has(vec![offered(1, Stage::Current)]);
    rig.wait(70).await;
    assert_eq!((rig.in_force(), running.handle.status().state), (vec![1], State::InForce));
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn files_that_somebody_changes_are_brought_back() {
    let mut rig = Rig::new();
    rig.source.has(vec![offered(1, Stage::Current)]);
    let running = rig.start();
    rig.wait(40).await;
    rig.server.overwrite(&rig.map, "\"~.\" \"00000000 1\";");
    rig.wait(70).await;
    assert_eq!((rig.in_force(), rig.server.reloads()), (vec![1], 2));
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_operator_drops_a_leaked_secret_at_once_and_cannot_drop_what_is_in_use() {
    let mut rig = Rig::new();
    rig.source.has(vec![offered(1, Stage::Current)]);
    let running = rig.start();
    rig.wait(5).await;
    rig.source.has(vec![offered(2, Stage::Current)]);
    let brought = running.handle.refresh().await.unwrap();
    assert_eq!(brought.changes.len(), 2, "{brought:?}");
    assert_eq!(rig.in_force(), [1, 2]);
    let refused = running.handle.drop_secret(secret(2).id()).await.unwrap_err();
    assert_eq!(refused, DropError::Refused(DropRefusal::Offered(secret(2).id())));
    let status = running.handle.drop_secret(secret(1).id()).await.unwrap();
    assert_eq!((rig.in_force(), status.secrets.len()), (vec![2], 1));
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn no_document_and_no_debug_output_has_a_secret() {
    let mut rig = Rig::new();
    rig.source.has(vec![offered(1, Stage::Current), offered(2, Stage::Pending)]);
    let text = secret(1).expose().to_owned();
    let why: &'static str = Box::leak(format!("conflicting \"{text}\"").into_boxed_str());
    rig.server.next_tests([Err(why), Ok(())]);
    let running = rig.start();
    rig.wait(2).await;
    let status = running.handle.status();
    assert!(matches!(status.state, State::Failed { .. }), "{status:?}");
    let all = format!("{status:?} {}", serde_json::to_string(&status).unwrap());
    assert!(all.contains(secret(1).id().as_str()) && !all.contains(&text), "{all}");
    running.end().await;
}
