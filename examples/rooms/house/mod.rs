//! The chat server: its members and its rooms.

mod command;
mod member;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use asynchat::{
    Channel, ChannelId, Chat, Deadlines, Error, Group, Limits, Result, Server, SlowReader,
    Terminator,
};
use member::Member;

/// The maximum length of a line.
const MAX_LINE: usize = 1024;

/// The time limit for receiving a line, from its first byte.
const LINE_TIMEOUT: Duration = Duration::from_secs(60);

/// The options of [`serve`].
#[derive(Clone, Copy)]
pub struct Options {
    /// A member for whom a room has queued more bytes than this is disconnected.
    pub backlog: usize,
    pub max_connections: usize,
    /// The idle timeout of a connection.
    pub idle: Duration,
}

/// Starts the server on this thread's loop.
pub fn serve(listen: &str, options: Options) -> Result<Channel, Error> {
    let house = Rc::new(RefCell::new(House {
        backlog: options.backlog,
        members: BTreeMap::new(),
        nicks: BTreeMap::new(),
        rooms: BTreeMap::new(),
    }));
    // A room disconnects slow readers itself. The output limit covers other output, such as private messages.
    let limits = Limits::default()
        .record(MAX_LINE)
        .output(options.backlog.saturating_mul(2))
        .connections(options.max_connections)
        .per_address(options.max_connections);
    let deadlines = Deadlines::default().idle(options.idle).record(LINE_TIMEOUT);
    Server::new(listen)
        .limits(limits)
        .deadlines(deadlines)
        .refusal("! the house is full\r\n")
        .listen(move |chat| {
            chat.set_terminator(Terminator::line());
            Member::new(chat, Rc::clone(&house))
        })
}

/// The state that all connections share. No method of a handle calls user code, so the house may be borrowed
/// while text is pushed to members.
pub struct House {
    backlog: usize,
    /// The members that have a nick, by the nick in lower case: nicks must differ in more than case.
    members: BTreeMap<String, Chat>,
    /// The nicks as the members wrote them.
    nicks: BTreeMap<ChannelId, String>,
    rooms: BTreeMap<String, Group>,
}

impl House {
    /// Sets the nick of a member, and frees the previous one. Returns false if another member has it.
    pub fn set_nick(&mut self, chat: &Chat, nick: &str) -> bool {
        let folded = nick.to_ascii_lowercase();
        let taken = self.members.get(&folded);
        if taken.is_some_and(|other| other.id() != chat.id() && other.is_open()) {
            return false;
        }
        self.remove_nick(chat.id());
        self.members.insert(folded, chat.clone());
        self.nicks.insert(chat.id(), nick.to_owned());
        true
    }

    /// Frees the nick of a connection. A closed connection leaves its groups without a call.
    pub fn remove_nick(&mut self, id: ChannelId) {
        let Some(nick) = self.nicks.remove(&id) else {
            return;
        };
        // Another member may already have it: a nick is free as soon as its owner's connection has closed.
        let folded = nick.to_ascii_lowercase();
        if self
            .members
            .get(&folded)
            .is_some_and(|chat| chat.id() == id)
        {
            self.members.remove(&folded);
        }
    }

    /// The member with this nick.
    pub fn member(&self, nick: &str) -> Option<&Chat> {
        let chat = self.members.get(&nick.to_ascii_lowercase());
        chat.filter(|chat| chat.is_open())
    }

    /// Adds a member to a room, which is created if it does not exist.
    pub fn enter(&mut self, room: &str, chat: &Chat) {
        let backlog = self.backlog;
        let group = self.rooms.entry(room.to_owned()).or_insert_with(|| {
            let group = Group::default();
            group.set_slow_readers(backlog, SlowReader::Abort);
            group
        });
        group.add(chat);
    }

    /// Removes a member from a room. An empty room is removed.
    pub fn leave(&mut self, room: &str, id: ChannelId) {
        if let Some(group) = self.rooms.get(room) {
            group.remove(id);
            if group.is_empty() {
                self.rooms.remove(room);
            }
        }
    }

    /// Sends a line to all members of a room.
    pub fn send(&self, room: &str, text: &str) {
        if let Some(group) = self.rooms.get(room) {
            group.push(format!("{text}\r\n"));
        }
    }

    /// Sends a line to all members of a room except one.
    pub fn send_except(&self, room: &str, id: ChannelId, text: &str) {
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

    /// The rooms, with the number of members in each.
    pub fn rooms(&self) -> impl Iterator<Item = (&str, usize)> {
        self.rooms
            .iter()
            .map(|(name, group)| (&**name, group.len()))
    }
}
