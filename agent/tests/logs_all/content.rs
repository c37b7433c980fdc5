//! What is in the lines: secrets, events of several lines, bytes that are no text.

use std::{fs, io::Write as _, path::Path, sync::Arc};

use crate::common::*;
use palisade_agent::logs::{
    Failure, FileSource, Kind, LineRules, LineSource, Multiline, Outcome, OutputStream, Redactor,
    Settings,
};

const TRACE: &str = "ERROR boom\nTraceback (most recent call last):\n  File \"a.py\", line 1\nKeyError: 'x'\n\nDuring handling of the above exception, another exception occurred:\n\nTraceback (most recent call last):\n  File \"b.py\", line 2\nValueError: y";

fn python(place: &Place) -> Settings {
    let lines = Arc::new(LineRules { multiline: Multiline::Python, timestamps: None });
    Settings {
        program_lines: lines.clone(),
        files: vec![FileSource { path: place.log("*.log"), lines }],
        ..place.settings("*.log")
    }
}

fn hiding(place: &Place) -> Settings {
    let kinds = Kind::ALL.map(|(_, kind)| kind);
    Settings {
        redact: Redactor::new(&kinds, Vec::new(), "X-Origin-Verify"),
        ..place.settings("*.log")
    }
}

fn stream(process: &str, stream: OutputStream) -> LineSource {
    LineSource { stream, ..source(process) }
}

/// Everything below a directory that a person could read.
fn all_bytes(dir: &Path) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            out.extend(all_bytes(&path));
        } else {
            out.extend(fs::read(&path).unwrap());
        }
    }
    out
}

const SECRETS: [&str; 8] = [
    "4111111111111111",
    "4242 4242 4242 4242",
    "3782-822463-10005",
    "s3cretBEARERs3cretBEARER1",
    "s3cretCOOKIE",
    "wJalrXUtnFEMIK7MDENGbPxRfiCYs3cretKEY",
    "IOSFODNN7S3CRETX",
    "s3cretORIGIN",
];

fn secret_lines() -> String {
    format!(
        "pay {}\ncard={}&x\n{{\"pan\":\"{}\",\"authorization\":\"Bearer {}\"}}\nCookie: id={}\nAWS_SECRET_ACCESS_KEY={}\nkey AKIA{}\nX-Origin-Verify: {}\norder 1234567812345670 at 20260822151705\n",
        SECRETS[0],
        SECRETS[1],
        SECRETS[2],
        SECRETS[3],
        SECRETS[4],
        SECRETS[5],
        SECRETS[6],
        SECRETS[7]
    )
}

#[tokio::test]
async fn no_secret_reaches_the_wire_the_spool_dead_letters_or_local_files() {
    for local in [false, true] {
        let (place, cloud) = (Place::new(), Cloud::default());
        cloud.answer(|lines| {
            // Some are refused for good, and some wait in the spool.
            let poison = lines.iter().any(|l| l.contains("pay"));
            poison.then(|| Outcome::Failed(Failure::Invalid("poison".to_owned())))
        });
        write(&place.log("a.log"), &secret_lines());
        let agent = match local {
            false => Agent::start(hiding(&place), &cloud).await,
            true => Agent::start_local(hiding(&place)).await,
        };
        agent.handle.append(&source("web_1"), secret_lines().as_bytes()).await.unwrap();
        agent.flush().await;
        let redacted = agent.handle.status().redacted;
        let want = [
            ("authorization", 2),
            ("aws_keys", 4),
            ("cookies", 2),
            ("origin_secret", 2),
            ("pan", 6),
        ];
        assert_eq!(redacted, want.map(|(kind, n)| (kind.to_owned(), n)).into());
        agent.stop().await;
        let (wire, disk) = (cloud.lines(), all_bytes(&place.state()));
        for secret in SECRETS {
            assert!(!wire.iter().any(|l| l.contains(secret)), "{secret} on the wire");
            assert!(memchr::memmem::find(&disk, secret.as_bytes()).is_none(), "{secret} on disk");
        }
        // They were there, and what is no secret is as it was.
        let told = b"************1111";
        assert!(memchr::memmem::find(&disk, told).is_some());
        if !local {
            assert_eq!(wire.len(), 2 * 7);
            let order = "order 1234567812345670 at 20260822151705";
            assert_eq!(wire.iter().filter(|l| *l == order).count(), 2);
        }
    }
}

#[tokio::test]
async fn a_secret_at_the_cut_of_a_line_longer_than_an_event_is_hidden_also_over_a_restart() {
    let (place, cloud) = (Place::new(), Cloud::default());
    // The service takes 1,048,550 bytes at once: the card stands over the first cut.
    let line = format!("{} 4111111111111111 end\n", "x".repeat(1_048_540));
    let (early, late) = line.split_at(1_048_553);
    write(&place.log("a.log"), early);
    let agent = Agent::start(hiding(&place), &cloud).await;
    wait_until("the first part", || !cloud.lines().is_empty()).await;
    agent.stop().await;
    write(&place.log("a.log"), late);
    let agent = Agent::start(hiding(&place), &cloud).await;
    agent.flush().await;
    agent.stop().await;
    let text = cloud.lines().concat();
    assert!(text.ends_with(" ************1111 end"), "{}", text.split_at(text.len() - 40).1);
    assert_eq!(text.len(), line.len() - 1);
}

#[tokio::test]
async fn a_traceback_that_comes_in_parts_over_restarts_loses_and_doubles_no_line() {
    let (place, cloud) = (Place::new(), Cloud::default());
    write(&place.log("a.log"), "INFO up\n");
    let lines: Vec<String> = TRACE.lines().map(|l| format!("{l}\n")).collect();
    for part in lines.chunks(3) {
        let agent = Agent::start(python(&place), &cloud).await;
        agent.flush().await;
        write(&place.log("a.log"), &part.concat());
        agent.flush().await;
        agent.stop().await;
    }
    write(&place.log("a.log"), "INFO on\n");
    let agent = Agent::start(python(&place), &cloud).await;
    wait_until("the last event", || cloud.lines().iter().any(|l| l == "INFO on")).await;
    agent.stop().await;
    // Where a machine stands still for a second, a part may count as whole; empty lines between are
    // then gone.
    let text = |lines: &[String]| {
        let all = lines.iter().flat_map(|l| l.lines()).filter(|l| !l.is_empty());
        all.map(str::to_owned).collect::<Vec<_>>()
    };
    let want = format!("INFO up\n{TRACE}\nINFO on");
    assert_eq!(text(&cloud.lines()), text(&[want]));
}

#[tokio::test]
async fn workers_and_their_streams_do_not_mix() {
    let (place, cloud) = (Place::new(), Cloud::default());
    let trace: Vec<&str> = TRACE.lines().filter(|l| !l.is_empty()).collect();
    let mut chunks = Vec::new();
    for (i, line) in trace.iter().enumerate() {
        for worker in ["w_1", "w_2"] {
            chunks.push((stream(worker, OutputStream::Stderr), format!("{line}\n")));
            chunks.push((stream(worker, OutputStream::Stdout), format!("GET /{i}\n")));
        }
    }
    let agent = Agent::start_after(python(&place), &cloud, &chunks).await;
    let mut want: Vec<String> = (0..trace.len()).map(|i| format!("GET /{i}")).collect();
    want.push(trace.join("\n"));
    let mut want = [want.clone(), want].concat();
    wait_until("every event", || cloud.lines().len() >= want.len()).await;
    agent.stop().await;
    let mut lines = cloud.lines();
    lines.sort();
    want.sort();
    assert_eq!(lines, want);
}

#[tokio::test]
async fn an_event_that_stands_at_a_rotation_is_kept_and_the_new_file_begins_its_own() {
    let (place, cloud) = (Place::new(), Cloud::default());
    let agent = Agent::start(python(&place), &cloud).await;
    write(&place.log("a.log"), &format!("INFO up\n{TRACE}\n"));
    agent.flush().await;
    fs::rename(place.log("a.log"), place.log("a.log.1")).unwrap();
    write(&place.log("a.log"), "INFO new file\n");
    wait_until("the new file", || cloud.lines().iter().any(|l| l == "INFO new file")).await;
    agent.stop().await;
    assert_eq!(cloud.lines(), ["INFO up", TRACE, "INFO new file"]);
}

#[tokio::test]
async fn odd_bytes_arrive_as_text_and_empty_lines_do_not() {
    let (place, cloud) = (Place::new(), Cloud::default());
    let path = place.log("a.log");
    let mut bytes =
        b"crlf\r\n\r\n\n  \nnul\0bell\x07\nbad\xff\xfebytes\nlone\\ \"quote\"\n".to_vec();
    bytes.extend_from_slice("line\u{2028}separator 😀\n".as_bytes());
    // A character whose rest never came.
    bytes.extend_from_slice(b"cut \xf0\x9f\x98\n");
    fs::File::create(&path).unwrap().write_all(&bytes).unwrap();
    let agent = Agent::start(place.settings("*.log"), &cloud).await;
    agent.handle.append(&source("w"), &bytes).await.unwrap();
    agent.flush().await;
    wait_until("the count", || agent.handle.status().bad_utf8_lines == 4).await;
    agent.stop().await;
    let want = [
        "crlf",
        "  ",
        "nul\0bell\x07",
        "bad\u{fffd}\u{fffd}bytes",
        "lone\\ \"quote\"",
        "line\u{2028}separator 😀",
        "cut \u{fffd}",
    ];
    assert_eq!(cloud.lines(), [want, want].concat());
}

#[tokio::test]
async fn a_line_of_three_megabytes_arrives_in_pieces_that_cut_no_character() {
    let (place, cloud) = (Place::new(), Cloud::default());
    let largest = "x".repeat(1_048_550);
    let long = "漢".repeat(1_000_000);
    write(&place.log("a.log"), &format!("{largest}\n{largest}y\n{long}\nshort\n"));
    let agent = Agent::start(hiding(&place), &cloud).await;
    agent.flush().await;
    agent.stop().await;
    let lines = cloud.lines();
    assert_eq!(lines[0], largest);
    assert_eq!((lines[1].as_str(), lines[2].as_str()), (largest.as_str(), "y"));
    assert_eq!(lines[3..lines.len() - 1].concat(), long);
    assert_eq!(lines.last().unwrap(), "short");
}

#[tokio::test]
async fn lines_of_a_file_bear_their_own_time_and_lines_of_programs_that_of_their_arrival() {
    let place = Place::new();
    let zone = palisade_agent::logs::Zone::named("UTC");
    let lines = Arc::new(LineRules { multiline: Multiline::None, timestamps: zone });
    let settings = Settings {
        files: vec![FileSource { path: place.log("*.log"), lines }],
        ..place.settings("*.log")
    };
    let hour = jiff::Span::new().hours(1);
    let then = jiff::Timestamp::now().checked_sub(hour).unwrap();
    let line = format!("{then:.3} an hour ago\n");
    write(&place.log("a.log"), &line);
    let agent = Agent::start_local(settings).await;
    agent.handle.append(&source("w"), line.as_bytes()).await.unwrap();
    agent.flush().await;
    agent.stop().await;
    let read = |name: &str| fs::read_to_string(place.state().join("local").join(name)).unwrap();
    let ts = format!("\"ts\":\"{then:.3}\"");
    assert!(read("_t_files.ndjson").contains(&ts), "{}", read("_t_files.ndjson"));
    assert!(!read("_t_web.ndjson").contains(&ts), "{}", read("_t_web.ndjson"));
}
