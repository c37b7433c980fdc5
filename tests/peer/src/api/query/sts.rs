//! GetCallerIdentity, GetSessionToken, AssumeRole.

use uuid::Uuid;

use super::{ApiError, Form, denied, escaped};
use crate::{Signer, api::fields, clock, config::Key, peer::Shared};

pub(super) fn identity(shared: &Shared, signer: &Signer) -> String {
    format!(
        "<Arn>{}</Arn><UserId>AIDAEXAMPLE</UserId><Account>{}</Account>",
        escaped(&signer.arn),
        shared.config.account
    )
}

pub(super) fn session_token(
    shared: &Shared,
    form: &Form,
    signer: &Signer,
) -> Result<String, ApiError> {
    let caller = shared.keys.get(&signer.access_key).unwrap_or_default();
    if !caller.session_token.is_empty() {
        let message = "Cannot call GetSessionToken with session credentials";
        return Err(denied(403, "AccessDenied", message));
    }
    let seconds = duration(form, 43_200, 129_600)?;
    let mfa = multi_factor(form, &caller)?;
    Ok(issue(shared, Key { mfa, ..caller }, seconds))
}

pub(super) fn assume_role(
    shared: &Shared,
    form: &Form,
    signer: &Signer,
) -> Result<String, ApiError> {
    let field = |name: &str| form.get(name).cloned().unwrap_or_default();
    let (role, name) = (field("RoleArn"), field("RoleSessionName"));
    fields::pattern("roleSessionName", &name, r"[\w+=,.@\-]{2,64}")
        .map_err(|e| denied(400, "ValidationError", &e.message))?;
    let caller = shared.keys.get(&signer.access_key).unwrap_or_default();
    let seconds = duration(form, 3600, 43_200)?;
    let mfa = multi_factor(form, &caller)?;
    let may = shared.keys.allow(signer, "sts:AssumeRole", &role);
    let path = role.split_once(":role/").map(|(_, path)| path);
    let (true, Ok(()), Some(path)) = (shared.config.roles.contains(&role), may, path) else {
        let message = format!(
            "User: {} is not authorized to perform: sts:AssumeRole on resource: {role}",
            signer.arn
        );
        return Err(denied(403, "AccessDenied", &message));
    };
    let base = path.rsplit('/').next().unwrap_or(path);
    let arn = format!("arn:aws:sts::{}:assumed-role/{base}/{name}", shared.config.account);
    let key = Key { arn: arn.clone(), mfa, deny: Vec::new(), needs_mfa: Vec::new(), ..caller };
    let user = format!(
        "<AssumedRoleUser><AssumedRoleId>AROAEXAMPLE:{name}</AssumedRoleId><Arn>{}</Arn>\
         </AssumedRoleUser>",
        escaped(&arn)
    );
    Ok(format!("{}{user}", issue(shared, key, seconds)))
}

fn duration(form: &Form, default: u64, most: u64) -> Result<u64, ApiError> {
    let seconds = form.get("DurationSeconds").map_or(Ok(default), |t| t.parse());
    seconds.ok().filter(|s| (900..=most).contains(s)).ok_or_else(|| {
        denied(400, "ValidationError", &format!("DurationSeconds is not within 900 and {most}"))
    })
}

/// Whether the caller showed a second factor; a wrong one is refused.
fn multi_factor(form: &Form, caller: &Key) -> Result<bool, ApiError> {
    let (Some(serial), Some(code)) = (form.get("SerialNumber"), form.get("TokenCode")) else {
        return if form.contains_key("SerialNumber") || form.contains_key("TokenCode") {
            Err(denied(400, "ValidationError", "SerialNumber and TokenCode go together"))
        } else {
            Ok(false)
        };
    };
    if code.len() != 6 || !code.bytes().all(|b| b.is_ascii_digit()) {
        return Err(denied(400, "ValidationError", "TokenCode has six digits"));
    }
    if *serial != caller.mfa_serial || *code != caller.mfa_code {
        let message = "MultiFactorAuthentication failed with invalid MFA one time pass code.";
        return Err(denied(403, "AccessDenied", message));
    }
    Ok(true)
}

/// Makes a key like `like` that is good for a while, and returns it as XML.
fn issue(shared: &Shared, like: Key, seconds: u64) -> String {
    let unique = || Uuid::new_v4().simple().to_string();
    let name = unique().to_uppercase();
    let key = Key {
        access_key: format!("ASIA{}", name.get(..16).unwrap_or("")),
        secret: format!("{}{}", unique(), unique().get(..8).unwrap_or("")),
        session_token: format!("{}{}+/=", unique(), unique()),
        ..like
    };
    let expires = clock::iso(clock::now_ms() + seconds * 1000);
    let xml = format!(
        "<Credentials><AccessKeyId>{}</AccessKeyId><SecretAccessKey>{}</SecretAccessKey>\
         <SessionToken>{}</SessionToken><Expiration>{expires}</Expiration></Credentials>",
        key.access_key, key.secret, key.session_token
    );
    shared.keys.put(key);
    xml
}
