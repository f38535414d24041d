//! Connects this terminal, or a pipeline, to a TCP server: it sends standard input, and writes the replies to
//! standard output. With `--listen` it waits for one client instead.
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
//! A file from one host to another, encrypted:
//!
//! ```text
//! netcat --listen 127.0.0.1:4433 --tls-cert tls/cert.pem --tls-key tls/key.pem >copy
//! netcat --tls --tls-ca tls/ca.pem localhost:4433 <file
//! ```
//!
//! Reading order: this file; `ends.rs`, the handlers; `any_certificate.rs`, TLS without a check.

#![allow(
    unreachable_pub,
    reason = "in a program, `pub` items are visible to the other modules only"
)]

mod any_certificate;
#[path = "../common/certificate.rs"]
mod certificate;
#[path = "../common/mod.rs"]
mod common;
mod ends;
#[path = "../common/trust.rs"]
mod trust;

use std::cell::OnceCell;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use asynchat::{Channel, Connector, Error, Result, Server, Socket, tls};
use certificate::CertificateOptions;
use clap::Parser;
use ends::{Failure, Peer, Terminal};
use trust::TrustOptions;

/// Connects standard input and output to a TCP server, or to a client.
#[derive(Parser)]
#[command(name = "netcat")]
struct Args {
    /// The address of the server, or the address to listen on.
    #[arg(value_name = "HOST:PORT")]
    address: String,

    /// Wait for one client instead. Its connection uses TLS if there is a certificate.
    #[arg(long)]
    listen: bool,

    /// The connect timeout, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    wait: u64,

    /// After the peer has finished sending: how long the input may be idle, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 1)]
    quiet: u64,

    /// Connect with TLS.
    #[arg(long, conflicts_with = "listen", help_heading = "TLS")]
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

    #[command(flatten)]
    certificate: CertificateOptions,
}

fn main() -> ExitCode {
    let args = Args::parse();
    common::log_to_stderr("warn");
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            common::print_to_stderr(format_args!("netcat: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result {
    let failure = Failure::default();
    if args.listen {
        listen(args, &failure)?;
    } else {
        connect(args, &failure)?;
    }
    asynchat::signal::shutdown_on_ctrl_c(Duration::ZERO)?;
    asynchat::run()?;
    match failure.take() {
        Some(why) => Err(why.into()),
        None => Ok(()),
    }
}

fn connect(args: &Args, failure: &Failure) -> Result {
    let mut connector =
        Connector::new(&args.address).connect_timeout(Duration::from_secs(args.wait));
    if args.tls {
        connector = connector.tls(client(args)?);
    }
    if args.certificate.acceptor(&[])?.is_some() {
        return Err("--tls-cert is the certificate for --listen".into());
    }
    let (name, quiet) = (args.address.clone(), Duration::from_secs(args.quiet));
    let shared = Rc::clone(failure);
    let peer = connector.connect(move |chat| Peer::new(chat, name, quiet, shared))?;
    let shared = Rc::clone(failure);
    let terminal = Connector::adopt(Socket::stdio()?).connect(|_| Terminal(shared))?;
    asynchat::pipe(&terminal, &peer)?;
    Ok(())
}

/// A client that completes no handshake is not the one that is waited for.
fn listen(args: &Args, failure: &Failure) -> Result {
    let mut server = Server::new(&args.address);
    if let Some(acceptor) = args.certificate.acceptor(&[])? {
        server = server.tls(acceptor);
    }
    let (failure, quiet) = (Rc::clone(failure), Duration::from_secs(args.quiet));
    let mut streams = Some(Socket::stdio()?);
    let listening: Rc<OnceCell<Channel>> = Rc::default();
    let listener = Rc::clone(&listening);
    let accepting = server.listen(move |chat| {
        let streams = streams.take().ok_or("another client is connected")?;
        listener.get().inspect(|listener| listener.close());
        let name = chat
            .peer_addr()
            .map_or_else(String::new, |addr| addr.to_string());
        let shared = Rc::clone(&failure);
        let terminal = Connector::adopt(streams).connect(|_| Terminal(shared))?;
        asynchat::pipe(&terminal, &chat)?;
        Ok(Peer::new(chat, name, quiet, Rc::clone(&failure)))
    })?;
    let addr = accepting
        .local_addr()
        .ok_or("the listener has no address")?;
    // Standard output is for what the client sends.
    common::print_to_stderr(format_args!("netcat: listening on {addr}"));
    let _ = listening.set(accepting);
    Ok(())
}

fn client(args: &Args) -> Result<tls::Client, Error> {
    if !args.tls_insecure {
        return args.trust.client();
    }
    common::print_to_stderr(format_args!(
        "netcat: the certificate of the server is not checked (--tls-insecure)"
    ));
    let client = any_certificate::client().map_err(Error::new)?;
    Ok(args.trust.named(client))
}
