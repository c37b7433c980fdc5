//! A request of XML-RPC, from its bytes: strict and bounded.
//!
//! A document type is refused, and with it every entity that is not XML's own; so is anything nested
//! deeper or of more elements than a real request has. Size is bounded by the server.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use roxmltree::{Document, Node, ParsingOptions};

use super::value::Value;

/// Values within values.
const MAX_DEPTH: usize = 16;
/// Elements and texts of one request.
const MAX_NODES: u32 = 65_536;

/// A method and what it is called with.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    pub(super) method: String,
    pub(super) params: Vec<Value>,
}

/// Why bytes are no request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an XML-RPC request: {0}")]
pub(super) struct NotACall(String);

fn not<T>(why: impl Into<String>) -> Result<T, NotACall> {
    Err(NotACall(why.into()))
}

/// Reads a request.
pub(super) fn call(body: &[u8]) -> Result<Call, NotACall> {
    let text = std::str::from_utf8(body).map_err(|e| NotACall(e.to_string()))?;
    let options =
        ParsingOptions { allow_dtd: false, nodes_limit: MAX_NODES, ..ParsingOptions::default() };
    let document =
        Document::parse_with_options(text, options).map_err(|e| NotACall(e.to_string()))?;
    let root = document.root_element();
    if root.tag_name().name() != "methodCall" {
        return not("the root is not methodCall");
    }
    let (mut method, mut params) = (None, None);
    for child in elements(root) {
        match child.tag_name().name() {
            "methodName" if method.is_none() => method = Some(texts(child)),
            "params" if params.is_none() => {
                let each = elements(child).map(param).collect::<Result<Vec<_>, _>>()?;
                params = Some(each);
            }
            other => return not(format!("{other} is not expected in methodCall")),
        }
    }
    match method {
        Some(method) if !method.is_empty() => {
            Ok(Call { method, params: params.unwrap_or_default() })
        }
        Some(_) | None => not("no method name"),
    }
}

fn elements<'a, 'i>(of: Node<'a, 'i>) -> impl Iterator<Item = Node<'a, 'i>> {
    of.children().filter(Node::is_element)
}

/// The text of an element, whatever comments stand in it.
fn texts(of: Node<'_, '_>) -> String {
    of.children().filter(Node::is_text).filter_map(|t| t.text()).collect()
}

/// The only child of an element.
fn only<'a, 'i>(of: Node<'a, 'i>, wanted: &str) -> Result<Node<'a, 'i>, NotACall> {
    let mut all = elements(of);
    match (all.next(), all.next()) {
        (Some(child), None) if child.tag_name().name() == wanted => Ok(child),
        _ => not(format!("{} must hold one {wanted}", of.tag_name().name())),
    }
}

fn param(node: Node<'_, '_>) -> Result<Value, NotACall> {
    if node.tag_name().name() != "param" {
        return not("params must hold param");
    }
    value(only(node, "value")?, MAX_DEPTH)
}

fn value(node: Node<'_, '_>, depth: usize) -> Result<Value, NotACall> {
    let Some(depth) = depth.checked_sub(1) else { return not("nested too deeply") };
    let mut typed = elements(node);
    let inner = match (typed.next(), typed.next()) {
        // Without a type it is a string.
        (None, _) => return Ok(Value::Text(texts(node))),
        (Some(inner), None) => inner,
        (Some(_), Some(_)) => return not("a value must hold one type"),
    };
    let text = texts(inner);
    let word = text.trim();
    let wrong = || NotACall(format!("{word:?} is no {}", inner.tag_name().name()));
    match inner.tag_name().name() {
        "int" | "i4" | "i8" => word.parse().map(Value::Int).map_err(|_| wrong()),
        "boolean" => match word {
            "1" => Ok(Value::Bool(true)),
            "0" => Ok(Value::Bool(false)),
            _ => Err(wrong()),
        },
        "string" => Ok(Value::Text(text)),
        "double" => match word.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Value::Double(number)),
            Ok(_) | Err(_) => Err(wrong()),
        },
        "base64" => {
            let packed: String = text.split_ascii_whitespace().collect();
            let bytes = STANDARD.decode(packed).map_err(|_| wrong())?;
            String::from_utf8(bytes).map(Value::Text).map_err(|_| wrong())
        }
        "dateTime.iso8601" => Ok(Value::Time(word.to_owned())),
        "nil" => Ok(Value::Nil),
        "array" => {
            let data = only(inner, "data")?;
            let each = elements(data).map(|v| item(v, depth));
            each.collect::<Result<_, _>>().map(Value::Array)
        }
        "struct" => {
            let each = elements(inner).map(|m| member(m, depth));
            each.collect::<Result<_, _>>().map(Value::Struct)
        }
        other => not(format!("{other} is no type")),
    }
}

fn item(node: Node<'_, '_>, depth: usize) -> Result<Value, NotACall> {
    if node.tag_name().name() != "value" {
        return not("data must hold values");
    }
    value(node, depth)
}

fn member(node: Node<'_, '_>, depth: usize) -> Result<(String, Value), NotACall> {
    let mut parts = elements(node);
    match (node.tag_name().name(), parts.next(), parts.next(), parts.next()) {
        ("member", Some(name), Some(of), None)
            if name.tag_name().name() == "name" && of.tag_name().name() == "value" =>
        {
            Ok((texts(name), value(of, depth)?))
        }
        _ => not("a struct must hold members of a name and a value"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::control::supervisor::write;

    fn of(params: &str) -> Result<Vec<Value>, NotACall> {
        let text = format!(
            "<?xml version='1.0'?>\n<methodCall>\n<methodName>a.b</methodName>\n<params>{params}\
             </params>\n</methodCall>\n"
        );
        call(text.as_bytes()).map(|c| c.params)
    }

    fn one(value: &str) -> Result<Value, NotACall> {
        of(&format!("<param>\n<value>{value}</value>\n</param>")).map(|mut v| v.remove(0))
    }

    #[test]
    fn every_type_is_read() {
        assert_eq!(one("<int>-1600</int>"), Ok(Value::Int(-1600)));
        assert_eq!(one("<i4> 7 </i4>"), Ok(Value::Int(7)));
        assert_eq!(one("<boolean>1</boolean>"), Ok(Value::Bool(true)));
        assert_eq!(one("<string>a &lt; &#x41;<!-- c --> b</string>"), Ok(Value::text("a < A b")));
        assert_eq!(one("<string/>"), Ok(Value::text("")));
        assert_eq!(one("plain"), Ok(Value::text("plain")));
        assert_eq!(one(""), Ok(Value::text("")));
        assert_eq!(one("<base64>\naGFs\nbG8=\n</base64>"), Ok(Value::text("hallo")));
        assert_eq!(one("<double>1.5</double>"), Ok(Value::Double(1.5)));
        assert_eq!(one("<nil/>"), Ok(Value::Nil));
        let nested = "<array><data><value><struct><member><name>n</name><value><int>1</int></value>\
                      </member></struct></value></data></array>";
        let inner = Value::members([("n", Value::Int(1))]);
        assert_eq!(one(nested), Ok(Value::Array(vec![inner])));
    }

    #[test]
    fn a_method_without_params_is_called_with_none() {
        let bare = "<methodCall><methodName>x.y</methodName></methodCall>";
        assert_eq!(
            call(bare.as_bytes()),
            Ok(Call { method: "x.y".to_owned(), params: Vec::new() })
        );
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for bad in [
            "",
            "hello",
            "<methodCall/>",
            "<methodCall><methodName></methodName></methodCall>",
            "<methodCall><methodName>a</methodName><x/></methodCall>",
            "<methodResponse><methodName>a</methodName></methodResponse>",
            "<!DOCTYPE x [<!ENTITY e 'eee'>]><methodCall><methodName>&e;</methodName></methodCall>",
        ] {
            assert!(call(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(call(b"<methodCall><methodName>\xff</methodName></methodCall>").is_err());
        for bad in [
            "<int>x</int>",
            "<int></int>",
            "<boolean>true</boolean>",
            "<double>inf</double>",
            "<base64>!</base64>",
            "<unheard/>",
            "<int>1</int><int>2</int>",
            "<struct><member><name>n</name></member></struct>",
            "<array><value/></array>",
        ] {
            assert!(one(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nesting_and_numbers_of_elements_are_bounded() {
        let deep = |n: usize| {
            let open = "<array><data><value>".repeat(n);
            format!("{open}{}", "</value></data></array>".repeat(n))
        };
        assert!(one(&deep(10)).is_ok());
        assert!(one(&deep(20)).is_err());
        let many = "<param><value><int>1</int></value></param>".repeat(30_000);
        assert!(of(&many).is_err());
    }

    proptest! {
        /// Whatever comes, it is read or refused; and what we write ourselves is read back.
        #[test]
        fn nothing_breaks_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..400), text in "\\PC*") {
            drop(call(&bytes));
            let mut inner = String::new();
            write::escape(&mut inner, &text);
            prop_assert_eq!(one(&format!("<string>{inner}</string>")), Ok(Value::Text(text)));
        }
    }
}
