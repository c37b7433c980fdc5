//! Sessions to one port of one host: starting them, and the control plane that a data channel needs.

use std::{collections::BTreeMap, sync::Arc};

use palisade_channel::{
    End, Endpoint, Options, Resumed, Service, ServiceError, Session, Signed, Started, State, Token,
    proxy::Proxy,
};

use palisade_types::grant::GrantId;
use tokio_util::task::TaskTracker;

use crate::{
    cloud::{Cloud, CloudError, ssm::StartedSession},
    debts::{Debt, Debts},
    failed::{Failed, Kind, Outcome},
    printer::Printer,
    run::Run,
    targets,
};

/// What to start sessions with. Clones start sessions of the same kind.
#[derive(Clone, Debug)]
pub(crate) struct Dial {
    inner: Arc<Inner>,
}

#[derive(Clone, Debug)]
struct Inner {
    cloud: Cloud,
    debts: Debts,
    printer: Printer,
    instance: String,
    document: &'static str,
    parameters: BTreeMap<&'static str, String>,
    reason: String,
    endpoint: Option<String>,
    tasks: TaskTracker,
}

/// An open session.
#[derive(Debug)]
pub(crate) struct Line {
    session: Session,
}

impl Dial {
    /// To sshd on a host.
    pub(crate) fn to_ssh(run: &Run, cloud: &Cloud, instance: &str, port: u16) -> Self {
        let parameters = BTreeMap::from([("portNumber", port.to_string())]);
        Self::new(run, cloud, instance, "AWS-StartSSHSession", parameters)
    }

    /// To any port of a host.
    pub(crate) fn to_port(run: &Run, cloud: &Cloud, instance: &str, port: u16) -> Self {
        let parameters = BTreeMap::from([("portNumber", port.to_string())]);
        Self::new(run, cloud, instance, "AWS-StartPortForwardingSession", parameters)
    }

    /// Through a host to a port of another one.
    pub(crate) fn to_remote(
        run: &Run,
        cloud: &Cloud,
        instance: &str,
        (host, port): (&str, u16),
    ) -> Self {
        let parameters =
            BTreeMap::from([("host", host.to_owned()), ("portNumber", port.to_string())]);
        Self::new(run, cloud, instance, "AWS-StartPortForwardingSessionToRemoteHost", parameters)
    }

    /// With the grant's name in the session's reason, where CloudTrail shows it.
    pub(crate) fn for_grant(self, id: &GrantId) -> Self {
        let inner = &*self.inner;
        // At most 200 characters of the user's own, and SSM takes 256.
        let reason = format!("palisade grant {id} {}", inner.reason).trim_end().to_owned();
        Self { inner: Arc::new(Inner { reason, ..inner.clone() }) }
    }

    fn new(
        run: &Run,
        cloud: &Cloud,
        instance: &str,
        document: &'static str,
        parameters: BTreeMap<&'static str, String>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                cloud: cloud.clone(),
                debts: run.debts.clone(),
                printer: run.printer,
                instance: instance.to_owned(),
                document,
                parameters,
                reason: run.settings.reason.to_string(),
                endpoint: run.settings.ssmmessages.clone(),
                tasks: run.tasks.clone(),
            }),
        }
    }

    /// The host.
    pub(crate) fn instance(&self) -> &str {
        &self.inner.instance
    }

    /// Starts a session, which is a debt until its channel is opened.
    ///
    /// # Errors
    /// When SSM does not start one; with what is wrong with the host, as far as AWS tells.
    pub(crate) async fn start(&self) -> Outcome<StartedSession> {
        let Inner { cloud, instance, document, parameters, reason, .. } = &*self.inner;
        match cloud.start_session(instance, document, parameters, reason).await {
            Ok(started) => {
                self.inner.debts.add(cloud, Debt::Session(started.session_id.clone()));
                Ok(started)
            }
            Err(e) if e.code() == Some("TargetNotConnected") => {
                let why = targets::why_unreachable(cloud, instance).await;
                let text = format!("{instance}: SSM has no line to the host: {why}");
                Err(Failed::new(Kind::Unreachable, text)
                    .hint("start the host, or its SSM agent, or reach it with --via BASTION"))
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Opens the channel of a session, which from now on terminates itself.
    ///
    /// # Errors
    /// When the answer of SSM lacks what is needed, or the endpoint that was given is none.
    pub(crate) fn open(&self, started: StartedSession) -> Outcome<Line> {
        let id = started.session_id;
        let (Some(token), Some(url)) = (started.token_value, started.stream_url) else {
            return Err(Failed::plain("StartSession: the answer has no token or no address"));
        };
        let mut options = Options { tasks: self.inner.tasks.clone(), ..Options::default() };
        if let Some(text) = &self.inner.endpoint {
            let wrong = |e| Failed::because("--ssmmessages-endpoint", &e);
            options.dialer.endpoint = Some(Endpoint::read(text).map_err(wrong)?);
        }
        options.dialer.proxy = Proxy::from_vars(|name| std::env::var(name).ok())
            .map_err(|e| Failed::because("HTTPS_PROXY", &e))?;
        let control = Control { cloud: self.inner.cloud.clone(), id: id.clone() };
        let start = Started { session_id: id.clone(), token: Token::new(token), stream_url: url };
        let session = Session::open(start, control, options);
        self.inner.debts.forget(&Debt::Session(id));
        self.tell_message(&session);
        Ok(Line { session })
    }

    /// What the account says to those who open sessions is for people, so it goes to stderr.
    fn tell_message(&self, session: &Session) {
        let (printer, mut state) = (self.inner.printer, session.state());
        let known = async move {
            let told = state.wait_for(|s| !matches!(s, State::Connecting)).await;
            match told.as_deref() {
                Ok(State::Live { message, .. }) if !message.is_empty() => printer.note(message),
                Ok(_) | Err(_) => {}
            }
        };
        self.inner.tasks.spawn(known);
    }
}

impl Line {
    /// The session.
    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    /// The session, for whoever runs it to its end.
    pub(crate) fn into_session(self) -> Session {
        self.session
    }

    /// Ends it, bounded, and returns why it had ended if it had.
    pub(crate) async fn close(self) -> End {
        self.session.close().await
    }
}

/// Why a session ended, if it did not end as sessions should.
pub(crate) fn bad_end(instance: &str, end: &End) -> Option<Failed> {
    if end.is_clean() {
        return None;
    }
    let kind = match end {
        End::Refused { status: 401 | 403, .. } | End::Denied { .. } => Kind::Refused,
        End::ConnectFailed
        | End::Unreachable { .. }
        | End::Handshake { .. }
        | End::Lost { .. }
        | End::Silent { .. } => Kind::Unreachable,
        _ => Kind::Failed,
    };
    let failed = Failed::new(kind, format!("{instance}: {}", crate::failed::chain(end)));
    Some(match end.hint() {
        Some(hint) => failed.hint(hint),
        None => failed,
    })
}

/// The control plane of one session.
#[derive(Debug)]
struct Control {
    cloud: Cloud,
    id: String,
}

impl Service for Control {
    async fn sign(&self, url: &str) -> Result<Signed, ServiceError> {
        let made = self.cloud.sign_upgrade(url).await.map_err(|e| service_error(&e))?;
        let mut headers = http::HeaderMap::new();
        for (name, value) in made {
            let wrong = |e: &dyn std::fmt::Display| ServiceError::Never(e.to_string());
            let name = http::HeaderName::try_from(name).map_err(|e| wrong(&e))?;
            let mut value = http::HeaderValue::try_from(value).map_err(|e| wrong(&e))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(Signed { url: None, headers })
    }

    async fn resume(&self) -> Result<Resumed, ServiceError> {
        match self.cloud.resume_session(&self.id).await {
            Ok(StartedSession { token_value: Some(token), stream_url: Some(url), .. })
                if !token.is_empty() =>
            {
                Ok(Resumed::With { token: Token::new(token), stream_url: url })
            }
            Ok(_) => Ok(Resumed::Gone),
            Err(e) if e.code() == Some("DoesNotExistException") => Ok(Resumed::Gone),
            Err(e) => Err(service_error(&e)),
        }
    }

    async fn terminate(&self) -> Result<(), ServiceError> {
        self.cloud.terminate_session(&self.id).await.map_err(|e| service_error(&e))
    }
}

/// Whether waiting helps. Credentials that ended do not come back by asking often: the person has to
/// log in, and is told once.
fn service_error(error: &CloudError) -> ServiceError {
    let text = crate::failed::chain(error);
    if error.needs_a_person() { ServiceError::Never(text) } else { ServiceError::Later(text) }
}
