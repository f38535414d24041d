//! The trait `Driver`, through which the runtime drives a dispatcher, a session or a listener.

#[cfg(feature = "sim")]
use std::any::Any;
use std::error::Error as StdError;
use std::mem;
use std::rc::Rc;

use bytes::Bytes;

use super::Runtime;
use crate::error::{Close, Result};
use crate::output::fifo::spare;
use crate::state::ChannelState;
use crate::state::agenda::HandlerCall;
use crate::state::delivered::unused_buffer;
use crate::sys::interest::{Interest, Ready};
use crate::time::timer::TimerId;
use crate::user_code::discard;

/// The bridge between the runtime and a handler: one virtual call for a readiness event, in which all
/// callbacks are bound statically. `channel/driver.rs` implements it for a dispatcher,
/// `chat/driver.rs` for a session, `net/accept.rs` for a server's listener.
pub(crate) trait Driver: 'static {
    /// Takes the channel's turn: acts on what the kernel has reported, and on what was requested since
    /// the last turn. Sets what the socket has to be watched for.
    fn turn(&mut self, turn: &mut Turn<'_>) -> Result;

    /// Makes the callbacks that come before any other: `handle_connect` of a connection that has come
    /// up, and `handle_shutdown`.
    fn begin(&mut self, _: &Rc<ChannelState>) -> Result {
        Ok(())
    }

    /// A timer of the channel is due.
    fn timer(&mut self, _: &Rc<ChannelState>, _: TimerId) -> Result {
        Ok(())
    }

    /// A callback has returned this error, which is also the reason of the close.
    fn error(&mut self, _: &(dyn StdError + Send + Sync + 'static)) {}

    /// The channel has ended.
    fn close(&mut self, why: &Close);

    /// The driver of the handler that replaces this one. Called after `Request::REPLACE`, while nothing is
    /// borrowed: the old handler is dropped.
    fn replaced(self: Box<Self>, state: &Rc<ChannelState>) -> Box<dyn Driver>;

    /// Makes a call with the user's own handler: a callback like any other. A driver without such a handler drops the call.
    fn call(&mut self, _: &Rc<ChannelState>, call: HandlerCall) -> Result {
        discard(call);
        Ok(())
    }

    /// Gives the user's own handler away, if there is one: for the transcript of a simulated connection.
    #[cfg(feature = "sim")]
    fn into_handler(self: Box<Self>) -> Option<Box<dyn Any>> {
        None
    }
}

/// The turn of one channel.
pub(crate) struct Turn<'a> {
    pub(crate) runtime: &'a Rc<Runtime>,
    pub(crate) state: &'a Rc<ChannelState>,
    pub(crate) buffers: &'a mut Buffers,
    /// What the kernel has reported.
    pub(crate) ready: Ready,
    /// The channel has received in this turn of the loop already, so that it may only send.
    pub(crate) has_received: bool,
    /// What a session has left of its budgets. Its driver sets it.
    pub(crate) budget: Budget,
    /// Set by the driver: what the socket has to be watched for. It is no part of what the driver returns, because
    /// a result without a value is returned in registers.
    pub(crate) interest: Interest,
    /// Set by the driver: it has work left that the kernel will not report.
    pub(crate) has_more: bool,
}

/// The share of a session in a turn: see [`Limits`](crate::Limits).
#[derive(Clone, Copy, Default)]
pub(crate) struct Budget {
    pub(crate) records: usize,
    pub(crate) read: usize,
    pub(crate) write: usize,
}

/// The most that is read at once, by all connections, one after another.
const READ_BUFFER: usize = 64 * 1024;

/// A buffer that has grown beyond this is freed rather than reused.
const REUSED: usize = 2 * 1024 * 1024;

/// Memory that all connections of a loop use, one after another. An idle connection has none.
#[derive(Default)]
pub(crate) struct Buffers {
    read: Box<[u8]>,
    /// For the queue of the connection that has its turn.
    pub(crate) output: Vec<u8>,
    /// For a record that is put together from several reads.
    pub(crate) record: Vec<u8>,
    /// The long record that was delivered last in this turn, while queues refer to it.
    pub(crate) delivered: Option<Bytes>,
}

impl Buffers {
    /// What a socket is read into.
    #[inline]
    pub(crate) fn take_read(&mut self) -> Box<[u8]> {
        let buffer = mem::take(&mut self.read);
        if buffer.is_empty() {
            // At the first use, and after a panic, which drops it.
            vec![0; READ_BUFFER].into()
        } else {
            buffer
        }
    }

    #[inline]
    pub(crate) fn return_read(&mut self, buffer: Box<[u8]>) {
        self.read = buffer;
    }

    #[inline]
    pub(crate) fn reuse_output(&mut self, buffer: Vec<u8>) {
        let left = reuse(&mut self.output, buffer);
        if left.capacity() > 0 {
            spare::keep(left);
        }
    }

    pub(crate) fn reuse_record(&mut self, buffer: Vec<u8>) {
        drop(reuse(&mut self.record, buffer));
    }

    /// Keeps the buffer of a long record for the next one: now if no queue refers to it, or else when its turn is over.
    pub(crate) fn keep_delivered(&mut self, record: Bytes) {
        if record.is_unique() {
            self.reuse_record(unused_buffer(record).unwrap_or_default());
        } else {
            self.delivered = Some(record);
        }
    }

    /// Keeps the buffer of the long record if it has been sent by now.
    #[cold]
    #[inline(never)] // Few records are long.
    pub(crate) fn reuse_delivered(&mut self) {
        let buffer = self.delivered.take().and_then(unused_buffer);
        self.reuse_record(buffer.unwrap_or_default());
    }
}

/// Keeps the larger of two buffers, empty. Returns the other one.
#[inline]
fn reuse(kept: &mut Vec<u8>, mut buffer: Vec<u8>) -> Vec<u8> {
    if buffer.capacity() > kept.capacity() && buffer.capacity() <= REUSED {
        buffer.clear();
        mem::swap(kept, &mut buffer);
    }
    buffer
}
