//! `rooms`: a chat server with rooms. Any client that sends lines can use it.
//!
//! ```text
//! cargo run --release --example rooms
//! nc 127.0.0.1 7007          # in two other terminals
//! /nick ann
//! /join tea
//! hello, is anybody there?
//! ```
//!
//! `/help` lists the commands. The server disconnects a member who does not read, once `--backlog` bytes are
//! queued for them, and logs it. Other members are not delayed. To see this, stop one client (Ctrl-Z), and
//! send much text with another: `yes 'tea is ready' | nc 127.0.0.1 7007`, after its `/nick` and `/join`.
//!
//! Ctrl-C and SIGTERM end it, and a second signal ends it at once. SIGHUP does nothing.
//!
//! Reading order: `house/mod.rs`, the members and the rooms; `house/member.rs`, the handler of a
//! connection; `house/command.rs`, the parser of lines.

#![allow(
    unreachable_pub,
    reason = "in a program, `pub` items are visible to the other modules only"
)]

#[path = "../common/mod.rs"]
mod common;
mod house;

use std::process::ExitCode;
use std::time::Duration;

use asynchat::Result;
use clap::Parser;
use house::Options;

/// A chat server with rooms.
#[derive(Parser)]
#[command(name = "rooms", after_help = common::SIGNALS)]
struct Args {
    /// The address to listen on; port 0 chooses a free port.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7007")]
    listen: String,

    /// A member for whom more bytes than this are queued is disconnected.
    #[arg(long, value_name = "BYTES", default_value = "262144")]
    backlog: usize,

    /// The maximum number of connections.
    #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..))]
    max_connections: u32,

    /// The idle timeout of a connection.
    #[arg(long, value_name = "SECONDS", default_value = "7200", value_parser = clap::value_parser!(u64).range(1..))]
    idle: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    common::log_to_stderr("info");
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            common::print_to_stderr(format_args!("rooms: {error}"));
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
    asynchat::run()?;
    Ok(())
}
