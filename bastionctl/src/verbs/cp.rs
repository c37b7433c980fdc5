//! `cp`: one file, fast. One session carries no more than the agent's pace; a download over several
//! sessions is as much faster as there are sessions. Invariant: a file is under its name only when
//! its SHA-256 is that of the other side.

use std::{
    fs::{self, File, OpenOptions},
    io::Read as _,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use palisade_types::grant::Only;
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
    task::JoinSet,
    time::Instant,
};

use crate::{
    child::Signals,
    cli,
    failed::{Failed, Outcome},
    program,
    run::Run,
    stripes::{self, Stripe},
    way::Way,
};
use palisade_cloud::terminal::clean;

/// Times that a stripe is begun anew where it was cut, without a byte in between.
const RETRIES: u32 = 5;
const BUFFER: usize = 256 << 10;
/// What is kept of ssh's complaints.
const MAX_COMPLAINT: u64 = 8 << 10;

pub(crate) async fn cp(run: &Run, args: cli::Cp, signals: &mut Signals) -> Outcome<u8> {
    let remote = |text: &str| {
        let (host, path) = text.split_once(':')?;
        (!host.contains('/')).then(|| (host.to_owned(), path.to_owned()))
    };
    match (remote(&args.from), remote(&args.to)) {
        (Some(from), None) => {
            run.until_signal(signals, download(run, from, &args.to, args.sessions)).await
        }
        (None, Some(to)) => run.until_signal(signals, upload(run, &args.from, to)).await,
        _ => Err(Failed::usage("cp: one side is [USER@]HOST:PATH and the other a local file")),
    }
}

async fn open(run: &Run, host: &str) -> Outcome<Way> {
    let place = run.settings.place(host)?;
    Way::open(run, &place, run.only(Only::Shell)?).await
}

/// Ends the way, and lets its reason explain the failure of what ran over it.
async fn close(way: Way, outcome: Outcome<()>) -> Outcome<u8> {
    let went_wrong = way.close().await;
    match (outcome, went_wrong) {
        (Ok(()), _) => Ok(0),
        (Err(failed), Some(why)) => Err(why.during(failed)),
        (Err(failed), None) => Err(failed),
    }
}

async fn download(
    run: &Run,
    (host, remote): (String, String),
    local: &str,
    sessions: u8,
) -> Outcome<u8> {
    let name = remote
        .rsplit('/')
        .next()
        .filter(|n| !n.is_empty() && *n != "..")
        .ok_or_else(|| Failed::usage(format!("{host}:{remote} names no file")))?;
    let target = Path::new(local);
    let target = if target.is_dir() { target.join(name) } else { target.to_owned() };
    let way = open(run, &host).await?;
    let outcome = fetch(run, &way, &remote, &target, sessions).await;
    close(way, outcome).await
}

async fn fetch(run: &Run, way: &Way, remote: &str, target: &Path, sessions: u8) -> Outcome<()> {
    let command = |c: Option<String>| {
        c.ok_or_else(|| Failed::usage(format!("{remote:?} cannot be quoted for a shell")))
    };
    let text = say(way, &command(stripes::size_command(remote))?).await?;
    let size: u64 = text.trim().parse().map_err(|e| Failed::because("read the size", &e))?;
    let part = Part::new(target)?;
    let done = Arc::new(AtomicU64::new(0));
    let mut work = JoinSet::new();
    let parts = stripes::divide(size, sessions);
    let began = Instant::now();
    for stripe in parts.iter().copied().filter(|s| s.len > 0) {
        let fetch = Fetch {
            config: way.config().to_owned(),
            name: way.name().to_owned(),
            remote: remote.to_owned(),
            file: part.file.try_clone().map_err(|e| Failed::because("write", &e))?,
            done: Arc::clone(&done),
        };
        work.spawn(fetch.run(stripe));
    }
    // The host reckons its sum while the bytes travel.
    let sum_line = command(stripes::sum_command(remote))?;
    let mut sum = Box::pin(say(way, &sum_line));
    let mut theirs = None;
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    while !work.is_empty() || theirs.is_none() {
        // Losing an arm loses nothing: tasks and the sum are asked again.
        tokio::select! {
            Some(joined) = work.join_next() => {
                joined.map_err(|e| Failed::because("fetch a part", &e))??;
            }
            said = &mut sum, if theirs.is_none() => theirs = Some(said?),
            _ = tick.tick() => run.printer.progress(progress(done.load(Ordering::Relaxed), size, began)),
        }
    }
    run.printer.progress_done();
    let theirs = theirs.unwrap_or_default();
    let theirs = stripes::read_sum(&theirs)
        .ok_or_else(|| Failed::plain(format!("the host reckons no SHA-256 of {remote}")))?;
    let ours = digest(part.path.clone()).await?;
    if ours != theirs {
        return Err(Failed::plain(format!("{remote}: the SHA-256 here is not the host's"))
            .hint("is the file being written to?"));
    }
    part.finish(target)?;
    let sessions = parts.len();
    let took = began.elapsed();
    run.printer.detail(format_args!("{size} bytes over {sessions} sessions in {took:.1?}"));
    Ok(())
}

/// `12.3 of 45.0 MB, 3.1 MB/s`.
fn progress(done: u64, size: u64, began: Instant) -> String {
    let tenths = |bytes: u64| format!("{}.{}", bytes / 1_000_000, bytes / 100_000 % 10);
    let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
    let speed = done.saturating_mul(1000) / ms;
    format!("{} of {} MB, {} MB/s", tenths(done), tenths(size), tenths(speed))
}

/// The file until it is whole.
struct Part {
    path: PathBuf,
    file: File,
    keep: bool,
}

impl Part {
    fn new(target: &Path) -> Outcome<Self> {
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(format!(".part.{}", std::process::id()));
        let path = target.with_file_name(name);
        let file =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(|e| Failed::because(format!("create {}", path.display()), &e))?;
        Ok(Self { path, file, keep: false })
    }

    fn finish(mut self, target: &Path) -> Outcome<()> {
        let moved = self.file.sync_all().and_then(|()| fs::rename(&self.path, target));
        moved.map_err(|e| Failed::because(format!("move the file to {}", target.display()), &e))?;
        self.keep = true;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.keep {
            fs::remove_file(&self.path).unwrap_or_default();
        }
    }
}

/// One stripe's work.
struct Fetch {
    config: PathBuf,
    name: String,
    remote: String,
    file: File,
    done: Arc<AtomicU64>,
}

impl Fetch {
    async fn run(self, stripe: Stripe) -> Outcome<()> {
        let mut left = stripe;
        let mut idle = 0;
        while left.len > 0 {
            let before = left.len;
            let outcome = self.some(&mut left).await;
            if left.len == 0 {
                return Ok(());
            }
            // A cut goes on where it was; only one that brings nothing counts.
            idle = if left.len < before { 0 } else { idle + 1 };
            if idle >= RETRIES {
                return Err(match outcome {
                    Err(failed) => failed,
                    Ok(()) => Failed::plain(format!("{} became shorter", self.remote)),
                });
            }
        }
        Ok(())
    }

    async fn some(&self, left: &mut Stripe) -> Outcome<()> {
        let line = stripes::read_command(&self.remote, *left).unwrap_or_default();
        let mut child = ssh(&self.config, &self.name, &line, Stdio::null())
            .spawn()
            .map_err(|e| Failed::because("run ssh", &e))?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let complaint = complaint(err);
        let bytes = async {
            let Some(mut out) = out else { return Ok::<(), Failed>(()) };
            let mut buffer = vec![0; BUFFER];
            while left.len > 0 {
                let count = match out.read(&mut buffer).await {
                    Ok(0) | Err(_) => return Ok(()),
                    Ok(count) => count.min(usize::try_from(left.len).unwrap_or(usize::MAX)),
                };
                let piece = buffer.get(..count).unwrap_or_default();
                self.file
                    .write_all_at(piece, left.start)
                    .map_err(|e| Failed::because("write the file", &e))?;
                let count = u64::try_from(count).unwrap_or_default();
                left.start += count;
                left.len -= count;
                self.done.fetch_add(count, Ordering::Relaxed);
            }
            Ok(())
        };
        let (written, said) = tokio::join!(bytes, complaint);
        written?;
        let status = child.wait().await.map_err(|e| Failed::because("wait for ssh", &e))?;
        if status.success() { Ok(()) } else { Err(Failed::plain(format!("ssh: {}", clean(&said)))) }
    }
}

fn ssh(config: &Path, name: &str, line: &str, input: Stdio) -> Command {
    let mut command = program::command("ssh");
    command.arg("-F").arg(config).args(["-T", "-o", "BatchMode=yes", "--", name, line]);
    command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// The last line of what ssh complains about.
async fn complaint(err: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut err) = err else { return String::new() };
    let mut bytes = Vec::new();
    // What could not be read is not known.
    drop((&mut err).take(MAX_COMPLAINT).read_to_end(&mut bytes).await);
    // The rest is read, so that ssh is not held up.
    drop(tokio::io::copy(&mut err, &mut tokio::io::sink()).await);
    let text = String::from_utf8_lossy(&bytes);
    text.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("no reason was given").to_owned()
}

/// What a short command prints.
async fn say(way: &Way, line: &str) -> Outcome<String> {
    let out = ssh(way.config(), way.name(), line, Stdio::null()).output().await;
    let out = out.map_err(|e| Failed::because("run ssh", &e).hint("is ssh installed, in PATH?"))?;
    if !out.status.success() {
        let said = complaint(Some(out.stderr.as_slice())).await;
        return Err(Failed::plain(format!("{}: {}", way.name(), clean(&said))));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

async fn digest(path: PathBuf) -> Outcome<String> {
    let what = path.display().to_string();
    let work = move || -> std::io::Result<String> {
        let (mut file, mut hash) = (File::open(path)?, Sha256::new());
        let mut buffer = vec![0; BUFFER];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                count => hash.update(buffer.get(..count).unwrap_or_default()),
            }
        }
        Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
    };
    let joined = tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other);
    joined.and_then(|r| r).map_err(|e| Failed::because(format!("read {what}"), &e))
}

async fn upload(run: &Run, local: &str, (host, remote): (String, String)) -> Outcome<u8> {
    let path = Path::new(local);
    let size = fs::metadata(path).map_err(|e| Failed::because(format!("read {local}"), &e))?.len();
    let name = path
        .file_name()
        .and_then(|n| n.to_str())
        .ok_or_else(|| Failed::usage(format!("{local} names no file")))?;
    let sum = digest(path.to_owned()).await?;
    let line = stripes::write_command(&remote, name, &sum)
        .ok_or_else(|| Failed::usage(format!("{remote:?} cannot be quoted for a shell")))?;
    let way = open(run, &host).await?;
    let outcome = send(run, &way, path, size, &line).await;
    close(way, outcome).await
}

async fn send(run: &Run, way: &Way, path: &Path, size: u64, line: &str) -> Outcome<()> {
    let read = |e: std::io::Error| Failed::because(format!("read {}", path.display()), &e);
    let mut file = tokio::fs::File::open(path).await.map_err(read)?;
    let mut child = ssh(way.config(), way.name(), line, Stdio::piped())
        .spawn()
        .map_err(|e| Failed::because("run ssh", &e))?;
    let (input, err) = (child.stdin.take(), child.stderr.take());
    let began = Instant::now();
    let bytes = async {
        let Some(mut input) = input else { return Ok::<(), Failed>(()) };
        let mut buffer = vec![0; BUFFER];
        let mut sent = 0_u64;
        loop {
            let count = file.read(&mut buffer).await.map_err(read)?;
            // ssh that is gone says why on its standard error.
            if count == 0 || input.write_all(buffer.get(..count).unwrap_or_default()).await.is_err()
            {
                return Ok(());
            }
            sent += u64::try_from(count).unwrap_or_default();
            run.printer.progress(progress(sent, size, began));
        }
    };
    let (sent, said) = tokio::join!(bytes, complaint(err));
    run.printer.progress_done();
    sent?;
    let status = child.wait().await.map_err(|e| Failed::because("wait for ssh", &e))?;
    if status.success() {
        Ok(())
    } else {
        Err(Failed::plain(format!("{}: {}", way.name(), clean(&said))))
    }
}
