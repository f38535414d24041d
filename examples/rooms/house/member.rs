//! One connection: somebody who says something, and is told something.

use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;

use asynchat::{AsyncChat, Chat, Close, Overflow, Result};

use super::House;
use super::command::Command;

/// In how many rooms one may be at a time.
const ROOMS: usize = 10;

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
    /// Those that were joined; what is said goes to the last.
    rooms: Vec<String>,
    /// What the others are told when it leaves.
    last_words: Option<String>,
}

impl AsyncChat for Member {
    fn handle_connect(&mut self) -> Result {
        self.chat
            .push("* welcome; /nick NAME first, /help for more\r\n");
        Ok(())
    }

    fn found_terminator(&mut self, line: &[u8]) -> Result {
        let line = readable(line);
        match Command::parse(&line) {
            Command::Nothing => {}
            Command::Help => self.chat.push(HELP),
            Command::Wrong(why) => self.complain(why),
            Command::Quit(text) => self.quit(text),
            Command::Nick(name) => self.rename(name),
            command => match self.nick.clone() {
                Some(nick) => self.act(&nick, command),
                None => self.complain("your /nick first"),
            },
        }
        Ok(())
    }

    fn handle_overflow(&mut self) -> Overflow {
        self.complain("the line is too long");
        Overflow::Discard
    }

    fn handle_close(&mut self, why: &Close) {
        let Some(nick) = self.nick.take() else {
            return;
        };
        match why {
            Close::OutputLimit => tracing::warn!(nick, "dropped: {why}"),
            why => tracing::info!(nick, "has left: {why}"),
        }
        let said = self.last_words.take().unwrap_or_else(|| why.to_string());
        let mut house = self.house.borrow_mut();
        house.forget(self.chat.id());
        for room in &self.rooms {
            house.leave(room, self.chat.id());
            house.tell(room, &format!("* {nick} has left the house ({said})"));
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
            last_words: None,
        }
    }

    /// What only somebody with a name does.
    fn act(&mut self, nick: &str, command: Command<'_>) {
        match command {
            Command::Join(room) => self.join(nick, room),
            Command::Part(room) => self.part(nick, room),
            Command::Who(Some(room)) => self.who(room),
            Command::Who(None) => self.list_rooms(),
            Command::Msg(to, text) => self.send_message(nick, to, text),
            Command::Say(text) => self.say(nick, text),
            // Done already.
            _ => {}
        }
    }

    fn rename(&mut self, name: &str) {
        let mut house = self.house.borrow_mut();
        if !house.name(&self.chat, name) {
            drop(house);
            return self.complain("somebody else has that name");
        }
        match self.nick.replace(name.to_owned()) {
            Some(before) => {
                write!(self.chat, "* you are {name} now\r\n");
                for room in &self.rooms {
                    let text = format!("* {before} is {name} now");
                    house.tell_others(room, self.chat.id(), &text);
                }
            }
            None => {
                tracing::info!(nick = name, "has come");
                write!(self.chat, "* hello, {name}; /join a room\r\n");
            }
        }
    }

    fn join(&mut self, nick: &str, room: &str) {
        let known = self.rooms.iter().position(|joined| joined == room);
        if known.is_none() && self.rooms.len() == ROOMS {
            return self.complain("that is too many rooms; /part from one");
        }
        let mut house = self.house.borrow_mut();
        match known {
            Some(at) => {
                self.rooms.remove(at);
                write!(self.chat, "* you talk in #{room}\r\n");
            }
            None => {
                house.enter(room, &self.chat);
                house.tell(room, &format!("* {nick} has joined #{room}"));
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
            return self.complain("you are not in it");
        };
        let room = self.rooms.remove(at);
        let mut house = self.house.borrow_mut();
        house.tell(&room, &format!("* {nick} has left #{room}"));
        house.leave(&room, self.chat.id());
    }

    fn who(&self, room: &str) {
        match self.house.borrow().who(room) {
            Some(nicks) => write!(self.chat, "* #{room}: {}\r\n", nicks.join(", ")),
            None => self.complain("no such room"),
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
        match self.house.borrow().person(to) {
            Some(other) => write!(other, "-{nick}- {text}\r\n"),
            None => self.complain("nobody has that name"),
        }
    }

    fn say(&self, nick: &str, text: &str) {
        match self.rooms.last() {
            Some(room) => {
                let text = format!("#{room} <{nick}> {text}");
                self.house.borrow().tell_others(room, self.chat.id(), &text);
            }
            None => self.complain("nobody hears you; /join a room"),
        }
    }

    fn quit(&mut self, text: &str) {
        if !text.is_empty() {
            self.last_words = Some(text.to_owned());
        }
        self.chat.push("* good-bye\r\n");
        self.chat.close_when_done();
    }

    fn complain(&self, why: &str) {
        write!(self.chat, "! {why}\r\n");
    }
}

/// A line as others may see it: no control characters, which move their cursors and end their lines.
fn readable(line: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(line);
    match text.contains(char::is_control) {
        true => text.replace(char::is_control, "\u{fffd}").into(),
        false => text,
    }
}
