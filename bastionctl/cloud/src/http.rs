//! Sends requests: signed, bounded, and sent again where that is right.

use std::{sync::Arc, time::Duration};

use reqwest::{Client, Response};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use serde_json::Value;

use super::{Cloud, CloudError, Json, Query, Repeat, clock, endpoint, error, sign};

/// Time to connect, TLS included.
const CONNECT: Duration = Duration::from_secs(5);
/// Time for one try.
const ATTEMPT: Duration = Duration::from_secs(30);
/// Tries in all.
const ATTEMPTS: u32 = 5;
/// Longest wait between two tries.
const MAX_WAIT: Duration = Duration::from_secs(5);
/// Longest answer; a page of instances is far below it.
const MAX_ANSWER: usize = 8 << 20;

/// A request before it is signed.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) service: &'static str,
    pub(crate) operation: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Call {
    pub(crate) fn json(service: Json, operation: &'static str, body: &Value) -> Self {
        let headers = vec![
            ("content-type", "application/x-amz-json-1.1".to_owned()),
            ("x-amz-target", format!("{}.{operation}", service.target)),
        ];
        let body = body.to_string().into_bytes();
        Self { service: service.name, operation, headers, body }
    }

    pub(crate) fn query(
        service: Query,
        operation: &'static str,
        parameters: &[(String, String)],
    ) -> Self {
        let mut body = format!("Action={operation}&Version={}", service.version);
        for (name, value) in parameters {
            body.push_str(&format!("&{}={}", percent(name), percent(value)));
        }
        let headers = vec![("content-type", "application/x-www-form-urlencoded".to_owned())];
        Self { service: service.name, operation, headers, body: body.into_bytes() }
    }
}

/// Everything but what a form leaves as it is.
fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

/// An HTTP client that trusts the roots of this machine and honours `HTTPS_PROXY` and `NO_PROXY`.
pub(crate) fn client(tool: &str) -> Result<Client, CloudError> {
    let mut roots = RootCertStore::empty();
    // A damaged certificate among the machine's is no reason to trust none of them.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| CloudError::Client(e.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(format!("{tool}/{}", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT)
        .timeout(ATTEMPT)
        .referer(false)
        .build()
        .map_err(|e| CloudError::Client(crate::chain(&e)))
}

impl Cloud {
    /// Where a service is.
    pub(crate) fn endpoint(&self, service: &str) -> String {
        let env = |name: &str| std::env::var(name).ok();
        let inner = &self.inner;
        let names = endpoint::Names {
            fips: inner.config.use_fips().unwrap_or(false),
            dual_stack: inner.config.use_dual_stack().unwrap_or(false),
        };
        let ignore = env("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS").is_some_and(|v| v == "true");
        let said = if ignore {
            vec![inner.endpoint.clone()]
        } else {
            vec![
                inner.endpoint.clone(),
                env(&format!("AWS_ENDPOINT_URL_{}", service.to_uppercase())),
                env("AWS_ENDPOINT_URL"),
                inner.config.endpoint_url().map(str::to_owned),
            ]
        };
        endpoint::url(service, &self.region, names, &said)
    }

    /// Sends a call until it is answered, refused for good, or has failed too often.
    pub(crate) async fn send(&self, call: &Call, repeat: Repeat) -> Result<Vec<u8>, CloudError> {
        let url = format!("{}/", self.endpoint(call.service));
        let mut wait = Duration::from_millis(100);
        let mut tries = 1;
        loop {
            let error = match self.attempt(call, &url).await {
                Ok(answer) => return Ok(answer),
                Err(e) => e,
            };
            if tries == ATTEMPTS || !error.may_pass(repeat) {
                return Err(error);
            }
            tokio::time::sleep(clock::jitter(wait)).await;
            wait = (wait * 2).min(MAX_WAIT);
            tries += 1;
        }
    }

    async fn attempt(&self, call: &Call, url: &str) -> Result<Vec<u8>, CloudError> {
        let credentials = self.credentials().await?;
        let signable = sign::Signable {
            method: "POST",
            url,
            headers: &call.headers,
            body: &call.body,
            service: call.service,
            region: &self.region,
        };
        let signed = sign::headers(&signable, credentials, clock::now())?;
        let mut request = self.inner.http.post(url).body(call.body.clone());
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        for (name, value) in signed {
            request = request.header(name, value);
        }
        let lost = |e: reqwest::Error| CloudError::Unreachable {
            operation: call.operation,
            endpoint: url.to_owned(),
            received: !e.is_connect(),
            why: crate::chain(&e.without_url()),
        };
        let response = request.send().await.map_err(lost)?;
        let status = response.status();
        let header = response.headers().get("x-amzn-errortype");
        let kind = header.and_then(|v| v.to_str().ok()).map(str::to_owned);
        let body = read(response, call.operation, lost).await?;
        if status.is_success() {
            return Ok(body);
        }
        Err(error::of_answer(call.operation, status.as_u16(), kind.as_deref(), &body, self))
    }
}

async fn read(
    mut response: Response,
    operation: &'static str,
    lost: impl Fn(reqwest::Error) -> CloudError,
) -> Result<Vec<u8>, CloudError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(&lost)? {
        if body.len() + chunk.len() > MAX_ANSWER {
            let why = format!("more than {MAX_ANSWER} bytes");
            return Err(CloudError::Answer { operation, why });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_written_so_that_every_byte_survives() {
        let call = Call::query(
            Query { name: "ec2", version: "2016-11-15" },
            "DescribeInstances",
            &[("Filter.1.Name".into(), "tag:a b&=é".into())],
        );
        let body = String::from_utf8(call.body).unwrap();
        assert_eq!(
            body,
            "Action=DescribeInstances&Version=2016-11-15&Filter.1.Name=tag%3Aa%20b%26%3D%C3%A9"
        );
    }
}
