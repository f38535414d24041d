//! `smtpd`: a mail server that stores each message in a maildir (RFC 5321). Use it
//! to test programs that send mail, or to receive mail.
//!
//! ```text
//! cargo run --release --example smtpd -- --maildir /tmp/mail
//! ```
//!
//! Send mail and read it from another terminal:
//!
//! ```text
//! swaks --server 127.0.0.1:2525 --to ann@localhost --pipeline
//! curl smtp://127.0.0.1:2525 --mail-from me@x --mail-rcpt ann@localhost -T letter.eml
//! smtp-source -s 20 -m 1000 -l 10240 -t ann@localhost inet:127.0.0.1:2525
//! mutt -f /tmp/mail
//! ```
//!
//! It corresponds to CPython's smtpd.py, which used asynchat. In addition, it
//! writes a message to the disk while it arrives, whatever its size; clients may
//! pipeline; and only CR LF ends a line (SMTP smuggling, CVE-2023-51764). It does
//! not relay mail, and it has no log-in.
//!
//! With a certificate, clients can use TLS: with STARTTLS (RFC 3207), or from the
//! beginning (RFC 8314). Make a certificate for tests, and try both:
//!
//! ```text
//! cargo run --release --example test_certificate -- --out /tmp/tls
//! cargo run --release --example smtpd -- --maildir /tmp/mail \
//!     --tls-cert /tmp/tls/cert.pem --tls-key /tmp/tls/key.pem --tls-listen 127.0.0.1:4650
//!
//! swaks --server 127.0.0.1:2525 --tls --to ann@localhost
//! swaks --server 127.0.0.1:4650 --tls-on-connect --to ann@localhost
//! openssl s_client -starttls smtp -connect 127.0.0.1:2525 -CAfile /tmp/tls/ca.pem -crlf
//! curl --cacert /tmp/tls/ca.pem smtps://localhost:4650 \
//!     --mail-from me@x --mail-rcpt ann@localhost -T letter.eml
//! ```
//!
//! On Unix, SIGHUP reads a renewed certificate; without one it does nothing. At Ctrl-C or SIGTERM the server ends when
//! its connections have finished, at the latest after `--grace`. A second signal ends it at once.
//!
//! Reading order:
//!
//! * this file: options, start and Ctrl-C; `../common/certificate.rs`: the options of TLS;
//! * `smtp/session.rs`: the handler, its two states, its terminators;
//! * `smtp/transfer.rs`: a streamed dot block, and a disk that becomes full in the
//!   middle of it;
//! * `smtp/workers.rs`: blocking work on threads, with a promise of each reply so
//!   that the replies stay in order;
//! * `smtp/command.rs`, `smtp/address.rs`: the parsers.

#[path = "../common/certificate.rs"]
mod certificate;
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/descriptors.rs"]
mod descriptors;
#[path = "../common/numbers.rs"]
mod numbers;
mod smtp;

use std::path::PathBuf;
use std::time::Duration;

use asynchat::Result;
use asynchat::proxy_protocol::Network;
use certificate::CertificateOptions;
use clap::Parser;
use clap::builder::RangedU64ValueParser;
use numbers::{count, seconds};
use smtp::{Options, Service, address};

/// A mail server that stores messages in a maildir (RFC 5321).
///
/// The log goes to standard error. RUST_LOG=debug adds connections and replies.
///
/// At Ctrl-C or SIGTERM the program accepts no more, and ends when its connections have finished, at the latest after
/// --grace. A second signal ends it at once. SIGHUP reads the certificate again, if there is one.
#[derive(Parser)]
#[command(version, name = "smtpd")]
struct Arguments {
    /// The address to listen on; port 0 chooses a free port.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:2525")]
    listen: String,

    /// Also listen on this address, with TLS from the beginning (RFC 8314). Connections to
    /// --listen can begin TLS with STARTTLS.
    #[arg(
        long,
        value_name = "HOST:PORT",
        requires = "tls_cert",
        help_heading = "TLS"
    )]
    tls_listen: Option<String>,

    /// The maildir for messages. It is created if it does not exist.
    #[arg(long, value_name = "DIR")]
    maildir: PathBuf,

    /// A domain to accept mail for (repeatable), or '*' for all domains. Mail to
    /// postmaster without a domain is always accepted.
    #[arg(long, value_name = "DOMAIN", value_parser = domain, default_value = "localhost")]
    domain: Vec<String>,

    /// The name of this server in greetings, Received lines and file names.
    #[arg(long, value_name = "NAME", value_parser = host, default_value = "localhost")]
    name: String,

    /// The maximum size of a message.
    #[arg(long, value_name = "OCTETS", default_value_t = 32 << 20,
          value_parser = clap::value_parser!(u64).range(1..))]
    max_size: u64,

    /// The maximum number of recipients of a message. RFC 5321 requires at least 100.
    #[arg(long, value_name = "N", default_value = "100",
          value_parser = RangedU64ValueParser::<usize>::new().range(100..1 << 32))]
    max_recipients: usize,

    /// How many connections are served at a time. Further ones get a 421 and are closed.
    /// The address of --tls-listen has a count of its own, and sends an alert of TLS instead.
    #[arg(long, value_name = "N", default_value = "1000", value_parser = count())]
    max_connections: usize,

    /// How many connections one address may have.
    #[arg(long, value_name = "N", default_value = "100", value_parser = count())]
    max_per_address: usize,

    /// Accept only connections of proxies in this network, which send the client's address
    /// with the PROXY protocol (repeatable): 10.0.0.0/8, ::1, unix:. A client whose TLS ends at
    /// the proxy counts as one with TLS, if the header says so (`send-proxy-v2-ssl` of haproxy).
    #[arg(long, value_name = "NETWORK")]
    proxy_protocol: Vec<Network>,

    /// The idle timeout of a connection. RFC 5321 requires at least 300.
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = seconds())]
    idle: u64,

    /// The time limit for receiving a message.
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = seconds())]
    message_time: u64,

    /// How long clients may still finish a message and read their replies after
    /// Ctrl-C.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds())]
    grace: u64,

    /// How many threads write to the disk.
    #[arg(long, alias = "couriers", value_name = "N", default_value = "4", value_parser = count())]
    workers: usize,

    /// Do not wait until a message is on the disk. This is faster, but a power
    /// failure can lose messages whose delivery was confirmed.
    #[arg(long)]
    no_fsync: bool,

    #[command(flatten)]
    certificate: CertificateOptions,
}

fn main() {
    common::log_to_stderr("info");
    if let Err(error) = run(Arguments::parse()) {
        common::print_to_stderr(format_args!("smtpd: {error}"));
        std::process::exit(1);
    }
}

fn run(arguments: Arguments) -> Result {
    descriptors::raise_limit();
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
        proxies: arguments.proxy_protocol,
        deadlines: defaults.deadlines.idle(Duration::from_secs(arguments.idle)),
        message_time: Duration::from_secs(arguments.message_time),
        workers: arguments.workers,
        fsync: !arguments.no_fsync,
        tls: arguments.certificate.acceptor(&["smtp", "esmtp"])?,
        ..defaults
    };
    let service =
        Service::open(&arguments.maildir, options).map_err(|error| error.context("--maildir"))?;
    let listener = service
        .serve(arguments.listen.as_str())
        .map_err(|error| error.context(format_args!("--listen {}", arguments.listen)))?;
    let with_tls = match &arguments.tls_listen {
        Some(address) => {
            let listener = service.serve_tls(address.as_str());
            Some(listener.map_err(|e| e.context(format_args!("--tls-listen {address}")))?)
        }
        None => None,
    };

    let grace = Duration::from_secs(arguments.grace);
    common::shutdown_but_not_at_sighup(grace)?;
    common::ignore_sighup_unless(arguments.certificate.is_given())?;

    common::announce(listener.local_addr().ok_or("the listener has no address")?);
    if let Some(address) = with_tls.and_then(|listener| listener.local_addr()) {
        common::say(format_args!("listening with TLS on {address}"));
    }
    common::run_until_signal()?;
    common::log_stopped()
}

fn domain(text: &str) -> Result<String, String> {
    if text == "*" {
        return Ok(text.to_owned());
    }
    host(text)
}

fn host(text: &str) -> Result<String, String> {
    if !address::is_host(text) {
        return Err("not a domain and not an address in [square brackets]".to_owned());
    }
    Ok(text.to_owned())
}
