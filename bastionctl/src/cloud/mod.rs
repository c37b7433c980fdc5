//! This tool's AWS: the shared client, and the operations of EC2 and Systems Manager that it needs.

mod ec2;
pub(crate) mod ssm;

use std::ops::Deref;

pub(crate) use ec2::Instance;
use palisade_cloud::{AwsSettings, Json, Kind, Repeat};
pub(crate) use palisade_cloud::{CloudError, mfa};
use serde_json::Value;

use crate::failed::Failed;

/// In user agents and in names of roles' sessions, by which hosts know whose grants are whose.
const TOOL: &str = "bastionctl";
const SSM: Json = Json { name: "ssm", target: "AmazonSSM" };

/// One account in one region. Clones share connections and credentials.
#[derive(Clone, Debug)]
pub(crate) struct Cloud(palisade_cloud::Cloud);

impl Deref for Cloud {
    type Target = palisade_cloud::Cloud;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Cloud {
    /// Finds region and credentials the way every AWS tool does.
    ///
    /// # Errors
    /// When no region is known or TLS cannot be set up.
    pub(crate) async fn open(settings: &AwsSettings) -> Result<Self, CloudError> {
        palisade_cloud::Cloud::open(TOOL, settings).await.map(Self)
    }

    /// The same, with the profile's own keys even if `login` got a session for it.
    ///
    /// # Errors
    /// As [`Cloud::open`].
    pub(crate) async fn open_without_login(settings: &AwsSettings) -> Result<Self, CloudError> {
        palisade_cloud::Cloud::open_without_login(TOOL, settings).await.map(Self)
    }

    /// One operation of Systems Manager.
    async fn ssm(
        &self,
        operation: &'static str,
        body: &Value,
        repeat: Repeat,
    ) -> Result<Value, CloudError> {
        self.json(SSM, operation, body, repeat).await
    }
}

impl From<CloudError> for Failed {
    fn from(error: CloudError) -> Self {
        let kind = match error.kind() {
            Kind::Failed if error.code() == Some("TargetNotConnected") => Kind::Unreachable,
            kind => kind,
        };
        let failed = Self::new(kind, error.to_string());
        match error.hint().or_else(|| hint(&error).map(str::to_owned)) {
            Some(hint) => failed.hint(hint),
            None => failed,
        }
    }
}

/// What to do, where it is this tool's own matter.
fn hint(error: &CloudError) -> Option<&'static str> {
    match error.code()? {
        "TargetNotConnected" => Some(
            "the host's SSM agent is not connected: is the host running, and is it in this region? \
             (bastionctl hosts)",
        ),
        "InvalidDocument" => {
            Some("deploy the documents of infra/documents in this account and region")
        }
        _ if error.is_denied() => Some("ask for the policy of docs/ops/bastionctl.md"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(code: &str, message: &str) -> Failed {
        Failed::from(CloudError::Api {
            operation: "StartSession",
            status: 400,
            code: code.into(),
            message: message.into(),
            profile: None,
        })
    }

    #[test]
    fn a_host_that_is_away_and_a_denial_have_exit_codes_and_hints_of_their_own() {
        let away = failed("TargetNotConnected", "i-1 is not connected.");
        assert_eq!(away.kind, Kind::Unreachable);
        assert!(away.what_to_do().unwrap().contains("bastionctl hosts"));
        let denied = failed("AccessDeniedException", "no");
        assert_eq!(denied.kind, Kind::Refused);
        assert_eq!(denied.what_to_do(), Some("ask for the policy of docs/ops/bastionctl.md"));
        let named = failed("AccessDenied", "x is not authorized to perform: ssm:StartSession");
        assert_eq!(named.what_to_do(), Some("ask for ssm:StartSession"));
    }
}
