//! Lists of EC2, asked of a strict fake that checks signatures and does all that services do wrong.
#![expect(clippy::unwrap_used, reason = "allow-unwrap-in-tests covers test functions, not helpers")]

use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use palisade_agent::{
    errors::Chain,
    firewall::{Ec2List, Feed as _, FeedLocation, Fetched, LoadBalancer, ORIGIN_FACING_LISTS},
};
use palisade_agent_aws::{Clients, HostIdentity, ec2::Ec2};
use palisade_e2e::aws::ec2::{Fake, Faults, Interface, PrefixList, Subnet};
use tokio::time::Instant;

const VPC: &str = "vpc-0123456789abcdef0";

fn reader(fake: &Fake) -> Ec2 {
    reader_of(&fake.url(), "test")
}

fn reader_of(url: &str, secret: &str) -> Ec2 {
    let credentials = Credentials::new("test", secret, None, None, "test");
    let config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .endpoint_url(url)
        .build();
    let host = HostIdentity::kept_in(std::path::Path::new("/nowhere"))
        .with_metadata_at("http://127.0.0.1:1");
    Ec2::with(Clients::with(config), host).unwrap()
}

async fn ask(ec2: &Ec2, list: Ec2List) -> Result<(Vec<String>, bool), String> {
    match ec2.fetch(&FeedLocation::Ec2(list), None).await {
        Ok(Fetched::Prefixes { mut prefixes, is_amazons }) => {
            prefixes.sort();
            Ok((prefixes, is_amazons))
        }
        Ok(other @ (Fetched::NotModified | Fetched::Body { .. })) => Err(format!("{other:?}")),
        Err(e) => Err(Chain(&e).to_string()),
    }
}

fn list(name: &str) -> Ec2List {
    Ec2List::PrefixList(name.to_owned())
}

fn origins() -> Ec2List {
    Ec2List::VpcOrigins(Some(VPC.to_owned()))
}

fn balancer(name: &str, whole_subnets: bool) -> Ec2List {
    Ec2List::LoadBalancer(LoadBalancer { name: name.to_owned(), whole_subnets })
}

fn amazons(cidrs: Vec<String>) -> PrefixList {
    PrefixList {
        id: "pl-0123456789abcdef0".to_owned(),
        name: ORIGIN_FACING_LISTS[0].to_owned(),
        owner: "AWS".to_owned(),
        version: None,
        cidrs,
    }
}

fn clean(fake: &Fake) {
    assert!(fake.ec2.stats().violations.is_empty(), "{:?}", fake.ec2.stats().violations);
}

#[tokio::test]
async fn a_prefix_list_is_read_whole_over_its_pages_by_name_and_by_id() {
    let fake = Fake::start().unwrap();
    let cidrs: Vec<String> = (0..=250).map(|i| format!("13.0.{i}.0/24")).collect();
    let own = PrefixList {
        id: "pl-00000001".to_owned(),
        name: "office".to_owned(),
        owner: "123456789012".to_owned(),
        version: Some(7),
        cidrs: vec!["10.9.0.0/24".to_owned()],
    };
    fake.ec2.put_lists(vec![amazons(cidrs.clone()), own]);
    let ec2 = reader(&fake);
    for name in [ORIGIN_FACING_LISTS[0], "pl-0123456789abcdef0"] {
        let (mut got, is_amazons) = ask(&ec2, list(name)).await.unwrap();
        let mut want = cidrs.clone();
        want.sort();
        got.sort();
        assert_eq!((got, is_amazons), (want, true));
    }
    assert_eq!(fake.ec2.stats().calls["GetManagedPrefixListEntries"], 6, "three pages each");
    let office = ask(&ec2, list("office")).await.unwrap();
    assert_eq!(office, (vec!["10.9.0.0/24".to_owned()], false));
    let why = ask(&ec2, list("nowhere")).await.unwrap_err();
    assert!(why.contains("no prefix list nowhere"), "{why}");
    let why = ask(&ec2, list("pl-00000002")).await.unwrap_err();
    assert!(why.contains("InvalidPrefixListID.NotFound"), "{why}");
    clean(&fake);
}

#[tokio::test]
async fn interfaces_of_vpc_origins_are_found_by_group_and_by_tag_in_the_one_vpc() {
    let fake = Fake::start().unwrap();
    let ec2 = reader(&fake);
    let none = ask(&ec2, origins()).await;
    assert_eq!(none, Ok((Vec::new(), false)), "no origin yet is no failure");
    let made = |vpc: &str, v4: &str, v6: &[&str]| Interface {
        vpc: vpc.to_owned(),
        v4: vec![v4.to_owned()],
        v6: v6.iter().map(|a| (*a).to_owned()).collect(),
        ..Interface::default()
    };
    let group = |i: Interface| Interface {
        groups: vec!["CloudFront-VPCOrigins-Service-SG".to_owned()],
        ..i
    };
    let tag = |i: Interface| Interface {
        tags: [("aws.cloudfront.vpcorigin".to_owned(), "enabled".to_owned())].into(),
        ..i
    };
    fake.ec2.put_interfaces(vec![
        group(made(VPC, "10.0.1.5", &["2600:1f18::5"])),
        tag(made(VPC, "10.0.2.5", &[])),
        tag(group(made(VPC, "10.0.3.5", &[]))),
        group(made("vpc-00000001", "10.0.4.5", &[])),
        made(VPC, "10.0.5.5", &[]),
    ]);
    let found = ask(&ec2, origins()).await.unwrap().0;
    assert_eq!(found, ["10.0.1.5/32", "10.0.2.5/32", "10.0.3.5/32", "2600:1f18::5/128"]);
    // Which VPC it is nobody says here, and all of them would be too many.
    let why = ask(&ec2, Ec2List::VpcOrigins(None)).await.unwrap_err();
    assert!(why.contains("name it by vpc"), "{why}");
    clean(&fake);
}

#[tokio::test]
async fn a_load_balancer_is_its_interfaces_or_their_subnets_and_nothing_that_only_says_so() {
    let fake = Fake::start().unwrap();
    let ec2 = reader(&fake);
    let at = |description: &str, subnet: &str, v4: &str, requester_managed| Interface {
        description: description.to_owned(),
        subnet: subnet.to_owned(),
        v4: vec![v4.to_owned()],
        requester_managed,
        ..Interface::default()
    };
    fake.ec2.put_interfaces(vec![
        at("ELB app/web/50dc6c495c0c9188", "subnet-00000001", "10.0.1.9", true),
        at("ELB app/web/50dc6c495c0c9188", "subnet-00000002", "10.0.2.9", true),
        at("ELB app/web/50dc6c495c0c9188", "subnet-00000003", "10.0.3.9", false),
        at("ELB app/web-2/0000000000000000", "subnet-00000003", "10.0.3.8", true),
    ]);
    let subnet = |n: u8, v6: Option<&str>| Subnet {
        id: format!("subnet-0000000{n}"),
        v4: format!("10.0.{n}.0/24"),
        v6: v6.map(str::to_owned),
    };
    fake.ec2.put_subnets(vec![
        subnet(1, Some("2600:1f18:0:1::/64")),
        subnet(2, None),
        subnet(3, None),
    ]);
    for name in ["web", "web/50dc6c495c0c9188"] {
        let found = ask(&ec2, balancer(name, false)).await.unwrap().0;
        assert_eq!(found, ["10.0.1.9/32", "10.0.2.9/32"]);
        let found = ask(&ec2, balancer(name, true)).await.unwrap().0;
        assert_eq!(found, ["10.0.1.0/24", "10.0.2.0/24", "2600:1f18:0:1::/64"]);
    }
    let ids = |n: &[u8]| Ec2List::Subnets(n.iter().map(|n| format!("subnet-0000000{n}")).collect());
    assert_eq!(ask(&ec2, ids(&[3])).await.unwrap().0, ["10.0.3.0/24"]);
    let why = ask(&ec2, ids(&[3, 4])).await.unwrap_err();
    assert!(why.contains("1 of the 2 subnets"), "{why}");
    assert!(ask(&ec2, balancer("gone", true)).await.unwrap().0.is_empty(), "none is not all");
    clean(&fake);
}

#[tokio::test]
async fn what_ec2_refuses_or_garbles_is_a_clear_error_and_never_half_a_list() {
    let fake = Fake::start().unwrap();
    let cidrs: Vec<String> = (0..=250).map(|i| format!("13.0.{i}.0/24")).collect();
    fake.ec2.put_lists(vec![amazons(cidrs)]);
    let ec2 = reader(&fake);
    let entries = "GetManagedPrefixListEntries";
    let deny = |action: &str| Faults { deny: Some(action.to_owned()), ..Faults::default() };
    let garbage = |text: &str| Faults { garbage: Some(text.to_owned()), ..Faults::default() };
    let bomb = "<!DOCTYPE a [<!ENTITY b \"bbbb\">]><DescribeManagedPrefixListsResponse>&b;\
                </DescribeManagedPrefixListsResponse>";
    let huge = format!("<DescribeManagedPrefixListsResponse>{}", " ".repeat(5 << 20));
    for (faults, says) in [
        (deny(entries), "(allow ec2:GetManagedPrefixListEntries to the instance's role)"),
        (deny("DescribeManagedPrefixLists"), "(allow ec2:DescribeManagedPrefixLists to the"),
        (garbage(""), "cannot be read"),
        (garbage("<html>busy</html>"), "it is a \"html\""),
        (garbage("<DescribeManagedPrefixListsResponse><prefixListSet>"), "cannot be read"),
        (garbage(bomb), "cannot be read"),
        (garbage(&huge), "more than 4194304 bytes"),
        (Faults { endless: true, ..Faults::default() }, "more than 64 pages"),
        (Faults { circle: true, ..Faults::default() }, "go round in a circle"),
        (Faults { broken: true, ..Faults::default() }, "InternalError"),
        (Faults { throttle: 100, ..Faults::default() }, "RequestLimitExceeded"),
    ] {
        fake.ec2.set_faults(faults);
        let started = Instant::now();
        let why = ask(&ec2, list(ORIGIN_FACING_LISTS[0])).await.unwrap_err();
        assert!(why.contains(says), "{says}: {why}");
        assert!(started.elapsed() < Duration::from_secs(15), "{says}");
    }
    clean(&fake);
}

#[tokio::test]
async fn a_throttled_question_is_asked_again_and_small_pages_make_the_same_list() {
    let fake = Fake::start().unwrap();
    let cidrs: Vec<String> = (0..50).map(|i| format!("13.0.{i}.0/24")).collect();
    fake.ec2.put_lists(vec![amazons(cidrs)]);
    fake.ec2.set_faults(Faults { throttle: 2, page: Some(7), ..Faults::default() });
    let found = ask(&reader(&fake), list(ORIGIN_FACING_LISTS[0])).await.unwrap().0;
    assert_eq!(found.len(), 50);
    clean(&fake);
}

#[tokio::test]
async fn a_wrong_key_and_an_endpoint_that_is_away_say_what_to_look_at() {
    let fake = Fake::start().unwrap();
    let why = ask(&reader_of(&fake.url(), "wrong"), origins()).await.unwrap_err();
    assert!(why.contains("AuthFailure") && why.contains("check the host's clock"), "{why}");
    assert!(!why.contains("wrong"), "the key is told: {why}");
    let why = ask(&reader_of("http://127.0.0.1:1", "test"), origins()).await.unwrap_err();
    assert!(why.contains("ask http://127.0.0.1:1/ for DescribeNetworkInterfaces"), "{why}");
}
