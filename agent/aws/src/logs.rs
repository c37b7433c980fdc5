//! CloudWatch Logs.
//!
//! The body of PutLogEvents is put together here from a batch's JSON and, if wanted, packed with
//! gzip (which the service takes, although its model does not say so); the SDK signs and sends it,
//! and reads the answer.

use std::{
    error::Error,
    io::Write as _,
    iter,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aws_sdk_cloudwatchlogs::{
    Client, Config,
    config::IdentityCache,
    error::{ProvideErrorMetadata, SdkError},
    operation::put_log_events::PutLogEventsOutput,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use hyper_util::client;
use palisade_agent::logs::{Batch, CloudLogs, Failure, NewGroups, Outcome, Refused};

use crate::Clients;

/// Smaller bodies are not worth packing.
const WORTH_PACKING: usize = 1024;
/// A new group's retention is tried so often, the first time again after this and then twice as long: its
/// calls are few a second for a whole account.
const RETENTION_TRIES: u32 = 5;
const RETENTION_AGAIN: Duration = Duration::from_millis(200);

/// CloudWatch Logs as the log path sees it.
#[derive(Clone, Debug)]
pub struct CloudWatch {
    config: Config,
    /// Exchanged when the service finds its credentials expired or wrong.
    client: Arc<RwLock<Client>>,
    /// Pack bodies; until the endpoint shows that it cannot unpack them.
    compress: Arc<AtomicBool>,
    /// Groups and streams are made one at a time, so that lanes that miss the same group do not
    /// race for it and the account's rate for such calls is spared.
    ensuring: Arc<tokio::sync::Mutex<()>>,
}

impl CloudWatch {
    /// A client; `compress` packs bodies with gzip.
    #[must_use]
    pub fn new(clients: &Clients, compress: bool) -> Self {
        let compress = Arc::new(AtomicBool::new(compress));
        let config = Config::from(clients.config());
        let client = Arc::new(RwLock::new(Client::from_conf(config.clone())));
        Self { config, client, compress, ensuring: Arc::default() }
    }
}

impl CloudLogs for CloudWatch {
    async fn put(&self, group: &str, stream: &str, batch: &Arc<Batch>) -> Outcome {
        let (names, batch) = (head(group, stream), batch.clone());
        let compress = self.compress.load(Ordering::Relaxed);
        // Packing takes milliseconds, which other tasks of this thread should not wait for.
        let body = match tokio::task::spawn_blocking(move || body(&names, &batch, compress)).await {
            Ok(Ok(body)) => body,
            Ok(Err(e)) => return Outcome::Failed(Failure::NotSent(e.to_string())),
            Err(e) => return Outcome::Failed(Failure::NotSent(e.to_string())),
        };
        let packed = body.packed;
        let request = self
            .client()
            .put_log_events()
            .log_group_name(group)
            .log_stream_name(stream)
            .set_log_events(Some(Vec::new()))
            .customize()
            // Runs before signing, so the signature is of these bytes.
            .mutate_request(move |r| {
                r.headers_mut().insert("content-length", body.bytes.len().to_string());
                if body.packed {
                    r.headers_mut().insert("content-encoding", "gzip");
                }
                *r.body_mut() = SdkBody::from(body.bytes.clone());
            });
        match request.send().await {
            Ok(answer) => accepted(&answer),
            Err(e) if packed && cannot_unpack(&e) => {
                self.compress.store(false, Ordering::Relaxed);
                tracing::warn!("the endpoint does not take gzip bodies; sending plain ones");
                Outcome::Failed(Failure::Throttled)
            }
            Err(e) => {
                if are_over(&e) {
                    self.forget_credentials();
                }
                Outcome::Failed(classify(&e))
            }
        }
    }

    async fn ensure_stream(
        &self,
        group: &str,
        stream: &str,
        new: &NewGroups,
    ) -> Result<(), Failure> {
        let _one_at_a_time = self.ensuring.lock().await;
        let missing = match self.create_stream(group, stream).await {
            Err(Failure::Missing) => true,
            done => return done,
        };
        if missing {
            self.create_group(group, new).await?;
        }
        self.create_stream(group, stream).await
    }
}

impl CloudWatch {
    fn client(&self) -> Client {
        self.client.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Credentials are asked for anew with the next request. The SDK keeps them until they say that they
    /// expire, though the service may have ended them before.
    fn forget_credentials(&self) {
        let fresh = self.config.to_builder().identity_cache(IdentityCache::lazy().build()).build();
        *self.client.write().unwrap_or_else(PoisonError::into_inner) = Client::from_conf(fresh);
    }

    async fn create_stream(&self, group: &str, stream: &str) -> Result<(), Failure> {
        let call = self.client().create_log_stream().log_group_name(group).log_stream_name(stream);
        call.send().await.map(drop).or_else(exists)
    }

    async fn create_group(&self, group: &str, new: &NewGroups) -> Result<(), Failure> {
        let call = self.client().create_log_group().log_group_name(group);
        match call.set_kms_key_id(new.kms_key.clone()).send().await {
            Ok(_) => {}
            // Somebody else made it, and its retention is theirs.
            Err(e) => return exists(e),
        }
        tracing::info!(group, "log group made");
        let Some(days) = new.retention_days.and_then(|d| i32::try_from(d).ok()) else {
            return Ok(());
        };
        let mut wait = RETENTION_AGAIN;
        for left in (0..RETENTION_TRIES).rev() {
            let call = self.client().put_retention_policy().log_group_name(group);
            let Err(e) = call.retention_in_days(days).send().await else { return Ok(()) };
            let passes = matches!(
                classify(&e),
                Failure::Throttled | Failure::Unavailable(_) | Failure::NotSent(_)
            );
            if left == 0 || !passes {
                // The group is there and logs come first; the group merely keeps them for ever.
                tracing::warn!(group, error = %text(&e), "the group's retention could not be set");
                break;
            }
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
        Ok(())
    }
}

struct Body {
    bytes: Bytes,
    packed: bool,
}

/// The JSON before the events.
fn head(group: &str, stream: &str) -> String {
    let quoted = |s: &str| format!("\"{}\"", s.replace('\\', "\\\\").replace('"', "\\\""));
    format!(
        "{{\"logGroupName\":{},\"logStreamName\":{},\"logEvents\":[",
        quoted(group),
        quoted(stream)
    )
}

fn body(head: &str, batch: &Batch, compress: bool) -> std::io::Result<Body> {
    const TAIL: &[u8] = b"]}";
    let parts = [head.as_bytes(), batch.json(), TAIL];
    let len: usize = parts.iter().map(|p| p.len()).sum();
    let packed = compress && len > WORTH_PACKING;
    if !packed {
        return Ok(Body { bytes: parts.concat().into(), packed });
    }
    let mut gz = GzEncoder::new(Vec::with_capacity(len / 4), Compression::fast());
    for p in parts {
        gz.write_all(p)?;
    }
    Ok(Body { bytes: gz.finish()?.into(), packed })
}

fn accepted(answer: &PutLogEventsOutput) -> Outcome {
    let Some(r) = answer.rejected_log_events_info() else { return Outcome::Accepted };
    let index = |i: Option<i32>| i.and_then(|i| usize::try_from(i).ok());
    Outcome::AcceptedBut(Refused {
        too_old_end: index(r.too_old_log_event_end_index()),
        expired_end: index(r.expired_log_event_end_index()),
        too_new_start: index(r.too_new_log_event_start_index()),
    })
}

/// Whether the endpoint took a packed body for nonsense.
fn cannot_unpack<E: ProvideErrorMetadata>(e: &SdkError<E, HttpResponse>) -> bool {
    let code = e.as_service_error().and_then(ProvideErrorMetadata::code);
    let status = e.raw_response().map_or(0, |r| r.status().as_u16());
    code == Some("SerializationException") || status == 415
}

/// Whether the service knows these credentials no longer. A signature that it refuses is another thing:
/// by such an answer the client learns the service's time, and must live on.
fn are_over<E: ProvideErrorMetadata>(e: &SdkError<E, HttpResponse>) -> bool {
    const CODES: [&str; 4] = [
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidClientTokenId",
        "UnrecognizedClientException",
    ];
    let code = e.as_service_error().and_then(ProvideErrorMetadata::code);
    code.is_some_and(|code| CODES.contains(&code))
}

/// That it exists already is what was wanted.
fn exists<E>(e: SdkError<E, HttpResponse>) -> Result<(), Failure>
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match e.as_service_error().and_then(ProvideErrorMetadata::code) {
        Some("ResourceAlreadyExistsException") => Ok(()),
        _ => Err(classify(&e)),
    }
}

/// Whether no connection came to be, so that nothing of the request can have arrived.
fn is_without_connection<E>(e: &SdkError<E, HttpResponse>) -> bool
where
    E: Error + 'static,
{
    let first: Option<&(dyn Error + 'static)> = Some(e);
    iter::successors(first, |&e| e.source())
        .filter_map(|e| e.downcast_ref::<client::legacy::Error>())
        .any(client::legacy::Error::is_connect)
}

fn classify<E>(e: &SdkError<E, HttpResponse>) -> Failure
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let Some(service) = e.as_service_error() else {
        let text = text(e);
        // A credentials error comes as a failure to dispatch; its type is not public.
        let no_credentials = !matches!(e, SdkError::TimeoutError(_))
            && ["credential", "Credential", "identity"].iter().any(|w| text.contains(w));
        return if no_credentials {
            Failure::Credentials(format!(
                "{text} (hint: give the instance a role, or set AWS_ACCESS_KEY_ID and \
                 AWS_SECRET_ACCESS_KEY or AWS_PROFILE for the agent)"
            ))
        } else if is_without_connection(e) {
            Failure::NotSent(text)
        } else {
            Failure::Unavailable(text)
        };
    };
    let code = service.code().unwrap_or_default();
    let status = e.raw_response().map_or(0, |r| r.status().as_u16());
    let what = format!("{code}: {}", service.message().unwrap_or("no message"));
    match code {
        "ThrottlingException"
        | "Throttling"
        | "RequestLimitExceeded"
        | "LimitExceededException"
        | "TooManyRequestsException" => Failure::Throttled,
        "ResourceNotFoundException" => Failure::Missing,
        "AccessDeniedException" | "AccessDenied" | "OptInRequired" => Failure::Denied(what),
        "UnrecognizedClientException"
        | "ExpiredTokenException"
        | "ExpiredToken"
        | "InvalidSignatureException"
        | "MissingAuthenticationToken"
        | "IncompleteSignature"
        | "InvalidClientTokenId"
        | "RequestExpired" => Failure::Credentials(what),
        "InvalidParameterException" | "ValidationException" | "SerializationException" => {
            Failure::Invalid(what)
        }
        // A body that the service or a proxy finds too long: shorter ones may pass.
        _ if status == 413 => Failure::Invalid(what),
        _ if status == 403 => Failure::Denied(what),
        _ if status == 429 => Failure::Throttled,
        _ => Failure::Unavailable(format!("status {status}, {what}")),
    }
}

/// The error with its causes; some of the SDK's say nothing of them themselves.
fn text<E>(e: &SdkError<E, HttpResponse>) -> String
where
    E: Error + 'static,
{
    palisade_agent::errors::Chain(e).to_string()
}
