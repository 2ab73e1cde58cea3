//! A run as a picture: arrivals, departures, backlog and bucket levels over time, as SVG.

use std::time::Duration;

use anyhow::{Result, anyhow};
use chrono::Timelike;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::meter;
use super::report::Report;
use super::run::Outcome;
use super::series::{LANES, Layer, Series, heights, steps};
use crate::domain::job::Lane;
use crate::domain::units::Span;

const SIZE: (u32, u32) = (1_000, 1_080);

/// The same width, and what is kept free at both sides.
const WIDTH: i32 = 1_000;
const MARGIN: i32 = 24;

/// The height of a legend's line, and from one of its names to the next.
const LINE: i32 = 20;
const GAP: i32 = 22;

/// Levels above this are cut: one call may be many times as large as a bucket.
const HIGHEST: f64 = 2.0;

/// The strip with the headline.
const HEAD: u32 = 92;

const GROUND: RGBColor = RGBColor(0xFF, 0xFF, 0xFE);
const INK: RGBColor = RGBColor(0x1F, 0x23, 0x28);
const FAINT: RGBColor = RGBColor(0x59, 0x63, 0x6E);
const GRID: RGBColor = RGBColor(0xE1, 0xE4, 0xE8);

/// Colours that people who see fewer can tell apart: lanes take the first three.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0xD5, 0x5E, 0x01),
    RGBColor(0x01, 0x72, 0xB2),
    RGBColor(0x01, 0x9E, 0x73),
    RGBColor(0xB0, 0x4F, 0x8C),
    RGBColor(0xC7, 0x85, 0x01),
    RGBColor(0x7A, 0x7A, 0x7B),
];

/// What each colour above becomes on a dark page.
const DARK: [(RGBColor, &str); 7] = [
    (GROUND, "#0d1117"),
    (INK, "#e6edf3"),
    (FAINT, "#9da7b1"),
    (GRID, "#2b313a"),
    (COLOURS[1], "#56b4e9"),
    (COLOURS[3], "#e59bc6"),
    (COLOURS[5], "#a5a5a6"),
];

/// The times between two marks of the time axis, in seconds.
const MARKS: [f64; 19] = [
    0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1_800.0,
    3_600.0, 7_200.0, 14_400.0, 28_800.0,
];

/// Marks of the time axis at the most, and intervals that events are counted in.
const MOST_MARKS: f64 = 9.0;
const MOST_INTERVALS: f64 = 180.0;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// One picture among those below each other.
struct Panel {
    heading: String,
    /// What the colours stand for.
    legend: Vec<(usize, String)>,
    layers: Vec<Layer>,
    is_share: bool,
}

/// Draws a run.
pub(super) fn draw(outcome: &Outcome, report: &Report) -> Result<String> {
    let mut text = String::new();
    drawn(&mut text, outcome, report).map_err(|fault| anyhow!("cannot be drawn: {fault}"))?;
    Ok(themed(&text))
}

fn drawn(text: &mut String, outcome: &Outcome, report: &Report) -> Result<(), String> {
    let root = SVGBackend::with_string(text, SIZE).into_drawing_area();
    let told = |fault: &dyn std::fmt::Display| fault.to_string();
    root.fill(&GROUND).map_err(|fault| told(&fault))?;
    let (head, body) = root.split_vertically(HEAD);
    headline(&head, report)?;
    let end = outcome.end().max(1.0);
    let interval = spacing(end / MOST_INTERVALS);
    for (area, panel) in body.split_evenly((4, 1)).iter().zip(panels(outcome, end, interval)) {
        draw_panel(area, outcome, end, &panel)?;
    }
    root.present().map_err(|fault| told(&fault))
}

/// The smallest usual spacing that is not below this.
fn spacing(least: f64) -> f64 {
    MARKS
        .into_iter()
        .find(|step| *step >= least)
        .unwrap_or_else(|| (least / 86_400.0).ceil() * 86_400.0)
}

fn panels(outcome: &Outcome, end: f64, interval: f64) -> [Panel; 4] {
    let series = Series::of(outcome, end, interval);
    let used = |lane: &Lane| outcome.jobs.iter().any(|job| job.lane == *lane);
    let lanes = LANES.iter().enumerate().filter(|(_, lane)| used(lane));
    let lanes: Vec<(usize, String)> =
        lanes.map(|(colour, lane)| (colour, lane.as_str().to_owned())).collect();
    let every = Span(Duration::try_from_secs_f64(interval).unwrap_or_default());
    let counts = |heading: String, counts: &[Vec<f64>; 3]| Panel {
        heading,
        legend: lanes.clone(),
        layers: steps(counts, interval),
        is_share: false,
    };
    [
        counts(format!("Arrivals, jobs in {every}"), &series.arrivals),
        counts(format!("Departures, calls in {every}"), &series.departures),
        counts("Backlog, jobs that wait".to_owned(), &series.backlog),
        levels(outcome, end),
    ]
}

/// The buckets that were the fullest on average.
fn levels(outcome: &Outcome, end: f64) -> Panel {
    let names = outcome.pools.iter().flat_map(|pool| {
        let id = pool.id.clone();
        meter::buckets(pool).into_iter().map(move |gauge| {
            format!("{} {}", id.trim_end_matches("/*"), gauge.axis.replace('_', " "))
        })
    });
    let mut lines = heights(&outcome.samples, end, names.collect(), COLOURS.len());
    let mut cut = "";
    for (_, level) in lines.iter_mut().flat_map(|(_, layer)| &mut layer.points) {
        if *level > HIGHEST {
            (*level, cut) = (HIGHEST, ", cut at 200 %");
        }
    }
    let name = |(colour, (name, _)): (usize, &(String, Layer))| (colour, name.clone());
    Panel {
        heading: format!("Bucket levels, 100 % is full{cut}"),
        legend: lines.iter().enumerate().map(name).collect(),
        layers: lines.into_iter().map(|(_, layer)| layer).collect(),
        is_share: true,
    }
}

/// The sentence, in two lines: what came, and what became of it.
fn headline(area: &Area<'_>, report: &Report) -> Result<(), String> {
    let (came, became) = report.headline.split_once(": ").unwrap_or((&report.headline, ""));
    let date = report.first_arrival.format("%Y-%m-%d").to_string();
    write(area, &format!("{came} UTC, {date}"), (MARGIN, 20), (INK, 21))?;
    write(area, became, (MARGIN, 50), (FAINT, 16))
}

fn write(
    area: &Area<'_>,
    text: &str,
    at: (i32, i32),
    (colour, size): (RGBColor, i32),
) -> Result<(), String> {
    let style = ("sans-serif", size).into_font().color(&colour);
    let style = style.pos(Pos::new(HPos::Left, VPos::Top));
    area.draw_text(text, &style, at).map_err(|fault| fault.to_string())
}

fn draw_panel(area: &Area<'_>, outcome: &Outcome, end: f64, panel: &Panel) -> Result<(), String> {
    write(area, &panel.heading, (MARGIN, 4), (INK, 16))?;
    let lines = legend(area, panel)?;
    let told = |fault: &dyn std::fmt::Display| fault.to_string();
    let highest = panel.layers.iter().flat_map(|layer| &layer.points).map(|(_, y)| *y);
    let least = if panel.is_share { 1.0 } else { 4.0 };
    let top = highest.fold(least, f64::max) * 1.06;
    let times = Times { from: -0.01 * end, to: 1.01 * end, marks: marks(outcome, end) };
    let mut chart = ChartBuilder::on(area)
        .margin_left(8)
        .margin_right(28)
        .margin_top(30 + lines * LINE)
        .set_label_area_size(LabelAreaPosition::Left, 62)
        .set_label_area_size(LabelAreaPosition::Bottom, 28)
        .build_cartesian_2d(times, 0.0..top)
        .map_err(|fault| told(&fault))?;
    let share = |y: &f64| format!("{:.0} %", y * 100.0);
    let count = |y: &f64| super::table::rounded(*y);
    let is_short = end < 6.0;
    let clock = |x: &f64| {
        let form = if is_short { "%H:%M:%S%.3f" } else { "%H:%M:%S" };
        outcome.moment(*x).format(form).to_string()
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(FAINT)
        .y_labels(5)
        .label_style(("sans-serif", 14).into_font().color(&FAINT))
        .x_label_formatter(&clock)
        .y_label_formatter(if panel.is_share { &share } else { &count })
        .draw()
        .map_err(|fault| told(&fault))?;
    for layer in &panel.layers {
        let colour = COLOURS.get(layer.colour).copied().unwrap_or(INK);
        let points = layer.points.iter().copied();
        let drawn = if layer.is_filled {
            chart.draw_series(AreaSeries::new(points, 0.0, colour.filled())).map(drop)
        } else {
            chart.draw_series(LineSeries::new(points, colour.stroke_width(2))).map(drop)
        };
        drawn.map_err(|fault| told(&fault))?;
    }
    Ok(())
}

/// How wide so many letters are, about.
fn wide(text: &str) -> i32 {
    const LETTER: i32 = 7;
    i32::try_from(text.chars().count()).unwrap_or_default() * LETTER
}

/// Where each of the legend's entries begins: at the right of the heading's line where they fit
/// there, else in lines of their own.
fn placed(panel: &Panel) -> Vec<(i32, i32)> {
    let widths: Vec<i32> = panel.legend.iter().map(|(_, name)| 15 + wide(name) + GAP).collect();
    let (left, right) = (MARGIN, WIDTH - MARGIN);
    let room = right - left - 2 * GAP - wide(&panel.heading);
    let all: i32 = widths.iter().sum();
    let (mut x, mut line) = if all <= room { (right - all + GAP, 0) } else { (left, 1) };
    let mut found = Vec::with_capacity(widths.len());
    for width in widths {
        if line > 0 && x + width - GAP > right && x > left {
            (x, line) = (left, line + 1);
        }
        found.push((x, line));
        x += width;
    }
    found
}

/// Tells what the colours stand for. How many lines of its own that takes.
fn legend(area: &Area<'_>, panel: &Panel) -> Result<i32, String> {
    let places = placed(panel);
    for ((colour, name), (x, line)) in panel.legend.iter().zip(&places) {
        let y = 5 + line * LINE;
        let fill = COLOURS.get(*colour).copied().unwrap_or(INK).filled();
        let square = Rectangle::new([(*x, y + 2), (x + 10, y + 12)], fill);
        area.draw(&square).map_err(|fault| fault.to_string())?;
        write(area, name, (x + 15, y), (FAINT, 14))?;
    }
    Ok(places.last().map_or(0, |(_, line)| *line))
}

/// A time axis with marks of its own.
#[derive(Clone)]
struct Times {
    from: f64,
    to: f64,
    marks: Vec<f64>,
}

impl Ranged for Times {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        RangedCoordf64::from(self.from..self.to).map(value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        self.marks.clone()
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.from..self.to
    }
}

/// Where the time axis has its marks: at full seconds, minutes or hours of the clock.
fn marks(outcome: &Outcome, end: f64) -> Vec<f64> {
    let step = spacing(end / MOST_MARKS);
    let first = outcome.first;
    let since_midnight = f64::from(first.num_seconds_from_midnight())
        + f64::from(first.nanosecond() % 1_000_000_000) / 1e9;
    let mut mark = (since_midnight / step).ceil() * step - since_midnight;
    let mut found = Vec::new();
    while mark <= end {
        found.push(mark);
        mark += step;
    }
    found
}

/// Adds what the colours become on a dark page: a rule of CSS goes before an attribute.
fn themed(svg: &str) -> String {
    let rules: Vec<String> = DARK
        .iter()
        .map(|(RGBColor(r, g, b), dark)| {
            let light = format!("#{r:02X}{g:02X}{b:02X}");
            format!("[fill=\"{light}\"]{{fill:{dark}}}[stroke=\"{light}\"]{{stroke:{dark}}}")
        })
        .collect();
    let style = format!(
        "<style>text{{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}}\
         @media (prefers-color-scheme:dark){{{}}}</style>",
        rules.concat()
    );
    match svg.split_once('>') {
        Some((open, rest)) => format!("{open}>\n{style}{rest}"),
        None => svg.to_owned(),
    }
}
