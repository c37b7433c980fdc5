//! Lists as they are, and as they must not be.

use super::*;

fn doc(v4: &[(&str, &str)], v6: &[(&str, &str)]) -> String {
    let v4: Vec<_> = v4
        .iter()
        .map(|(p, s)| format!(r#"{{"ip_prefix":"{p}","region":"x","service":"{s}"}}"#))
        .collect();
    let v6: Vec<_> = v6
        .iter()
        .map(|(p, s)| format!(r#"{{"ipv6_prefix":"{p}","region":"x","service":"{s}"}}"#))
        .collect();
    format!(
        r#"{{"syncToken":"1700000000","createDate":"x","prefixes":[{}],"ipv6_prefixes":[{}]}}"#,
        v4.join(","),
        v6.join(",")
    )
}

fn read(text: &str) -> Result<FeedList, String> {
    parse(text.as_bytes(), ORIGIN_FACING, 100).map_err(|e| crate::errors::Chain(&e).to_string())
}

const O: &str = ORIGIN_FACING;

#[test]
fn prefixes_are_taken_by_service_and_the_rest_is_left() {
    let list = read(&doc(
        &[
            ("13.124.199.0/24", O),
            ("52.0.0.0/13", "EC2"),
            ("13.124.0.0/16", "CLOUDFRONT"),
            ("13.0.0.0/8", "AMAZON"),
        ],
        &[
            ("2600:9000:1000::/36", O),
            ("::/0", "EC2"),
            ("2600:9000::/28", "CLOUDFRONT"),
            ("2600:9000::/28", "AMAZON"),
        ],
    ));
    let list = list.unwrap();
    assert_eq!(list.set.prefixes(), ["13.124.199.0/24", "2600:9000:1000::/36"]);
    assert_eq!((list.sync_token, list.stray.is_empty()), (1_700_000_000, true));
}

#[test]
fn what_must_never_be_let_in_fails_the_list_and_is_named() {
    for bad in [
        "0.0.0.0/0",
        "10.0.0.0/8",
        "10.1.2.0/24",
        "127.0.0.0/8",
        "169.254.169.254/32",
        "224.0.0.0/4",
        "255.255.255.255/32",
        "192.0.2.0/24",
        "8.0.0.0/11",
        "13.0.0.1/24",
        "013.0.0.0/24",
        "13.0.0.0/33",
        "localhost",
        "$(id)",
        "};flush ruleset",
    ] {
        let why = read(&doc(&[("13.124.199.0/24", O), (bad, O)], &[])).unwrap_err();
        assert!(why.contains(bad), "{why}");
    }
    for bad in ["::/0", "fe80::/10", "fc00::/7", "2001:db8::/32", "2000::/3", "::1/128"] {
        let why = read(&doc(&[("13.124.199.0/24", O)], &[(bad, O)])).unwrap_err();
        assert!(why.contains(bad), "{why}");
    }
}

#[test]
fn a_list_without_the_service_is_refused() {
    for text in [doc(&[], &[]), doc(&[("13.124.199.0/24", "CLOUDFRONT_ORIGIN_FACING2")], &[])] {
        assert!(read(&text).unwrap_err().contains("no IPv4 prefix of service"), "{text}");
    }
}

#[test]
fn doubled_keys_missing_keys_and_trailing_text_are_refused() {
    let good = doc(&[("13.124.199.0/24", O)], &[]);
    read(&good).unwrap();
    for (bad, says) in [
        (good.replace("createDate", "syncToken"), "not a Unix time"),
        (good.replace("\"ipv6_prefixes\"", "\"prefixes\""), "twice"),
        (good.replace("\"ipv6_prefixes\"", "\"other\""), "ipv6_prefixes is missing"),
        (good.replace("\"service\"", "\"service\":\"EC2\",\"service\""), "duplicate field"),
        (good.clone() + "{}", "trailing"),
        (good.replace("1700000000", "-5"), "not a Unix time"),
        (good.replace("\"1700000000\"", "1700000000"), "invalid type"),
        ("[]".to_owned(), "an object with syncToken"),
        (String::new(), "EOF"),
    ] {
        let why = read(&bad).unwrap_err();
        assert!(why.contains(says), "{why}");
    }
}

#[test]
fn a_range_outside_the_parents_is_reported() {
    let text = doc(
        &[("13.124.198.0/23", "AMAZON"), ("13.124.199.0/24", "CLOUDFRONT"), ("13.124.198.0/23", O)],
        &[],
    );
    assert_eq!(read(&text).unwrap().stray.prefixes(), ["13.124.198.0/24"]);
}

#[test]
fn a_range_of_a_file_that_has_no_parents_is_outside_of_them() {
    let all = [("13.124.199.0/24", O), ("13.124.199.0/24", "CLOUDFRONT")];
    let amazon = ("13.124.199.0/24", "AMAZON");
    for (v4, strays) in [
        (&all[..1], true),
        (&all[..], true),
        (&[all[0], amazon], true),
        (&[all[0], all[1], amazon], false),
    ] {
        let list = read(&doc(v4, &[])).unwrap();
        assert_eq!(!list.stray.is_empty(), strays, "{v4:?}");
    }
    // A parent that holds everything proves nothing.
    let whole = [all[0], ("0.0.0.0/0", "CLOUDFRONT"), ("0.0.0.0/0", "AMAZON")];
    assert!(!read(&doc(&whole, &[])).unwrap().stray.is_empty());
    let v6 = ("2600:9000:1000::/36", O);
    let list = read(&doc(&[all[0], all[1], amazon], &[v6])).unwrap();
    assert_eq!(list.stray.prefixes(), [v6.0]);
}

#[test]
fn the_same_addresses_make_the_same_list_however_they_are_written() {
    let of = |prefixes: &[&str]| {
        let v4: Vec<_> = prefixes.iter().map(|p| (*p, O)).collect();
        read(&doc(&v4, &[])).unwrap().set
    };
    let one = of(&["13.0.0.0/23"]);
    assert_eq!(one, of(&["13.0.1.0/24", "13.0.0.0/24", "13.0.0.0/24", "13.0.0.128/25"]));
    assert_eq!(one.prefixes(), ["13.0.0.0/23"]);
}

#[test]
fn a_list_that_is_far_too_wide_is_refused() {
    let wide: Vec<String> = (0..3).map(|i| format!("13.{}.0.0/12", i * 16)).collect();
    let of = |service: &str, n: usize| {
        let v4: Vec<_> = wide[..n].iter().map(|p| (p.as_str(), service)).collect();
        parse(doc(&v4, &[]).as_bytes(), service, 100)
    };
    assert!(of(O, 2).is_ok());
    assert!(matches!(of(O, 3), Err(BadFeed::TooWide { addresses: 3_145_728, .. })));
    assert!(of("CLOUDFRONT", 3).is_ok(), "all of CLOUDFRONT may be named on purpose");
}

#[test]
fn a_flood_of_prefixes_is_refused_at_the_limit() {
    let many: Vec<_> = (0..=255_u32).map(|i| (format!("13.1.{i}.0/32"), O)).collect();
    let many: Vec<_> = many.iter().map(|(p, s)| (p.as_str(), *s)).collect();
    assert!(read(&doc(&many, &[])).unwrap_err().contains("more than 100 prefixes"));
}

#[test]
fn an_oversized_list_is_refused_unread() {
    let big = vec![b' '; MAX_BYTES + 1];
    assert!(matches!(parse(&big, O, 10), Err(BadFeed::TooLarge(_))));
}
