//! The way into a handler: every callback is made here.
//!
//! The driver is taken out of the registry for the time of the call, so nothing is borrowed while user
//! code runs. The call is made in the span of its channel. A panic is caught, and an error or a panic ends
//! the channel. What is not a callback (destructors, `Display`, deferred calls) goes through
//! [`user_code`](crate::user_code), which this uses as well.

use std::rc::Rc;

use super::Runtime;
use super::driver::Driver;
use crate::error::{BoxError, Close, Result};
use crate::log::{Escaped, log, log_throttled};
use crate::output::fifo::Item;
use crate::state::agenda::{Deferred, HandlerCall};
use crate::state::{ChannelId, ChannelState, Flag, Phase, Request};
use crate::user_code::{discard, discard_each, enter, in_span, report};

impl Runtime {
    /// Calls the driver of a channel. Returns false when the call has failed, when there is no driver to
    /// call, or when the channel has ended.
    pub(super) fn call(
        self: &Rc<Self>,
        state: &Rc<ChannelState>,
        callback: impl FnOnce(&mut dyn Driver) -> Result,
    ) -> bool {
        let Some(driver) = self.registry.borrow_mut().take_driver(state) else {
            // It may hold a value of the user's.
            discard(callback);
            return false;
        };
        let mut driver = driver;
        if state.is_replacement_due() {
            driver = current(state, driver);
            // The destructor of the session that was replaced may have closed the channel.
            if state.has_ended() || state.flags.has(Flag::FAILED) {
                discard(callback);
                self.put_back(state, driver);
                return false;
            }
        }
        state.turns.set(state.turns.get().wrapping_add(1));
        // While it is called, it is not scheduled: the call takes up what the handler does to its own channel. If
        // it is in the run queue already, it stays there.
        let queued = state.flags.replace(Flag::QUEUED, true);
        let mut failure = None;
        let is_done = in_span(state.span(), || {
            failure = match enter(|| callback(&mut *driver)) {
                Ok(Ok(())) => return true,
                Ok(Err(error)) => Some(report_error(state, &mut *driver, error)),
                Err(panic) => Some(report_panic(state, panic)),
            };
            false
        });
        state.flags.set(Flag::QUEUED, queued);
        if let Some(why) = failure {
            // The handler that has failed gets `handle_close`.
            state.requests.take(Request::REPLACE);
            state.fail(why);
        }
        let driver = current(state, driver);
        self.put_back(state, driver);
        is_done && !state.has_ended()
    }

    /// Returns the driver to the registry, and ends its channel if that has a reason to end.
    #[inline(always)] // It follows each call.
    fn put_back(self: &Rc<Self>, state: &Rc<ChannelState>, driver: Box<dyn Driver>) {
        let unused = self.registry.borrow_mut().put_driver(state, driver);
        if unused.is_some() {
            discard(unused);
        }
        if state.has_ended() {
            self.finish(state);
        }
    }

    /// Makes a callback that no event of the kernel has caused. A handler whose `handle_connect` is due gets
    /// that first. What the callback pushes or requests waits for the channel's turn, because a turn has one
    /// budget, however many such callbacks there are.
    pub(super) fn call_between_turns(
        self: &Rc<Self>,
        state: &Rc<ChannelState>,
        callback: impl FnOnce(&mut dyn Driver) -> Result,
    ) {
        if state.flags.has(Flag::FAILED) {
            return discard(callback);
        }
        // A push of the session's own callback counts as a reply while the queue is not over its mark: a worker
        // may have made the reply.
        let is_within = !state.flags.has(Flag::BACK_PRESSURED);
        self.called.set(state.id.get());
        state.flags.set(Flag::IN_TURN, is_within);
        if state.phase.get() == Phase::Arrived || state.is_begin_due() {
            self.call(state, |driver| driver.begin(state));
        }
        if state.has_ended() || state.flags.has(Flag::FAILED) {
            discard(callback);
        } else {
            _ = self.call(state, callback);
        }
        state.flags.set(Flag::IN_TURN, false);
        state.schedule();
    }

    /// Makes a call with the handler of channel `id`, if that is still there.
    pub(crate) fn call_handler(self: &Rc<Self>, id: ChannelId, call: HandlerCall) {
        let Some(state) = self.state(id).filter(|state| !state.has_ended()) else {
            log!(debug, channel = %id, "a call of a handler came too late");
            return discard(call);
        };
        if state.flags.has(Flag::AWAITS_HANDLER) {
            self.waiting_calls.set(self.waiting_calls.get() + 1);
            return self.agenda.defer(Deferred::AwaitHandler(id, call));
        }
        self.call_between_turns(&state, |driver| driver.call(&state, call));
    }

    /// Ends a channel of the crate's own, outside its turn.
    pub(crate) fn end_at_once(self: &Rc<Self>, state: &Rc<ChannelState>) {
        state.end(Close::Local);
        self.finish(state);
    }

    /// Ends a channel. It leaves the poller and the registry, its socket is closed or lingers, and its handler
    /// is called for the last time and dropped.
    pub(super) fn finish(self: &Rc<Self>, state: &Rc<ChannelState>) {
        let Some(driver) = self.registry.borrow_mut().remove(state.id.get()) else {
            return;
        };
        let driver = driver.map(|driver| current(state, driver));
        let handshake = if state.flags.have_tls() {
            state.failed_handshake()
        } else {
            None
        };
        self.linger_for(state);
        let retry = state.take_retry();
        let why = state.take_apart();
        if let Some(handshake) = handshake {
            self.count_failed_handshake(state, &why, &handshake);
        }
        self.count_end(state, &why);
        if let Some(retry) = &retry {
            // For the last callback, which may stop it.
            state.set_retry(Rc::clone(retry));
        }
        in_span(state.span(), || call_close(state, driver, &why));
        state.pass_on_end(&why);
        if let Some(retry) = retry {
            drop(state.take_retry());
            state.free_unused();
            retry.ended(&why);
        }
        self.resume_accepting();
        #[cfg(feature = "sim")]
        let Some(why) = state.keep_reason(why, self.now()) else {
            return;
        };
        // Any other may hold an error of the user's.
        if !matches!(
            why,
            Close::Local | Close::Dropped | Close::Eof | Close::Reset
        ) {
            discard(why);
        }
    }
}

/// Tells the handler that a callback has returned this error. Returns why the channel ends.
#[cold]
fn report_error(state: &ChannelState, driver: &mut dyn Driver, error: BoxError) -> Close {
    match enter(|| driver.error(&*error)) {
        Ok(()) => Close::Handler(error),
        Err(panic) => {
            discard(error);
            report_panic(state, panic)
        }
    }
}

#[cold]
fn report_panic(state: &ChannelState, panic: String) -> Close {
    let id = state.id.get();
    log_throttled!(error, %id, panic = %Escaped(&panic), "a callback panicked");
    Close::Panic(panic)
}

/// The driver of the handler that replaces the present one, if that was requested.
#[inline]
pub(super) fn current(state: &Rc<ChannelState>, driver: Box<dyn Driver>) -> Box<dyn Driver> {
    if state.is_replacement_due() {
        in_span(state.span(), || driver.replaced(state))
    } else {
        driver
    }
}

/// Calls `handle_close` with the reason, then drops the handler and what was still queued.
pub(super) fn call_close(state: &ChannelState, driver: Option<Box<dyn Driver>>, why: &Close) {
    // The `Display` of a user's error is user code.
    let logged = enter(|| {
        let (bytes_in, bytes_out) = (state.bytes_in(), state.bytes_out());
        let records_in = state.records_in.get();
        if matches!(why, Close::OutputLimit) {
            let (id, queued) = (state.id.get(), state.out.borrow().weight());
            log_throttled!(warn, queued, %id, "more output was queued than its limit");
        }
        log!(debug, why = %Escaped(why), bytes_in, bytes_out, records_in, "closed");
    });
    let queue: std::collections::VecDeque<Item> = state.out.borrow_mut().discard();
    let unused = state.out.borrow_mut().take_close();
    // One by one: a second panic while the first unwinds would abort the process.
    let mut driver = driver;
    let called = enter(|| {
        if let Some(driver) = &mut driver {
            driver.close(why);
        }
    });
    state.forget_connection();
    let dropped = enter(|| match driver {
        #[cfg(feature = "sim")]
        Some(driver) if state.is_recorded() => state.keep_handler(driver.into_handler()),
        driver => drop(driver),
    });
    if !queue.is_empty() {
        discard_each(queue);
    }
    if unused.is_some() {
        discard(unused);
    }
    for panic in [logged, called, dropped]
        .into_iter()
        .filter_map(Result::err)
    {
        report(&panic, "a handler panicked as it closed");
    }
}
