//! The messages for the subscribers of one worker that it has not delivered yet.
//!
//! A worker that is busy for long does not send what its clients get, so it is as if they did not read: the messages
//! together have the limit that the output of one client has. What exceeds it is lost, and ends the clients that would
//! have received it.

use std::sync::Arc;

use asynchat::bytes::Bytes;

use super::pubsub::Names;

#[derive(Clone)]
pub struct Message {
    pub channel: Bytes,
    pub content: Bytes,
    /// The patterns that match the channel.
    pub patterns: Arc<[Bytes]>,
}

impl Message {
    fn size(&self) -> usize {
        let patterns = self.patterns.len() * size_of::<Bytes>();
        size_of::<Message>() + self.channel.len() + self.content.len() + patterns
    }
}

#[derive(Default)]
pub struct Mailbox {
    pub messages: Vec<Message>,
    size: usize,
    /// The channels and patterns whose subscribers have lost a message.
    pub lost: Names<()>,
}

impl Mailbox {
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.lost.is_empty()
    }

    /// Moves everything from another one behind what is here.
    pub fn append(&mut self, mut other: Mailbox) {
        self.messages.append(&mut other.messages);
        self.lost.append(&mut other.lost);
        self.size += other.size;
    }

    /// Adds a message. Returns false if the messages would have more bytes than `limit` together: this one is lost.
    pub fn add(&mut self, message: &Message, limit: usize) -> bool {
        let has_room = self.size.saturating_add(message.size()) <= limit;
        if has_room {
            self.push(message.clone());
        }
        has_room
    }

    /// Adds a message without a limit.
    pub fn push(&mut self, message: Message) {
        self.size += message.size();
        self.messages.push(message);
    }

    /// The bytes of the messages.
    pub fn size(&self) -> usize {
        self.size
    }
}
