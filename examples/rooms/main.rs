//! `rooms`: a chat server with rooms, for any client that sends lines.
//!
//! ```text
//! cargo run --release --example rooms
//! nc 127.0.0.1 7007          # in two other terminals
//! /nick ann
//! /join tea
//! hello, is anybody there?
//! ```
//!
//! `/help` tells the commands. Somebody who does not read what is said is dropped once `--backlog` bytes
//! wait for them: that is a line of the log, and nobody else notices. To see it, stop one of the
//! clients (Ctrl-Z) and have another say much: `yes 'tea is ready' | nc 127.0.0.1 7007`, after its
//! `/nick` and `/join`.
//!
//! What to look at, in this order: `house/mod.rs`, who is where; `house/member.rs`, one connection;
//! `house/command.rs`, what a line means.

// In a program `pub` is what a module offers its neighbours.
#![allow(unreachable_pub)]

#[path = "../common/mod.rs"]
mod common;
mod house;

use std::process::ExitCode;
use std::time::Duration;

use asynchat::Result;
use clap::Parser;
use house::Options;

/// Serves chat rooms.
#[derive(Parser)]
#[command(name = "rooms")]
struct Args {
    /// Where to listen; port 0 picks a free one.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7007")]
    listen: String,

    /// Bytes that may wait for somebody who does not read before they are dropped.
    #[arg(long, value_name = "BYTES", default_value = "262144")]
    backlog: usize,

    /// How many may be connected at a time.
    #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..))]
    max_connections: u32,

    /// Seconds after which somebody is dropped who neither says nor hears anything.
    #[arg(long, value_name = "SECONDS", default_value = "7200", value_parser = clap::value_parser!(u64).range(1..))]
    idle: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    common::log_to_stderr("info");
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rooms: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result {
    let listener = house::serve(
        &args.listen,
        Options {
            backlog: args.backlog,
            max_connections: args.max_connections as usize,
            idle: Duration::from_secs(args.idle),
        },
    )?;
    let addr = listener.local_addr().ok_or("the listener has no address")?;
    common::shutdown_on_ctrl_c(Duration::from_secs(5))?;
    common::announce(addr);
    asynchat::run()
}
