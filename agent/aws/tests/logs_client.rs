//! One client of CloudWatch Logs and what the service, or what is in front of it, may answer.

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig};
use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, SharedCredentialsProvider, future},
};
use palisade_agent::{
    clock::Timestamp,
    logs::{Batch, CloudLogs as _, Failure, NewGroups, Outcome},
};
use palisade_agent_aws::{Clients, https_client, logs::CloudWatch};
use palisade_e2e::aws::logs::{Fake, Faults};

/// Says that its credentials are good until 2100, and counts who asks.
#[derive(Clone, Debug, Default)]
struct Source(Arc<AtomicU32>);

impl ProvideCredentials for Source {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let n = self.0.fetch_add(1, Ordering::Relaxed);
        let expiry = UNIX_EPOCH + Duration::from_secs(4_102_444_800);
        future::ProvideCredentials::ready(Ok(Credentials::new(
            format!("AKID{n}"),
            "not-a-secret",
            Some(format!("token{n}")),
            Some(expiry),
            "test",
        )))
    }
}

fn client(fake: &Fake, source: &Source, compress: bool) -> CloudWatch {
    client_at(&fake.url(), source, compress)
}

fn client_at(url: &str, source: &Source, compress: bool) -> CloudWatch {
    let config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .endpoint_url(url)
        .http_client(https_client())
        .retry_config(RetryConfig::disabled())
        .credentials_provider(SharedCredentialsProvider::new(source.clone()))
        .build();
    CloudWatch::new(&Clients::with(config), compress)
}

#[tokio::test]
async fn credentials_that_the_service_finds_expired_are_asked_for_anew() {
    let fake = Fake::start(Faults::default()).unwrap();
    let source = Source::default();
    let logs = client(&fake, &source, false);
    let asked = || source.0.load(Ordering::Relaxed);
    let mut batch = Batch::new(1, 0);
    batch.push(Timestamp::from_millis(1), "line", 1).unwrap();
    let batch = Arc::new(batch);
    logs.ensure_stream("/g", "s", &NewGroups::default()).await.unwrap();
    let put = || logs.put("/g", "s", &batch);
    // It is of 1970, but that is for the service to say.
    assert!(matches!(put().await, Outcome::AcceptedBut(_)));
    assert!(matches!(put().await, Outcome::AcceptedBut(_)));
    assert_eq!(asked(), 1);
    fake.set_faults(Faults { expired: true, ..Faults::default() });
    assert!(matches!(put().await, Outcome::Failed(Failure::Credentials(_))));
    fake.set_faults(Faults::default());
    assert!(matches!(put().await, Outcome::AcceptedBut(_)));
    assert_eq!(asked(), 2);
}

#[tokio::test]
async fn what_cannot_have_arrived_is_told_from_what_may_have() {
    let mut batch = Batch::new(1, 0);
    batch.push(Timestamp::from_millis(1), "line", 1).unwrap();
    let batch = Arc::new(batch);
    let source = Source::default();
    let fake = Fake::start(Faults { cut: 1.0, ..Faults::default() }).unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    // Nobody listens; nobody has the name; who listens speaks no TLS.
    let plain = fake.url().replace("http:", "https:");
    for url in [&format!("http://{free}"), "http://nobody.invalid", &plain] {
        let outcome = client_at(url, &source, false).put("/g", "s", &batch).await;
        assert!(matches!(outcome, Outcome::Failed(Failure::NotSent(_))), "{url}: {outcome:?}");
    }
    let logs = client(&fake, &source, false);
    assert!(matches!(logs.put("/g", "s", &batch).await, Outcome::Failed(Failure::Unavailable(_))));
}

#[tokio::test]
async fn an_endpoint_that_takes_no_gzip_is_sent_plain_bodies() {
    let fake = Fake::start(Faults { no_gzip: true, ..Faults::default() }).unwrap();
    let logs = client(&fake, &Source::default(), true);
    let mut batch = Batch::new(1, 0);
    for n in 0..100 {
        batch.push(Timestamp::from_millis(1), &format!("{n} a line of some length"), 1).unwrap();
    }
    let batch = Arc::new(batch);
    logs.ensure_stream("/g", "s", &NewGroups::default()).await.unwrap();
    assert!(matches!(logs.put("/g", "s", &batch).await, Outcome::Failed(Failure::Throttled)));
    assert!(matches!(logs.put("/g", "s", &batch).await, Outcome::AcceptedBut(_)));
    assert_eq!(fake.stats().violations.len(), 0);
}

#[tokio::test]
async fn the_retention_of_a_new_group_is_tried_five_times() {
    for (throttles, wanted) in [(4, Some(30)), (5, None)] {
        let fake = Fake::start(Faults { retention_throttles: throttles, ..Faults::default() });
        let fake = fake.unwrap();
        let logs = client(&fake, &Source::default(), true);
        let new = NewGroups { retention_days: Some(30), kms_key: None };
        // Logs come first: a group that keeps them for ever is better than none.
        logs.ensure_stream("/g", "s", &new).await.unwrap();
        let stats = fake.stats();
        let kept: Vec<_> = stats.streams.values().map(|s| s.retention_days).collect();
        assert_eq!(kept, [wanted], "{throttles}");
    }
}
