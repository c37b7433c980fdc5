//! Whose a request is, what he may do, and what the API says of instances and sessions.

use crate::support::{ACCESS_KEY, INSTANCE, SECRET, bad, dial, good, peer, post, ssm, start};
use palisade_peer::config::{Instance, Key, Ping};
use serde_json::{Value, json};

const SSH: &str = "AWS-StartSSHSession";
const FORM: &str = "application/x-www-form-urlencoded";
const KEY: (&str, &str) = (ACCESS_KEY, SECRET);

async fn sts(peer: &palisade_peer::Peer, form: &str) -> (u16, String) {
    post(peer, "sts", FORM, &[], &format!("{form}&Version=2011-06-15"), KEY).await
}

fn tag<'a>(xml: &'a str, name: &str) -> &'a str {
    xml.split_once(&format!("<{name}>")).unwrap().1.split_once("</").unwrap().0
}

#[tokio::test]
async fn a_wrong_secret_key_service_or_token_is_refused() {
    let peer = peer("127.0.0.1:1", |_| {});
    let target = [("x-amz-target", "AmazonSSM.GetConnectionStatus")];
    let json = "application/x-amz-json-1.1";
    let body = json!({ "Target": INSTANCE }).to_string();
    let mut cases = Vec::new();
    for (service, key) in [
        ("ssm", (ACCESS_KEY, "wrong")),
        ("ssm", ("AKIANOBODY", SECRET)),
        ("sts", KEY),
        ("ssm", KEY),
    ] {
        let (status, answer) = post(&peer, service, json, &target, &body, key).await;
        let answer: Value = serde_json::from_str(&answer).unwrap();
        cases.push((status, answer["__type"].as_str().map(str::to_owned)));
    }
    let with_token = [target[0], ("x-amz-security-token", "stolen")];
    let (status, _) = post(&peer, "ssm", json, &with_token, &body, KEY).await;
    assert_eq!(status, 400);
    let error = |name: &str| (400, Some(name.to_owned()));
    assert_eq!(
        cases,
        [
            error("InvalidSignatureException"),
            error("UnrecognizedClientException"),
            error("InvalidSignatureException"),
            (200, None),
        ]
    );
}

#[tokio::test]
async fn a_clock_five_minutes_off_and_expired_credentials_are_refused_by_their_errors() {
    let peer = peer("127.0.0.1:1", |_| {});
    let body = json!({ "Target": INSTANCE });
    peer.faults(|f| f.clock_ahead_s = 310);
    let (kind, message) = bad(&peer, "GetConnectionStatus", body.clone()).await;
    assert_eq!(kind, "InvalidSignatureException");
    assert!(message.starts_with("Signature expired"), "{message}");
    peer.faults(|f| f.clock_ahead_s = -310);
    let (_, message) = bad(&peer, "GetConnectionStatus", body.clone()).await;
    assert!(message.starts_with("Signature not yet current"), "{message}");
    peer.faults(|f| {
        f.clock_ahead_s = 0;
        f.expired_token = true;
    });
    assert_eq!(bad(&peer, "GetConnectionStatus", body).await.0, "ExpiredTokenException");
}

#[tokio::test]
async fn each_denied_action_is_named_with_who_and_on_what() {
    let peer = peer("127.0.0.1:1", |_| {});
    let started = start(&peer, SSH).await;
    let session = started["SessionId"].as_str().unwrap();
    let command =
        json!({ "CommandId": "00000000-0000-4000-8000-000000000000", "InstanceId": INSTANCE });
    let send = json!({ "DocumentName": "AWS-RunShellScript", "InstanceIds": [INSTANCE],
        "Parameters": { "commands": ["true"] } });
    for (op, body, resource) in [
        (
            "StartSession",
            json!({ "Target": INSTANCE, "DocumentName": SSH }),
            "arn:aws:ec2:us-east-1:123456789012:instance/i-0123456789abcdef0".to_owned(),
        ),
        ("SendCommand", send, "arn:aws:ssm:us-east-1::document/AWS-RunShellScript".to_owned()),
        (
            "GetCommandInvocation",
            command,
            "arn:aws:ec2:us-east-1:123456789012:instance/i-0123456789abcdef0".to_owned(),
        ),
        (
            "TerminateSession",
            json!({ "SessionId": session }),
            format!("arn:aws:ssm:us-east-1:123456789012:session/{session}"),
        ),
    ] {
        peer.put_key(Key { deny: vec![format!("ssm:{op}")], ..Key::default() });
        let (kind, message) = bad(&peer, op, body).await;
        assert_eq!(kind, "AccessDeniedException");
        let text = format!(
            "User: arn:aws:iam::123456789012:user/alice is not authorized to \
            perform: ssm:{op} on resource: {resource}"
        );
        assert!(message.starts_with(&text), "{message}");
    }
    peer.put_key(Key { deny: vec!["ssmmessages:OpenDataChannel".to_owned()], ..Key::default() });
    assert_eq!(dial(&peer, session, true).await.err(), Some(403));
    assert_eq!(peer.violations(), [], "a denial is no fault of the client");
    assert!(peer.journal().iter().any(|r| r["errorCode"] == "AccessDeniedException"));
    assert!(!format!("{:?}", peer.journal()).contains(started["TokenValue"].as_str().unwrap()));
}

#[tokio::test]
async fn sessions_start_by_the_documented_rules() {
    let peer = peer("127.0.0.1:1", |c| {
        c.instances.push(Instance {
            id: "i-00000000000000000".to_owned(),
            ping: Ping::ConnectionLost,
            ..Instance::default()
        });
    });
    let remote = "AWS-StartPortForwardingSessionToRemoteHost";
    for (body, error) in [
        (json!({ "Target": "i-00000000000000000", "DocumentName": SSH }), "TargetNotConnected"),
        (json!({ "Target": "i-11111111111111111", "DocumentName": SSH }), "TargetNotConnected"),
        (json!({ "Target": "", "DocumentName": SSH }), "ValidationException"),
        (json!({ "Target": INSTANCE, "DocumentName": "Nope-Document" }), "InvalidDocument"),
        (json!({ "Target": INSTANCE, "DocumentName": SSH, "Reason": "" }), "ValidationException"),
        (
            json!({ "Target": INSTANCE, "DocumentName": SSH, "Parameters": { "portNumber": ["0"] } }),
            "InvalidParameters",
        ),
        (
            json!({ "Target": INSTANCE, "DocumentName": SSH, "Parameters": { "host": ["a"] } }),
            "InvalidParameters",
        ),
        (
            json!({ "Target": INSTANCE, "DocumentName": remote,
            "Parameters": { "host": ["169.254.169.254"], "portNumber": ["80"] } }),
            "InvalidParameters",
        ),
        (
            json!({ "Target": INSTANCE, "DocumentName": remote,
            "Parameters": { "portNumber": ["80"] } }),
            "InvalidParameters",
        ),
    ] {
        assert_eq!(bad(&peer, "StartSession", body.clone()).await.0, error, "{body}");
    }
    let body = json!({ "Target": INSTANCE, "DocumentName": remote, "Reason": "look at the database",
        "Parameters": { "host": ["db.internal"], "portNumber": ["5432"], "localPortNumber": ["0"] } });
    let started = good(&peer, "StartSession", body).await;
    let id = started["SessionId"].as_str().unwrap();
    assert_eq!(
        started["StreamUrl"],
        format!(
            "wss://ssmmessages.us-east-1.amazonaws.com/v1/data-channel/{id}?role=publish_subscribe"
        )
    );
    let view = peer.sessions().remove(0);
    assert_eq!(
        (view.destination.as_str(), view.reason.as_str()),
        ("db.internal:5432", "look at the database")
    );
    let active = good(&peer, "DescribeSessions", json!({ "State": "Active" })).await;
    assert_eq!(active["Sessions"][0]["SessionId"], id);
    let status =
        good(&peer, "GetConnectionStatus", json!({ "Target": "i-11111111111111111" })).await;
    assert_eq!(status["Status"], "notconnected");
}

#[tokio::test]
async fn instances_are_found_by_tag_and_in_pages() {
    let peer = peer("127.0.0.1:1", |c| {
        c.instances = (0..12)
            .map(|n| Instance {
                id: format!("i-0000000000000000{n:x}"),
                tags: [("Name".to_owned(), format!("web-{}", n % 3))].into(),
                ping: if n == 11 { Ping::Unmanaged } else { Ping::Online },
                ..Instance::default()
            })
            .collect();
    });
    let page = good(&peer, "DescribeInstanceInformation", json!({ "MaxResults": 10 })).await;
    assert_eq!(page["InstanceInformationList"].as_array().unwrap().len(), 10);
    let body = json!({ "MaxResults": 10, "NextToken": page["NextToken"] });
    let page = good(&peer, "DescribeInstanceInformation", body).await;
    assert_eq!(page["InstanceInformationList"].as_array().unwrap().len(), 1);
    assert!(page["NextToken"].is_null());
    let filters = json!([{ "Key": "tag:Name", "Values": ["web-2"] }]);
    let found = good(&peer, "DescribeInstanceInformation", json!({ "Filters": filters })).await;
    assert_eq!(found["InstanceInformationList"].as_array().unwrap().len(), 3);
    assert_eq!(
        bad(&peer, "DescribeInstanceInformation", json!({ "MaxResults": 4 })).await.0,
        "ValidationException"
    );

    let form = |rest: &str| format!("Action=DescribeInstances&Version=2016-11-15{rest}");
    let ask = |rest: &'static str| post(&peer, "ec2", FORM, &[], form(rest).leak(), KEY);
    let (status, xml) = ask("&Filter.1.Name=tag%3AName&Filter.1.Value.1=web-2").await;
    assert_eq!((status, xml.matches("<instanceId>").count()), (200, 4));
    let (_, xml) = ask("&MaxResults=5").await;
    assert_eq!((xml.matches("<instanceId>").count(), tag(&xml, "nextToken")), (5, "page-5"));
    let (status, xml) = ask("&InstanceId.1=i-0000000000000000f").await;
    assert_eq!((status, tag(&xml, "Code")), (400, "InvalidInstanceID.NotFound"));
}

#[tokio::test]
async fn a_second_factor_gives_credentials_that_may_more() {
    let role = "arn:aws:iam::123456789012:role/ops/Admin";
    let peer = peer("127.0.0.1:1", |c| {
        c.roles = vec![role.to_owned()];
        c.keys[0].needs_mfa = vec!["ssm:StartSession".to_owned()];
    });
    let body = json!({ "Target": INSTANCE, "DocumentName": SSH });
    assert_eq!(bad(&peer, "StartSession", body.clone()).await.0, "AccessDeniedException");
    let (status, xml) = sts(&peer, "Action=GetCallerIdentity").await;
    assert_eq!((status, tag(&xml, "Arn")), (200, "arn:aws:iam::123456789012:user/alice"));
    let serial = "SerialNumber=arn%3Aaws%3Aiam%3A%3A123456789012%3Amfa%2Falice";
    let (status, xml) =
        sts(&peer, &format!("Action=GetSessionToken&{serial}&TokenCode=000000")).await;
    assert_eq!((status, tag(&xml, "Code")), (403, "AccessDenied"));
    let (status, xml) =
        sts(&peer, &format!("Action=GetSessionToken&{serial}&TokenCode=123456")).await;
    assert_eq!(status, 200, "{xml}");
    let key = (tag(&xml, "AccessKeyId"), tag(&xml, "SecretAccessKey"));
    let token = tag(&xml, "SessionToken");
    let headers = [("x-amz-target", "AmazonSSM.StartSession"), ("x-amz-security-token", token)];
    let json = "application/x-amz-json-1.1";
    let (status, answer) = post(&peer, "ssm", json, &headers, &body.to_string(), key).await;
    assert_eq!(status, 200, "{answer}");
    let (status, _) = post(&peer, "ssm", json, &headers[..1], &body.to_string(), key).await;
    assert_eq!(status, 400, "accepted without its token");

    let assume = format!(
        "Action=AssumeRole&RoleSessionName=alice&RoleArn={}",
        role.replace(':', "%3A").replace('/', "%2F")
    );
    let (status, xml) = sts(&peer, &assume).await;
    assert_eq!(
        (status, tag(&xml, "Arn")),
        (200, "arn:aws:sts::123456789012:assumed-role/Admin/alice")
    );
    let (status, _) = sts(&peer, &assume.replace("Admin", "Other")).await;
    assert_eq!(status, 403);
}

#[tokio::test]
async fn calls_are_throttled_and_broken_as_often_as_it_is_told() {
    let peer = peer("127.0.0.1:1", |c| {
        c.faults.throttle = 2;
        c.faults.break_calls = 1;
    });
    let body = json!({ "Target": INSTANCE });
    let mut seen = Vec::new();
    for _ in 0..4 {
        let (status, answer) = ssm(&peer, "GetConnectionStatus", body.clone()).await;
        seen.push((status, answer["__type"].as_str().unwrap_or("").to_owned()));
    }
    let error = |status, kind: &str| (status, kind.to_owned());
    assert_eq!(
        seen,
        [
            error(400, "ThrottlingException"),
            error(400, "ThrottlingException"),
            error(500, "InternalServerError"),
            error(200, ""),
        ]
    );
}

#[tokio::test]
async fn another_process_can_set_faults_and_read_what_happened() {
    let peer = peer("127.0.0.1:1", |_| {});
    start(&peer, SSH).await;
    let change = json!({ "rtt_ms": 7, "to_agent": { "data": { "lose": 0.5 } } }).to_string();
    let (status, _) =
        crate::support::http(&peer, "POST /_peer/faults HTTP/1.1\r\n", change.as_bytes()).await;
    assert_eq!(status, 200);
    let (_, text) = crate::support::http(&peer, "GET /_peer/faults HTTP/1.1\r\n", b"").await;
    let faults: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&faults["rtt_ms"], &faults["to_agent"]["data"]["lose"]), (&json!(7), &json!(0.5)));
    assert_eq!(faults["frame_size"], 1024, "what is not given stays");
    let (status, _) =
        crate::support::http(&peer, "POST /_peer/faults HTTP/1.1\r\n", b"{\"nope\":1}").await;
    assert_eq!(status, 400);
    for (path, words) in
        [("sessions", "alice-0"), ("journal", "StartSession"), ("violations", "[]")]
    {
        let (status, text) =
            crate::support::http(&peer, &format!("GET /_peer/{path} HTTP/1.1\r\n"), b"").await;
        assert!(status == 200 && text.contains(words), "{path}: {text}");
    }
}
