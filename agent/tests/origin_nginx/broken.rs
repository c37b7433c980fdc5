//! What does not work: a broken site, files that do not go with it, an agent that is killed in between.

use std::{
    fs, io,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use palisade_agent::{
    clock::Timestamp,
    origin::{
        File, HeaderName, Health, HealthPath, Offered, PlaceError, RealIp, ReloadError, Reloaded,
        Secret, Secrets, Server, Site, Stage, State, TestError, place,
    },
    sys::nginx::LocalNginx,
};

use crate::rig::{Rig, header};

const ONE: &str = "FirstSecretFirstSecretFirstSecret001";
const TWO: &str = "SecondSecretSecondSecretSecond000002";

#[tokio::test]
async fn a_broken_site_is_never_reloaded_and_the_old_secret_keeps_working() {
    let Some(mut rig) = Rig::build() else { return };
    let guard = rig.start(&[ONE]).await;
    let before = (rig.reloads(), rig.log("palisade/origin.map"));
    rig.write_site("no_such_directive on;");
    rig.write_secrets(&[ONE, TWO]);
    let status = guard.handle.refresh().await.unwrap().status;
    let State::Failed { why, hint, .. } = &status.state else { panic!("{status:?}") };
    assert!(why.contains("its own configuration") && why.contains("no_such_directive"), "{why}");
    assert!(hint.is_some());
    assert_eq!((rig.reloads(), rig.log("palisade/origin.map")), before);
    assert_eq!((rig.status(&header(ONE)), rig.status(&header(TWO))), (200, 403));
    rig.write_site("");
    guard.refresh().await;
    assert_eq!((rig.status(&header(ONE)), rig.status(&header(TWO))), (200, 200));
    guard.end().await;
}

#[tokio::test]
async fn files_that_do_not_go_with_the_site_are_taken_back() {
    let Some(mut rig) = Rig::build() else { return };
    // The site says for itself where visitors' addresses are, so ours would be said twice.
    rig.write_site("real_ip_header X-Real-IP;");
    rig.start(&[ONE]).await.end().await;
    let before = rig.reloads();
    rig.settings.real_ip =
        Some(RealIp { sources: Vec::new(), trusted: vec!["10.0.0.0/8".parse().unwrap()] });
    let guard = rig.guard();
    rig.write_secrets(&[ONE, TWO]);
    let status = guard.handle.refresh().await.unwrap().status;
    let State::Failed { why, .. } = &status.state else { panic!("{status:?}") };
    assert!(why.contains("has the old ones") && why.contains("real_ip_header"), "{why}");
    assert!(!rig.path("palisade/real-ip.conf").exists());
    assert_eq!(rig.reloads(), before);
    rig.server().test().await.unwrap();
    assert_eq!((rig.status(&header(ONE)), rig.status(&header(TWO))), (200, 403));
    guard.end().await;
}

#[tokio::test]
async fn what_nginx_refuses_by_itself_is_never_put_in_place() {
    let Some(mut rig) = Rig::build() else { return };
    rig.start(&[ONE]).await.end().await;
    let before = fs::read(rig.path("palisade/http.conf")).unwrap();
    rig.settings.nginx.hits = rig.path("no/such/directory/hits");
    let guard = rig.guard();
    let status = guard.handle.refresh().await.unwrap().status;
    let State::Failed { why, .. } = &status.state else { panic!("{status:?}") };
    assert!(why.contains("no/such/directory"), "{why}");
    assert_eq!(fs::read(rig.path("palisade/http.conf")).unwrap(), before);
    assert!(!rig.path("state/try").exists());
    guard.end().await;
}

/// An nginx whose agent dies after so many files: nothing that comes later is done.
struct Dying {
    nginx: LocalNginx,
    files_left: AtomicUsize,
}

impl Dying {
    fn is_dead(&self) -> bool {
        self.files_left.load(Ordering::Relaxed) == 0
    }
}

impl Server for Dying {
    async fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        self.nginx.read(path).await
    }

    async fn put(&self, file: &File) -> io::Result<()> {
        if self.is_dead() {
            return Err(io::Error::other("killed"));
        }
        self.files_left.fetch_sub(1, Ordering::Relaxed);
        self.nginx.put(file).await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        if self.is_dead() {
            return Err(io::Error::other("killed"));
        }
        self.nginx.remove(path).await
    }

    async fn test_apart(&self, site: &Site<'_>) -> Result<(), TestError> {
        self.nginx.test_apart(site).await
    }

    async fn test(&self) -> Result<(), TestError> {
        if self.is_dead() {
            return Err(TestError::Refused("killed".to_owned()));
        }
        self.nginx.test().await
    }

    async fn is_running(&self) -> bool {
        false
    }

    async fn reload(&self) -> Result<Reloaded, ReloadError> {
        Ok(Reloaded::NotRunning)
    }
}

#[tokio::test]
async fn an_agent_killed_between_any_two_files_leaves_what_nginx_takes() {
    let Some(rig) = Rig::build() else { return };
    let accepted = |values: &[&str]| {
        let mut secrets = Secrets::default();
        for value in values {
            let secret = Secret::parse(value).unwrap();
            let version = "1".to_owned();
            let offered = Offered { secret, stage: Stage::Current, version, created: None };
            secrets.take(&[offered], Timestamp::from_secs(0)).unwrap();
        }
        secrets
    };
    let old = rig.settings.clone();
    let mut new = rig.settings.clone();
    new.header = HeaderName::parse("X-Another-Name").unwrap();
    new.health = Some(Health {
        paths: vec![HealthPath::parse("/health").unwrap()],
        from: vec!["10.0.0.0/8".parse().unwrap()],
    });
    new.real_ip =
        Some(RealIp { sources: Vec::new(), trusted: vec!["10.0.0.0/8".parse().unwrap()] });
    let (few, many) = (accepted(&[ONE]), accepted(&[ONE, TWO]));
    let nginx = rig.server();
    let (sets, ranges) = ([(&old, &few), (&new, &many)], []);
    // There and back, so that each set is once the old one.
    for turn in [[0, 1], [1, 0]] {
        for files in 1..12 {
            let site = |n: usize| {
                let (settings, secrets) = sets[turn[n]];
                Site { settings, secrets, ranges: &ranges }
            };
            place(&nginx, &site(0)).await.unwrap();
            let dying = Dying { nginx: nginx.clone(), files_left: AtomicUsize::new(files) };
            let ended = place(&dying, &site(1)).await;
            nginx.test().await.unwrap_or_else(|e| panic!("killed after {files} files: {e}"));
            if ended.is_ok() {
                assert!(files > 4, "{files} files were all");
                break;
            }
            assert!(
                matches!(ended, Err(PlaceError::Put { .. } | PlaceError::Site(_))),
                "{ended:?}"
            );
        }
    }
}
