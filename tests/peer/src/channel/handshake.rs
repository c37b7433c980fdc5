//! The session's part of the handshake: request, response, completion.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::time::Instant;

use super::{
    actor::{Actor, Phase},
    checks,
    faults::Faults,
    frame::payload,
    port::Port,
};
use crate::lock;

impl Actor {
    fn agent_version(&self, faults: &Faults) -> String {
        let own = &self.shared.config.agent_version;
        let said = &faults.handshake.agent_version;
        if said.is_empty() { own.clone() } else { said.clone() }
    }

    pub(super) fn greet(&mut self, faults: &Faults) {
        let mut actions = vec![json!({
            "ActionType": "SessionType",
            "ActionParameters": { "SessionType": "Port", "Properties": self.me.target.properties },
        })];
        if faults.handshake.kms {
            actions.push(json!({
                "ActionType": "KMSEncryption",
                "ActionParameters": {
                    "KMSKeyId": "arn:aws:kms:us-east-1:123456789012:key/00000000-0000-4000-8000-000000000000",
                    "Challenge": "AAAAAAAAAAAAAAAAAAAAAA==",
                },
            }));
        }
        if faults.handshake.unknown_action {
            actions.push(json!({ "ActionType": "Levitation", "ActionParameters": {} }));
        }
        let names = actions.iter().filter_map(|a| a["ActionType"].as_str()).map(str::to_owned);
        let names: Vec<_> = names.collect();
        let request = json!({
            "AgentVersion": self.agent_version(faults),
            "RequestedClientActions": actions,
        });
        self.send_data(payload::HANDSHAKE_REQUEST, request.to_string().into());
        self.phase = Phase::Asked { actions: names, since: Instant::now() };
    }

    pub(super) fn complete(&mut self, now: Instant, since: Instant, faults: &Faults) {
        let took = u64::try_from(now.duration_since(since).as_nanos()).unwrap_or(u64::MAX);
        let complete = json!({
            "HandshakeTimeToComplete": took,
            "CustomerMessage": faults.handshake.customer_message,
        });
        self.send_data(payload::HANDSHAKE_COMPLETE, complete.to_string().into());
        self.phase = Phase::Live;
        let client = lock(&self.me.inner).stats.client_version.clone();
        let mux = self.me.target.forwards
            && checks::at_least(&client, "1.1.70")
            && checks::at_least(&self.agent_version(faults), "3.0.196.1");
        self.port = Some(Port::start(&self.shared, &self.me, mux));
    }

    pub(super) fn response(&mut self, payload: &Bytes, faults: &Faults) {
        let Phase::Asked { actions, since } = &self.phase else { return };
        let least = &self.shared.config.min_client_version;
        let checked = checks::response(payload, actions, least);
        for what in checked.wrong {
            self.wrong(what);
        }
        self.me.stats(|s| s.client_version.clone_from(&checked.client_version));
        if let Some(refused) = checked.refused {
            return self.end("handshake refused", &format!("Handshake failed: {refused}"));
        }
        let at = Instant::now() + Duration::from_millis(faults.handshake.complete_delay_ms);
        self.phase = Phase::Completing { at, since: *since };
        self.tick(false, faults);
    }
}
