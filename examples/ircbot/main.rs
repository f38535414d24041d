//! `ircbot`: a bot that joins IRC channels, answers questions, and reconnects.
//!
//! ```text
//! cargo run --release --example ircbot -- \
//!     --tls --server irc.example.org:6697 --nick robin --channel '#birds' --channel '#test'
//! ```
//!
//! In a channel or in a private message, the bot answers `!uptime` with its uptime, and `!seen NICK` with the
//! last action of that user. It answers CTCP VERSION and PING. Ctrl-C sends QUIT and ends the program.
//!
//! To try it locally, with a server and a client from any distribution:
//!
//! ```text
//! printf '[Global]\nName = irc.test\nInfo = test\nListen = 127.0.0.1\nPorts = 16667\n' >ngircd.conf
//! printf '[Options]\nPAM = no\n' >>ngircd.conf
//! ngircd -n -f ngircd.conf
//! ircbot --server 127.0.0.1:16667 --channel '#test'
//! ii -s 127.0.0.1 -p 16667 -n human -i irc; echo '/j #test' >irc/127.0.0.1/in
//! echo '!uptime' >'irc/127.0.0.1/#test/in'; tail 'irc/127.0.0.1/#test/out'
//! ```
//!
//! Restart the server: the bot reconnects after a second or less, and after failures less often. If its
//! nickname is in use, the bot uses another one until its own is free.
//!
//! With TLS, the certificate of the server is checked each time that the bot connects. A certificate that is not
//! accepted is logged, and the bot tries again, because it may be replaced. To try it with the server above:
//!
//! ```text
//! cargo run --example test_certificate -- --out tls
//! printf '[SSL]\nCertFile = tls/cert.pem\nKeyFile = tls/key.pem\nPorts = 16697\n' >>ngircd.conf
//! ngircd -n -f ngircd.conf
//! ircbot --tls --tls-ca tls/ca.pem --server localhost:16697 --channel '#test'
//! ```
//!
//! Reading order: this file; `bot/mod.rs`, the handler of a connection; `bot/outbox.rs`, the rate limit of
//! the output; `bot/memory.rs`, the state that remains when a connection ends; `bot/message.rs`, the parser.

#![allow(
    unreachable_pub,
    reason = "in a program, `pub` items are visible to the other modules only"
)]

mod bot;
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/trust.rs"]
mod trust;

use std::cell::RefCell;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use asynchat::{Backoff, Connector, Result, signal};
use bot::{Bot, Identity, Memory};
use clap::Parser;
use trust::TrustOptions;

/// How long the shutdown waits until QUIT has been sent.
const GRACE: Duration = Duration::from_secs(3);

/// A bot that joins IRC channels, answers questions, and reconnects.
///
/// The log goes to standard error. RUST_LOG=debug adds every line.
#[derive(Parser)]
#[command(version, name = "ircbot")]
struct Args {
    /// The server. With --tls the default port is 6697 (RFC 7194).
    #[arg(
        long,
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:6667",
        default_value_if("tls", "true", "127.0.0.1:6697")
    )]
    server: String,

    /// The preferred nickname.
    #[arg(long, value_name = "NICK", default_value = "asynchat", value_parser = word)]
    nick: String,

    /// A channel to join (repeatable).
    #[arg(long, value_name = "CHANNEL", value_parser = channel)]
    channel: Vec<String>,

    /// The longest pause between two attempts to connect.
    #[arg(long, alias = "most", value_name = "SECONDS", default_value_t = 60)]
    max_pause: u64,

    /// Connect with TLS.
    #[arg(long, help_heading = "TLS")]
    tls: bool,

    #[command(flatten)]
    trust: TrustOptions,
}

fn main() -> ExitCode {
    common::log_to_stderr("info");
    if let Err(error) = run(Args::parse()) {
        common::print_to_stderr(format_args!("ircbot: {error}"));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn run(args: Args) -> Result {
    let identity = Rc::new(Identity {
        nick: args.nick,
        channels: args.channel,
    });
    let memory = Rc::new(RefCell::new(Memory::new()));
    let shared = Rc::clone(&memory);
    let mut connector = Connector::new(&args.server).connect_timeout(Duration::from_secs(20));
    if args.tls {
        connector = connector.tls(args.trust.client()?);
    }
    connector.reconnect(
        Backoff::default().max(Duration::from_secs(args.max_pause)),
        move |chat| Bot::new(chat, Rc::clone(&identity), Rc::clone(&shared)),
    )?;
    signal::shutdown_on_ctrl_c(GRACE)?;
    asynchat::run()?;
    match memory.take().refusal {
        Some(why) => Err(why.into()),
        None => Ok(()),
    }
}

fn word(text: &str) -> Result<String, String> {
    let is_valid = |c: char| !c.is_whitespace() && !c.is_control() && !",:*?!@".contains(c);
    if !text.is_empty() && text.chars().all(is_valid) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is not one word"))
    }
}

fn channel(text: &str) -> Result<String, String> {
    if bot::is_channel(text) {
        word(text)
    } else {
        Err("a channel begins with one of # & + !".to_owned())
    }
}
