use std::sync::{Arc, Mutex};

use super::*;
use crate::{
    clock::{SetClock, Timestamp},
    patch::{ComplianceUpload, InventoryUpload, PackageItem, PackageState, Put, Severity, Verdict},
    task::Scope,
};

/// A cloud that keeps what it takes, and has an answer ready for each of the next calls.
#[derive(Clone, Default)]
struct Cloud(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    compliance: Vec<ComplianceUpload>,
    inventory: Vec<InventoryUpload>,
    refusals: Vec<Again>,
}

impl Cloud {
    fn refuse(&self) -> Result<(), ComplianceError> {
        match self.0.lock().unwrap().refusals.pop() {
            None => Ok(()),
            Some(again) => {
                let what = "rate exceeded".to_owned();
                Err(ComplianceError { what, again, hint: None, source: None })
            }
        }
    }
}

impl Compliance for Cloud {
    async fn put(&self, upload: &ComplianceUpload) -> Result<Put, ComplianceError> {
        self.refuse()?;
        self.0.lock().unwrap().compliance.push(upload.clone());
        Ok(Put::Stored)
    }

    async fn put_inventory(&self, upload: &InventoryUpload) -> Result<Put, ComplianceError> {
        self.refuse()?;
        self.0.lock().unwrap().inventory.push(upload.clone());
        Ok(Put::Stored)
    }
}

fn report(at: i64, missing: &[&str]) -> Report {
    let item = |name: &&str| PackageItem {
        name: (*name).to_owned(),
        installed: Some("1".to_owned()),
        available: Some("2".to_owned()),
        state: PackageState::Missing,
        severity: Severity::High,
        cves: Vec::new(),
        why: "waits for a run".to_owned(),
    };
    Report {
        at: Timestamp::from_secs(at),
        run: None,
        verdict: if missing.is_empty() { Verdict::Compliant } else { Verdict::NonCompliant },
        items: missing.iter().map(item).collect(),
        release: None,
        lists_age_s: Some(1),
    }
}

struct Rig {
    cloud: Cloud,
    status: watch::Sender<Status>,
    told: watch::Receiver<Told>,
    _scope: Scope,
}

fn rig(refusals: &[Again]) -> Rig {
    let cloud = Cloud::default();
    cloud.0.lock().unwrap().refusals = refusals.to_vec();
    let status = watch::Sender::new(Status::default());
    let (told, seen) = watch::channel(Told::Off);
    let mut scope = Scope::new(&CancellationToken::new());
    let clock = SetClock::at(Timestamp::from_secs(5));
    let task = run(status.subscribe(), cloud.clone(), "i-1".to_owned(), clock, told, scope.stop());
    scope.spawn("tell", task);
    Rig { cloud, status, told: seen, _scope: scope }
}

impl Rig {
    fn look(&self, report: Report) {
        self.status.send_modify(|s| s.report = Some(report));
    }

    async fn until(&mut self, what: impl FnMut(&Told) -> bool) -> Told {
        let found = time::timeout(Duration::from_secs(7200), self.told.wait_for(what)).await;
        found.unwrap().unwrap().clone()
    }
}

#[tokio::test(start_paused = true)]
async fn a_throttled_report_is_told_again_until_it_is_taken() {
    let mut rig = rig(&[Again::Later; 3]);
    rig.look(report(1, &["a"]));
    rig.until(|t| matches!(t, Told::Waiting { tries: 3, .. })).await;
    rig.until(|t| matches!(t, Told::UpToDate { .. })).await;
    let kept = rig.cloud.0.lock().unwrap();
    assert_eq!((kept.compliance.len(), kept.inventory.len()), (1, 1));
    assert_eq!(kept.compliance[0].instance, "i-1");
}

#[tokio::test(start_paused = true)]
async fn the_same_facts_found_later_are_not_told_twice_and_others_in_full() {
    let mut rig = rig(&[]);
    rig.look(report(1, &["a", "b"]));
    rig.until(|t| matches!(t, Told::UpToDate { .. })).await;
    rig.look(report(2, &["a", "b"]));
    rig.look(report(3, &["b"]));
    let cloud = rig.cloud.clone();
    let told = async {
        while cloud.0.lock().unwrap().compliance.len() < 2 {
            time::sleep(Duration::from_secs(1)).await;
        }
    };
    time::timeout(Duration::from_secs(60), told).await.unwrap();
    rig.look(report(4, &["b"]));
    time::sleep(Duration::from_secs(600)).await;
    let kept = rig.cloud.0.lock().unwrap();
    assert_eq!(kept.compliance.len(), 2, "{:?}", kept.compliance);
    let all: Vec<_> = kept.compliance[0].items.iter().filter(|i| !i.compliant).collect();
    assert!(all.len() >= 2, "{all:?}");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_stays_as_it_is_is_told_of_once_a_day_and_no_more() {
    let mut rig = rig(&[]);
    rig.look(report(0, &[]));
    rig.until(|t| matches!(t, Told::UpToDate { .. })).await;
    for hour in 1..=25 {
        time::sleep(Duration::from_secs(3600)).await;
        // Looked at again, found the same.
        rig.look(report(hour, &[]));
    }
    time::sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.cloud.0.lock().unwrap().compliance.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_report_that_is_refused_for_good_waits_for_the_next_one() {
    let mut rig = rig(&[Again::Never]);
    rig.look(report(1, &["a"]));
    rig.until(|t| matches!(t, Told::Refused { .. })).await;
    time::sleep(Duration::from_secs(3600)).await;
    assert!(rig.cloud.0.lock().unwrap().compliance.is_empty());
    rig.look(report(2, &[]));
    rig.until(|t| matches!(t, Told::UpToDate { .. })).await;
}

#[test]
fn rests_grow_and_stay_bounded() {
    assert_eq!(backoff(1), FIRST_REST);
    assert_eq!(backoff(3), FIRST_REST * 4);
    assert_eq!(backoff(u32::MAX), LONGEST_REST);
}
