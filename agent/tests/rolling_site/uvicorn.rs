//! Uvicorn behind a socket that the agent holds: `--fd 3`. Its application says when it is up.

use std::{fs, net::TcpListener, time::Duration};

use palisade_agent::supervise::{ListenAddr, ListenSocket, NotifyFrom, Ready, Rolled};

use crate::{
    rig::{Rig, spec, tool},
    visitors::{Door, Visitors, none_failed, visit},
};

const APP: &str = "
import os, pathlib, socket, time
time.sleep(1)
RELEASE = pathlib.Path('release').read_text().strip().encode()

def notify(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.sendto(text, os.environ['NOTIFY_SOCKET'])

async def app(scope, receive, send):
    if scope['type'] == 'lifespan':
        while True:
            message = await receive()
            await send({'type': message['type'] + '.complete'})
            if message['type'] == 'lifespan.startup':
                notify(b'READY=1')
            else:
                return
    await receive()
    headers = [(b'content-length', str(len(RELEASE)).encode())]
    await send({'type': 'http.response.start', 'status': 200, 'headers': headers})
    await send({'type': 'http.response.body', 'body': RELEASE})
";

#[tokio::test]
async fn uvicorn_on_a_held_socket_is_replaced_and_no_visitor_fails() {
    let Some(uvicorn) = tool("uvicorn") else { return };
    let dir = Rig::files(&[("app.py", APP), ("release", "one")]);
    let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let argv = [&uvicorn.display().to_string(), "--fd", "3", "--lifespan", "on", "app:app"];
    let mut web = spec("web", argv.map(str::to_owned).to_vec(), dir.path());
    web.sockets = vec![ListenSocket { name: "http".to_owned(), listen: ListenAddr::Tcp(addr) }];
    web.ready = Ready::Notify { timeout: Duration::from_secs(60), from: NotifyFrom::Any };
    web.rolling.overlap = true;
    let rig = Rig::start(dir, vec![web]);
    rig.running("web").await;
    let door = Door::Tcp(addr);
    let visitors = Visitors::start(&door, 40);
    for release in ["two", "three"] {
        fs::write(rig.dir.path().join("release"), release).unwrap();
        let rolled = rig.roll("web").await;
        assert!(matches!(rolled, Ok(Rolled::Replaced { .. })), "{rolled:?}\n{}", rig.output());
        let end = tokio::time::Instant::now() + crate::rig::CAP;
        while visit(&door).answer != Ok(release.to_owned()) {
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert!(tokio::time::Instant::now() < end, "release {release} is not served");
        }
    }
    none_failed("uvicorn, two releases", &visitors.end());
    rig.end().await;
}
