//! Compares TLS servers: this crate, tokio with tokio-rustls, and three programs that terminate TLS before a server
//! without it (nginx, haproxy, stunnel) beside the same made with a pipe of this crate.
//!
//! ```text
//! cargo bench --package tls_bench
//! cargo bench --package tls_bench -- --rounds 3 --only asynchat --only tokio
//! ```
//!
//! Every server is a process of its own on one core. The client is in this process on another core, with the server
//! that is behind the terminators, and checks every byte. All have one certificate (ECDSA, P-256), and the client
//! insists on TLS 1.3, X25519 and TLS_AES_128_GCM_SHA256. The figure is the CPU time of the process, user and
//! system. The servers take turns within a round, and the table has the median of the rounds. Linux only.
//!
//! Reading order: `servers.rs`, `terminators.rs`, `client.rs`, `workload.rs`.

#![allow(
    unreachable_pub,
    reason = "in a program, `pub` items are visible to the other modules only"
)]

mod certificate;
mod client;
#[path = "../side_by_side/machine.rs"]
mod machine;
#[path = "../side_by_side/process.rs"]
#[allow(dead_code, reason = "it belongs to another bench")]
mod process;
mod report;
mod servers;
mod terminators;
mod workload;

use asynchat::{Error, Result};
use clap::Parser;

use certificate::Files;
use report::Figure;
use servers::Running;

/// Compares the CPU time of TLS servers.
#[derive(Parser)]
#[command(bin_name = "cargo bench --package tls_bench --")]
struct Args {
    /// How often each server runs each workload.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Run only this server (repeatable).
    #[arg(long, value_name = "SERVER", value_parser = servers::NAMES)]
    only: Vec<String>,
    /// Run as this server.
    #[arg(long, value_name = "NAME", hide = true)]
    serve: Option<String>,
    /// The folder with the certificate, or the address of the server without TLS.
    #[arg(long, hide = true)]
    with: Vec<String>,
    /// `cargo bench` passes this option, and `cargo test --all-targets` does not.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result {
    let args = Args::parse();
    if let Some(name) = args.serve {
        return servers::serve(&name, &args.with);
    }
    if !args.bench {
        println!("use `cargo bench --package tls_bench`");
        return Ok(());
    }
    let machine = machine::describe();
    let cores = machine::two_cores();
    if let Some((_, core)) = cores {
        machine::pin(None, core)?;
    }
    let files = Files::make()?;
    let is_selected = |name: &&str| args.only.is_empty() || args.only.iter().any(|it| it == name);
    let mut names: Vec<_> = servers::NAMES.into_iter().filter(is_selected).collect();
    names.retain(|name| servers::is_present(name));
    let mut figures = Vec::new();
    for round in 0..args.rounds {
        eprintln!("round {} of {}", round + 1, args.rounds);
        fastrand::shuffle(&mut names);
        for name in &names {
            let running = Running::start(name, &files, cores.map(|(server, _)| server))?;
            for workload in workload::ALL {
                let figure = workload.measure(&running, &files);
                let context = || format!("{name}, {}", workload.name());
                let figure = figure.map_err(|error| Error::new(error).context(context()))?;
                figures.push(Figure {
                    round,
                    server: name,
                    workload: *workload,
                    micros: figure,
                });
            }
        }
    }
    report::print(&figures, &machine);
    Ok(())
}
