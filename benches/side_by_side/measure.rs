//! Measures one run: one server with one workload, in a new process.

use std::process::Command;
use std::time::{Duration, Instant};

use asynchat::Result;

use super::client::Client;
use super::machine;
use super::process::Process;
use super::servers::Server;
use super::workload::Workload;

/// The cores and the durations of all runs.
pub struct Conditions {
    /// The core of the server and the core of the client, if each can have one.
    pub cores: Option<(usize, usize)>,
    pub warm_up: Duration,
    pub time: Duration,
}

pub struct Run {
    pub round: usize,
    pub server: &'static Server,
    pub workload: &'static Workload,
    /// The received bytes divided by the length of a line.
    pub lines: f64,
    pub seconds: f64,
    /// The CPU time of the server during the run, if the system provides it.
    pub cpu_seconds: Option<f64>,
}

impl Run {
    pub fn rate(&self) -> f64 {
        self.lines / self.seconds
    }

    /// CPU time for a line, in microseconds.
    pub fn cpu_per_line(&self) -> Option<f64> {
        Some(self.cpu_seconds? * 1e6 / self.lines)
    }
}

/// Measures one run. The warm-up, the start and the end of the server are not included.
pub fn measure(
    round: usize,
    server: &'static Server,
    command: &mut Command,
    workload: &'static Workload,
    conditions: &Conditions,
) -> Result<Run> {
    let core = conditions.cores.map(|(server, _)| server);
    let process = Process::start(command, core)?;
    let mut client = Client::connect(process.addr, workload, core.is_some())?;
    client.run(conditions.warm_up)?;
    let (cpu, start) = (machine::cpu_time(process.id()), Instant::now());
    let bytes = client.run(conditions.time)?;
    let (seconds, cpu_after) = (
        start.elapsed().as_secs_f64(),
        machine::cpu_time(process.id()),
    );
    client.finish()?;
    if bytes == 0 {
        return Err("the client received nothing".into());
    }
    let used = cpu_after.zip(cpu).map(|(after, before)| after - before);
    Ok(Run {
        round,
        server,
        workload,
        lines: bytes as f64 / workload.line as f64,
        seconds,
        cpu_seconds: used.map(|used| used.as_secs_f64()),
    })
}
