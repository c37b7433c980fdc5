//! The agent's own telling, against the fake: again until it is taken, and not twice the same.

use std::time::Duration;

use palisade_agent::{
    clock::SystemClock,
    patch::{self, PackageState, Report, Status, Told, Verdict},
};
use palisade_agent_aws::compliance::TYPE;
use palisade_e2e::aws::{Fake, ssm::Faults};
use tokio::{sync::watch, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::common::{ID, package, report, ssm};

const CAP: Duration = Duration::from_secs(60);

/// Somebody who tells, and what he is shown.
struct Teller {
    status: watch::Sender<Status>,
    told: watch::Receiver<Told>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Teller {
    #[expect(clippy::disallowed_methods, reason = "the test waits for the task's end itself")]
    fn start(fake: &Fake, first: Report) -> Self {
        let (status, seen) = watch::channel(Status {
            report: Some(first),
            waiting: 0,
            error: None,
            open: None,
            next: None,
            due: None,
            running: None,
            last: None,
            told: Told::Off,
        });
        let (told, heard) = watch::channel(Told::Off);
        let stop = CancellationToken::new();
        let work = patch::tell(seen, ssm(fake), ID.to_owned(), SystemClock, told, stop.clone());
        Self { status, told: heard, stop, task: tokio::spawn(work) }
    }

    fn show(&self, report: Report) {
        self.status.send_modify(|s| s.report = Some(report));
    }

    async fn until(&mut self, fact: impl FnMut(&Told) -> bool) -> Told {
        let said = timeout(CAP, self.told.wait_for(fact)).await;
        said.map(|told| told.map(|t| t.clone())).ok().and_then(Result::ok).unwrap_or_default()
    }

    async fn up_to_date(&mut self) {
        let said = self.until(|t| matches!(t, Told::UpToDate { .. })).await;
        assert!(matches!(said, Told::UpToDate { .. }), "{said:?}");
        self.told.mark_unchanged();
    }

    async fn end(self) {
        self.stop.cancel();
        let ended = timeout(CAP, self.task).await;
        assert!(matches!(ended, Ok(Ok(()))), "{ended:?}");
    }
}

#[tokio::test]
async fn throttled_uploads_are_sent_again_until_ssm_has_the_full_list() {
    let fake = Fake::start().unwrap();
    fake.ssm.set_faults(Faults { throttle: 2, ..Faults::default() });
    let bad = report(Verdict::NonCompliant, vec![package("openssl", PackageState::Missing)]);
    let mut teller = Teller::start(&fake, bad);
    let waits = teller.until(|t| matches!(t, Told::Waiting { tries: 1, .. })).await;
    let Told::Waiting { error: Some(error), .. } = waits else { panic!("{waits:?}") };
    assert!(error.contains("ThrottlingException"), "{error}");
    teller.up_to_date().await;
    assert_eq!(fake.ssm.stats().errors.get("ThrottlingException"), Some(&2));
    assert_eq!(fake.ssm.report(ID, TYPE).unwrap().items.len(), 2);
    assert_eq!(fake.ssm.table(ID, TYPE).unwrap().rows.len(), 2);
    teller.end().await;
}

#[tokio::test]
async fn a_host_that_stays_as_it_is_sends_nothing_and_a_changed_one_its_full_list() {
    let fake = Fake::start().unwrap();
    let both = vec![package("a", PackageState::Missing), package("b", PackageState::Held)];
    let facts = report(Verdict::NonCompliant, both);
    let mut teller = Teller::start(&fake, facts.clone());
    teller.up_to_date().await;
    let before = fake.ssm.stats();
    teller.show(Report { lists_age_s: Some(3600), ..facts.clone() });
    teller.told.changed().await.unwrap();
    teller.up_to_date().await;
    assert_eq!(fake.ssm.stats(), before, "not one request");
    teller.show(Report { verdict: Verdict::Compliant, items: Vec::new(), ..facts });
    teller.told.changed().await.unwrap();
    teller.up_to_date().await;
    assert_eq!(fake.ssm.report(ID, TYPE).unwrap().items.len(), 1);
    assert!(fake.ssm.stats().violations.is_empty(), "{:?}", fake.ssm.stats());
    teller.end().await;
}

#[tokio::test]
async fn a_host_that_is_not_registered_says_so_and_is_told_of_once_it_is() {
    let fake = Fake::start().unwrap();
    fake.ssm.set_faults(Faults { unregistered: true, ..Faults::default() });
    let mut teller = Teller::start(&fake, report(Verdict::Compliant, vec![]));
    let waits = teller.until(|t| matches!(t, Told::Waiting { .. })).await;
    let Told::Waiting { error: Some(error), .. } = waits else { panic!("{waits:?}") };
    assert!(error.contains("is no managed node of SSM here"), "{error}");
    fake.ssm.set_faults(Faults::default());
    teller.up_to_date().await;
    assert_eq!(fake.ssm.report(ID, TYPE).unwrap().items.len(), 1);
    teller.end().await;
}
