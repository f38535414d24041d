//! How a loop ends, and how a channel's end is told.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::mem;
use std::rc::Rc;
use std::time::Duration;

use tracing::{Dispatch, dispatcher};

use super::{Runtime, Task};
use crate::channel::dispatcher::Driven;
use crate::error::Close;
use crate::log::{Escaped, log, log_throttled};
use crate::output::fifo::Item;
use crate::state::{ChannelState, Phase};
use crate::user_code::{discard, discard_each, enter, in_span, report};

impl Runtime {
    pub(crate) fn is_shutting_down(&self) -> bool {
        self.shutdown.get().is_some()
    }

    pub(crate) fn shut_down(&self, grace: Duration) {
        if let Some(timer) = self.shutdown.get() {
            self.reset_timer(timer, grace);
            return;
        }
        self.shutdown.set(Some(self.set_timer(grace, Task::Grace)));
        self.stop_retries();
        for state in self.channels() {
            if state.own.get() {
                continue;
            }
            match state.phase.get() {
                // Its session decides: the loop calls `handle_shutdown`, before the next record.
                Phase::Open if state.chat.is_chat.get() => {
                    state.chat.shutdown_due.set(true);
                    state.attention.set(true);
                    state.touch();
                }
                Phase::Open => {
                    state.draining.set(true);
                    state.touch();
                }
                _ => state.end(Close::Shutdown),
            }
        }
    }

    /// Nothing is registered any more: a shutdown is over, and the loop ready to be used again.
    /// What was called for by then is called, and what that calls for waits for the next `run`.
    pub(crate) fn finish_shutdown(self: &Rc<Self>) {
        if let Some(timer) = self.shutdown.take() {
            self.forget_timer(timer);
            self.run_posted(usize::MAX);
            self.run_soon(usize::MAX);
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if !self.torn_down.get() {
            return self.end_all();
        }
        // A subscriber that keeps something in thread-locals of its own may have lost it by now, and
        // panics (tracing-subscriber does), which aborts the process here: nothing is logged any more.
        dispatcher::with_default(&Dispatch::none(), || self.end_all());
    }
}

impl Runtime {
    fn end_all(&self) {
        self.drop_posts();
        for state in self.channels() {
            let slot = self.registry.borrow_mut().remove(state.id.get());
            if let Some(slot) = slot {
                state.end(Close::Shutdown);
                let retry = state.take_retry();
                let why = state.take_apart();
                state.tell_close(slot.driven, &why, !self.torn_down.get());
                discard(why);
                discard(retry);
            }
            self.let_go_of(state);
        }
        // Each on its own: what a closure has captured is the user's, and so is its destructor.
        discard_each(self.soon.take());
        discard_each(self.timers.take().into_values());
        #[cfg(feature = "signal")]
        self.signals.drop_calls();
        let lists = [&self.touched, &self.ready].map(RefCell::take);
        let channels = lists.into_iter().flatten();
        for state in channels.chain(self.accepting_paused.take()) {
            self.let_go_of(state);
        }
        self.drop_lingering();
    }

    fn drop_posts(&self) {
        let lost = self.inbox.close();
        if !lost.is_empty() {
            let count = lost.len();
            log!(warn, count, "posted calls are lost: their loop is gone");
        }
        discard_each(lost);
    }

    /// Drops a channel, but not in a thread that is ending: its span would tell the subscriber of its
    /// end.
    fn let_go_of(&self, state: Rc<ChannelState>) {
        match self.torn_down.get() {
            true => mem::forget(state),
            false => drop(state),
        }
    }
}

impl ChannelState {
    /// Tells the handler why its channel has ended, then drops it and what was still queued.
    pub(super) fn tell_close(&self, driven: Option<Box<dyn Driven>>, why: &Close, spanned: bool) {
        let span = self.span.get().filter(|_| spanned);
        in_span(span.map(|span| &**span), || {
            self.tell_close_in_span(driven, why);
        });
    }

    fn tell_close_in_span(&self, driven: Option<Box<dyn Driven>>, why: &Close) {
        // What prints a reason may be the user's code too.
        let logged = enter(|| {
            let (bytes_in, bytes_out) = (self.bytes_in(), self.bytes_out());
            let records_in = self.records_in.get();
            if matches!(why, Close::OutputLimit) {
                let (id, queued) = (self.id.get(), self.out.borrow().weight());
                log_throttled!(warn, queued, %id, "more output was queued than its limit");
            }
            log!(debug, why = %Escaped(why), bytes_in, bytes_out, records_in, "closed");
        });
        let queue: VecDeque<Item> = self.out.borrow_mut().discard();
        let unused = self.out.borrow_mut().take_close();
        // One by one: a second panic while the first unwinds would abort the process.
        let mut driven = driven;
        let told = enter(|| {
            if let Some(driven) = &mut driven {
                driven.close(why);
            }
        });
        let dropped = enter(|| drop(driven));
        discard_each(queue);
        discard(unused);
        for panic in [logged, told, dropped].into_iter().filter_map(Result::err) {
            report(&panic, "a handler panicked as it closed");
        }
    }
}
