//! What the content of lines costs: CPU seconds for a million lines of 200 bytes from a file to a
//! service that takes everything, with redaction, multi-line and timestamps off and on.
//!
//! `cargo run --profile fast --example logs_content_cost -p palisade-agent [LINES]`
#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use std::{error::Error, fs::File, io::Write as _, path::Path, sync::Arc, time::Duration};

use nix::sys::resource::{UsageWho, getrusage};
use palisade_agent::{
    clock::SystemClock,
    logs::{
        self, Batch, CloudLogs, Custom, Failure, FileSource, Host, Kind, LineRules, Multiline,
        NewGroups, NoHints, OnFull, Outcome, Pattern, Redactor, Settings, Sink, Spool, Zone,
    },
    sys::{spool_fs::DiskFs, tail_fs::Disk},
    task::Scope,
};
use palisade_types::ByteSize;
use tokio_util::sync::CancellationToken;

/// Takes everything.
struct Nowhere;

impl CloudLogs for Nowhere {
    async fn put(&self, _group: &str, _stream: &str, _batch: &Arc<Batch>) -> Outcome {
        Outcome::Accepted
    }

    async fn ensure_stream(&self, _: &str, _: &str, _: &NewGroups) -> Result<(), Failure> {
        Ok(())
    }
}

fn cpu_s() -> Result<f64, Box<dyn Error>> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let seconds = |t: nix::sys::time::TimeVal| {
        Duration::from_secs(t.tv_sec().unsigned_abs()).as_secs_f64()
            + Duration::from_micros(t.tv_usec().unsigned_abs()).as_secs_f64()
    };
    Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
}

/// Lines as applications write them: times, ids, addresses, numbers; one in a thousand with a card.
fn write_lines(path: &Path, lines: usize) -> Result<(), Box<dyn Error>> {
    let mut file = std::io::BufWriter::new(File::create(path)?);
    let start = jiff::Timestamp::now().as_millisecond() - 3_600_000;
    for i in 0..lines {
        let at = jiff::Timestamp::from_millisecond(start + i64::try_from(i / 1000)?)?;
        let card = if i % 1000 == 0 { "4111111111111111" } else { "order 10045-2231" };
        let line = format!(
            "{at:.3} INFO app.views request id={i:08x}-4bf9-2f35 user=10{:04} ip=10.0.{}.{} path=/shop/cart/items status=200 bytes={} took={} ms {card} agent=\"Mozilla/5.0\"",
            i % 9973,
            i % 251,
            i % 249,
            1000 + i % 4096,
            i % 900,
        );
        writeln!(file, "{line:200.199}")?;
    }
    file.flush()?;
    Ok(())
}

async fn run(
    redact: Redactor,
    lines: LineRules,
    dir: &Path,
    log: &Path,
) -> Result<f64, Box<dyn Error>> {
    let state = dir.join("state");
    let settings = Settings {
        group: "/g/{program}".to_owned(),
        stream: "{process}".to_owned(),
        new_groups: NewGroups::default(),
        new_relic: None,
        agent: false,
        journald: None,
        programs: false,
        program_lines: Arc::new(LineRules::plain()),
        redact,
        files: vec![FileSource { path: log.to_owned(), lines: Arc::new(lines) }],
        spool: Spool { max: ByteSize::mib(64), on_full: OnFull::Block, reserve_permille: 0 },
        compress: false,
        sink: Sink::CloudWatch,
        flush_every: Duration::from_millis(100),
        state_dir: state.clone(),
    };
    let before = cpu_s()?;
    let host = Host::new(Arc::new(DiskFs::lock(&state)?), Arc::new(Disk), SystemClock);
    let (handle, shipper) = logs::open(settings, host)?;
    let mut scope = Scope::new(&CancellationToken::new());
    let stop = scope.stop();
    scope.spawn("logs", shipper.run(Nowhere, NoHints, stop));
    handle.flush(Duration::from_secs(600)).await?;
    handle.stop(Duration::from_secs(10)).await;
    let used = cpu_s()? - before;
    drop((handle, scope));
    std::fs::remove_dir_all(&state)?;
    Ok(used)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let lines: usize = std::env::args().nth(1).map_or(Ok(1_000_000), |n| n.parse())?;
    let dir = tempfile::tempdir()?;
    let log = dir.path().join("a.log");
    write_lines(&log, lines)?;
    let pan = || Redactor::new(&[Kind::Pan], Vec::new(), "X-Origin-Verify");
    let all = || Redactor::new(&Kind::ALL.map(|(_, kind)| kind), Vec::new(), "X-Origin-Verify");
    let custom = Custom { name: "iban".to_owned(), pattern: Pattern::new("DE[0-9]{20}")? };
    let timed = || LineRules { multiline: Multiline::None, timestamps: Some(Zone::of_host()) };
    let python = || LineRules { multiline: Multiline::Python, timestamps: None };
    let cases = [
        ("nothing", Redactor::none(), LineRules::plain()),
        ("pan", pan(), LineRules::plain()),
        ("all kinds", all(), LineRules::plain()),
        ("one pattern", Redactor::new(&[], vec![custom], ""), LineRules::plain()),
        ("timestamps", Redactor::none(), timed()),
        ("python", Redactor::none(), python()),
        ("all of it", all(), LineRules { multiline: Multiline::Python, ..timed() }),
    ];
    for (name, redact, rules) in cases {
        let used = run(redact, rules, dir.path(), &log).await?;
        let per_million = used * 1e6 / f64::from(u32::try_from(lines)?);
        println!("{name:12} {per_million:.2} CPU-s for a million lines");
    }
    Ok(())
}
