//! `gold`: slow work on other threads. The server turns buckets of water into gold, which takes CPU time.
//!
//! ```text
//! cargo run --release --example gold                        # a server on 127.0.0.1:7010
//! cargo run --release --example gold -- --try               # in another terminal: its client
//! ```
//!
//! The client sends eight buckets at once, and pings on a second connection. It prints each reply when it
//! arrives, and the latency of the slowest ping. By hand:
//!
//! ```text
//! printf 'TURN 5\r\nwaterPING\r\nTURN 3\r\nseaQUIT\r\n' | nc 127.0.0.1 7010
//! ```
//!
//! | command | reply |
//! |---|---|
//! | `TURN n`, then n bytes | `250 gold` and 16 digits; `451` if the work failed; `552` if n is too large |
//! | `PING` | `200 pong` |
//! | `QUIT` | `221 bye`, after all earlier replies |
//!
//! The work runs on rayon's thread pool. `--mode` selects what the connection does during the work:
//!
//! * `paused`: the connection is not read until the reply has been queued. The worker calls the session
//!   with [`Remote::post_to`](asynchat::Remote::post_to). This is the simplest way: a session that handles
//!   one request at a time replies in order.
//! * `pipelined`: the connection is read until `--max-pending` replies are pending, and the work on its
//!   buckets runs in parallel. A [`Promise`](asynchat::Promise) reserves the position of each reply in the
//!   output queue. So the replies are sent in the order of the requests, including those to `PING`.
//!
//! When a client disconnects, its work is cancelled: a bucket that was not started is dropped, and one that
//! was started is dropped after its current round. The loop notices a disconnection only while it reads or
//! writes. It notices that of a `paused` connection when the reply cannot be sent, and that of a
//! `pipelined` connection at once, unless reading is paused because of `--max-pending`. (A client that
//! only half-closes has not disconnected. It still gets its replies.)
//!
//! Ctrl-C waits up to five seconds for pending replies in a queue. A `paused` connection has no pending
//! reply in its queue, so it is closed at once, and its work is cancelled.
//!
//! Ctrl-C and SIGTERM end it, and a second signal ends it at once. SIGHUP does nothing.
//!
//! Reading order: `session.rs`, the two modes; `furnace.rs`, the work; `client.rs`, the client.

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
use session::{Mode, Service, Session};

/// Turns buckets of water into gold on a thread pool.
///
/// The log goes to standard error. RUST_LOG=debug adds cancelled work.
#[derive(Parser)]
#[command(name = "gold", after_help = common::SIGNALS)]
struct Arguments {
    /// The address to listen on; port 0 chooses a free port.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7010")]
    listen: String,

    /// What a connection does while its bucket is being worked on.
    #[arg(long, value_enum, default_value_t = Mode::Pipelined)]
    mode: Mode,

    /// How many replies to TURN may be pending on one connection (pipelined).
    #[arg(long, alias = "in-works", value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    max_pending: u16,

    /// The maximum size of a bucket.
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20)]
    bucket: usize,

    /// How many rounds the work on a bucket has. A round takes about 50 microseconds for 64 KiB.
    #[arg(long, value_name = "N", default_value_t = 5000)]
    rounds: u32,

    /// How many threads the pool has; 0 for one on each core.
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,

    /// Run as a client of this server.
    #[arg(long = "try", value_name = "HOST:PORT", num_args = 0..=1,
          default_missing_value = "127.0.0.1:7010")]
    attempt: Option<String>,
}

fn main() {
    common::log_to_stderr("warn");
    let arguments = Arguments::parse();
    let outcome = match &arguments.attempt {
        Some(server) => client::run(server),
        None => serve(&arguments),
    };
    if let Err(error) = outcome {
        common::print_to_stderr(format_args!("gold: {error}"));
        std::process::exit(1);
    }
}

fn serve(arguments: &Arguments) -> Result {
    let furnace = Furnace::new(arguments.threads, arguments.rounds, furnace::stir)?;
    let service = Rc::new(Service {
        furnace,
        mode: arguments.mode,
        max_pending: arguments.max_pending.into(),
        bucket: arguments.bucket,
        remote: asynchat::remote()?,
    });
    let listener = asynchat::listen(&arguments.listen, move |chat| {
        Session::new(chat, Rc::clone(&service))
    })
    .map_err(|error: Error| error.context(format_args!("--listen {}", arguments.listen)))?;
    common::shutdown_on_ctrl_c(Duration::from_secs(5))?;
    if let Some(addr) = listener.local_addr() {
        common::announce(addr);
    }
    asynchat::run()?;
    Ok(())
}
