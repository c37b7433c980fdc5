//! A small XML-RPC client over a UNIX socket, as a monitoring check would have it.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use serde_json::{Map, Value, json};

/// How long an answer may take: a start waits for `startsecs`.
const WITHIN: Duration = Duration::from_secs(60);

/// Calls a method. A fault is its code and text.
pub(crate) fn call(socket: &Path, method: &str, params: &[Value]) -> Result<Value, (i64, String)> {
    let params: String =
        params.iter().map(|p| format!("<param><value>{}</value></param>", typed(p))).collect();
    let body = format!(
        "<?xml version='1.0'?><methodCall><methodName>{method}</methodName><params>{params}</params>\
         </methodCall>"
    );
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(WITHIN)).unwrap();
    let head = format!(
        "POST /RPC2 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: text/xml\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    let mut reader = Reader { rest: body };
    let is_fault = body.contains("<fault>");
    reader.skip_past("<value>");
    let value = reader.value();
    if !is_fault {
        return Ok(value);
    }
    Err((value["faultCode"].as_i64().unwrap(), value["faultString"].as_str().unwrap().to_owned()))
}

fn typed(v: &Value) -> String {
    match v {
        Value::Bool(b) => format!("<boolean>{}</boolean>", u8::from(*b)),
        Value::Number(n) => format!("<int>{n}</int>"),
        Value::Array(all) => {
            let items: String =
                all.iter().map(|v| format!("<value>{}</value>", typed(v))).collect();
            format!("<array><data>{items}</data></array>")
        }
        Value::Object(map) => {
            let members: String = map
                .iter()
                .map(|(k, v)| {
                    format!("<member><name>{k}</name><value>{}</value></member>", typed(v))
                })
                .collect();
            format!("<struct>{members}</struct>")
        }
        Value::String(s) => {
            let s = s.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            format!("<string>{s}</string>")
        }
        Value::Null => String::new(),
    }
}

/// Reads what both servers write: no attributes, no comments inside.
struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn skip_past(&mut self, what: &str) {
        self.rest = self.rest.split_once(what).unwrap().1;
    }

    /// Takes `tag` if it is next.
    fn takes(&mut self, tag: &str) -> bool {
        let rest = self.rest.trim_start().strip_prefix(tag);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn text_until(&mut self, end: &str) -> &'a str {
        let (text, rest) = self.rest.split_once(end).unwrap();
        self.rest = rest;
        text
    }

    /// What stands after `<value>`, with its `</value>`.
    fn value(&mut self) -> Value {
        let value = if self.takes("<array>") {
            let mut items = Vec::new();
            if !self.takes("<data/>") {
                assert!(self.takes("<data>"), "{}", self.rest);
                while self.takes("<value>") {
                    items.push(self.value());
                }
                assert!(self.takes("</data>"), "{}", self.rest);
            }
            assert!(self.takes("</array>"), "{}", self.rest);
            Value::Array(items)
        } else if self.takes("<struct>") {
            let mut members = Map::new();
            while self.takes("<member>") {
                self.skip_past("<name>");
                let name = self.text_until("</name>").to_owned();
                self.skip_past("<value>");
                let value = self.value();
                members.insert(name, value);
                assert!(self.takes("</member>"), "{}", self.rest);
            }
            assert!(self.takes("</struct>"), "{}", self.rest);
            Value::Object(members)
        } else if self.takes("<int>") {
            json!(self.text_until("</int>").parse::<i64>().unwrap())
        } else if self.takes("<i4>") {
            json!(self.text_until("</i4>").parse::<i64>().unwrap())
        } else if self.takes("<boolean>") {
            json!(self.text_until("</boolean>") == "1")
        } else if self.takes("<string/>") {
            json!("")
        } else if self.takes("<string>") {
            json!(plain(self.text_until("</string>")))
        } else {
            return json!(plain(self.text_until("</value>")));
        };
        assert!(self.takes("</value>"), "{}", self.rest);
        value
    }
}

fn plain(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&")
}
