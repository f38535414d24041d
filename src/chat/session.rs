//! The handler of a connection on layer 2.

use crate::error::{Close, Result};
use crate::log::log_throttled;
use crate::time::timer::TimerId;

/// A session of a line protocol: asynchat's `async_chat`.
///
/// Input is split on the [`Terminator`](crate::Terminator) in force, CRLF unless set otherwise, and each record
/// handed to [`found_terminator`](AsyncChat::found_terminator). What is said in reply is pushed
/// to the session's [`Chat`](crate::Chat). A closure that takes a record is a session too.
///
/// The loop calls, one callback at a time, and never from inside a method of a handle. A callback
/// that returns an error, or panics, ends its own connection and no other. What was pushed before it
/// failed is sent first, so a session may push an explanation and then return an error: the peer gets
/// all replies, however its input was cut. A peer that does not take them is waited for as long as a
/// close [lingers](crate::Deadlines::linger). No callback but `handle_close` follows the failure.
///
/// ```
/// use asynchat::{AsyncChat, Chat, Result, Terminator};
///
/// /// `PUT n`, then n bytes; answered with their sum.
/// struct Sum { chat: Chat, in_body: bool }
///
/// impl AsyncChat for Sum {
///     fn found_terminator(&mut self, record: &[u8]) -> Result {
///         if self.in_body {
///             let sum: u64 = record.iter().map(|byte| u64::from(*byte)).sum();
///             write!(self.chat, "{sum}\r\n");
///             self.chat.set_terminator(Terminator::crlf());
///         } else {
///             let line = std::str::from_utf8(record)?;
///             let count = line.strip_prefix("PUT ").ok_or("PUT n is all I know")?;
///             self.chat.set_terminator(Terminator::count(count.parse()?));
///         }
///         self.in_body = !self.in_body;
///         Ok(())
///     }
/// }
/// ```
pub trait AsyncChat: 'static {
    /// A record is complete; `record` is what came before its terminator. After a
    /// [streamed](crate::Terminator::streamed) record, whose bytes `collect_incoming_data` got, it is
    /// empty.
    ///
    /// # Errors
    /// An error closes the connection with [`Close::Handler`], when what was pushed is sent.
    fn found_terminator(&mut self, record: &[u8]) -> Result;

    /// A part of a streamed record has come; how it is cut into parts means nothing. Called only
    /// for [streamed](crate::Terminator::streamed) terminators and [`Terminator::none`](crate::Terminator::none).
    ///
    /// # Errors
    /// As [`found_terminator`](AsyncChat::found_terminator).
    fn collect_incoming_data(&mut self, chunk: &[u8]) -> Result {
        let count = chunk.len();
        log_throttled!(
            warn,
            count,
            "input discarded: collect_incoming_data is not implemented"
        );
        Ok(())
    }

    /// The connection is up, accepted and outgoing alike (asyncore told only of outgoing ones):
    /// the place for a greeting.
    ///
    /// # Errors
    /// As [`found_terminator`](AsyncChat::found_terminator).
    fn handle_connect(&mut self) -> Result {
        Ok(())
    }

    /// The record in hand is longer than its limit, [`Limits::record`](crate::Limits::record) or the terminator's own; how
    /// it begins is not told. Either close, which is the default, or skip it: then its terminator
    /// is looked for, and what follows is the next record. Pushing a complaint is fine with both:
    ///
    /// ```
    /// # use asynchat::{AsyncChat, Chat, Overflow, Result};
    /// # struct Session { chat: Chat }
    /// # impl AsyncChat for Session {
    /// # fn found_terminator(&mut self, _: &[u8]) -> Result { Ok(()) }
    /// fn handle_overflow(&mut self) -> Overflow {
    ///     self.chat.push("500 line too long\r\n"); // RFC 5321 section 4.5.3.1.9
    ///     Overflow::Discard
    /// }
    /// # }
    /// ```
    fn handle_overflow(&mut self) -> Overflow {
        Overflow::Close
    }

    /// The peer has finished sending, and all records have been delivered; `partial` is what came
    /// after the last. By default the connection is closed when the queue is drained.
    ///
    /// # Errors
    /// As [`found_terminator`](AsyncChat::found_terminator).
    fn handle_eof(&mut self, partial: &[u8]) -> Result<Eof> {
        let _ = partial;
        Ok(Eof::CloseWhenDone)
    }

    /// This much of the stream has gone on to the other end of its [`pipe`](crate::pipe): for who
    /// counts, throttles or watches what passes. How it is cut means nothing; no chunk is longer than
    /// [`Limits::turn_read`](crate::Limits::turn_read). One that is empty is the end of the stream.
    ///
    /// # Errors
    /// As [`found_terminator`](AsyncChat::found_terminator).
    fn handle_piped(&mut self, chunk: &[u8]) -> Result {
        let _ = chunk;
        Ok(())
    }

    /// The queue had grown over [`Limits::high_water`](crate::Limits::high_water) and has drained to
    /// [`Limits::low_water`](crate::Limits::low_water): push on.
    ///
    /// # Errors
    /// As [`found_terminator`](AsyncChat::found_terminator).
    fn handle_low_water(&mut self) -> Result {
        Ok(())
    }

    /// A timer set with [`Channel::call_later`](crate::Channel::call_later) or [`Channel::call_every`](crate::Channel::call_every) is due.
    ///
    /// # Errors
    /// As [`found_terminator`](AsyncChat::found_terminator).
    fn handle_timer(&mut self, timer: TimerId) -> Result {
        let _ = timer;
        Ok(())
    }

    /// The loop has begun to [shut down](crate::shutdown). The loop calls this once in a shutdown,
    /// before it delivers the next record. By default the connection is closed when the queue is
    /// drained. A session that is in the middle of something can return [`Shutdown::Stay`]: then it
    /// goes on receiving records, and closes itself with
    /// [`close_when_done`](crate::Chat::close_when_done). When the grace of the shutdown is over, the
    /// connection is aborted.
    ///
    /// A session that is new gets its [`handle_connect`](AsyncChat::handle_connect) first. This is
    /// not called when the session has queued a close already, when its connection is
    /// [piped](crate::pipe), or when it is an outgoing one that is not up.
    ///
    /// ```
    /// # use asynchat::{AsyncChat, Chat, Result, Shutdown};
    /// # struct Session { chat: Chat, in_body: bool, leaving: bool }
    /// # impl AsyncChat for Session {
    /// # fn found_terminator(&mut self, _: &[u8]) -> Result { Ok(()) }
    /// fn handle_shutdown(&mut self) -> Result<Shutdown> {
    ///     if self.in_body {
    ///         self.leaving = true; // `found_terminator` says 421 and closes after the body
    ///         return Ok(Shutdown::Stay);
    ///     }
    ///     self.chat.push("421 shutting down\r\n");
    ///     Ok(Shutdown::CloseWhenDone)
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`found_terminator`](AsyncChat::found_terminator).
    fn handle_shutdown(&mut self) -> Result<Shutdown> {
        Ok(Shutdown::CloseWhenDone)
    }

    /// The connection has ended, and this is why: exactly once, and the last call.
    fn handle_close(&mut self, why: &Close) {
        let _ = why;
    }
}

impl<F: FnMut(&[u8]) -> Result + 'static> AsyncChat for F {
    fn found_terminator(&mut self, record: &[u8]) -> Result {
        self(record)
    }
}

/// What to do about a record over its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// Close the connection with [`Close::InputLimit`]; what is queued is sent first.
    Close,
    /// Skip the record and go on with the next: the session stays in sync.
    Discard,
}

/// What to do when the peer has finished sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eof {
    /// Close when the queue is drained, with [`Close::Eof`].
    CloseWhenDone,
    /// Leave this side open: the peer may still be listening.
    StayOpen,
}

/// What to do when the loop shuts down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Close when the queue is drained, with [`Close::Shutdown`].
    CloseWhenDone,
    /// Go on until the session closes, or the grace of the shutdown is over.
    Stay,
}
