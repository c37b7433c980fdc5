//! Requests without a pause, from the host itself, each on a connection of its own.

use std::process::Child;

use palisade_hosts::nspawn::Host;

use super::CAP;

const SCRIPT: &str = r#"
import http.client, os, threading, time
sent, failed, pids = [0], [], set()
lock = threading.Lock()
def visit():
    while not os.path.exists("/run/load.stop"):
        why = None
        try:
            c = http.client.HTTPConnection("127.0.0.1", 8000, timeout=10)
            c.request("GET", "/")
            answer = c.getresponse()
            body = answer.read()
            if answer.status != 200:
                why = str(answer.status)
            c.close()
        except Exception as e:
            why = repr(e)
        with lock:
            sent[0] += 1
            if why:
                failed.append(why)
            else:
                pids.add(int(body))
            if sent[0] == 1:
                open("/run/load.started", "w").close()
        time.sleep(0.005)
visitors = [threading.Thread(target=visit) for _ in range(4)]
[v.start() for v in visitors]
[v.join() for v in visitors]
with open("/run/load.new", "w") as f:
    print(sent[0], len(failed), *sorted(pids), file=f)
    print(*failed[:5], sep="\n", file=f)
os.rename("/run/load.new", "/run/load.result")
"#;

/// A load that goes on until it is ended.
#[derive(Debug)]
pub(crate) struct Load<'a> {
    host: &'a Host,
    child: Child,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Result {
    pub(crate) sent: u32,
    pub(crate) failed: u32,
    /// The processes that answered.
    pub(crate) pids: Vec<i32>,
    /// The first failures.
    pub(crate) why: String,
}

impl<'a> Load<'a> {
    /// Starts it and waits for its first request.
    pub(crate) fn start(host: &'a Host) -> Self {
        host.write("/root/load.py", SCRIPT);
        host.ok("rm -f /run/load.*");
        let log = tempfile::NamedTempFile::new().unwrap();
        let child = host.start_line("exec python3 /root/load.py", log.path());
        host.wait_ok(CAP, "test -e /run/load.started");
        Self { host, child }
    }

    /// Ends it.
    pub(crate) fn end(mut self) -> Result {
        self.host.ok("touch /run/load.stop");
        let text = self.host.wait_ok(CAP, "cat /run/load.result");
        self.child.wait().unwrap();
        let (first, why) = text.split_once('\n').unwrap();
        let mut numbers = first.split(' ').map(|n| n.parse::<i32>().unwrap());
        let mut count = || u32::try_from(numbers.next().unwrap()).unwrap();
        let (sent, failed) = (count(), count());
        Result { sent, failed, pids: numbers.collect(), why: why.to_owned() }
    }
}
