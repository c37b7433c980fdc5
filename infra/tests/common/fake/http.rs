//! The fake's HTTP: one request a connection, forms in, XML out. Unsigned requests are refused.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

use super::{Form, State};

/// Serves until the test's process ends; returns where.
pub(super) fn serve(state: Arc<Mutex<State>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let state = Arc::clone(&state);
            std::thread::spawn(move || one(stream, &state));
        }
    });
    endpoint
}

/// A client that went away is no concern of the fake's.
fn one(stream: TcpStream, state: &Mutex<State>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let (mut length, mut signed) = (0, false);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim().to_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        signed |= line.starts_with("authorization: aws4-hmac-sha256 credential=");
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let form = form(&String::from_utf8(body).ok()?);
    let operation = form.get("Action").cloned().unwrap_or_default();
    let answer = if signed {
        state.lock().unwrap().answer_and_go_on(&form)
    } else {
        Err(("MissingAuthenticationToken", "not signed".to_owned()))
    };
    {
        let mut state = state.lock().unwrap();
        if state.held.contains(&operation) {
            state.waiting.push(stream);
            return None;
        }
        if state.lost.remove(&operation) {
            return None;
        }
    }
    let (status, body) = match answer {
        Ok(inside) => (
            "200 OK",
            format!(
                "<{operation}Response><{operation}Result>{inside}</{operation}Result></{operation}Response>"
            ),
        ),
        Err((code, message)) => (
            "400 Bad Request",
            format!(
                "<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message></Error>\
                 </ErrorResponse>"
            ),
        ),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let mut stream = stream;
    stream.write_all(format!("{head}{body}").as_bytes()).ok()
}

fn form(body: &str) -> Form {
    body.split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(k, v)| (plain(k), plain(v)))
        .collect()
}

fn plain(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16));
        bytes.push(match byte {
            b'%' => {
                let (high, low) = (digit().unwrap(), digit().unwrap());
                u8::try_from(high * 16 + low).unwrap()
            }
            other => other,
        });
    }
    String::from_utf8(bytes).unwrap()
}
