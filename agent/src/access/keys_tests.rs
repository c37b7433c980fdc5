//! What a line says, and that nothing that somebody wrote is in it but what was checked.

use palisade_types::grant::GrantRequest;
use proptest::prelude::*;

use super::{
    super::{
        ledger::Ledger,
        testutil::{at, person, request, settings},
    },
    *,
};

fn grant(change: impl FnOnce(&mut GrantRequest)) -> Grant {
    let mut request = request(1);
    change(&mut request);
    let mut ledger = Ledger::default();
    ledger.admit(request, &settings(), Some(&person()), at(0)).unwrap().clone()
}

fn line(change: impl FnOnce(&mut GrantRequest), now: Moment) -> Option<String> {
    authorized_line(&grant(change), now)
}

const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB";
const ID: &str = "00000000-0000-4000-8000-000000000001";

#[test]
fn each_kind_has_its_own_options_and_all_are_restricted() {
    let end = "from=\"127.0.0.1,::1\"";
    assert_eq!(
        line(|_| {}, at(0)).unwrap(),
        format!("restrict,pty,port-forwarding,{end} ssh-ed25519 {KEY} palisade:{ID}")
    );
    assert_eq!(
        line(|r| r.only = Only::Sftp, at(0)).unwrap(),
        format!("restrict,command=\"internal-sftp\",{end} ssh-ed25519 {KEY} palisade:{ID}")
    );
    let tunnel = line(
        |r| {
            r.only = Only::Tunnel;
            r.target = Some("[::1]:5432".parse().unwrap());
        },
        at(0),
    );
    let options = "restrict,port-forwarding,permitopen=\"[::1]:5432\",permitlisten=\"localhost:1\",\
                   command=\"/usr/bin/false\"";
    assert_eq!(tunnel.unwrap(), format!("{options},{end} ssh-ed25519 {KEY} palisade:{ID}"));
}

#[test]
fn a_grant_for_an_address_is_good_from_there_only() {
    let text = line(|r| r.source = "10.20.0.7/32".parse().unwrap(), at(0)).unwrap();
    assert!(text.contains("from=\"10.20.0.7\""), "{text}");
    assert!(!text.contains("127.0.0.1"));
}

#[test]
fn a_grant_whose_time_is_over_has_no_line_whatever_the_clock_says() {
    let set_back = Moment { wall: at(0).wall, ..at(600) };
    assert!(line(|_| {}, at(599)).is_some());
    assert_eq!(line(|_| {}, at(600)), None);
    assert_eq!(line(|_| {}, set_back), None);
}

proptest! {
    #[test]
    fn no_request_that_is_one_can_end_an_option_or_a_line(
        reason in "[A-Za-z0-9 .,:;/_#()@+=-]{0,200}",
        host in "[A-Za-z0-9][A-Za-z0-9.-]{0,40}",
        port in 1..=65_535_u16,
        public in any::<[u8; 32]>(),
        resource in "[A-Za-z0-9+=,.@_/-]{1,60}",
    ) {
        let text = line(
            |r| {
                r.reason = reason.parse().unwrap();
                r.only = Only::Tunnel;
                r.target = Some(format!("{host}:{port}").parse().unwrap());
                r.key = palisade_types::Ed25519Key::from_public(public);
                r.owner = format!("arn:aws:iam::123456789012:{resource}").parse().unwrap();
            },
            at(0),
        )
        .unwrap();
        // Four quoted values, one key, one comment of ours; nothing of owner or reason.
        prop_assert_eq!(text.matches('"').count(), 8);
        let words: Vec<&str> = text.split(' ').collect();
        prop_assert_eq!(words.len(), 4);
        prop_assert_eq!(words[1], "ssh-ed25519");
        prop_assert!(text.bytes().all(|b| b.is_ascii_graphic() || b == b' '));
    }
}
