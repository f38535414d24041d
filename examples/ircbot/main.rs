//! `ircbot`: sits in IRC channels, answers, and comes back when it is thrown out.
//!
//! ```text
//! cargo run --release --example ircbot -- \
//!     --server irc.example.org:6667 --nick robin --channel '#birds' --channel '#test'
//! ```
//!
//! In a channel, or to the bot alone: `!uptime` tells how long it has been up, `!seen NICK` when that
//! one last did something. It answers CTCP VERSION and PING. Ctrl-C says QUIT and ends it. There is no
//! TLS here: use a server on the same host or a tunnel (`stunnel`, `socat`).
//!
//! To try it without the world, with a server and a client from any distribution:
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
//! End the server and start it again: the bot tries after a second or less, then less often. If its
//! nickname is in use the bot takes another one until its own is free.
//!
//! What to look at, in this order: this file; `bot/mod.rs`, the session, one for each connection;
//! `bot/outbox.rs`, which keeps it from flooding; `bot/diary.rs`, what outlives a connection;
//! `bot/message.rs`.

// In a program `pub` is what a module offers its neighbours.
#![allow(unreachable_pub)]

mod bot;
#[path = "../common/mod.rs"]
mod common;

use std::cell::RefCell;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use asynchat::{Backoff, Connector, Result, signal};
use bot::{Bot, Diary, Identity};
use clap::Parser;

/// How long the server may take to hear the QUIT.
const GRACE: Duration = Duration::from_secs(3);

/// Sits in IRC channels, answers, and comes back when it is thrown out.
///
/// Logs go to standard error; RUST_LOG=debug shows every line.
#[derive(Parser)]
#[command(version, name = "ircbot")]
struct Args {
    /// The server.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:6667")]
    server: String,

    /// The nickname it would like to have.
    #[arg(long, value_name = "NICK", default_value = "asynchat", value_parser = word)]
    nick: String,

    /// A channel to sit in (repeatable).
    #[arg(long, value_name = "CHANNEL", value_parser = channel)]
    channel: Vec<String>,

    /// How long to wait at most between two tries to connect, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    most: u64,
}

fn main() -> ExitCode {
    common::log_to_stderr("info");
    if let Err(error) = run(Args::parse()) {
        eprintln!("ircbot: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn run(args: Args) -> Result {
    let identity = Rc::new(Identity {
        nick: args.nick,
        channels: args.channel,
    });
    let diary = Rc::new(RefCell::new(Diary::new()));
    let kept = Rc::clone(&diary);
    Connector::new(&args.server)
        .connect_timeout(Duration::from_secs(20))
        .reconnect(
            Backoff::default().most(Duration::from_secs(args.most)),
            move |chat| Bot::new(chat, Rc::clone(&identity), Rc::clone(&kept)),
        )?;
    signal::shutdown_on_ctrl_c(GRACE)?;
    asynchat::run()?;
    match diary.take().unwelcome {
        Some(why) => Err(why.into()),
        None => Ok(()),
    }
}

fn word(text: &str) -> Result<String, String> {
    let part_of_one = |c: char| !c.is_whitespace() && !c.is_control() && !",:*?!@".contains(c);
    match !text.is_empty() && text.chars().all(part_of_one) {
        true => Ok(text.to_owned()),
        false => Err(format!("{text:?} is not one word")),
    }
}

fn channel(text: &str) -> Result<String, String> {
    match bot::is_channel(text) {
        true => word(text),
        false => Err("a channel begins with one of # & + !".to_owned()),
    }
}
