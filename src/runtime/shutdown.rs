//! How a loop ends: the shutdown in good order, and the end when its last handle is dropped.

use std::mem;
use std::rc::{Rc, Weak};
use std::time::Duration;

use tracing::{Dispatch, dispatcher};

use super::Runtime;
use super::call::{call_close, current};
use crate::error::Close;
use crate::log::log;
use crate::state::agenda::{Deferred, Task};
use crate::state::connect::Retry;
use crate::state::inbox::Post;
use crate::state::{ChannelState, Kind, Phase, Request};
use crate::user_code::{discard, discard_each, in_span};

impl Runtime {
    /// Begins a shutdown, or sets a new grace for the one in progress, on this loop and on those that work with it.
    pub(crate) fn shut_down(&self, grace: Duration) {
        self.shut_down_workers(grace);
        self.begin_shutdown(grace);
    }

    /// The same on this loop alone.
    pub(super) fn begin_shutdown(&self, grace: Duration) {
        if let Some(timer) = self.agenda.shutdown.get() {
            self.agenda.reset_timer(timer, grace);
            return;
        }
        let timer = self.agenda.set_timer(grace, Task::Grace);
        self.agenda.shutdown.set(Some(timer));
        // Without channels the shutdown is over at once, not when the timer is due.
        self.agenda.wake_outer();
        self.stop_retries();
        for state in self.channels() {
            if state.phase.get() == Phase::Listening {
                state.end(Close::Shutdown);
            }
        }
        self.agenda.shutdown_waits.set(true);
        let calls = self.agenda.deferred.borrow().len();
        self.agenda.calls_before_shutdown.set(calls);
        // A post that waits precedes the marker, and a call that waits in the deferred calls precedes the
        // shutdown there.
        let inbox = &self.agenda.inbox;
        let has_posts = inbox.is_filled() || !self.posts.borrow().is_empty();
        if !has_posts || inbox.send(Post::CloseChannels).is_err() {
            self.close_channels_in_order();
        }
    }

    /// Closes the channels for the shutdown, after the calls that were deferred before it. Calls that these have
    /// deferred follow.
    pub(super) fn close_channels_in_order(&self) {
        let earlier = self.agenda.calls_before_shutdown.get();
        if earlier == 0 {
            return self.close_channels();
        }
        let mut deferred = self.agenda.deferred.borrow_mut();
        let place = earlier.min(deferred.len());
        deferred.insert(place, Deferred::CloseChannels);
    }

    /// Makes the calls that were posted or deferred before a shutdown that has not reached the channels, and
    /// closes the channels. Called before any other callback, so that a session gets nothing else before
    /// `handle_shutdown`.
    #[inline]
    pub(super) fn make_earlier_calls(self: &Rc<Self>) {
        if self.agenda.shutdown_waits.get() {
            self.make_calls_before_shutdown();
        }
    }

    /// Not inlined, so that the turns of a loop that is not shutting down stay short.
    #[cold]
    #[inline(never)]
    fn make_calls_before_shutdown(self: &Rc<Self>) {
        while self.agenda.shutdown_waits.get() {
            self.run_all_posts();
            self.make_all_calls();
        }
    }

    /// Closes the channels for the shutdown in progress: everything that was posted or deferred before it
    /// has been called.
    pub(super) fn close_channels(&self) {
        if !self.agenda.shutdown_waits.replace(false) {
            return; // Nothing was left to close, so the shutdown is over.
        }
        for state in self.channels() {
            match state.kind.get() {
                Kind::Internal => {}
                // A handshake in the middle of a connection delays the end: a session may have pushed what only TLS
                // may carry. Its deadline, and the grace, bound the delay.
                _ if !state.is_up() && !state.is_upgrading() => state.end(Close::Shutdown),
                // The session decides: the loop calls `handle_shutdown` before the next record.
                Kind::Chat => {
                    state.requests.add(Request::SHUTDOWN);
                    state.schedule();
                }
                // It closes when it is not `writable`.
                Kind::Dispatcher => state.schedule(),
            }
        }
    }

    /// Closes every channel, and the lingering sockets, on this loop and on those that work with it.
    pub(crate) fn close_all(&self) {
        self.close_all_here();
        self.close_all_of_workers();
    }

    /// The same on this loop alone.
    pub(super) fn close_all_here(&self) {
        // Also for a connection that is ending already: its `handle_close` may call `close_all`, and then
        // nothing must connect again.
        self.stop_retries();
        for state in self.channels() {
            state.end(Close::Local);
        }
        self.stop_lingering_soon();
    }

    /// Ends a shutdown when nothing is registered any more, so that the loop can be used for something else.
    /// Makes the calls that were deferred or posted by then. What those defer waits for the next `run`.
    pub(crate) fn finish_shutdown(self: &Rc<Self>) {
        if let Some(timer) = self.agenda.shutdown.take() {
            self.agenda.shutdown_waits.set(false);
            self.agenda.forget_timer(timer);
            self.run_all_posts();
            self.make_all_calls();
        }
    }

    /// Adds a reconnection, to be stopped by a shutdown and by `close_all`.
    pub(crate) fn add_retry(&self, retry: Weak<dyn Retry>) {
        let mut retries = self.retries.borrow_mut();
        if retries.len() == retries.capacity() {
            retries.retain(|retry| retry.strong_count() > 0);
        }
        retries.push(retry);
    }

    /// Stops all reconnecting: the connections that are up are the last ones.
    fn stop_retries(&self) {
        let retries = self.retries.take();
        let owned = retries.iter().filter_map(Weak::upgrade);
        owned.for_each(|retry| retry.stop());
    }

    /// The thread of the loop is ending.
    pub(super) fn tear_down(&self) {
        self.torn_down.set(true);
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.agenda.close();
        if !self.torn_down.get() {
            return self.end_all();
        }
        // Nothing is logged while the thread ends: a subscriber may have lost its thread-local values
        // already. It would panic (tracing-subscriber does), and the panic would abort the process here.
        dispatcher::with_default(&Dispatch::none(), || self.end_all());
    }
}

impl Runtime {
    /// Ends all channels at once, as when the loop is dropped.
    pub(crate) fn end_all(&self) {
        self.drop_posts();
        for state in self.channels() {
            let driver = self.registry.borrow_mut().remove(state.id.get());
            if let Some(driver) = driver {
                state.end(Close::Shutdown);
                let driver = driver.map(|driver| current(&state, driver));
                let retry = state.take_retry();
                let why = state.take_apart();
                self.count_end(&state, &why);
                let span = state.span().filter(|_| !self.torn_down.get());
                in_span(span, || call_close(&state, driver, &why));
                discard(why);
                discard(retry);
            }
            self.release(state);
        }
        // One by one, because the destructors of what a closure has captured are user code.
        discard_each(self.agenda.deferred.take());
        discard_each(self.agenda.timers.take().into_values());
        #[cfg(feature = "signal")]
        self.signals.drop_calls();
        let queued = self.agenda.run_queue.take();
        let queued = queued.into_iter().chain(self.next_turn.take());
        let queued = queued.chain(self.handshakes.take());
        for state in queued.chain(self.accepting_paused.take()) {
            self.release(state);
        }
        self.drop_lingering();
        self.leave_workers();
    }

    fn drop_posts(&self) {
        let mut lost = self.posts.take();
        lost.append(&mut self.agenda.inbox.close());
        if !lost.is_empty() {
            let count = lost.len();
            log!(warn, count, "posted calls are lost: their loop is gone");
        }
        discard_each(lost);
    }

    /// Drops a channel. In a thread that is ending it is leaked instead, because its span would notify the
    /// subscriber.
    fn release(&self, state: Rc<ChannelState>) {
        if self.torn_down.get() {
            mem::forget(state);
        } else {
            drop(state);
        }
    }
}
