//! Paths to handles: what each request means, and nothing about connections.

mod access;
mod agent;
mod firewall;
mod firewall_safety;
mod logs;
mod metrics;
mod origin;
mod patch;
mod programs;

use std::collections::BTreeMap;

use axum::{
    Json, Router,
    extract::DefaultBodyLimit,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use palisade_types::{
    ProcessName, ProcessStatus, Usage,
    control::{API, AgentStatus, Failure, FailureKind},
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::AppHandle;
use crate::{
    access as ac, clock::SystemClock, events::Events, firewall as fw, logs as lg, metrics as mt,
    origin as og, patch as pt, supervise,
};

/// Largest body of a request.
const MAX_BODY_BYTES: usize = 64 << 10;

/// Everything that requests may ask of.
#[derive(Clone, Debug)]
pub struct Backend {
    /// The main loop.
    pub app: AppHandle,
    /// The programs.
    pub supervise: supervise::Handle,
    /// The modules that come and go with the configuration.
    pub modules: watch::Receiver<Modules>,
    /// The record.
    pub events: Events<SystemClock>,
}

/// The modules that come and go with the configuration.
#[derive(Clone, Debug, Default)]
pub struct Modules {
    /// The firewall, if configured.
    pub firewall: Option<fw::Handle>,
    /// What the firewall turns away, where it is configured.
    pub drops: Option<fw::drops::Ask>,
    /// What the firewall put in force, where it is configured.
    pub firewall_history: Option<fw::history::Ask>,
    /// The origin guard, if configured.
    pub origin: Option<og::Handle>,
    /// What sees to it that changes of the firewall lock nobody out, if it is configured.
    pub safety: Option<fw::safety::SafetyHandle>,
    /// Log shipping, if configured.
    pub logs: Option<lg::Handle>,
    /// Metrics, if configured.
    pub metrics: Option<mt::Handle>,
    /// Patching, if configured.
    pub patch: Option<pt::Handle>,
    /// Short-lived SSH access, if configured.
    pub access: Option<ac::Handle>,
    /// What works less than fully, by the module it concerns.
    pub troubles: BTreeMap<&'static str, String>,
}

/// The answer to `GET /status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Overview {
    /// The agent itself.
    pub agent: AgentStatus,
    /// Every process.
    pub programs: Vec<ProcessStatus>,
    /// The firewall, if configured.
    pub firewall: Option<fw::Status>,
    /// The origin guard, if configured.
    #[serde(default)]
    pub origin: Option<og::Status>,
    /// Log shipping, if configured.
    pub logs: Option<lg::Status>,
    /// Patching, if configured.
    #[serde(default)]
    pub patch: Option<pt::Status>,
    /// Short-lived SSH access, if configured.
    #[serde(default)]
    pub access: Option<ac::Status>,
    /// What each living process uses, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<BTreeMap<ProcessName, Usage>>,
}

/// The whole API.
pub fn router(backend: Backend) -> Router {
    let v1 = Router::new()
        .route("/status", get(agent::status))
        .route("/events", get(agent::events))
        .route("/update", post(agent::update))
        .route("/upgrade", post(agent::upgrade))
        .route("/programs", get(programs::list))
        .route("/programs/watch", get(programs::watch))
        .route("/programs/start", post(programs::start))
        .route("/programs/stop", post(programs::stop))
        .route("/programs/restart", post(programs::restart))
        .route("/programs/roll", post(programs::roll))
        .route("/programs/replaced", post(programs::replaced))
        .route("/programs/signal", post(programs::signal))
        .route("/programs/clear", post(programs::clear))
        .route("/programs/tail", get(programs::tail))
        .route("/firewall", get(firewall::status))
        .route("/firewall/plan", get(firewall_safety::plan))
        .route("/firewall/apply", post(firewall_safety::apply))
        .route("/firewall/confirm", post(firewall_safety::confirm))
        .route("/firewall/rollback", post(firewall_safety::rollback))
        .route("/firewall/test", post(firewall_safety::test))
        .route("/firewall/explain", get(firewall::explain))
        .route("/firewall/refresh", post(firewall::refresh))
        .route("/firewall/approve", post(firewall::approve))
        .route("/firewall/export", get(firewall::export))
        .route("/firewall/drops", get(firewall::drops))
        .route("/firewall/history", get(firewall::history))
        .route("/origin", get(origin::status))
        .route("/origin/refresh", post(origin::refresh))
        .route("/origin/drop", post(origin::drop_secret))
        .route("/logs", get(logs::status))
        .route("/logs/flush", post(logs::flush))
        .route("/metrics", get(metrics::text))
        .route("/patch", get(patch::status))
        .route("/patch/plan", get(patch::plan))
        .route("/patch/run", post(patch::run))
        .route("/patch/history", get(patch::history))
        .route("/access", get(access::status))
        .route("/access/grants", get(access::list).post(access::grant))
        .route("/access/revoke", post(access::revoke));
    Router::new()
        .nest(API, v1)
        .fallback(|| async { failed(Failure::new(FailureKind::NotFound, "there is no such path")) })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(backend)
}

/// A document, or why there is none.
type Answer<T> = Result<Json<T>, Failed>;

/// A failure as an answer.
#[derive(Debug)]
struct Failed(Failure);

impl From<Failure> for Failed {
    fn from(f: Failure) -> Self {
        Self(f)
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        failed(self.0)
    }
}

fn failed(failure: Failure) -> Response {
    let status = StatusCode::from_u16(failure.kind.http_status());
    (status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), Json(failure)).into_response()
}

fn not_configured(section: &str) -> Failure {
    Failure::new(FailureKind::NotFound, format!("{section} is not configured"))
        .hint(format!("add a {section} section to palisade.yaml and run palisade update"))
}
