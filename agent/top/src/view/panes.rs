//! What lies over the list: the help, the choice of a signal, a log.

use palisade_types::ProcessName;
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    widgets::{Block, Clear, Widget as _},
};

use super::{Paint, put, take_bottom, take_top};
use crate::{
    model::{LogPane, SIGNALS, Seen},
    ports::Tone,
};

const HELP: &[&str] = &[
    "Up Down k j       one process up or down",
    "PgUp PgDn g G     a page, the first, the last",
    "r R               restart it; replace it, rolling",
    "s                 stop it, or start it",
    "x                 send it a signal",
    "t or Enter        follow its log; Tab: stderr or stdout",
    "/                 show only names and states with these letters",
    "Esc               show all again",
    "c m o n           by CPU, memory, restarts, name",
    "q                 quit",
    "",
    "CPU in hundredths of one CPU. CPU and MEM are of a process",
    "and all that it started.",
];

pub(super) fn help(buf: &mut Buffer, area: Rect) {
    let mut inside = window(buf, area, "keys", 62, HELP.len());
    for text in HELP {
        put(buf, take_top(&mut inside), 1, text, Style::new());
    }
}

pub(super) fn signals(buf: &mut Buffer, area: Rect, on: &ProcessName, at: usize) {
    let title = format!("signal to {on}: Enter sends, Esc leaves");
    let mut inside = window(buf, area, &title, 50, SIGNALS.len());
    // On a low screen the list moves.
    let above = (at + 1).saturating_sub(usize::from(inside.height));
    for (n, (name, what)) in SIGNALS.iter().enumerate().skip(above) {
        let line = take_top(&mut inside);
        let style = if n == at { Paint::cursor() } else { Style::new() };
        put(buf, line, 1, &format!("{name:6} {what}"), style);
    }
}

/// A frame in the middle for so many lines. Returns what is inside.
fn window(buf: &mut Buffer, area: Rect, title: &str, width: u16, lines: usize) -> Rect {
    let height = u16::try_from(lines).unwrap_or(u16::MAX).saturating_add(2);
    let (width, height) = (width.min(area.width), height.min(area.height));
    let place = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    Clear.render(place, buf);
    let block = Block::bordered().title(format!(" {title} "));
    let inside = block.inner(place);
    block.render(place, buf);
    inside
}

/// A log over the whole screen.
pub(super) fn log(buf: &mut Buffer, area: Rect, pane: &LogPane, seen: Seen, paint: Paint) -> Seen {
    let mut rest = area;
    let title = take_top(&mut rest);
    let bottom = take_bottom(&mut rest);
    let place = match pane.below {
        0 => "following".to_owned(),
        n => format!("lines below: {n}"),
    };
    let text = format!("{} {}: {place}", pane.process, pane.output.as_str());
    put(buf, title, 1, &text, Paint::title());
    let page = usize::from(rest.height);
    let end = pane.lines.len().saturating_sub(pane.below);
    let begin = end.saturating_sub(page);
    for text in pane.lines.iter().skip(begin).take(end - begin) {
        let shown: String = text.chars().skip(pane.column).collect();
        put(buf, take_top(&mut rest), 0, &shown, Style::new());
    }
    match &pane.ended {
        Some(why) => put(buf, bottom, 1, &format!("ended: {why}"), paint.tone(Tone::Bad)),
        None => {
            let other = pane.output.other().as_str();
            let keys = format!("Esc back  Tab {other}  Up Down PgUp PgDn g G Left Right");
            put(buf, bottom, 1, &keys, Style::new());
        }
    }
    Seen { page, top: seen.top }
}
