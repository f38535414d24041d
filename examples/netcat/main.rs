//! Connects this terminal, or a pipeline, to a TCP server: it sends standard input, and writes the replies to
//! standard output.
//!
//! ```text
//! cargo run --release --example netcat -- 127.0.0.1:7007
//! printf 'HELP\r\n' | cargo run --release --example netcat -- 127.0.0.1:1119
//! printf 'QUIT\r\n' | cargo run --release --example netcat -- --tls news.example.org:563
//! ```
//!
//! Standard input and output may be a terminal, a pipe, a file or `/dev/null`. At the end of the input
//! (Ctrl-D), netcat half-closes the connection, and ends when the server has closed it. If the server
//! half-closes first, it may still read, so netcat continues to send until its input ends or has been idle for
//! a second (`--quiet`).
//!
//! With `--tls` the certificate of the server is checked against those that the system trusts, or against those of
//! a file (`--tls-ca`). The end of the input is announced (`close_notify`). In TLS 1.3 the server may continue to
//! send after that, as in TCP. A server of TLS 1.2 answers the announcement by closing, and may drop what it has not
//! sent (RFC 5246 section 7.2.1). If the server closes without an announcement, everything that was received is
//! written, and the exit status is 1, because somebody else may have cut the stream. It is also 1 when the handshake
//! fails. To try it:
//!
//! ```text
//! cargo run --example test_certificate -- --out tls
//! openssl s_server -accept 127.0.0.1:4433 -cert tls/cert.pem -key tls/key.pem -quiet
//! cargo run --release --example netcat -- --tls --tls-ca tls/ca.pem localhost:4433
//! ```
//!
//! Reading order: this file; `ends.rs`, the handlers; `any_certificate.rs`, TLS without a check.

#![allow(
    unreachable_pub,
    reason = "in a program, `pub` items are visible to the other modules only"
)]

mod any_certificate;
#[path = "../common/mod.rs"]
mod common;
mod ends;
#[path = "../common/trust.rs"]
mod trust;

use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use asynchat::{Connector, Error, Result, Socket, tls};
use clap::Parser;
use ends::{Failure, Server, Terminal};
use trust::TrustOptions;

/// Connects standard input and output to a TCP server.
#[derive(Parser)]
#[command(name = "netcat")]
struct Args {
    /// The address of the server.
    #[arg(value_name = "HOST:PORT")]
    server: String,

    /// The connect timeout, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    wait: u64,

    /// After the server has finished sending: how long the input may be idle, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 1)]
    quiet: u64,

    /// Connect with TLS.
    #[arg(long, help_heading = "TLS")]
    tls: bool,

    #[command(flatten)]
    trust: TrustOptions,

    /// Accept any certificate. Somebody on the way can then read and change everything.
    #[arg(
        long,
        requires = "tls",
        conflicts_with = "tls_ca",
        help_heading = "TLS"
    )]
    tls_insecure: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    common::log_to_stderr("warn");
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("netcat: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result {
    let failure = Failure::default();
    let mut connector =
        Connector::new(&args.server).connect_timeout(Duration::from_secs(args.wait));
    if args.tls {
        connector = connector.tls(client(args)?);
    }
    let (name, quiet) = (args.server.clone(), Duration::from_secs(args.quiet));
    let shared = Rc::clone(&failure);
    let server = connector.connect(move |chat| Server::new(chat, name, quiet, shared))?;
    let shared = Rc::clone(&failure);
    let terminal = Connector::adopt(standard_streams()?).connect(|_| Terminal(shared))?;
    asynchat::pipe(&terminal, &server)?;
    common::shutdown_on_ctrl_c(Duration::ZERO)?;
    asynchat::run()?;
    match failure.take() {
        Some(why) => Err(why.into()),
        None => Ok(()),
    }
}

fn client(args: &Args) -> Result<tls::Client, Error> {
    if !args.tls_insecure {
        return args.trust.client();
    }
    eprintln!("netcat: the certificate of the server is not checked (--tls-insecure)");
    let client = any_certificate::client().map_err(Error::new)?;
    Ok(args.trust.named(client))
}

#[cfg(unix)]
fn standard_streams() -> Result<Socket> {
    Ok(Socket::stdio()?)
}

#[cfg(not(unix))]
fn standard_streams() -> Result<Socket> {
    Err("this program runs on Unix only: on other systems standard input cannot be polled".into())
}
