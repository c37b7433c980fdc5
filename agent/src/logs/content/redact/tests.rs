//! What is hidden, what is not, and in whatever pieces it comes.

use proptest::prelude::*;

use super::*;

fn all() -> Redactor {
    let kinds: Vec<Kind> = Kind::ALL.iter().map(|(_, k)| *k).collect();
    let custom = Custom { name: "iban".to_owned(), pattern: Pattern::new("DE[0-9]{20}").unwrap() };
    Redactor::new(&kinds, vec![custom], "X-Origin-Verify")
}

fn hidden(text: &str) -> String {
    let mut counts = Counts::new();
    let out = all().lines(text.as_bytes(), &mut counts).into_owned();
    assert_eq!(out == text.as_bytes(), counts.is_empty(), "{text}");
    assert_eq!(all().is_clean(text.as_bytes()), counts.is_empty(), "{text}");
    String::from_utf8(out).unwrap()
}

#[test]
fn authorization_goes_in_every_form_and_its_scheme_stays() {
    for (text, want) in [
        ("Authorization: Bearer abc.def-1", "Authorization: Bearer [redacted]"),
        ("> authorization: Basic dXNlcjpwYXNz\nnext", "> authorization: Basic [redacted]\nnext"),
        ("Proxy-Authorization: Custom a b c", "Proxy-Authorization: [redacted]"),
        ("Authorization: Bearer abc status=200", "Authorization: Bearer [redacted] status=200"),
        ("Authorization: Token token=\"abc\", x=\"y\" z", "Authorization: Token [redacted]"),
        (
            "Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/2026, Signature=fe5f",
            "Authorization: AWS4-HMAC-SHA256 [redacted]",
        ),
        (
            "Authorization: Digest username=\"bob\", response=\"66\"",
            "Authorization: Digest [redacted]",
        ),
        (
            r#"{"authorization":"Bearer abc","b":1}"#,
            r#"{"authorization":"Bearer [redacted]","b":1}"#,
        ),
        (
            r#"{"Authorization" : "s3cr\"et\\", "b":1}"#,
            r#"{"Authorization" : "[redacted]", "b":1}"#,
        ),
        (
            r#"{"m":"{\"authorization\":\"Basic eA==\",\"b\":1}"}"#,
            r#"{"m":"{\"authorization\":\"Basic [redacted]\",\"b\":1}"}"#,
        ),
        (r#"{"Authorization":["Bearer abc"]}"#, r#"{"Authorization":["Bearer [redacted]"]}"#),
        (
            r#"{"msg":"sent Authorization: Custom a b","x":1}"#,
            r#"{"msg":"sent Authorization: [redacted]","x":1}"#,
        ),
        (
            r#"{"raw":"GET /\r\nAuthorization: Custom a b\r\nHost: x"}"#,
            r#"{"raw":"GET /\r\nAuthorization: [redacted]\r\nHost: x"}"#,
        ),
        (
            "{'Authorization': 'Bearer abc', 'Host': 'h'}",
            "{'Authorization': 'Bearer [redacted]', 'Host': 'h'}",
        ),
        (
            "[(b'authorization', b'Bearer abc'), (b'host', b'h')]",
            "[(b'authorization', b'Bearer [redacted]'), (b'host', b'h')]",
        ),
        (
            "map[Authorization:[Bearer abc] Host:[h]]",
            "map[Authorization:[Bearer [redacted]] Host:[h]]",
        ),
        ("HTTP_AUTHORIZATION='Basic eA=='", "HTTP_AUTHORIZATION='Basic [redacted]'"),
        (
            "curl -H 'Authorization: Bearer abc' https://x",
            "curl -H 'Authorization: Bearer [redacted]' https://x",
        ),
        ("proxyAuthorization=abc", "proxyAuthorization=[redacted]"),
        ("token Bearer eyJhbGciOiJIUzI1NiJ9.e30.x end", "token Bearer [redacted] end"),
    ] {
        assert_eq!(hidden(text), want);
    }
}

#[test]
fn cookies_keys_the_origins_secret_and_patterns_go() {
    for (text, want) in [
        ("Cookie: a=b; c=d\nHost: x", "Cookie: [redacted]\nHost: x"),
        ("Set-Cookie: sessionid=abc; Path=/; HttpOnly", "Set-Cookie: [redacted]"),
        (r#"{"cookie":"a=b; c=\"d\"","x":1}"#, r#"{"cookie":"[redacted]","x":1}"#),
        ("'HTTP_COOKIE': 'csrftoken=abc', 'x': 1", "'HTTP_COOKIE': '[redacted]', 'x': 1"),
        ("key AKIAIOSFODNN7EXAMPLE used", "key AKIA[redacted] used"),
        ("key=ASIAIOSFODNN7EXAMPLE&x", "key=ASIA[redacted]&x"),
        (
            "AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            "AWS_SECRET_ACCESS_KEY=[redacted]",
        ),
        (
            r#"{"SecretAccessKey": "wJalrXUtnFEMI/K7MDENG/bPx", "x": 1}"#,
            r#"{"SecretAccessKey": "[redacted]", "x": 1}"#,
        ),
        (
            "<SessionToken>FwoGZXIvYXdzEBYaDHqa0</SessionToken>",
            "<SessionToken>[redacted]</SessionToken>",
        ),
        (
            "GET /?X-Amz-Security-Token=FwoGZXIvYXdzEBYaD%2F&X-Amz-Signature=0123456789abcdef0123",
            "GET /?X-Amz-Security-Token=[redacted]&X-Amz-Signature=[redacted]",
        ),
        ("x-origin-verify: s3cret", "x-origin-verify: [redacted]"),
        ("HTTP_X_ORIGIN_VERIFY=s3cret, a", "HTTP_X_ORIGIN_VERIFY=[redacted], a"),
        ("pay DE12345678901234567890 now", "pay [redacted:iban] now"),
        ("card 4111-1111-1111-1111 ok", "card ****-****-****-1111 ok"),
        ("Cookie: pan=4111111111111111", "Cookie: [redacted]"),
    ] {
        assert_eq!(hidden(text), want);
    }
}

#[test]
fn what_is_no_secret_is_not_touched() {
    for text in [
        "authorization failed for bob",
        "Authorization",
        "Authorization:",
        "Authorization: \nnext",
        "preauthorization: pending",
        "bearer authentication failed",
        "a cookie jar, cookies: none",
        "AKIA is a prefix, akiaiosfodnn7example is not one",
        "XAKIAIOSFODNN7EXAMPLE AKIAIOSFODNN7EXAMPLEX",
        "secret_access_key: missing",
        "session_token = None",
        "x-origin-verify was wrong",
        "order 1234567812345670 at 2026-08-22 15:17:05",
        "Authorization: Bearer [redacted]",
        "Cookie: [redacted]",
        "[redacted:iban]",
        "",
        "\n\n",
    ] {
        assert_eq!(hidden(text), text);
    }
}

#[test]
fn what_is_not_asked_for_stays() {
    let text = b"Authorization: Bearer abc 4111111111111111";
    let pan = Redactor::new(&[Kind::Pan], Vec::new(), "X");
    let out = pan.lines(text, &mut Counts::new());
    assert_eq!(out.as_ref(), b"Authorization: Bearer abc ************1111");
    assert!(matches!(Redactor::none().lines(text, &mut Counts::new()), Cow::Borrowed(_)));
}

#[test]
fn each_kind_is_counted_under_its_name() {
    let redactor = all();
    let mut counts = Counts::new();
    let text = b"4111111111111111 4242424242424242 Cookie: a=b\nDE12345678901234567890";
    drop(redactor.lines(text, &mut counts));
    let named: Vec<_> = counts.iter().map(|(n, c)| (redactor.name(*n), *c)).collect();
    assert_eq!(named, [("pan", 2), ("cookies", 1), ("iban", 1)]);
}

/// The parts of a long line, one after the other, and what they became together.
fn in_parts(text: &[u8], cuts: &[usize]) -> Vec<u8> {
    let (redactor, mut carry, mut counts) = (all(), Carry::default(), Counts::new());
    let mut out = Vec::new();
    let mut from = 0;
    for cut in cuts.iter().copied().chain([text.len()]) {
        let part = &text[from..cut];
        out.extend_from_slice(&redactor.part(part, &mut carry, cut == text.len(), &mut counts));
        from = cut;
    }
    assert_eq!(carry, Carry::default());
    out
}

#[test]
fn no_cut_in_a_line_lets_a_secret_through() {
    for (secret, shown) in [
        ("card 4111111111111111 x", 4),
        ("card 4111 1111 1111 1111 x", 4),
        ("Authorization: Custom s3cretWORD and more", 0),
        ("authorization: Bearer s3cretWORDs3cretWORDs3cretWORD z", 0),
        (r#"{"authorization": "Bearer s3cretWORDs3cret"} z"#, 0),
        ("Cookie: s3cretWORD=s3cretWORD; s3cretWORD", 0),
        ("AWS_SECRET_ACCESS_KEY=s3cretWORDs3cretWORDs3cret z", 0),
        ("x-origin-verify: s3cretWORD z", 0),
    ] {
        let text = format!("{} {secret}", "pad ".repeat(30));
        for one in 1..text.len() {
            for two in [one, (one + 1).min(text.len()), (one + 7).min(text.len())] {
                let out = in_parts(text.as_bytes(), &[one, two]);
                let out = String::from_utf8(out).unwrap();
                let leak = if shown == 0 {
                    ["s3c", "3cr", "cre", "ret", "tWO", "WOR", "ORD"]
                        .iter()
                        .any(|w| out.contains(w))
                } else {
                    out.bytes().filter(u8::is_ascii_digit).count() > shown
                };
                assert!(!leak, "cut at {one} and {two}: {out}");
                assert!(out.starts_with("pad pad pad"), "{out}");
            }
        }
    }
}

#[test]
fn a_cut_takes_no_more_than_the_digits_it_stands_in() {
    for text in ["order 1234567812345670 shipped", "took 4095 ms", "a 4111111111111112 b"] {
        for cut in 1..text.len() {
            let out = in_parts(text.as_bytes(), &[cut]);
            assert_eq!(out.len(), text.len());
            for (a, b) in out.iter().zip(text.bytes()) {
                assert!(*a == b || (*a == b'*' && b.is_ascii_digit()));
            }
        }
    }
}

#[test]
fn what_a_line_ended_in_is_known_again_from_its_last_bytes() {
    let redactor = all();
    let carry = redactor.carry_after(b"pad Authorization: Custom abc");
    let mut again = carry.clone();
    let out = redactor.part(b"def ghi\nnext", &mut again, true, &mut Counts::new());
    assert_eq!(out.as_ref(), b"\nnext");
    let mut carry = redactor.carry_after(b"card 41111111");
    let out = redactor.part(b"11111111 x", &mut carry, true, &mut Counts::new());
    assert_eq!(out.as_ref(), b"****1111 x");
}

fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("4111111111111111".to_owned()),
        Just("4242-4242-4242-4242".to_owned()),
        Just("Authorization: Bearer ".to_owned()),
        Just("\"authorization\": \"".to_owned()),
        Just("Cookie: a=b".to_owned()),
        Just("AKIAIOSFODNN7EXAMPLE".to_owned()),
        Just("DE12345678901234567890".to_owned()),
        Just("x-origin-verify=".to_owned()),
        Just("[redacted]".to_owned()),
        Just("\\\"".to_owned()),
        Just("\n".to_owned()),
        "[0-9 -]{1,24}",
        "[ -~é]{0,12}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]
    #[test]
    fn twice_is_once_and_lines_are_dealt_with_one_by_one(pieces in prop::collection::vec(piece(), 0..12)) {
        let text = pieces.concat();
        let redactor = all();
        let once = redactor.lines(text.as_bytes(), &mut Counts::new()).into_owned();
        let mut counts = Counts::new();
        let twice = redactor.lines(&once, &mut counts).into_owned();
        prop_assert_eq!(String::from_utf8_lossy(&twice), String::from_utf8_lossy(&once));
        prop_assert!(counts.is_empty(), "{:?}", counts);
        let each: Vec<Vec<u8>> = text
            .split('\n')
            .map(|l| redactor.lines(l.as_bytes(), &mut Counts::new()).into_owned())
            .collect();
        prop_assert_eq!(each.join(&b'\n'), once);
    }

    #[test]
    fn a_line_without_a_secret_is_the_same_to_the_byte(line in "[a-z =:\"',;{}\\[\\]é.-]{0,120}") {
        // No digits: no card, no key; and none of the names.
        let named = ["authorization", "cookie", "bearer", "secret", "session", "security", "verify"];
        prop_assume!(!named.iter().any(|n| line.contains(n)));
        let out = all();
        let out = out.lines(line.as_bytes(), &mut Counts::new());
        prop_assert!(matches!(out, Cow::Borrowed(_)));
    }

    #[test]
    fn any_bytes_in_any_parts_keep_their_line_breaks(
        text in prop::collection::vec(any::<u8>(), 0..300),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|c| c.index(text.len() + 1)).collect();
        cuts.sort_unstable();
        let breaks = |t: &[u8]| t.iter().filter(|b| **b == b'\n').count();
        prop_assert_eq!(breaks(&in_parts(&text, &cuts)), breaks(&text));
    }
}
