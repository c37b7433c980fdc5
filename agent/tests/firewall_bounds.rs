//! What a hostile list may cost: memory and time, measured in a process of its own.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "allow-unwrap-in-tests covers test functions, not helpers; figures are printed; the \
              measured process is this test again"
)]

use std::{
    env,
    fmt::Write as _,
    fs,
    process::Command,
    time::{Duration, Instant},
};

use palisade_agent::firewall::{MAX_FEED_BYTES, ORIGIN_FACING, parse_feed};

const KIND: &str = "PALISADE_HOSTILE_LIST";
/// Longest time for one list; an unoptimised reader has most of it to spare.
const MOST_TIME: Duration = Duration::from_secs(20);

/// A kind of hostile list: its name, its text, and the memory in KiB that reading it may take.
type Hostile = (&'static str, fn() -> String, u64);

const KINDS: [Hostile; 7] = [
    ("a hundred thousand IPv4 prefixes", || many(100_000, 4, ORIGIN_FACING), 2 << 10),
    ("a hundred thousand IPv6 prefixes", || many(100_000, 6, ORIGIN_FACING), 2 << 10),
    ("as many parents as fit", || many(60_000, 6, "AMAZON"), 12 << 10),
    ("as many entries of others as fit", || many(60_000, 6, "EC2"), 2 << 10),
    ("deep nesting", || framed(&format!("\"x\":{}", "[".repeat(4 << 20))), 2 << 10),
    (
        "a service with a very long name",
        || {
            let name = "A".repeat(7 << 20);
            framed(&format!(
                "\"prefixes\":[{{\"ip_prefix\":\"1.2.3.0/24\",\"service\":\"{name}\"}}]"
            ))
        },
        2 << 10,
    ),
    // Escapes must be undone in a copy.
    (
        "a prefix of escapes",
        || {
            let name = "\\u0041".repeat(1 << 20);
            framed(&format!(
                "\"prefixes\":[{{\"ip_prefix\":\"{name}\",\"service\":\"{ORIGIN_FACING}\"}}]"
            ))
        },
        12 << 10,
    ),
];

fn framed(body: &str) -> String {
    format!("{{\"syncToken\":\"1790000000\",{body}}}")
}

fn many(n: u32, family: u8, service: &str) -> String {
    // Room for all of it, so that building it peaks no higher than holding it.
    let mut text = String::with_capacity(MAX_FEED_BYTES);
    let (key, other) = match family {
        4 => ("ip_prefix", "\"ipv6_prefixes\":[]"),
        _ => ("ipv6_prefix", "\"prefixes\":[]"),
    };
    let list = if family == 4 { "prefixes" } else { "ipv6_prefixes" };
    write!(text, "{{\"syncToken\":\"1790000000\",{other},\"{list}\":[").unwrap();
    for i in 0..n {
        let comma = if i == 0 { "" } else { "," };
        let prefix = match family {
            4 => format!("13.{}.{}.{}/32", i >> 16, (i >> 8) & 255, i & 255),
            _ => format!("2600:9000:{:x}:{:x}::/64", i >> 16, i & 0xffff),
        };
        write!(text, "{comma}{{\"{key}\":\"{prefix}\",\"service\":\"{service}\"}}").unwrap();
    }
    text.push_str("]}");
    text
}

/// A figure of this process in KiB: `VmHWM` or `VmRSS`.
fn memory(what: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with(what)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// In a process of its own: reads one list and says what that took.
fn measure(kind: &str) {
    let (_, text, _) = KINDS.iter().find(|(name, ..)| *name == kind).unwrap();
    let text = text();
    assert!(text.len() <= MAX_FEED_BYTES, "{} bytes", text.len());
    // From here on the peak is that of reading.
    fs::OpenOptions::new()
        .write(true)
        .open("/proc/self/clear_refs")
        .and_then(|mut f| std::io::Write::write_all(&mut f, b"5"))
        .unwrap();
    let (before, started) = (memory("VmRSS:"), Instant::now());
    let refused = parse_feed(text.as_bytes(), ORIGIN_FACING, 4096).is_err();
    let (peak, took) = (memory("VmHWM:"), started.elapsed());
    println!("measured {} {} {refused}", peak.saturating_sub(before), took.as_millis());
}

#[test]
fn hostile_lists_cost_bounded_memory_and_time() {
    if let Ok(kind) = env::var(KIND) {
        return measure(&kind);
    }
    let me = env::current_exe().unwrap();
    for (kind, _, most) in KINDS {
        let out = Command::new(&me)
            .args(["--exact", "hostile_lists_cost_bounded_memory_and_time", "--nocapture"])
            .env(KIND, kind)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        let figures = said.split("measured ").nth(1).unwrap_or_else(|| panic!("{kind}: {said}"));
        let figures: Vec<&str> = figures.split_whitespace().take(3).collect();
        let (kib, ms): (u64, u64) = (figures[0].parse().unwrap(), figures[1].parse().unwrap());
        println!("{kind}: {kib} KiB, {ms} ms");
        assert_eq!(figures[2], "true", "{kind} is taken");
        assert!(kib <= most, "{kind}: {kib} KiB, not {most}");
        assert!(Duration::from_millis(ms) < MOST_TIME, "{kind}: {ms} ms");
    }
}
