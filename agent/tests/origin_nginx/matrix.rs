//! Who is let in.

use std::net::Ipv4Addr;

use palisade_agent::origin::{Health, HealthPath, RealIp, SiteFault, State, faults};

use crate::rig::{Rig, header, id};

const OLD: &str = "OldSecretOldSecretOldSecret000000000000000000001";
const NOW: &str = "NowSecretNowSecretNowSecret000000000000000000002";
const NEXT: &str = "NextSecretNextSecretNextSecret00000000000000003";

const LOCAL: Ipv4Addr = Ipv4Addr::LOCALHOST;
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

#[tokio::test]
async fn only_a_request_with_an_accepted_secret_is_let_in() {
    let Some(mut rig) = Rig::build() else { return };
    let guard = rig.start(&[OLD]).await;
    rig.write_secrets(&[NOW, NEXT]);
    guard.refresh().await;
    for good in [OLD, NOW, NEXT] {
        assert_eq!(rig.status(&header(good)), 200, "{}", id(good));
        // Spaces around a value are none of it, and names of headers have no case.
        assert_eq!(rig.status(&header(&format!("  {good} "))), 200);
        assert_eq!(rig.status(&[format!("x-origin-verify: {good}")]), 200);
        let flipped: String = good
            .chars()
            .map(|c| if c.is_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() })
            .collect();
        for bad in [
            flipped,
            good.to_lowercase(),
            format!("{good}x"),
            format!("x{good}"),
            format!("{good} {good}"),
            format!("{good},{good}"),
            good.chars().skip(1).collect(),
            good.chars().take(good.len() - 1).collect(),
            format!("~^{good}$"),
            format!("\"{good}\""),
            id(good).to_string(),
            format!("{} 16", id(good)),
        ] {
            assert_eq!(rig.status(&header(&bad)), 403, "{bad}");
        }
        let other = |line: &str| rig.status(&[format!("{line}{good}")]);
        assert_eq!(other("X_Origin_Verify: "), 403);
        assert_eq!(other("X-Origin-Verify2: "), 403);
        assert_eq!(other("Cookie: X-Origin-Verify="), 403);
        assert_eq!(rig.get(LOCAL, &format!("/?X-Origin-Verify={good}"), &[]).0, 403);
        // Of two, nginx takes the first, and from 1.23 on the two as one, which is no secret.
        let two = |a: &str, b: &str| rig.status(&[header(a), header(b)].concat());
        assert!([200, 403].contains(&two(good, "wrong")));
        assert_eq!(two("wrong", good), 403);
    }
    for bad in ["", " ", ".*", ".", "~", "~.", "wrong", "default", "0", "1"] {
        assert_eq!(rig.status(&header(bad)), 403, "{bad:?}");
    }
    assert_eq!(rig.status(&[]), 403);
    // Dropped, it is one like any other.
    guard.handle.drop_secret(id(OLD)).await.unwrap();
    assert_eq!((rig.status(&header(OLD)), rig.status(&header(NOW))), (403, 200));
    // nginx's own words on this site have nothing for the doctor to say.
    let printed = rig.server().printed().await.unwrap();
    assert_eq!(faults(&printed, &rig.settings), []);
    assert_eq!(
        faults("# configuration file /x:\nevents {}\n", &rig.settings),
        [SiteFault::NotIncluded]
    );
    guard.end().await;
}

#[tokio::test]
async fn the_shortest_and_the_longest_secret_work() {
    let Some(mut rig) = Rig::build() else { return };
    let (short, long) = ("Short00000000001", "Long".repeat(128));
    let guard = rig.start(&[short, &long]).await;
    assert_eq!((rig.status(&header(short)), rig.status(&header(&long))), (200, 200));
    let flipped = format!("{}l{}", "Long".repeat(127), "ong");
    assert_eq!((rig.status(&header(&flipped)), flipped.len()), (403, 512));
    guard.end().await;
}

#[tokio::test]
async fn without_a_known_secret_nginx_starts_and_refuses_all() {
    let Some(mut rig) = Rig::build() else { return };
    let guard = rig.guard();
    guard.handle.refresh().await.unwrap();
    rig.start_nginx();
    assert_eq!(guard.handle.refresh().await.unwrap().status.state, State::Closed);
    for value in ["", "wrong", "default"] {
        assert_eq!(rig.status(&header(value)), 403);
    }
    rig.write_secrets(&[NOW]);
    guard.refresh().await;
    assert_eq!(rig.status(&header(NOW)), 200);
    guard.end().await;
}

#[tokio::test]
async fn a_health_check_needs_its_exact_path_and_its_sender() {
    let Some(mut rig) = Rig::build() else { return };
    rig.settings.health = Some(Health {
        paths: vec![HealthPath::parse("/health").unwrap()],
        from: vec!["127.0.0.2/32".parse().unwrap()],
    });
    // Whoever connects counts, also where a header says who the visitor is.
    rig.settings.real_ip =
        Some(RealIp { sources: Vec::new(), trusted: vec!["127.0.0.0/8".parse().unwrap()] });
    let guard = rig.start(&[NOW]).await;
    let claims = ["X-Forwarded-For: 127.0.0.2".to_owned()];
    let visitor = ["X-Forwarded-For: 203.0.113.9".to_owned()];
    assert_eq!(rig.get(OTHER, "/health", &[]), (200, "well".to_owned()));
    assert_eq!(rig.get(OTHER, "/health", &visitor).0, 200);
    assert_eq!(rig.get(LOCAL, "/health", &[]).0, 403);
    assert_eq!(rig.get(LOCAL, "/health", &claims).0, 403);
    for path in
        ["/", "/health/", "/health?a=1", "/healthy", "/a/../health", "/%68ealth", "//health", "/ip"]
    {
        assert_eq!(rig.get(OTHER, path, &[]).0, 403, "{path}");
    }
    assert_eq!(rig.get(OTHER, "/", &header(NOW)).0, 200);
    guard.end().await;
}

#[tokio::test]
async fn a_visitors_address_cannot_be_made_up() {
    let Some(mut rig) = Rig::build() else { return };
    rig.settings.real_ip = Some(RealIp {
        sources: vec!["cloudfront".to_owned()],
        trusted: vec!["127.0.0.1/32".parse().unwrap()],
    });
    rig.ranges.send_replace(vec![
        "130.176.0.0/18".parse().unwrap(),
        "2600:9000:1000::/36".parse().unwrap(),
    ]);
    let guard = rig.start(&[NOW]).await;
    let seen = |from, forwarded: &[&str]| {
        let mut lines = header(NOW);
        lines.extend(forwarded.iter().map(|f| format!("X-Forwarded-For: {f}")));
        let (status, body) = rig.get(from, "/ip", &lines);
        assert_eq!(status, 200);
        body
    };
    for (forwarded, visitor) in [
        (&["203.0.113.9"][..], "203.0.113.9"),
        (&["1.2.3.4, 203.0.113.9"], "203.0.113.9"),
        (&["1.2.3.4, 203.0.113.9, 130.176.0.7"], "203.0.113.9"),
        // Claims to be of CloudFront, or of the load balancer.
        (&["130.176.0.9, 203.0.113.9"], "203.0.113.9"),
        (&["127.0.0.1, 203.0.113.9, 130.176.0.7"], "203.0.113.9"),
        (&["2001:db8::9, 130.176.0.7"], "2001:db8::9"),
        (&["1.2.3.4, 2001:db8::9, 2600:9000:1000::7"], "2001:db8::9"),
        (&["1.2.3.4", "203.0.113.9"], "203.0.113.9"),
        (&[], "127.0.0.1"),
        (&["unknown"], "127.0.0.1"),
        (&["203.0.113.9, unknown"], "127.0.0.1"),
        // Not of the ranges yet: it is taken for the visitor.
        (&["203.0.113.9, 130.177.0.7"], "130.177.0.7"),
    ] {
        assert_eq!(seen(LOCAL, forwarded), visitor, "{forwarded:?}");
    }
    // Who connects is not trusted: nothing that it says counts.
    assert_eq!(seen(OTHER, &["203.0.113.9"]), "127.0.0.2");
    assert_eq!(seen(OTHER, &["130.176.0.9, 127.0.0.1"]), "127.0.0.2");
    rig.ranges.send_replace(vec!["130.176.0.0/15".parse().unwrap()]);
    guard.refresh().await;
    assert_eq!(seen(LOCAL, &["203.0.113.9, 130.177.0.7"]), "203.0.113.9");
    guard.end().await;
}
