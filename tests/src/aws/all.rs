//! All fakes behind one address: `AWS_ENDPOINT_URL` of a host in a lab points at it.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use hyper::http::request::Parts;
use palisade_peer::{Handler, Peer};

use super::{
    ec2::Ec2,
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
    /// EC2's lists.
    pub ec2: Ec2,
    peer: Arc<OnceLock<Handler>>,
    server: Server,
}

/// Requests go to the service that they name. `/_fake/ssm...` is SSM's own, other paths below
/// `/_fake` are those of CloudWatch Logs. Sessions, commands, the rest of EC2 and STS are a peer's,
/// once one is attached.
struct All {
    logs: Logs,
    ssm: Ssm,
    ec2: Ec2,
    peer: Arc<OnceLock<Handler>>,
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
        let (logs, ssm, ec2) = (Logs::new(faults, keep), Ssm::default(), Ec2::default());
        let peer = Arc::default();
        let all =
            All { logs: logs.clone(), ssm: ssm.clone(), ec2: ec2.clone(), peer: Arc::clone(&peer) };
        Ok(Self { logs, ssm, ec2, peer, server: Server::serve(listener, all)? })
    }

    /// Lets `peer` answer what it has and the fakes have not. Only the first one is taken. Data
    /// channels stay at the peer's own address.
    pub fn attach(&self, peer: &Peer) {
        // An error is one that is there already.
        self.peer.set(peer.handler()).unwrap_or_default();
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
        let target = header(head, "x-amz-target");
        let is_form = header(head, "content-type").starts_with("application/x-www-form-urlencoded");
        if is_form && Ec2::owns(&body) {
            return self.ec2.answer(head, body).await;
        }
        if let Some(peer) = self.peer.get().filter(|p| is_form || p.owns(target)) {
            return Ok(peer.answer(head, &body).await);
        }
        let for_ssm = target.starts_with("AmazonSSM.") || head.uri.path().starts_with("/_fake/ssm");
        if for_ssm { self.ssm.answer(head, body).await } else { self.logs.answer(head, body).await }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpStream,
    };

    use super::*;

    fn ask(fake: &Fake, op: &str) -> String {
        let mut socket = TcpStream::connect(fake.server.addr()).unwrap();
        let request = format!(
            "POST / HTTP/1.1\r\nhost: fake\r\ncontent-type: application/x-amz-json-1.1\r\n\
             x-amz-target: AmazonSSM.{op}\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}"
        );
        socket.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn an_attached_peer_answers_what_the_fakes_have_not() {
        let fake = Fake::start().unwrap();
        let missing = "MissingAuthenticationTokenException";
        let before = ask(&fake, "StartSession");
        let peer = Peer::start(palisade_peer::config::Config::default()).unwrap();
        fake.attach(&peer);
        let after = ask(&fake, "StartSession");
        assert!(!before.contains("Missing Authentication Token"), "{before}");
        assert!(
            after.contains(missing) && after.contains("Missing Authentication Token"),
            "{after}"
        );
        let own = ask(&fake, "PutInventory");
        assert!(!own.contains("Missing Authentication Token"), "{own}");
    }
}
