//! `smtpd`: a mail server that keeps what it is sent (RFC 5321), for testing
//! what sends mail, or as the last station of some.
//!
//! ```text
//! cargo run --release --example smtpd -- --maildir /tmp/mail
//! ```
//!
//! Then, in another window, one of
//!
//! ```text
//! swaks --server 127.0.0.1:2525 --to ann@localhost --pipeline
//! curl smtp://127.0.0.1:2525 --mail-from me@x --mail-rcpt ann@localhost -T letter.eml
//! smtp-source -s 20 -m 1000 -l 10240 -t ann@localhost inet:127.0.0.1:2525
//! mutt -f /tmp/mail
//! ```
//!
//! It is what CPython's smtpd.py, on asynchat, was made for, with what that
//! never had: messages of any size are written as they come and are not held in
//! memory, clients may pipeline, and only CR LF ends a line (SMTP smuggling,
//! CVE-2023-51764). It relays nothing. There is no TLS and there are no
//! passwords here.
//!
//! What to look at, in this order:
//!
//! * this file: options, start and Ctrl-C;
//! * `smtp/session.rs`: the handler, its two states, its terminators;
//! * `smtp/transfer.rs`: a streamed dot block, and what to do when the disk is
//!   full in the middle of one;
//! * `smtp/courier.rs`: slow work on threads, and replies that still come in
//!   order: the queue's producers are made for it;
//! * `smtp/command.rs`, `smtp/address.rs`: the protocol's language.

#[path = "../common/mod.rs"]
mod common;
mod smtp;

use std::path::PathBuf;
use std::time::Duration;

use asynchat::{EventLoop, Result};
use clap::Parser;
use clap::builder::RangedU64ValueParser;
use smtp::{Options, Service, address};
use tracing::info;

/// A mail server that keeps what it is sent, in a maildir (RFC 5321).
///
/// Logs go to standard error; RUST_LOG=debug shows who comes, goes and is refused.
#[derive(Parser)]
#[command(version, name = "smtpd")]
struct Arguments {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:2525")]
    listen: String,

    /// Where messages go; made if it is not there.
    #[arg(long, value_name = "DIR")]
    maildir: PathBuf,

    /// A domain whose mail is taken (repeatable), or '*' for all of them.
    /// To postmaster without a domain it always is.
    #[arg(long, value_name = "DOMAIN", value_parser = domain, default_value = "localhost")]
    domain: Vec<String>,

    /// The name of this server in greetings, Received lines and file names.
    #[arg(long, value_name = "NAME", value_parser = host, default_value = "localhost")]
    name: String,

    /// Octets of the longest message taken.
    #[arg(long, value_name = "OCTETS", default_value_t = 32 << 20,
          value_parser = clap::value_parser!(u64).range(1..))]
    max_size: u64,

    /// Recipients that a message may have. RFC 5321 wants 100 at least.
    #[arg(long, value_name = "N", default_value = "100",
          value_parser = RangedU64ValueParser::<usize>::new().range(100..1 << 32))]
    max_recipients: usize,

    /// How many clients are served at a time; one more hears 421 and is closed.
    #[arg(long, value_name = "N", default_value = "1000", value_parser = count())]
    max_connections: usize,

    /// How many of them come from one address.
    #[arg(long, value_name = "N", default_value = "100", value_parser = count())]
    max_per_address: usize,

    /// How long a client may be silent. RFC 5321 wants 300 at least.
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = seconds())]
    idle: u64,

    /// How long a message may take to come in.
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = seconds())]
    message_time: u64,

    /// How long clients are given after Ctrl-C to finish a message and to take
    /// the rest of their replies.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds())]
    grace: u64,

    /// Threads that wait for the disk.
    #[arg(long, value_name = "N", default_value = "4", value_parser = count())]
    couriers: usize,

    /// Do not wait for the disk: faster, but a power cut loses messages that
    /// their senders believe delivered.
    #[arg(long)]
    no_fsync: bool,
}

fn main() {
    common::log_to_stderr("info");
    if let Err(error) = run(Arguments::parse()) {
        eprintln!("smtpd: {error}");
        std::process::exit(1);
    }
}

fn run(arguments: Arguments) -> Result {
    let defaults = Options::default();
    let options = Options {
        name: arguments.name,
        domains: arguments.domain,
        max_size: arguments.max_size,
        max_recipients: arguments.max_recipients,
        limits: defaults
            .limits
            .connections(arguments.max_connections)
            .per_address(arguments.max_per_address),
        deadlines: defaults.deadlines.idle(Duration::from_secs(arguments.idle)),
        message_time: Duration::from_secs(arguments.message_time),
        couriers: arguments.couriers,
        fsync: !arguments.no_fsync,
        ..defaults
    };
    let service =
        Service::open(&arguments.maildir, options).map_err(|error| error.context("--maildir"))?;
    let listener = service
        .serve(arguments.listen.as_str())
        .map_err(|error| error.context(format_args!("--listen {}", arguments.listen)))?;

    common::shutdown_on_ctrl_c(Duration::from_secs(arguments.grace))?;

    let address = listener.local_addr().ok_or("the listener has no address")?;
    common::announce(address);
    asynchat::run()?;
    let stats = EventLoop::current()?.stats();
    info!(stats.accepted, stats.refused, closes = ?stats.closes, "stopped");
    Ok(())
}

fn domain(text: &str) -> Result<String, String> {
    if text == "*" {
        return Ok(text.to_owned());
    }
    host(text)
}

fn host(text: &str) -> Result<String, String> {
    if !address::is_host(text) {
        return Err("it is neither a domain nor an address in [square brackets]".to_owned());
    }
    Ok(text.to_owned())
}

fn count() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..1 << 32)
}

/// A zero would close a connection before its first octet.
fn seconds() -> RangedU64ValueParser {
    RangedU64ValueParser::new().range(1..1 << 32)
}
