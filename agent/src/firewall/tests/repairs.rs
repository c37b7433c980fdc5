//! Others change the table, or the kernel refuses ours: what is done again, how often, and what is told.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_change_that_nobody_tells_of_is_found_within_a_minute() {
    let w = World::fresh();
    w.handle.in_force().await.unwrap();
    w.kernel.tamper(|o| *o = Observed::Absent);
    time::sleep(Duration::from_secs(61)).await;
    assert!(w.lets_in("13.124.199.7").await);
    let drift = w.handle.status().await.unwrap().drift;
    assert_eq!((drift.repairs, drift.last.unwrap().culprit), (1, None));
}

#[tokio::test(start_paused = true)]
async fn questions_do_not_put_off_the_look_that_finds_what_nobody_tells_of() {
    let w = World::fresh();
    w.handle.in_force().await.unwrap();
    w.kernel.tamper(|o| *o = Observed::Absent);
    for _ in 0..4 {
        time::sleep(Duration::from_secs(20)).await;
        w.handle.status().await.unwrap();
    }
    assert!(w.lets_in("13.124.199.7").await);
    assert_eq!(w.handle.status().await.unwrap().drift.repairs, 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_in_the_way_of_every_lesser_change_goes_with_its_table() {
    let w = World::fresh();
    w.handle.in_force().await.unwrap();
    w.kernel.tamper(|o| {
        let Observed::Table(table) = o else { panic!("no table") };
        table.sets.insert("mine".to_owned(), Elements::Ports([1].into()));
    });
    w.kernel.refuse_all_but_new_tables();
    let by = Changed { by: Some((7, "nft".to_owned())), place: None };
    w.changes.send(by).await.unwrap();
    let mut seen = w.handle.watch();
    let repaired = seen.wait_for(|s| s.drift.repairs == 1).await.unwrap().clone();
    assert!(matches!(repaired.state, State::InForce { .. }), "{repaired:?}");
}

#[tokio::test(start_paused = true)]
async fn a_fight_over_the_table_comes_down_to_one_repair_a_minute() {
    let w = World::fresh();
    w.handle.in_force().await.unwrap();
    let by = || Changed { by: Some((7, "other".to_owned())), place: None };
    let mut seen = w.handle.watch();
    for round in 1..=5 {
        w.kernel.tamper(|o| *o = Observed::Absent);
        w.changes.send(by()).await.unwrap();
        seen.wait_for(|s| s.drift.repairs == round).await.unwrap();
    }
    w.kernel.tamper(|o| *o = Observed::Absent);
    w.changes.send(by()).await.unwrap();
    let stormy = seen.wait_for(|s| s.drift.storm).await.unwrap().clone();
    assert!(matches!(&stormy.state, State::Failed { why, .. } if why.contains("keeps changing")));
    assert_eq!(stormy.drift.last.unwrap().culprit.as_deref(), Some("other (pid 7)"));
    let start = time::Instant::now();
    let calm = seen.wait_for(|s| s.drift.repairs == 6).await.unwrap().clone();
    assert!((55..=65).contains(&start.elapsed().as_secs()));
    assert!(matches!(calm.state, State::InForce { .. }) && !calm.drift.storm);
}

#[tokio::test(start_paused = true)]
async fn a_kernel_that_refuses_is_asked_again_later_and_later_and_the_reason_is_shown() {
    let (kernel, feed, files): (MemKernel, _, _) = Default::default();
    kernel.refuse(Some("no netfilter here"));
    let w = World::start(kernel, feed, files, settings());
    time::sleep(Duration::from_secs(100)).await;
    let State::Failed { why, failures, .. } = w.handle.status().await.unwrap().state else {
        panic!("in force");
    };
    assert_eq!(why, "no netfilter here");
    assert!((6..=20).contains(&failures), "{failures} tries in 100 s");
    w.kernel.refuse(None);
    w.handle.in_force().await.unwrap();
    assert!(w.lets_in("13.124.199.7").await);
}

#[tokio::test(start_paused = true)]
async fn a_kernel_that_says_done_and_does_nothing_is_not_believed() {
    let (kernel, feed, files): (MemKernel, _, _) = Default::default();
    kernel.set_deaf(true);
    let w = World::start(kernel, feed, files, settings());
    time::sleep(Duration::from_secs(30)).await;
    let State::Failed { why, .. } = w.handle.status().await.unwrap().state else {
        panic!("in force");
    };
    assert!(why.starts_with("the rules read back are not those applied"), "{why}");
    w.kernel.set_deaf(false);
    w.handle.in_force().await.unwrap();
}
