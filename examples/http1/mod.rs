//! HTTP/1.1 messages (RFC 9112), strictly: what can be read in two ways is refused, because a peer that reads it in
//! the other way finds a request that was not sent (request smuggling, RFC 9112 section 11.2). The examples `files`
//! and `proxy` include this folder by its path.
//!
//! A message is received with two kinds of terminators. Its head is one record under [`head_terminator`], which
//! [`Request::parse`] or [`Response::parse`] takes. Then a [`Body`] names the terminator of each record of the body,
//! until the body is complete:
//!
//! ```text
//! fn found_terminator(&mut self, record: &[u8]) -> Result {
//!     match &mut self.body {
//!         None => {
//!             let mut space = http1::field_space();
//!             match Request::parse(record, &mut space) {
//!                 Ok(request) => self.begin(request), // keeps Body::new(request.framing) in self.body
//!                 Err(rejected) => self.refuse(rejected), // replies rejected.status, and closes
//!             }
//!         }
//!         Some(body) => match body.found_terminator(record) {
//!             Ok(()) => {}
//!             Err(rejected) => self.refuse(rejected),
//!         },
//!     }
//!     match self.body.as_ref().and_then(Body::terminator) {
//!         Some(terminator) => self.chat.set_terminator(terminator),
//!         None => // the body is complete: reply, and set the terminator of the next head
//!     }
//! }
//!
//! fn collect_incoming_data(&mut self, piece: &[u8]) -> Result {
//!     // A piece of the content of the body, without the framing of its chunks.
//! }
//! ```
//!
//! The bytes of a body are never collected. Reading order: `head.rs`, `framing.rs`, `body.rs`, then the rest.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "no program uses everything here, and `pub` items are visible in it only"
)]

pub mod basic;
pub mod body;
pub mod chunked;
pub mod fields;
pub mod framing;
pub mod head;
pub mod status;
pub mod target;

use std::mem::MaybeUninit;

use asynchat::Terminator;

pub use body::Body;
pub use fields::{Field, Fields};
pub use framing::Framing;
pub use head::{Request, Response, Version};
pub use status::Rejected;
pub use target::AbsoluteForm;

/// The longest head in bytes. nginx and Apache accept lines of 8 KiB.
pub const LONGEST_HEAD: u64 = 32 << 10;

/// The longest target of a request. RFC 9112 section 3 recommends at least 8,000. The longest path of most systems has 4,096
/// bytes, and three times as many when all are encoded.
pub const LONGEST_TARGET: usize = 16 << 10;

/// The most fields of a head.
pub const MOST_FIELDS: usize = 100;

/// What a complete head ends with.
pub const HEAD_END: &[u8; 4] = b"\r\n\r\n";

/// The terminator of a head. Its record ends with an empty line: only CRLF ends a line.
///
/// A record that is only an empty line is to be ignored before a request ([`is_blank`]). Keep the terminator, and
/// clone it: to make it takes an allocation.
pub fn head_terminator() -> Terminator {
    Terminator::bytes(HEAD_END).inclusive().limit(LONGEST_HEAD)
}

/// Whether a head, or the part of it that has arrived, has nothing but empty lines. Some clients send them after a body, and
/// they are no part of a request (RFC 9112 section 2.2).
pub fn is_blank(head: &[u8]) -> bool {
    head.chunks(2).all(|line| b"\r\n".starts_with(line))
}

/// Whether a line that ends in this part of a head ends with LF alone. Such a head has no end, and its client would
/// wait for a reply: check each piece that arrives.
pub fn has_bare_lf(head: &[u8], from: usize) -> bool {
    let is_bare = |at: usize| from + at == 0 || head[from + at - 1] != b'\r';
    memchr::memchr_iter(b'\n', &head[from..]).any(is_bare)
}

/// Room for the fields of a head.
pub type FieldSpace<'b> = [MaybeUninit<Field<'b>>; MOST_FIELDS];

/// Room for the fields of a head, as [`Request::parse`] needs it. Most heads use a small part of it.
pub fn field_space<'b>() -> FieldSpace<'b> {
    [const { MaybeUninit::uninit() }; MOST_FIELDS]
}
