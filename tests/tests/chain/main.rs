//! The whole chain: a package on a fresh host, a Django site behind NGINX reached from CloudFront's
//! edge, its lines in CloudWatch, a security patch from a signed repository, the agent upgraded under
//! load, compliance in SSM, and an admin's login, file and tunnel.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test: what fails here fails it")]

mod admin;
mod edge;
mod late;
mod origin;

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use palisade_agent_aws::compliance::TYPE;
use palisade_e2e::aws::{Fake, logs::Faults};
use palisade_hosts::{
    imds::{Identity, Imds},
    lab::{GATEWAY, Lab},
    nspawn::Host,
    packages::{NEW, OLD, Packages},
    repo::{Archive, Deb, SECURITY},
    trees::{for_hosts, workspace},
    wait::wait_for,
};

use self::{
    edge::{Load, visit},
    origin::{ADDRESS, AWS_PORT, WEB_GROUP},
};

/// An address of CloudFront's published ranges.
const EDGE: Ipv4Addr = Ipv4Addr::new(130, 176, 0, 10);
const ID: &str = "i-0c0ffee0c0ffee001";
/// How long a step may take on a loaded machine.
const CAP: Duration = Duration::from_secs(180);

/// An archive in which one package has a security update hidden behind a newer version, and another
/// one has only new features.
fn archive() -> Archive {
    let mut archive = Archive::new().unwrap();
    for (suite, name, version) in [
        ("stable", "lab-lib", "1.0"),
        ("stable", "lab-feature", "1.0"),
        (SECURITY, "lab-lib", "1.1"),
        ("stable-updates", "lab-lib", "1.2"),
        ("stable-updates", "lab-feature", "2.0"),
    ] {
        archive.add(suite, &Deb::new(name, version)).unwrap();
    }
    archive.publish().unwrap();
    archive
}

/// Both versions and a place for hosts; else the reason is printed.
fn packages() -> Option<Packages> {
    for_hosts().and_then(|_| Packages::debs()).inspect_err(|why| println!("{why}")).ok()
}

#[test]
fn from_a_package_to_a_patched_origin_without_a_failed_request_or_a_lost_line() {
    let Some(packages) = packages() else { return };
    let lab = Lab::new().unwrap();
    lab.add_address(&format!("{EDGE}/32")).unwrap();
    let imds = Imds::start(&lab).unwrap();
    imds.set(ADDRESS.into(), Identity::new(ID));
    let aws = SocketAddr::new(GATEWAY.parse().unwrap(), AWS_PORT);
    let aws = Fake::serve(lab.listen(aws).unwrap(), Faults::default(), true).unwrap();
    let archive = archive();
    let installed = ["lab-lib_1.0_amd64.deb", "lab-feature_1.0_amd64.deb"];
    let host = origin::boot(&lab, &workspace().join("demo/site"), &archive, &installed);

    origin::install(&host, &packages.deb(OLD));
    let web = SocketAddr::new(ADDRESS.into(), 80);
    let (edge, elsewhere) = (IpAddr::from(EDGE), GATEWAY.parse().unwrap());
    wait_for("the site at the edge", CAP, || visit(&lab, edge, web, Duration::from_secs(10)).ok());
    let refused = visit(&lab, elsewhere, web, Duration::from_secs(3));
    assert!(refused.is_err(), "the origin answers to somebody who is not CloudFront");

    let load = Load::start(&lab, edge, web);
    let before = Lives::of(&host);
    patch(&host, &aws);
    upgrade(&host, &packages);
    assert_eq!(Lives::of(&host), before, "agent and programs are the processes that they were");
    let (enough, from) = (50, load.sent());
    wait_for("more traffic after the upgrade", CAP, || {
        (load.sent() >= from + enough).then_some(())
    });

    admin::log_in(&lab, &host, &packages);

    let traffic = load.finish().unwrap();
    assert_eq!(traffic.failed, 0, "{:#?}", traffic.failures);
    let seen = wait_for("every line in CloudWatch", CAP, || {
        let seen = requests_in(&aws);
        traffic.answered.iter().all(|n| seen.contains_key(n)).then_some(seen)
    });
    let doubled = traffic.answered.iter().filter(|n| seen[n] > 1).count();
    assert_eq!(doubled, 0, "lines that arrived twice");
    let (logs, ssm) = (aws.logs.stats(), aws.ssm.stats());
    assert!(logs.violations.is_empty() && ssm.violations.is_empty(), "{logs:?} {ssm:?}");
    assert!(logs.streams.keys().all(|s| s.contains(ID)), "{:?}", logs.streams.keys());
    println!(
        "{} requests, 0 failed, slowest {:?}; {} lines arrived, 0 lost; compliance by {} uploads",
        traffic.answered.len(),
        traffic.slowest,
        logs.lines,
        ssm.done.get("PutComplianceItems").copied().unwrap_or(0),
    );
}

/// Processes that must not change.
#[derive(Debug, PartialEq, Eq)]
struct Lives {
    agent: String,
    programs: Vec<String>,
}

impl Lives {
    fn of(host: &Host) -> Self {
        let status = host.ok("palisade status --json");
        let status: Vec<serde_json::Value> = serde_json::from_str(&status).unwrap();
        let life = |p: &serde_json::Value| format!("{} {}", p["name"], p["pid"]);
        let programs = status.iter().map(life).collect();
        Self { agent: host.property("palisade.service", "MainPID"), programs }
    }
}

/// The security update, and nothing else; what SSM says before and after.
fn patch(host: &Host, aws: &Fake) {
    let before = wait_for("a report in SSM", CAP, || aws.ssm.report(ID, TYPE));
    let missing = before.items.iter().find(|i| i.id == "lab-lib").map(|i| i.status.as_str());
    assert_eq!(missing, Some("NON_COMPLIANT"), "{before:?}");
    let plan = host.ok("palisade patch plan");
    assert!(plan.contains("lab-lib 1.0 -> 1.1") && !plan.contains("lab-feature"), "{plan}");
    let said = host.ok("palisade patch run --now");
    let version = |name: &str| host.ok(&format!("dpkg-query -W -f '${{Version}}' {name}"));
    assert_eq!(version("lab-lib"), "1.1", "{said}");
    assert_eq!(version("lab-feature"), "1.0", "no security update, so it stays");
    let report = wait_for("a compliant report in SSM", CAP, || {
        let report = aws.ssm.report(ID, TYPE)?;
        report.items.iter().all(|i| i.status == "COMPLIANT").then_some(report)
    });
    assert!(report.items.iter().any(|i| i.title.contains("lab-lib")), "{report:?}");
    let table = aws.ssm.table(ID, TYPE).unwrap();
    assert_eq!(table.rows[0]["State"], "COMPLIANT", "{table:?}");
}

/// The agent's next version, by its package.
fn upgrade(host: &Host, packages: &Packages) {
    host.copy_in(&packages.deb(NEW), "/var/tmp/palisade.deb");
    let said = host.ok("dpkg -i /var/tmp/palisade.deb");
    let status = host.ok("palisade status");
    assert!(status.contains(&format!("palisade {NEW}")), "{status}\n{said}");
}

/// The numbers of the requests that the site's lines in CloudWatch speak of, and how often.
fn requests_in(aws: &Fake) -> HashMap<u64, u32> {
    let mut seen = HashMap::new();
    for line in aws.logs.messages(WEB_GROUP) {
        let number =
            line.split_once("/?n=").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
        if let Some(n) = number {
            *seen.entry(n).or_default() += 1;
        }
    }
    seen
}
