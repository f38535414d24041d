//! A channel with a [`Stage`] between it and its socket: TLS.
//!
//! The stage is taken out of its cell while it works, because rustls calls what the user has configured:
//! verifiers, resolvers, session stores. A channel whose stage was lost in a panic has no connection.
//!
//! Reads never wait for writes, and writes never for reads: each moves what the socket takes or has, and leaves
//! the rest to the next turn. So two peers that both send without reading do not wait for each other.

mod output;
mod secured;

use std::io::{self, IoSlice};
use std::rc::Rc;
use std::time::Duration;

use super::agenda::{ONE_TURN, Task};
use super::{ChannelState, Flag, Phase, Request};
use crate::Addr;
use crate::error::{Close, Deadline, Error};
#[cfg(feature = "tls-no-provider")]
use crate::output::fifo::Item;
use crate::stage::MakeStage;
#[cfg(feature = "tls-no-provider")]
use crate::stage::info::Info;
use crate::sys::interest::{Interest, Ready};
use crate::sys::socket::Fd;
use crate::time::deadlines::Clocks;
use crate::time::timer::TimerId;
use crate::user_code::{contain, discard, enter};

pub(super) use secured::Secured;
use secured::{End, HandshakeStep};

/// The buffers of a loop for its stages. An idle connection has none.
#[derive(Default)]
pub(crate) struct StageBuffers {
    input: Vec<u8>,
    output: Vec<u8>,
}

/// How far a handshake has come.
pub(crate) enum Handshake {
    /// It waits for this.
    Waits(Interest),
    Complete,
    Failed(Close),
}

/// A handshake that is not complete when its channel ends.
pub(crate) struct FailedHandshake {
    /// It has begun. Otherwise the queue was still to be sent, or plaintext was left behind the command for TLS.
    pub(crate) has_begun: bool,
    /// The connection has a session, which gets the reason.
    pub(crate) has_session: bool,
    pub(crate) local: Option<Addr>,
}

impl ChannelState {
    // ---- the handshake

    /// Begins a handshake, for a channel that is up, or about to be. It is in the phase `then` afterwards.
    pub(crate) fn begin_handshake(self: &Rc<Self>, make: MakeStage, then: Phase) {
        let secured = Secured::new(make, then, !self.is_registered(), self.bytes_out());
        self.with_cold(|cold| cold.secured = Some(Box::new(secured)));
        self.flags.set(Flag::STAGED, true);
        self.flags.set(Flag::BLOCKED, false);
        self.phase.set(Phase::Securing);
        self.schedule();
    }

    /// Begins a handshake as soon as the connection is up.
    pub(crate) fn secure_when_up(&self, make: MakeStage) {
        let unused = self.with_cold(|cold| cold.planned.replace(make));
        // After the borrow: it has what the user has configured.
        discard(unused);
    }

    /// Takes what is to make the stage.
    pub(super) fn take_planned(&self) -> Option<MakeStage> {
        self.cold(|cold| cold.planned.take())?
    }

    /// Advances the handshake by what the kernel is ready for. Returns how far it has come, and whether that was
    /// expensive.
    pub(crate) fn advance_handshake(self: &Rc<Self>, ready: Ready) -> (Handshake, bool) {
        let Some(mut secured) = self.take_secured() else {
            let error = Error::new("the TLS connection was lost in a panic");
            return (Handshake::Failed(Close::Tls(error)), false);
        };
        if secured.timer.is_none() {
            secured.timer = self.set_handshake_timer();
        }
        let queued_for = secured.queued_at.take().zip(self.agenda());
        let queued_for = queued_for.map(|(at, agenda)| agenda.now().saturating_duration_since(at));
        let action = secured.action();
        let (then, starts_clocks) = (secured.then, secured.starts_clocks);
        let outcome = enter(|| secured.advance(self, ready));
        if let Ok(Ok(HandshakeStep {
            handshake: Handshake::Complete,
            ..
        })) = outcome
        {
            // User code that ran in this step may have closed the channel. That is final.
            secured.is_up = !self.has_ended();
            let timer = secured.timer.take();
            self.put_secured(secured);
            self.forget_handshake_timer(timer);
            if self.has_ended() {
                return (Handshake::Failed(Close::Local), true);
            }
            self.complete_handshake(then, starts_clocks);
            return (Handshake::Complete, true);
        }
        // A part of a message earns no time: its sender could go on for ever.
        if let (Ok(Ok(step)), Some(queued_for)) = (&outcome, queued_for)
            && step.is_expensive
        {
            secured.delay += queued_for;
            secured.is_overdue = false;
        }
        if outcome.is_err() {
            contain(|| secured.panicked(self));
        }
        self.put_secured(secured);
        match outcome {
            Ok(Ok(step)) => (step.handshake, step.is_expensive),
            Ok(Err(error)) => (Handshake::Failed(self.failed(error, action, then)), true),
            Err(panic) => {
                let error = Error::new(format!("the TLS configuration panicked: {panic}"));
                (Handshake::Failed(self.failed(error, action, then)), true)
            }
        }
    }

    /// The handshake is complete: the channel goes on in the phase `then`.
    fn complete_handshake(self: &Rc<Self>, then: Phase, starts_clocks: bool) {
        self.phase.set(then);
        if starts_clocks || then == Phase::Arrived {
            self.start_clocks();
        }
        // A part of a record may have come with the end of the handshake. It is timed from the next turn on.
        if self.is_timed() && self.is_chat() {
            self.requests.add(Request::PARSE);
        }
        if then == Phase::Arrived {
            if let (Some(retry), Some(agenda)) = (self.retry(), self.agenda()) {
                retry.came_up(agenda.now());
            }
        } else {
            self.flags.set(Flag::UPGRADING, false);
            self.requests.add(Request::SECURED);
            self.time(Clocks::moved);
        }
    }

    pub(crate) fn set_handshake_timer(&self) -> Option<TimerId> {
        let (agenda, after) = (self.agenda()?, self.deadlines().handshake?);
        let timer = agenda.set_timer(after, Task::Handshake(self.id.get()));
        self.add_timer(timer);
        Some(timer)
    }

    pub(crate) fn forget_handshake_timer(&self, timer: Option<TimerId>) {
        if let (Some(timer), Some(agenda)) = (timer, self.agenda()) {
            agenda.forget_timer(timer);
            self.remove_timer(timer);
        }
    }

    /// Notes since when its handshake waits for its turn: now.
    pub(crate) fn note_queued_handshake(&self) {
        let now = self.agenda().map(|agenda| agenda.now());
        self.on_secured(|secured| secured.queued_at = now);
    }

    /// Looks for something that the peer has sent and the kernel has not reported, when the timer of the handshake has
    /// fired. It is looked for once for each message: a peer could always have sent another byte.
    pub(crate) fn look_for_unread_handshake(&self) -> bool {
        let is_first = |secured: &mut Secured| !std::mem::replace(&mut secured.is_overdue, true);
        self.phase.get() == Phase::Securing
            && self.on_secured(is_first) == Some(true)
            && self.on_socket(Fd::peek).is_ok()
    }

    /// Checks the deadline whose timer has fired. Ends the channel, or returns after what time to check again: a peer is not
    /// late while this side has yet to process what it has sent, and the time for which its messages have waited for
    /// that is not the peer's.
    pub(crate) fn check_handshake_deadline(self: &Rc<Self>, fired: TimerId) -> Option<Duration> {
        if self.phase.get() == Phase::Securing {
            if self.flags.has(Flag::QUEUED) {
                return Some(ONE_TURN);
            }
            let delay = self.on_secured(|secured| std::mem::take(&mut secured.delay));
            if let Some(delay) = delay.filter(|delay| !delay.is_zero()) {
                return Some(delay);
            }
        }
        self.remove_timer(fired);
        #[cfg(feature = "proxy-protocol")]
        if self.phase.get() == Phase::Unidentified {
            self.end_without_header();
            return None;
        }
        if self.phase.get() != Phase::Securing {
            return None;
        }
        let known = self.on_secured(|secured| (secured.action(), secured.then));
        self.end(match known {
            Some((Some(action), Phase::Arrived)) => {
                let error = Error::from(io::Error::from(io::ErrorKind::TimedOut));
                Close::ConnectFailed(error.context(self.with_peer(&action)))
            }
            _ => Close::Timeout(Deadline::Handshake),
        });
        None
    }

    /// Which of the clocks run during the handshake: those of a connection that is up, or (`Some(false)`) that of the
    /// connect deadline, which includes the handshake of a client. An accepted connection has none before its handshake
    /// is complete.
    #[cold]
    pub(super) fn clocks_during_handshake(&self) -> Option<bool> {
        let of = |secured: &mut Secured| match secured.then {
            Phase::Arrived => secured.action().map(|_| false),
            _ => (!secured.starts_clocks).then_some(true),
        };
        self.on_secured(of)?
    }

    // ---- an upgrade in the middle of a connection

    /// Queues the beginning of TLS, behind everything that was pushed. No input is delivered from now on.
    #[cfg(feature = "tls-no-provider")]
    pub(crate) fn queue_upgrade(self: &Rc<Self>, make: MakeStage) -> Result<(), Error> {
        self.can_begin_tls()?;
        if self.flags.has(Flag::PIPED) {
            return Err(Error::new("a piped connection cannot begin TLS"));
        }
        let takes_pushes = self.out.borrow().takes_pushes();
        if !takes_pushes {
            return Err(Error::new("nothing can be sent any more"));
        }
        self.secure_when_up(make);
        self.flags.set(Flag::UPGRADING, true);
        self.requests.add(Request::UPGRADE);
        self.push_item(Item::StartTls);
        Ok(())
    }

    /// Everything that was pushed before the upgrade was sent: the handshake begins, unless the channel has ended.
    pub(crate) fn begin_upgrade(self: &Rc<Self>) {
        if !self.is_up() {
            return;
        }
        match self.take_planned() {
            Some(make) => self.begin_handshake(make, Phase::Open),
            // What follows must not be sent in clear.
            None => self.end(Close::Tls("there is no TLS configuration".into())),
        }
    }

    /// Whether TLS can begin on the connection now.
    ///
    /// # Errors
    /// When it cannot.
    #[cfg(feature = "tls-no-provider")]
    pub(crate) fn can_begin_tls(&self) -> Result<(), Error> {
        if self.flags.has(Flag::STAGED) || self.flags.has(Flag::UPGRADING) {
            return Err(Error::new("the connection uses TLS already"));
        }
        if !self.is_up() {
            return Err(Error::new("the connection is not up"));
        }
        if !self.is_stream() {
            return Err(Error::new("TLS needs a stream"));
        }
        if self.flags.has(Flag::FINISHED) || self.has_failed_sending() || self.has_lost_output() {
            return Err(Error::new("nothing can be sent any more"));
        }
        Ok(())
    }

    /// Whether TLS is to begin when the connection is up.
    #[cfg(feature = "tls-no-provider")]
    pub(crate) fn plans_tls(&self) -> bool {
        self.cold(|cold| cold.planned.is_some()) == Some(true)
    }

    // ---- bytes

    /// Receives through the stage. The end of the stream without an announcement is an error: the stream may
    /// have been cut.
    #[cold]
    #[inline(never)]
    pub(super) fn recv_secured(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.is_up() {
            return Err(self.not_up().into());
        }
        let Some(mut secured) = self.take_secured() else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let outcome = secured.recv(self, buffer);
        self.put_secured(secured);
        // A cut stream, or a TLS failure: nothing follows. The socket does not say so.
        use io::ErrorKind::{InvalidData, UnexpectedEof};
        let kind = outcome.as_ref().err().map(io::Error::kind);
        if matches!(kind, Some(UnexpectedEof | InvalidData)) {
            self.flags.set(Flag::EOF, true);
        }
        outcome
    }

    /// Sends through the stage. What it takes counts as sent. The kernel may have accepted only a part of it: then
    /// the channel is blocked.
    #[cold]
    #[inline(never)]
    pub(crate) fn send_secured(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.has_shut_down() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if !self.is_up() {
            return Err(self.not_up().into());
        }
        let Some(mut secured) = self.take_secured() else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let before = secured.sent;
        let outcome = secured.send(self, parts);
        self.put_offered(secured, before);
        if let Ok(count) = outcome {
            self.count_sent(count);
        }
        outcome
    }

    /// Sends what the stage holds, and, if the output `ends` here, the announcement of that.
    pub(super) fn finish_secured(&self, ends: bool) -> io::Result<()> {
        let Some(mut secured) = self.take_secured() else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let before = secured.sent;
        secured.flush(self);
        let error = secured.output_error.take();
        if ends && error.is_none() && !secured.holds_output() {
            secured.announce_end(self);
        }
        let is_held = self.put_offered(secured, before);
        if let Some(error) = error {
            return Err(error);
        }
        if is_held {
            Err(io::ErrorKind::WouldBlock.into())
        } else {
            Ok(())
        }
    }

    /// Ends the sending side of a channel with a stage: at once, or when the handshake is complete and the stage's
    /// output is sent.
    pub(super) fn shut_down_secured(&self) -> io::Result<()> {
        if !self.is_up() {
            self.on_secured(|secured| secured.shutdown_due = true);
            return Ok(());
        }
        match self.finish_secured(true) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.on_secured(|secured| secured.shutdown_due = true);
                Ok(())
            }
            outcome => outcome.and_then(|()| self.shut_down_socket()),
        }
    }

    // ---- turns

    /// Before a turn: sends what the stage holds, and makes the channel read what the stage has decrypted.
    #[cold]
    #[inline(never)]
    pub(crate) fn prepare_secured(self: &Rc<Self>, mut ready: Ready) -> Ready {
        let Some(mut secured) = self.take_secured() else {
            return ready;
        };
        ready = ready.union(Ready::READ.when(secured.has_input()));
        let may_send = ready.has(Ready::WRITE) || !self.flags.has(Flag::BLOCKED);
        let sends = may_send && (secured.holds_output() || secured.shutdown_due);
        let before = secured.sent;
        if sends {
            secured.flush(self);
        }
        let error = secured.output_error.take();
        let shuts_down = sends && secured.shut_down(self, error.is_none());
        if !sends {
            self.put_secured(secured);
        } else if self.put_offered(secured, before) {
            ready.remove(Ready::WRITE);
        }
        if shuts_down {
            // It fails when the connection is gone, which its input shows.
            let _ = self.shut_down_socket();
        }
        if let Some(error) = error {
            self.fail_sending(error);
        }
        ready
    }

    /// Whether the stage has decrypted something that the channel has not taken.
    #[cold]
    #[inline(never)]
    pub(crate) fn has_decrypted(&self) -> bool {
        self.on_secured(|secured| secured.has_input())
            .unwrap_or(false)
    }

    /// Whether a part of a TLS record has arrived, or of a message of TLS, and not the rest.
    #[cold]
    #[inline(never)]
    pub(crate) fn has_partial_secured(&self) -> bool {
        let has_partial = |secured: &mut Secured| {
            let stage = secured.stage.as_ref();
            stage.is_some_and(|stage| stage.has_partial())
        };
        self.flags.has(Flag::STAGED) && self.on_secured(has_partial).unwrap_or(false)
    }

    /// Whether the stage has output that the kernel has not accepted.
    #[inline]
    pub(crate) fn holds_output(&self) -> bool {
        self.flags.has(Flag::STAGED) && self.stage_holds_output()
    }

    #[cold]
    #[inline(never)]
    fn stage_holds_output(&self) -> bool {
        self.on_secured(|secured| secured.holds_output())
            .unwrap_or(false)
    }

    // ---- the end

    /// The channel ends. Returns whether its output `is_incomplete`.
    #[cold]
    #[inline(never)]
    pub(super) fn end_secured(
        &self,
        secured: &mut Secured,
        is_incomplete: bool,
        why: Option<&Close>,
    ) -> bool {
        let is_incomplete = is_incomplete || secured.holds_output();
        secured.end(self, !is_incomplete && self.ends_in_order(why));
        // What the session would have pushed in `handle_connect` was not sent. An end of the peer is no such loss.
        let was_never_up = !secured.is_up && secured.then == Phase::Arrived;
        is_incomplete || (was_never_up && why.is_none_or(Close::is_local))
    }

    /// The stream of a chat has ended, and may have been cut: the peer has not announced its end. The last part of a
    /// record is dropped. The replies to the records before it are sent.
    pub(crate) fn end_truncated(self: &Rc<Self>) {
        if !self.has_lost_output() && self.end_with_send_error() {
            return;
        }
        self.time(|clocks, _| clocks.end_record());
        if self.flags.has(Flag::PIPED) {
            self.end(Close::Truncated);
        } else {
            self.close_when_done(Close::Truncated);
        }
    }

    /// Why a channel ends whose input has ended.
    pub(crate) fn end_of_input(&self) -> Close {
        let end = self.on_secured(|secured| match &secured.stage {
            Some(stage) if secured.end == End::Failed => stage.failure().map(Close::Tls),
            Some(stage) if !stage.peer_has_closed() => Some(Close::Truncated),
            _ => None,
        });
        end.flatten().unwrap_or(Close::Eof)
    }

    /// Whether the peer has finished sending, so that a close of the socket destroys nothing.
    #[inline]
    pub(crate) fn has_received_end(&self) -> bool {
        self.flags.has(Flag::EOF) && (!self.flags.has(Flag::STAGED) || self.socket_has_ended())
    }

    /// Whether the peer sends nothing more, so that a close of the socket destroys nothing. With TLS it answers the close
    /// with an alert, whatever it has said.
    #[inline]
    pub(crate) fn expects_no_input(&self) -> bool {
        let has_said_so = self.flags.has(Flag::SKIPS_LINGER) && !self.flags.has(Flag::STAGED);
        has_said_so || self.has_received_end()
    }

    #[cold]
    #[inline(never)]
    fn socket_has_ended(&self) -> bool {
        self.on_secured(|secured| secured.end == End::Socket)
            .unwrap_or(false)
    }

    /// Whether everything was sent but the announcement of the end.
    pub(super) fn has_announced_end(&self) -> bool {
        self.on_secured(|secured| secured.is_announced)
            .unwrap_or(false)
    }

    /// Whether an alert was sent that is to reach the peer.
    #[inline]
    pub(crate) fn has_sent_alert(&self) -> bool {
        self.flags.has(Flag::STAGED) && self.stage_has_sent_alert()
    }

    #[cold]
    #[inline(never)]
    fn stage_has_sent_alert(&self) -> bool {
        let has_sent_alert = |secured: &mut Secured| {
            let stage = secured.stage.as_ref();
            stage.is_some_and(|stage| stage.has_sent_alert())
        };
        self.on_secured(has_sent_alert).unwrap_or(false)
    }

    /// Whether its handshake has begun and is not complete.
    #[cold]
    #[inline(never)]
    pub(crate) fn is_unsecured(&self) -> bool {
        self.on_secured(|secured| !secured.is_up).unwrap_or(false)
    }

    /// The channel ends: its handshake, if that is not complete.
    #[cold]
    #[inline(never)]
    pub(crate) fn failed_handshake(&self) -> Option<FailedHandshake> {
        let is_accepted =
            |secured: &mut Secured| secured.then == Phase::Arrived && secured.action().is_none();
        let has_begun = self.flags.has(Flag::STAGED);
        if has_begun && !self.is_unsecured() {
            return None;
        }
        let source = self.source.borrow();
        let source = source.as_ref();
        Some(FailedHandshake {
            has_begun,
            has_session: self.on_secured(is_accepted) != Some(true),
            local: source.and_then(|source| source.socket().local_addr().ok()),
        })
    }

    /// Whether `handle_connect` waits for a handshake.
    pub(crate) fn is_securing_at_first(&self) -> bool {
        let first = self.on_secured(|secured| secured.then == Phase::Arrived);
        self.phase.get() == Phase::Securing && first.unwrap_or(false)
    }

    /// What the handshake has agreed on, also for the last callback.
    #[cfg(feature = "tls-no-provider")]
    pub(crate) fn tls(&self) -> Option<Info> {
        self.cold(|cold| {
            let secured = cold.secured.as_ref().or(cold.ended_tls.as_ref())?;
            secured.stage.as_ref()?.info()
        })?
    }

    fn take_stage_buffers(&self) -> StageBuffers {
        let agenda = self.agenda();
        agenda.map_or_else(StageBuffers::default, |agenda| agenda.stage_buffers.take())
    }

    fn put_stage_buffers(&self, buffers: StageBuffers) {
        if let Some(agenda) = self.agenda() {
            agenda.stage_buffers.set(buffers);
        }
    }

    /// What a client whose handshake is not complete does.
    pub(super) fn handshake_action(&self) -> Option<String> {
        let action = self.on_secured(|secured| secured.action())??;
        Some(self.with_peer(&action))
    }

    /// Why the connection ends: its handshake has failed.
    fn failed(&self, error: Error, action: Option<Rc<str>>, then: Phase) -> Close {
        match (action, then) {
            (Some(action), Phase::Arrived) => {
                Close::ConnectFailed(error.context(self.with_peer(&action)))
            }
            _ => Close::Tls(error),
        }
    }

    /// What the client does, and which of the addresses of its target it has connected to.
    fn with_peer(&self, action: &str) -> String {
        match self.peer() {
            Some(peer) => format!("{action} ({peer})"),
            None => action.to_owned(),
        }
    }

    fn on_secured<T>(&self, look: impl FnOnce(&mut Secured) -> T) -> Option<T> {
        self.cold(|cold| cold.secured.as_mut().map(|secured| look(secured)))?
    }

    fn take_secured(&self) -> Option<Box<Secured>> {
        self.cold(|cold| cold.secured.take())?
    }

    fn put_secured(&self, secured: Box<Secured>) {
        let unused = self.with_cold(|cold| cold.secured.replace(secured));
        discard(unused);
    }
}
