//! All fakes behind one address: `AWS_ENDPOINT_URL` of a host in a lab points at it.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use bytes::Bytes;
use hyper::http::request::Parts;

use super::{
    http::{Answer, Closed, Server, Service, header},
    logs::{Faults, Logs},
    ssm::Ssm,
};

/// A running fake of all services. It stops when dropped.
#[derive(Debug)]
pub struct Fake {
    /// CloudWatch Logs.
    pub logs: Logs,
    /// Systems Manager.
    pub ssm: Ssm,
    server: Server,
}

/// Requests go to the service that they name. `/_fake/ssm...` is SSM's own, other paths below
/// `/_fake` are those of CloudWatch Logs.
struct All {
    logs: Logs,
    ssm: Ssm,
}

impl Fake {
    /// Listens on a free port of loopback.
    ///
    /// # Errors
    /// When there is none.
    pub fn start() -> io::Result<Self> {
        Self::listen(SocketAddr::from(([127, 0, 0, 1], 0)), Faults::default(), false)
    }

    /// Listens on `addr`; `faults` are those of CloudWatch Logs, and `keep` holds all its events in
    /// memory, to be read back.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub fn listen(addr: SocketAddr, faults: Faults, keep: bool) -> io::Result<Self> {
        Self::serve(TcpListener::bind(addr)?, faults, keep)
    }

    /// Answers at a socket that listens already, perhaps in another network.
    ///
    /// # Errors
    /// When the socket cannot be used.
    pub fn serve(listener: TcpListener, faults: Faults, keep: bool) -> io::Result<Self> {
        let (logs, ssm) = (Logs::new(faults, keep), Ssm::default());
        let all = All { logs: logs.clone(), ssm: ssm.clone() };
        Ok(Self { logs, ssm, server: Server::serve(listener, all)? })
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Waits for the end of the server, which comes only by a signal to the process.
    pub fn wait(self) {
        self.server.wait();
    }
}

impl Service for All {
    fn refuses(&self) -> bool {
        // Whose connection it is shows with its first request; the service refuses that then.
        self.logs.refuses() && self.ssm.refuses()
    }

    async fn answer(&self, head: &Parts, body: Bytes) -> Result<Answer, Closed> {
        let for_ssm = header(head, "x-amz-target").starts_with("AmazonSSM.")
            || head.uri.path().starts_with("/_fake/ssm");
        if for_ssm { self.ssm.answer(head, body).await } else { self.logs.answer(head, body).await }
    }
}
