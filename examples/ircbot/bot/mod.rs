//! The bot on one connection: it registers, joins, answers, until the connection ends. Then there is
//! another one, and another bot (RFC 1459, RFC 2812).

mod diary;
mod message;
mod outbox;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use asynchat::{AsyncChat, Chat, Close, Overflow, Result, Shutdown, Terminator, TimerId};

pub use diary::Diary;
use diary::words;
use message::{MOST, MOST_TAGS, Message};
use outbox::Outbox;

/// How often it asks whether the server is still there. One that has said nothing from one time to the
/// next is not: a connection may be dead for hours before the system knows.
const CHECK: Duration = Duration::from_secs(120);

/// How many other nicknames it tries when its own is taken.
const NICKS: usize = 8;

/// How often the bot asks for its own nickname while it has another. The nickname may become free
/// without a message to the bot: mostly the server ends the bot's own last connection, a dead one that
/// is in no channel with it.
const REGAIN: Duration = Duration::from_secs(60);

/// Who it would like to be, and where.
pub struct Identity {
    pub nick: String,
    pub channels: Vec<String>,
}

pub struct Bot {
    chat: Chat,
    identity: Rc<Identity>,
    diary: Rc<RefCell<Diary>>,
    outbox: Outbox,
    /// What it is called, or asks to be.
    nick: String,
    refused: usize,
    /// The timer of [`REGAIN`], set while the bot has another nickname than its own.
    regain: Option<TimerId>,
    welcomed: Option<Instant>,
    heard: bool,
}

impl Bot {
    pub fn new(chat: Chat, identity: Rc<Identity>, diary: Rc<RefCell<Diary>>) -> Self {
        Bot {
            outbox: Outbox::new(chat.clone()),
            nick: identity.nick.clone(),
            chat,
            identity,
            diary,
            refused: 0,
            regain: None,
            welcomed: None,
            heard: true,
        }
    }

    fn handle(&mut self, message: &Message) -> Result {
        match message.command {
            "PING" => self.outbox.say_now(&format!("PONG :{}", message.param(0))),
            "001" => self.welcome(message.param(0)),
            // In use, or held back since its last user was cut off.
            "433" | "437" if self.welcomed.is_none() => self.try_another_nick()?,
            "432" if self.welcomed.is_none() => self.give_up(message),
            // Replies to a request for its own nickname: it is in use, or not allowed here.
            "433" | "437" if self.regain.is_some() => {
                tracing::debug!("the nickname is still taken");
            }
            "432" if self.regain.is_some() => self.stop_regaining(),
            "464" | "465" => self.give_up(message),
            "ERROR" => tracing::warn!("the server says: {}", message.param(0)),
            "PRIVMSG" => self.said(message),
            "JOIN" => self.note(message, format!("joining {}", message.param(0))),
            "PART" => self.note(message, format!("leaving {}", message.param(0))),
            "QUIT" => {
                self.note(message, "quitting".to_owned());
                self.given_up(message);
            }
            "NICK" => self.renamed(message),
            "KICK" => self.kicked(message),
            number if number.starts_with(['4', '5']) => {
                tracing::warn!("refused: {}", message.params.join(" "));
            }
            _ => {}
        }
        Ok(())
    }

    /// It is registered: the server tells what it is called, and the rest may begin.
    fn welcome(&mut self, nick: &str) {
        nick.clone_into(&mut self.nick);
        self.welcomed = Some(Instant::now());
        tracing::info!(nick, "welcome");
        self.watch_nick();
        for channel in &self.identity.channels {
            self.outbox.say(&format!("JOIN {channel}"));
        }
    }

    fn try_another_nick(&mut self) -> Result {
        self.refused += 1;
        if self.refused > NICKS {
            return Err(format!("{} and the like are all taken", self.identity.nick).into());
        }
        // A server that cuts nicknames short (nine characters, RFC 2812 section 1.2.1) would cut
        // what is added to a long one.
        let stem: String = self.identity.nick.chars().take(7).collect();
        self.nick = match self.refused {
            1 => format!("{}_", self.identity.nick),
            n => format!("{stem}{n}"),
        };
        tracing::info!(nick = self.nick, "the nickname is taken, trying another");
        self.outbox.say(&format!("NICK {}", self.nick));
        Ok(())
    }

    /// The bot has a nickname. While that is not its own it asks for its own from time to time.
    fn watch_nick(&mut self) {
        // A server cuts a long nickname (RFC 2812 section 1.2.1).
        let is_own = message::folded(&self.identity.nick).starts_with(&message::folded(&self.nick));
        if is_own {
            self.stop_regaining();
        } else if self.regain.is_none() {
            self.regain = Some(self.chat.call_every(REGAIN));
        }
    }

    fn stop_regaining(&mut self) {
        if let Some(timer) = self.regain.take() {
            self.chat.cancel(timer);
        }
    }

    fn ask_for_nick(&mut self) {
        self.outbox.say(&format!("NICK {}", self.identity.nick));
    }

    /// A nickname has become free. If it is the bot's own, the bot takes it.
    fn given_up(&mut self, message: &Message) {
        let given_up = message.from.map(message::folded);
        if self.regain.is_some() && given_up == Some(message::folded(&self.identity.nick)) {
            self.ask_for_nick();
        }
    }

    /// To come back would not help: a close by this side is the last.
    fn give_up(&mut self, message: &Message) {
        let why = format!("the server refuses: {}", message.params.join(" "));
        self.diary.borrow_mut().unwelcome = Some(why);
        self.chat.close();
    }

    fn said(&mut self, message: &Message) {
        let (Some(from), target, text) = (message.from, message.param(0), message.param(1)) else {
            return;
        };
        if let Some(request) = text.strip_prefix('\u{1}') {
            return self.ctcp(from, request.trim_end_matches('\u{1}'));
        }
        let channel = is_channel(target);
        if channel {
            self.note(message, format!("talking in {target}"));
        }
        let mut words = text.split_whitespace();
        let answer = match (words.next(), words.next()) {
            (Some("!uptime"), _) => self.uptime(),
            (Some("!seen"), Some(nick)) if self.is_me(nick) => "That's me.".to_owned(),
            (Some("!seen"), Some(nick)) => self.diary.borrow().recall(nick),
            (Some("!seen"), None) => "!seen whom?".to_owned(),
            _ => return,
        };
        let to = if channel { target } else { from };
        self.outbox.say(&format!("PRIVMSG {to} :{answer}"));
    }

    fn uptime(&self) -> String {
        let up = words(self.diary.borrow().uptime());
        let here = words(
            self.welcomed
                .map(|since| since.elapsed())
                .unwrap_or_default(),
        );
        format!("up for {up}, here for {here}")
    }

    /// Requests between clients. The answer is a NOTICE, which nobody answers in turn.
    fn ctcp(&mut self, from: &str, request: &str) {
        let (what, rest) = request.split_once(' ').unwrap_or((request, ""));
        let answer = match what {
            "VERSION" => concat!("VERSION asynchat ircbot ", env!("CARGO_PKG_VERSION")).to_owned(),
            "PING" => format!("PING {rest}"),
            _ => return,
        };
        self.outbox
            .say(&format!("NOTICE {from} :\u{1}{answer}\u{1}"));
    }

    fn note(&self, message: &Message, what: String) {
        if let Some(nick) = message.from.filter(|nick| !self.is_me(nick)) {
            self.diary.borrow_mut().note(nick, what);
        }
    }

    fn renamed(&mut self, message: &Message) {
        let new = message.param(0);
        match message.from {
            Some(old) if self.is_me(old) => {
                new.clone_into(&mut self.nick);
                tracing::info!(nick = new, "renamed");
                self.watch_nick();
            }
            Some(old) => {
                self.note(message, format!("renaming to {new}"));
                let what = format!("called {old} before, renaming");
                self.diary.borrow_mut().note(new, what);
                self.given_up(message);
            }
            None => {}
        }
    }

    fn kicked(&mut self, message: &Message) {
        let (channel, whom) = (message.param(0), message.param(1));
        if self.is_me(whom) {
            tracing::warn!(channel, by = message.from, "kicked");
            return;
        }
        let by = message.from.unwrap_or("somebody");
        let what = format!("being kicked from {channel} by {by}");
        self.diary.borrow_mut().note(whom, what);
    }

    fn is_me(&self, nick: &str) -> bool {
        message::folded(nick) == message::folded(&self.nick)
    }
}

impl AsyncChat for Bot {
    fn handle_connect(&mut self) -> Result {
        if let Some(server) = self.chat.peer_addr() {
            tracing::info!(%server, "connected");
        }
        let limit = MOST_TAGS + MOST;
        self.chat.set_terminator(Terminator::line().limit(limit));
        self.outbox.say(&format!("NICK {}", self.nick));
        let user = "USER asynchat 0 * :a bot, see https://docs.rs/asynchat";
        self.outbox.say(user);
        self.chat.call_every(CHECK);
        Ok(())
    }

    fn found_terminator(&mut self, record: &[u8]) -> Result {
        self.heard = true;
        let line = String::from_utf8_lossy(record);
        tracing::debug!("< {line}");
        match Message::parse(&line) {
            Some(message) => self.handle(&message),
            None => Ok(()),
        }
    }

    /// A message that is too long is skipped. It is the server's mistake, and no reason to leave.
    fn handle_overflow(&mut self) -> Overflow {
        Overflow::Discard
    }

    fn handle_timer(&mut self, timer: TimerId) -> Result {
        if self.outbox.tick(timer) {
            return Ok(());
        }
        if self.regain == Some(timer) {
            self.ask_for_nick();
            return Ok(());
        }
        if !std::mem::take(&mut self.heard) {
            // An error and not a close: then it connects again.
            return Err("the server is silent".into());
        }
        self.outbox.say_now("PING :are you there?");
        Ok(())
    }

    fn handle_shutdown(&mut self) -> Result<Shutdown> {
        self.outbox.say_now("QUIT :interrupted");
        Ok(Shutdown::CloseWhenDone)
    }

    fn handle_close(&mut self, why: &Close) {
        tracing::info!("disconnected: {why}");
    }
}

/// Whether a name is one of a channel (RFC 2812 section 1.3).
pub fn is_channel(name: &str) -> bool {
    name.starts_with(['#', '&', '+', '!'])
}
