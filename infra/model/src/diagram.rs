//! Pictures of what is rendered. Invariant: nothing is drawn that was not proved; every arrow is a flow
//! with its ports, and the same estate always gives the same text.

mod facts;
mod matrix;
mod mermaid;
mod svg;

use crate::estate::Estate;
use facts::Picture;

/// What to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A flowchart for Markdown.
    Mermaid,
    /// A picture.
    Svg,
    /// Security groups as a Markdown table: who lets whom in, at which ports, by which line.
    Groups,
}

/// A picture of an estate.
#[must_use]
pub fn diagram(estate: &Estate, format: Format) -> String {
    match format {
        Format::Mermaid => mermaid::draw(&Picture::of(estate)),
        Format::Svg => svg::draw(&Picture::of(estate)),
        Format::Groups => matrix::write(estate),
    }
}

#[cfg(test)]
#[path = "diagram/tests.rs"]
mod tests;
