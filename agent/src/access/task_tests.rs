//! The task with twins in memory and clocks that are set by hand.

use palisade_types::grant::{GrantRequest, GrantState};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
};

use super::{
    super::{
        audit::Verifier,
        handle::GrantError,
        keyserver::{decode_answer, encode_question},
        testutil::{Host, NOON, OWNER, SetClocks, at, request, settings, sshd},
    },
    *,
};
use crate::task::Scope;

struct Life {
    scope: Scope,
    handle: Handle,
    server: Option<Server>,
}

fn begin(host: &Host, clocks: &SetClocks, settings: Settings) -> Life {
    let parts = Parts {
        processes: host.clone(),
        journal: host.clone(),
        clocks: Arc::new(clocks.clone()),
        facts: Arc::new(host.clone()),
        tracer: Arc::new(host.clone()),
        log: host.clone(),
    };
    let (handle, task, server, writer) = new(settings, parts);
    let mut scope = Scope::new(&CancellationToken::new());
    let (stop, audit_stop) = (scope.stop(), scope.stop());
    scope.spawn("access", task.run(stop));
    scope.spawn("audit", writer.run(audit_stop));
    Life { scope, handle, server: Some(server) }
}

impl Life {
    /// Waits until what is published is so.
    async fn until(&self, what: impl Fn(&Status) -> bool) -> Status {
        let mut seen = self.handle.watch();
        let found = time::timeout(Duration::from_secs(60), seen.wait_for(|s| what(s))).await;
        found.expect("it never came to be").unwrap().clone()
    }

    async fn end(self) {
        self.scope.shut_down(Duration::from_secs(5)).await;
    }
}

fn lines(host: &Host) -> Vec<serde_json::Value> {
    let text = host.with(|w| String::from_utf8(w.lines.clone()).unwrap());
    text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

fn events(host: &Host) -> Vec<String> {
    lines(host).iter().map(|l| l["event"].as_str().unwrap().to_owned()).collect()
}

/// Makes sshd `pid` be told the key of grant 1, and somebody log in by it.
async fn log_in(life: &Life, host: &Host, clocks: &SetClocks, pid: i32) {
    host.with(|w| w.logins.insert(sshd(pid), false));
    let (reply, told) = tokio::sync::oneshot::channel();
    let session = super::super::testutil::attempt(pid, clocks.now());
    let attempt = Command::Attempt { grant: request(1).id, session, reply };
    life.handle.commands.send(attempt).await.unwrap();
    assert!(told.await.unwrap());
    host.with(|w| {
        w.logins.insert(sshd(pid), true);
        w.programs.insert(sshd(pid), [sshd(pid + 1000)].into());
    });
    life.until(|s| s.grants.iter().any(|g| g.sessions.iter().any(|x| x.pid == pid))).await;
}

#[tokio::test(start_paused = true)]
async fn a_login_is_warned_then_ended_also_one_that_does_not_want_to() {
    let (host, clocks) = (Host::default(), SetClocks::at(at(0)));
    let life = begin(&host, &clocks, settings());
    let reply = life.handle.grant(request(1), "uid 0".to_owned()).await.unwrap();
    assert_eq!((reply.expires_at, reply.ttl_s.seconds()), (NOON + 600, 600));
    log_in(&life, &host, &clocks, 10).await;
    host.with(|w| w.stubborn.insert(sshd(1010)));
    clocks.set(at(300));
    let warned = |n: usize| {
        let host = host.clone();
        async move {
            let told = async {
                while host.with(|w| w.told.len()) < n {
                    time::sleep(Duration::from_millis(50)).await;
                }
            };
            time::timeout(Duration::from_secs(60), told).await.expect("nobody was told");
        }
    };
    warned(1).await;
    clocks.set(at(541));
    warned(2).await;
    clocks.set(at(600));
    warned(3).await;
    // Asked first: the stubborn one is still there.
    assert!(host.is_living(sshd(1010)));
    assert!(
        life.until(|s| s.grants.iter().all(|g| g.state == GrantState::Expired)).await.grants.len()
            <= 1
    );
    clocks.set(at(603));
    life.until(|s| s.grants.is_empty()).await;
    assert!(!host.is_living(sshd(1010)) && !host.is_living(sshd(10)));
    let told = host.with(|w| w.told.clone());
    assert!(told[0].contains("ends in 5 min") && told[1].contains("ends in 1 min"), "{told:?}");
    assert!(told[2].contains("the grant expired"), "{told:?}");
    life.end().await;
    let all = ["started", "granted", "login", "warned", "warned", "ended", "logout"];
    assert_eq!(events(&host), all);
}

#[tokio::test(start_paused = true)]
async fn a_login_that_dies_between_a_look_and_a_step_was_ended_by_us_all_the_same() {
    let (host, clocks) = (Host::default(), SetClocks::at(at(0)));
    let life = begin(&host, &clocks, settings());
    life.handle.grant(request(1), String::new()).await.unwrap();
    log_in(&life, &host, &clocks, 10).await;
    host.with(|w| {
        w.programs.clear();
        w.dying.insert(sshd(10));
    });
    clocks.set(at(600));
    let status = life.until(|s| s.grants.is_empty()).await;
    assert_eq!(status.counts.sessions_ended, 1);
    life.end().await;
    let logout = lines(&host).into_iter().find(|l| l["event"] == "logout").unwrap();
    assert_eq!(logout["why"], "the grant expired");
}

#[tokio::test(start_paused = true)]
async fn the_next_life_ends_what_the_last_one_began_and_knows_used_ids() {
    let (host, clocks) = (Host::default(), SetClocks::at(at(0)));
    let life = begin(&host, &clocks, settings());
    life.handle.grant(request(1), String::new()).await.unwrap();
    log_in(&life, &host, &clocks, 10).await;
    life.end().await;
    clocks.set(at(601));
    let life = begin(&host, &clocks, settings());
    life.until(|s| s.grants.iter().all(|g| g.state == GrantState::Expired)).await;
    clocks.set(at(604));
    life.until(|s| s.grants.is_empty()).await;
    assert!(!host.is_living(sshd(10)));
    // Played again it is too old by now; until then its id was used.
    let refused = life.handle.grant(request(1), String::new()).await;
    assert!(matches!(refused, Err(GrantError::Refused(_))), "{refused:?}");
    life.end().await;
    let mut verifier = Verifier::default();
    host.with(|w| {
        w.lines.split(|b| *b == b'\n').filter(|l| !l.is_empty()).for_each(|l| verifier.line(l))
    });
    let verdict = verifier.verdict(host.with(|w| w.head.clone()).as_ref());
    assert!(verdict.ok, "{:?}", verdict.faults);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_written_down_is_not_granted_and_its_id_stays_used() {
    let (host, clocks) = (Host::default(), SetClocks::at(at(0)));
    let life = begin(&host, &clocks, settings());
    host.with(|w| w.journal_broken = true);
    let e = life.handle.grant(request(1), String::new()).await.unwrap_err();
    assert!(matches!(e, GrantError::Journal(_)), "{e}");
    assert!(life.handle.status().grants.is_empty());
    host.with(|w| w.journal_broken = false);
    let e = life.handle.grant(request(1), String::new()).await.unwrap_err();
    assert!(matches!(e, GrantError::Refused(_)), "{e}");
    life.handle.grant(request(2), String::new()).await.unwrap();
    life.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_user_who_is_no_longer_configured_is_out_with_the_update() {
    let (host, clocks) = (Host::default(), SetClocks::at(at(0)));
    let life = begin(&host, &clocks, settings());
    life.handle.grant(request(1), String::new()).await.unwrap();
    log_in(&life, &host, &clocks, 10).await;
    life.end().await;
    let mut without = settings();
    without.users.remove(&request(1).user);
    let life = begin(&host, &clocks, without);
    clocks.set(at(2));
    time::timeout(Duration::from_secs(60), life.until(|s| s.grants.is_empty())).await.unwrap();
    assert!(!host.is_living(sshd(10)));
    life.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_journal_of_another_boot_holds_nothing_and_a_broken_one_refuses_for_a_while() {
    let (host, clocks) = (Host::default(), SetClocks::at(at(0)));
    let life = begin(&host, &clocks, settings());
    life.handle.grant(request(1), String::new()).await.unwrap();
    life.end().await;
    host.with(|w| w.boot = 1);
    let life = begin(&host, &clocks, settings());
    assert!(life.handle.status().grants.is_empty());
    life.end().await;
    host.with(|w| w.journal = Some(b"{".to_vec()));
    let life = begin(&host, &clocks, settings());
    let e = life.handle.grant(request(2), String::new()).await.unwrap_err();
    assert!(e.to_string().contains("journal of grants was lost"), "{e}");
    life.end().await;
}

#[tokio::test(start_paused = true)]
async fn live_addresses_are_told_for_as_long_as_they_are_granted() {
    let (host, clocks) = (Host::default(), SetClocks::at(at(0)));
    let life = begin(&host, &clocks, settings());
    let direct = GrantRequest { source: "10.20.0.7/32".parse().unwrap(), ..request(1) };
    life.handle.grant(direct, String::new()).await.unwrap();
    let mut told = life.handle.direct();
    let wait = Duration::from_secs(60);
    time::timeout(wait, told.wait_for(|d| d.keys().eq(&["10.20.0.7".parse::<IpAddr>().unwrap()])))
        .await
        .unwrap()
        .unwrap();
    clocks.set(at(600));
    time::timeout(wait, told.wait_for(|d| d.is_empty())).await.unwrap().unwrap();
    life.end().await;
}

#[tokio::test(start_paused = true)]
async fn refusals_beyond_thirty_a_minute_are_counted_and_not_written() {
    let (host, clocks) = (Host::default(), SetClocks::at(at(0)));
    let life = begin(&host, &clocks, settings());
    for _ in 0..40 {
        life.handle.unreadable("x\u{1b}[2J".to_owned(), String::new()).await;
    }
    life.until(|s| s.counts.refused == 40).await;
    life.end().await;
    let refused: Vec<_> = lines(&host).into_iter().filter(|l| l["event"] == "refused").collect();
    assert_eq!(refused.len(), 30);
    assert_eq!(refused[0]["why"], "x?[2J");
}

/// Asks the real server over a real socket, as the helper with our own pid.
async fn ask(path: &std::path::Path, user: &str, kind: &str, key: &str) -> Option<Vec<String>> {
    let mut stream = UnixStream::connect(path).await.unwrap();
    stream.write_all(&encode_question(user, kind, key).unwrap()).await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    decode_answer(&bytes)
}

#[tokio::test]
async fn a_key_is_told_to_its_owners_sshd_only_and_twice_is_one_connection() {
    let (host, clocks) = (Host::default(), SetClocks::at(at(0)));
    let mut life = begin(&host, &clocks, settings());
    life.handle.grant(request(1), String::new()).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let uid = nix_free_uid(&path);
    let stop = life.scope.stop();
    let server = life.server.take().unwrap();
    life.scope.spawn("keys", server.run(listener, vec![uid], stop));
    let key = request(1).key.to_string();
    let us = i32::try_from(std::process::id()).unwrap();

    // Nobody knows this process as a helper of sshd.
    assert_eq!(ask(&path, "deploy", "ssh-ed25519", &key).await, Some(Vec::new()));
    host.with(|w| {
        w.helpers.insert(us, (sshd(10), "somebody else".to_owned()));
        w.logins.insert(sshd(10), false);
    });
    assert_eq!(ask(&path, "deploy", "ssh-ed25519", &key).await, Some(Vec::new()));
    life.until(|s| s.counts.logins_refused == 2).await;
    host.with(|w| w.helpers.insert(us, (sshd(10), OWNER.to_owned())));
    for _ in 0..2 {
        let told = ask(&path, "deploy", "ssh-ed25519", &key).await.unwrap();
        assert!(told[0].starts_with("restrict,pty,") && told[0].contains(&key), "{told:?}");
    }
    for (user, kind, key) in [
        ("admin", "ssh-ed25519", key.as_str()),
        ("deploy", "ssh-rsa", &key),
        ("deploy", "ssh-ed25519", "AAAA"),
        ("deploy\n", "ssh-ed25519", &key),
    ] {
        assert_eq!(ask(&path, user, kind, key).await, Some(Vec::new()), "{user} {kind}");
    }
    // Another key of the same connection: what was told before is not a login any more.
    host.with(|w| w.logins.insert(sshd(10), true));
    time::sleep(Duration::from_millis(300)).await;
    assert_eq!(life.handle.status().counts.logins, 0);
    // Odd questions get no answer at all.
    for odd in ["\n", "{}\n", "x", &format!("{{\"v\":1,\"user\":\"{}\"}}\n", "a".repeat(5000))] {
        let mut stream = UnixStream::connect(&path).await.unwrap();
        stream.write_all(odd.as_bytes()).await.unwrap_or_default();
        stream.shutdown().await.unwrap_or_default();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap_or_default();
        assert_eq!(bytes, b"", "{odd:?}");
    }
    // And the end is the end, also by the clock of the server itself.
    clocks.set(at(600));
    assert_eq!(ask(&path, "deploy", "ssh-ed25519", &key).await, Some(Vec::new()));
    life.end().await;
}

/// Whose socket it is: ours.
fn nix_free_uid(path: &std::path::Path) -> u32 {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(path).unwrap())
}
