//! The figures as a table in Markdown, and every run as a line of CSV.

use std::fmt::Write;

use indicatif::HumanCount;

use super::measure::Run;
use super::servers::{self, REFERENCE};
use super::summary::{self, Row};
use super::workload::Workload;

/// The table, and what has to be known to read it.
pub fn markdown(runs: &[Run], workloads: &[Workload], machine: &str, left_out: &[&str]) -> String {
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
        "\nMedians of {rounds} rounds, in each of which the servers took turns in an order of \
         chance. The ratios are to `{REFERENCE}`. CPU is the server's time, which the machine's \
         other business disturbs less than it does the rate. A line is 32 bytes where nothing \
         else is said.\n\n"
    );
    for server in servers::ALL {
        let absent = match left_out.contains(&server.name) {
            true => " (left out: no Python on the path has it)",
            false => "",
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

/// More would be noise.
pub fn three_digits(value: f64) -> String {
    let before_the_point = value.abs().log10().floor() as i32 + 1;
    let after_it = (3 - before_the_point).clamp(0, 4) as usize;
    format!("{value:.after_it$}")
}

/// Every run, in the order in which they were made.
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
