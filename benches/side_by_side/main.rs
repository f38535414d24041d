//! This crate beside others: an echo of lines, on one thread each.
//!
//! ```text
//! cargo bench --bench side_by_side
//! cargo bench --bench side_by_side -- --quick
//! cargo bench --bench side_by_side -- --only asynchat --workload 1000,1,32 --workload 1000,16,32
//! cargo bench --bench side_by_side -- --help
//! ```
//!
//! Every server is a process of its own, this program again or a Python, on a core of its own
//! where that can be had. One client, here, on another core, checks every byte that comes back.
//! Within a round the servers take turns in an order of chance, so that whatever else the machine
//! does meets them alike. A wrong, missing or surplus reply ends it all, with exit code 1.
//!
//! What to look at, in this order: `servers/`, of which `async_chat.rs` is this crate's;
//! `workload.rs`, `client.rs`, `measure.rs`.

// In a program `pub` is what a module offers its neighbours.
#![allow(unreachable_pub)]

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

use asynchat::Result;
use clap::Parser;

use measure::{Conditions, Run};
use servers::Server;
use workload::Workload;

/// Compares servers that echo lines: this crate's, loops by hand on polling and on mio, tokio's,
/// and Python's. Prints a table, and writes it to a folder with a chart and the figures of all runs.
#[derive(Parser)]
#[command(bin_name = "cargo bench --bench side_by_side --")]
struct Args {
    /// Half a minute rather than two: fewer rounds, and shorter ones.
    #[arg(long)]
    quick: bool,
    /// No others than these.
    #[arg(long, value_name = "SERVER", value_parser = servers::names())]
    only: Vec<String>,
    /// Connections, lines in a barrage, bytes of a line with its CR LF (32 at least), in place of
    /// the usual workloads.
    #[arg(long, value_name = "N,N,N")]
    workload: Vec<Workload>,
    /// Where the files go [default: side_by_side in cargo's target folder].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Is one of the servers.
    #[arg(long, value_name = "NAME", hide = true)]
    serve: Option<String>,
    /// What `cargo bench` gives, and `cargo test --all-targets` does not.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result {
    let args = Args::parse();
    if let Some(name) = args.serve {
        return servers::serve(&name);
    }
    if !args.bench {
        println!("run by `cargo bench --bench side_by_side` only");
        return Ok(());
    }
    let conditions = Conditions {
        cores: machine::two_cores(),
        warm_up: Duration::from_millis(if args.quick { 50 } else { 100 }),
        time: Duration::from_millis(if args.quick { 150 } else { 500 }),
    };
    // Before this process is kept to one core, which is then all that it sees.
    let machine = machine::describe();
    if let Some((_, core)) = conditions.cores {
        machine::pin(None, core)?;
    }
    let (mut present, left_out) = present(&args.only)?;
    // For as long as the program runs.
    let workloads: &'static [Workload] = match args.workload {
        none if none.is_empty() => workload::usual().leak(),
        asked_for => asked_for.leak(),
    };
    let count = if args.quick { 3 } else { 5 };
    let runs = rounds(count, &mut present, workloads, &conditions)?;
    let out = args.out.unwrap_or_else(|| {
        // Its neighbour is `tmp`, which cargo makes for benchmarks.
        Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("side_by_side")
    });
    write(&out, &runs, workloads, &machine, &left_out).map_err(|error| error.context(out.display()))
}

/// A server and how to start it.
type Present = Vec<(&'static Server, Command)>;

/// The servers that are asked for and this machine can run, and the names of those it can not.
fn present(only: &[String]) -> Result<(Present, Vec<&'static str>)> {
    let (mut present, mut left_out) = (Vec::new(), Vec::new());
    let asked_for = |server: &&Server| only.is_empty() || only.iter().any(|it| it == server.name);
    for server in servers::ALL.iter().filter(asked_for) {
        match server.command()? {
            Some(command) => present.push((server, command)),
            None => left_out.push(server.name),
        }
    }
    Ok((present, left_out))
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
                runs.push(run.map_err(|error| error.context(during()))?);
            }
        }
    }
    Ok(runs)
}

/// The table goes to standard output too.
fn write(
    out: &Path,
    runs: &[Run],
    workloads: &[Workload],
    machine: &str,
    left_out: &[&str],
) -> Result {
    let table = report::markdown(runs, workloads, machine, left_out);
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
