//! One question to EC2: made, signed, sent, asked again where that helps, all its pages.

use std::{
    env,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_credential_types::{Credentials, provider::ProvideCredentials as _};
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use palisade_agent::{
    clock::{SystemClock, WallClock as _},
    errors::Chain,
    firewall::FetchError,
};
use reqwest::{Client, Response};
use roxmltree::Node;
use tokio::time;

use super::answers;
use crate::Clients;

/// Version of EC2's interface.
const VERSION: &str = "2016-11-15";
/// Pages of one question. The largest list that is let in fits into fewer.
const MAX_PAGES: usize = 64;
/// Bytes of one page.
const MAX_PAGE: usize = 4 << 20;
/// Tries of one page.
const TRIES: u32 = 4;
/// First wait between two.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// Time for one try.
const ATTEMPT: Duration = Duration::from_secs(20);
const FORM: &str = "application/x-www-form-urlencoded";

/// The parameters of a question.
#[derive(Clone, Debug, Default)]
pub(super) struct Parameters {
    pairs: Vec<(String, String)>,
    filters: usize,
}

impl Parameters {
    pub(super) fn add(&mut self, name: &str, value: &str) {
        self.pairs.push((name.to_owned(), value.to_owned()));
    }

    /// Only what has one of `values` for `name`.
    pub(super) fn filter(&mut self, name: &str, values: &[&str]) {
        self.filters += 1;
        let n = self.filters;
        self.add(&format!("Filter.{n}.Name"), name);
        for (at, value) in (1..).zip(values) {
            self.add(&format!("Filter.{n}.Value.{at}"), value);
        }
    }
}

/// Who asks, and where.
pub(super) struct Asker<'a> {
    http: &'a Client,
    url: String,
    region: String,
    credentials: Credentials,
}

/// Why there is no page.
enum Trouble {
    /// Another try may help.
    Passing(FetchError),
    /// None will.
    Lasting(FetchError),
}

impl Trouble {
    fn into_error(self) -> FetchError {
        match self {
            Self::Passing(e) | Self::Lasting(e) => e,
        }
    }
}

impl<'a> Asker<'a> {
    /// Finds where EC2 is and who asks.
    pub(super) async fn new(http: &'a Client, clients: &Clients) -> Result<Self, FetchError> {
        let config = clients.config();
        let region = config.region().map(|r| r.as_ref().to_owned());
        let region = region.ok_or_else(|| FetchError::new("no AWS region is known"))?;
        let provider = config
            .credentials_provider()
            .ok_or_else(|| FetchError::new("no way to find AWS credentials is configured"))?;
        let credentials = provider.provide_credentials().await.map_err(|e| {
            FetchError::because("find AWS credentials (give the instance a role)", e)
        })?;
        let said = Said {
            ec2: env::var("AWS_ENDPOINT_URL_EC2").ok(),
            all: env::var("AWS_ENDPOINT_URL").ok(),
            ignore: env::var("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS").is_ok_and(|v| v == "true"),
            config: config.endpoint_url().map(str::to_owned),
            fips: config.use_fips().unwrap_or(false),
            dual_stack: config.use_dual_stack().unwrap_or(false),
        };
        Ok(Self { http, url: said.url(&region), region, credentials })
    }

    /// Asks for all pages, of `size` each, and gives each to `take`.
    pub(super) async fn pages(
        &self,
        operation: &'static str,
        parameters: &Parameters,
        size: u32,
        mut take: impl FnMut(Node<'_, '_>) + Send,
    ) -> Result<(), FetchError> {
        let mut token: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let text = self.page(operation, parameters, size, token.as_deref()).await?;
            let bad = |why: String| {
                FetchError::new(format!("EC2's answer to {operation} cannot be read: {why}"))
            };
            let document = answers::parse(&text, operation).map_err(bad)?;
            let root = document.root_element();
            let next = answers::next_token(root).map(str::to_owned);
            take(root);
            match next {
                None => return Ok(()),
                next if next == token => return Err(bad("its pages go round in a circle".into())),
                next => token = next,
            }
        }
        Err(FetchError::new(format!("{operation} of EC2 has more than {MAX_PAGES} pages")))
    }

    async fn page(
        &self,
        operation: &'static str,
        parameters: &Parameters,
        size: u32,
        token: Option<&str>,
    ) -> Result<String, FetchError> {
        let mut body = format!("Action={operation}&Version={VERSION}&MaxResults={size}");
        let next = token.map(|t| ("NextToken", t));
        let pairs = parameters.pairs.iter().map(|(n, v)| (n.as_str(), v.as_str()));
        for (name, value) in pairs.chain(next) {
            body.push_str(&format!("&{}={}", percent(name), percent(value)));
        }
        let mut wait = FIRST_WAIT;
        for _ in 1..TRIES {
            match self.attempt(operation, &body).await {
                Ok(text) => return Ok(text),
                Err(Trouble::Lasting(e)) => return Err(e),
                Err(Trouble::Passing(e)) => {
                    tracing::debug!(error = %Chain(&e), "EC2 is asked again");
                }
            }
            time::sleep(wait).await;
            wait *= 2;
        }
        self.attempt(operation, &body).await.map_err(Trouble::into_error)
    }

    async fn attempt(&self, operation: &str, body: &str) -> Result<String, Trouble> {
        let mut request = self
            .http
            .post(&self.url)
            .timeout(ATTEMPT)
            .header("content-type", FORM)
            .body(body.to_owned());
        for (name, value) in self.signature(body).map_err(Trouble::Lasting)? {
            request = request.header(name, value);
        }
        let lost = |e: reqwest::Error| {
            let what = format!("ask {} for {operation}", self.url);
            Trouble::Passing(FetchError::because(what, e.without_url()))
        };
        let response = request.send().await.map_err(lost)?;
        let status = response.status();
        let text = read(response, operation).await?;
        if status.is_success() {
            return Ok(text);
        }
        let (code, message) = answers::refusal(&text)
            .unwrap_or_else(|| (status.to_string(), "no message".to_owned()));
        let advice = advice(&code, operation);
        let error = FetchError::new(format!("EC2 refuses {operation}: {code}: {message}{advice}"));
        let passes = is_throttle(&code) || status.is_server_error();
        Err(if passes { Trouble::Passing(error) } else { Trouble::Lasting(error) })
    }

    fn signature(&self, body: &str) -> Result<Vec<(String, String)>, FetchError> {
        let since = u64::try_from(SystemClock.now().as_secs()).unwrap_or(0);
        let now = UNIX_EPOCH.checked_add(Duration::from_secs(since)).unwrap_or(UNIX_EPOCH);
        self.signature_at(body, now).map_err(|why| FetchError::new(format!("sign: {why}")))
    }

    fn signature_at(&self, body: &str, now: SystemTime) -> Result<Vec<(String, String)>, String> {
        let identity = self.credentials.clone().into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("ec2")
            .time(now)
            .settings(SigningSettings::default())
            .build()
            .map_err(|e| Chain(&e).to_string())?
            .into();
        let headers = std::iter::once(("content-type", FORM));
        let body = SignableBody::Bytes(body.as_bytes());
        let signable = SignableRequest::new("POST", self.url.as_str(), headers, body)
            .map_err(|e| Chain(&e).to_string())?;
        let signed = sign(signable, &params).map_err(|e| Chain(&e).to_string())?;
        let (made, _) = signed.into_parts();
        Ok(made.headers().map(|(n, v)| (n.to_owned(), v.to_owned())).collect())
    }
}

async fn read(mut response: Response, operation: &str) -> Result<String, Trouble> {
    let mut bytes = Vec::new();
    loop {
        let chunk = response.chunk().await.map_err(|e| {
            Trouble::Passing(FetchError::because(format!("read the answer to {operation}"), e))
        })?;
        let Some(chunk) = chunk else { break };
        if bytes.len() + chunk.len() > MAX_PAGE {
            let why = format!("EC2's answer to {operation} has more than {MAX_PAGE} bytes");
            return Err(Trouble::Lasting(FetchError::new(why)));
        }
        bytes.extend_from_slice(&chunk);
    }
    let bad =
        |e| Trouble::Lasting(FetchError::because(format!("read the answer to {operation}"), e));
    String::from_utf8(bytes).map_err(bad)
}

fn is_throttle(code: &str) -> bool {
    matches!(code, "RequestLimitExceeded" | "Throttling" | "ThrottlingException" | "SlowDown")
}

/// What somebody can do about a refusal.
fn advice(code: &str, operation: &str) -> String {
    match code {
        "UnauthorizedOperation" | "AccessDenied" | "AccessDeniedException" => {
            format!(" (allow ec2:{operation} to the instance's role)")
        }
        "AuthFailure"
        | "RequestExpired"
        | "InvalidClientTokenId"
        | "ExpiredToken"
        | "SignatureDoesNotMatch" => {
            " (check the host's clock and that its role's credentials are valid)".to_owned()
        }
        _ => String::new(),
    }
}

/// What is said about where EC2 is.
struct Said {
    ec2: Option<String>,
    all: Option<String>,
    ignore: bool,
    config: Option<String>,
    fips: bool,
    dual_stack: bool,
}

impl Said {
    fn url(&self, region: &str) -> String {
        let said = [&self.ec2, &self.all, &self.config];
        let said = said.into_iter().flatten().find(|url| !url.is_empty()).filter(|_| !self.ignore);
        if let Some(url) = said {
            return format!("{}/", url.trim_end_matches('/'));
        }
        let fips = if self.fips { "-fips" } else { "" };
        let suffix = match (self.dual_stack, region.starts_with("cn-")) {
            (false, false) => "amazonaws.com",
            (false, true) => "amazonaws.com.cn",
            (true, false) => "api.aws",
            (true, true) => "api.amazonwebservices.com.cn",
        };
        format!("https://ec2{fips}.{region}.{suffix}/")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_ec2_alone_wins_and_aws_names_follow_the_region() {
        let none = || Said {
            ec2: None,
            all: None,
            ignore: false,
            config: None,
            fips: false,
            dual_stack: false,
        };
        let url = |said: Said, region| said.url(region);
        assert_eq!(url(none(), "eu-central-1"), "https://ec2.eu-central-1.amazonaws.com/");
        assert_eq!(url(none(), "cn-north-1"), "https://ec2.cn-north-1.amazonaws.com.cn/");
        let both = Said { fips: true, dual_stack: true, ..none() };
        assert_eq!(url(both, "us-east-1"), "https://ec2-fips.us-east-1.api.aws/");
        let two = || Said {
            ec2: Some("http://127.0.0.1:1".to_owned()),
            all: Some("http://127.0.0.1:2/".to_owned()),
            ..none()
        };
        assert_eq!(url(two(), "x-1"), "http://127.0.0.1:1/");
        assert_eq!(url(Said { ec2: None, ..two() }, "x-1"), "http://127.0.0.1:2/");
        let ignored = Said { ignore: true, ..two() };
        assert_eq!(url(ignored, "us-east-1"), "https://ec2.us-east-1.amazonaws.com/");
    }

    #[test]
    fn a_form_is_written_so_that_every_byte_survives() {
        assert_eq!(percent("ELB app/a b&=é*"), "ELB%20app%2Fa%20b%26%3D%C3%A9%2A");
    }
}
