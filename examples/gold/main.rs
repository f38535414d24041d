//! `gold`: slow work off the loop and back. A server that turns buckets of water into gold.
//!
//! ```text
//! cargo run --release --example gold                        # a server on 127.0.0.1:7010
//! cargo run --release --example gold -- --try               # in another terminal: a client of it
//! ```
//!
//! The client sends eight buckets at once, and pings on a second connection meanwhile: it prints
//! the gold as it comes, and how long the slowest ping took. By hand:
//!
//! ```text
//! printf 'TURN 5\r\nwaterPING\r\nTURN 3\r\nseaQUIT\r\n' | nc 127.0.0.1 7010
//! ```
//!
//! | command | reply |
//! |---|---|
//! | `TURN n`, then n bytes | `250 gold` and 16 digits; `451` when the work failed; `552` when n is too much |
//! | `PING` | `200 pong` |
//! | `QUIT` | `221 bye`, when all the gold is out |
//!
//! The work is done on rayon's pool. `--mode` says what the connection does meanwhile:
//!
//! * `paused`: it is not read until its gold is out. The worker visits the session with
//!   [`Remote::post_to`](asynchat::Remote::post_to). A session that keeps its order by doing one thing
//!   at a time is the simplest there is.
//! * `pipelined`: it is read on, up to `--in-works` buckets, and these are worked on side by side.
//!   Each has its place in the queue of replies, a [`Promise`](asynchat::Promise). So the replies
//!   leave in the order of the requests, and a `PING` among them in its place.
//!
//! A client that leaves takes its work along: a bucket that was not begun never is, and one in the
//! works is given up after the round that it is in. But who is not read is not seen to leave: a
//! `paused` connection ends when its gold can not be sent, a `pipelined` one at once, unless it is
//! paused for having too many buckets. (A client that only stops sending has not left: it may
//! be waiting for its gold, and is served.)
//!
//! Ctrl-C waits up to five seconds for gold that has its place in a queue. For a `paused` connection
//! nothing is queued, so that is closed at once, and its work given up.
//!
//! What to look at: `session.rs` for the two modes, `furnace.rs` for the work, `client.rs` for the
//! client, which is made of the same parts.

mod client;
#[path = "../common/mod.rs"]
mod common;
mod furnace;
mod session;

use std::rc::Rc;
use std::time::Duration;

use asynchat::{Error, Result};
use clap::Parser;
use furnace::Furnace;
use session::{Alchemist, Mode, Terms};

/// Turns buckets of water into gold, on a pool of threads beside the loop.
///
/// Logs go to standard error; RUST_LOG=debug shows each bucket.
#[derive(Parser)]
#[command(name = "gold")]
struct Arguments {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7010")]
    listen: String,

    /// What a connection does while its bucket is in the works.
    #[arg(long, value_enum, default_value_t = Mode::Pipelined)]
    mode: Mode,

    /// How many buckets of one connection may be in the works, or waiting for their turn to be
    /// sent (pipelined).
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    in_works: u16,

    /// The largest bucket, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20)]
    bucket: usize,

    /// How often the water is stirred: some 50 microseconds each for a bucket of 64 KiB.
    #[arg(long, value_name = "N", default_value_t = 5000)]
    rounds: u32,

    /// How many threads work; 0 for one on each core.
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,

    /// Be a client instead, of the server there.
    #[arg(long = "try", value_name = "HOST:PORT", num_args = 0..=1,
          default_missing_value = "127.0.0.1:7010")]
    attempt: Option<String>,
}

fn main() {
    common::log_to_stderr("warn");
    let arguments = Arguments::parse();
    let outcome = match &arguments.attempt {
        Some(server) => client::attempt(server),
        None => serve(&arguments),
    };
    if let Err(error) = outcome {
        eprintln!("gold: {error}");
        std::process::exit(1);
    }
}

fn serve(arguments: &Arguments) -> Result {
    let furnace = Furnace::new(arguments.threads, arguments.rounds, furnace::stir)?;
    let terms = Rc::new(Terms {
        furnace,
        mode: arguments.mode,
        in_works: arguments.in_works.into(),
        bucket: arguments.bucket,
        remote: asynchat::remote()?,
    });
    let listener = asynchat::listen(&arguments.listen, move |chat| {
        Alchemist::new(chat, Rc::clone(&terms))
    })
    .map_err(|error: Error| error.context(format_args!("--listen {}", arguments.listen)))?;
    common::shutdown_on_ctrl_c(Duration::from_secs(5))?;
    if let Some(addr) = listener.local_addr() {
        common::announce(addr);
    }
    asynchat::run()
}
