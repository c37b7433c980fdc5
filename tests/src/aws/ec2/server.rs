//! The calls of EC2, over the HTTP side that all fakes share.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use hyper::{Response, StatusCode, http::request::Parts};
use palisade_peer::sigv4;

use super::{
    query::{self, Form, Refusal, escaped},
    state::{Faults, Interface, PrefixList, State, Stats, Subnet},
};
use crate::aws::{
    http::{Answer, Closed, Server, Service, header, lock, now_ms},
    signature::signer,
};

/// The key that requests must be signed with.
const KEY: &str = "test";

/// The service without its HTTP server. Clones are the same service.
#[derive(Clone, Debug, Default)]
pub struct Ec2 {
    state: Arc<Mutex<State>>,
}

impl Ec2 {
    /// The actions that are answered.
    const ACTIONS: [&str; 4] = [
        "DescribeManagedPrefixLists",
        "GetManagedPrefixListEntries",
        "DescribeNetworkInterfaces",
        "DescribeSubnets",
    ];

    /// Puts prefix lists there.
    pub fn put_lists(&self, lists: Vec<PrefixList>) {
        lock(&self.state).lists = lists;
    }

    /// Puts interfaces there.
    pub fn put_interfaces(&self, interfaces: Vec<Interface>) {
        lock(&self.state).interfaces = interfaces;
    }

    /// Puts subnets there.
    pub fn put_subnets(&self, subnets: Vec<Subnet>) {
        lock(&self.state).subnets = subnets;
    }

    /// Changes what goes wrong.
    pub fn set_faults(&self, faults: Faults) {
        lock(&self.state).faults = faults;
    }

    /// What arrived so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        lock(&self.state).stats.clone()
    }

    /// Whether a form is of an action that is answered here.
    pub(in crate::aws) fn owns(body: &[u8]) -> bool {
        let form = String::from_utf8_lossy(body);
        let action = form.split('&').find_map(|pair| pair.strip_prefix("Action="));
        action.is_some_and(|a| Self::ACTIONS.contains(&a))
    }

    fn page(&self, head: &Parts, body: &[u8]) -> Result<String, Refusal> {
        let text = String::from_utf8_lossy(body);
        let form: Form = sigv4::pairs(&text).into_iter().collect();
        let action = form.get("Action").cloned().unwrap_or_default();
        let mut state = lock(&self.state);
        *state.stats.calls.entry(action.clone()).or_default() += 1;
        let answer = answer(&mut state, head, body, &action, &form);
        if let Err((400 | 403, code, why)) = &answer
            && !matches!(*code, "UnauthorizedOperation" | "InvalidPrefixListID.NotFound")
        {
            let broken = format!("{action}: {code}: {why}");
            state.stats.violations.push(broken);
        }
        answer
    }
}

fn answer(
    state: &mut State,
    head: &Parts,
    body: &[u8],
    action: &str,
    form: &Form,
) -> Result<String, Refusal> {
    signed(head, body)?;
    if state.faults.throttle > 0 {
        state.faults.throttle -= 1;
        return Err((503, "RequestLimitExceeded", "Request limit exceeded.".to_owned()));
    }
    if state.faults.broken {
        return Err((500, "InternalError", "An internal error has occurred".to_owned()));
    }
    if state.faults.deny.as_deref() == Some(action) {
        let why = format!("You are not authorized to perform this operation: ec2:{action}");
        return Err((403, "UnauthorizedOperation", why));
    }
    if let Some(garbage) = &state.faults.garbage {
        return Ok(garbage.clone());
    }
    if form.get("Version").map(String::as_str) != Some("2016-11-15") {
        return Err((400, "InvalidAction", "no such version".to_owned()));
    }
    let (list, items) = query::call(state, action, form)?;
    let (page, next) = cut(state, action, form, items)?;
    let next = next.map(|t| format!("<nextToken>{t}</nextToken>")).unwrap_or_default();
    Ok(format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{action}Response \
         xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>fake</requestId><{list}>{}\
         </{list}>{next}</{action}Response>",
        page.concat()
    ))
}

/// The page that was asked for, and where the next one begins.
fn cut(
    state: &State,
    action: &str,
    form: &Form,
    items: Vec<String>,
) -> Result<(Vec<String>, Option<String>), Refusal> {
    let bad = |what: String| (400, "InvalidParameterValue", what);
    let (least, most) = if action.contains("PrefixList") { (1, 100) } else { (5, 1000) };
    let size = form.get("MaxResults").map_or(Ok(most), |text| {
        let n = text.parse().ok().filter(|n| (least..=most).contains(n));
        n.ok_or_else(|| bad(format!("MaxResults {text}")))
    })?;
    let size = state.faults.page.map_or(size, |page| page.min(size));
    let from = form.get("NextToken").map_or(Ok(0), |token| {
        let at = token.strip_prefix("at-").and_then(|t| t.parse::<usize>().ok());
        at.ok_or_else(|| (400, "InvalidNextToken", token.clone()))
    })?;
    let faults = &state.faults;
    let next = match () {
        () if faults.circle => Some("at-0".to_owned()),
        () if faults.endless => Some(format!("at-{}", from + 1)),
        () if from + size < items.len() => Some(format!("at-{}", from + size)),
        () => None,
    };
    Ok((items.into_iter().skip(from).take(size).collect(), next))
}

/// Refuses what is not signed with our key.
fn signed(head: &Parts, body: &[u8]) -> Result<(), Refusal> {
    let wrong = |why: String| (403, "AuthFailure", why);
    let key = signer(head, body, "ec2", now_ms() / 1000).map_err(|e| wrong(format!("{e:?}")))?;
    if key == KEY { Ok(()) } else { Err(wrong(format!("signed by {key}"))) }
}

impl Service for Ec2 {
    fn refuses(&self) -> bool {
        false
    }

    async fn answer(&self, head: &Parts, body: Bytes) -> Result<Answer, Closed> {
        if header(head, "content-type") != "application/x-www-form-urlencoded" {
            lock(&self.state).stats.violations.push("not a form".to_owned());
        }
        let (status, text) = match self.page(head, &body) {
            Ok(text) => (200, text),
            Err((status, code, why)) => (
                status,
                format!(
                    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error><Code>{code}\
                     </Code><Message>{}</Message></Error></Errors><RequestID>fake</RequestID></Response>",
                    escaped(&why)
                ),
            ),
        };
        let mut response = Response::new(Bytes::from(text).into());
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
        Ok(response)
    }
}

/// A running fake of EC2 alone. It stops when dropped.
#[derive(Debug)]
pub struct Fake {
    /// What it has and got.
    pub ec2: Ec2,
    server: Server,
}

impl Fake {
    /// Listens on a free port of loopback.
    ///
    /// # Errors
    /// When there is none.
    pub fn start() -> io::Result<Self> {
        let ec2 = Ec2::default();
        let addr = SocketAddr::from(([127, 0, 0, 1], 0));
        Ok(Self { server: Server::listen(addr, ec2.clone())?, ec2 })
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        self.server.url()
    }
}
