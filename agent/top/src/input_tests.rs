use palisade_types::ProcessState;

use super::*;
use crate::testing::{NOW, model, press, row, snapshot};

fn names(model: &Model) -> Vec<&str> {
    model.rows().into_iter().map(|r| r.status.name.as_str()).collect()
}

fn current(model: &Model) -> &str {
    model.current().unwrap().1.status.name.as_str()
}

fn key(model: &mut Model, key: Key) -> Option<Effect> {
    model.step(Input::Key(key), NOW)
}

fn name(text: &str) -> ProcessName {
    text.parse().unwrap()
}

#[test]
fn the_cursor_stays_within_the_list() {
    let mut m = model();
    assert_eq!(current(&m), "beat");
    key(&mut m, Key::Up);
    assert_eq!(current(&m), "beat");
    press(&mut m, "jjjjjj");
    assert_eq!(current(&m), "worker");
    press(&mut m, "gj");
    assert_eq!(current(&m), "flower");
    m.seen.page = 2;
    key(&mut m, Key::PageDown);
    assert_eq!(current(&m), "worker");
    key(&mut m, Key::Home);
    assert_eq!(current(&m), "beat");
}

#[test]
fn the_cursor_follows_its_process_and_stays_in_place_when_that_is_gone() {
    let mut m = model();
    press(&mut m, "jj");
    assert_eq!(current(&m), "web_00");
    press(&mut m, "c");
    assert_eq!(names(&m), ["worker", "web_00", "beat", "flower"]);
    assert_eq!(current(&m), "web_00");
    let mut fewer = snapshot();
    fewer.programs.retain(|r| r.status.name.as_str() != "web_00");
    m.step(Input::Snapshot(Ok(fewer)), NOW);
    assert_eq!(current(&m), "beat", "what moved up to its place");
    m.step(Input::Snapshot(Ok(Snapshot::default())), NOW);
    assert_eq!(m.current(), None);
    press(&mut m, "jrsxt");
    assert_eq!(m.mode, Mode::List, "no process, nothing to act on");
}

#[test]
fn lists_are_sorted_by_what_was_asked_for() {
    let mut m = model();
    press(&mut m, "m");
    assert_eq!(names(&m), ["worker", "web_00", "beat", "flower"]);
    press(&mut m, "o");
    assert_eq!(names(&m), ["web_00", "beat", "flower", "worker"]);
    press(&mut m, "n");
    assert_eq!(names(&m), ["beat", "flower", "web_00", "worker"]);
}

#[test]
fn a_filter_works_while_it_is_written_and_escape_takes_it_back() {
    let mut m = model();
    press(&mut m, "/WEB");
    assert_eq!(names(&m), ["web_00"]);
    key(&mut m, Key::Enter);
    assert_eq!((m.mode.clone(), current(&m)), (Mode::List, "web_00"));
    press(&mut m, "/q");
    assert!(names(&m).is_empty(), "q is a letter here");
    key(&mut m, Key::Backspace);
    key(&mut m, Key::Escape);
    assert_eq!(names(&m), ["web_00"]);
    key(&mut m, Key::Escape);
    assert_eq!(names(&m).len(), 4);
    press(&mut m, "/fatal");
    assert_eq!(names(&m), ["beat"], "states are found too");
}

#[test]
fn what_disturbs_a_site_is_asked_for_first() {
    let mut m = model();
    press(&mut m, "jjr");
    assert_eq!(m.mode, Mode::Confirm { act: Act::Restart, on: name("web_00") });
    assert_eq!(key(&mut m, Key::Char('n')), None);
    assert_eq!(m.mode, Mode::List);
    press(&mut m, "s");
    assert_eq!(key(&mut m, Key::Char('y')), Some(Effect::Do(Act::Stop, name("web_00"))));
    assert_eq!(m.note.as_ref().unwrap().text, "stopping web_00 ...");
    press(&mut m, "R");
    assert_eq!(key(&mut m, Key::Char('y')), Some(Effect::Do(Act::Roll, name("web_00"))));
    // One that is down is started without a question.
    press(&mut m, "g");
    assert_eq!(key(&mut m, Key::Char('s')), Some(Effect::Do(Act::Start, name("beat"))));
}

#[test]
fn the_question_is_about_the_process_it_was_asked_of() {
    let mut m = model();
    press(&mut m, "jjr");
    let mut other = snapshot();
    other.programs.insert(0, row("aaa", ProcessState::Running));
    m.step(Input::Snapshot(Ok(other)), NOW);
    assert_eq!(key(&mut m, Key::Enter), Some(Effect::Do(Act::Restart, name("web_00"))));
}

#[test]
fn a_signal_is_chosen_from_the_list() {
    let mut m = model();
    press(&mut m, "Gxjj");
    assert_eq!(key(&mut m, Key::Enter), Some(Effect::Do(Act::Signal("INT"), name("worker"))));
    press(&mut m, "x");
    key(&mut m, Key::End);
    key(&mut m, Key::Down);
    assert_eq!(m.mode, Mode::Signals { on: name("worker"), at: SIGNALS.len() - 1 });
    assert_eq!(key(&mut m, Key::Escape), None);
    assert_eq!(m.mode, Mode::List);
}

#[test]
fn outcomes_are_said_and_requests_are_bounded() {
    let mut m = model();
    let outcome = |ok, what: &str| Outcome { name: "beat".to_owned(), ok, what: what.to_owned() };
    for _ in 0..MAX_PENDING {
        assert!(key(&mut m, Key::Char('s')).is_some());
    }
    assert_eq!(key(&mut m, Key::Char('s')), None);
    let done = |result| Input::Done { act: Act::Start, on: name("beat"), result };
    m.step(done(Ok(vec![outcome(true, "started")])), NOW);
    let said = |m: &Model| m.note.clone().map(|n| (n.tone, n.text)).unwrap();
    assert_eq!(said(&m), (Tone::Good, "beat: started".to_owned()));
    assert!(key(&mut m, Key::Char('s')).is_some(), "there is room for one again");
    m.step(done(Ok(vec![outcome(false, "spawn error: no such file")])), NOW);
    assert_eq!(said(&m), (Tone::Bad, "beat: spawn error: no such file".to_owned()));
    m.step(done(Err("permission denied".to_owned())), NOW);
    assert_eq!(said(&m), (Tone::Bad, "starting beat: permission denied".to_owned()));
}

#[test]
fn an_agent_that_is_away_leaves_what_was_seen_and_since_when() {
    let mut m = model();
    m.step(Input::Snapshot(Err("refused".to_owned())), NOW + 1);
    m.step(Input::Snapshot(Err("no such file".to_owned())), NOW + 2);
    assert_eq!(m.link, Link::Away { why: "no such file".to_owned(), since: NOW + 1 });
    assert_eq!(names(&m).len(), 4);
    m.step(Input::Snapshot(Ok(snapshot())), NOW + 3);
    assert_eq!(m.link, Link::Up);
}

fn pane(m: &Model) -> &LogPane {
    match &m.mode {
        Mode::Log(pane) => pane,
        other => panic!("no log is shown but {other:?}"),
    }
}

#[test]
fn a_log_is_followed_and_the_bytes_of_another_are_not_taken() {
    let mut m = model();
    press(&mut m, "G");
    let follow = |id, output| Some(Effect::Follow { id, process: name("worker"), output });
    assert_eq!(key(&mut m, Key::Enter), follow(1, Output::Stdout));
    m.step(Input::Log(1, b"one\n".to_vec()), NOW);
    assert_eq!(key(&mut m, Key::Tab), follow(2, Output::Stderr));
    m.step(Input::Log(1, b"late\n".to_vec()), NOW);
    m.step(Input::Log(2, b"two\n".to_vec()), NOW);
    assert_eq!(pane(&m).lines.iter().collect::<Vec<_>>(), ["two"]);
    m.step(Input::LogEnded(2, Err("no log file".to_owned())), NOW);
    assert_eq!(pane(&m).ended.as_deref(), Some("no log file"));
    assert_eq!(key(&mut m, Key::Escape), Some(Effect::Unfollow));
    assert_eq!(m.mode, Mode::List);
    m.step(Input::Log(2, b"late\n".to_vec()), NOW);
}

#[test]
fn whoever_reads_further_up_keeps_the_lines_in_view() {
    let mut m = model();
    press(&mut m, "t");
    m.seen.page = 2;
    m.step(Input::Log(1, b"1\n2\n3\n4\n5\n".to_vec()), NOW);
    assert_eq!(pane(&m).below, 0, "the end is followed");
    press(&mut m, "k");
    m.step(Input::Log(1, b"6\n7".to_vec()), NOW);
    assert_eq!(pane(&m).below, 3);
    m.step(Input::Log(1, b"7\n".to_vec()), NOW);
    assert_eq!(pane(&m).below, 3, "a line that grew is no new line");
    press(&mut m, "g");
    assert_eq!(pane(&m).below, 5, "two of seven are in view");
    press(&mut m, "G");
    assert_eq!(pane(&m).below, 0);
}

#[test]
fn help_ends_with_any_key_and_control_c_ends_all() {
    let mut m = model();
    press(&mut m, "?");
    assert_eq!(m.mode, Mode::Help);
    assert_eq!(key(&mut m, Key::Char('q')), None);
    assert_eq!(m.mode, Mode::List);
    press(&mut m, "t");
    assert_eq!(key(&mut m, Key::Interrupt), Some(Effect::Quit));
    assert_eq!(key(&mut model(), Key::Char('q')), Some(Effect::Quit));
}
