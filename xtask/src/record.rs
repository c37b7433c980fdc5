//! `cargo xtask record`: runs the demo and draws what it said as `docs/demo.svg`, the README's picture.
//! Plain SVG with text in it: it can be read, searched and copied.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::{cargo, cmd::Cmd, host, say};

const FILE: &str = "docs/demo.svg";
/// The command that the picture shows.
const COMMAND: &str = "cargo xtask demo";
/// Longest line of the picture, in characters.
const COLUMNS: usize = 112;
/// Width and height of a character's cell.
const CELL: (f64, f64) = (7.8, 18.0);
/// Space around the text.
const MARGIN: f64 = 20.0;

/// What `cargo xtask record` takes.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Show this agent binary instead of building one
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// How a line is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Heading,
    Plain,
    Good,
    Bad,
    Faint,
}

impl Look {
    fn class(self) -> &'static str {
        match self {
            Self::Heading => "h",
            Self::Plain => "p",
            Self::Good => "g",
            Self::Bad => "b",
            Self::Faint => "f",
        }
    }

    /// What the demo shows by colour on a terminal, told from the words.
    fn of(line: &str) -> Self {
        let word = line.trim_start();
        let indent = line.len() - word.len();
        match indent {
            _ if word.starts_with("demo: ") => Self::Good,
            0 => Self::Heading,
            2 if word.starts_with("FAIL ") => Self::Bad,
            2..=11 => Self::Plain,
            _ => Self::Faint,
        }
    }
}

/// Runs the demo and draws it. A demo that fails is not drawn.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let mut lines = Vec::new();
    let mut demo = Cmd::new(host::own_program()?).arg("demo");
    if let Some(binary) = &options.binary {
        demo = demo.arg("--binary").arg(binary);
    }
    let ended = demo.env("NO_COLOR", "1").within(cargo::BUILD_PATIENCE).lines(|line| {
        say::line(line);
        lines.push(line.to_owned());
    })?;
    ensure!(ended.success(), "the demo ended with {ended}: no picture of that");
    let target = cargo::target_dir()?.display().to_string();
    let svg = draw(lines.iter().map(|line| line.replace(&target, "target")));
    host::write(&host::workspace().join(FILE), svg)?;
    say::line(&format!("wrote {FILE}"));
    Ok(true)
}

#[expect(clippy::cast_precision_loss, reason = "a picture has few lines")]
fn draw(lines: impl Iterator<Item = String>) -> String {
    let mut body = String::new();
    let mut y = MARGIN + CELL.1;
    let mut put = |spans: &str| {
        body += &format!("<text x=\"{MARGIN}\" y=\"{y:.0}\">{spans}</text>\n");
        y += CELL.1;
    };
    put(&format!("<tspan class=\"f\"># </tspan><tspan class=\"h\">{COMMAND}</tspan>"));
    for line in lines {
        put(&spans(&line));
    }
    let (width, height) = (COLUMNS as f64 * CELL.0 + 2.0 * MARGIN, y + MARGIN);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" xml:space=\"preserve\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" aria-label=\"Output of {COMMAND}\">\n\
         <style>\n\
         text {{ font: 13px ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace; \
         white-space: pre; fill: #d3dae3; }}\n\
         .h {{ font-weight: bold; fill: #ffffff; }} .g {{ fill: #7bd88f; }} .b {{ fill: #ff7b72; }}\n\
         .f {{ fill: #8794a3; }} .p {{ fill: #d3dae3; }}\n\
         </style>\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#151b23\"/>\n{body}</svg>\n"
    )
}

fn spans(line: &str) -> String {
    let cut: String = if line.chars().count() > COLUMNS {
        line.chars().take(COLUMNS - 3).chain("...".chars()).collect()
    } else {
        line.to_owned()
    };
    let span = |look: Look, text: &str| {
        format!("<tspan class=\"{}\">{}</tspan>", look.class(), escape(text))
    };
    match cut.strip_prefix("  ok  ") {
        Some(rest) => span(Look::Good, "  ok  ") + &span(Look::Plain, rest),
        None => span(Look::of(&cut), &cut),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_and_mark_up_does_not() {
        let svg = draw(["  ok     1  a <b> & c".to_owned()].into_iter());
        assert!(svg.contains("a &lt;b&gt; &amp; c") && !svg.contains("<b>"));
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("class=\"g\">  ok"));
    }

    #[test]
    fn lines_are_looked_at_like_on_a_terminal() {
        assert_eq!(Look::of("Who gets in"), Look::Heading);
        assert_eq!(Look::of("  FAIL   4  x"), Look::Bad);
        assert_eq!(Look::of("            evidence"), Look::Faint);
        assert_eq!(Look::of("demo: 24 passed, 0 failed"), Look::Good);
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_with_a_mark() {
        let cut = spans(&"x".repeat(COLUMNS + 1));
        assert!(cut.contains("x...</tspan>") && !cut.contains(&"x".repeat(COLUMNS)));
    }
}
