//! Answers of XML-RPC, to bytes: always well-formed, whatever a program wrote into its log.

use std::fmt::Write as _;

use super::{fault::Fault, value::Value};

const HEAD: &str = "<?xml version='1.0'?>\n<methodResponse>\n";
const TAIL: &str = "</methodResponse>\n";

/// The answer to a call.
pub(super) fn answer(result: &Result<Value, Fault>) -> String {
    let mut out = HEAD.to_owned();
    match result {
        Ok(value) => {
            out.push_str("<params>\n<param>\n");
            put(&mut out, value);
            out.push_str("</param>\n</params>\n");
        }
        Err(fault) => {
            out.push_str("<fault>\n");
            put(&mut out, &fault.to_value());
            out.push_str("</fault>\n");
        }
    }
    out.push_str(TAIL);
    out
}

fn put(out: &mut String, value: &Value) {
    out.push_str("<value>");
    // Writing to a string cannot fail.
    match value {
        Value::Int(n) => match i32::try_from(*n) {
            Ok(n) => write!(out, "<int>{n}</int>").unwrap_or_default(),
            // Of a log beyond two gigabytes: some clients know it, and none is told a lie.
            Err(_) => write!(out, "<i8>{n}</i8>").unwrap_or_default(),
        },
        Value::Bool(b) => write!(out, "<boolean>{}</boolean>", u8::from(*b)).unwrap_or_default(),
        Value::Double(d) => write!(out, "<double>{d}</double>").unwrap_or_default(),
        Value::Text(text) => {
            out.push_str("<string>");
            escape(out, text);
            out.push_str("</string>");
        }
        Value::Time(time) => {
            out.push_str("<dateTime.iso8601>");
            escape(out, time);
            out.push_str("</dateTime.iso8601>");
        }
        Value::Array(values) => {
            out.push_str("<array><data>\n");
            values.iter().for_each(|v| put(out, v));
            out.push_str("</data></array>");
        }
        Value::Struct(members) => {
            out.push_str("<struct>\n");
            for (name, value) in members {
                out.push_str("<member>\n<name>");
                escape(out, name);
                out.push_str("</name>\n");
                put(out, value);
                out.push_str("</member>\n");
            }
            out.push_str("</struct>");
        }
        Value::Nil => out.push_str("<nil/>"),
    }
    out.push_str("</value>\n");
}

/// Text for an element. A character that XML cannot carry in any form, such as the escape before a
/// colour, becomes the sign for one that was replaced: Supervisor's own answer would not be readable.
pub(super) fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            // As itself it would be read as an end of line.
            '\r' => out.push_str("&#13;"),
            '\t' | '\n' => out.push(c),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push(char::REPLACEMENT_CHARACTER),
            _ => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::supervisor::fault::Code;

    #[test]
    fn answers_are_what_clients_read() {
        let value = Value::members([("n", Value::Int(5)), ("t", Value::Array(vec![Value::Nil]))]);
        let text = answer(&Ok(value));
        assert_eq!(
            text.replace('\n', ""),
            "<?xml version='1.0'?><methodResponse><params><param><value><struct><member><name>n</name>\
             <value><int>5</int></value></member><member><name>t</name><value><array><data><value><nil/>\
             </value></data></array></value></member></struct></value></param></params></methodResponse>"
        );
        let text = answer(&Err(Fault::about(Code::BadName, "x<y")));
        assert!(text.contains("<int>10</int>"), "{text}");
        assert!(text.contains("<string>BAD_NAME: x&lt;y</string>"), "{text}");
    }

    #[test]
    fn an_answer_is_well_formed_whatever_a_program_printed() {
        let text = answer(&Ok(Value::text("\u{1b}[31mred\u{0}\r\n]]>&\u{ffff}")));
        let read = roxmltree::Document::parse(&text).unwrap();
        let string = read.descendants().find(|n| n.has_tag_name("string")).unwrap();
        assert_eq!(string.text(), Some("\u{fffd}[31mred\u{fffd}\r\n]]>&\u{fffd}"));
    }

    #[test]
    fn a_number_beyond_32_bits_is_told_as_it_is() {
        assert!(answer(&Ok(Value::Int(5_000_000_000))).contains("<i8>5000000000</i8>"));
        assert!(answer(&Ok(Value::Int(-5))).contains("<int>-5</int>"));
    }
}
