//! Each rule at its edge, and what a call replaces.

use super::*;

const ID: &str = "i-0123456789abcdef0";

fn call(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut v = json!({
        "ResourceId": ID,
        "ResourceType": "ManagedInstance",
        "ComplianceType": "Custom:PalisadePatch",
        "ExecutionSummary": { "ExecutionTime": 1_790_000_000.0 },
        "Items": [{ "Id": "a", "Severity": "HIGH", "Status": "COMPLIANT" }],
        "ItemContentHash": "1",
    });
    change(&mut v);
    v.to_string().into_bytes()
}

fn ids(state: &State) -> Vec<String> {
    state.compliance.values().flat_map(|r| r.items.iter().map(|i| i.id.clone())).collect()
}

fn item(id: &str) -> Value {
    json!({ "Id": id, "Severity": "LOW", "Status": "NON_COMPLIANT" })
}

#[test]
fn each_rule_is_enforced_at_its_edge() {
    let many = |n: usize| Value::from((0..n).map(|n| item(&n.to_string())).collect::<Vec<_>>());
    let with = |key: &str, value: Value| {
        let key = key.to_owned();
        call(move |v| v[key] = value)
    };
    let in_item = |key: &str, value: Value| {
        let key = key.to_owned();
        call(move |v| v["Items"][0][key] = value)
    };
    let heavy = |bytes: usize| {
        let details = |n: usize| json!({ "x": "y".repeat(n) });
        let items: Vec<_> = (0..bytes / 4096)
            .map(|n| json!({ "Id": n.to_string(), "Severity": "LOW", "Status": "COMPLIANT", "Details": details(4096) }))
            .collect();
        call(move |v| v["Items"] = items.into())
    };
    let cases = [
        (call(|_| {}), None),
        (with("Items", many(10_000)), None),
        (with("Items", many(10_001)), Some("ValidationException")),
        (with("Items", json!([])), None),
        (with("Items", json!([item("a"), item("a")])), Some("InvalidItemContentException")),
        (with("ComplianceType", "Custom:a-b".into()), Some("ValidationException")),
        (with("UploadType", "PARTIAL".into()), Some("InvalidItemContentException")),
        (with("UploadType", "COMPLETE".into()), None),
        (with("ResourceId", "host-1".into()), Some("InvalidResourceId")),
        (with("ResourceType", "Instance".into()), Some("InvalidResourceType")),
        (with("Unknown", 1.into()), Some("SerializationException")),
        (in_item("Title", "é".repeat(500).into()), None),
        (in_item("Title", "é".repeat(501).into()), Some("ValidationException")),
        (in_item("Severity", "high".into()), Some("ValidationException")),
        (in_item("Status", "UNKNOWN".into()), Some("ValidationException")),
        (in_item("Details", json!({ "k": "v".repeat(4096) })), None),
        (in_item("Details", json!({ "k": "v".repeat(4097) })), Some("ValidationException")),
        (in_item("Details", json!({ "": "v" })), Some("ValidationException")),
        (heavy(900 << 10), None),
        (heavy(1 << 20), Some("TotalSizeLimitExceededException")),
    ];
    for (n, (body, expected)) in cases.into_iter().enumerate() {
        let got = put(&mut State::default(), &body).err().map(|e| e.1);
        assert_eq!(got, expected, "case {n}");
    }
}

#[test]
fn each_call_replaces_all_items_of_its_type_and_a_known_hash_replaces_nothing() {
    let mut state = State::default();
    let two = |hash: &str| {
        let hash = hash.to_owned();
        call(move |v| {
            v["Items"] = json!([item("a"), item("b")]);
            v["ItemContentHash"] = hash.into();
        })
    };
    put(&mut state, &two("1")).unwrap();
    put(&mut state, &call(|v| v["ItemContentHash"] = "1".into())).unwrap();
    assert_eq!(
        (ids(&state), state.stats.unchanged.get(OP)),
        (vec!["a".into(), "b".into()], Some(&1))
    );
    put(&mut state, &call(|v| v["ItemContentHash"] = "2".into())).unwrap();
    assert_eq!(ids(&state), ["a"]);
}

#[test]
fn an_eleventh_custom_type_is_refused() {
    let mut state = State::default();
    let of = |n: usize| call(move |v| v["ComplianceType"] = format!("Custom:type{n}").into());
    for n in 0..10 {
        put(&mut state, &of(n)).unwrap();
    }
    put(&mut state, &of(3)).unwrap();
    let refused = put(&mut state, &of(10)).unwrap_err();
    assert_eq!(refused.1, "ComplianceTypeCountLimitExceededException");
}

#[test]
fn a_list_comes_in_pages() {
    let mut state = State::default();
    let items: Vec<_> = (0..120).map(|n| item(&n.to_string())).collect();
    put(&mut state, &call(move |v| v["Items"] = items.into())).unwrap();
    let (mut seen, mut token) = (0, None);
    loop {
        let body = json!({ "ResourceIds": [ID], "NextToken": token }).to_string();
        let page = list(&mut state, body.as_bytes()).unwrap();
        seen += page["ComplianceItems"].as_array().map_or(0, Vec::len);
        token = page.get("NextToken").and_then(Value::as_str).map(str::to_owned);
        if token.is_none() {
            break;
        }
    }
    assert_eq!(seen, 120);
}
