//! New Relic's Log API, as a second sink of the log path.
//!
//! One batch is one POST: a block of attributes common to all, then the events as the batch already
//! has them in JSON. The API takes a megabyte packed, and answers 202 when it has the lines; it
//! checks them later and does not say what it left out. Two of its rules are kept for it: events
//! older than two days are dropped there, so they go with the time of sending and the true one as an
//! attribute; and a body that is too long (413) is halved by whoever calls.
//!
//! <https://docs.newrelic.com/docs/logs/log-api/introduction-log-api/>

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use flate2::{Compression, write::GzEncoder};
use palisade_agent::{
    clock::{Timestamp, WallClock},
    errors::Chain,
    logs::{Batch, CloudLogs, Failure, NewGroups, Outcome},
    sys::secret_file,
};
use reqwest::{
    Client, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue},
    redirect::Policy,
};

use crate::feed_http::{self, HttpFeedError};

const CONNECT: Duration = Duration::from_secs(10);
/// Longest time for one request; an endpoint that never answers would hold a lane for ever.
const ATTEMPT: Duration = Duration::from_secs(30);
/// Events older than this are sent as of now. The API drops what is older than 48 hours.
const OLDEST: Duration = Duration::from_secs(47 * 3600);
/// Most of an error's body that is told.
const MAX_REASON: usize = 300;
const API_KEY: HeaderName = HeaderName::from_static("api-key");

/// Why lines cannot be sent to New Relic at all.
#[derive(Debug, thiserror::Error)]
pub enum NewRelicError {
    /// There is no HTTP client.
    #[error(transparent)]
    Http(#[from] HttpFeedError),
}

/// New Relic as the log path sees it.
#[derive(Debug)]
pub struct NewRelic<W> {
    client: Client,
    endpoint: String,
    key_file: PathBuf,
    /// The license key as read last; read again after it was refused.
    key: Mutex<Option<HeaderValue>>,
    host: String,
    clock: W,
}

impl<W: WallClock> NewRelic<W> {
    /// Sends to this endpoint with the key of this file, as this host. The file is read when it is first
    /// needed, so that a key may come later.
    ///
    /// # Errors
    /// When no HTTP client can be built.
    pub fn new(
        endpoint: String,
        key_file: PathBuf,
        host: String,
        clock: W,
    ) -> Result<Self, NewRelicError> {
        // A redirect would carry the key elsewhere.
        let client = feed_http::client(feed_http::host_roots(), CONNECT, Policy::none())?;
        Ok(Self { client, endpoint, key_file, key: Mutex::new(None), host, clock })
    }

    fn key(&self) -> Result<HeaderValue, Failure> {
        let mut known = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = &*known {
            return Ok(key.clone());
        }
        let key = read_key(&self.key_file).map_err(|e| {
            let (path, e) = (self.key_file.display(), Chain(&e));
            Failure::Credentials(format!(
                "read {path}: {e} (hint: put the license key in it; chown root: {path}; chmod 600 {path})"
            ))
        })?;
        *known = Some(key.clone());
        Ok(key)
    }

    fn forget_key(&self) {
        *self.key.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    async fn send(&self, body: Vec<u8>) -> Outcome {
        let key = match self.key() {
            Ok(key) => key,
            Err(why) => return Outcome::Failed(why),
        };
        let request = self
            .client
            .post(&self.endpoint)
            .header(API_KEY, key)
            .header(CONTENT_TYPE, "application/json")
            .header(CONTENT_ENCODING, "gzip")
            .timeout(ATTEMPT)
            .body(body);
        // Without its URL, an error's text is short; the endpoint is in the configuration.
        let answer = match request.send().await.map_err(reqwest::Error::without_url) {
            Ok(answer) => answer,
            Err(e) if e.is_connect() => {
                return Outcome::Failed(Failure::NotSent(Chain(&e).to_string()));
            }
            Err(e) => return Outcome::Failed(Failure::Unavailable(Chain(&e).to_string())),
        };
        let status = answer.status();
        if status.is_success() {
            return Outcome::Accepted;
        }
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            self.forget_key();
        }
        Outcome::Failed(classify(status, &reason(answer).await))
    }
}

impl<W: WallClock> CloudLogs for NewRelic<W> {
    async fn put(&self, group: &str, stream: &str, batch: &Arc<Batch>) -> Outcome {
        let common = common(&self.host, group, stream);
        let (batch, now) = (batch.clone(), self.clock.now());
        // Packing takes milliseconds, which other tasks of this thread should not wait for.
        let packed = tokio::task::spawn_blocking(move || pack(&common, &batch, now)).await;
        match packed.map_err(io::Error::other).and_then(|p| p) {
            Ok(body) => self.send(body).await,
            Err(e) => Outcome::Failed(Failure::NotSent(e.to_string())),
        }
    }

    /// There is nothing to make there.
    async fn ensure_stream(&self, _: &str, _: &str, _: &NewGroups) -> Result<(), Failure> {
        Ok(())
    }
}

fn read_key(path: &Path) -> io::Result<HeaderValue> {
    let key = secret_file::line(path)?;
    let mut value = HeaderValue::from_str(&key).map_err(io::Error::other)?;
    value.set_sensitive(true);
    Ok(value)
}

/// What all events of a request have in common.
fn common(host: &str, group: &str, stream: &str) -> serde_json::Value {
    serde_json::json!({ "attributes": {
        "hostname": host, "logGroup": group, "logStream": stream, "plugin": { "type": "palisade" },
    }})
}

fn pack(common: &serde_json::Value, batch: &Batch, now: Timestamp) -> io::Result<Vec<u8>> {
    let mut gz = GzEncoder::new(Vec::with_capacity(batch.json().len() / 4), Compression::fast());
    write!(gz, "[{{\"common\":{common},\"logs\":[")?;
    let is_old = |at: Timestamp| now.since(at) > OLDEST;
    if batch.first_time().is_some_and(is_old) {
        for (i, (at, text)) in batch.events().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            let time = if is_old(at) { now } else { at }.as_millis();
            write!(gz, "{comma}{{\"timestamp\":{time},")?;
            if is_old(at) {
                write!(gz, "\"attributes\":{{\"originalTimestamp\":{}}},", at.as_millis())?;
            }
            gz.write_all(b"\"message\":")?;
            gz.write_all(text)?;
            gz.write_all(b"}")?;
        }
    } else {
        gz.write_all(batch.json())?;
    }
    gz.write_all(b"]}]")?;
    gz.finish()
}

async fn reason(answer: reqwest::Response) -> String {
    let mut answer = answer;
    let first = answer.chunk().await.ok().flatten().unwrap_or_default();
    let text = String::from_utf8_lossy(first.get(..MAX_REASON).unwrap_or(&first));
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn classify(status: StatusCode, reason: &str) -> Failure {
    let what = format!("New Relic answered {status}: {reason}");
    match status {
        StatusCode::TOO_MANY_REQUESTS => Failure::Throttled,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Failure::Credentials(format!("{what} (hint: is the license key of this region?)"))
        }
        StatusCode::BAD_REQUEST
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::UNPROCESSABLE_ENTITY => Failure::Invalid(what),
        s if s.is_server_error() || s == StatusCode::REQUEST_TIMEOUT => Failure::Unavailable(what),
        // A redirect, a wrong path, a proxy: the lines wait for whoever mends it.
        _ => Failure::Denied(what),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    fn unpacked(batch: &Batch, now: Timestamp) -> serde_json::Value {
        let body = pack(&common("h", "/g", "s\"1"), batch, now).unwrap();
        let mut text = String::new();
        GzDecoder::new(body.as_slice()).read_to_string(&mut text).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_batch_is_one_block_with_common_attributes() {
        let mut batch = Batch::new(1, 0);
        batch.push(Timestamp::from_secs(1_000_000), "a \"quoted\" line", 1).unwrap();
        batch.push(Timestamp::from_secs(1_000_001), "é", 2).unwrap();
        let v = unpacked(&batch, Timestamp::from_secs(1_000_002));
        assert_eq!(v[0]["common"]["attributes"]["logStream"], "s\"1");
        assert_eq!(v[0]["logs"][0]["message"], "a \"quoted\" line");
        assert_eq!(v[0]["logs"][1]["timestamp"], 1_000_001_000_i64);
        assert_eq!(v[0]["logs"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn what_would_be_too_old_goes_as_of_now_and_says_when_it_was() {
        let mut batch = Batch::new(1, 0);
        let (old, fresh) = (Timestamp::from_secs(1_000_000), Timestamp::from_secs(1_000_100));
        batch.push(old, "old", 1).unwrap();
        batch.push(fresh, "fresh", 2).unwrap();
        let now = Timestamp::from_secs(1_000_050).plus(OLDEST);
        let v = unpacked(&batch, now);
        assert_eq!(v[0]["logs"][0]["timestamp"], now.as_millis());
        assert_eq!(v[0]["logs"][0]["attributes"]["originalTimestamp"], old.as_millis());
        assert_eq!(v[0]["logs"][1]["timestamp"], fresh.as_millis());
        assert!(v[0]["logs"][1].get("attributes").is_none());
    }

    #[test]
    fn each_answer_has_its_meaning() {
        let of = |code| classify(StatusCode::from_u16(code).unwrap(), "x");
        assert_eq!(of(429), Failure::Throttled);
        assert!(matches!(of(403), Failure::Credentials(_)));
        assert!(matches!(of(413), Failure::Invalid(_)) && matches!(of(400), Failure::Invalid(_)));
        assert!(matches!(of(503), Failure::Unavailable(_)));
        assert!(matches!(of(408), Failure::Unavailable(_)));
        assert!(matches!(of(301), Failure::Denied(_)) && matches!(of(404), Failure::Denied(_)));
    }
}
