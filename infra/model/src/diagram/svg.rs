//! As SVG: columns from the outside in, boxes one above the other, arrows with their ports.

use std::fmt::Write as _;

use super::facts::{Item, Picture, Place};
use crate::net::subnets::Tier;

const WIDTH: usize = 210;
const HEIGHT: usize = 64;
const GAP_X: usize = 130;
const GAP_Y: usize = 46;
const TOP: usize = 120;
const LEFT: usize = 30;
const PAD: usize = 22;

/// Columns, from the outside in.
const COLUMNS: [Place; 5] = [
    Place::Outside,
    Place::Edge,
    Place::Tier(Tier::Public),
    Place::Tier(Tier::Private),
    Place::Tier(Tier::Data),
];

/// Columns whose boxes stand lower: the public and the data tier.
const STAGGERED: [usize; 2] = [2, 4];

/// Where a box is drawn: its upper left corner.
#[derive(Clone, Copy, Debug)]
struct Spot {
    column: usize,
    x: usize,
    y: usize,
}

/// The picture.
pub(super) fn draw(picture: &Picture) -> String {
    let mut spots = Vec::new();
    let mut rows = [0_usize; COLUMNS.len()];
    for item in &picture.items {
        let column = COLUMNS.iter().position(|c| *c == item.place).unwrap_or_default();
        let row = rows.get(column).copied().unwrap_or_default();
        if let Some(count) = rows.get_mut(column) {
            *count += 1;
        }
        // Every other column stands half a box lower, so that arrows pass between.
        let lower = if STAGGERED.contains(&column) { (HEIGHT + GAP_Y) / 2 } else { 0 };
        let (x, y) = (x_of(column), TOP + lower + row * (HEIGHT + GAP_Y));
        spots.push(Spot { column, x, y });
    }
    let most = rows.iter().max().copied().unwrap_or(1).max(1);
    let bottom = TOP + most * (HEIGHT + GAP_Y) + (HEIGHT + GAP_Y) / 2;
    let (width, height) = (x_of(COLUMNS.len()) - GAP_X + LEFT + PAD, bottom + PAD);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" \
         markerHeight=\"8\" orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" fill=\"#345\"/></marker></defs>\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    frames(&mut out, picture, bottom);
    for (index, arrow) in picture.arrows.iter().enumerate() {
        if let (Some(from), Some(to)) = (spots.get(arrow.from), spots.get(arrow.to)) {
            draw_arrow(&mut out, *from, *to, &arrow.label, index);
        }
    }
    for (item, spot) in picture.items.iter().zip(&spots) {
        draw_box(&mut out, item, *spot);
    }
    out.push_str("</svg>\n");
    out
}

fn x_of(column: usize) -> usize {
    LEFT + PAD + column * (WIDTH + GAP_X)
}

fn put(out: &mut String, line: &str) {
    // Writing to a text cannot fail.
    writeln!(out, "{line}").unwrap_or_default();
}

/// The VPC, and its tiers in it.
fn frames(out: &mut String, picture: &Picture, bottom: usize) {
    let frame = |x: usize, y: usize, w: usize, h: usize, fill: &str, lines: &[String]| {
        let mut text = format!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" rx=\"6\" fill=\"{fill}\" stroke=\"#9ab\"/>"
        );
        for (i, line) in lines.iter().enumerate() {
            let (tx, ty) = (x + 8, y + 15 + i * 13);
            let size = if i == 0 { 12 } else { 10 };
            write!(
                text,
                "<text x=\"{tx}\" y=\"{ty}\" font-size=\"{size}\" fill=\"#345\">{}</text>",
                escaped(line)
            )
            .unwrap_or_default();
        }
        text
    };
    let vpc_x = x_of(2) - PAD;
    let vpc_w = x_of(COLUMNS.len()) - GAP_X + PAD - vpc_x;
    let title = format!("{}, {}: {}", picture.title, picture.region, picture.vpc);
    put(out, &frame(vpc_x, 10, vpc_w, bottom, "#f7fafc", &[title]));
    for (tier, name) in &picture.tiers {
        let column = COLUMNS.iter().position(|c| *c == Place::Tier(*tier)).unwrap_or_default();
        // The name, then a line for each subnet.
        let lines: Vec<_> = name.split([':', ',']).map(|p| p.trim().to_owned()).collect();
        put(out, &frame(x_of(column) - 10, 34, WIDTH + 20, bottom - 34, "#eef4f8", &lines));
    }
    let edge = [String::from("us-east-1, CloudFront's edges")];
    put(out, &frame(x_of(1) - 10, 34, WIDTH + 20, bottom - 34, "#fbf7ee", &edge));
}

fn draw_box(out: &mut String, item: &Item, spot: Spot) {
    let Spot { x, y, .. } = spot;
    let round = if item.place == Place::Outside { 30 } else { 4 };
    put(
        out,
        &format!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"{round}\" fill=\"#fff\" stroke=\"#345\"/>"
        ),
    );
    for (i, line) in item.lines.iter().enumerate() {
        let (tx, ty) = (x + WIDTH / 2, y + 20 + i * 17);
        let weight = if i == 0 { "bold" } else { "normal" };
        put(
            out,
            &format!(
                "<text x=\"{tx}\" y=\"{ty}\" text-anchor=\"middle\" font-weight=\"{weight}\">{}</text>",
                escaped(line)
            ),
        );
    }
}

/// A curve from a box's side to the other's, with its label in the middle. Each arrow has its own place at
/// the sides, so that few lie upon each other.
fn draw_arrow(out: &mut String, from: Spot, to: Spot, label: &str, index: usize) {
    let shift = 8 + (index * 11) % (HEIGHT - 16);
    let (y1, y2) = (from.y + shift, to.y + shift);
    let (x1, x2, bend) = if from.column < to.column {
        (from.x + WIDTH, to.x, None)
    } else if from.column > to.column {
        (from.x, to.x + WIDTH, None)
    } else {
        // In one column: around the right side.
        (from.x + WIDTH, to.x + WIDTH, Some(from.x + WIDTH + 30 + (index * 13) % 60))
    };
    let middle = bend.unwrap_or(usize::midpoint(x1, x2));
    let path = format!("M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}");
    put(
        out,
        &format!("<path d=\"{path}\" fill=\"none\" stroke=\"#678\" marker-end=\"url(#tip)\"/>"),
    );
    // A fifth of the way along the curve, where it is still beside its source; in one column the middle.
    let (lx, ly) = match bend {
        None => ((64 * x1 + 60 * middle + x2) / 125, (112 * y1 + 13 * y2) / 125),
        Some(_) => ((x1 + x2 + 6 * middle) / 8, usize::midpoint(y1, y2)),
    };
    let wide = label.chars().count() * 6 + 6;
    let (bx, by) = (lx.saturating_sub(wide / 2), ly.saturating_sub(8));
    put(
        out,
        &format!(
            "<rect x=\"{bx}\" y=\"{by}\" width=\"{wide}\" height=\"14\" fill=\"#fff\" opacity=\"0.9\"/>\
             <text x=\"{lx}\" y=\"{}\" text-anchor=\"middle\" font-size=\"10\" fill=\"#123\">{}</text>",
            ly + 3,
            escaped(label)
        ),
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
