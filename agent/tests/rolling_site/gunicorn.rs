//! Gunicorn behind a socket that the agent holds. It says READY=1 long before its workers can serve, so
//! the word of a worker counts (`ready: { notify: { from: worker } }`).

use std::{fs, net::TcpListener, path::Path, time::Duration};

use palisade_agent::supervise::{
    ListenAddr, ListenSocket, NotifyFrom, ProcessSpec, Ready, Reload, Rolled,
};

use crate::{
    rig::{Rig, spec, tool},
    visitors::{Door, Visitors, none_failed, visit},
};

/// Takes a second to load, as real applications do, and answers what stands in `release`.
const APP: &str = "
import pathlib, time
time.sleep(1)
RELEASE = pathlib.Path('release').read_text().strip()
if RELEASE == 'bad':
    raise RuntimeError('this release does not load')
print('LOADED', flush=True)

def app(environ, start_response):
    body = RELEASE.encode()
    start_response('200 OK', [('Content-Length', str(len(body)))])
    return [body]
";

const CONF: &str = "
workers = 2
graceful_timeout = 20
control_socket_disable = True

def post_worker_init(worker):
    from gunicorn import systemd
    systemd.sd_notify('READY=1', worker.log)
";

/// An address that nobody uses at the moment.
fn free() -> std::net::SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn gunicorn(dir: &Path, door: &Door) -> Option<ProcessSpec> {
    let argv =
        [tool("gunicorn")?.display().to_string(), "-c".into(), "conf.py".into(), "app:app".into()];
    let listen = match door {
        Door::Tcp(addr) => ListenAddr::Tcp(*addr),
        Door::Unix(path) => ListenAddr::Unix(path.clone()),
    };
    let mut web = spec("web", argv.to_vec(), dir);
    web.sockets = vec![ListenSocket { name: "http".to_owned(), listen }];
    web.ready = Ready::Notify { timeout: Duration::from_secs(60), from: NotifyFrom::Worker };
    web.rolling.overlap = true;
    Some(web)
}

fn site() -> tempfile::TempDir {
    Rig::files(&[("app.py", APP), ("conf.py", CONF), ("release", "one")])
}

async fn three_releases(what: &str, dir: tempfile::TempDir, door: Door) {
    let Some(web) = gunicorn(dir.path(), &door) else { return };
    let rig = Rig::start(dir, vec![web]);
    rig.running("web").await;
    let visitors = Visitors::start(&door, 40);
    for release in ["two", "three", "four"] {
        fs::write(rig.dir.path().join("release"), release).unwrap();
        let rolled = rig.roll("web").await;
        assert!(matches!(rolled, Ok(Rolled::Replaced { .. })), "{rolled:?}\n{}", rig.output());
        // The old one may take a last visitor; in the end all is the new release.
        let end = tokio::time::Instant::now() + crate::rig::CAP;
        while visit(&door).answer != Ok(release.to_owned()) {
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert!(tokio::time::Instant::now() < end, "release {release} is not served");
        }
    }
    let visits = visitors.end();
    none_failed(what, &visits);
    for release in ["one", "two", "three", "four"] {
        assert!(visits.iter().any(|v| v.answer.as_deref() == Ok(release)), "nobody saw {release}");
    }
    rig.end().await;
}

#[tokio::test]
async fn gunicorn_on_a_held_tcp_socket_is_replaced_and_no_visitor_fails() {
    three_releases("tcp, three releases", site(), Door::Tcp(free())).await;
}

#[tokio::test]
async fn gunicorn_on_a_held_unix_socket_is_replaced_and_no_visitor_fails() {
    let dir = site();
    let door = Door::Unix(dir.path().join("web.sock"));
    three_releases("unix, three releases", dir, door).await;
}

#[tokio::test]
async fn a_release_of_gunicorn_that_does_not_load_is_told_and_no_visitor_sees_it() {
    let (dir, door) = (site(), Door::Tcp(free()));
    let Some(web) = gunicorn(dir.path(), &door) else { return };
    let rig = Rig::start(dir, vec![web]);
    let before = rig.running("web").await;
    // It is up with its first worker; the second one must not load what comes now.
    rig.said("LOADED", 2).await;
    let visitors = Visitors::start(&door, 40);
    fs::write(rig.dir.path().join("release"), "bad").unwrap();
    let failed = rig.roll("web").await.unwrap_err().to_string();
    // Exit 3; or 1 if its second worker fails while its master already halts.
    assert!(failed.contains("quickly: exit ") && failed.contains("the old one stays"), "{failed}");
    assert_eq!(rig.running("web").await.pid, before.pid);
    // Whoever comes afterwards is still served, and nothing goes on trying. Its last words may come
    // after its end.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let tries = rig.output().matches("this release does not load").count();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(rig.output().matches("this release does not load").count(), tries);
    let visits = visitors.end();
    none_failed("a bad release", &visits);
    assert!(visits.iter().all(|v| v.answer.as_deref() == Ok("one")));
    rig.end().await;
}

#[tokio::test]
async fn gunicorn_without_overlap_is_reloaded_by_hup_and_stays_the_same_process() {
    let (dir, door) = (site(), Door::Tcp(free()));
    let Some(web) = gunicorn(dir.path(), &door) else { return };
    let signal = nix::sys::signal::Signal::SIGHUP;
    let mut web = ProcessSpec { reload: Some(Reload { signal }), ..web };
    web.rolling.overlap = false;
    let rig = Rig::start(dir, vec![web]);
    let before = rig.running("web").await;
    let visitors = Visitors::start(&door, 40);
    fs::write(rig.dir.path().join("release"), "two").unwrap();
    assert_eq!(rig.roll("web").await, Ok(Rolled::Reloaded));
    let end = tokio::time::Instant::now() + crate::rig::CAP;
    while visit(&door).answer != Ok("two".to_owned()) {
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(tokio::time::Instant::now() < end, "the new release is not served");
    }
    assert_eq!(rig.running("web").await.pid, before.pid);
    none_failed("reload by HUP", &visitors.end());
    rig.end().await;
}
