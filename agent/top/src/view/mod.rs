//! The screen as a function of the model: facts, the list, one line about the process under the cursor,
//! one line of what keys do or what was said. It fits whatever size there is, down to nothing.

mod columns;
mod panes;
#[cfg(test)]
mod tests;

use ratatui::{
    Frame,
    buffer::Buffer,
    layout::Rect,
    style::{Color, Modifier, Style},
};

use crate::{
    model::{Link, Mode, Model, Seen},
    ports::Tone,
    words::age,
};

/// Rows that stay for the list when there are many facts.
const LEAST_LIST: u16 = 6;

const HINTS: &str =
    "q quit  ? help  r R restart  s stop/start  t log  x signal  / filter  c cpu  m memory";

/// Colours, or the same without.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint {
    pub(crate) colour: bool,
}

impl Paint {
    pub(crate) fn tone(self, tone: Tone) -> Style {
        match (tone, self.colour) {
            (Tone::Plain, _) | (Tone::Good | Tone::Busy, false) => Style::new(),
            (Tone::Good, true) => Style::new().fg(Color::Green),
            (Tone::Busy, true) => Style::new().fg(Color::Yellow),
            (Tone::Bad, true) => Style::new().fg(Color::Red),
            (Tone::Bad, false) => Style::new().add_modifier(Modifier::BOLD),
        }
    }

    fn title() -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    fn cursor() -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }
}

/// Draws the model. Returns what was found out about the screen.
pub(crate) fn draw(frame: &mut Frame<'_>, model: &Model, now: i64, paint: Paint) -> Seen {
    let area = frame.area();
    let buf = frame.buffer_mut();
    if let Mode::Log(pane) = &model.mode {
        return panes::log(buf, area, pane, model.seen, paint);
    }
    let mut rest = area;
    let last = take_bottom(&mut rest);
    let detail = take_bottom(&mut rest);
    for (about, text, tone) in facts(model, now) {
        if rest.height <= LEAST_LIST {
            break;
        }
        let line = take_top(&mut rest);
        put(buf, line, 1, &format!("{about:9}"), Paint::title());
        put(buf, line, 11, &text, paint.tone(tone));
    }
    let seen = columns::list(buf, rest, model, now, paint);
    if let Some((_, row)) = model.current() {
        let (text, tone) = columns::detail(row, now);
        put(buf, detail, 1, &text, paint.tone(tone));
    }
    bottom(buf, last, model, paint);
    match &model.mode {
        Mode::Help => panes::help(buf, area),
        Mode::Signals { on, at } => panes::signals(buf, area, on, *at),
        Mode::List | Mode::Filter { .. } | Mode::Confirm { .. } | Mode::Log(_) => {}
    }
    seen
}

/// The lines above the list; the first is about whether the agent answers, when it does not.
fn facts(model: &Model, now: i64) -> Vec<(&'static str, String, Tone)> {
    let mut lines = Vec::new();
    match &model.link {
        Link::Up => {}
        Link::Connecting => lines.push(("agent", "connecting ...".to_owned(), Tone::Busy)),
        Link::Away { why, since } => {
            let text = format!("away for {}, trying again: {why}", age(now - since));
            lines.push(("agent", text, Tone::Bad));
        }
    }
    let told = model.snapshot.facts.iter().map(|f| (f.about, f.text.clone(), f.tone));
    // What an agent said of itself is no news while it is away.
    lines.extend(told.filter(|(about, ..)| model.link == Link::Up || *about != "agent"));
    lines
}

fn bottom(buf: &mut Buffer, line: Rect, model: &Model, paint: Paint) {
    let (text, style) = match (&model.mode, &model.note) {
        (Mode::Filter { .. }, _) => (format!("filter: {}_", model.filter), Paint::title()),
        (Mode::Confirm { act, on }, _) => {
            (format!("{} y, or any other key for no", act.question(on)), Paint::title())
        }
        (_, Some(note)) => (note.text.clone(), paint.tone(note.tone)),
        _ if !model.filter.is_empty() => {
            let shown = model.rows().len();
            let all = model.snapshot.programs.len();
            (format!("{shown} of {all} with {:?}: Esc shows all", model.filter), Style::new())
        }
        _ => (HINTS.to_owned(), Style::new()),
    };
    put(buf, line, 1, &text, style);
}

/// Text in a line, from this column on, cut at its end.
fn put(buf: &mut Buffer, line: Rect, column: u16, text: &str, style: Style) {
    let (x, width) = (line.x.saturating_add(column), line.width.saturating_sub(column));
    if line.height > 0 && width > 0 {
        buf.set_stringn(x, line.y, text, usize::from(width), style);
    }
}

/// The first line of the area, which it loses.
fn take_top(area: &mut Rect) -> Rect {
    let line = Rect { height: area.height.min(1), ..*area };
    area.y += line.height;
    area.height -= line.height;
    line
}

/// The last line of the area, which it loses.
fn take_bottom(area: &mut Rect) -> Rect {
    let height = area.height.min(1);
    area.height -= height;
    Rect { y: area.y + area.height, height, ..*area }
}
