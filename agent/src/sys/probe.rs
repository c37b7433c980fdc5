//! Asking a program whether it is ready: a connection, or an answer to `GET`.

use std::{io, time::Duration};

use http_body_util::Empty;
use hyper::{Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpStream, UnixStream},
    time,
};

use crate::supervise::ProbeTarget;

/// Asks once. An answer that takes longer than `within` is none.
pub async fn ask(target: &ProbeTarget, within: Duration) -> bool {
    match time::timeout(within, try_ask(target)).await {
        Ok(Ok(good)) => good,
        Ok(Err(e)) => {
            tracing::debug!(error = %e, "probe failed");
            false
        }
        Err(_) => {
            tracing::debug!("probe took too long");
            false
        }
    }
}

async fn try_ask(target: &ProbeTarget) -> io::Result<bool> {
    match target {
        ProbeTarget::Tcp(addr) => TcpStream::connect(addr).await.map(|_| true),
        ProbeTarget::Unix(path) => UnixStream::connect(path).await.map(|_| true),
        ProbeTarget::Http { addr, host, path } => {
            let stream = TcpStream::connect(addr).await?;
            let (mut client, connection) =
                http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
            let request = Request::get(path)
                .header("Host", host)
                .header("User-Agent", "palisade")
                .header("Connection", "close")
                .body(Empty::<Bytes>::new())
                .map_err(io::Error::other)?;
            let answer = client.send_request(request);
            tokio::pin!(answer, connection);
            // The connection must be driven for the answer to come; its end without one is a no.
            let response = tokio::select! {
                answer = &mut answer => answer.map_err(io::Error::other)?,
                end = &mut connection => {
                    end.map_err(io::Error::other)?;
                    answer.await.map_err(io::Error::other)?
                }
            };
            let status = response.status();
            Ok(status.is_success() || status.is_redirection())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
        thread,
    };

    use super::*;

    /// Answers one connection after another with these texts.
    fn server(answers: &'static [&'static str]) -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut seen = [0; 1024];
                let n = stream.read(&mut seen).unwrap();
                assert!(seen[..n].starts_with(b"GET /health HTTP/1.1\r\n"));
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        addr
    }

    #[tokio::test]
    async fn two_and_three_hundred_are_ready_and_the_rest_is_not() {
        let addr = server(&[
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            "HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n",
            "nonsense\r\n\r\n",
        ]);
        let target = ProbeTarget::Http { addr, host: "x".to_owned(), path: "/health".to_owned() };
        let mut answers = Vec::new();
        for _ in 0..4 {
            answers.push(ask(&target, Duration::from_secs(5)).await);
        }
        assert_eq!(answers, [true, true, false, false]);
    }

    #[tokio::test]
    async fn a_port_is_ready_once_somebody_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = ProbeTarget::Tcp(listener.local_addr().unwrap());
        assert!(ask(&target, Duration::from_secs(5)).await);
        drop(listener);
        // A child that another test just started may have it for a moment yet.
        while ask(&target, Duration::from_secs(5)).await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(!ask(&ProbeTarget::Unix("/nonexistent".into()), Duration::from_secs(5)).await);
    }

    #[tokio::test]
    async fn a_program_that_accepts_and_says_nothing_is_not_ready() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let target = ProbeTarget::Http { addr, host: "x".to_owned(), path: "/".to_owned() };
        assert!(!ask(&target, Duration::from_millis(100)).await);
    }
}
