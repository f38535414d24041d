//! Layer 2, as its user sees it: records in, a FIFO of producers out.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::ops::Deref;
use std::rc::Rc;

use bytes::Bytes;

use crate::channel::handle::Channel;
use crate::error::{Close, Error, Result};
use crate::framing::terminator::Terminator;
use crate::limits::Limits;
use crate::log::log_throttled;
use crate::output::fifo::{COPIED, Item};
use crate::output::producers::Producer;
use crate::state::ChannelState;
use crate::time::deadlines::Clocks;
use crate::time::timer::TimerId;
use crate::user_code::{Discarded, discard};

/// A session of a line protocol: asynchat's `async_chat`.
///
/// Input is split on the [`Terminator`] in force, CRLF unless set otherwise, and each record
/// handed to [`found_terminator`](AsyncChat::found_terminator). What is said in reply is pushed
/// to the session's [`Chat`]. A closure that takes a record is a session too.
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
    /// [streamed](Terminator::streamed) record, whose bytes `collect_incoming_data` got, it is
    /// empty.
    ///
    /// # Errors
    /// An error closes the connection with [`Close::Handler`], when what was pushed is sent.
    fn found_terminator(&mut self, record: &[u8]) -> Result;

    /// A part of a streamed record has come; how it is cut into parts means nothing. Called only
    /// for [streamed](Terminator::streamed) terminators and [`Terminator::none`].
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

    /// The record in hand is longer than its limit, [`Limits::record`] or the terminator's own; how
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
    /// [`Limits::turn_read`]. One that is empty is the end of the stream.
    ///
    /// # Errors
    /// As [`found_terminator`](AsyncChat::found_terminator).
    fn handle_piped(&mut self, chunk: &[u8]) -> Result {
        let _ = chunk;
        Ok(())
    }

    /// The queue had grown over [`Limits::high_water`] and has drained to
    /// [`Limits::low_water`]: push on.
    ///
    /// # Errors
    /// As [`found_terminator`](AsyncChat::found_terminator).
    fn handle_low_water(&mut self) -> Result {
        Ok(())
    }

    /// A timer set with [`Channel::call_later`] or [`Channel::call_every`] is due.
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
    /// [`close_when_done`](Chat::close_when_done). When the grace of the shutdown is over, the
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

/// The connection of a session: what asynchat had as `self`, to push to.
///
/// It is a handle: cheap to clone, all clones are the same connection, and it can be kept
/// anywhere on its thread. A chat room is a map of them, a proxy is two sessions that hold each
/// other's. None of its methods calls your code, so they can be called from anywhere, also while
/// the state that sessions share is borrowed. On a connection that has ended they do nothing.
///
/// All the methods of [`Channel`] are here too.
///
/// ```
/// use std::cell::RefCell;
/// use std::rc::Rc;
/// use asynchat::Chat;
///
/// let room: Rc<RefCell<Vec<Chat>>> = Rc::default();
/// # let listener =
/// asynchat::listen("127.0.0.1:0", move |chat| {
///     room.borrow_mut().push(chat);
///     let room = Rc::clone(&room);
///     move |line: &[u8]| {
///         for member in room.borrow().iter() {
///             member.push_slice(line);
///             member.push("\r\n");
///         }
///         Ok(())
///     }
/// })?;
/// # listener.close();
/// # asynchat::run()?;
/// # Ok::<(), asynchat::Error>(())
/// ```
#[derive(Clone)]
pub struct Chat(Channel);

impl Chat {
    pub(crate) fn new(channel: Channel, limits: Option<Rc<Limits>>) -> Self {
        channel.0.chat.is_chat.set(true);
        channel.0.set_limits(limits);
        Chat(channel)
    }

    /// The chat that this channel is known to be.
    pub(crate) fn of(channel: Channel) -> Self {
        Chat(channel)
    }

    /// Queues `data`. Nothing is sent before the callback has returned: then all that was pushed
    /// goes out at once. Large [`Bytes`] are not copied, and shared by all who push clones.
    #[inline]
    pub fn push(&self, data: impl Into<Bytes>) {
        // Converted before, and dropped after, the queue is borrowed: both may be user code.
        let data = data.into();
        let full = self.state().out.borrow_mut().push_bytes(&data);
        self.state().pushed(full, || data.len());
    }

    /// Queues a copy of `data`, in a buffer that it shares with what is pushed before and after.
    #[inline(always)]
    pub fn push_slice(&self, data: &[u8]) {
        let full = self.state().out.borrow_mut().push_slice(data);
        self.state().pushed(full, || data.len());
    }

    /// Queues a copy of these pieces, one after another: a reply put together where it is queued, for
    /// less than a [`push_slice`](Chat::push_slice) of each.
    ///
    /// ```
    /// # fn reply(chat: &asynchat::Chat, group: &[u8]) {
    /// chat.push_slices(&[b"411 no such group: ", group, b"\r\n"]);
    /// # }
    /// ```
    #[inline(always)]
    pub fn push_slices(&self, parts: &[&[u8]]) {
        let full = self.state().out.borrow_mut().push_slices(parts);
        let weight = || parts.iter().map(|part| part.len()).sum();
        self.state().pushed(full, weight);
    }

    /// Queues formatted text, so that `write!(chat, "211 {count}\r\n")` works: nothing to import,
    /// nothing to allocate, nothing to fail.
    ///
    /// ```
    /// # fn reply(chat: &asynchat::Chat) {
    /// let (count, low, high) = (1234, 3000234, 3002322);
    /// write!(chat, "211 {count} {low} {high} misc.test\r\n");
    /// # }
    /// ```
    pub fn write_fmt(&self, text: fmt::Arguments<'_>) {
        struct Tail<'a>(&'a Chat);
        impl fmt::Write for Tail<'_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                self.0.push_slice(text.as_bytes());
                Ok(())
            }
        }
        if fmt::Write::write_fmt(&mut Tail(self), text).is_err() {
            log_throttled!(
                warn,
                "a Display implementation failed: its text is cut short"
            );
        }
    }

    /// Queues a producer: it is asked for its bytes when their turn comes, as fast as the peer
    /// takes them. It is dropped when it is done, or when the connection ends before.
    pub fn push_with_producer(&self, producer: impl Producer + 'static) {
        self.push_item(Item::Producer(Box::new(producer)));
    }

    /// Queues a call: the loop makes it when all that was pushed before has been handed to the
    /// kernel. It is dropped uncalled if the connection ends before.
    pub fn push_hook(&self, hook: impl FnOnce() + 'static) {
        self.push_item(Item::Hook(Box::new(hook)));
    }

    /// Closes the connection when all that was pushed before has been handed to the kernel, with
    /// [`Close::Local`]. From now on nothing more can be pushed, and no more input is delivered.
    /// What was pushed reaches a peer that goes on sending, too: the socket
    /// [lingers](crate::Deadlines::linger) when the handler is gone.
    pub fn close_when_done(&self) {
        self.state().close_when_done(Close::Local);
    }

    /// Ends the sending side when all that was pushed before has been handed to the kernel; what
    /// the peer sends is still delivered. ([`Channel::shutdown_write`], which it takes the place
    /// of, acts at once.)
    pub fn shutdown_write(&self) {
        self.push_item(Item::ShutdownWrite);
    }

    /// What ends the records from now on: from the very next byte that has not been delivered,
    /// whether it has been received already or not. In the middle of a
    /// [`dot_block`](Terminator::dot_block) the dots that were removed so far are not put back: let
    /// it end first.
    pub fn set_terminator(&self, terminator: Terminator) {
        let state = self.state();
        state.chat.set_terminator(terminator);
        state.attention.set(true);
        state.held.set(true);
        state.touch();
    }

    /// What ends the records now.
    pub fn terminator(&self) -> Terminator {
        self.state().chat.terminator()
    }

    /// Sets the limits of this connection. A new record limit holds for the record in hand, too.
    pub fn set_limits(&self, limits: Limits) {
        let state = self.state();
        state.set_limits(Some(Rc::new(limits)));
        state.attention.set(true);
        // A queue that was over the old marks may be under the new ones: look at it now.
        state.blocked.set(false);
        state.touch();
    }

    /// The limits of this connection.
    pub fn limits(&self) -> Limits {
        self.state().limit(|limits| *limits)
    }

    /// Bytes pushed and not yet handed to the kernel; what producers have yet to make is not
    /// counted.
    pub fn queued(&self) -> usize {
        self.state().out.borrow().queued()
    }

    /// Tells that the producer at the front of the queue, which had answered
    /// [`Pending`](crate::More::Pending), may have something now: it is asked again.
    pub fn resume_producing(&self) {
        let state = self.state();
        state.out.borrow_mut().resume();
        state.touch();
    }

    /// Throws away what is queued, producers and hooks too, and what has been received and not
    /// delivered yet. A close that is queued stands. For emergencies, as asynchat's: the record
    /// in hand is gone, and what comes next is taken for the beginning of one.
    pub fn discard_buffers(&self) {
        let state = self.state();
        state.chat.input_discarded.set(true);
        state.attention.set(true);
        state.held.set(true);
        let discarded = state.out.borrow_mut().discard();
        state.drop_later(discarded);
        state.blocked.set(false);
        state.time(|clocks, _| {
            clocks.drained();
            clocks.record_over();
        });
        state.touch();
    }

    /// Queues a visit to this connection's own handler, of type `C`: how a timer, a hook or
    /// another session changes its state rather than only pushing to it. The visit is a callback
    /// like any other: an error it returns closes the connection.
    ///
    /// # Errors
    /// When the connection has ended, or its handler is not a `C`.
    pub fn post<C: 'static>(&self, visit: impl FnOnce(&mut C) -> Result + 'static) -> Result {
        match self.state().runtime() {
            Some(runtime) if self.is_open() => runtime.post_to(self.id(), visit),
            _ => Err(Error::new("the connection has ended").context(self.id())),
        }
    }

    #[inline]
    fn state(&self) -> &Rc<ChannelState> {
        &self.0.0
    }

    fn push_item(&self, item: Item) {
        let state = self.state();
        let (refused, full) = {
            let mut out = state.out.borrow_mut();
            (out.push(item), out.is_full())
        };
        if let Some(item) = refused {
            state.drop_later(VecDeque::from([item]));
        }
        state.pushed(full, || COPIED);
    }
}

impl ChannelState {
    pub(crate) fn close_when_done(self: &Rc<Self>, why: Close) {
        // Nothing can be sent any more: it is done.
        if self.has_lost_output() {
            return self.end(why);
        }
        if self.end_with_send_error() {
            return;
        }
        let refused = self.out.borrow_mut().push(Item::Close(why));
        if refused.is_none() {
            self.closes_when_done();
        }
        discard(refused);
    }

    /// Its close is queued.
    pub(crate) fn closes_when_done(self: &Rc<Self>) {
        self.chat.closing.set(true);
        // What is not complete by now never will be.
        self.time(|clocks, _| clocks.record_over());
        self.attention.set(true);
        self.touch();
    }

    /// Has the loop send what was pushed, and stops the session if that was too much.
    #[inline]
    fn pushed(self: &Rc<Self>, full: bool, weight: impl FnOnce() -> usize) {
        if full {
            self.choke(weight());
        }
        self.touch();
    }

    /// More is queued than the peer takes, or than there is room for beside the input that waits.
    #[cold]
    fn choke(self: &Rc<Self>, pushed: usize) {
        self.attention.set(true);
        if self.chat.closing.get() || !self.out.borrow().is_over_high_water() {
            return;
        }
        self.chat.choked.set(true);
        self.time(Clocks::pause);
        if self.has_failed_sending() {
            return;
        }
        // A session's own replies are bounded by the mark: it gets no other record before they are
        // sent. What others push to it (a broadcast, a timer) is not. A single push of any size is
        // accepted while the queue is within the limit: its caller has it in memory anyway.
        if self.has_turn.get() {
            return self.out.borrow_mut().exempt();
        }
        let before = self.out.borrow().limited_weight().saturating_sub(pushed);
        let limit = self.limit(|limits| limits.output);
        if before > limit {
            // Logged by the loop: the caller may have something borrowed that a subscriber needs.
            self.end(Close::OutputLimit);
        }
    }

    /// Whether its queue was over the high-water mark, and has fallen to the low one.
    pub(crate) fn is_relieved(&self) -> bool {
        let low_water = || self.limit(|limits| limits.low_water);
        self.chat.choked.get()
            && !self.failed.get()
            && self.out.borrow().is_at_low_water(low_water())
    }

    /// Has the loop drop what holds things of the user's: their destructors are user code, which
    /// no method of a handle runs.
    pub(crate) fn drop_later(&self, discarded: VecDeque<Item>) {
        if discarded.is_empty() {
            return;
        }
        let discarded = Discarded(discarded);
        if let Some(runtime) = self.runtime() {
            runtime.call_soon(Box::new(move |_| drop(discarded)));
        }
    }
}

impl Deref for Chat {
    type Target = Channel;

    fn deref(&self) -> &Channel {
        &self.0
    }
}

/// For code that writes to any writer; it never fails. `write!` on a [`Chat`] itself needs no
/// import and returns nothing: [`Chat::write_fmt`].
impl io::Write for &Chat {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.push_slice(data);
        Ok(data.len())
    }

    /// The loop flushes.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Chat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chat")
            .field("id", &self.id())
            .field("peer", &self.peer_addr())
            .field("queued", &self.queued())
            .finish()
    }
}
