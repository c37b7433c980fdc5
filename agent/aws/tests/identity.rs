//! Who the host is when the instance metadata answers, is away, and comes back.
#![expect(clippy::unwrap_used, reason = "allow-unwrap-in-tests covers test functions, not helpers")]

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use palisade_agent_aws::HostIdentity;

const ID: &str = "i-0123456789abcdef0";

/// Instance metadata that answers or says 503. It ends with the test's process.
fn metadata(up: Arc<AtomicBool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let mut request = Vec::new();
            let mut byte = [0; 1];
            while !request.ends_with(b"\r\n\r\n") && matches!(socket.read(&mut byte), Ok(1)) {
                request.extend(byte);
            }
            let text = String::from_utf8_lossy(&request).to_lowercase();
            let token = text.starts_with("put /latest/api/token ");
            let allowed = text.contains("x-aws-ec2-metadata-token: token-1");
            let (status, body) = match () {
                () if !up.load(Ordering::SeqCst) => ("503 Service Unavailable", ""),
                () if token => ("200 OK", "token-1"),
                () if !allowed => ("401 Unauthorized", ""),
                () if text.starts_with("get /latest/meta-data/instance-id ") => ("200 OK", ID),
                () => ("404 Not Found", ""),
            };
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-length: {}\r\nx-aws-ec2-metadata-token-ttl-seconds: \
                 600\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            // A client that went away is none of the test's business.
            socket.write_all(answer.as_bytes()).unwrap_or_default();
        }
    });
    addr
}

#[tokio::test]
async fn a_host_keeps_its_id_while_the_metadata_is_away() {
    let (dir, up) = (tempfile::tempdir().unwrap(), Arc::new(AtomicBool::new(false)));
    let host = HostIdentity::kept_in(dir.path())
        .with_metadata_at(format!("http://{}", metadata(up.clone())));
    assert_eq!(host.instance().await, None, "not known from the start");
    up.store(true, Ordering::SeqCst);
    assert_eq!(host.instance().await.as_deref(), Some(ID), "late is not too late");
    up.store(false, Ordering::SeqCst);
    assert_eq!(host.instance().await.as_deref(), Some(ID), "by the file");
    let anew = HostIdentity::kept_in(dir.path()).with_metadata_at("http://127.0.0.1:1");
    assert_eq!(anew.instance().await.as_deref(), Some(ID), "also after a restart of the agent");
}
