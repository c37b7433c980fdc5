//! Sessions that `login` got, kept for the next runs in a file of mode 0600 as AWS's own tool keeps
//! its own, and the two keys of `~/.aws/config` that say how to get one.

use std::{collections::BTreeMap, fs, path::PathBuf, time::SystemTime};

use aws_credential_types::Credentials;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Session, clock, dirs};

/// A session on disk.
#[derive(Serialize, Deserialize)]
struct Kept {
    v: u32,
    key_id: String,
    secret: String,
    token: String,
    expires_at: i64,
}

/// What a profile says about MFA.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProfileMfa {
    /// The device.
    pub serial: Option<String>,
    /// The role that it takes.
    pub role: Option<String>,
    /// The profile whose keys take it.
    pub source: Option<String>,
    session_name: Option<String>,
}

fn path(profile: Option<&str>) -> Option<PathBuf> {
    let name = profile.unwrap_or("default");
    // A profile may be named anything, a file may not.
    let safe = |b: u8| match b {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => char::from(b).to_string(),
        other => format!("%{other:02x}"),
    };
    let file: String = name.bytes().map(safe).collect();
    Some(dirs::cache()?.join("mfa").join(format!("{file}.json")))
}

/// The session of this profile, while it lives.
pub(crate) fn kept(profile: Option<&str>, now: SystemTime) -> Option<Credentials> {
    let text = Zeroizing::new(fs::read_to_string(path(profile)?).ok()?);
    let kept: Kept = serde_json::from_str(&text).ok()?;
    let session = Session {
        key_id: kept.key_id,
        secret: kept.secret,
        token: kept.token,
        expires_at: kept.expires_at,
    };
    (kept.v == 1 && kept.expires_at > clock::unix(now) + 60).then(|| session.credentials())
}

/// Keeps a session; returns where.
///
/// # Errors
/// When it cannot be written.
pub fn keep(profile: Option<&str>, session: &Session) -> std::io::Result<PathBuf> {
    let path = path(profile).ok_or_else(|| std::io::Error::other("no HOME is set"))?;
    if let Some(parent) = path.parent() {
        dirs::private(parent)?;
    }
    let kept = Kept {
        v: 1,
        key_id: session.key_id.clone(),
        secret: session.secret.clone(),
        token: session.token.clone(),
        expires_at: session.expires_at,
    };
    let text = Zeroizing::new(serde_json::to_vec(&kept)?);
    dirs::write_private(&path, &text)?;
    Ok(path)
}

/// What `~/.aws/config` says of this profile's MFA.
#[must_use]
pub fn profile(name: Option<&str>) -> ProfileMfa {
    read_profile(&aws_file("AWS_CONFIG_FILE", ".aws/config"), name.unwrap_or("default"))
}

/// Whether this profile takes a role and does not say under which name.
pub(crate) fn has_unnamed_role(name: &str) -> bool {
    let credentials = aws_file("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials");
    is_unnamed_role(&[profile(Some(name)), read_profile(&credentials, name)])
}

fn is_unnamed_role(said: &[ProfileMfa]) -> bool {
    said.iter().any(|p| p.role.is_some()) && said.iter().all(|p| p.session_name.is_none())
}

/// One of the files of every AWS tool, where the variable or else the home directory has it.
fn aws_file(variable: &str, in_home: &str) -> String {
    let env = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let path = env(variable).or_else(|| env("HOME").map(|h| h.join(in_home)));
    path.and_then(|p| fs::read_to_string(p).ok()).unwrap_or_default()
}

fn read_profile(text: &str, name: &str) -> ProfileMfa {
    let mut values: BTreeMap<&str, String> = BTreeMap::new();
    let mut inside = false;
    for line in text.lines() {
        let line = line.split(" #").next().unwrap_or(line);
        if let Some(section) = line.trim().strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            let section = section.trim();
            inside = section.strip_prefix("profile").map_or(section, str::trim) == name;
        } else if let Some((key, value)) = line.split_once('=')
            && inside
            && !line.starts_with([' ', '\t', '#', ';'])
        {
            values.insert(key.trim(), value.trim().to_owned());
        }
    }
    ProfileMfa {
        serial: values.remove("mfa_serial"),
        role: values.remove("role_arn"),
        source: values.remove("source_profile"),
        session_name: values.remove("role_session_name"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_that_has_a_name_keeps_it() {
        let read = |text| read_profile(text, "prod");
        let role = read("[profile prod]\nrole_arn = arn:aws:iam::2:role/Admin\n");
        let named = read("[prod]\nrole_session_name = mine\n");
        assert!(is_unnamed_role(&[role.clone(), ProfileMfa::default()]));
        assert!(!is_unnamed_role(&[role, named.clone()]));
        assert!(!is_unnamed_role(&[named]));
    }

    #[test]
    fn mfa_of_a_profile_is_read_from_its_own_section_only() {
        let text = "[default]\nmfa_serial = arn:aws:iam::1:mfa/a # mine\n[profile prod]\n\
                    role_arn=arn:aws:iam::2:role/Admin\nsource_profile = default\ns3 =\n  mfa_serial = no\n";
        let default = read_profile(text, "default");
        assert_eq!(default.serial.as_deref(), Some("arn:aws:iam::1:mfa/a"));
        let prod = read_profile(text, "prod");
        assert_eq!((prod.serial, prod.source.as_deref()), (None, Some("default")));
        assert_eq!(prod.role.as_deref(), Some("arn:aws:iam::2:role/Admin"));
        assert_eq!(read_profile(text, "other"), ProfileMfa::default());
    }
}
