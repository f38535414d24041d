//! Layer 2, as its user sees it: records in, a FIFO of producers out.

use std::any::TypeId;
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
use crate::output::fifo::Item;
use crate::output::producers::Producer;
use crate::state::agenda::{Deferred, visit_of};
use crate::state::{ChannelState, Flag, Kind, Request};

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
        channel.0.kind.set(Kind::Chat);
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
        self.state().push_item(Item::Producer(Box::new(producer)));
    }

    /// Queues a call: the loop makes it when all that was pushed before has been handed to the
    /// kernel. It is dropped uncalled if the connection ends before.
    pub fn push_hook(&self, hook: impl FnOnce() + 'static) {
        self.state().push_item(Item::Hook(Box::new(hook)));
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
        self.state().push_item(Item::ShutdownWrite);
    }

    /// What ends the records from now on: from the very next byte that has not been delivered,
    /// whether it has been received already or not. In the middle of a
    /// [`dot_block`](Terminator::dot_block) the dots that were removed so far are not put back: let
    /// it end first.
    pub fn set_terminator(&self, terminator: Terminator) {
        self.state().set_terminator(terminator);
    }

    /// What ends the records now.
    pub fn terminator(&self) -> Terminator {
        self.state().terminator()
    }

    /// Sets the limits of this connection. A new record limit holds for the record in hand, too.
    pub fn set_limits(&self, limits: Limits) {
        let state = self.state();
        state.set_limits(Some(Rc::new(limits)));
        state.requests.add(Request::CHECK);
        // A queue that was over the old marks may be under the new ones: it is looked at now.
        state.flags.set(Flag::BLOCKED, false);
        state.schedule();
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
        self.state().resume_producing();
    }

    /// Throws away what is queued, producers and hooks too, and what has been received and not
    /// delivered yet. A close that is queued stands. For emergencies, as asynchat's: the record
    /// in hand is gone, and what comes next is taken for the beginning of one.
    pub fn discard_buffers(&self) {
        let state = self.state();
        state.requests.add(Request::DISCARD);
        let discarded = state.out.borrow_mut().discard();
        state.drop_later(discarded);
        state.flags.set(Flag::BLOCKED, false);
        state.time(|clocks, _| {
            clocks.drained();
            clocks.record_over();
        });
        state.schedule();
    }

    /// Queues a visit to this connection's own handler, of type `C`: how a timer, a hook or
    /// another session changes its state rather than only pushing to it. The visit is a callback
    /// like any other: an error it returns closes the connection.
    ///
    /// # Errors
    /// When the connection has ended, or its handler is not a `C`.
    pub fn post<C: 'static>(&self, visit: impl FnOnce(&mut C) -> Result + 'static) -> Result {
        let state = self.state();
        let Some(agenda) = state.agenda().filter(|_| self.is_open()) else {
            return Err(Error::new("the connection has ended").context(self.id()));
        };
        if (state.handler.get())() != TypeId::of::<C>() {
            let wanted = std::any::type_name::<C>();
            let error = Error::new(format!("its handler is not a {wanted}"));
            return Err(error.context(self.id()));
        }
        agenda.defer(Deferred::Visit(self.id(), Box::new(visit_of(visit))));
        Ok(())
    }

    #[inline]
    pub(crate) fn state(&self) -> &Rc<ChannelState> {
        &self.0.0
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
