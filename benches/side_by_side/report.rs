//! Formats the results: a table in Markdown, and a line of CSV for each run.

use std::fmt::Write;

use indicatif::HumanCount;

use super::measure::Run;
use super::servers::{self, REFERENCE};
use super::summary::{self, Row};
use super::workload::Workload;

/// The table with an explanation.
pub fn markdown(runs: &[Run], workloads: &[Workload], machine: &str, missing: &[&str]) -> String {
    let mut text = String::new();
    text += "| workload | server | lines/s | ratio | CPU, µs a line | ratio |\n";
    text += "|---|---|--:|--:|--:|--:|\n";
    for workload in workloads {
        let mut name = &*workload.name;
        for row in summary::rows(runs, workload) {
            text += &table_row(name, &row);
            name = "";
        }
    }
    let rounds = runs.iter().map(|run| run.round).max().unwrap_or(0) + 1;
    let _ = write!(
        text,
        "\nMedians of {rounds} rounds. In each round the servers ran in random order. The ratios \
         are relative to `{REFERENCE}`. CPU is the server's CPU time. Other activity of the \
         machine affects it less than the rate. Unless noted, a line has 32 bytes.\n\n"
    );
    for server in servers::ALL {
        let absent = if missing.contains(&server.name) {
            " (not measured: no Python on the path has it)"
        } else {
            ""
        };
        let _ = writeln!(text, "* `{}`: {}{absent}", server.name, server.about);
    }
    let _ = write!(text, "\n{machine}\n\n{}\n", servers::versions());
    text
}

fn table_row(workload: &str, row: &Row) -> String {
    format!(
        "| {workload} | {} | {} | {} | {} | {} |\n",
        row.server.name,
        HumanCount(row.rate.round() as u64),
        row.rate_ratio.map(three_digits).unwrap_or_default(),
        row.cpu.map(three_digits).unwrap_or_default(),
        row.cpu_ratio.map(three_digits).unwrap_or_default(),
    )
}

/// Formats a figure with three significant digits. Further digits would be noise.
pub fn three_digits(value: f64) -> String {
    let integer_digits = value.abs().log10().floor() as i32 + 1;
    let decimals = (3 - integer_digits).clamp(0, 4) as usize;
    format!("{value:.decimals$}")
}

/// A line of CSV for each run, in order.
pub fn csv(runs: &[Run], machine: &str) -> String {
    let mut text = format!("# {machine}\n# {}\n", servers::versions());
    text += "round,workload,server,lines,seconds,cpu_seconds\n";
    for run in runs {
        let cpu = run.cpu_seconds.map(|seconds| format!("{seconds:.6}"));
        let _ = writeln!(
            text,
            "{},\"{}\",{},{:.1},{:.6},{}",
            run.round,
            run.workload.name,
            run.server.name,
            run.lines,
            run.seconds,
            cpu.unwrap_or_default(),
        );
    }
    text
}
