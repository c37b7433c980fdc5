//! Each rule of the format, by an oracle that reads what was written.

use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;

const AT: Timestamp = Timestamp::from_millis(1_787_411_825_007);

/// Reads a line as CloudWatch would, and fails at whatever it would not take.
pub(crate) fn read(line: &str) -> Json {
    assert!(!line.contains('\n') && line.len() < (1 << 20), "{line}");
    let json: Json = serde_json::from_str(line).unwrap();
    let root = json.as_object().unwrap();
    let head = &root["_aws"];
    assert!(head["Timestamp"].as_u64().is_some(), "{line}");
    for directive in head["CloudWatchMetrics"].as_array().unwrap() {
        let namespace = directive["Namespace"].as_str().unwrap();
        assert!((1..=255).contains(&namespace.len()), "{namespace}");
        for set in directive["Dimensions"].as_array().unwrap() {
            let set = set.as_array().unwrap();
            assert!(set.len() <= 30, "{line}");
            for name in set {
                let value = root[name.as_str().unwrap()].as_str().unwrap();
                let ascii = value.bytes().all(|b| (b' '..=b'~').contains(&b));
                assert!(ascii && (1..=1024).contains(&value.len()), "{value:?}");
                assert!(!value.starts_with(':') && !value.trim().is_empty(), "{value:?}");
            }
        }
        let metrics = directive["Metrics"].as_array().unwrap();
        assert!((1..=100).contains(&metrics.len()), "{line}");
        for m in metrics {
            let name = m["Name"].as_str().unwrap();
            assert!(root[name].as_f64().unwrap().is_finite(), "{name}");
            let units = ["Count", "Bytes", "Seconds", "Percent", "None"];
            assert!(units.contains(&m["Unit"].as_str().unwrap()), "{m}");
        }
    }
    json
}

fn document<'a>(dimensions: &'a [(&'a str, &'a str)], values: &'a [Value<'a>]) -> Document<'a> {
    Document { namespace: "Palisade", at: AT, dimensions, values }
}

fn value(name: &str, value: f64) -> Value<'_> {
    Value { name, unit: Unit::Count, value }
}

#[test]
fn a_document_is_one_line_that_names_its_values() {
    let dimensions = [("InstanceId", "i-1"), ("Program", "web")];
    let values = [value("ProgramReady", 1.0), value("ProgramCpuPercent", 12.345_678)];
    let Encoded { lines, left_out } = encode(&document(&dimensions, &values)).unwrap();
    assert_eq!(left_out, 0);
    assert_eq!(
        lines,
        [
            r#"{"_aws":{"Timestamp":1787411825007,"CloudWatchMetrics":[{"Namespace":"Palisade","Dimensions":[["InstanceId","Program"]],"Metrics":[{"Name":"ProgramReady","Unit":"Count"},{"Name":"ProgramCpuPercent","Unit":"Count"}]}]},"InstanceId":"i-1","Program":"web","ProgramReady":1,"ProgramCpuPercent":12.346}"#
        ]
    );
    read(&lines[0]);
}

#[test]
fn more_than_a_hundred_metrics_are_split_and_each_comes_once() {
    let names: Vec<String> = (0..101).map(|n| format!("M{n}")).collect();
    let values: Vec<_> = names.iter().map(|n| value(n, 1.0)).collect();
    let encoded = encode(&document(&[("InstanceId", "i")], &values)).unwrap();
    assert_eq!((encoded.lines.len(), encoded.left_out), (2, 0));
    let mut seen: Vec<String> = Vec::new();
    for line in &encoded.lines {
        let json = read(line);
        let metrics = json["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array().unwrap();
        seen.extend(metrics.iter().map(|m| m["Name"].as_str().unwrap().to_owned()));
    }
    assert_eq!(seen, names);
}

#[test]
fn what_is_no_number_is_left_out_and_counted() {
    let values = [
        value("A", f64::NAN),
        value("B", f64::INFINITY),
        value("C", 1e300),
        value("D", 4.0),
        value("D", 5.0),
    ];
    let encoded = encode(&document(&[], &values)).unwrap();
    assert_eq!((encoded.lines.len(), encoded.left_out), (1, 4));
    assert_eq!(read(&encoded.lines[0])["D"], 4);
    let none = encode(&document(&[], &values[..2])).unwrap();
    assert_eq!((none.lines.len(), none.left_out), (0, 2));
}

#[test]
fn what_cloudwatch_would_make_no_metrics_of_is_refused() {
    let names: Vec<String> = (0..31).map(|n| format!("D{n}")).collect();
    let dimensions: Vec<_> = names.iter().map(|n| (n.as_str(), "x")).collect();
    let values = [value("A", 1.0)];
    assert_eq!(encode(&document(&dimensions, &values)), Err(BadDocument::Dimensions(31)));
    assert!(encode(&document(&dimensions[..30], &values)).is_ok());
    for name in ["", ":D", "Ä", "a b", &"d".repeat(251), "_aws", "A\n"] {
        let got = encode(&document(&[(name, "x")], &values));
        assert_eq!(got, Err(BadDocument::DimensionName(name.to_owned())));
    }
    let twice = encode(&document(&[("D", "x"), ("D", "y")], &values));
    assert_eq!(twice, Err(BadDocument::DimensionName("D".to_owned())));
    for name in ["", ":A", "Ä", "a b", &"m".repeat(1025), "_aws", "D"] {
        let got = encode(&document(&[("D", "x")], &[value(name, 1.0)]));
        assert_eq!(got, Err(BadDocument::MetricName(name.to_owned())));
    }
    for namespace in ["", "AWS/EC2", ":a", "a b", "ä", &"n".repeat(256)] {
        let got = encode(&Document { namespace, ..document(&[], &values) });
        assert_eq!(got, Err(BadDocument::Namespace(namespace.to_owned())));
    }
    let early = Timestamp::from_millis(-1);
    let got = encode(&Document { at: early, ..document(&[], &values) });
    assert_eq!(got, Err(BadDocument::Time(early)));
}

#[test]
fn numbers_are_exact_where_that_matters_and_never_look_like_a_card() {
    for (value, text) in [
        (0.0, "0"),
        (-0.0001, "0"),
        (1.0, "1"),
        (-2.5, "-2.5"),
        (99.999_9, "100"),
        (1200.0, "1200"),
        (999_999_999_999.0, "999999999999"),
        (4_111_111_111_111.0, "4.11111111111e12"),
    ] {
        assert_eq!(number(value).as_deref(), Some(text));
    }
}

#[test]
fn texts_that_differ_stay_apart_as_dimensions() {
    let long = |end: &str| format!("{}{end}", "/x".repeat(600));
    let texts =
        ["", "web", ":web", " web", "wéb", "wèb", "%", "%25", "a\nb", &long("1"), &long("2")];
    let values: BTreeSet<String> = texts.iter().map(|t| dimension_value(t)).collect();
    assert_eq!(values.len(), texts.len());
    assert_eq!(dimension_value("/palisade/prod/web"), "/palisade/prod/web");
    assert_eq!(dimension_value("wéb"), "w%C3%A9b");
}

/// The longest run of digits.
fn run(text: &str) -> usize {
    text.split(|c: char| !c.is_ascii_digit()).map(str::len).max().unwrap_or(0)
}

proptest! {
    #[test]
    fn whatever_goes_in_a_line_keeps_every_rule(
        dimensions in proptest::collection::btree_map("[A-Z][a-z]{0,6}", any::<String>(), 0..40),
        values in proptest::collection::vec(("[a-z]{1,2}", any::<f64>()), 0..260),
        namespace in "[a-zA-Z0-9._#/-]{1,255}",
    ) {
        let dimensions: Vec<_> = dimensions.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let values: Vec<_> = values.iter().map(|(n, v)| value(n, *v)).collect();
        let doc = Document { namespace: &namespace, ..document(&dimensions, &values) };
        match encode(&doc) {
            Ok(encoded) => {
                let mut metrics = 0;
                for line in &encoded.lines {
                    let json = read(line);
                    metrics += json["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array().unwrap().len();
                }
                prop_assert_eq!(metrics as u64 + encoded.left_out, values.len() as u64);
                prop_assert!(dimensions.len() <= 30);
            }
            Err(BadDocument::Dimensions(n)) => prop_assert!(n > 30),
            Err(BadDocument::Namespace(n)) => prop_assert!(n.starts_with("AWS/")),
            Err(e) => prop_assert!(false, "{e}"),
        }
    }

    #[test]
    fn no_number_has_as_many_digits_in_a_row_as_a_card(v in any::<f64>(), whole in any::<u64>()) {
        for v in [v, whole as f64, whole as f64 / 1000.0, v % 1e15] {
            if let Some(text) = number(v) {
                prop_assert!(run(&text) < 13, "{text}");
                let back: f64 = text.parse().unwrap();
                let error = (back - v).abs();
                prop_assert!(error <= 0.000_5 || error <= v.abs() * 1e-11, "{v} {text}");
            }
        }
    }
}
