//! `forward`: a TCP port forwarder, which can add or remove TLS, with an optional rate limit.
//!
//! ```text
//! cargo run --release --example forward -- --listen 127.0.0.1:8080 --to example.org:80
//! curl -H 'Host: example.org' http://127.0.0.1:8080/      # in another terminal
//! cargo run --release --example forward -- --to localhost:8000 --rate 100000
//! ```
//!
//! It forwards bytes in both directions. It also forwards half-closes and resets. While one end does not take
//! its bytes, the program does not read from the other end (back-pressure). Each connection is logged when it
//! ends.
//!
//! `--tls-in` removes TLS in front of a server that has none. `--tls-out` adds it behind a client that has none. With
//! both, the program decrypts and encrypts again.
//!
//! ```text
//! cargo run --example test_certificate -- --out tls
//! cargo run --release --example forward -- --listen 127.0.0.1:5630 --to 127.0.0.1:1119 \
//!     --tls-in --tls-cert tls/cert.pem --tls-key tls/key.pem
//! openssl s_client -connect localhost:5630 -CAfile tls/ca.pem -quiet -verify_return_error
//! cargo run --release --example forward -- --listen 127.0.0.1:1120 --to localhost:5630 \
//!     --tls-out --tls-ca tls/ca.pem
//! nc -C 127.0.0.1 1120
//! ```
//!
//! A half-close becomes the announcement of TLS (`close_notify`), and the announcement a half-close. A stream that ends
//! without one may have been cut, so the other end is reset.
//!
//! Ctrl-C stops accepting, and lets the existing connections finish. A second Ctrl-C, or the end of
//! `--grace`, resets them. SIGTERM is like Ctrl-C. On Unix, SIGHUP reads the certificate of `--tls-cert` again, or does
//! nothing.
//!
//! Reading order: `proxy/mod.rs`, the proxy; `proxy/bucket.rs`, the rate limit.

#![allow(
    unreachable_pub,
    reason = "in a program, `pub` items are visible to the other modules only"
)]

#[path = "../common/certificate.rs"]
mod certificate;
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/descriptors.rs"]
mod descriptors;
mod proxy;
#[path = "../common/trust.rs"]
mod trust;

use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use asynchat::{Error, Result, proxy_protocol, tls};
use certificate::CertificateOptions;
use clap::{Parser, ValueEnum};
use proxy::Options;
use trust::TrustOptions;

/// Forwards TCP connections to another address.
///
/// At Ctrl-C or SIGTERM the program accepts no more, and ends when its connections have finished, at the latest after
/// --grace. A second signal ends it at once. SIGHUP reads the certificate again, if there is one.
#[derive(Parser)]
#[command(name = "forward")]
struct Args {
    /// The address to listen on; port 0 chooses a free port.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080")]
    listen: String,

    /// The address to forward to. A name is resolved for each connection.
    #[arg(long, value_name = "HOST:PORT")]
    to: String,

    /// The maximum rate in bytes a second, for each direction of each connection. Default: unlimited.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,

    /// Tell the target the address of the client, with the PROXY protocol of this version. Version 2
    /// also tells about the TLS of --tls-in.
    #[arg(long, value_name = "VERSION", value_enum)]
    send_proxy: Option<Version>,

    /// The maximum number of connections. Further ones are closed at once.
    #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..))]
    max_connections: u32,

    /// The idle timeout of a connection.
    #[arg(long, value_name = "SECONDS", default_value = "3600", value_parser = clap::value_parser!(u64).range(1..))]
    idle: u64,

    /// How long connections may continue after Ctrl-C.
    #[arg(long, value_name = "SECONDS", default_value = "30")]
    grace: u64,

    /// Accept TLS from the clients.
    #[arg(long, help_heading = "TLS", requires = "tls_cert")]
    tls_in: bool,

    #[command(flatten)]
    certificate: CertificateOptions,

    /// Connect to the target with TLS.
    #[arg(long = "tls-out", id = "tls", help_heading = "TLS")]
    tls_out: bool,

    #[command(flatten)]
    trust: TrustOptions,
}

#[derive(Clone, Copy, ValueEnum)]
enum Version {
    V1,
    V2,
}

fn main() -> ExitCode {
    let args = Args::parse();
    common::log_to_stderr("info");
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            common::print_to_stderr(format_args!("forward: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result {
    descriptors::raise_limit();
    let start = Instant::now();
    let listener = proxy::serve(
        &args.listen,
        Options {
            to: args.to.clone(),
            rate: args.rate,
            send_proxy: args.send_proxy.map(|version| match version {
                Version::V1 => proxy_protocol::Version::V1,
                Version::V2 => proxy_protocol::Version::V2,
            }),
            max_connections: args.max_connections as usize,
            idle: Duration::from_secs(args.idle),
            tls_in: args.acceptor()?,
            tls_out: args.tls_out.then(|| args.trust.client()).transpose()?,
            clock: Rc::new(move || start.elapsed()),
        },
    )?;
    let addr = listener.local_addr().ok_or("the listener has no address")?;
    let grace = Duration::from_secs(args.grace);
    asynchat::signal::shutdown_on_ctrl_c(grace)?;
    common::ignore_sighup_unless(args.certificate.is_given())?;
    common::announce(addr);
    asynchat::run()?;
    Ok(())
}

impl Args {
    fn acceptor(&self) -> Result<Option<tls::Acceptor>, Error> {
        // The protocol is that of the target, so its name (ALPN) is not known.
        let acceptor = self.certificate.acceptor(&[])?;
        if acceptor.is_some() && !self.tls_in {
            Err("--tls-cert is the certificate for --tls-in".into())
        } else {
            Ok(acceptor)
        }
    }
}
