//! Computes medians from the runs.

use super::measure::Run;
use super::servers::{REFERENCE, Server};
use super::workload::Workload;

/// The medians of one server with one workload over all rounds.
pub struct Row {
    pub server: &'static Server,
    /// Lines a second.
    pub rate: f64,
    /// The rate divided by that of the reference in the same round, if the reference was measured.
    pub rate_ratio: Option<f64>,
    /// CPU time for a line, in microseconds.
    pub cpu: Option<f64>,
    /// The CPU time divided by that of the reference in the same round.
    pub cpu_ratio: Option<f64>,
}

/// The rows of a workload, in the order of [`super::servers::ALL`].
pub fn rows(runs: &[Run], workload: &Workload) -> Vec<Row> {
    let mut servers: Vec<&'static Server> = Vec::new();
    let runs: Vec<&Run> = runs
        .iter()
        .filter(|run| run.workload.name == workload.name)
        .collect();
    for server in super::servers::ALL {
        if runs.iter().any(|run| run.server.name == server.name) {
            servers.push(server);
        }
    }
    servers
        .into_iter()
        .filter_map(|server| row(&runs, server))
        .collect()
}

fn row(runs: &[&Run], server: &'static Server) -> Option<Row> {
    let own = || runs.iter().filter(|run| run.server.name == server.name);
    // Each run is compared with the reference in the same round, because other activity of the machine then
    // affected both.
    let pairs = || {
        own().filter_map(|run| {
            let same = |other: &&&Run| other.server.name == REFERENCE && other.round == run.round;
            Some((run, runs.iter().find(same)?))
        })
    };
    Some(Row {
        server,
        rate: median(own().map(|run| run.rate()))?,
        rate_ratio: median(pairs().map(|(run, other)| run.rate() / other.rate())),
        cpu: median(own().filter_map(|run| run.cpu_per_line())),
        cpu_ratio: median(
            pairs().filter_map(|(run, other)| Some(run.cpu_per_line()? / other.cpu_per_line()?)),
        ),
    })
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
