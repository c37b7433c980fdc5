//! `palisade upgrade`: asks, then waits until the new binary is up or the old one is back.

use std::{process::ExitCode, time::Duration};

use palisade_agent::control::Overview;
use palisade_types::control::{AgentStatus, Failure, FailureKind, Phase};
use tokio::time::{self, Instant};

use super::client::Client;
use crate::{exit::Failed, printer::Printer};

/// Longer than a new binary has to come up, and than systemd takes to start the old one again.
const WITHIN: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub(super) async fn upgrade(client: &Client, printer: &Printer) -> Result<ExitCode, Failed> {
    printer.line(replace(client, WITHIN).await?);
    Ok(ExitCode::SUCCESS)
}

/// Asks, waits, and says what came of it.
pub(super) async fn replace(client: &Client, within: Duration) -> Result<String, Failed> {
    let before = agent(client).await?;
    let () = client.post("/upgrade", &()).await?;
    let deadline = Instant::now() + within;
    loop {
        time::sleep(LOOK_EVERY).await;
        // While the one replaces the other, or systemd starts it, nobody answers.
        if let Ok(now) = agent(client).await
            && let Some(end) = end(&before, &now)
        {
            return end.map_err(Failed::Agent);
        }
        if Instant::now() > deadline {
            let error = format!("upgrade: no agent is up after {within:?}");
            let failure = Failure::new(FailureKind::Failed, error);
            return Err(Failed::Agent(
                failure.hint("programs run on without it; journalctl -u palisade says why"),
            ));
        }
    }
}

async fn agent(client: &Client) -> Result<AgentStatus, Failed> {
    Ok(client.get::<Overview>("/status").await?.agent)
}

/// How the upgrade ended, if it has.
fn end(before: &AgentStatus, now: &AgentStatus) -> Option<Result<String, Failure>> {
    let is_the_same_life = (now.pid, now.since) == (before.pid, before.since);
    if now.phase != Phase::Running || (is_the_same_life && now.not_upgraded.is_none()) {
        return None;
    }
    let hint = "the old version runs on; mend the cause and run palisade upgrade again";
    Some(match &now.not_upgraded {
        None => Ok(format!(
            "palisade {} replaced {}, pid {}; programs and sockets went on",
            now.version, before.version, now.pid
        )),
        Some(why) => Err(Failure::new(FailureKind::Failed, format!("upgrade: {why}")).hint(hint)),
    })
}

#[cfg(test)]
mod tests {
    use palisade_types::control::ConfigState;

    use super::*;

    fn agent(version: &str, since: i64, phase: Phase, not_upgraded: Option<&str>) -> AgentStatus {
        AgentStatus {
            version: version.to_owned(),
            pid: 7,
            since,
            upgrades: 0,
            phase,
            config: ConfigState::Current { path: "/x".to_owned(), since },
            degraded: Vec::new(),
            not_upgraded: not_upgraded.map(str::to_owned),
        }
    }

    #[test]
    fn it_has_ended_when_another_life_of_the_agent_is_up_or_this_one_could_not_end() {
        let before = agent("1", 10, Phase::Running, None);
        assert!(end(&before, &before).is_none());
        let went_on = end(&before, &agent("1", 10, Phase::Running, Some("busy"))).unwrap();
        assert_eq!(went_on.unwrap_err().error, "upgrade: busy");
        assert!(end(&before, &agent("2", 20, Phase::Starting, None)).is_none());
        let up = end(&before, &agent("2", 20, Phase::Running, None)).unwrap().unwrap();
        assert!(up.starts_with("palisade 2 replaced 1"), "{up}");
        let back = end(&before, &agent("1", 20, Phase::Running, Some("it died"))).unwrap();
        assert_eq!(back.unwrap_err().error, "upgrade: it died");
    }
}
