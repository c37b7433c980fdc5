//! The log path alone, as a program: for black-box tests and measurements.
//!
//! Ships `--file` patterns, and lines from standard input as the output of a program `stdin`, until
//! SIGTERM; then flushes for `--grace-ms` and prints its status as JSON. With `--once` it ends by
//! itself when everything that was there is delivered.
#![expect(clippy::print_stdout, reason = "a program for tests, which read its output")]

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use palisade_agent::{
    clock::SystemClock,
    logs::{
        self, FileSource, Handle, Host, Kind, LineRules, LineSource, NewGroups, OnFull,
        OutputStream, Redactor, Settings, Shipper, Sink, Spool,
    },
    sys::{spool_fs::DiskFs, tail_fs::Disk, watch_files::DirectoryWatch},
    task::Scope,
};
use palisade_agent_aws::{Clients, HostIdentity, logs::CloudWatch};
use palisade_types::ByteSize;
use tokio::{
    io::AsyncReadExt as _,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

struct Args {
    settings: Settings,
    stdin: bool,
    once: bool,
    grace: Duration,
}

fn parse() -> anyhow::Result<Args> {
    let mut args = Args {
        settings: Settings {
            group: "/test/{program}".to_owned(),
            stream: "host/{process}".to_owned(),
            new_groups: NewGroups { retention_days: Some(30), kms_key: None },
            programs: true,
            program_lines: Arc::new(LineRules::plain()),
            redact: Redactor::none(),
            agent: true,
            journald: None,
            files: Vec::new(),
            spool: Spool { max: ByteSize::mib(256), on_full: OnFull::Block, reserve_permille: 0 },
            compress: false,
            sink: Sink::CloudWatch,
            new_relic: None,
            flush_every: Duration::from_millis(1000),
            state_dir: PathBuf::new(),
        },
        stdin: false,
        once: false,
        grace: Duration::from_secs(5),
    };
    let mut argv = std::env::args().skip(1);
    while let Some(flag) = argv.next() {
        let mut value = || argv.next().with_context(|| format!("{flag} needs a value"));
        match flag.as_str() {
            "--state" => args.settings.state_dir = value()?.into(),
            "--file" => {
                let lines = Arc::new(LineRules::plain());
                args.settings.files.push(FileSource { path: value()?.into(), lines });
            }
            "--redact-cards" => {
                args.settings.redact = Redactor::new(&[Kind::Pan], Vec::new(), "X-Origin-Verify");
            }
            "--spool-max" => args.settings.spool.max = value()?.parse()?,
            "--drop-oldest" => args.settings.spool.on_full = OnFull::DropOldest,
            "--flush-ms" => args.settings.flush_every = Duration::from_millis(value()?.parse()?),
            "--grace-ms" => args.grace = Duration::from_millis(value()?.parse()?),
            "--compress" => args.settings.compress = true,
            "--local" => args.settings.sink = Sink::Local,
            "--stdin" => args.stdin = true,
            "--once" => args.once = true,
            other => bail!("unknown flag {other}"),
        }
    }
    if args.settings.state_dir.as_os_str().is_empty() {
        bail!("--state DIR is needed");
    }
    Ok(args)
}

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let args = parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(args))?;
    // A read of standard input that blocks must not hold up the end.
    runtime.shutdown_background();
    Ok(())
}

async fn run(args: Args) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let identity = HostIdentity::kept_in(&args.settings.state_dir);
    let disk = DiskFs::lock(&args.settings.state_dir).context("lock the state directory")?;
    let host = Host::new(Arc::new(disk), Arc::new(Disk), SystemClock);
    let sink = args.settings.sink;
    let compress = args.settings.compress;
    let (handle, shipper) = logs::open(args.settings, host)?;
    let mut scope = Scope::new(&CancellationToken::new());
    start(&mut scope, shipper, sink, compress, &identity).await?;
    let mut ended = None;
    if args.stdin {
        let (done, input) = tokio::sync::oneshot::channel();
        let handle = handle.clone();
        scope.spawn("stdin", async move {
            if let Err(e) = pump(&handle).await {
                println!("stdin: {e:#}");
            }
            // Nobody waits when the end comes by signal.
            done.send(()).unwrap_or_default();
        });
        ended = Some(input);
    }
    println!("ready");
    if args.once {
        if let Some(ended) = ended {
            ended.await.unwrap_or_default();
        }
        handle.flush(Duration::from_secs(600)).await?;
    } else {
        terminate.recv().await;
    }
    handle.stop(args.grace).await;
    println!("{}", serde_json::to_string(&handle.status())?);
    scope.shut_down(Duration::from_secs(1)).await;
    Ok(())
}

async fn start(
    scope: &mut Scope,
    mut shipper: Shipper,
    sink: Sink,
    compress: bool,
    identity: &HostIdentity,
) -> anyhow::Result<()> {
    let (stop, hints) = (scope.stop(), DirectoryWatch::new());
    match sink {
        Sink::Local => {
            let sink = shipper.local_sink();
            scope.spawn("logs", shipper.run(sink, hints, stop));
        }
        Sink::CloudWatch => {
            let clients = Clients::load(None, identity).await?;
            let cloud = CloudWatch::new(&clients, compress);
            scope.spawn("logs", shipper.run(cloud, hints, stop));
        }
    }
    Ok(())
}

/// Reads whole lines from standard input into the spool.
async fn pump(handle: &Handle) -> anyhow::Result<()> {
    let from = LineSource {
        program: "stdin".parse()?,
        process: "stdin".parse()?,
        stream: OutputStream::Stdout,
    };
    let mut input = tokio::fs::File::open("/dev/stdin").await?;
    let (mut buf, mut have) = (vec![0; 256 << 10], 0);
    loop {
        if have == buf.len() {
            buf.resize(have * 2, 0);
        }
        let n = input.read(&mut buf[have..]).await?;
        have += n;
        let end = match buf[..have].iter().rposition(|b| *b == b'\n') {
            _ if n == 0 => have,
            Some(newline) => newline + 1,
            None => continue,
        };
        handle.append(&from, &buf[..end]).await?;
        buf.copy_within(end..have, 0);
        have -= end;
        if n == 0 {
            return Ok(());
        }
    }
}
