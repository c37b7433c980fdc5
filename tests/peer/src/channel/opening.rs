//! The first message of a client: text, with the session's token. Pure.

use serde::Deserialize;
use uuid::Uuid;

use super::checks::at_least;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Open {
    message_schema_version: String,
    request_id: String,
    token_value: String,
    client_id: String,
    client_version: String,
}

/// What the first message says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Opening {
    pub(super) token: String,
    pub(super) wrong: Vec<String>,
}

/// Reads it; `least` is the oldest version of a client.
pub(super) fn read(text: &str, least: &str) -> Opening {
    let open: Open = match serde_json::from_str(text) {
        Ok(open) => open,
        // The error of a parser may quote the text, and that holds a token: only its place is kept.
        Err(e) => {
            let what = format!(
                "open message: line {} column {}: not the fields it has",
                e.line(),
                e.column()
            );
            return Opening { token: String::new(), wrong: vec![what] };
        }
    };
    let mut wrong = Vec::new();
    if open.message_schema_version != "1.0" {
        wrong.push(format!("open message of schema {:?}", open.message_schema_version));
    }
    for (name, id) in [("RequestId", &open.request_id), ("ClientId", &open.client_id)] {
        if Uuid::parse_str(id).is_err() || id.len() != 36 {
            wrong.push(format!("{name} {id:?} is no UUID"));
        }
    }
    if !at_least(&open.client_version, least) {
        wrong.push(format!("ClientVersion {:?}, below {least}", open.client_version));
    }
    Opening { token: open.token_value, wrong }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_message_gives_its_token() {
        let text = r#"{"MessageSchemaVersion":"1.0","RequestId":"8a4c7c2a-1111-4222-8333-944444444444",
            "TokenValue":"t","ClientId":"8a4c7c2a-1111-4222-8333-955555555555",
            "ClientVersion":"1.2.764.0"}"#;
        assert_eq!(read(text, "1.2.764.0"), Opening { token: "t".to_owned(), wrong: vec![] });
        assert_eq!(read(text, "1.2.765.0").wrong.len(), 1);
        assert_eq!(read(&text.replace("1.0", "2.0"), "1.0").wrong.len(), 1);
    }

    #[test]
    fn what_is_wrong_is_said_without_the_token() {
        let opening = read(r#"{"TokenValue":"secret","Extra":1}"#, "1.0");
        assert_eq!(opening.wrong.len(), 1);
        assert!(!opening.wrong[0].contains("secret"));
    }
}
