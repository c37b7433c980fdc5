//! What AWS says when it says no, as one line that names the cause, and what to do about it.

use aws_credential_types::provider::error::CredentialsError;
use serde_json::Value;

use super::{Cloud, Repeat, xml};

/// What kind of failure: what a tool's exit code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It was tried and failed.
    Failed,
    /// It was asked for wrongly, or what it reads is wrong.
    Usage,
    /// Nobody answers: AWS, the host or its agent.
    Unreachable,
    /// Policy says no: IAM's, the host's or ours.
    Refused,
}

impl Kind {
    /// The exit code.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unreachable => 4,
            Self::Refused => 5,
        }
    }
}

/// Why an operation has no result.
#[derive(Clone, Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the fields are what the messages name")]
pub enum CloudError {
    /// Nobody says which region.
    #[error("no AWS region is known")]
    NoRegion,
    /// No HTTP client.
    #[error("set up TLS: {0}")]
    Client(String),
    /// No credentials.
    #[error("find AWS credentials: {why}")]
    Credentials {
        profile: Option<String>,
        /// The network or the service failed; the credentials may be good.
        passing: bool,
        why: String,
    },
    /// They cannot sign.
    #[error("sign a request: {0}")]
    Sign(String),
    /// No answer.
    #[error("{operation}: no answer from {endpoint}: {why}")]
    Unreachable {
        operation: &'static str,
        endpoint: String,
        /// It may have arrived.
        received: bool,
        why: String,
    },
    /// An answer that is none.
    #[error("{operation}: the answer makes no sense: {why}")]
    Answer { operation: &'static str, why: String },
    /// An answer that is an error.
    #[error("{operation}: {code}: {message}")]
    Api {
        operation: &'static str,
        status: u16,
        code: String,
        message: String,
        profile: Option<String>,
    },
}

const THROTTLED: [&str; 6] = [
    "ThrottlingException",
    "Throttling",
    "RequestLimitExceeded",
    "TooManyRequestsException",
    "TooManyUpdates",
    "RequestThrottled",
];
const EXPIRED: [&str; 4] =
    ["ExpiredTokenException", "ExpiredToken", "RequestExpired", "TokenRefreshRequired"];
const DENIED: [&str; 4] =
    ["AccessDeniedException", "AccessDenied", "UnauthorizedOperation", "AuthFailure"];

impl CloudError {
    /// The code of AWS's error, if it is one.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Api { code, .. } => Some(code),
            _ => None,
        }
    }

    /// Whether it may go well the next time.
    pub(crate) fn may_pass(&self, repeat: Repeat) -> bool {
        match self {
            Self::Unreachable { received, .. } => !received || repeat == Repeat::Always,
            Self::Api { status, code, .. } => {
                THROTTLED.contains(&code.as_str())
                    || *status == 503
                    || (*status >= 500 && repeat == Repeat::Always)
            }
            Self::NoRegion
            | Self::Client(_)
            | Self::Credentials { .. }
            | Self::Sign(_)
            | Self::Answer { .. } => false,
        }
    }

    /// Nobody knows whether it was carried out.
    #[must_use]
    pub fn may_have_arrived(&self) -> bool {
        self.may_pass(Repeat::Always) && !self.may_pass(Repeat::IfNotDone)
    }

    /// It may go well the next time, for a question that changes nothing.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        self.may_pass(Repeat::Always) || matches!(self, Self::Credentials { passing: true, .. })
    }

    fn is(&self, codes: &[&str]) -> bool {
        self.code().is_some_and(|code| codes.contains(&code))
    }

    /// It is a matter of permission.
    pub fn is_denied(&self) -> bool {
        self.is(&DENIED)
    }

    /// Asking again does not help until somebody has done something.
    pub fn needs_a_person(&self) -> bool {
        match self {
            Self::Api { .. } => self.is_denied() || self.is(&EXPIRED),
            Self::Credentials { passing, .. } => !passing,
            Self::NoRegion | Self::Client(_) | Self::Sign(_) => true,
            Self::Unreachable { .. } | Self::Answer { .. } => false,
        }
    }

    /// What to do about it, where that can be told from here.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoRegion => {
                Some("give --region, or set AWS_REGION or the profile's region".into())
            }
            Self::Credentials { passing: true, .. } => {
                Some("check the network and HTTPS_PROXY, then try again".into())
            }
            Self::Credentials { profile, why, .. } => {
                Some(credentials_hint(profile.as_deref(), why))
            }
            Self::Unreachable { .. } => {
                Some("check the network, HTTPS_PROXY and --region or --endpoint-url".into())
            }
            Self::Api { profile, message, .. } if self.is(&EXPIRED) => {
                Some(credentials_hint(profile.as_deref(), message))
            }
            Self::Api { message, .. } if self.is_denied() => denied_hint(message),
            Self::Api { message, .. } if is_skew(message) => {
                Some("set this machine's clock: it is more than five minutes off".into())
            }
            Self::Api { .. } | Self::Client(_) | Self::Sign(_) | Self::Answer { .. } => None,
        }
    }

    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Unreachable { .. } | Self::Credentials { passing: true, .. } => Kind::Unreachable,
            Self::Api { .. } if self.is_denied() => Kind::Refused,
            Self::NoRegion => Kind::Usage,
            Self::Api { .. }
            | Self::Client(_)
            | Self::Credentials { .. }
            | Self::Sign(_)
            | Self::Answer { .. } => Kind::Failed,
        }
    }
}

/// What `aws-config` says when it has no credentials.
pub(crate) fn of_credentials(profile: Option<String>, error: &CredentialsError) -> CloudError {
    let why = crate::chain(error);
    // The SDK tells these only in words, below the provider that could not load any.
    let passing = matches!(error, CredentialsError::ProviderTimedOut(_))
        || ["dispatch failure", "request has timed out"].iter().any(|w| why.contains(w));
    CloudError::Credentials { profile, passing, why }
}

fn credentials_hint(profile: Option<&str>, why: &str) -> String {
    let with = profile.map(|p| format!(" --profile {p}")).unwrap_or_default();
    let why = why.to_lowercase();
    if why.contains("sso") || why.contains("token") && why.contains("expired") {
        format!("the login is over: aws sso login{with}, or bastionctl login{with}")
    } else {
        format!("aws sso login{with}, or give --profile, or set AWS_ACCESS_KEY_ID and its secret")
    }
}

/// IAM says `User: ARN is not authorized to perform: ACTION on resource: ARN because ...`.
fn denied_hint(message: &str) -> Option<String> {
    let after = |mark: &str| {
        let rest = message.split_once(mark)?.1;
        rest.split_whitespace().next().map(|w| w.trim_end_matches(['.', ',']).to_owned())
    };
    let action = after("not authorized to perform: ")?;
    Some(match after("on resource: ") {
        Some(resource) => format!("ask for {action} on {resource}"),
        None => format!("ask for {action}"),
    })
}

fn is_skew(message: &str) -> bool {
    let message = message.to_lowercase();
    message.contains("signature expired") || message.contains("signature not yet current")
}

/// The error in an answer, of either protocol.
pub(crate) fn of_answer(
    operation: &'static str,
    status: u16,
    header: Option<&str>,
    body: &[u8],
    cloud: &Cloud,
) -> CloudError {
    let text = String::from_utf8_lossy(body);
    let (code, message) = match serde_json::from_slice::<Value>(body) {
        Ok(json) => of_json(header, &json),
        Err(_) => of_xml(&text),
    };
    let code = code.unwrap_or_else(|| format!("HTTP {status}"));
    let message = message.unwrap_or_else(|| text.chars().take(200).collect());
    CloudError::Api {
        operation,
        status,
        code,
        message,
        profile: cloud.profile().map(str::to_owned),
    }
}

/// The code may have a namespace in front and a URL behind.
fn of_json(header: Option<&str>, json: &Value) -> (Option<String>, Option<String>) {
    let text = |name: &str| json.get(name).and_then(Value::as_str);
    let code = header.or_else(|| text("__type")).or_else(|| text("code"));
    let code = code.map(|c| {
        let bare = c.rsplit('#').next().unwrap_or(c);
        bare.split(':').next().unwrap_or(bare).to_owned()
    });
    (code, text("message").or_else(|| text("Message")).map(str::to_owned))
}

fn of_xml(text: &str) -> (Option<String>, Option<String>) {
    let Ok(document) = xml::parse(text) else { return (None, None) };
    let find = |name: &str| xml::first(document.root(), name).map(str::to_owned);
    (find("Code"), find("Message"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(code: &str, message: &str) -> CloudError {
        CloudError::Api {
            operation: "StartSession",
            status: 400,
            code: code.into(),
            message: message.into(),
            profile: Some("prod".into()),
        }
    }

    #[test]
    fn a_denial_names_the_action_and_the_resource() {
        let text = "User: arn:aws:iam::1:user/a is not authorized to perform: ssm:StartSession on \
                    resource: arn:aws:ec2:us-east-1:1:instance/i-1 because no policy allows it";
        let failed = api("AccessDeniedException", text);
        assert_eq!(failed.kind(), Kind::Refused);
        assert_eq!(
            failed.hint().as_deref(),
            Some("ask for ssm:StartSession on arn:aws:ec2:us-east-1:1:instance/i-1")
        );
    }

    #[test]
    fn an_ended_login_and_a_wrong_clock_say_what_to_do() {
        let failed = api("ExpiredTokenException", "The security token is expired");
        assert!(failed.hint().unwrap().contains("aws sso login --profile prod"));
        let failed = api("InvalidSignatureException", "Signature expired: 2015 is now");
        assert!(failed.hint().unwrap().contains("clock"));
    }

    #[test]
    fn credentials_that_the_network_kept_away_need_no_person() {
        let lost = CredentialsError::provider_error(std::io::Error::other("dispatch failure"));
        let late = CredentialsError::provider_timed_out(std::time::Duration::from_secs(5));
        for error in [lost, late] {
            let error = of_credentials(None, &error);
            assert!(!error.needs_a_person(), "{error}");
            assert_eq!(error.kind(), Kind::Unreachable);
        }
        let none = CredentialsError::not_loaded("no profile");
        assert!(of_credentials(None, &none).needs_a_person());
    }

    #[test]
    fn codes_of_both_protocols_are_read() {
        let json = serde_json::json!({"__type": "com.amazon#TargetNotConnected", "Message": "no"});
        assert_eq!(of_json(None, &json), (Some("TargetNotConnected".into()), Some("no".into())));
        assert_eq!(of_json(Some("Denied:http://x"), &json).0.as_deref(), Some("Denied"));
        let xml = "<Response><Errors><Error><Code>AuthFailure</Code><Message>m</Message></Error></Errors></Response>";
        assert_eq!(of_xml(xml), (Some("AuthFailure".into()), Some("m".into())));
    }

    #[test]
    fn what_would_start_two_is_sent_again_only_if_it_was_surely_not_done() {
        let lost = |received| CloudError::Unreachable {
            operation: "SendCommand",
            endpoint: String::new(),
            received,
            why: String::new(),
        };
        assert!(lost(false).may_pass(Repeat::IfNotDone));
        assert!(!lost(true).may_pass(Repeat::IfNotDone));
        assert!(lost(true).may_pass(Repeat::Always));
        assert!(lost(true).may_have_arrived() && !lost(false).may_have_arrived());
        assert!(api("ThrottlingException", "").may_pass(Repeat::IfNotDone));
        assert!(!api("ValidationException", "").may_pass(Repeat::Always));
    }
}
