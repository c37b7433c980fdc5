//! As a Mermaid flowchart.

use std::fmt::Write as _;

use super::facts::{Item, Picture, Place};

/// The chart, without a fence around it.
pub(super) fn draw(picture: &Picture) -> String {
    let mut out = String::from("flowchart LR\n");
    let mut line = |depth: usize, text: String| {
        // Writing to a text cannot fail.
        writeln!(out, "{}{text}", "  ".repeat(depth)).unwrap_or_default();
    };
    let in_place = |place: Place| picture.items.iter().filter(move |i| i.place == place);
    for item in in_place(Place::Outside) {
        line(1, format!("{}(({}))", item.id, label(item)));
    }
    line(1, "subgraph edge [\"us-east-1, and CloudFront's edges\"]".to_owned());
    for item in in_place(Place::Edge) {
        line(2, boxed(item));
    }
    line(1, "end".to_owned());
    line(1, format!("subgraph home [\"{}, {}\"]", quoted(&picture.title), picture.region));
    line(2, format!("subgraph vpc [\"{}\"]", quoted(&picture.vpc)));
    for (tier, name) in &picture.tiers {
        let id = format!("{tier:?}").to_lowercase();
        line(3, format!("subgraph {id}tier [\"{}\"]", quoted(name)));
        for item in in_place(Place::Tier(*tier)) {
            line(4, boxed(item));
        }
        line(3, "end".to_owned());
    }
    line(2, "end".to_owned());
    line(1, "end".to_owned());
    for arrow in &picture.arrows {
        if let (Some(from), Some(to)) = (picture.items.get(arrow.from), picture.items.get(arrow.to))
        {
            line(1, format!("{} -->|\"{}\"| {}", from.id, quoted(&arrow.label), to.id));
        }
    }
    out
}

fn boxed(item: &Item) -> String {
    format!("{}[{}]", item.id, label(item))
}

fn label(item: &Item) -> String {
    let lines: Vec<_> = item.lines.iter().map(|l| quoted(l)).collect();
    format!("\"{}\"", lines.join("<br/>"))
}

/// Text between quotes of Mermaid.
fn quoted(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;")
}
