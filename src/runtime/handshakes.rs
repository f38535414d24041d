//! TLS handshakes: a step of the loop's turn, with a budget of its own.
//!
//! A handshake computes for as long as thousands of records take. A turn therefore completes a few of them, in the
//! order in which their input has arrived, and then serves the other connections. How long one step takes depends on
//! the key (a signature with RSA of 4096 bits takes many times longer than one with ECDSA), so the steps of a turn are
//! bounded in number and in time. A step that only receives a part of a message costs little, and is not counted.

use std::rc::Rc;
use std::time::Duration;

use super::Runtime;
use crate::Addr;
use crate::error::Close;
#[cfg(feature = "tls-no-provider")]
use crate::log::log;
use crate::log::{Escaped, log_throttled};
use crate::state::secure::{FailedHandshake, Handshake};
use crate::state::{ChannelState, Flag, Phase};
use crate::sys::interest::{Interest, Ready};
use crate::time::timer::TimerId;
#[cfg(feature = "tls-no-provider")]
use crate::user_code::enter;
use crate::user_code::in_span;

/// How many steps that compute with keys a turn takes at most.
const EXPENSIVE_STEPS: usize = 8;

/// After what time a turn takes no other step. At least one is taken.
const STEPS_TIME: Duration = Duration::from_millis(5);

/// What the turn of a channel does that has TLS, or no handler yet.
pub(super) enum Prepared {
    /// Its handler has not been made, so it has no turn.
    AwaitsHandler,
    /// Its handshake is not complete, so its driver has no turn.
    Securing,
    /// Its driver has its turn.
    Ready,
}

impl Runtime {
    /// Prepares the turn of a channel that has TLS, or no handler yet.
    #[cold]
    #[inline(never)]
    pub(super) fn prepare_turn(state: &Rc<ChannelState>, ready: &mut Ready) -> Prepared {
        if state.flags.has(Flag::AWAITS_HANDLER) {
            return Prepared::AwaitsHandler;
        }
        if state.phase.get() == Phase::Securing {
            return Prepared::Securing;
        }
        if state.is_up() {
            *ready = state.prepare_secured(*ready);
        }
        Prepared::Ready
    }

    /// Ends the turn of a channel with TLS, after its driver has had it. TLS may have begun in it.
    #[cold]
    #[inline(never)]
    pub(super) fn finish_turn_with_tls(
        &self,
        state: &Rc<ChannelState>,
        interest: &mut Option<Interest>,
        has_more: &mut bool,
    ) {
        if state.phase.get() == Phase::Securing {
            *interest = None;
            self.queue_handshake(state, Ready::NONE);
        } else if interest.is_some_and(Interest::reads) {
            *has_more |= state.has_decrypted();
        }
    }

    /// Puts a channel whose handshake can be advanced behind the others.
    #[cold]
    #[inline(never)]
    pub(super) fn queue_handshake(&self, state: &Rc<ChannelState>, ready: Ready) {
        state.pending.set(state.pending.get().union(ready));
        if !state.flags.replace(Flag::QUEUED, true) {
            state.note_queued_handshake();
            self.handshakes.borrow_mut().push_back(Rc::clone(state));
        }
    }

    /// The timer of a handshake or of a PROXY header has fired. Ends the channel, or returns after what time to check
    /// again.
    #[cold]
    pub(super) fn check_handshake(
        self: &Rc<Self>,
        state: &Rc<ChannelState>,
        fired: TimerId,
    ) -> Option<Duration> {
        // What the kernel has not reported yet is looked for first: one wait reports a limited number of channels.
        #[cfg(feature = "proxy-protocol")]
        if state.has_unread_header() {
            self.take_turn(state, Ready::READ);
            if !state.is_unidentified() {
                return None;
            }
        }
        if !state.flags.has(Flag::QUEUED) && state.look_for_unread_handshake() {
            self.queue_handshake(state, Ready::READ);
        }
        state.check_handshake_deadline(fired)
    }

    /// Begins the step of the handshakes, `count` of which are queued: sets the budgets of the step.
    #[cold]
    #[inline(never)]
    pub(super) fn begin_handshakes(&self, count: usize) -> usize {
        self.handshake_budget.set(EXPENSIVE_STEPS);
        let end = self.poller.clock().now().checked_add(STEPS_TIME);
        self.handshakes_until.set(end);
        count
    }

    /// Advances the handshake that has waited longest. Returns whether the turn may advance another one.
    #[cold]
    #[inline(never)]
    pub(super) fn advance_next_handshake(self: &Rc<Self>) -> bool {
        if self.handshake_budget.get() == 0 {
            return false;
        }
        let Some(state) = self.handshakes.borrow_mut().pop_front() else {
            return false;
        };
        state.flags.set(Flag::QUEUED, false);
        let ready = state.pending.take();
        self.make_earlier_calls();
        if state.phase.get() == Phase::Securing {
            self.advance_handshake(&state, ready);
        } else {
            // It has ended while its handshake was queued.
            self.take_turn(&state, ready);
        }
        let until = self.handshakes_until.get();
        until.is_none_or(|until| self.poller.clock().now() < until)
    }

    /// Takes a step of this handshake. Watches for what the handshake waits for, or gives the channel its turn.
    fn advance_handshake(self: &Rc<Self>, state: &Rc<ChannelState>, ready: Ready) {
        if ready.has(Ready::URGENT) {
            state.discard_urgent();
        }
        let (handshake, is_expensive) = in_span(state.span(), || state.advance_handshake(ready));
        if is_expensive {
            let left = self.handshake_budget.get();
            self.handshake_budget.set(left.saturating_sub(1));
        }
        match handshake {
            Handshake::Waits(interest) => return self.watch_handshake(state, interest),
            Handshake::Complete => {
                self.counters.handshakes.add(1);
                #[cfg(feature = "tls-no-provider")]
                in_span(state.span(), || log_success(state));
                self.replace_driver(state);
            }
            Handshake::Failed(why) => state.end(why),
        }
        // What came behind the handshake is delivered in this turn.
        self.take_turn(state, Ready::NONE);
    }

    /// Registers with the poller what the handshake waits for. The compiler inlines `watch` into the turns of all channels
    /// only if it is called in one place, so this does not call it.
    fn watch_handshake(&self, state: &Rc<ChannelState>, interest: Interest) {
        let id = state.id.get();
        let new_key = || self.poll_key(id);
        let known_key = || self.shared_poll_key(id);
        if let Err(error) = state.watch(&self.poller, interest, new_key, known_key) {
            state.end(Close::Io(error));
        }
    }

    /// A channel ends whose handshake was not completed. A server has to know of those without a session, and of all that
    /// somebody may have attacked (CVE-2011-0411). Of the others a handler gets the reason.
    #[cold]
    #[inline(never)]
    pub(super) fn count_failed_handshake(
        &self,
        state: &ChannelState,
        why: &Close,
        handshake: &FailedHandshake,
    ) {
        let FailedHandshake {
            has_begun,
            has_session,
            local,
        } = handshake;
        if !has_session && matches!(why, Close::Eof | Close::Reset) {
            return; // The peer has sent nothing of a handshake.
        }
        if *has_begun {
            self.counters.handshakes_failed.add(1);
        }
        if !matches!(why, Close::Tls(_)) && (*has_session || why.is_local()) {
            return;
        }
        let text = |addr: &Addr| Escaped(addr).to_string();
        let (peer, local) = (state.peer().as_ref().map(text), local.as_ref().map(text));
        in_span(state.span(), || {
            log_throttled!(warn, peer, local, why = %Escaped(why), "a TLS handshake failed");
        });
    }

    /// Lets a driver that waited for the connection be replaced by that of a session.
    fn replace_driver(&self, state: &Rc<ChannelState>) {
        let driver = self.registry.borrow_mut().take_driver(state);
        let Some(driver) = driver else { return };
        let driver = in_span(state.span(), || driver.replaced(state));
        self.set_driver(state, driver);
    }
}

/// Logs what the handshake has agreed on.
#[cfg(feature = "tls-no-provider")]
fn log_success(state: &ChannelState) {
    // `Info` is made only for a subscriber that wants it: it has a copy of the certificates.
    let is_logged = enter(|| tracing::enabled!(tracing::Level::DEBUG));
    if let (Ok(true), Some(info)) = (is_logged, state.tls()) {
        let (version, suite, resumed) = (info.version, info.cipher_suite, info.is_resumed);
        log!(debug, ?version, ?suite, resumed, "TLS is up");
    }
}
