//! One run: one server, one workload, a new process.

use std::process::Command;
use std::time::{Duration, Instant};

use asynchat::Result;

use super::client::Client;
use super::machine;
use super::process::Process;
use super::servers::Server;
use super::workload::Workload;

/// Where and how long.
pub struct Conditions {
    /// The server's core and the client's, where they can have one each.
    pub cores: Option<(usize, usize)>,
    pub warm_up: Duration,
    pub time: Duration,
}

pub struct Run {
    pub round: usize,
    pub server: &'static Server,
    pub workload: &'static Workload,
    /// Lines that came back. Not a whole number: the bytes are counted.
    pub lines: f64,
    pub seconds: f64,
    /// What the server used of its processor meanwhile, if the system tells.
    pub cpu_seconds: Option<f64>,
}

impl Run {
    pub fn rate(&self) -> f64 {
        self.lines / self.seconds
    }

    /// In microseconds.
    pub fn cpu_per_line(&self) -> Option<f64> {
        Some(self.cpu_seconds? * 1e6 / self.lines)
    }
}

/// Counts only between the warm-up and the last reply: starting and ending cost nothing.
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
    client.play(conditions.warm_up)?;
    let (cpu, start) = (machine::cpu_time(process.id()), Instant::now());
    let bytes = client.play(conditions.time)?;
    let (seconds, cpu_after) = (
        start.elapsed().as_secs_f64(),
        machine::cpu_time(process.id()),
    );
    client.finish()?;
    if bytes == 0 {
        return Err("not a byte came back in time".into());
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
