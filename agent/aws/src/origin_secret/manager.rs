//! A secret of Secrets Manager: two operations of the JSON 1.1 protocol, made and signed by hand.
//!
//! A generated client of the service is some forty thousand lines for these two questions (see
//! docs/adr/0010 for what such clients cost); the signing is `aws-sigv4`'s, credentials are those of all
//! our clients.

use std::{
    collections::BTreeMap,
    env,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_credential_types::{Credentials, provider::ProvideCredentials as _};
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use palisade_agent::{
    clock::{SystemClock, Timestamp, WallClock as _},
    errors::Chain,
    origin::{Answer, SourceError, Stage},
};
use reqwest::{Client, redirect::Policy};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{Found, failed, hint};
use crate::Clients;

const CONNECT: Duration = Duration::from_secs(5);
const TOTAL: Duration = Duration::from_secs(15);
/// The service's own limit of a value is 64 KiB.
const MAX_ANSWER: usize = 128 << 10;
const CONTENT_TYPE: &str = "application/x-amz-json-1.1";
const SERVICE: &str = "secretsmanager";
const NOT_FOUND: &str = "ResourceNotFoundException";

/// Asks Secrets Manager.
#[derive(Clone, Debug)]
pub(super) struct Manager {
    http: Client,
}

/// An error of the service, or none of an answer.
struct Refusal {
    code: String,
    error: SourceError,
}

impl From<SourceError> for Refusal {
    fn from(error: SourceError) -> Self {
        Self { code: String::new(), error }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Described {
    #[serde(default)]
    version_ids_to_stages: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Got {
    secret_string: Option<String>,
    created_date: Option<f64>,
}

impl Manager {
    pub(super) fn new() -> Result<Self, SourceError> {
        let tls = |e: &dyn std::error::Error| failed(format!("set up TLS: {e}"));
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| tls(&e))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let http = Client::builder()
            .tls_backend_preconfigured(config)
            .user_agent(concat!("palisade/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .connect_timeout(CONNECT)
            .timeout(TOTAL)
            .build()
            .map_err(|e| tls(&e))?;
        Ok(Self { http })
    }

    /// What is current and what is pending, unless the labels are as `tag` says.
    pub(super) async fn read(
        &self,
        clients: &Clients,
        id: &str,
        tag: Option<&str>,
    ) -> Result<Answer, SourceError> {
        let described = self.ask(clients, "DescribeSecret", id, None).await.map_err(|r| r.error)?;
        let described: Described =
            serde_json::from_slice(&described).map_err(|_| unreadable("DescribeSecret"))?;
        let of = |label: &str| {
            let mut all = described.version_ids_to_stages.iter();
            all.find(|(_, labels)| labels.iter().any(|l| l == label)).map(|(v, _)| v.as_str())
        };
        let current = of("AWSCURRENT")
            .ok_or_else(|| failed(format!("secret {id} has no version that is AWSCURRENT")))?;
        // After a rotation both labels may be at one version.
        let pending = of("AWSPENDING").filter(|v| *v != current);
        let now = format!("{current} {}", pending.unwrap_or_default());
        if tag == Some(now.as_str()) {
            return Ok(Answer::Unchanged);
        }
        let mut found = Found::default();
        self.value(clients, id, current, Stage::Current, &mut found).await.map_err(|r| r.error)?;
        let mut tag = Some(now);
        if let Some(version) = pending {
            match self.value(clients, id, version, Stage::Pending, &mut found).await {
                Ok(()) => {}
                // Its value is about to be made: it is asked for again.
                Err(r) if r.code == NOT_FOUND => tag = None,
                // What is current counts all the same.
                Err(r) => found.refused.push(Chain(&r.error).to_string()),
            }
        }
        Ok(found.answer(tag))
    }

    async fn value(
        &self,
        clients: &Clients,
        id: &str,
        version: &str,
        stage: Stage,
        found: &mut Found,
    ) -> Result<(), Refusal> {
        let answer = self.ask(clients, "GetSecretValue", id, Some(version)).await?;
        let got: Got = serde_json::from_slice(&answer).map_err(|_| unreadable("GetSecretValue"))?;
        let value = Zeroizing::new(got.secret_string.unwrap_or_default());
        found.take(&value, stage, version, got.created_date.and_then(moment));
        Ok(())
    }

    async fn ask(
        &self,
        clients: &Clients,
        operation: &'static str,
        id: &str,
        version: Option<&str>,
    ) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        let place = Place::of(clients).await?;
        let mut body = json!({ "SecretId": id });
        if let (Some(version), Some(body)) = (version, body.as_object_mut()) {
            body.insert("VersionId".to_owned(), Value::from(version));
        }
        let body = body.to_string();
        let target = format!("{SERVICE}.{operation}");
        let headers = [("content-type", CONTENT_TYPE), ("x-amz-target", target.as_str())];
        let signed = place.signature(&headers, body.as_bytes(), now())?;
        let mut request = self.http.post(&place.url);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        for (name, value) in signed {
            request = request.header(name, value);
        }
        let lost = |e: reqwest::Error| SourceError {
            what: format!("ask {} for {operation}", place.url),
            hint: Some(
                "let the host reach it by HTTPS, or give it a VPC endpoint for Secrets Manager"
                    .to_owned(),
            ),
            source: Some(Box::new(e.without_url())),
        };
        let mut response = request.body(body).send().await.map_err(lost)?;
        let status = response.status();
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_ANSWER));
        while let Some(chunk) = response.chunk().await.map_err(lost)? {
            if bytes.len() + chunk.len() > MAX_ANSWER {
                let what = format!("the answer to {operation} has more than {MAX_ANSWER} bytes");
                return Err(failed(what).into());
            }
            bytes.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return Ok(bytes);
        }
        let (code, message) = refusal(&bytes);
        let error = SourceError {
            what: format!("read secret {id}: {operation}: {code} (status {status}): {message}"),
            hint: hint(&code, &format!("secretsmanager:{operation}"), &format!("secret {id}")),
            source: None,
        };
        Err(Refusal { code, error })
    }
}

/// An answer is never quoted: it may hold the value.
fn unreadable(operation: &str) -> SourceError {
    failed(format!("the answer to {operation} is not what Secrets Manager says"))
}

/// Name and message of an error.
fn refusal(bytes: &[u8]) -> (String, String) {
    let said: Value = serde_json::from_slice(bytes).unwrap_or(Value::Null);
    let text = |keys: [&str; 2]| {
        let found = keys.iter().find_map(|k| said.get(*k)?.as_str());
        found.unwrap_or("none given").chars().take(300).collect::<String>()
    };
    let code = text(["__type", "code"]);
    let code = code.rsplit('#').next().unwrap_or_default().to_owned();
    (code, text(["message", "Message"]))
}

/// Seconds since the epoch, as the service writes them.
fn moment(seconds: f64) -> Option<Timestamp> {
    let ms = (seconds * 1000.0).round();
    (0.0..4e12).contains(&ms).then(|| ms.to_string().parse().ok().map(Timestamp::from_millis))?
}

fn now() -> SystemTime {
    let since = u64::try_from(SystemClock.now().as_secs()).unwrap_or(0);
    UNIX_EPOCH.checked_add(Duration::from_secs(since)).unwrap_or(UNIX_EPOCH)
}

/// Where the service is, and who asks.
struct Place {
    url: String,
    region: String,
    credentials: Credentials,
}

impl Place {
    async fn of(clients: &Clients) -> Result<Self, SourceError> {
        let config = clients.config();
        let region = config.region().map(|r| r.as_ref().to_owned());
        let region = region.ok_or_else(|| failed("no AWS region is known"))?;
        let no_credentials = |why: String| SourceError {
            what: format!("find AWS credentials: {why}"),
            hint: Some("give the instance a role".to_owned()),
            source: None,
        };
        let provider = config
            .credentials_provider()
            .ok_or_else(|| no_credentials("no way to is configured".to_owned()))?;
        let credentials = provider
            .provide_credentials()
            .await
            .map_err(|e| no_credentials(Chain(&e).to_string()))?;
        let ignore = env::var("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS").is_ok_and(|v| v == "true");
        let said = [
            env::var("AWS_ENDPOINT_URL_SECRETS_MANAGER").ok().filter(|_| !ignore),
            config.endpoint_url().map(str::to_owned),
            env::var("AWS_ENDPOINT_URL").ok().filter(|_| !ignore),
        ];
        let said = said.into_iter().flatten().find(|url| !url.is_empty());
        let url = said.unwrap_or_else(|| {
            standard(
                &region,
                config.use_fips().unwrap_or(false),
                config.use_dual_stack().unwrap_or(false),
            )
        });
        let url = format!("{}/", url.trim_end_matches('/'));
        Ok(Self { url, region, credentials })
    }

    fn signature(
        &self,
        headers: &[(&'static str, &str)],
        body: &[u8],
        now: SystemTime,
    ) -> Result<Vec<(String, String)>, SourceError> {
        let fail = |e: &(dyn std::error::Error + 'static)| failed(format!("sign: {}", Chain(e)));
        let identity = self.credentials.clone().into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(SERVICE)
            .time(now)
            .settings(SigningSettings::default())
            .build()
            .map_err(|e| fail(&e))?
            .into();
        let body = SignableBody::Bytes(body);
        let signable =
            SignableRequest::new("POST", self.url.as_str(), headers.iter().copied(), body)
                .map_err(|e| fail(&e))?;
        let (made, _) = sign(signable, &params).map_err(|e| fail(&e))?.into_parts();
        Ok(made.headers().map(|(n, v)| (n.to_owned(), v.to_owned())).collect())
    }
}

fn standard(region: &str, fips: bool, dual_stack: bool) -> String {
    let fips = if fips { "-fips" } else { "" };
    let suffix = match (dual_stack, region.starts_with("cn-")) {
        (false, false) => "amazonaws.com",
        (false, true) => "amazonaws.com.cn",
        (true, false) => "api.aws",
        (true, true) => "api.amazonwebservices.com.cn",
    };
    format!("https://{SERVICE}{fips}.{region}.{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_is_where_aws_has_it() {
        assert_eq!(
            standard("eu-central-1", false, false),
            "https://secretsmanager.eu-central-1.amazonaws.com"
        );
        assert_eq!(
            standard("cn-north-1", false, false),
            "https://secretsmanager.cn-north-1.amazonaws.com.cn"
        );
        assert_eq!(
            standard("us-east-1", true, true),
            "https://secretsmanager-fips.us-east-1.api.aws"
        );
    }

    #[test]
    fn errors_and_moments_are_read_as_the_service_writes_them() {
        let said = br#"{"__type":"com.amazonaws#AccessDeniedException","Message":"no"}"#;
        assert_eq!(refusal(said), ("AccessDeniedException".to_owned(), "no".to_owned()));
        assert_eq!(refusal(b"<html>").0, "none given");
        assert_eq!(moment(1_790_000_000.123), Some(Timestamp::from_millis(1_790_000_000_123)));
        assert_eq!((moment(f64::NAN), moment(-1.0), moment(1e300)), (None, None, None));
    }
}
