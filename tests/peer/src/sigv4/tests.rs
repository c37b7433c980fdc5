//! The documented examples of signature version 4, and what is refused.

use super::*;

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
/// 2015-08-30 12:36:00 UTC, the date of the examples.
const THEN: i64 = 1_440_938_160;

fn headers(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
}

fn check(parts: &Parts<'_>, now: i64) -> Result<(), Refusal> {
    let claim = parts.claim()?;
    parts.verify(&claim, SECRET, now)
}

fn example<'a>(query: &'a str, headers: &'a [(String, String)]) -> Parts<'a> {
    Parts { method: "GET", path: "/", query, headers, body: b"" }
}

fn vanilla(signature: &str) -> Vec<(String, String)> {
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
         SignedHeaders=host;x-amz-date, Signature={signature}"
    );
    headers(&[
        ("host", "example.amazonaws.com"),
        ("x-amz-date", "20150830T123600Z"),
        ("authorization", &authorization),
    ])
}

const VANILLA: &str = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";

#[test]
fn the_vanilla_example_is_accepted() {
    assert_eq!(check(&example("", &vanilla(VANILLA)), THEN), Ok(()));
}

#[test]
fn the_example_of_list_users_is_accepted() {
    let list = headers(&[
        ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
        ("host", "iam.amazonaws.com"),
        ("x-amz-date", "20150830T123600Z"),
        (
            "authorization",
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date, \
             Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
        ),
    ]);
    assert_eq!(check(&example("Action=ListUsers&Version=2010-05-08", &list), THEN), Ok(()));
}

#[test]
fn another_secret_path_query_or_body_does_not_match() {
    let list = vanilla(VANILLA);
    let good = example("", &list);
    let claim = good.claim().unwrap();
    assert_eq!(good.verify(&claim, "other", THEN), Err(Refusal::Mismatch));
    assert_eq!(check(&Parts { path: "/x", ..good }, THEN), Err(Refusal::Mismatch));
    assert_eq!(check(&Parts { query: "a=b", ..good }, THEN), Err(Refusal::Mismatch));
    assert_eq!(check(&Parts { body: b"x", ..good }, THEN), Err(Refusal::Mismatch));
}

#[test]
fn a_date_five_minutes_off_is_accepted_and_one_second_more_is_not() {
    let list = vanilla(VANILLA);
    let parts = example("", &list);
    assert_eq!(check(&parts, THEN + 300), Ok(()));
    assert_eq!(check(&parts, THEN - 300), Ok(()));
    assert!(matches!(check(&parts, THEN + 301), Err(Refusal::Skew(t)) if t.contains("expired")));
    assert!(matches!(check(&parts, THEN - 301), Err(Refusal::Skew(t)) if t.contains("current")));
}

#[test]
fn an_amz_header_outside_the_signature_is_refused() {
    let mut list = vanilla(VANILLA);
    list.push(("x-amz-security-token".to_owned(), "stolen".to_owned()));
    let refused = check(&example("", &list), THEN);
    assert_eq!(refused, Err(Refusal::Incomplete("x-amz-security-token is not signed".to_owned())));
}

#[test]
fn a_request_without_signature_is_missing_one() {
    let list = headers(&[("host", "example.amazonaws.com")]);
    assert_eq!(check(&example("role=publish_subscribe", &list), THEN), Err(Refusal::Missing));
}

#[test]
fn dots_and_doubled_slashes_leave_the_path_and_percents_are_encoded_again() {
    assert_eq!(path("/a/./b/../c//d/"), "/a/c/d/");
    assert_eq!(path(""), "/");
    assert_eq!(path("/v1/data-channel/alice%20x"), "/v1/data-channel/alice%2520x");
}

#[test]
fn hmac_is_that_of_rfc_4231() {
    assert_eq!(
        hex(&hmac(b"Jefe", b"what do ya want for nothing?")),
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    );
}
