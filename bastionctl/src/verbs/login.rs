//! `login`: a session for which an MFA device vouched, kept for the next runs.

use std::{
    io::{self, BufRead as _, IsTerminal as _},
    time::Duration,
};

use crate::{
    cli,
    cloud::{Cloud, mfa},
    failed::{Failed, Outcome},
    run::Run,
    settings::{self, AwsSettings},
};

/// What STS gives at most: 36 h for a user, and by default 1 h for a role.
const MAX_USER: Duration = Duration::from_secs(36 * 3600);
const MAX_ROLE: Duration = Duration::from_secs(3600);
/// When nobody knows whether STS has taken the code.
const SPENT: &str = "the code may be spent: wait for the device's next code, then log in again";

pub(crate) async fn login(run: &Run, args: cli::Login) -> Outcome<u8> {
    let env = std::env::var("AWS_PROFILE").ok().filter(|p| !p.is_empty());
    let profile = run.settings.aws.profile.clone().or(env);
    let known = mfa::profile(profile.as_deref());
    let inherited = || mfa::profile(known.source.as_deref()).serial;
    let serial =
        args.serial.or_else(|| known.serial.clone()).or_else(inherited).ok_or_else(|| {
            Failed::usage("no MFA device is known")
                .hint("give --serial ARN, or set mfa_serial in the profile; for SSO: aws sso login")
        })?;
    let wanted = settings::duration("--duration", &args.duration)?;
    let most = if known.role.is_some() { MAX_ROLE } else { MAX_USER };
    let duration = wanted.clamp(Duration::from_secs(900), most);
    let code = match args.mfa {
        Some(code) => code,
        None => ask(run, &serial).await?,
    };
    if code.len() != 6 || !code.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Failed::usage("an MFA code is six digits"));
    }
    // A profile with a role takes its role's session with the keys of its source.
    let keys_of = if known.role.is_some() { known.source.clone() } else { profile.clone() };
    let aws = AwsSettings { profile: keys_of, ..run.settings.aws.clone() };
    let cloud = Cloud::open_without_login(&aws).await?;
    let session = cloud
        .mfa_session(known.role.as_deref(), &serial, &code, duration)
        .await
        .map_err(|e| if e.may_have_arrived() { Failed::from(e).hint(SPENT) } else { e.into() })?;
    let path = mfa::keep(profile.as_deref(), &session)
        .map_err(|e| Failed::because("keep the session", &e))?;
    let left = session.expires_at - crate::clock::unix(crate::clock::now());
    let left = Duration::from_secs(u64::try_from(left).unwrap_or_default());
    let name = profile.as_deref().unwrap_or("default");
    run.printer.line(format_args!(
        "profile {name} is logged in for {}; kept in {}",
        palisade_types::format_duration(left),
        path.display()
    ));
    Ok(0)
}

async fn ask(run: &Run, serial: &str) -> Outcome<String> {
    if !io::stdin().is_terminal() {
        return Err(Failed::usage("no MFA code is given").hint("give --mfa CODE"));
    }
    run.printer.note(format_args!("MFA code of {serial}:"));
    // Beside the runtime, which goes on hearing signals.
    let read = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map(|_| line)
    });
    let line = read.await.map_err(io::Error::other).and_then(|read| read);
    Ok(line.map_err(|e| Failed::because("read the code", &e))?.trim().to_owned())
}
