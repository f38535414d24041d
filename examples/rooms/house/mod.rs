//! The house: who is in it, and which rooms it has.

mod command;
mod member;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use asynchat::{
    Channel, ChannelId, Chat, Deadlines, Group, Limits, Result, Server, SlowReader, Terminator,
};
use member::Member;

/// The longest line that is taken.
const LINE: usize = 1024;

/// How long a line may take to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// The bounds of a house.
#[derive(Clone, Copy)]
pub struct Options {
    /// Bytes that may wait for somebody who does not read.
    pub backlog: usize,
    pub max_connections: usize,
    /// How long somebody may neither say nor hear anything.
    pub idle: Duration,
}

/// Opens a house on this thread's loop.
pub fn serve(listen: &str, options: Options) -> Result<Channel> {
    let house = Rc::new(RefCell::new(House {
        backlog: options.backlog,
        people: BTreeMap::new(),
        nicks: BTreeMap::new(),
        rooms: BTreeMap::new(),
    }));
    // A room drops who does not read; this is for what comes from elsewhere, private messages for one.
    let limits = Limits::default()
        .record(LINE)
        .output(options.backlog.saturating_mul(2))
        .connections(options.max_connections)
        .per_address(options.max_connections);
    let deadlines = Deadlines::default().idle(options.idle).record(PATIENCE);
    Server::new(listen)
        .limits(limits)
        .deadlines(deadlines)
        .refusal("! the house is full\r\n")
        .listen(move |chat| {
            chat.set_terminator(Terminator::line());
            Member::new(chat, Rc::clone(&house))
        })
}

/// What all connections share. None of its methods can call back into it: it may stay borrowed while
/// members are told something.
pub struct House {
    backlog: usize,
    /// Everybody who has a nick, by its folded form: two may not differ in case alone.
    people: BTreeMap<String, Chat>,
    /// Their nicks as they wrote them.
    nicks: BTreeMap<ChannelId, String>,
    rooms: BTreeMap<String, Group>,
}

impl House {
    /// Gives somebody this nick in the place of what they had; false if another has it.
    pub fn name(&mut self, chat: &Chat, nick: &str) -> bool {
        let folded = nick.to_ascii_lowercase();
        let taken = self.people.get(&folded);
        if taken.is_some_and(|other| other.id() != chat.id() && other.is_open()) {
            return false;
        }
        self.forget(chat.id());
        self.people.insert(folded, chat.clone());
        self.nicks.insert(chat.id(), nick.to_owned());
        true
    }

    /// Somebody is gone: their nick is free. The rooms forget them by themselves.
    pub fn forget(&mut self, id: ChannelId) {
        let Some(nick) = self.nicks.remove(&id) else {
            return;
        };
        // Somebody else may have it by now: it is free from the moment its owner has closed.
        let folded = nick.to_ascii_lowercase();
        if self.people.get(&folded).is_some_and(|chat| chat.id() == id) {
            self.people.remove(&folded);
        }
    }

    pub fn person(&self, nick: &str) -> Option<&Chat> {
        let chat = self.people.get(&nick.to_ascii_lowercase());
        chat.filter(|chat| chat.is_open())
    }

    /// This room, which is there once somebody enters it.
    pub fn enter(&mut self, room: &str, chat: &Chat) {
        let backlog = self.backlog;
        let group = self.rooms.entry(room.to_owned()).or_insert_with(|| {
            let group = Group::default();
            group.set_slow_readers(backlog, SlowReader::Close);
            group
        });
        group.add(chat);
    }

    /// The last who leaves a room closes it.
    pub fn leave(&mut self, room: &str, id: ChannelId) {
        if let Some(group) = self.rooms.get(room) {
            group.remove(id);
            if group.is_empty() {
                self.rooms.remove(room);
            }
        }
    }

    pub fn tell(&self, room: &str, text: &str) {
        if let Some(group) = self.rooms.get(room) {
            group.push(format!("{text}\r\n"));
        }
    }

    pub fn tell_others(&self, room: &str, id: ChannelId, text: &str) {
        if let Some(group) = self.rooms.get(room) {
            group.push_except(id, format!("{text}\r\n"));
        }
    }

    /// The nicks in a room.
    pub fn who(&self, room: &str) -> Option<Vec<&str>> {
        let group = self.rooms.get(room)?;
        let nicks = group.iter().filter_map(|chat| self.nicks.get(&chat.id()));
        Some(nicks.map(String::as_str).collect())
    }

    /// The rooms, and how many are in each.
    pub fn rooms(&self) -> impl Iterator<Item = (&str, usize)> {
        self.rooms
            .iter()
            .map(|(name, group)| (&**name, group.len()))
    }
}
