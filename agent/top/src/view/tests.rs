use palisade_types::ProcessState;
use ratatui::{Terminal, backend::TestBackend, style::Modifier};

use super::*;
use crate::{
    input::{Input, Key},
    testing::{NOW, model, press, row, snapshot},
};

const PLAIN: Paint = Paint { colour: false };

fn terminal(width: u16, height: u16) -> Terminal<TestBackend> {
    Terminal::new(TestBackend::new(width, height)).unwrap()
}

/// The screen as text, without the spaces at the ends of lines.
fn screen(model: &mut Model, width: u16, height: u16) -> Vec<String> {
    let mut terminal = terminal(width, height);
    terminal.draw(|frame| model.seen = draw(frame, model, NOW, PLAIN)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let cells = buffer.content().chunks(usize::from(width.max(1)));
    cells
        .map(|line| line.iter().map(|c| c.symbol()).collect::<String>().trim_end().to_owned())
        .collect()
}

#[test]
fn everything_fits_a_terminal_of_80_by_24() {
    let mut m = model();
    press(&mut m, "jj");
    let seen = screen(&mut m, 80, 24);
    let expected = [
        " agent     running: palisade 0.1.0, pid 17, uptime 1:01:01",
        " firewall  in force: 45 ranges, 12 packets dropped",
        " logs      1000 events delivered, backlog 12 B",
        " NAME         STATE    READY   CPU%    MEM PROC  RST  UPTIME     PID",
        " app:beat     FATAL    -          -      -    -    0       -       -",
        " app:flower   STARTING no         -      -    -    0       -      12",
        " app:web_00   RUNNING  yes      1.5    50M    3    2   3m12s    4711",
        " app:worker   RUNNING  yes      160   1.4G    9    0   3m12s    4711",
    ];
    assert_eq!(seen[..expected.len()], expected);
    assert!(seen[expected.len()..22].iter().all(String::is_empty), "{seen:#?}");
    assert_eq!(
        seen[22],
        " app:web_00 RUNNING for 3m12s, pid 4711, 3 processes with 50M resident, shared p"
    );
    assert!(seen[23].starts_with(" q quit  ? help  r R restart  s stop/start  t log"), "{seen:#?}");
    assert_eq!(m.seen, Seen { page: 18, top: 0 });
}

#[test]
fn a_wide_terminal_says_why_beside_the_process() {
    let seen = screen(&mut model(), 120, 24);
    assert!(seen[3].ends_with("PID WHY"), "{seen:#?}");
    assert!(seen[4].ends_with("- exited too quickly: exit 1"), "{seen:#?}");
    assert_eq!(seen[22], " app:beat FATAL for 3m12s: exited too quickly: exit 1");
}

#[test]
fn a_narrow_terminal_keeps_name_and_state() {
    let seen = screen(&mut model(), 24, 8);
    assert_eq!(seen[0], " NAME         STATE");
    assert_eq!(seen[1], " app:beat     FATAL");
}

#[test]
fn any_size_can_be_drawn_in_any_mode() {
    let mut models = vec![Model::new(), model()];
    for keys in ["?", "x", "xjjjjjjjjjjjj", "/we", "r", "t"] {
        let mut m = model();
        press(&mut m, keys);
        models.push(m);
    }
    for m in &mut models {
        m.step(Input::Log(1, b"a line\nanother one\n".to_vec()), NOW);
        for (width, height) in [(0, 0), (1, 1), (2, 3), (80, 2), (3, 60), (11, 5), (300, 100)] {
            screen(m, width, height);
        }
    }
}

#[test]
fn the_cursor_stays_in_sight_of_a_long_list() {
    let mut long = snapshot();
    long.programs = (0..300).map(|n| row(&format!("web_{n:03}"), ProcessState::Running)).collect();
    let mut m = Model::new();
    m.step(Input::Snapshot(Ok(long)), NOW);
    assert!(screen(&mut m, 80, 24)[4].starts_with(" app:web_000"));
    m.step(Input::Key(Key::PageDown), NOW);
    let seen = screen(&mut m, 80, 24);
    assert!(seen[4].starts_with(" app:web_001") && seen[21].starts_with(" app:web_018"));
    m.step(Input::Key(Key::End), NOW);
    assert!(screen(&mut m, 80, 24)[21].starts_with(" app:web_299"));
    // A smaller window: the last one is still there.
    assert!(screen(&mut m, 80, 10)[7].starts_with(" app:web_299"));
}

#[test]
fn an_agent_that_is_away_is_said_above_what_it_last_told() {
    let mut m = model();
    m.step(Input::Snapshot(Err("connection refused".to_owned())), NOW - 5_000);
    let seen = screen(&mut m, 80, 24);
    assert_eq!(seen[0], " agent     away for 5s, trying again: connection refused");
    assert!(seen[1].starts_with(" firewall") && seen[4].starts_with(" app:beat"), "{seen:#?}");
    assert_eq!(screen(&mut Model::new(), 80, 24)[0], " agent     connecting ...");
}

#[test]
fn questions_and_filters_take_the_last_line() {
    let mut m = model();
    press(&mut m, "r");
    assert_eq!(screen(&mut m, 80, 24)[23], " Restart beat? y, or any other key for no");
    press(&mut m, "n/web");
    assert_eq!(screen(&mut m, 80, 24)[23], " filter: web_");
    m.step(Input::Key(Key::Enter), NOW);
    let seen = screen(&mut m, 80, 24);
    assert_eq!(seen[23], " 1 of 4 with \"web\": Esc shows all");
    assert!(seen[4].starts_with(" app:web_00") && seen[5].is_empty());
}

#[test]
fn windows_lie_over_the_list() {
    let mut m = model();
    press(&mut m, "?");
    let seen = screen(&mut m, 80, 24).join("\n");
    assert!(seen.contains(" keys ") && seen.contains("send it a signal"), "{seen}");
    let mut m = model();
    press(&mut m, "x");
    let seen = screen(&mut m, 80, 24).join("\n");
    assert!(seen.contains("signal to beat") && seen.contains("HUP    reload"), "{seen}");
    // On a low screen the list moves with the cursor.
    press(&mut m, "jjjjjjjjjjj");
    let seen = screen(&mut m, 80, 8).join("\n");
    assert!(seen.contains("KILL") && !seen.contains("HUP"), "{seen}");
}

#[test]
fn a_log_takes_the_whole_screen_and_shows_its_end() {
    let mut m = model();
    press(&mut m, "t");
    m.step(Input::Log(1, b"one\ntwo\nthree\n\x1b[31mfour\x1b[0m".to_vec()), NOW);
    assert_eq!(
        screen(&mut m, 40, 5),
        [
            " beat stdout: following",
            "two",
            "three",
            "four",
            " Esc back  Tab stderr  Up Down PgUp PgDn"
        ]
    );
    press(&mut m, "k");
    m.step(Input::LogEnded(1, Err("no log file".to_owned())), NOW);
    assert_eq!(
        screen(&mut m, 40, 5),
        [" beat stdout: lines below: 1", "one", "two", "three", " ended: no log file"]
    );
    m.step(Input::Key(Key::Right), NOW);
    assert_eq!(screen(&mut m, 40, 5)[1..4], ["", "", ""]);
}

#[test]
fn without_colour_nothing_is_coloured_and_the_cursor_is_seen_all_the_same() {
    for colour in [false, true] {
        let mut t = terminal(80, 24);
        let m = model();
        t.draw(|frame| {
            draw(frame, &m, NOW, Paint { colour });
        })
        .unwrap();
        let buffer = t.backend().buffer();
        let coloured =
            buffer.content().iter().any(|c| c.fg != Color::Reset || c.bg != Color::Reset);
        assert_eq!(coloured, colour);
        assert!(buffer[(1, 4)].modifier.contains(Modifier::REVERSED));
        assert!(!buffer[(1, 5)].modifier.contains(Modifier::REVERSED));
    }
}
