//! Compliance and inventory against the strict fake of SSM: what it has afterwards, and what its
//! refusals become.

mod common;
mod telling;

use palisade_agent::{
    clock::Timestamp,
    patch::{
        self, Again, Compliance as _, ComplianceError, HOST_ID, PackageState, Put, Report, Verdict,
    },
};
use palisade_agent_aws::compliance::{SsmCompliance, TYPE};
use palisade_e2e::aws::{Fake, ssm::Faults};

use common::{ID, package, report, ssm, ssm_at};

async fn put(ssm: &SsmCompliance, report: &Report) -> Result<Put, ComplianceError> {
    ssm.put(&patch::compliance(report, ID)).await
}

#[tokio::test]
async fn a_report_replaces_the_one_before_and_breaks_no_rule() {
    let fake = Fake::start().unwrap();
    let ssm = ssm(&fake);
    let bad = report(Verdict::NonCompliant, vec![package("openssl", PackageState::Missing)]);
    put(&ssm, &bad).await.unwrap();
    let kept = fake.ssm.report(ID, TYPE).unwrap();
    let ids: Vec<_> = kept.items.iter().map(|i| (i.id.as_str(), i.status.as_str())).collect();
    assert_eq!(ids, [(HOST_ID, "NON_COMPLIANT"), ("openssl", "NON_COMPLIANT")]);
    assert_eq!((kept.items[1].severity.as_str(), kept.executed), ("CRITICAL", 1_790_000_000.0));
    assert_eq!(kept.items[1].details["CVEs"], "CVE-2026-1");
    assert_eq!(kept.execution.as_deref(), Some("run-1"));

    put(&ssm, &report(Verdict::Compliant, vec![])).await.unwrap();
    let kept = fake.ssm.report(ID, TYPE).unwrap();
    let ids: Vec<_> = kept.items.iter().map(|i| (i.id.as_str(), i.status.as_str())).collect();
    assert_eq!(ids, [(HOST_ID, "COMPLIANT")], "the whole list each time");
    assert!(fake.ssm.stats().violations.is_empty(), "{:?}", fake.ssm.stats());
}

#[tokio::test]
async fn a_report_of_an_unchanged_host_leaves_ssm_as_it_is() {
    let fake = Fake::start().unwrap();
    let ssm = ssm(&fake);
    let mut facts = report(Verdict::NonCompliant, vec![package("a", PackageState::Held)]);
    put(&ssm, &facts).await.unwrap();
    facts.at = Timestamp::from_secs(1_790_009_999);
    put(&ssm, &facts).await.unwrap();
    assert_eq!(fake.ssm.stats().unchanged.get("PutComplianceItems"), Some(&1));
    assert_eq!(fake.ssm.report(ID, TYPE).unwrap().executed, 1_790_000_000.0);
    // What SSM forgot, it has again: every call has the full list.
    fake.ssm.forget();
    put(&ssm, &facts).await.unwrap();
    assert_eq!(fake.ssm.report(ID, TYPE).unwrap().items.len(), 2);
}

#[tokio::test]
async fn a_host_with_more_packages_than_ssm_takes_is_reported_within_its_limits() {
    let fake = Fake::start().unwrap();
    let many = (0..12_000).map(|n| package(&format!("lib{n:06}"), PackageState::Missing));
    let facts = report(Verdict::NonCompliant, many.collect());
    put(&ssm(&fake), &facts).await.unwrap();
    let kept = fake.ssm.report(ID, TYPE).unwrap();
    let last = kept.items.last().unwrap();
    assert!(kept.items.len() <= 10_000);
    let left_out = 12_000 - (kept.items.len() - 2);
    assert!(last.title.starts_with(&format!("{left_out} more packages")), "{}", last.title);
    assert_eq!(last.status, "NON_COMPLIANT");
    ssm(&fake).put_inventory(&patch::inventory(&facts, ID)).await.unwrap();
    assert!(fake.ssm.table(ID, TYPE).unwrap().rows[0]["Reason"].contains("not listed"));
    assert!(fake.ssm.stats().violations.is_empty(), "{:?}", fake.ssm.stats());
}

#[tokio::test]
async fn inventory_goes_in_full_only_when_ssm_has_something_else() {
    let fake = Fake::start().unwrap();
    let ssm = ssm(&fake);
    let first = patch::inventory(
        &report(Verdict::NonCompliant, vec![package("a", PackageState::Held)]),
        ID,
    );
    assert_eq!(ssm.put_inventory(&first).await.unwrap(), Put::Stored);
    assert_eq!(ssm.put_inventory(&first).await.unwrap(), Put::Unchanged);
    let table = fake.ssm.table(ID, TYPE).unwrap();
    assert_eq!((table.rows, table.captured.as_str()), (first.rows.clone(), "2026-09-21T14:13:20Z"));
    let second = patch::inventory(&report(Verdict::Compliant, vec![]), ID);
    assert_eq!(ssm.put_inventory(&second).await.unwrap(), Put::Stored);
    fake.ssm.forget();
    assert_eq!(ssm.put_inventory(&second).await.unwrap(), Put::Stored);
    assert_eq!(fake.ssm.table(ID, TYPE).unwrap().rows, second.rows);
    assert!(fake.ssm.stats().violations.is_empty(), "{:?}", fake.ssm.stats());
}

#[tokio::test]
async fn each_refusal_says_whether_to_try_again_and_what_to_do() {
    let fake = Fake::start().unwrap();
    let ssm = ssm(&fake);
    let facts = report(Verdict::Compliant, vec![]);
    let cases = [
        (Faults { throttle: 2, ..Faults::default() }, "ThrottlingException", None),
        (Faults { error: 2, ..Faults::default() }, "InternalServerError", None),
        (Faults { denied: true, ..Faults::default() }, "AccessDenied", Some("ssm:PutCompliance")),
        (Faults { expired: true, ..Faults::default() }, "ExpiredToken", Some("credentials")),
        (Faults { unregistered: true, ..Faults::default() }, "Invalid", Some("amazon-ssm-agent")),
        (Faults { refuse: true, ..Faults::default() }, "", Some("VPC endpoint")),
        (Faults { hang: true, ..Faults::default() }, "timeout", Some("VPC endpoint")),
    ];
    for (faults, text, hint) in cases {
        fake.ssm.set_faults(faults.clone());
        let inventory = patch::inventory(&facts, ID);
        for e in
            [put(&ssm, &facts).await.unwrap_err(), ssm.put_inventory(&inventory).await.unwrap_err()]
        {
            let all = palisade_agent::errors::Chain(&e).to_string();
            assert!(all.starts_with("tell SSM") && all.contains(text), "{faults:?}: {all}");
            assert_eq!(e.again, Again::Later, "{all}");
            let hinted = e.hint.as_deref().unwrap_or_default();
            assert!(hint.is_none_or(|h| hinted.contains(h)), "{faults:?}: {hinted}");
        }
        // What was asked to pass passes then: a try of its own each time.
        fake.ssm.set_faults(Faults::default());
        put(&ssm, &facts).await.unwrap();
    }
}

#[tokio::test]
async fn what_ssm_will_never_take_is_not_to_be_tried_again() {
    let fake = Fake::start().unwrap();
    let mut upload = patch::compliance(&report(Verdict::Compliant, vec![]), ID);
    for item in &mut upload.items {
        item.title = "x".repeat(501);
    }
    let e = ssm(&fake).put(&upload).await.unwrap_err();
    assert_eq!((e.again, e.hint.is_some()), (Again::Never, true), "{e:?}");
}

#[tokio::test]
async fn an_answer_that_is_lost_does_no_harm_when_the_upload_is_sent_again() {
    let fake = Fake::start().unwrap();
    fake.ssm.set_faults(Faults { drop_ack: 1, ..Faults::default() });
    let ssm = ssm(&fake);
    let facts = report(Verdict::NonCompliant, vec![package("a", PackageState::Failed)]);
    assert_eq!(put(&ssm, &facts).await.unwrap_err().again, Again::Later);
    put(&ssm, &facts).await.unwrap();
    assert_eq!(fake.ssm.report(ID, TYPE).unwrap().items.len(), 2);
    assert_eq!(fake.ssm.stats().unchanged.get("PutComplianceItems"), Some(&1));
}

#[tokio::test]
async fn nobody_listening_is_an_error_with_a_hint() {
    let gone = Fake::start().unwrap().url();
    let e = put(&ssm_at(&gone), &report(Verdict::Compliant, vec![])).await.unwrap_err();
    assert!(e.hint.is_some_and(|h| h.contains("VPC endpoint")));
}
