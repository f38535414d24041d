//! Compares this crate with others. Each server echoes lines on one thread.
//!
//! ```text
//! cargo bench --bench side_by_side
//! cargo bench --bench side_by_side -- --quick
//! cargo bench --bench side_by_side -- --only asynchat --workload 1000,1,32 --workload 1000,16,32
//! cargo bench --bench side_by_side -- --help
//! ```
//!
//! Each server is a separate process: this program with `--serve`, or a Python script. If the system allows
//! it, the server and the client have one core each. The client is in this process and checks every byte. In
//! each round the servers run in random order, so that other activity of the machine affects all of them
//! equally. A wrong, missing or surplus reply ends the program with exit code 1.
//!
//! Reading order: `servers/`, where `async_chat.rs` uses this crate; `workload.rs`, `client.rs`,
//! `measure.rs`.

#![allow(
    unreachable_pub,
    reason = "in a program, `pub` items are visible to the other modules only"
)]

mod chart;
mod client;
mod machine;
mod measure;
mod process;
mod report;
mod servers;
mod summary;
mod workload;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use asynchat::{Error, Result};
use clap::Parser;

use measure::{Conditions, Run};
use servers::Server;
use workload::Workload;

/// Compares servers that echo lines: this crate, hand-written loops on epoll, polling and mio,
/// tokio, and Python. Prints a table, and writes it to a folder with a chart and the figures of
/// all runs.
#[derive(Parser)]
#[command(bin_name = "cargo bench --bench side_by_side --")]
struct Args {
    /// Run fewer and shorter rounds: half a minute instead of two minutes.
    #[arg(long)]
    quick: bool,
    /// Run only this server (repeatable).
    #[arg(long, value_name = "SERVER", value_parser = servers::names())]
    only: Vec<String>,
    /// A workload instead of the default ones (repeatable): the number of connections, the lines in
    /// a barrage, the bytes of a line with its CR LF (at least 32).
    #[arg(long, value_name = "N,N,N")]
    workload: Vec<Workload>,
    /// The folder for the files [default: side_by_side in cargo's target folder].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Run as this server.
    #[arg(long, value_name = "NAME", hide = true)]
    serve: Option<String>,
    /// `cargo bench` passes this option, and `cargo test --all-targets` does not.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result {
    let args = Args::parse();
    if let Some(name) = args.serve {
        return servers::serve(&name);
    }
    if !args.bench {
        println!("use `cargo bench --bench side_by_side`");
        return Ok(());
    }
    let conditions = Conditions {
        cores: machine::two_cores(),
        warm_up: Duration::from_millis(if args.quick { 50 } else { 100 }),
        time: Duration::from_millis(if args.quick { 150 } else { 500 }),
    };
    // This precedes the pinning: a pinned process sees one core only.
    let machine = machine::describe();
    if let Some((_, core)) = conditions.cores {
        machine::pin(None, core)?;
    }
    let (mut present, missing) = find_servers(&args.only)?;
    // The workloads are used until the program ends.
    let workloads: &'static [Workload] = match args.workload {
        none if none.is_empty() => workload::default_workloads().leak(),
        selected => selected.leak(),
    };
    let count = if args.quick { 3 } else { 5 };
    let runs = rounds(count, &mut present, workloads, &conditions)?;
    let out = args.out.unwrap_or_else(|| {
        // Cargo's folder `tmp` for benchmarks is in the target folder.
        Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("side_by_side")
    });
    write(&out, &runs, workloads, &machine, &missing)
        .map_err(|error| Error::new(error).context(out.display()).into())
}

/// A server and how to start it.
type Present = Vec<(&'static Server, Command)>;

/// The selected servers that this machine can run, and the names of those that it cannot run.
fn find_servers(only: &[String]) -> Result<(Present, Vec<&'static str>)> {
    let (mut present, mut missing) = (Vec::new(), Vec::new());
    let is_selected = |server: &&Server| only.is_empty() || only.iter().any(|it| it == server.name);
    for server in servers::ALL.iter().filter(is_selected) {
        match server.command()? {
            Some(command) => present.push((server, command)),
            None => missing.push(server.name),
        }
    }
    Ok((present, missing))
}

fn rounds(
    count: usize,
    present: &mut Present,
    workloads: &'static [Workload],
    conditions: &Conditions,
) -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    for round in 0..count {
        eprintln!("round {} of {count}", round + 1);
        for workload in workloads {
            fastrand::shuffle(present);
            for (server, command) in &mut *present {
                let run = measure::measure(round, server, command, workload, conditions);
                let during = || format!("{}, {}", server.name, workload.name);
                runs.push(run.map_err(|error| Error::new(error).context(during()))?);
            }
        }
    }
    Ok(runs)
}

/// Prints the table and writes the files.
fn write(
    out: &Path,
    runs: &[Run],
    workloads: &[Workload],
    machine: &str,
    missing: &[&str],
) -> Result {
    let table = report::markdown(runs, workloads, machine, missing);
    println!("{table}");
    fs::create_dir_all(out)?;
    fs::write(out.join("side_by_side.md"), &table)?;
    fs::write(out.join("side_by_side.csv"), report::csv(runs, machine))?;
    fs::write(
        out.join("side_by_side.svg"),
        chart::svg(runs, workloads, machine),
    )?;
    eprintln!(
        "written: side_by_side.md, .csv and .svg in {}",
        out.display()
    );
    Ok(())
}
