//! The origin's secret from Parameter Store and from Secrets Manager, against strict stand-ins.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "allow-unwrap-in-tests covers test functions, not helpers"
)]

mod manager;

use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig};
use aws_sdk_ssm::{
    config::{Credentials, SharedCredentialsProvider},
    types::ParameterType,
};
use manager::Manager;
use palisade_agent::origin::{Answer, Location, SecretSource as _, SourceError, Stage};
use palisade_agent_aws::{Clients, HostIdentity, https_client, origin_secret::OriginSecrets};
use palisade_e2e::aws::Fake;

const ONE: &str = "OneSecretOneSecretOneSecretOneSecretOneSecret001";
const TWO: &str = "TwoSecretTwoSecretTwoSecretTwoSecretTwoSecret002";
const THREE: &str = "ThreeSecretThreeSecretThreeSecretThreeSecret003";

fn clients(url: &str) -> Clients {
    let credentials = Credentials::new("AKIDEXAMPLE", "not-a-secret", None, None, "test");
    let config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .endpoint_url(url)
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .http_client(https_client())
        .retry_config(RetryConfig::disabled())
        .build();
    Clients::with(config)
}

fn secrets(url: &str) -> OriginSecrets {
    let dir = std::env::temp_dir();
    OriginSecrets::with(clients(url), HostIdentity::kept_in(&dir)).unwrap()
}

/// Values with their stages, what was refused, and the tag.
fn offer(answer: Answer) -> (Vec<(String, Stage)>, Vec<String>, Option<String>) {
    let Answer::Offer { offered, refused, tag } = answer else { panic!("{answer:?}") };
    let all = offered.iter().map(|o| (o.secret.expose().to_owned(), o.stage)).collect();
    (all, refused, tag)
}

fn text(e: &SourceError) -> String {
    format!("{} {} {e:?}", palisade_agent::errors::Chain(e), e.hint.as_deref().unwrap_or(""))
}

async fn put(fake: &Fake, value: &str, kind: ParameterType) {
    let client = aws_sdk_ssm::Client::new(clients(&fake.url()).config());
    let call =
        client.put_parameter().name("/palisade/prod/origin-secret").value(value).r#type(kind);
    call.overwrite(true).send().await.unwrap();
}

#[tokio::test]
async fn a_parameter_gives_its_newest_version_and_the_one_before() {
    let fake = Fake::start().unwrap();
    let from = Location::SsmParameter("/palisade/prod/origin-secret".to_owned());
    let source = secrets(&fake.url());
    let e = text(&source.read(&from, None).await.unwrap_err());
    assert!(e.contains("ParameterNotFound") && e.contains("aws.region"), "{e}");

    put(&fake, ONE, ParameterType::SecureString).await;
    let (all, refused, tag) = offer(source.read(&from, None).await.unwrap());
    assert_eq!((all, refused), (vec![(ONE.to_owned(), Stage::Current)], vec![]));
    assert_eq!(source.read(&from, tag.as_deref()).await.unwrap(), Answer::Unchanged);

    put(&fake, TWO, ParameterType::SecureString).await;
    let (all, _, tag) = offer(source.read(&from, tag.as_deref()).await.unwrap());
    assert_eq!(all, [(TWO.to_owned(), Stage::Current), (ONE.to_owned(), Stage::Previous)]);

    // No secret, and it is not quoted.
    put(&fake, "not good enough!", ParameterType::SecureString).await;
    let (all, refused, _) = offer(source.read(&from, tag.as_deref()).await.unwrap());
    assert_eq!(all, [(TWO.to_owned(), Stage::Previous)]);
    assert!(refused.len() == 1 && !refused.concat().contains("good"), "{refused:?}");
    let violations = fake.ssm.stats().violations;
    assert!(violations.is_empty(), "{violations:?}");
}

#[tokio::test]
async fn a_parameter_that_is_not_encrypted_is_refused() {
    let fake = Fake::start().unwrap();
    put(&fake, ONE, ParameterType::String).await;
    let from = Location::SsmParameter("/palisade/prod/origin-secret".to_owned());
    let e = text(&secrets(&fake.url()).read(&from, None).await.unwrap_err());
    assert!(e.contains("SecureString") && !e.contains(ONE), "{e}");
}

#[tokio::test]
async fn a_secret_gives_what_is_current_and_what_is_pending_through_a_whole_rotation() {
    let fake = Manager::start();
    let from = Location::SecretsManager("palisade/prod/origin-secret".to_owned());
    let source = secrets(&fake.url());
    fake.has(&[("v1", Some(ONE), &["AWSCURRENT"])]);
    let (all, refused, tag) = offer(source.read(&from, None).await.unwrap());
    assert_eq!((all, refused), (vec![(ONE.to_owned(), Stage::Current)], vec![]));
    // Nothing new: no value is asked for.
    let before = fake.asked("GetSecretValue");
    assert_eq!(source.read(&from, tag.as_deref()).await.unwrap(), Answer::Unchanged);
    assert_eq!(fake.asked("GetSecretValue"), before);

    // The rotation begins: the label is there before the value.
    fake.has(&[("v1", Some(ONE), &["AWSCURRENT"]), ("v2", None, &["AWSPENDING"])]);
    let (all, _, tag) = offer(source.read(&from, tag.as_deref()).await.unwrap());
    assert_eq!((all, &tag), (vec![(ONE.to_owned(), Stage::Current)], &None));
    fake.has(&[("v1", Some(ONE), &["AWSCURRENT"]), ("v2", Some(TWO), &["AWSPENDING"])]);
    let (all, _, tag) = offer(source.read(&from, tag.as_deref()).await.unwrap());
    assert_eq!(all, [(ONE.to_owned(), Stage::Current), (TWO.to_owned(), Stage::Pending)]);

    // It ends: both labels are at one version.
    fake.has(&[
        ("v1", Some(ONE), &["AWSPREVIOUS"]),
        ("v2", Some(TWO), &["AWSCURRENT", "AWSPENDING"]),
        ("v0", Some(THREE), &[]),
    ]);
    let (all, _, tag) = offer(source.read(&from, tag.as_deref()).await.unwrap());
    assert_eq!(all, [(TWO.to_owned(), Stage::Current)]);
    assert!(tag.is_some());
    assert_eq!(fake.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn what_secrets_manager_refuses_says_what_to_do_and_no_value() {
    let fake = Manager::start();
    let source = secrets(&fake.url());
    let from = Location::SecretsManager("palisade/prod/origin-secret".to_owned());
    let read = async || text(&source.read(&from, None).await.unwrap_err());
    fake.has(&[]);
    assert!(read().await.contains("AWSCURRENT"));
    fake.refuses(Some((400, "AccessDeniedException")));
    let e = read().await;
    assert!(e.contains("allow secretsmanager:DescribeSecret"), "{e}");
    fake.refuses(Some((400, "ResourceNotFoundException")));
    let e = read().await;
    assert!(e.contains("aws.region"), "{e}");
    fake.refuses(Some((500, "InternalServiceError")));
    assert!(read().await.contains("InternalServiceError"));
    fake.refuses(None);
    fake.has(&[("v1", Some("{\"secret\": \"in JSON\"}"), &["AWSCURRENT"])]);
    let (all, refused, _) = offer(source.read(&from, None).await.unwrap());
    assert!(all.is_empty() && refused.len() == 1, "{refused:?}");
    assert!(!refused.concat().contains("JSON"), "{refused:?}");
    fake.says_only("not JSON at all: OneSecret");
    let e = read().await;
    assert!(e.contains("is not what Secrets Manager says") && !e.contains("OneSecret"), "{e}");
    fake.says_only(&"x".repeat(300_000));
    assert!(read().await.contains("bytes"));
    drop(fake);
    let e = read().await;
    assert!(e.contains("VPC endpoint"), "{e}");
}
