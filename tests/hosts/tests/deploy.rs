//! Deployments of a real Django site by CodeDeploy's rules on a real systemd host: the revision and the
//! hooks are those of `deploy/codedeploy`, the visitors come through NGINX from the network.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "tests: what fails here fails the test, on plain threads and real time"
)]

#[path = "common/codedeploy.rs"]
mod codedeploy;
#[path = "common/django.rs"]
mod django;
#[path = "common/visitors.rs"]
mod visitors;

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use palisade_hosts::{lab::Lab, nspawn::Host, packages::Packages, trees};

use self::{
    codedeploy::{Event, Failed, Group, Outcome},
    django::{Flaw, Revisions, SITE},
    visitors::{Visitors, get},
};

const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 21);

/// A host to deploy to, or the reason why there is none.
fn fresh_host() -> Result<(Lab, Host), String> {
    trees::for_hosts()?;
    let packages = Packages::debs()?;
    let lab = Lab::new().map_err(|e| format!("skipped: no network for hosts: {e:#}"))?;
    let host = Host::boot(Some(&lab), django::host("origin", &packages).address(ADDRESS));
    host.ok("systemctl is-active palisade redis-server");
    Ok((lab, host))
}

/// Which revision the site is served by.
fn serving(lab: &Lab) -> String {
    let to = SocketAddr::from((ADDRESS, 80));
    let answer = lab.inside(|| Ok(get(to, SITE, "/")?)).unwrap();
    let header = answer.lines().find_map(|l| l.strip_prefix("X-Release: "));
    header.unwrap_or_else(|| panic!("no release in: {answer}")).trim().to_owned()
}

fn failed_at(outcome: &Outcome, event: Event, script: &str) {
    let expected = Err(Failed { event, script: script.to_owned() });
    assert_eq!(outcome.result, expected, "{}", outcome.log);
}

fn rolled_back(outcome: &Outcome) -> &Outcome {
    let rollback = outcome.rollback.as_deref().unwrap();
    assert_eq!(rollback.result, Ok(()), "{}", rollback.log);
    rollback
}

/// The agent's processes of a program, with their pids.
fn pids(host: &Host, program: &str) -> String {
    host.ok(&format!("palisade status {program} | sed -n 's/.*RUNNING *pid \\([0-9]*\\).*/\\1/p'"))
}

#[test]
fn a_site_is_deployed_under_load_and_broken_revisions_never_cost_a_visitor_a_page() {
    let (lab, host) = match fresh_host() {
        Ok(both) => both,
        Err(why) => return println!("{why}"),
    };
    let revisions = Revisions::new();
    let v1 = revisions.make("v1", Flaw::None);
    let v2 = revisions.make("v2", Flaw::None);
    let mut group = Group::new(&host, "prod");

    // The first one, onto a host that has nothing yet.
    let first = group.deploy(&v1);
    assert_eq!(first.result, Ok(()), "{}", first.log);
    assert_eq!(serving(&lab), "v1");
    assert!(first.log.contains("Applying guestbook.0001_initial"), "{}", first.log);

    let visitors = Visitors::come(&lab, SocketAddr::from((ADDRESS, 80)), SITE, "/health");

    let second = group.deploy(&v2);
    assert_eq!(second.result, Ok(()), "{}", second.log);
    assert_eq!(serving(&lab), "v2");
    // The code belongs to another user than the one that runs it.
    assert_eq!(host.ok("stat -Lc %U /srv/app/current/site/manage.py").trim(), "deploy");
    assert_eq!(host.ok("ps -o user= -C gunicorn,celery | sort -u").trim(), "app");
    let web = pids(&host, "web");

    // One that cannot be imported: found before the switch, and no process was restarted.
    let broken = revisions.make("v3", Flaw::Import);
    let mut stopped = group.begin(&broken);
    let ended = group.go_on(&mut stopped, Event::ValidateService);
    let expected = Failed { event: Event::AfterInstall, script: "hooks/check".to_owned() };
    assert_eq!(ended, Err(expected), "{}", stopped.log);
    assert_eq!(pids(&host, "web"), web, "{}", stopped.log);
    assert!(stopped.log.contains("No module named 'no_such_module'"), "{}", stopped.log);

    // One with a migration that nobody allowed.
    let outcome = group.deploy(&revisions.make("v4", Flaw::Migration));
    failed_at(&outcome, Event::AfterInstall, "hooks/check");
    assert!(outcome.log.contains("0002_more"), "{}", outcome.log);
    rolled_back(&outcome);

    // One that only fails once the agent starts it: the hook puts the good one back by itself.
    let before = host.ok("readlink /srv/app/current");
    let workers = pids(&host, "worker");
    let mut stopped = group.begin(&revisions.make("v5", Flaw::UnderTheAgent));
    let ended = group.go_on(&mut stopped, Event::ValidateService);
    let expected = Failed { event: Event::ApplicationStart, script: "hooks/switch".to_owned() };
    assert_eq!(ended, Err(expected), "{}", stopped.log);
    assert_eq!(host.ok("readlink /srv/app/current"), before);
    assert_eq!(serving(&lab), "v2");
    assert_eq!(pids(&host, "worker"), workers, "a release that does not come up costs no tasks");

    // One that NGINX cannot serve in full: put back by the hook, then deployed again by CodeDeploy.
    let outcome = group.deploy(&revisions.make("v6", Flaw::NoStyle));
    failed_at(&outcome, Event::ValidateService, "hooks/validate");
    assert!(outcome.log.contains("puts d-PROD"), "{}", outcome.log);
    let rollback = rolled_back(&outcome);
    assert_eq!(host.ok("readlink /srv/app/current").trim(), format!("releases/{}", rollback.id));
    assert_eq!(serving(&lab), "v2");

    let seen = visitors.go();
    println!("{} requests, the longest took {:?}", seen.good, seen.longest);
    assert!(seen.bad.is_empty() && seen.good > 500, "{seen:?}");

    // What is old goes, what serves and what would be put back stays.
    let releases: u32 = host.ok("ls /srv/app/releases | wc -l").trim().parse().unwrap();
    assert!((2..=4).contains(&releases), "{}", host.ok("ls -l /srv/app /srv/app/releases"));
    host.ok("test -e /srv/app/current/built && test ! -e /run/site-deploy/owner");
}

#[test]
fn a_first_deployment_that_fails_leaves_nothing_half_switched() {
    let (_lab, host) = match fresh_host() {
        Ok(both) => both,
        Err(why) => return println!("{why}"),
    };
    let revisions = Revisions::new();
    let mut group = Group::new(&host, "prod");
    let outcome = group.deploy(&revisions.make("v1", Flaw::UnderTheAgent));
    failed_at(&outcome, Event::ApplicationStart, "hooks/switch");
    assert!(outcome.rollback.is_none());
    host.ok("test ! -e /srv/app/current && test ! -e /run/site-deploy/owner");
}

#[test]
fn a_second_deployment_at_the_same_time_is_refused() {
    let (lab, host) = match fresh_host() {
        Ok(both) => both,
        Err(why) => return println!("{why}"),
    };
    let revisions = Revisions::new();
    let (v1, v2) = (revisions.make("v1", Flaw::None), revisions.make("v2", Flaw::None));
    let mut prod = Group::new(&host, "prod");
    let mut other = Group::new(&host, "other");

    // Between two hooks of one deployment no process of it lives.
    let mut first = prod.begin(&v1);
    prod.go_on(&mut first, Event::AfterInstall).unwrap();
    let second = other.deploy(&v2);
    failed_at(&second, Event::BeforeInstall, "hooks/prepare");
    assert!(
        second.log.contains(&format!("deployment {} of group prod", first.id)),
        "{}",
        second.log
    );
    assert_eq!(prod.go_on(&mut first, Event::ValidateService), Ok(()), "{}", first.log);
    assert_eq!(serving(&lab), "v1");

    // While a hook runs not even the same group gets in.
    let log = tempfile::NamedTempFile::new().unwrap();
    let line = "exec flock /run/site-deploy/guard sh -c 'touch /run/held; exec sleep 60'";
    let mut holder = host.start_line(line, log.path());
    host.wait_ok(Duration::from_secs(10), "test -e /run/held");
    let mut third = prod.begin(&v2);
    let ended = prod.go_on(&mut third, Event::ValidateService);
    assert!(ended.is_err() && third.log.contains("hook is running"), "{}", third.log);
    host.ok("pkill -x sleep");
    holder.wait().unwrap();

    // And then the host is free.
    let last = other.deploy(&v2);
    assert_eq!(last.result, Ok(()), "{}", last.log);
    assert_eq!(serving(&lab), "v2");
}
