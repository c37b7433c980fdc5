//! All fakes behind one address: `AWS_ENDPOINT_URL` of a host in a lab points at it.

use std::{io, net::SocketAddr};

use bytes::Bytes;
use hyper::http::request::Parts;

use super::{
    http::{Answer, Closed, Server, Service, header},
    logs::{Faults, Logs},
    ssm::Ssm,
};

/// A running fake of all services. It stops when dropped.
#[derive(Debug)]
pub struct Fake(Server);

/// Requests go to the service that they name. `/_fake/ssm...` is SSM's own, other paths below
/// `/_fake` are those of CloudWatch Logs.
struct All {
    logs: Logs,
    ssm: Ssm,
}

impl Fake {
    /// Listens on `addr`; `faults` are those of CloudWatch Logs, and `keep` holds all its events in
    /// memory, to be read back.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub fn listen(addr: SocketAddr, faults: Faults, keep: bool) -> io::Result<Self> {
        let all = All { logs: Logs::new(faults, keep), ssm: Ssm::default() };
        Server::listen(addr, all).map(Self)
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        self.0.url()
    }

    /// Waits for the end of the server, which comes only by a signal to the process.
    pub fn wait(self) {
        self.0.wait();
    }
}

impl Service for All {
    fn refuses(&self) -> bool {
        // Whose connection it is shows with its first request; SSM refuses that then.
        self.logs.refuses() && self.ssm.refuses()
    }

    async fn answer(&self, head: &Parts, body: Bytes) -> Result<Answer, Closed> {
        let for_ssm = header(head, "x-amz-target").starts_with("AmazonSSM.")
            || head.uri.path().starts_with("/_fake/ssm");
        if for_ssm { self.ssm.answer(head, body).await } else { self.logs.answer(head, body).await }
    }
}
