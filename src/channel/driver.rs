//! Drives a dispatcher.

use std::error::Error as StdError;
use std::io;
use std::rc::Rc;

use super::accept::accept;
use super::dispatcher::Dispatcher;
use crate::error::{Close, Result, into_io, io_kind};
use crate::runtime::driver::{Driver, Turn};
use crate::state::agenda::HandlerCall;
use crate::state::{ChannelState, Flag, Kind, Phase, Request, Side};
use crate::sys::interest::{Interest, Ready};
use crate::time::timer::TimerId;
use crate::user_code::{self, discard};

/// The driver of a dispatcher.
pub(crate) struct DispatcherDriver<D>(pub(crate) D);

impl<D: Dispatcher> Driver for DispatcherDriver<D> {
    fn turn(&mut self, turn: &mut Turn<'_>) -> Result {
        let state = turn.state;
        self.begin(state)?;
        if state.phase.get() == Phase::Listening {
            self.accept(turn);
            return Ok(());
        }
        let ready = turn.ready;
        if ready.has(Ready::URGENT) && state.is_up() {
            make_callback(state, || self.0.handle_expt())?;
            state.discard_urgent();
        }
        let reads = !state.flags.has(Flag::PAUSED) && self.0.readable();
        let may_read = ready.has(Ready::READ) && !state.flags.has(Flag::EOF) && !turn.has_received;
        if may_read && reads && state.is_up() {
            make_callback(state, || self.0.handle_read())?;
        } else if ready.has(Ready::HUNG_UP)
            && (!reads || state.flags.has(Flag::EOF))
            && state.is_up()
            && state.can_hang_up()
        {
            state.hang_up(false);
        }
        if ready.has(Ready::WRITE) {
            state.flags.set(Flag::BLOCKED, false);
        }
        if state.is_up() && !state.flags.has(Flag::BLOCKED) && self.may_send(state) {
            make_callback(state, || self.0.handle_write())?;
        }
        if state.is_up() {
            turn.interest = self.wait(turn);
        }
        Ok(())
    }

    fn begin(&mut self, state: &Rc<ChannelState>) -> Result {
        if state.phase.get() == Phase::Arrived {
            state.phase.set(Phase::Open);
            make_callback(state, || self.0.handle_connect())?;
        }
        if state.requests.take(Request::SECURED) && state.is_up() {
            make_callback(state, || self.0.handle_tls())?;
        }
        Ok(())
    }

    fn timer(&mut self, state: &Rc<ChannelState>, timer: TimerId) -> Result {
        make_callback(state, || self.0.handle_timer(timer))
    }

    fn error(&mut self, error: &(dyn StdError + Send + Sync + 'static)) {
        self.0.handle_error(error);
    }

    fn close(&mut self, why: &Close) {
        self.0.handle_close(why);
    }

    /// Only sessions are replaced.
    fn replaced(self: Box<Self>, _: &Rc<ChannelState>) -> Box<dyn Driver> {
        self
    }

    fn call(&mut self, state: &Rc<ChannelState>, call: HandlerCall) -> Result {
        make_callback(state, || call(&mut self.0))
    }
}

impl<D: Dispatcher> DispatcherDriver<D> {
    /// What the channel waits for.
    fn wait(&self, turn: &mut Turn<'_>) -> Interest {
        let state = turn.state;
        let readable = self.0.readable() && !state.flags.has(Flag::PAUSED);
        let writable = self.sends(state);
        if state.has_failed_sending() && state.end_if_useless(readable) {
            return Interest::NONE;
        }
        // It does not wait for the kernel any more: when it writes again, it just tries.
        if !writable {
            state.flags.set(Flag::BLOCKED, false);
        }
        if state.is_timed() {
            state.time_wait(readable, writable);
        }
        let is_half_open = state.flags.has(Flag::HALF_OPEN);
        if !writable
            && turn.runtime.agenda.closes_channels()
            && state.kind.get() == Kind::Dispatcher
        {
            state.end(Close::Shutdown);
            return Interest::NONE;
        }
        if !writable && state.flags.has(Flag::EOF) && !is_half_open {
            state.end(match state.take_send_error() {
                Some(error) => Close::from_io(error),
                None => state.end_of_input(),
            });
            return Interest::NONE;
        }
        let is_blocked = state.flags.has(Flag::BLOCKED);
        turn.has_more = writable && !is_blocked;
        let reads = readable && !state.flags.has(Flag::EOF);
        let interest = Interest::new(reads, writable && is_blocked);
        if interest.is_none() && state.can_hang_up() {
            Interest::HANG_UP
        } else {
            interest
        }
    }

    /// Whether the dispatcher has something to send, and can. Once a send has failed, it is only asked
    /// to read.
    fn may_send(&self, state: &ChannelState) -> bool {
        !state.has_failed_sending() && self.0.writable()
    }

    /// Whether it waits for the kernel to take output.
    fn sends(&self, state: &ChannelState) -> bool {
        state.holds_output() || self.may_send(state)
    }

    fn accept(&mut self, turn: &mut Turn<'_>) {
        let dispatcher = &mut self.0;
        let counters = &turn.runtime.counters;
        accept(turn, dispatcher, D::readable, |dispatcher, socket, peer| {
            counters.accepted.add(1);
            if let Err(error) = dispatcher.handle_accepted(socket, peer) {
                let (error, ()) = user_code::with(error, |error| dispatcher.handle_error(&**error));
                discard(error);
            }
        });
    }
}

/// Makes a callback. If the dispatcher passes on `WouldBlock`, nothing has failed. If it passes on the
/// error of a send or a receive that it made in this callback, the connection ends for that reason. Any
/// other error is an error of the handler.
#[inline]
fn make_callback(state: &Rc<ChannelState>, callback: impl FnOnce() -> Result) -> Result {
    state.failed_call.set(None);
    let Err(error) = callback() else {
        return Ok(());
    };
    let Some(kind) = io_kind(&*error) else {
        return Err(error);
    };
    match state.failed_call.take() {
        _ if kind == io::ErrorKind::WouldBlock => {}
        Some((Side::Receiving, failed)) if failed == kind => {
            state.end(Close::from_io(into_io(error, kind)));
        }
        Some((Side::Sending, failed)) if failed == kind => state.fail_sending(into_io(error, kind)),
        _ => return Err(error),
    }
    Ok(())
}
