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

const MAC: &str = "0a:bb:cc:dd:ee:ff";
const VPC: &str = "vpc-0123456789abcdef0";

const TAG: &str = "get /latest/meta-data/tags/instance/aws:autoscaling:groupname ";
const GROUP: &str = "palisade-prod-origin-ec2-OriginGroup-1";

fn of_mac(what: &str) -> String {
    format!("get /latest/meta-data/network/interfaces/macs/{MAC}/{what}")
}

/// Instance metadata that answers or says 503. It ends with the test's process.
fn metadata(up: Arc<AtomicBool>) -> SocketAddr {
    metadata_of(up, Arc::default())
}

/// The same of an instance that is in a group as long as that is so.
fn metadata_of(up: Arc<AtomicBool>, in_group: Arc<AtomicBool>) -> SocketAddr {
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
            let has_group = in_group.load(Ordering::SeqCst);
            let allowed = text.contains("x-aws-ec2-metadata-token: token-1");
            let (status, body) = match () {
                () if !up.load(Ordering::SeqCst) => ("503 Service Unavailable", ""),
                () if token => ("200 OK", "token-1"),
                () if !allowed => ("401 Unauthorized", ""),
                () if text.starts_with("get /latest/meta-data/instance-id ") => ("200 OK", ID),
                () if text.starts_with("get /latest/meta-data/mac ") => ("200 OK", MAC),
                () if text.starts_with(TAG) && has_group => ("200 OK", GROUP),
                () if text.starts_with(&of_mac("vpc-id ")) => ("200 OK", VPC),
                () if text.starts_with(&of_mac("vpc-ipv4-cidr-blocks ")) => {
                    ("200 OK", "10.0.0.0/16\n100.64.0.0/20")
                }
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

#[tokio::test]
async fn a_host_knows_its_vpc_and_its_networks_while_the_metadata_answers() {
    let (dir, up) = (tempfile::tempdir().unwrap(), Arc::new(AtomicBool::new(false)));
    let host = HostIdentity::kept_in(dir.path())
        .with_metadata_at(format!("http://{}", metadata(up.clone())));
    assert_eq!(host.vpc().await, None);
    up.store(true, Ordering::SeqCst);
    let vpc = host.vpc().await.unwrap();
    assert_eq!(
        (vpc.id.as_str(), vpc.networks.as_slice()),
        (VPC, &["10.0.0.0/16", "100.64.0.0/20"].map(str::to_owned)[..])
    );
}

#[tokio::test]
async fn a_host_knows_its_group_by_its_tags_and_keeps_it_while_the_metadata_is_away() {
    let (dir, up) = (tempfile::tempdir().unwrap(), Arc::new(AtomicBool::new(true)));
    let in_group = Arc::new(AtomicBool::new(true));
    let host = HostIdentity::kept_in(dir.path())
        .with_metadata_at(format!("http://{}", metadata_of(up.clone(), in_group.clone())));
    assert_eq!(host.auto_scaling_group().await.as_deref(), Some(GROUP));
    up.store(false, Ordering::SeqCst);
    assert_eq!(host.auto_scaling_group().await.as_deref(), Some(GROUP), "by the file");
    up.store(true, Ordering::SeqCst);
    in_group.store(false, Ordering::SeqCst);
    assert_eq!(host.auto_scaling_group().await, None, "it left the group");
}
