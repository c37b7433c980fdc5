//! Facts to report, and a client for the fake.

use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_ssm::config::{Credentials, SharedCredentialsProvider};
use palisade_agent::{
    clock::Timestamp,
    patch::{PackageItem, PackageState, Report, Severity, Verdict},
};
use palisade_agent_aws::{Clients, compliance::SsmCompliance, https_client};
use palisade_e2e::aws::Fake;

pub(crate) const ID: &str = "i-0123456789abcdef0";

pub(crate) fn ssm(fake: &Fake) -> SsmCompliance {
    ssm_at(&fake.url())
}

pub(crate) fn ssm_at(url: &str) -> SsmCompliance {
    let credentials = Credentials::new("AKIDEXAMPLE", "not-a-secret", None, None, "test");
    let timeouts = TimeoutConfig::builder().operation_attempt_timeout(Duration::from_secs(3));
    let config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .endpoint_url(url)
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .http_client(https_client())
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts.build())
        .build();
    SsmCompliance::new(&Clients::with(config))
}

pub(crate) fn package(name: &str, state: PackageState) -> PackageItem {
    PackageItem {
        name: name.to_owned(),
        installed: Some("1.0".to_owned()),
        available: Some("1.1".to_owned()),
        state,
        severity: Severity::Critical,
        cves: vec!["CVE-2026-1".to_owned()],
        why: "kept back: \"libx\"\nis held \u{1F512}".to_owned(),
    }
}

pub(crate) fn report(verdict: Verdict, items: Vec<PackageItem>) -> Report {
    Report {
        at: Timestamp::from_millis(1_790_000_000_789),
        run: Some("run-1".to_owned()),
        verdict,
        items,
        release: None,
        lists_age_s: Some(60),
    }
}
