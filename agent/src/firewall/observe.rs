//! What `nft -j list table` prints of our table, brought into a form that can be compared. Pure.
//!
//! Read with types of our own: the `nftables` crate fails on a whole listing when it meets one
//! counter beyond 4 GiB or one kind of object that it does not know. What we do not know either is
//! kept by name as *strange*, and is a reason to replace the table.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{model::Ranges, plan::TABLE, prefix};

/// Our table as the kernel has it.
#[derive(Clone, Debug, PartialEq)]
pub enum Observed {
    /// There is none.
    Absent,
    /// There is one.
    Table(Box<Table>),
    /// There is one, and its listing makes no sense.
    Unclear(String),
}

/// The content of our table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Chains by name.
    pub chains: BTreeMap<String, Chain>,
    /// Sets by name.
    pub sets: BTreeMap<String, Elements>,
    /// Packets of each named counter.
    pub counters: BTreeMap<String, u64>,
    /// Things that we never put there: kind and name.
    pub strange: Vec<String>,
}

/// A chain.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chain {
    /// Where it is hooked in, if it is.
    pub base: Option<Base>,
    /// Its rules in order.
    pub rules: Vec<ObservedRule>,
}

/// Where a chain is hooked in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// `filter`.
    pub kind: String,
    /// `input`.
    pub hook: String,
    /// Order among chains of the hook.
    pub priority: i64,
    /// What happens to packets that no rule decides.
    pub policy: String,
}

/// A rule without handle, counts and the order of sets.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedRule {
    /// Its comment.
    pub comment: String,
    /// Its statements.
    pub statements: Value,
}

/// The elements of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Elements {
    /// A plain interval set of IPv4 addresses.
    V4(Ranges<u32>),
    /// A plain interval set of IPv6 addresses.
    V6(Ranges<u128>),
    /// Something else: why.
    Strange(String),
}

impl Elements {
    /// Whether one can be turned into the other by changing elements.
    #[must_use]
    pub fn same_type(&self, other: &Self) -> bool {
        matches!((self, other), (Self::V4(_), Self::V4(_)) | (Self::V6(_), Self::V6(_)))
    }
}

/// Reads a listing.
#[must_use]
pub fn parse(listing: &[u8]) -> Observed {
    match read(listing) {
        Ok(table) => Observed::Table(Box::new(table)),
        Err(why) => Observed::Unclear(why),
    }
}

fn read(listing: &[u8]) -> Result<Table, String> {
    let whole: Value = serde_json::from_slice(listing).map_err(|e| e.to_string())?;
    let objects = whole.get("nftables").and_then(Value::as_array).ok_or("there is no list")?;
    let mut table = Table::default();
    let mut seen = false;
    for object in objects {
        let (kind, body) = object
            .as_object()
            .and_then(|o| o.iter().next())
            .ok_or("an entry of the list is not an object")?;
        match kind.as_str() {
            "metainfo" => {}
            "table" => {
                seen = text(body, "name")? == TABLE;
                if let Some(flags) = body.get("flags") {
                    table.strange.push(format!("table flag {flags}"));
                }
            }
            "chain" => {
                let name = text(body, "name")?.to_owned();
                table.chains.entry(name).or_default().base = base(body)?;
            }
            "rule" => {
                let chain = text(body, "chain")?.to_owned();
                let comment = body.get("comment").and_then(Value::as_str).unwrap_or_default();
                let statements = body.get("expr").ok_or("a rule has no statements")?.clone();
                table.chains.entry(chain).or_default().rules.push(ObservedRule {
                    comment: comment.to_owned(),
                    statements: normal(statements),
                });
            }
            "set" => {
                table.sets.insert(text(body, "name")?.to_owned(), elements(body));
            }
            "counter" => {
                let packets = body.get("packets").and_then(Value::as_u64).unwrap_or(0);
                table.counters.insert(text(body, "name")?.to_owned(), packets);
            }
            other => {
                let name = body.get("name").and_then(Value::as_str).unwrap_or("?");
                table.strange.push(format!("{other} {name}"));
            }
        }
    }
    if seen { Ok(table) } else { Err("it is not our table".to_owned()) }
}

fn text<'a>(body: &'a Value, key: &str) -> Result<&'a str, String> {
    body.get(key).and_then(Value::as_str).ok_or_else(|| format!("{key} is missing"))
}

fn base(body: &Value) -> Result<Option<Base>, String> {
    if body.get("hook").is_none() {
        return Ok(None);
    }
    Ok(Some(Base {
        kind: text(body, "type")?.to_owned(),
        hook: text(body, "hook")?.to_owned(),
        priority: body.get("prio").and_then(Value::as_i64).ok_or("prio is missing")?,
        policy: text(body, "policy")?.to_owned(),
    }))
}

fn elements(body: &Value) -> Elements {
    let flags = match body.get("flags") {
        Some(Value::String(one)) => vec![one.as_str()],
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let plain = ["timeout", "gc-interval", "size", "map", "auto-merge", "stmt"];
    if flags != ["interval"] || plain.iter().any(|key| body.get(key).is_some()) {
        return Elements::Strange("it is not a plain interval set".to_owned());
    }
    let none = Vec::new();
    let list = body.get("elem").and_then(Value::as_array).unwrap_or(&none);
    let read = match body.get("type").and_then(Value::as_str) {
        Some("ipv4_addr") => {
            ranges(list, prefix::v4).map(|r| Elements::V4(r.into_iter().collect()))
        }
        Some("ipv6_addr") => {
            ranges(list, prefix::v6).map(|r| Elements::V6(r.into_iter().collect()))
        }
        _ => None,
    };
    read.unwrap_or_else(|| Elements::Strange("it holds something else than addresses".to_owned()))
}

/// Elements as nft prints them: an address, a prefix, or a range.
fn ranges<W: Copy>(
    list: &[Value],
    parse: impl Fn(&str) -> Result<(W, W), prefix::BadPrefix>,
) -> Option<Vec<(W, W)>> {
    let single = |v: &Value| {
        let address = v.as_str()?;
        let bits = if address.contains(':') { 128 } else { 32 };
        parse(&format!("{address}/{bits}")).ok()
    };
    list.iter()
        .map(|element| {
            if let Some(p) = element.get("prefix") {
                parse(&format!("{}/{}", p.get("addr")?.as_str()?, p.get("len")?.as_u64()?)).ok()
            } else if let Some(r) = element.get("range") {
                Some((single(r.get(0)?)?.0, single(r.get(1)?)?.1))
            } else {
                single(element)
            }
        })
        .collect()
}

/// Statements with what does not matter taken out: counts, the order inside sets, defaults that some
/// versions of nft print and others do not.
#[must_use]
pub(super) fn normal(value: Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.into_iter().map(normal).collect()),
        Value::Object(map) => Value::Object(
            map.into_iter()
                .filter(|(k, v)| !is_default(k, v))
                .map(|(k, v)| {
                    let sorted = matches!(k.as_str(), "set" | "right");
                    let v = match normal(v) {
                        Value::Array(items) if sorted => Value::Array(in_order(items)),
                        Value::Object(_) if k == "counter" => Value::Null,
                        v => v,
                    };
                    (k, v)
                })
                .collect(),
        ),
        other => other,
    }
}

fn is_default(key: &str, value: &Value) -> bool {
    match key {
        "rate_unit" => value == "packets",
        "burst_unit" => value == "packets" || value == "bytes",
        "inv" => value == false,
        _ => false,
    }
}

fn in_order(mut items: Vec<Value>) -> Vec<Value> {
    items.sort_by_cached_key(Value::to_string);
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(objects: &str) -> Vec<u8> {
        format!(
            r#"{{"nftables":[{{"metainfo":{{"version":"1.0.6"}}}},{{"table":{{"family":"inet","name":"palisade","handle":1}}}}{objects}]}}"#
        )
        .into_bytes()
    }

    fn table(objects: &str) -> Table {
        match parse(&listing(objects)) {
            Observed::Table(t) => *t,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn all_forms_of_elements_are_read_as_ranges() {
        let t = table(
            r#",{"set":{"name":"a_v4","type":"ipv4_addr","flags":["interval"],"elem":
                ["10.0.0.1",{"range":["10.0.0.5","10.0.0.9"]},{"prefix":{"addr":"13.0.0.0","len":16}}]}},
               {"set":{"name":"a_v6","type":"ipv6_addr","flags":"interval"}}"#,
        );
        let v4 =
            [(0x0a00_0001, 0x0a00_0001), (0x0a00_0005, 0x0a00_0009), (0x0d00_0000, 0x0d00_ffff)];
        assert_eq!(t.sets["a_v4"], Elements::V4(v4.into_iter().collect()));
        assert_eq!(t.sets["a_v6"], Elements::V6(Ranges::default()));
    }

    #[test]
    fn a_set_with_anything_special_is_strange() {
        for special in [
            r#""type":"ipv4_addr","flags":["interval","timeout"]"#,
            r#""type":"ipv4_addr"},"x":{"#,
            r#""type":"inet_service","flags":["interval"]"#,
            r#""type":"ipv4_addr","flags":["interval"],"elem":[{"elem":{"val":"10.0.0.1","timeout":9}}]"#,
        ] {
            let t = table(&format!(r#",{{"set":{{"name":"a_v4",{special}}}}}"#));
            assert!(matches!(t.sets["a_v4"], Elements::Strange(_)), "{special}");
        }
    }

    #[test]
    fn a_listing_cut_short_as_old_nft_does_with_table_flags_is_unclear() {
        let cut = br#"{"nftables": [{"metainfo": {}}, {"table": {"name": "palisade", "flags": "#;
        assert!(matches!(parse(cut), Observed::Unclear(_)));
    }

    #[test]
    fn huge_counters_and_unknown_objects_do_not_spoil_the_listing() {
        let t = table(
            r#",{"counter":{"name":"dropped","packets":99999999999,"bytes":1}},{"quota":{"name":"q"}}"#,
        );
        assert_eq!(t.counters["dropped"], 99_999_999_999);
        assert_eq!(t.strange, ["quota q"]);
    }

    #[test]
    fn counts_and_the_order_of_sets_do_not_matter() {
        let one = serde_json::json!([{"counter":{"packets":1,"bytes":2}},
            {"match":{"op":"==","left":1,"right":{"set":[80,443]}}}, {"limit":{"rate":10,"inv":false}}]);
        let two = serde_json::json!([{"counter":{"packets":0,"bytes":0}},
            {"match":{"op":"==","left":1,"right":{"set":[443,80]}}}, {"limit":{"rate":10}}]);
        assert_eq!(normal(one), normal(two));
    }
}
