//! A bar chart as SVG, for light and dark backgrounds.

use std::fmt::Write;

use indicatif::HumanCount;

use super::measure::Run;
use super::summary::{self, Row};
use super::workload::Workload;

const WIDTH: f64 = 760.0;
/// The x position of the bars, and the maximum length of a bar.
const LEFT: f64 = 110.0;
const MAX_BAR: f64 = 500.0;
const BAR: f64 = 14.0;
const STEP: f64 = 20.0;

const STYLE: &str = "\
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600; font-size: 14px }
.heading { font-weight: 600 }
.name { text-anchor: end }
rect { fill: #8c959f }
.own { fill: #0969da }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  rect { fill: #6e7681 }
  .own { fill: #4493f8 }
}";

/// Draws the chart. A bar shows lines per second of the server's CPU time, or lines per second if the system
/// does not provide the CPU time. Each workload has its own scale.
pub fn svg(runs: &[Run], workloads: &[Workload], machine: &str) -> String {
    let by_cpu = runs.iter().all(|run| run.cpu_seconds.is_some());
    let unit = if by_cpu {
        "Lines echoed per second of the server's CPU time (longer is better)"
    } else {
        "Lines echoed per second (longer is better)"
    };
    let mut body = String::new();
    let mut y = 24.0;
    text(&mut body, "title", 10.0, y, unit);
    for workload in workloads {
        let rows = summary::rows(runs, workload);
        y += 34.0;
        text(&mut body, "heading", 10.0, y, &workload.name);
        y += 8.0;
        let figures: Vec<f64> = rows.iter().map(|row| figure(row, by_cpu)).collect();
        let max = figures.iter().copied().fold(0.0, f64::max);
        for (row, figure) in rows.iter().zip(figures) {
            bar(&mut body, y, row.server.name, figure, figure / max);
            y += STEP;
        }
    }
    y += 24.0;
    text(&mut body, "machine", 10.0, y, machine);
    let height = y + 14.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" role=\"img\" aria-label=\"{unit}\">\n\
         <style>\n{STYLE}\n</style>\n{body}</svg>\n"
    )
}

fn figure(row: &Row, by_cpu: bool) -> f64 {
    match row.cpu {
        Some(microseconds) if by_cpu => 1e6 / microseconds,
        _ => row.rate,
    }
}

fn bar(body: &mut String, y: f64, name: &str, figure: f64, share: f64) {
    let class = match name {
        "asynchat" => "own",
        _ => "other",
    };
    // A very short bar must still be visible.
    let width = (share * MAX_BAR).max(1.0);
    let _ = writeln!(
        body,
        "<rect class=\"{class}\" x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAR}\" rx=\"2\"/>"
    );
    let baseline = y + BAR - 3.0;
    text(body, "name", LEFT - 8.0, baseline, name);
    let figure = HumanCount(figure.round() as u64).to_string();
    text(body, "figure", LEFT + width + 8.0, baseline, &figure);
}

fn text(body: &mut String, class: &str, x: f64, y: f64, words: &str) {
    let words = words
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    let _ = writeln!(
        body,
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{words}</text>"
    );
}
