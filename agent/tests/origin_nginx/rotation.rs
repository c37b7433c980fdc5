//! A secret is changed while visitors come: not one of them may notice.

use std::time::{Duration, Instant};

use crate::{
    rig::{Rig, header, id},
    visitors::Edge,
};

const EDGES: usize = 6;
const ROTATIONS: usize = 3;

#[tokio::test]
async fn secrets_are_changed_under_load_and_no_request_is_refused() {
    let Some(mut rig) = Rig::build() else { return };
    let secret = |n: usize| format!("RotatedSecretRotatedSecretRotatedSecret{n:09}");
    let guard = rig.start(&[&secret(0)]).await;
    let before = rig.reloads();
    let edges: Vec<Edge> = (0..EDGES).map(|_| Edge::start(rig.addr, &secret(0))).collect();
    for n in 0..ROTATIONS {
        let (old, new) = (secret(n), secret(n + 1));
        // The rotation makes the next one, and the host accepts both.
        rig.write_secrets(&[&old, &new]);
        guard.refresh().await;
        // CloudFront sends the next one, edge by edge.
        for edge in &edges {
            edge.sends(&new);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // The next one is current; the old one goes when it is unused.
        rig.write_secrets(&[&new]);
        let left = guard.refresh().await.status;
        assert_eq!(left.secrets.len(), 2, "{left:?}");
        guard.until_accepted(1).await;
        assert_eq!((rig.status(&header(&old)), rig.status(&header(&new))), (403, 200));
    }
    let met: Vec<_> = edges.into_iter().map(Edge::end).collect();
    let well: usize = met.iter().map(|m| m.well).sum();
    let repeated: usize = met.iter().map(|m| m.repeated).sum();
    let bad: Vec<_> = met.iter().flat_map(|m| &m.bad).collect();
    println!(
        "{ROTATIONS} rotations, {} reloads: {well} answers, {} bad, {repeated} repeated after an idle close",
        rig.reloads() - before,
        bad.len()
    );
    assert!(bad.is_empty() && well > 500, "{well} well, {bad:?}");
    // One to accept the next, one to drop the old.
    assert_eq!(rig.reloads() - before, 2 * ROTATIONS);
    guard.end().await;
}

#[tokio::test]
async fn requests_are_counted_by_the_secret_they_had() {
    let Some(mut rig) = Rig::build() else { return };
    let (a, b) = ("CountedSecretCountedSecret0001", "CountedSecretCountedSecret0002");
    let guard = rig.start(&[a, b]).await;
    for _ in 0..10 {
        assert_eq!(rig.status(&header(a)), 200);
    }
    for _ in 0..160 {
        assert_eq!(rig.status(&header("wrong")), 403);
    }
    // nginx writes its notes within a second. Each of an older secret is noted, one in sixteen of others.
    let until = Instant::now() + Duration::from_secs(30);
    let status = loop {
        let status = guard.refresh().await.status;
        let old = status.secrets.iter().find(|s| s.id == id(a)).unwrap();
        if old.hits >= 10 && status.refused > 0 {
            break status;
        }
        assert!(Instant::now() < until, "{status:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let old = status.secrets.iter().find(|s| s.id == id(a)).unwrap();
    assert!(old.hits == 10 && old.last_hit.is_some(), "{old:?}");
    assert!(status.refused.is_multiple_of(16) && status.refused < 16 * 60, "{status:?}");
    assert!(!rig.log("palisade-origin.hits").contains("Counted"));
    guard.end().await;
}

#[tokio::test]
async fn the_same_files_are_no_reason_to_reload_also_for_the_next_agent() {
    let Some(mut rig) = Rig::build() else { return };
    let secret = "SteadySecretSteadySecretSteady01";
    let guard = rig.start(&[secret]).await;
    let before = rig.reloads();
    guard.refresh().await;
    guard.end().await;
    let next = rig.guard();
    next.refresh().await;
    next.refresh().await;
    assert_eq!(rig.reloads(), before);
    assert_eq!(rig.status(&header(secret)), 200);
    // A source that is gone takes nothing away.
    std::fs::remove_file(rig.path("secret")).unwrap();
    let status = next.handle.refresh().await.unwrap().status;
    assert!(status.source.error.is_some() && status.secrets.len() == 1, "{status:?}");
    assert_eq!((rig.status(&header(secret)), rig.reloads()), (200, before));
    next.end().await;
}
