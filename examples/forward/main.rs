//! `forward`: a TCP port forwarder that can throttle.
//!
//! ```text
//! cargo run --release --example forward -- --listen 127.0.0.1:8080 --to example.org:80
//! curl -H 'Host: example.org' http://127.0.0.1:8080/      # in another terminal
//! cargo run --release --example forward -- --to localhost:8000 --rate 100000
//! ```
//!
//! What comes from the client goes to the target, and back, as bytes: half-closes and resets go through,
//! and who does not read holds the other up. One line of the log for each connection, when it ends.
//!
//! Ctrl-C stops accepting and lets the connections there are come to their end; a second one, or the end
//! of `--grace`, resets them.
//!
//! What to look at: `proxy/mod.rs`, the proxy; `proxy/bucket.rs`, how much passes in what time.

// In a program `pub` is what a module offers its neighbours.
#![allow(unreachable_pub)]

#[path = "../common/mod.rs"]
mod common;
mod proxy;

use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use asynchat::Result;
use clap::Parser;
use proxy::Options;

/// Forwards TCP connections to another address.
#[derive(Parser)]
#[command(name = "forward")]
struct Args {
    /// Where to listen; port 0 picks a free one.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080")]
    listen: String,

    /// Where to forward to; a name is looked up for each connection.
    #[arg(long, value_name = "HOST:PORT")]
    to: String,

    /// The most that passes in a second, for each connection and each way. Default: no bound.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,

    /// How many connections there may be at a time; more are closed at once.
    #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..))]
    max_connections: u32,

    /// Seconds after which a connection is closed on which nothing moves.
    #[arg(long, value_name = "SECONDS", default_value = "3600", value_parser = clap::value_parser!(u64).range(1..))]
    idle: u64,

    /// Seconds that connections have to end after Ctrl-C.
    #[arg(long, value_name = "SECONDS", default_value = "30")]
    grace: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    common::log_to_stderr("info");
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("forward: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result {
    let start = Instant::now();
    let listener = proxy::serve(
        &args.listen,
        Options {
            to: args.to,
            rate: args.rate,
            max_connections: args.max_connections as usize,
            idle: Duration::from_secs(args.idle),
            clock: Rc::new(move || start.elapsed()),
        },
    )?;
    let addr = listener.local_addr().ok_or("the listener has no address")?;
    common::shutdown_on_ctrl_c(Duration::from_secs(args.grace))?;
    common::announce(addr);
    asynchat::run()
}
