//! `pipe`: joins two connections, as a proxy does.
//!
//! A piped chat keeps its session, its queue, its limits and its deadlines. Only the destination of its
//! input changes. This file joins them and says how a pipe ends. `ChatDriver::pass_on`
//! (`chat/driver/delivery.rs`) moves the bytes, and `state/pipe.rs` passes the end of one stream or
//! connection on to the other.

use std::rc::Rc;

use super::handle::Chat;
use crate::error::{Close, Error, Result};
use crate::framing::terminator::Terminator;
use crate::state::{Flag, Phase};

/// Joins two connections: from now on the input of each is sent to the other as it arrives, without
/// framing. What the kernel does not take at once is queued. This is a port forwarder:
///
/// ```no_run
/// use asynchat::Result;
///
/// fn main() -> Result {
///     asynchat::listen("127.0.0.1:8080", |near| {
///         let far = asynchat::connect("example.org:80", |_| |_: &[u8]| Ok(()));
///         if far.and_then(|far| asynchat::pipe(&near, &far)).is_err() {
///             near.close();
///         }
///         |_: &[u8]| Ok(())
///     })?;
///     asynchat::run()?;
///     Ok(())
/// }
/// ```
///
/// A session may exchange records first and pipe later. Input that was received and not delivered goes
/// through the pipe, whatever the terminator was. So does what was pushed to either connection before:
///
/// ```
/// use asynchat::{AsyncChat, Chat, Close, Result};
///
/// /// Receives the line `CONNECT host:port`, then connects and pipes.
/// struct Door { chat: Chat }
///
/// impl AsyncChat for Door {
///     fn found_terminator(&mut self, line: &[u8]) -> Result {
///         let line = std::str::from_utf8(line)?;
///         let target = line.strip_prefix("CONNECT ").ok_or("the only command is CONNECT")?;
///         let near = self.chat.clone();
///         let far = asynchat::connect(target, |_| Beyond { near })?;
///         asynchat::pipe(&self.chat, &far)?;
///         Ok(())
///     }
/// }
///
/// /// The far connection reports the outcome of the connect to the near one.
/// struct Beyond { near: Chat }
///
/// impl AsyncChat for Beyond {
///     fn handle_connect(&mut self) -> Result {
///         self.near.push("200 connected\r\n");
///         Ok(())
///     }
///     fn handle_close(&mut self, why: &Close) {
///         if let Close::ConnectFailed(error) = why {
///             write!(self.near, "502 {error}\r\n");
///         }
///     }
///     fn found_terminator(&mut self, _: &[u8]) -> Result { Ok(()) }
/// }
/// ```
///
/// * **Sessions.** Both sessions stay. They receive no more records. They receive
///   [`handle_piped`](crate::AsyncChat::handle_piped) for each chunk and for the end of the input, their
///   timers, and `handle_close`. They may push in between, and pause reading.
/// * **Back-pressure.** While the queue of one connection is above its
///   [`high_water`](crate::Limits#structfield.high_water) mark, the other one is not read. A queue therefore
///   holds at most that much and the input of one turn.
/// * **Half-close.** When one peer has finished sending, the sending side of the other connection is shut
///   down after the piped bytes. When both peers have finished, both connections close with [`Close::Eof`].
/// * **A peer that no longer receives.** When a send to a peer fails, what this peer has sent so far is still
///   passed on to the other connection. Then the connection closes. Input that arrives later is lost.
/// * **A reset** is noticed also while the other peer is slow. What came before it is passed on while that peer takes
///   something. When it takes nothing for the time of [`linger`](crate::Deadlines#structfield.linger), or up to twice that
///   time, both connections end, and the rest is lost.
/// * **The end of one connection ends the other**, with [`Close::Piped`], which contains the reason:
///
///   | the first connection | the other one |
///   |---|---|
///   | had received the end of its input (with TLS, its announcement), was [closed](Chat::close) by this side, or never came up | sends its queue, and closes |
///   | ended in another way: a reset by the peer, an i/o error, [`abort`](Chat::abort), a deadline, a callback that fails | is reset at once, so that its peer does not take the stream for complete |
///
///   If the other end is no socket ([standard output](crate::Socket::stdio), a pipe, a terminal), it cannot be reset,
///   and sends its queue.
/// * **A [shutdown](crate::shutdown)** lets the piped streams end within its grace.
///
/// A pipe cannot be undone. Only a [deadline](crate::Deadlines) detects a peer that disappears without
/// closing: set `idle` and `drain` on both connections. `idle` also runs while a connection is not read because the other
/// peer is slow. `record` and `input` do not apply.
///
/// # Errors
/// When one of them is piped already, or both are the same connection. A connection that has ended is no
/// error: the other one follows it.
pub fn pipe(a: &Chat, b: &Chat) -> Result<(), Error> {
    let ends = [a.state(), b.state()];
    if Rc::ptr_eq(ends[0], ends[1]) {
        return Err(Error::new("a connection cannot be piped to itself").context(a.id()));
    }
    if let Some(end) = ends.iter().find(|end| end.flags.has(Flag::PIPED)) {
        return Err(Error::new("the connection is piped already").context(end.id.get()));
    }
    for (chat, from, to) in [(a, ends[0], ends[1]), (b, ends[1], ends[0])] {
        from.pipe_to(to);
        // The splitter then releases the beginning of a record or a terminator.
        chat.set_terminator(Terminator::none());
    }
    for (from, to) in [(ends[0], ends[1]), (ends[1], ends[0])] {
        if from.phase.get() == Phase::Closed {
            to.close_when_done(Close::Piped(Box::new(Close::Local)));
        } else if from.flags.has(Flag::EOF) {
            from.pass_on_eof();
        }
    }
    Ok(())
}
