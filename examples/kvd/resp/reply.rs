//! The encoder of replies.
//!
//! Small replies are collected in one buffer, which is pushed once for all requests of a read. A large string is
//! pushed as it is, without a copy. A long reply is a producer, which encodes a part at a time.

use std::collections::VecDeque;

use asynchat::bytes::Bytes;
use asynchat::{Chat, Producer};

use super::arg::Arg;
use super::message::Messages;
use crate::store::number::{Digits, decimal, float_text};
use crate::store::text::Text;

/// From this length on a string is not copied into the buffer.
const SHARED: usize = 16 * 1024;

/// A part of the output, in its place between the others.
pub enum Part {
    Copied(Vec<u8>),
    Shared(Bytes),
    Made(Box<dyn Producer + Send>),
}

impl Part {
    /// The bytes that nobody else has.
    pub fn copied(&self) -> usize {
        match self {
            Part::Copied(data) => data.len(),
            Part::Shared(_) | Part::Made(_) => 0,
        }
    }

    /// The bytes of memory, as far as they are known.
    pub fn size(&self) -> usize {
        match self {
            Part::Copied(data) => data.len(),
            Part::Shared(data) => data.len(),
            Part::Made(_) => 0,
        }
    }
}

#[derive(Default)]
pub struct Reply {
    /// What is behind the parts.
    pub buffer: Vec<u8>,
    pub parts: Vec<Part>,
    /// How many of the parts are sent whatever CLIENT REPLY says.
    pub kept: usize,
    /// Whether the client has asked for version 3 of the protocol.
    pub resp3: bool,
    /// Messages that follow the reply of EXEC.
    pub behind: Messages,
    /// Whether one of the commands that it answers has written, so that it may have to wait for the disk.
    pub has_written: bool,
    /// How many bytes the disk gets for what they have changed.
    pub written: usize,
    /// Whether it has what one of them has removed, so that no error may take its place.
    pub has_taken: bool,
}

impl Reply {
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty() && self.parts.is_empty()
    }

    /// How many bytes wait in the buffer.
    #[inline]
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether some of it is made while it is sent.
    #[inline]
    pub fn is_made_later(&self) -> bool {
        self.parts.iter().any(|it| matches!(it, Part::Made(_)))
    }

    /// Pushes everything to the client.
    #[inline]
    pub fn flush(&mut self, chat: &Chat) {
        if !self.parts.is_empty() {
            self.flush_parts(chat);
        }
        if !self.buffer.is_empty() {
            chat.push_slice(&self.buffer);
            self.buffer.clear();
            if self.buffer.capacity() > 1 << 20 {
                self.buffer = Vec::new();
            }
        }
    }

    #[cold]
    fn flush_parts(&mut self, chat: &Chat) {
        self.kept = 0;
        for part in self.parts.drain(..) {
            match part {
                Part::Copied(data) => chat.push(data),
                Part::Shared(data) => chat.push(data),
                Part::Made(producer) => chat.push_with_producer(producer),
            }
        }
    }

    /// Begins a part behind the buffer.
    fn add_part(&mut self, part: Part) {
        if !self.buffer.is_empty() {
            self.parts
                .push(Part::Copied(std::mem::take(&mut self.buffer)));
        }
        self.parts.push(part);
    }

    /// Takes what is in the encoder.
    pub fn take_parts(&mut self) -> Vec<Part> {
        self.keep();
        self.kept = 0;
        std::mem::take(&mut self.parts)
    }

    /// What is in the encoder is sent, whatever CLIENT REPLY says about what follows.
    pub fn keep(&mut self) {
        if !self.buffer.is_empty() {
            self.parts
                .push(Part::Copied(std::mem::take(&mut self.buffer)));
        }
        self.kept = self.parts.len();
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.kept = 0;
        self.drop_unwanted();
    }

    /// Drops what the client does not want.
    pub fn drop_unwanted(&mut self) {
        self.parts.truncate(self.kept);
        self.buffer.clear();
    }

    /// The chunks that a producer returns for this reply.
    pub fn into_chunks(mut self) -> VecDeque<Bytes> {
        let parts = self.take_parts().into_iter();
        let chunks = parts.filter_map(|part| match part {
            Part::Copied(data) => Some(data.into()),
            Part::Shared(data) => Some(data),
            Part::Made(_) => None,
        });
        chunks.collect()
    }

    // ---- the types of RESP

    #[inline]
    pub(super) fn head(&mut self, kind: u8, number: i64) {
        // Most heads are short.
        if let 0..10 = number {
            self.buffer
                .extend_from_slice(&[kind, b'0' + number as u8, b'\r', b'\n']);
            return;
        }
        let mut digits = Digits::default();
        let digits = decimal(number, &mut digits);
        self.buffer.reserve(digits.len() + 3);
        self.buffer.push(kind);
        self.buffer.extend_from_slice(digits);
        self.buffer.extend_from_slice(b"\r\n");
    }

    pub fn ok(&mut self) {
        self.buffer.extend_from_slice(b"+OK\r\n");
    }

    pub fn simple(&mut self, text: &str) {
        self.buffer.push(b'+');
        self.buffer.extend_from_slice(text.as_bytes());
        self.buffer.extend_from_slice(b"\r\n");
    }

    /// An error. Line ends in it, which would end the reply, become spaces.
    pub fn error(&mut self, text: &str) {
        self.buffer.push(b'-');
        let bytes = text.bytes();
        self.buffer.extend(bytes.map(|byte| match byte {
            b'\r' | b'\n' => b' ',
            byte => byte,
        }));
        self.buffer.extend_from_slice(b"\r\n");
    }

    #[inline]
    pub fn integer(&mut self, number: i64) {
        self.head(b':', number);
    }

    pub fn count(&mut self, count: usize) {
        self.head(b':', count as i64);
    }

    pub fn boolean(&mut self, value: bool) {
        self.integer(value.into());
    }

    #[inline]
    pub fn bulk(&mut self, data: &[u8]) {
        self.head(b'$', data.len() as i64);
        self.buffer.extend_from_slice(data);
        self.buffer.extend_from_slice(b"\r\n");
    }

    /// A long string, which is copied once.
    pub fn long_bulk(&mut self, data: &[u8]) {
        self.head(b'$', data.len() as i64);
        self.add_part(Part::Copied(data.to_vec()));
        self.buffer.extend_from_slice(b"\r\n");
    }

    /// A string that is not copied if it is large.
    pub fn bytes(&mut self, data: &Bytes) {
        if data.len() < SHARED {
            return self.bulk(data);
        }
        self.head(b'$', data.len() as i64);
        self.add_part(Part::Shared(data.clone()));
        self.buffer.extend_from_slice(b"\r\n");
    }

    /// An argument of the request. As a string, it is not copied if it is large.
    pub fn arg(&mut self, arg: Arg<'_>) {
        match arg {
            Arg::InInput(data) => self.bulk(data),
            Arg::Large(data) => self.bytes(data),
        }
    }

    /// An element of a collection. As a string, it is not copied if it is large.
    pub fn item(&mut self, item: &Text) {
        match item.as_bytes().len() {
            0..SHARED => self.bulk(item.as_bytes()),
            _ => self.bytes(&item.to_bytes()),
        }
    }

    pub fn optional_item(&mut self, item: Option<&Text>) {
        match item {
            Some(item) => self.item(item),
            None => self.null(),
        }
    }

    /// Output that a producer makes.
    pub fn produce(&mut self, producer: impl Producer + Send + 'static) {
        self.add_part(Part::Made(Box::new(producer)));
    }

    pub fn text(&mut self, text: &str) {
        self.bulk(text.as_bytes());
    }

    pub fn null(&mut self) {
        self.buffer
            .extend_from_slice(if self.resp3 { b"_\r\n" } else { b"$-1\r\n" });
    }

    pub fn null_array(&mut self) {
        self.buffer
            .extend_from_slice(if self.resp3 { b"_\r\n" } else { b"*-1\r\n" });
    }

    pub fn optional(&mut self, data: Option<&[u8]>) {
        match data {
            Some(data) => self.bulk(data),
            None => self.null(),
        }
    }

    #[inline]
    pub fn array(&mut self, len: usize) {
        self.head(b'*', len as i64);
    }

    pub fn map(&mut self, len: usize) {
        if self.resp3 {
            self.head(b'%', len as i64);
        } else {
            self.head(b'*', 2 * len as i64);
        }
    }

    pub fn set(&mut self, len: usize) {
        if self.resp3 {
            self.head(b'~', len as i64);
        } else {
            self.head(b'*', len as i64);
        }
    }

    /// A message that answers no request.
    pub fn push(&mut self, len: usize) {
        if self.resp3 {
            self.head(b'>', len as i64);
        } else {
            self.head(b'*', len as i64);
        }
    }

    pub fn double(&mut self, number: f64) {
        let text = float_text(number);
        if self.resp3 {
            self.buffer.push(b',');
            self.buffer.extend_from_slice(text.as_bytes());
            self.buffer.extend_from_slice(b"\r\n");
        } else {
            self.text(&text);
        }
    }

    /// Text for people.
    pub fn verbatim(&mut self, text: &str) {
        if self.resp3 {
            self.head(b'=', text.len() as i64 + 4);
            self.buffer.extend_from_slice(b"txt:");
            self.buffer.extend_from_slice(text.as_bytes());
            self.buffer.extend_from_slice(b"\r\n");
        } else {
            self.text(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(resp3: bool, encode: impl FnOnce(&mut Reply)) -> String {
        let mut reply = Reply {
            resp3,
            ..Reply::default()
        };
        encode(&mut reply);
        String::from_utf8(reply.buffer).unwrap()
    }

    #[test]
    fn each_version_has_its_own_types() {
        for (encode, two, three) in [
            ((|it| it.null()) as fn(&mut Reply), "$-1\r\n", "_\r\n"),
            (|it| it.null_array(), "*-1\r\n", "_\r\n"),
            (|it| it.map(6), "*12\r\n", "%6\r\n"),
            (|it| it.set(10), "*10\r\n", "~10\r\n"),
            (|it| it.push(3), "*3\r\n", ">3\r\n"),
            (|it| it.double(1.5), "$3\r\n1.5\r\n", ",1.5\r\n"),
            (|it| it.verbatim("a"), "$1\r\na\r\n", "=5\r\ntxt:a\r\n"),
            (
                |it| it.error("ERR a\r\nb"),
                "-ERR a  b\r\n",
                "-ERR a  b\r\n",
            ),
            (|it| it.integer(-12), ":-12\r\n", ":-12\r\n"),
        ] {
            assert_eq!(encoded(false, encode), two);
            assert_eq!(encoded(true, encode), three);
        }
    }
}
