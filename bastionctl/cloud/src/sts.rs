//! Who is asking, and sessions with MFA.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;

use super::{Cloud, CloudError, Query, Repeat, callers, xml};

const STS: Query = Query { name: "sts", version: "2011-06-15" };

/// Temporary credentials.
pub struct Session {
    pub(crate) key_id: String,
    pub(crate) secret: String,
    pub(crate) token: String,
    /// Their end, in seconds since the epoch.
    pub expires_at: i64,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

impl Session {
    /// For signing.
    pub(crate) fn credentials(&self) -> Credentials {
        let end = u64::try_from(self.expires_at).unwrap_or_default();
        Credentials::new(
            self.key_id.clone(),
            self.secret.clone(),
            Some(self.token.clone()),
            Some(SystemTime::UNIX_EPOCH + Duration::from_secs(end)),
            "bastionctl login",
        )
    }
}

impl Cloud {
    /// The ARN of whoever these credentials belong to.
    ///
    /// # Errors
    /// When STS does not say.
    pub async fn caller(&self) -> Result<String, CloudError> {
        let operation = "GetCallerIdentity";
        let endpoint = self.endpoint("sts");
        let credentials = self.credentials().await?;
        if let Some(arn) = callers::get(&endpoint, credentials.access_key_id()) {
            return Ok(arn);
        }
        let text = self.query(STS, operation, &[], Repeat::Always).await?;
        let wrong = |why: String| CloudError::Answer { operation, why };
        let document = xml::parse(&text).map_err(|e| wrong(e.to_string()))?;
        let arn = xml::first(document.root(), "Arn").ok_or_else(|| wrong("no Arn".into()))?;
        callers::put(&endpoint, credentials.access_key_id(), arn);
        Ok(arn.to_owned())
    }

    /// A session for which an MFA device vouched: of the user, or of a role that wants one.
    ///
    /// # Errors
    /// When STS gives none.
    pub async fn mfa_session(
        &self,
        role: Option<&str>,
        serial: &str,
        code: &str,
        duration: Duration,
    ) -> Result<Session, CloudError> {
        let operation = if role.is_some() { "AssumeRole" } else { "GetSessionToken" };
        let mut parameters = vec![
            ("SerialNumber".to_owned(), serial.to_owned()),
            ("TokenCode".to_owned(), code.to_owned()),
            ("DurationSeconds".to_owned(), duration.as_secs().to_string()),
        ];
        if let Some(role) = role {
            parameters.push(("RoleArn".to_owned(), role.to_owned()));
            parameters.push(("RoleSessionName".to_owned(), session_name(serial)));
        }
        // A code is taken once: sent again, it would be refused, and that refusal shown for the cause.
        let text = self.query(STS, operation, &parameters, Repeat::IfNotDone).await?;
        session(&text).map_err(|why| CloudError::Answer { operation, why })
    }
}

/// A name that says in CloudTrail and in grants whose session of a role this is: that of the device.
fn session_name(serial: &str) -> String {
    let last = serial.rsplit('/').next().unwrap_or(serial);
    let good = |c: &char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(*c);
    let whose: String = last.chars().filter(good).collect();
    // ASCII, so a byte is a character.
    let mut name = format!("bastionctl-{whose}");
    name.truncate(48);
    name
}

fn session(text: &str) -> Result<Session, String> {
    let document = xml::parse(text).map_err(|e| e.to_string())?;
    let get = |name: &str| {
        let found = xml::first(document.root(), name).filter(|t| !t.is_empty());
        found.map(str::to_owned).ok_or_else(|| format!("no {name}"))
    };
    let end: jiff::Timestamp =
        get("Expiration")?.parse().map_err(|e| format!("Expiration: {e}"))?;
    Ok(Session {
        key_id: get("AccessKeyId")?,
        secret: get("SecretAccessKey")?,
        token: get("SessionToken")?,
        expires_at: end.as_second(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_roles_session_is_named_after_the_mfa_device() {
        assert_eq!(session_name("arn:aws:iam::1:mfa/alice@x.org"), "bastionctl-alice@x.org");
        assert_eq!(session_name("GAHT 1234:5678"), "bastionctl-GAHT12345678");
        let long = session_name(&format!("arn:aws:iam::1:mfa/{}", "a".repeat(90)));
        assert_eq!(long.len(), 48);
    }

    #[test]
    fn a_session_is_read_and_never_shown() {
        let text = "<R><C><AccessKeyId>ASIA1</AccessKeyId><SecretAccessKey>hush</SecretAccessKey>\
                    <SessionToken>tok</SessionToken><Expiration>2026-11-25T12:00:00Z</Expiration></C></R>";
        let session = session(text).unwrap();
        assert_eq!(session.expires_at, 1_795_608_000);
        let shown = format!("{session:?}");
        assert!(!shown.contains("hush") && !shown.contains("tok"), "{shown}");
        assert!(super::session("<R/>").is_err());
    }
}
