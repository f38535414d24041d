//! The handler of one connection to the server: it registers, joins channels and answers questions (RFC 1459,
//! RFC 2812). Each reconnection has a new handler.

mod memory;
mod message;
mod outbox;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use asynchat::{
    AsyncChat, AtShutdown, Chat, Close, Overflow, RecordLimit, Result, Terminator, TimerId,
};

pub use memory::Memory;
use memory::words;
use message::{MAX_MESSAGE, MAX_TAGS, Message};
use outbox::Outbox;

/// How often the bot sends a PING. If the server has sent nothing since the last one, the connection is
/// dead: the operating system may need hours to notice that.
const PING_INTERVAL: Duration = Duration::from_secs(120);

/// How many other nicknames the bot tries when its own is in use.
const MAX_OTHER_NICKS: usize = 8;

/// How often the bot requests its own nickname while it has another. The nickname may become free without a
/// message to the bot. Mostly its previous connection had the nickname, and the server notices later that
/// this connection is dead.
const NICK_INTERVAL: Duration = Duration::from_secs(60);

/// The preferred nickname, and the channels to join.
pub struct Identity {
    pub nick: String,
    pub channels: Vec<String>,
}

pub struct Bot {
    chat: Chat,
    identity: Rc<Identity>,
    memory: Rc<RefCell<Memory>>,
    outbox: Outbox,
    /// The current nickname, or the requested one before the welcome.
    nick: String,
    /// How many nicknames were refused.
    refused: usize,
    /// The timer of [`NICK_INTERVAL`], set while the bot has another nickname than its own.
    regain: Option<TimerId>,
    /// When the registration was complete.
    welcomed: Option<Instant>,
    /// Whether a line has arrived since the last PING.
    has_received: bool,
}

impl Bot {
    pub fn new(chat: Chat, identity: Rc<Identity>, memory: Rc<RefCell<Memory>>) -> Self {
        Bot {
            outbox: Outbox::new(chat.clone()),
            nick: identity.nick.clone(),
            chat,
            identity,
            memory,
            refused: 0,
            regain: None,
            welcomed: None,
            has_received: true,
        }
    }

    fn handle(&mut self, message: &Message) -> Result {
        match message.command {
            "PING" => self.outbox.send_now(&format!("PONG :{}", message.param(0))),
            "001" => self.handle_welcome(message.param(0)),
            // The nickname is in use, or reserved for a user whose connection was lost.
            "433" | "437" if self.welcomed.is_none() => self.try_another_nick()?,
            "432" if self.welcomed.is_none() => self.end_refused(message),
            // Replies to the request of its own nickname: it is in use, or not allowed.
            "433" | "437" if self.regain.is_some() => {
                tracing::debug!("the nickname is still in use");
            }
            "432" if self.regain.is_some() => self.stop_regaining(),
            "464" | "465" => self.end_refused(message),
            "ERROR" => tracing::warn!("error from the server: {}", message.param(0)),
            "PRIVMSG" => self.handle_text(message),
            "JOIN" => self.record(message, format!("joining {}", message.param(0))),
            "PART" => self.record(message, format!("leaving {}", message.param(0))),
            "QUIT" => {
                self.record(message, "quitting".to_owned());
                self.nick_was_freed(message);
            }
            "NICK" => self.handle_nick(message),
            "KICK" => self.handle_kick(message),
            number if number.starts_with(['4', '5']) => {
                tracing::warn!("refused: {}", message.params.join(" "));
            }
            _ => {}
        }
        Ok(())
    }

    /// The registration is complete. The message contains the bot's nickname. Joins the channels.
    fn handle_welcome(&mut self, nick: &str) {
        nick.clone_into(&mut self.nick);
        self.welcomed = Some(Instant::now());
        tracing::info!(nick, "registered");
        self.watch_nick();
        for channel in &self.identity.channels {
            self.outbox.send(&format!("JOIN {channel}"));
        }
    }

    fn try_another_nick(&mut self) -> Result {
        self.refused += 1;
        if self.refused > MAX_OTHER_NICKS {
            return Err(format!(
                "{} and all similar nicknames are in use",
                self.identity.nick
            )
            .into());
        }
        // A server that truncates nicknames (to nine characters, RFC 2812 section 1.2.1) would remove a
        // suffix of a long one.
        let stem: String = self.identity.nick.chars().take(7).collect();
        self.nick = match self.refused {
            1 => format!("{}_", self.identity.nick),
            n => format!("{stem}{n}"),
        };
        tracing::info!(nick = self.nick, "the nickname is in use, trying another");
        self.outbox.send(&format!("NICK {}", self.nick));
        Ok(())
    }

    /// Starts or stops the periodic request of the bot's own nickname, after the nickname has changed.
    fn watch_nick(&mut self) {
        // The server may have truncated the nickname (RFC 2812 section 1.2.1).
        let is_own = message::folded(&self.identity.nick).starts_with(&message::folded(&self.nick));
        if is_own {
            self.stop_regaining();
        } else if self.regain.is_none() {
            self.regain = Some(self.chat.call_every(NICK_INTERVAL));
        }
    }

    fn stop_regaining(&mut self) {
        if let Some(timer) = self.regain.take() {
            self.chat.cancel(timer);
        }
    }

    fn request_nick(&mut self) {
        self.outbox.send(&format!("NICK {}", self.identity.nick));
    }

    /// The sender's nickname has become free. If it is the bot's own, the bot requests it.
    fn nick_was_freed(&mut self, message: &Message) {
        let freed = message.from.map(message::folded);
        if self.regain.is_some() && freed == Some(message::folded(&self.identity.nick)) {
            self.request_nick();
        }
    }

    /// The server refuses the bot permanently. A close by the bot ends the reconnection, too.
    fn end_refused(&mut self, message: &Message) {
        let why = format!("the server refuses: {}", message.params.join(" "));
        self.memory.borrow_mut().refusal = Some(why);
        self.chat.close();
    }

    fn handle_text(&mut self, message: &Message) {
        let (Some(from), target, text) = (message.from, message.param(0), message.param(1)) else {
            return;
        };
        if let Some(request) = text.strip_prefix('\u{1}') {
            return self.handle_ctcp(from, request.trim_end_matches('\u{1}'));
        }
        let channel = is_channel(target);
        if channel {
            self.record(message, format!("talking in {target}"));
        }
        let mut words = text.split_whitespace();
        let answer = match (words.next(), words.next()) {
            (Some("!uptime"), _) => self.uptime(),
            (Some("!seen"), Some(nick)) if self.is_self(nick) => "That's me.".to_owned(),
            (Some("!seen"), Some(nick)) => self.memory.borrow().last_seen(nick),
            (Some("!seen"), None) => "!seen whom?".to_owned(),
            _ => return,
        };
        let to = if channel { target } else { from };
        self.outbox.send(&format!("PRIVMSG {to} :{answer}"));
    }

    fn uptime(&self) -> String {
        let up = words(self.memory.borrow().uptime());
        let here = words(
            self.welcomed
                .map(|since| since.elapsed())
                .unwrap_or_default(),
        );
        format!("up for {up}, here for {here}")
    }

    /// Answers a CTCP request. The answer is a NOTICE, which clients must not answer.
    fn handle_ctcp(&mut self, from: &str, request: &str) {
        let (what, rest) = request.split_once(' ').unwrap_or((request, ""));
        let answer = match what {
            "VERSION" => concat!("VERSION asynchat ircbot ", env!("CARGO_PKG_VERSION")).to_owned(),
            "PING" => format!("PING {rest}"),
            _ => return,
        };
        self.outbox
            .send(&format!("NOTICE {from} :\u{1}{answer}\u{1}"));
    }

    fn record(&self, message: &Message, what: String) {
        if let Some(nick) = message.from.filter(|nick| !self.is_self(nick)) {
            self.memory.borrow_mut().record(nick, what);
        }
    }

    fn handle_nick(&mut self, message: &Message) {
        let new = message.param(0);
        match message.from {
            Some(old) if self.is_self(old) => {
                new.clone_into(&mut self.nick);
                tracing::info!(nick = new, "renamed");
                self.watch_nick();
            }
            Some(old) => {
                self.record(message, format!("renaming to {new}"));
                let what = format!("called {old} before, renaming");
                self.memory.borrow_mut().record(new, what);
                self.nick_was_freed(message);
            }
            None => {}
        }
    }

    fn handle_kick(&mut self, message: &Message) {
        let (channel, whom) = (message.param(0), message.param(1));
        if self.is_self(whom) {
            tracing::warn!(channel, by = message.from, "kicked");
            return;
        }
        let by = message.from.unwrap_or("somebody");
        let what = format!("being kicked from {channel} by {by}");
        self.memory.borrow_mut().record(whom, what);
    }

    fn is_self(&self, nick: &str) -> bool {
        message::folded(nick) == message::folded(&self.nick)
    }
}

impl AsyncChat for Bot {
    fn handle_connect(&mut self) -> Result {
        if let Some(server) = self.chat.peer_addr() {
            let tls = self.chat.tls().and_then(|info| info.version.as_str());
            tracing::info!(%server, tls, "connected");
        }
        let limit = (MAX_TAGS + MAX_MESSAGE) as u64;
        self.chat.set_terminator(Terminator::line().limit(limit));
        self.outbox.send(&format!("NICK {}", self.nick));
        let user = "USER asynchat 0 * :a bot, see https://docs.rs/asynchat";
        self.outbox.send(user);
        self.chat.call_every(PING_INTERVAL);
        Ok(())
    }

    fn found_terminator(&mut self, record: &[u8]) -> Result {
        self.has_received = true;
        let line = String::from_utf8_lossy(record);
        tracing::debug!("< {line}");
        match Message::parse(&line) {
            Some(message) => self.handle(&message),
            None => Ok(()),
        }
    }

    /// A message that is too long is skipped.
    fn handle_overflow(&mut self, _limit: &RecordLimit) -> Result<Overflow> {
        Ok(Overflow::Discard)
    }

    fn handle_timer(&mut self, timer: TimerId) -> Result {
        if self.outbox.tick(timer) {
            return Ok(());
        }
        if self.regain == Some(timer) {
            self.request_nick();
            return Ok(());
        }
        if !std::mem::take(&mut self.has_received) {
            // After an error the connector reconnects. After a call of `close` it would not.
            return Err("the server is silent".into());
        }
        self.outbox.send_now("PING :are you there?");
        Ok(())
    }

    fn handle_shutdown(&mut self) -> Result<AtShutdown> {
        self.outbox.send_now("QUIT :interrupted");
        Ok(AtShutdown::CloseWhenDone)
    }

    fn handle_close(&mut self, why: &Close) {
        tracing::info!("disconnected: {why}");
    }
}

/// Whether a name is that of a channel (RFC 2812 section 1.3).
pub fn is_channel(name: &str) -> bool {
    name.starts_with(['#', '&', '+', '!'])
}
