//! The metadata service from its callers' side, on loopback.

use std::net::Ipv4Addr;

use serde_json::Value;

use super::*;

const ME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

struct Service {
    imds: Imds,
    at: SocketAddr,
}

fn service() -> Service {
    let listener = TcpListener::bind((ME, 0)).unwrap();
    let at = listener.local_addr().unwrap();
    let imds = Imds::serve(listener).unwrap();
    imds.set(ME, Identity::new("i-0abc"));
    Service { imds, at }
}

impl Service {
    fn ask(&self, method: &str, path: &str, headers: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.at).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(format!("{method} {path} HTTP/1.1\r\n{headers}\r\n").as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    fn token(&self, ttl: &str, more: &str) -> (u16, String) {
        let headers = format!("X-aws-ec2-metadata-token-ttl-seconds: {ttl}\r\n{more}");
        self.ask("PUT", "/latest/api/token", &headers)
    }

    fn get(&self, path: &str, token: &str) -> (u16, String) {
        self.ask("GET", path, &format!("X-aws-ec2-metadata-token: {token}\r\n"))
    }
}

#[test]
fn nothing_is_told_without_a_token_and_none_is_given_to_a_proxy() {
    let service = service();
    assert_eq!(service.ask("GET", "/latest/meta-data/instance-id", "").0, 401);
    assert_eq!(service.get("/latest/meta-data/instance-id", "guessed").0, 401);
    assert_eq!(service.token("60", "X-Forwarded-For: 10.0.0.1\r\n").0, 403);
    for ttl in ["0", "21601", "soon", ""] {
        assert_eq!(service.token(ttl, "").0, 400, "{ttl}");
    }
    let (status, token) = service.token("60", "");
    assert_eq!(status, 200);
    assert_eq!(service.get("/latest/meta-data/instance-id", &token), (200, "i-0abc".to_owned()));
}

#[test]
fn a_token_is_of_its_caller_and_of_its_time() {
    let service = service();
    let (_, token) = service.token("60", "");
    lock(&service.imds.state.tokens)[0].of = "10.77.0.9".parse().unwrap();
    assert_eq!(service.get("/latest/meta-data/", &token).0, 401);
    let (_, token) = service.token("60", "");
    lock(&service.imds.state.tokens)[1].until = Instant::now();
    assert_eq!(service.get("/latest/meta-data/", &token).0, 401);
}

#[test]
fn what_it_tells_changes_while_it_runs() {
    let service = service();
    let (_, token) = service.token("60", "");
    let get = |path: &str| service.get(path, &token);
    let role = "/latest/meta-data/iam/security-credentials/";
    assert_eq!(get(role), (200, "palisade-origin".to_owned()));
    let credentials: Value =
        serde_json::from_str(&get(&format!("{role}palisade-origin")).1).unwrap();
    let document = get("/latest/dynamic/instance-identity/document").1;
    let document: Value = serde_json::from_str(&document).unwrap();
    assert_eq!(
        (&document["region"], &document["instanceId"]),
        (&"eu-west-1".into(), &"i-0abc".into())
    );
    let names = get("/latest/meta-data").1;
    assert!(
        names.lines().any(|l| l == "placement/") && names.lines().any(|l| l == "mac"),
        "{names}"
    );

    service.imds.change(ME, |host| {
        host.credentials_for = -60;
        host.lifecycle = "Terminated".to_owned();
        host.user_data = Some("#cloud-config\n".to_owned());
        host.ssh_key = Some("ssh-ed25519 AAAA".to_owned());
    });
    let expired: Value = serde_json::from_str(&get(&format!("{role}palisade-origin")).1).unwrap();
    let until = |v: &Value| v["Expiration"].as_str().unwrap().to_owned();
    assert!(
        until(&expired) < until(&credentials)
            && until(&expired).as_str() < expired["LastUpdated"].as_str().unwrap()
    );
    assert_eq!(get("/latest/meta-data/autoscaling/target-lifecycle-state").1, "Terminated");
    assert_eq!(get("/latest/user-data").1, "#cloud-config\n");
    assert_eq!(get("/latest/meta-data/public-keys/").1, "0=test-key");
    assert_eq!(get("/2021-03-23/meta-data/public-keys/0/openssh-key").1, "ssh-ed25519 AAAA");

    service.imds.change(ME, |host| host.role = None);
    assert_eq!(get(role).0, 404);
    service.imds.change(ME, |host| host.down = true);
    assert_eq!((get("/latest/meta-data/").0, service.token("60", "").0), (503, 503));
}
