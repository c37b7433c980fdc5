//! `grants` and `revoke`: what a host holds, and its end.

use std::time::Duration;

use palisade_types::grant::{GrantId, GrantRow, GrantState, Revoked};

use super::proxy::places;
use crate::{
    access, cli, clock,
    cloud::{Cloud, ssm::Invocation},
    debts::Debt,
    failed::{Failed, Outcome},
    run::Run,
    targets,
};
use palisade_cloud::terminal::table;

/// Longest wait for a host.
const AT_MOST: Duration = Duration::from_secs(45);

pub(crate) async fn grants(run: &Run, args: cli::OneHost) -> Outcome<u8> {
    let place = run.settings.place(&args.host)?;
    let cloud = run.cloud_of(&place).await?;
    let instance = targets::one(&cloud, &place.selector).await?;
    let what = [("What", vec!["access".to_owned()])];
    let ended = ask(run, &cloud, &instance, "Palisade-Status", &what).await?;
    let rows: Vec<GrantRow> = read(&instance, &ended)?;
    if run.printer.is_json() {
        run.printer.json(&rows);
        return Ok(0);
    }
    let head = ["ID", "USER", "ONLY", "STATE", "LEFT", "LOGINS", "OWNER", "REASON"];
    let now = clock::unix(clock::now());
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    lines.extend(rows.iter().map(|row| {
        let left = u64::try_from(row.expires_at - now).unwrap_or_default();
        let state = match row.state {
            GrantState::Live => "live",
            GrantState::Expired => "expired",
            GrantState::Revoked => "revoked",
        };
        vec![
            row.id.to_string(),
            row.user.to_string(),
            row.target.as_ref().map_or_else(|| row.only.as_str().to_owned(), ToString::to_string),
            state.to_owned(),
            palisade_types::format_duration(Duration::from_secs(left)),
            row.sessions.len().to_string(),
            row.owner.to_string(),
            row.reason.to_string(),
        ]
    }));
    for line in table(&lines) {
        run.printer.line(line);
    }
    Ok(0)
}

pub(crate) async fn revoke(run: &Run, args: cli::Revoke) -> Outcome<u8> {
    let id: GrantId = args
        .id
        .parse()
        .map_err(|e| Failed::usage(format!("{e}")).hint("bastionctl grants HOST lists the ids"))?;
    let place = run.settings.place(&args.host)?;
    let cloud = run.cloud_of(&place).await?;
    let instance = targets::one(&cloud, &place.selector).await?;
    let parameters = [("GrantId", vec![id.to_string()])];
    let ended = ask(run, &cloud, &instance, access::REVOKE_DOCUMENT, &parameters).await?;
    if let Ok(places) = places()
        && let Err(e) = places.forget(&id).await
    {
        run.printer.note(format_args!("note: the keeper of keys does not answer: {e}"));
    }
    let revoked: Revoked = read(&instance, &ended)?;
    if run.printer.is_json() {
        run.printer.json(&revoked);
    } else {
        let logins = revoked.sessions_ended;
        run.printer.line(format_args!("{id} is revoked, {logins} logins ended"));
    }
    Ok(0)
}

/// Has a document of ours run on one host.
pub(crate) async fn ask(
    run: &Run,
    cloud: &Cloud,
    instance: &str,
    document: &str,
    parameters: &[(&str, Vec<String>)],
) -> Outcome<Invocation> {
    let command = access::send(cloud, instance, document, parameters, "bastionctl").await?;
    let debt = Debt::Command { id: command.clone(), instance: Some(instance.to_owned()) };
    run.debts.add(cloud, debt.clone());
    let ended = access::wait(cloud, &command, instance, AT_MOST).await?;
    run.debts.forget(&debt);
    if ended.status == "Success" { Ok(ended) } else { Err(access::refusal(instance, &ended)) }
}

fn read<T: serde::de::DeserializeOwned>(instance: &str, ended: &Invocation) -> Outcome<T> {
    serde_json::from_str(ended.standard_output_content.trim()).map_err(|e| {
        Failed::because(format!("{instance}: read the host's answer"), &e)
            .hint("is the same version of palisade on the host?")
    })
}
