//! How a loop ends, and how a channel's end is told.

use std::collections::VecDeque;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use tracing::{Dispatch, dispatcher};

use super::{Home, Task, contain, message};
use crate::dispatcher::Driven;
use crate::error::Close;
use crate::fifo::Item;
use crate::state::{Core, Phase};
use crate::told::{Escaped, told};

impl Home {
    pub(crate) fn is_shutting_down(&self) -> bool {
        self.shutdown.get().is_some()
    }

    pub(crate) fn shut_down(&self, grace: Duration) {
        if let Some(timer) = self.shutdown.get() {
            self.reset_timer(timer, grace);
            return;
        }
        self.shutdown.set(Some(self.set_timer(grace, Task::Grace)));
        self.end_pauses();
        for core in self.cores() {
            if core.own.get() {
                continue;
            }
            match core.phase.get() {
                // Its session decides: the loop calls `handle_shutdown`, before the next record.
                Phase::Open if core.chat.is_chat.get() => {
                    core.chat.shutdown_due.set(true);
                    core.attention.set(true);
                    core.touch();
                }
                Phase::Open => {
                    core.draining.set(true);
                    core.touch();
                }
                _ => core.end(Close::Shutdown),
            }
        }
    }

    /// Nothing is registered any more: a shutdown is over, and the loop ready to be used again.
    /// What was called for by then is called, and what that calls for waits for the next `run`.
    pub(crate) fn finish_shutdown(self: &Rc<Self>) {
        if let Some(timer) = self.shutdown.take() {
            self.forget_timer(timer);
            self.run_posted();
            self.run_soon();
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if !self.torn_down.get() {
            return self.end_all();
        }
        // A subscriber that keeps something in thread-locals of its own may have lost it by now, and
        // panics (tracing-subscriber does), which aborts the process here: nothing is logged any more.
        dispatcher::with_default(&Dispatch::none(), || self.end_all());
    }
}

impl Home {
    fn end_all(&self) {
        let lost = self.inbox.close();
        if !lost.is_empty() {
            tracing::warn!(
                count = lost.len(),
                "posted calls are lost: their loop is gone"
            );
        }
        for call in lost {
            contain(|| drop(call));
        }
        for core in self.cores() {
            if let Some(slot) = self.registry.borrow_mut().remove(core.id.get()) {
                core.end(Close::Shutdown);
                let retrying = core.take_retrying();
                let why = core.take_apart();
                core.tell_close(slot.driven, &why, !self.torn_down.get());
                contain(|| drop(retrying));
            }
            if self.torn_down.get() {
                // With its span, which would tell the subscriber of its end.
                mem::forget(core);
            }
        }
        self.drop_lingering();
    }
}

impl Core {
    /// Tells the handler why its channel has ended, then drops it and what was still queued.
    pub(super) fn tell_close(&self, driven: Option<Box<dyn Driven>>, why: &Close, in_span: bool) {
        let span = self.span.get().filter(|_| in_span);
        let _span = span.map(|span| span.enter());
        // What prints a reason may be the user's code too.
        let logged = catch_unwind(AssertUnwindSafe(|| {
            let (bytes_in, bytes_out) = (self.bytes_in(), self.bytes_out());
            let records_in = self.records_in.get();
            tracing::debug!(why = %Escaped(why), bytes_in, bytes_out, records_in, "closed");
        }));
        let queue: VecDeque<Item> = self.out.borrow_mut().discard();
        // One by one: a second panic while the first unwinds would abort the process.
        let mut driven = driven;
        let told = catch_unwind(AssertUnwindSafe(|| {
            if let Some(driven) = &mut driven {
                driven.close(why);
            }
        }));
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(driven)));
        drop_each(queue);
        let failed = [logged, told, dropped];
        for panic in failed.into_iter().filter_map(std::result::Result::err) {
            let message = message(panic);
            told!(error, panic = %Escaped(message), "a handler panicked as it closed");
        }
    }
}

/// Drops what was queued, each item on its own: a second panic while the first unwinds would
/// abort the process.
pub(crate) fn drop_each(queue: VecDeque<Item>) {
    for item in queue {
        contain(|| drop(item));
    }
}
