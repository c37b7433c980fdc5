//! The list: which columns fit, and what stands in them.

use palisade_types::{Counted, ProcessState, ProcessWithUsage};
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::{Modifier, Style},
};

use super::{Paint, put, take_top};
use crate::{
    model::{Model, Seen, tone},
    ports::Tone,
    words::{age, bytes, full_name, percent},
};

/// The least and the most columns for a name.
const NAME: (usize, usize) = (12, 40);

/// The least columns worth saying why in.
const LEAST_WHY: u16 = 20;

/// A column between name and reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    State,
    Ready,
    Cpu,
    Memory,
    Processes,
    Restarts,
    Uptime,
    Pid,
}

impl Column {
    /// From left to right.
    const ALL: [Self; 8] = [
        Self::State,
        Self::Ready,
        Self::Cpu,
        Self::Memory,
        Self::Processes,
        Self::Restarts,
        Self::Uptime,
        Self::Pid,
    ];

    /// Title, width, and how much it matters where not all fit: the lowest goes last.
    fn layout(self) -> (&'static str, u16, u8) {
        match self {
            Self::State => ("STATE", 8, 0),
            Self::Cpu => ("CPU%", 6, 1),
            Self::Memory => ("MEM", 6, 2),
            Self::Uptime => ("UPTIME", 7, 3),
            Self::Restarts => ("RST", 4, 4),
            Self::Ready => ("READY", 5, 5),
            Self::Pid => ("PID", 7, 6),
            Self::Processes => ("PROC", 4, 7),
        }
    }

    fn text(self, row: &ProcessWithUsage, now: i64) -> String {
        let p = &row.status;
        let has_process = p.pid > 0;
        match self {
            Self::State => p.state.to_string(),
            Self::Ready if !has_process => "-".to_owned(),
            Self::Ready => if p.ready { "yes" } else { "no" }.to_owned(),
            Self::Cpu => {
                row.usage.and_then(|u| u.cpu_percent).map_or_else(|| "-".to_owned(), percent)
            }
            Self::Memory => row.usage.map_or_else(|| "-".to_owned(), |u| bytes(u.memory_bytes)),
            Self::Processes => {
                row.usage.map_or_else(|| "-".to_owned(), |u| u.processes.to_string())
            }
            Self::Restarts => p.restarts.to_string(),
            Self::Uptime if p.state == ProcessState::Running => age(now - p.since),
            Self::Uptime => "-".to_owned(),
            Self::Pid if has_process => p.pid.to_string(),
            Self::Pid => "-".to_owned(),
        }
    }

    fn is_words(self) -> bool {
        matches!(self, Self::State | Self::Ready)
    }
}

/// Which columns fit beside a name of this width. The least important go first.
fn that_fit(width: u16, name: u16) -> Vec<Column> {
    let mut by_weight = Column::ALL;
    by_weight.sort_by_key(|c| c.layout().2);
    let mut room = width.saturating_sub(name + 1);
    let mut fit = Vec::new();
    for column in by_weight {
        let needed = column.layout().1 + 1;
        if needed > room {
            break;
        }
        room -= needed;
        fit.push(column);
    }
    Column::ALL.into_iter().filter(|c| fit.contains(c)).collect()
}

/// Draws title and rows.
pub(super) fn list(buf: &mut Buffer, area: Rect, model: &Model, now: i64, paint: Paint) -> Seen {
    let rows = model.rows();
    let longest = rows.iter().map(|r| full_name(&r.status).chars().count()).max().unwrap_or(0);
    let wanted = u16::try_from(longest.clamp(NAME.0, NAME.1)).unwrap_or(0);
    // Rather a short name than no state.
    let name = wanted.min(area.width.saturating_sub(11));
    let columns = that_fit(area.width, name);
    let mut rest = area;
    let title = take_top(&mut rest);
    let bold = Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED);
    put(buf, title, 0, &" ".repeat(usize::from(title.width)), bold);
    put(buf, title, 1, "NAME", bold);
    let mut x = name + 2;
    for column in &columns {
        let (text, width, _) = column.layout();
        let is_order = model.order.column() == Some(text);
        let style = if is_order { bold.add_modifier(Modifier::REVERSED) } else { bold };
        put(buf, title, x, &aligned(text, width, column.is_words()), style);
        x += width + 1;
    }
    let why = (area.width.saturating_sub(x) >= LEAST_WHY).then_some(x);
    if let Some(x) = why {
        put(buf, title, x, "WHY", bold);
    }
    let page = usize::from(rest.height);
    let at = model.current().map_or(0, |(at, _)| at);
    let top = first_shown(model.seen.top, at, page, rows.len());
    for (n, row) in rows.iter().enumerate().skip(top).take(page) {
        let line = take_top(&mut rest);
        let is_current = n == at;
        let base = if is_current { Paint::cursor() } else { Style::new() };
        put(buf, line, 0, &" ".repeat(usize::from(line.width)), base);
        let text: String = full_name(&row.status).chars().take(usize::from(name)).collect();
        put(buf, line, 1, &text, base);
        let mut x = name + 2;
        for column in &columns {
            let width = column.layout().1;
            let style = match column {
                Column::State => base.patch(paint.tone(tone(row.status.state))),
                _ => base,
            };
            put(buf, line, x, &aligned(&column.text(row, now), width, column.is_words()), style);
            x += width + 1;
        }
        if let (Some(x), Some(text)) = (why, &row.status.error) {
            put(buf, line, x, text, base);
        }
    }
    Seen { page, top }
}

fn aligned(text: &str, width: u16, is_words: bool) -> String {
    let width = usize::from(width);
    if is_words { format!("{text:<width$}") } else { format!("{text:>width$}") }
}

/// The first row that is shown: as before, unless the cursor would be out of sight or rows would be
/// wasted.
fn first_shown(before: usize, at: usize, page: usize, rows: usize) -> usize {
    let lowest = (at + 1).saturating_sub(page);
    let most = rows.saturating_sub(page);
    before.min(most).clamp(lowest.min(at), at)
}

/// The line about one process.
pub(super) fn detail(row: &ProcessWithUsage, now: i64) -> (String, Tone) {
    let p = &row.status;
    let mut text = format!("{} {} for {}", full_name(p), p.state, age(now - p.since));
    if p.pid > 0 {
        text += &format!(", pid {}", p.pid);
    }
    if let Some(u) = row.usage {
        let counted = match u.memory_counted {
            Counted::Cgroup => "by its cgroup",
            Counted::Resident => "resident, shared pages counted in each",
        };
        let many = if u.processes == 1 { "process" } else { "processes" };
        text += &format!(", {} {many} with {} {counted}", u.processes, bytes(u.memory_bytes));
    }
    if let Some(why) = p.error.as_ref().or(p.exit.as_ref().filter(|_| p.pid == 0)) {
        text += &format!(": {why}");
    }
    (text, if p.error.is_some() { Tone::Bad } else { Tone::Plain })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_important_columns_go_first() {
        let titles =
            |width| -> Vec<_> { that_fit(width, 16).into_iter().map(|c| c.layout().0).collect() };
        assert_eq!(titles(80), ["STATE", "READY", "CPU%", "MEM", "PROC", "RST", "UPTIME", "PID"]);
        assert_eq!(titles(60), ["STATE", "READY", "CPU%", "MEM", "RST", "UPTIME"]);
        assert_eq!(titles(40), ["STATE", "CPU%", "MEM"]);
        assert!(titles(10).is_empty());
    }

    #[test]
    fn the_cursor_is_in_sight_and_no_row_is_wasted() {
        assert_eq!(first_shown(0, 0, 5, 20), 0);
        assert_eq!(first_shown(0, 7, 5, 20), 3);
        assert_eq!(first_shown(10, 8, 5, 20), 8);
        assert_eq!(first_shown(18, 19, 5, 20), 15);
        assert_eq!(first_shown(3, 2, 10, 3), 0);
        assert_eq!(first_shown(3, 2, 0, 3), 2);
        assert_eq!(first_shown(0, 0, 5, 0), 0);
    }
}
