//! Logins that do not want to end.

use super::{
    super::testutil::{Host, at, attempt, person, request, sshd},
    *,
};

fn grant() -> Grant {
    let (asked, now) = (request(1), at(0));
    Grant {
        id: asked.id,
        user: asked.user,
        uid: person().uid,
        key: asked.key,
        only: asked.only,
        target: asked.target,
        source: asked.source,
        owner: asked.owner,
        reason: asked.reason,
        granted_at: now.wall,
        expires_at: now.wall,
        granted_boot: now.boot,
        deadline: now.boot,
        ended: None,
        warned: 0,
        sessions: vec![attempt(10, now)],
    }
}

/// A login, with one program that does nothing but at SIGKILL.
fn login(host: &Host) {
    host.with(|w| {
        w.logins.insert(sshd(10), true);
        w.programs.insert(sshd(10), [sshd(1000)].into());
        w.stubborn.insert(sshd(1000));
    });
}

/// The steps until it is over or given up, and how it ended.
fn run(host: &Host, how: Ended) -> (u64, Progress) {
    let start = at(0).boot;
    let mut closing = Closing::new(&grant(), sshd(10), how, start);
    for step in 0_u64..200 {
        let now = start.plus(Duration::from_millis(step * 100));
        let progress = closing.step(host, now);
        if progress != Progress::GoesOn {
            return (step, progress);
        }
    }
    panic!("it goes on for ever");
}

#[test]
fn a_child_that_is_born_while_its_parent_is_killed_is_killed_too() {
    let host = Host::default();
    login(&host);
    // Each leaves one behind, five generations long.
    host.with(|w| w.heirs.extend((1000..1005).map(|pid| (sshd(pid), sshd(pid + 1)))));
    let (step, progress) = run(&host, Ended::Revoked);
    assert_eq!(progress, Progress::Over);
    assert!((10..30).contains(&step), "{step}");
    assert_eq!(host.with(|w| w.programs[&sshd(10)].len()), 0);
    assert!(!host.is_living(sshd(10)));
}

#[test]
fn what_never_dies_is_given_up_and_a_login_that_obeys_is_over_at_once() {
    let host = Host::default();
    login(&host);
    host.with(|w| w.heirs.extend((1000..1500).map(|pid| (sshd(pid), sshd(pid + 1)))));
    assert_eq!(run(&host, Ended::Expired), (100, Progress::GivenUp));
    let host = Host::default();
    login(&host);
    host.with(|w| w.stubborn.clear());
    let (step, progress) = run(&host, Ended::Expired);
    assert_eq!(progress, Progress::Over);
    assert!(step < 10, "{step}");
}
