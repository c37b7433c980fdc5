//! ministack: where it is, its life for one test, and what its services say when they are asked
//! directly.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::wait_until;

/// A running one.
pub(crate) struct Emulator {
    child: Child,
    port: u16,
    #[expect(dead_code, reason = "its directory lives as long as it")]
    dir: tempfile::TempDir,
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().map(|_| ()).unwrap_or_default();
    }
}

/// One of this test's own, or None with the reason printed.
pub(crate) fn start() -> Option<Emulator> {
    let Some(program) = find() else {
        println!("skipped: no ministack: cargo xtask setup installs it, or set PALISADE_MINISTACK");
        return None;
    };
    // Another program may take the port between the look and the use; then it is tried again.
    for _ in 0..5 {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dir = tempfile::tempdir().unwrap();
        let log = File::create(dir.path().join("log")).unwrap();
        let mut child = Command::new(&program)
            .env("BIND_HOST", "127.0.0.1")
            .env("GATEWAY_PORT", port.to_string())
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut gone = false;
        wait_until("ministack's start", || {
            gone = child.try_wait().unwrap().is_some();
            gone || get_from(port, "/_ministack/health", "sts", "us-east-1").is_some()
        });
        if !gone {
            return Some(Emulator { child, port, dir });
        }
    }
    panic!("ministack does not start");
}

fn find() -> Option<PathBuf> {
    let said = std::env::var_os("PALISADE_MINISTACK").map(PathBuf::from);
    let built = Path::new(env!("CARGO_BIN_EXE_palisade-infra")).ancestors().nth(2);
    let installed = built.map(|target| target.join("infra-tools/venv/bin/ministack"));
    [said, installed].into_iter().flatten().find(|path| path.is_file())
}

impl Emulator {
    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What a service of the REST kind answers.
    pub(crate) fn get(&self, path: &str, service: &str, region: &str) -> String {
        get_from(self.port, path, service, region).unwrap()
    }

    /// What a service of the Query kind answers.
    pub(crate) fn query(&self, service: &str, region: &str, form: &str) -> String {
        let (well, answer) = self.exchange_form(service, region, form);
        assert!(well, "{service}: {answer}");
        answer
    }

    fn exchange_form(&self, service: &str, region: &str, form: &str) -> (bool, String) {
        let head = format!(
            "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             {}Content-Length: {}\r\nConnection: close\r\n\r\n",
            signed(service, region),
            form.len()
        );
        exchange(self.port, &format!("{head}{form}")).unwrap()
    }

    /// Why CloudFormation takes no template like this.
    pub(crate) fn refusal_of_template(&self, template: &str) -> String {
        let body: String = template.bytes().map(|b| format!("%{b:02X}")).collect();
        let form = format!("Action=ValidateTemplate&Version=2010-05-15&TemplateBody={body}");
        self.exchange_form("cloudformation", "eu-west-1", &form).1
    }

    /// What a service of the JSON kind answers.
    pub(crate) fn json(&self, service: &str, region: &str, target: &str, body: &str) -> String {
        let head = format!(
            "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-amz-json-1.1\r\n\
             X-Amz-Target: {target}\r\n{}Content-Length: {}\r\nConnection: close\r\n\r\n",
            signed(service, region),
            body.len()
        );
        let (well, answer) = exchange(self.port, &format!("{head}{body}")).unwrap();
        assert!(well, "{target}: {answer}");
        answer
    }
}

fn get_from(port: u16, path: &str, service: &str, region: &str) -> Option<String> {
    let head = signed(service, region);
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{head}Connection: close\r\n\r\n");
    exchange(port, &request).and_then(|(well, answer)| well.then_some(answer))
}

/// The emulator looks at whom a request is for, not at its signature.
fn signed(service: &str, region: &str) -> String {
    format!(
        "Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/{region}/{service}/aws4_request, \
         SignedHeaders=host, Signature=0\r\n"
    )
}

/// Whether it went well, and what is answered.
fn exchange(port: u16, request: &str) -> Option<(bool, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.starts_with("HTTP/1.1 200"), body.to_owned()))
}
