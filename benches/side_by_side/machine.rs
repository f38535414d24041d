//! The machine: its cores, its CPU clock and its description. All code that depends on the operating system
//! is in this file.

use std::process::Command;
use std::time::Duration;

pub use system::{cpu_time, pin, two_cores};

/// A description of the machine in one line, for the report.
pub fn describe() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let rustc = output_of("rustc", &["--version"]).unwrap_or_else(|| "rustc unknown".into());
    let system = system::describe();
    format!("{system}, {cores} cores, {rustc}")
}

/// The output of a program, if the program exists and succeeds.
pub fn output_of(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

#[cfg(target_os = "linux")]
mod system {
    use super::Duration;
    use std::fs;

    use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};

    /// The first two cores that this process may use.
    pub fn two_cores() -> Option<(usize, usize)> {
        let allowed = sched_getaffinity(None).ok()?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
        Some((cores.next()?, cores.next()?))
    }

    /// Pins a process to a core. `None` means this thread.
    pub fn pin(process: Option<u32>, core: usize) -> std::io::Result<()> {
        let process = process.and_then(|id| Pid::from_raw(id.cast_signed()));
        let mut set = CpuSet::new();
        set.set(core);
        Ok(sched_setaffinity(process, &set)?)
    }

    /// The CPU time of all threads of a process. `schedstat` has nanoseconds, and `/proc/PID/stat` only has
    /// hundredths of a second.
    pub fn cpu_time(process: u32) -> Option<Duration> {
        let mut nanoseconds = 0;
        for thread in fs::read_dir(format!("/proc/{process}/task")).ok()? {
            let figures = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
            let figure = figures.split(' ').next()?;
            nanoseconds += figure.parse::<u64>().ok()?;
        }
        Some(Duration::from_nanos(nanoseconds))
    }

    pub fn describe() -> String {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or(std::env::consts::ARCH, |(_, model)| model);
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        format!("{model}, Linux {}", kernel.trim())
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::Duration;
    use std::env::consts;

    /// Processes cannot be pinned here, so no cores are chosen.
    pub fn two_cores() -> Option<(usize, usize)> {
        None
    }

    pub fn pin(_process: Option<u32>, _core: usize) -> std::io::Result<()> {
        Ok(())
    }

    pub fn cpu_time(_process: u32) -> Option<Duration> {
        None
    }

    pub fn describe() -> String {
        format!("{}, {}", consts::ARCH, consts::OS)
    }
}
