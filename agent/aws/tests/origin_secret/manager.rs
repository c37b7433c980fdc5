//! Secrets Manager as far as a host uses it, strict about what it is sent.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use serde_json::{Value, json};

#[derive(Default)]
struct State {
    versions: Vec<(String, Option<String>, Vec<String>)>,
    refuses: Option<(u16, &'static str)>,
    says: Option<String>,
    asked: Vec<String>,
    violations: Vec<String>,
}

/// A running stand-in. It stops when dropped.
pub(crate) struct Manager {
    addr: SocketAddr,
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Manager {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let (its, ends) = (Arc::clone(&state), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ends.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                // A client that goes away in the middle is none of its business.
                serve(stream, &its).unwrap_or_default();
            }
        });
        Self { addr, state, stop, thread: Some(thread) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has these versions from now on: name, value if there is one yet, labels.
    pub(crate) fn has(&self, versions: &[(&str, Option<&str>, &[&str])]) {
        let owned = |(name, value, labels): &(&str, Option<&str>, &[&str])| {
            let labels = labels.iter().map(|l| (*l).to_owned()).collect();
            ((*name).to_owned(), value.map(str::to_owned), labels)
        };
        let mut state = self.state();
        (state.versions, state.says) = (versions.iter().map(owned).collect(), None);
    }

    pub(crate) fn refuses(&self, how: Option<(u16, &'static str)>) {
        self.state().refuses = how;
    }

    /// Answers everything with this.
    pub(crate) fn says_only(&self, text: &str) {
        self.state().says = Some(text.to_owned());
    }

    pub(crate) fn asked(&self, operation: &str) -> usize {
        self.state().asked.iter().filter(|o| *o == operation).count()
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.state().violations.clone()
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes it, so that it sees.
        drop(TcpStream::connect(self.addr));
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) -> io::Result<()> {
    let mut request = Vec::new();
    let mut piece = [0; 4096];
    let (head, body) = loop {
        let n = stream.read(&mut piece)?;
        if n == 0 {
            return Ok(());
        }
        request.extend_from_slice(&piece[..n]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_owned();
        let length = header(&head, "content-length").parse().unwrap_or(0);
        if body.len() >= length {
            break (head, body.to_owned());
        }
    };
    let (status, answer) = answer(&head, &body, &mut state.lock().unwrap());
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/x-amz-json-1.1\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        answer.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(answer.as_bytes())
}

fn header<'a>(head: &'a str, name: &str) -> &'a str {
    let lines = head.lines().filter_map(|l| l.split_once(": "));
    lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v).next().unwrap_or_default()
}

fn answer(head: &str, body: &str, state: &mut State) -> (u16, String) {
    let operation = header(head, "x-amz-target").strip_prefix("secretsmanager.").unwrap_or("none");
    let operation = operation.to_owned();
    state.asked.push(operation.clone());
    let mut broken = |what: &str| state.violations.push(format!("{operation}: {what}"));
    let authorization = header(head, "authorization");
    if !authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")
        || !authorization.contains("/eu-central-1/secretsmanager/aws4_request")
        || !authorization.contains("SignedHeaders=content-type;host;x-amz-date;x-amz-target")
    {
        broken("signed otherwise");
    }
    if !head.starts_with("POST / HTTP/1.1")
        || header(head, "content-type") != "application/x-amz-json-1.1"
    {
        broken("not of JSON 1.1");
    }
    let asked: Value = serde_json::from_str(body).unwrap_or_default();
    if asked["SecretId"] != "palisade/prod/origin-secret" {
        broken("another secret");
    }
    if let Some(says) = &state.says {
        return (200, says.clone());
    }
    if let Some((status, kind)) = state.refuses {
        return (status, json!({ "__type": kind, "Message": "because" }).to_string());
    }
    let said = match operation.as_str() {
        "DescribeSecret" => {
            // A version without a label is not in this list.
            let with: serde_json::Map<String, Value> = state
                .versions
                .iter()
                .filter(|(_, _, labels)| !labels.is_empty())
                .map(|(name, _, labels)| (name.clone(), json!(labels)))
                .collect();
            Ok(json!({ "Name": asked["SecretId"], "VersionIdsToStages": with }))
        }
        "GetSecretValue" => {
            let found = state.versions.iter().find(|(name, _, _)| asked["VersionId"] == **name);
            match found {
                Some((name, Some(value), labels)) => Ok(json!({
                    "Name": asked["SecretId"], "VersionId": name, "SecretString": value,
                    "VersionStages": labels, "CreatedDate": 1_790_000_000.123,
                })),
                _ => Err("ResourceNotFoundException"),
            }
        }
        _ => Err("UnknownOperationException"),
    };
    match said {
        Ok(said) => (200, said.to_string()),
        Err(kind) => (400, json!({ "__type": kind, "Message": "because" }).to_string()),
    }
}
