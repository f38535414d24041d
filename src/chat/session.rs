//! `AsyncChat`: the handler of a connection on layer 2.

use bytes::Bytes;

use crate::error::{Close, RecordLimit, Result};
use crate::log::log_throttled;
use crate::time::timer::TimerId;

/// The handler of a connection that receives records: asynchat's `async_chat`.
///
/// A [`Terminator`](crate::Terminator) splits the input into records. The default is CRLF. The loop passes
/// each record to [`found_terminator`](AsyncChat::found_terminator). The session pushes its replies to its
/// [`Chat`](crate::Chat). A closure that takes a record is a session, too. Write the type of its argument,
/// `|line: &[u8]|`: the compiler does not infer that the closure accepts every lifetime.
///
/// The loop makes one callback at a time. A method of a handle never makes one. A callback that returns an
/// error or panics ends its own connection and no other. What was pushed before the failure is sent first,
/// so a session may push an explanation and then return an error: the peer receives all replies, however its
/// input was segmented. If the peer takes nothing for the
/// [`linger`](crate::Deadlines#structfield.linger) time (2 s, if that is longer), the loop drops the rest of this
/// output and ends the connection. After the failure `handle_close` is the only callback.
///
/// ```
/// use asynchat::{AsyncChat, Chat, Result, Terminator};
///
/// /// `PUT n`, then n bytes. The reply is their sum.
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
///             let count = line.strip_prefix("PUT ").ok_or("the only command is PUT n")?;
///             self.chat.set_terminator(Terminator::count(count.parse()?));
///         }
///         self.in_body = !self.in_body;
///         Ok(())
///     }
/// }
/// ```
pub trait AsyncChat: 'static {
    /// A record is complete. `record` is the record without its terminator, unless that is
    /// [inclusive](crate::Terminator::inclusive). After a [streamed](crate::Terminator::streamed) record, whose bytes
    /// `collect_incoming_data` has received, it is empty. An empty record is delivered as well.
    ///
    /// # Errors
    /// An error closes the connection with [`Close::Handler`], after everything pushed before has been sent.
    fn found_terminator(&mut self, record: &[u8]) -> Result;

    /// A record of an [owned](crate::Terminator::owned) terminator is complete. The session may keep it: it
    /// is not a copy. By default it is passed to [`found_terminator`](AsyncChat::found_terminator).
    ///
    /// # Errors
    /// As [`found_terminator`](AsyncChat::found_terminator).
    fn found_record(&mut self, record: Bytes) -> Result {
        self.found_terminator(&record)
    }

    /// A chunk of a streamed record has arrived. How a record is divided into chunks depends on the network.
    /// This is called only for [streamed](crate::Terminator::streamed) terminators and
    /// [`Terminator::none`](crate::Terminator::none). By default the chunk is dropped, and a warning is
    /// logged.
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

    /// The connection is up. A greeting is sent here. This is called once for each connection, accepted or
    /// outgoing (asyncore called it for outgoing ones only), before the first record. By default it does
    /// nothing.
    ///
    /// # Errors
    /// As [`found_terminator`](AsyncChat::found_terminator).
    fn handle_connect(&mut self) -> Result {
        Ok(())
    }

    /// The current record is longer than its limit: that of its [terminator](crate::Terminator::limit), else
    /// [`Limits::record`](crate::Limits#structfield.record). Its bytes are not delivered. The session
    /// chooses: close the connection (the default), or discard the record up to its terminator and continue
    /// with the next one. `limit` says which limit it was, and the length if that was known in advance.
    ///
    /// Under [`Terminator::count`](crate::Terminator::count) the length is known in advance, so this is called
    /// as soon as a count above its limit is set, before the first byte of the record arrives. To accept long
    /// counts, set a limit of their own, `count(n).limit(most)`, or stream them. The connection's limit is
    /// 8 KiB by default. The loop logs which limit a count has exceeded, and [`Close::InputLimit`] has it.
    ///
    /// In both cases the session may push a reply:
    ///
    /// ```
    /// # use asynchat::{AsyncChat, Chat, Overflow, RecordLimit, Result};
    /// # struct Session { chat: Chat }
    /// # impl AsyncChat for Session {
    /// # fn found_terminator(&mut self, _: &[u8]) -> Result { Ok(()) }
    /// fn handle_overflow(&mut self, _limit: &RecordLimit) -> Result<Overflow> {
    ///     self.chat.push("500 line too long\r\n"); // RFC 5321 section 4.5.3.1.9
    ///     Ok(Overflow::Discard)
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`found_terminator`](AsyncChat::found_terminator).
    fn handle_overflow(&mut self, limit: &RecordLimit) -> Result<Overflow> {
        let _ = limit;
        Ok(Overflow::CloseWhenDone)
    }

    /// The peer has finished sending, and all complete records have been delivered. `partial` is the
    /// incomplete record after the last one, empty if there is none. By default the connection closes when
    /// its queue is sent.
    ///
    /// # Errors
    /// As [`found_terminator`](AsyncChat::found_terminator).
    fn handle_eof(&mut self, partial: &[u8]) -> Result<Eof> {
        let _ = partial;
        Ok(Eof::CloseWhenDone)
    }

    /// A chunk of input was pushed to the other end of the [`pipe`](crate::pipe). A session can count,
    /// throttle or record it here. How the stream is divided into chunks depends on the network; no chunk is
    /// longer than [`Limits::turn_read`](crate::Limits#structfield.turn_read). An empty chunk is the end of
    /// the input. By default it does nothing.
    ///
    /// # Errors
    /// As [`found_terminator`](AsyncChat::found_terminator).
    fn handle_piped(&mut self, chunk: &[u8]) -> Result {
        let _ = chunk;
        Ok(())
    }

    /// The queue was above [`Limits::high_water`](crate::Limits#structfield.high_water) and has drained to
    /// [`Limits::low_water`](crate::Limits#structfield.low_water). A session that stopped pushing can
    /// continue. By default it does nothing.
    ///
    /// # Errors
    /// As [`found_terminator`](AsyncChat::found_terminator).
    fn handle_low_water(&mut self) -> Result {
        Ok(())
    }

    /// A timer of the connection is due. It was set with [`Chat::call_later`](crate::Chat::call_later)
    /// or [`Chat::call_every`](crate::Chat::call_every). By default it does nothing.
    ///
    /// # Errors
    /// As [`found_terminator`](AsyncChat::found_terminator).
    fn handle_timer(&mut self, timer: TimerId) -> Result {
        let _ = timer;
        Ok(())
    }

    /// TLS is up, after [`Chat::start_tls`](crate::Chat::start_tls). What the session knows from before was
    /// received in clear, and may be somebody else's: forget it (RFC 3207 section 4.2). Not called where the
    /// connection has used TLS from its beginning: there `handle_connect` follows the handshake. By default it
    /// does nothing.
    ///
    /// # Errors
    /// As [`found_terminator`](AsyncChat::found_terminator).
    fn handle_tls(&mut self) -> Result {
        Ok(())
    }

    /// The loop has begun to [shut down](crate::shutdown). This is called once in a shutdown, before the
    /// next record. By default the connection closes when its queue is sent. A session in the middle of a
    /// transfer can return [`AtShutdown::Stay`]: it then continues to receive records, and closes itself with
    /// [`close_when_done`](crate::Chat::close_when_done). At the end of the shutdown's grace the connection
    /// is aborted.
    ///
    /// For a new session [`handle_connect`](AsyncChat::handle_connect) is called first. This is not called
    /// when the session has queued a close already, when its connection is [piped](crate::pipe), and for an
    /// outgoing connection that is not up.
    ///
    /// ```
    /// # use asynchat::{AsyncChat, AtShutdown, Chat, Result};
    /// # struct Session { chat: Chat, in_body: bool, leaving: bool }
    /// # impl AsyncChat for Session {
    /// # fn found_terminator(&mut self, _: &[u8]) -> Result { Ok(()) }
    /// fn handle_shutdown(&mut self) -> Result<AtShutdown> {
    ///     if self.in_body {
    ///         self.leaving = true; // `found_terminator` sends 421 and closes after the body
    ///         return Ok(AtShutdown::Stay);
    ///     }
    ///     self.chat.push("421 shutting down\r\n");
    ///     Ok(AtShutdown::CloseWhenDone)
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`found_terminator`](AsyncChat::found_terminator).
    fn handle_shutdown(&mut self) -> Result<AtShutdown> {
        Ok(AtShutdown::CloseWhenDone)
    }

    /// The connection has ended, for this reason. This is called exactly once, and it is the last callback.
    /// The loop drops the session afterwards. By default it does nothing.
    ///
    /// For an access log the chat still has its peer's address, its [`stats`](crate::Chat::stats), and, until this
    /// callback has returned, what TLS has agreed on and the PROXY header.
    fn handle_close(&mut self, why: &Close) {
        let _ = why;
    }
}

impl<F: FnMut(&[u8]) -> Result + 'static> AsyncChat for F {
    fn found_terminator(&mut self, record: &[u8]) -> Result {
        self(record)
    }
}

/// A factory that chooses one of several types of session returns them boxed. The type that a
/// [`post`](crate::Chat::post) to such a session names is `Box<dyn AsyncChat>`: it can make the callbacks, and reaches
/// no fields.
///
/// ```
/// use asynchat::{AsyncChat, Chat};
///
/// # let listener =
/// asynchat::listen("127.0.0.1:0", |chat: Chat| -> Box<dyn AsyncChat> {
///     match chat.peer_addr().and_then(|peer| peer.ip()) {
///         Some(ip) if ip.is_loopback() => Box::new(move |line: &[u8]| {
///             chat.push_slices(&[b"operator: ", line, b"\r\n"]);
///             Ok(())
///         }),
///         _ => Box::new(move |line: &[u8]| {
///             chat.push_slices(&[b"visitor: ", line, b"\r\n"]);
///             Ok(())
///         }),
///     }
/// })?;
/// # listener.close();
/// # asynchat::run()?;
/// # Ok::<(), asynchat::Error>(())
/// ```
impl AsyncChat for Box<dyn AsyncChat> {
    fn found_terminator(&mut self, record: &[u8]) -> Result {
        (**self).found_terminator(record)
    }

    fn found_record(&mut self, record: Bytes) -> Result {
        (**self).found_record(record)
    }

    fn collect_incoming_data(&mut self, chunk: &[u8]) -> Result {
        (**self).collect_incoming_data(chunk)
    }

    fn handle_connect(&mut self) -> Result {
        (**self).handle_connect()
    }

    fn handle_overflow(&mut self, limit: &RecordLimit) -> Result<Overflow> {
        (**self).handle_overflow(limit)
    }

    fn handle_eof(&mut self, partial: &[u8]) -> Result<Eof> {
        (**self).handle_eof(partial)
    }

    fn handle_piped(&mut self, chunk: &[u8]) -> Result {
        (**self).handle_piped(chunk)
    }

    fn handle_low_water(&mut self) -> Result {
        (**self).handle_low_water()
    }

    fn handle_timer(&mut self, timer: TimerId) -> Result {
        (**self).handle_timer(timer)
    }

    fn handle_tls(&mut self) -> Result {
        (**self).handle_tls()
    }

    fn handle_shutdown(&mut self) -> Result<AtShutdown> {
        (**self).handle_shutdown()
    }

    fn handle_close(&mut self, why: &Close) {
        (**self).handle_close(why);
    }
}

/// What happens after a record over its limit. Returned by [`AsyncChat::handle_overflow`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// The connection closes with [`Close::InputLimit`] when its queue is sent.
    CloseWhenDone,
    /// The record is discarded up to its terminator. The next record is delivered.
    Discard,
}

/// What happens when the peer has finished sending. Returned by [`AsyncChat::handle_eof`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Eof {
    /// The connection closes with [`Close::Eof`] when its queue is sent.
    CloseWhenDone,
    /// This side stays open, because the peer may still receive (a half-close). Close it later.
    StayOpen,
}

/// What a connection does when the loop shuts down. Returned by [`AsyncChat::handle_shutdown`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AtShutdown {
    /// The connection closes with [`Close::Shutdown`] when its queue is sent.
    CloseWhenDone,
    /// The connection stays until the session closes it, or the grace of the shutdown ends.
    Stay,
}

#[cfg(test)]
mod tests {
    /// A callback that the box does not forward would run its default instead of the session's own.
    #[test]
    fn a_boxed_session_forwards_every_callback() {
        let source = include_str!("session.rs");
        let names = |start: &str| -> Vec<&str> {
            let rest = source
                .split(start)
                .nth(1)
                .expect("it begins with this line");
            let block = rest.split("\n}\n").next().expect("it ends");
            let heads = block
                .lines()
                .filter_map(|line| line.strip_prefix("    fn "));
            heads.filter_map(|head| head.split('(').next()).collect()
        };
        let callbacks = names("\npub trait AsyncChat: 'static {");
        assert!(callbacks.len() >= 11, "{callbacks:?}");
        assert_eq!(
            names("\nimpl AsyncChat for Box<dyn AsyncChat> {"),
            callbacks
        );
    }
}
