//! The way in, beside the official one: from the command to the first byte that a host sends back, for
//! `bastionctl tunnel`; for `aws ssm start-session` only to where it would start its plugin, since what
//! stands for the plugin here does nothing. Both ask the strict peer, in turn, in the same run.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Child,
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;

use crate::{cargo, cmd::Cmd, host, net::percentile, process::signal, say};

const INSTANCE: &str = "i-0123456789abcdef0";
/// How long a program of this may take.
const PATIENCE: Duration = Duration::from_secs(60);
const PIP_PATIENCE: Duration = Duration::from_secs(600);

/// What stands for the official plugin: it says that it is there, and no more.
const PLUGIN: &str = "#!/bin/sh\n[ \"$1\" = --version ] && echo 1.2.764.0\nexit 0\n";

/// Measures and prints.
pub(crate) fn run(rounds: u32) -> Result<()> {
    let bastionctl = cargo::given_or_built(cargo::Profile::Fast, None, "bastionctl")?;
    let peer = cargo::given_or_built(cargo::Profile::Fast, None, "palisade-peer")?;
    let aws = aws_cli()?;
    let dir = std::env::temp_dir().join(format!("palisade-bench-{}", std::process::id()));
    let measured = measure(&bastionctl, &peer, &aws, &dir, rounds);
    fs::remove_dir_all(&dir).ok();
    measured
}

/// The AWS CLI, in an environment of its own.
fn aws_cli() -> Result<std::path::PathBuf> {
    let venv = cargo::target_dir()?.join("bench-aws");
    let aws = venv.join("bin/aws");
    if !aws.exists() {
        say::progress("bench: installing the AWS CLI");
        Cmd::new("python3").args(["-m", "venv"]).arg(&venv).within(PIP_PATIENCE).run()?;
        let pip = venv.join("bin/pip");
        Cmd::new(pip).args(["install", "--quiet", "awscli"]).within(PIP_PATIENCE).run()?;
    }
    Ok(aws)
}

fn measure(bastionctl: &Path, peer: &Path, aws: &Path, dir: &Path, rounds: u32) -> Result<()> {
    let bin = dir.join("bin");
    fs::create_dir_all(&bin).context("make a directory")?;
    let plugin = bin.join("session-manager-plugin");
    host::write(&plugin, PLUGIN)?;
    fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755)).context("make it a program")?;
    let (echo, mut peer) = (echo()?, Peer::start(peer)?);
    let (url, port) = (peer.url()?, echo.to_string());
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let client = |program: &Path| {
        Cmd::new(program)
            .bare_env()
            .env("PATH", &path)
            .env("HOME", dir)
            // The first is read by us, the second by version 1 of the CLI.
            .env("AWS_REGION", "us-east-1")
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
            .env("AWS_ENDPOINT_URL", &url)
            .within(PATIENCE)
    };
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let begun = host::now();
        client(aws)
            .args(["ssm", "start-session", "--target", INSTANCE])
            .args(["--document-name", "AWS-StartSSHSession", "--parameters"])
            .arg(format!("portNumber={port}"))
            .run()?;
        theirs.push(begun.elapsed().as_secs_f64() * 1e3);
        let begun = host::now();
        let ws = url.replacen("http", "ws", 1);
        let tunnel = client(bastionctl)
            .args(["--ssmmessages-endpoint", &ws, "tunnel", INSTANCE])
            .arg(format!("0:{port}"))
            .piped()?;
        first_byte(Tunnel(tunnel))?;
        ours.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    for times in [&mut theirs, &mut ours] {
        times.sort_by(f64::total_cmp);
    }
    let (them, us) = (percentile(&theirs, 50), percentile(&ours, 50));
    say::line(&format!(
        "{rounds} rounds, medians: `aws ssm start-session` to the start of its plugin {them:.0} ms; \
         `bastionctl tunnel` to the first byte from the host {us:.0} ms (worst {:.0} ms): {:.0} times",
        percentile(&ours, 100),
        them / us,
    ));
    Ok(())
}

/// A tunnel that is told to end when it is done with.
struct Tunnel(Child);

impl Drop for Tunnel {
    fn drop(&mut self) {
        let pid = i32::try_from(self.0.id()).unwrap_or_default();
        if pid > 0 && signal(pid, Signal::SIGINT).is_err() {
            drop(self.0.kill());
        }
        drop(self.0.wait());
    }
}

fn first_byte(mut tunnel: Tunnel) -> Result<()> {
    let mut line = String::new();
    let out = tunnel.0.stdout.as_mut().context("its output is ours")?;
    BufReader::new(out).read_line(&mut line).context("read where it listens")?;
    let local = line.split(' ').next().unwrap_or_default();
    let mut stream = TcpStream::connect(local).with_context(|| format!("connect to {local:?}"))?;
    stream.set_read_timeout(Some(PATIENCE)).context("set a deadline")?;
    stream.write_all(b"x").context("send a byte")?;
    stream.read_exact(&mut [0]).context("read it back")
}

/// The peer as a process. It is killed when dropped.
struct Peer(Child);

impl Peer {
    fn start(program: &Path) -> Result<Self> {
        Ok(Self(Cmd::new(program).args(["--listen", "127.0.0.1:0"]).piped()?))
    }

    fn url(&mut self) -> Result<String> {
        let mut line = String::new();
        let out = self.0.stdout.as_mut().context("its output is ours")?;
        BufReader::new(out).read_line(&mut line).context("read where the peer listens")?;
        let url = line.trim().strip_prefix("listening on ").map(str::to_owned);
        url.with_context(|| format!("the peer said {line:?}"))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A server that sends back what it is sent, as long as this program runs.
fn echo() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("listen")?;
    let port = listener.local_addr().context("ask for the port")?.port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let (mut from, mut to) = (&stream, &stream);
                // Whoever is gone needs no more of it.
                drop(std::io::copy(&mut from, &mut to));
            });
        }
    });
    Ok(port)
}
