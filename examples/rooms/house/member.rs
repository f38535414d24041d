//! The handler of one member's connection.

use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;

use asynchat::{AsyncChat, Chat, Close, Overflow, RecordLimit, Result};

use super::House;
use super::command::Command;

/// How many rooms a member may be in at a time.
const MAX_ROOMS: usize = 10;

const HELP: &str = "\
* /nick NAME          what you are called\r\n\
* /join ROOM          enter a room; what you say is heard there\r\n\
* /part [ROOM]        leave it\r\n\
* /who [ROOM]         who is there; or which rooms there are\r\n\
* /msg NICK TEXT      for one alone\r\n\
* /quit [TEXT]        leave the house\r\n";

pub struct Member {
    chat: Chat,
    house: Rc<RefCell<House>>,
    nick: Option<String>,
    /// The rooms that the member has joined. Text goes to the last one.
    rooms: Vec<String>,
    /// The text of /quit, for the other members.
    quit_message: Option<String>,
}

impl AsyncChat for Member {
    fn handle_connect(&mut self) -> Result {
        self.chat
            .push("* welcome; /nick NAME first, /help for more\r\n");
        Ok(())
    }

    fn found_terminator(&mut self, line: &[u8]) -> Result {
        let line = without_controls(line);
        match Command::parse(&line) {
            Command::Empty => {}
            Command::Help => self.chat.push(HELP),
            Command::Invalid(why) => self.send_error(why),
            Command::Quit(text) => self.quit(text),
            Command::Nick(name) => self.rename(name),
            command => match self.nick.clone() {
                Some(nick) => self.run(&nick, command),
                None => self.send_error("your /nick first"),
            },
        }
        Ok(())
    }

    fn handle_overflow(&mut self, _limit: &RecordLimit) -> Result<Overflow> {
        self.send_error("the line is too long");
        Ok(Overflow::Discard)
    }

    fn handle_close(&mut self, why: &Close) {
        let Some(nick) = self.nick.take() else {
            return;
        };
        match why {
            Close::OutputLimit => tracing::warn!(nick, "disconnected: {why}"),
            why => tracing::info!(nick, "has left: {why}"),
        }
        let reason = self.quit_message.take().unwrap_or_else(|| why.to_string());
        let mut house = self.house.borrow_mut();
        house.remove_nick(self.chat.id());
        for room in &self.rooms {
            house.leave(room, self.chat.id());
            house.send(room, &format!("* {nick} has left the house ({reason})"));
        }
    }
}

impl Member {
    pub fn new(chat: Chat, house: Rc<RefCell<House>>) -> Self {
        Member {
            chat,
            house,
            nick: None,
            rooms: Vec::new(),
            quit_message: None,
        }
    }

    /// Runs a command that requires a nick.
    fn run(&mut self, nick: &str, command: Command<'_>) {
        match command {
            Command::Join(room) => self.join(nick, room),
            Command::Part(room) => self.part(nick, room),
            Command::Who(Some(room)) => self.who(room),
            Command::Who(None) => self.list_rooms(),
            Command::Msg(to, text) => self.send_message(nick, to, text),
            Command::Say(text) => self.say(nick, text),
            // `found_terminator` handles the others.
            _ => {}
        }
    }

    fn rename(&mut self, name: &str) {
        let mut house = self.house.borrow_mut();
        if !house.set_nick(&self.chat, name) {
            drop(house);
            return self.send_error("somebody else has that name");
        }
        match self.nick.replace(name.to_owned()) {
            Some(before) => {
                write!(self.chat, "* you are {name} now\r\n");
                for room in &self.rooms {
                    let text = format!("* {before} is {name} now");
                    house.send_except(room, self.chat.id(), &text);
                }
            }
            None => {
                tracing::info!(nick = name, "has joined");
                write!(self.chat, "* hello, {name}; /join a room\r\n");
            }
        }
    }

    fn join(&mut self, nick: &str, room: &str) {
        let known = self.rooms.iter().position(|joined| joined == room);
        if known.is_none() && self.rooms.len() == MAX_ROOMS {
            return self.send_error("that is too many rooms; /part from one");
        }
        let mut house = self.house.borrow_mut();
        match known {
            Some(at) => {
                self.rooms.remove(at);
                write!(self.chat, "* you talk in #{room}\r\n");
            }
            None => {
                house.enter(room, &self.chat);
                house.send(room, &format!("* {nick} has joined #{room}"));
            }
        }
        self.rooms.push(room.to_owned());
    }

    fn part(&mut self, nick: &str, room: Option<&str>) {
        let at = match room {
            Some(room) => self.rooms.iter().position(|joined| joined == room),
            None => self.rooms.len().checked_sub(1),
        };
        let Some(at) = at else {
            return self.send_error("you are not in it");
        };
        let room = self.rooms.remove(at);
        let mut house = self.house.borrow_mut();
        house.send(&room, &format!("* {nick} has left #{room}"));
        house.leave(&room, self.chat.id());
    }

    fn who(&self, room: &str) {
        match self.house.borrow().who(room) {
            Some(nicks) => write!(self.chat, "* #{room}: {}\r\n", nicks.join(", ")),
            None => self.send_error("no such room"),
        }
    }

    fn list_rooms(&self) {
        let house = self.house.borrow();
        for (room, count) in house.rooms() {
            write!(self.chat, "* #{room}: {count}\r\n");
        }
        write!(self.chat, "* that is all of them\r\n");
    }

    fn send_message(&self, nick: &str, to: &str, text: &str) {
        match self.house.borrow().member(to) {
            Some(other) => write!(other, "-{nick}- {text}\r\n"),
            None => self.send_error("nobody has that name"),
        }
    }

    fn say(&self, nick: &str, text: &str) {
        match self.rooms.last() {
            Some(room) => {
                let text = format!("#{room} <{nick}> {text}");
                self.house.borrow().send_except(room, self.chat.id(), &text);
            }
            None => self.send_error("nobody hears you; /join a room"),
        }
    }

    fn quit(&mut self, text: &str) {
        if !text.is_empty() {
            self.quit_message = Some(text.to_owned());
        }
        self.chat.push("* good-bye\r\n");
        self.chat.close_when_done();
    }

    fn send_error(&self, why: &str) {
        write!(self.chat, "! {why}\r\n");
    }
}

/// Replaces control characters, which could move the cursor or end a line on the terminals of other members.
fn without_controls(line: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(line);
    if text.contains(char::is_control) {
        text.replace(char::is_control, "\u{fffd}").into()
    } else {
        text
    }
}
