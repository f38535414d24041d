//! The deadlines of a channel: its clocks, and the one timer that checks them.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::agenda::Task;
use super::{ChannelState, Flag, Phase, Request};
use crate::error::Close;
use crate::sys::socket::Fd;
use crate::time::deadlines::{BUFFERED, Clocks, Deadlines, Passed};
use crate::time::timer::TimerId;

/// Present if any deadline of the channel is not the default.
pub(super) struct Timing {
    clocks: Clocks,
    /// The timer of all its deadlines, and when it is due.
    timer: Option<(TimerId, Instant)>,
}

impl ChannelState {
    pub(crate) fn deadlines(&self) -> Deadlines {
        let timing = self.timing.get();
        timing.map_or_else(Deadlines::default, |timing| {
            timing.borrow().clocks.deadlines()
        })
    }

    pub(crate) fn set_deadlines(self: &Rc<Self>, deadlines: Deadlines) {
        let timed = self.timing.get().is_some();
        if timed && self.agenda().is_some() {
            self.time(|clocks, now| clocks.set(deadlines, now));
        } else if timed || deadlines != Deadlines::default() {
            let clocks = Clocks::new(deadlines);
            let fresh = RefCell::new(Timing {
                clocks,
                timer: None,
            });
            if let Err(fresh) = self.timing.set(Box::new(fresh)) {
                self.timing.get().inspect(|timing| timing.swap(&fresh));
            }
            self.start_clocks();
            self.begin_midway();
        }
    }

    /// The end of its lifetime, if it has one.
    pub(crate) fn end_of_life(&self) -> Option<Instant> {
        self.timing.get()?.borrow().clocks.end_of_life()
    }

    /// The first deadlines were set on a running connection: what is in progress is timed from now on.
    fn begin_midway(self: &Rc<Self>) {
        if self.flags.has(Flag::BLOCKED) {
            let sent = self.accepted_out();
            self.time(|clocks, now| clocks.offered(now, false, sent));
        }
        // The splitter knows whether a record has begun. It is asked in the next turn.
        if self.is_chat() {
            self.requests.add(Request::PARSE);
            self.schedule();
        }
    }

    /// The channel was registered, has come up, or gets its first deadline.
    pub(crate) fn start_clocks(&self) {
        let up = match self.phase.get() {
            Phase::Securing => self.clocks_during_handshake(),
            _ => Some(self.is_up()),
        };
        if let Some(up) = up {
            self.time(|clocks, now| clocks.start(now, up));
        }
    }

    /// Notifies the clocks of something that happens now. Without deadlines there are no clocks.
    #[inline(always)] // Most connections have no clocks.
    pub(crate) fn time(&self, event: impl FnOnce(&mut Clocks, Instant)) {
        if self.timing.get().is_some() {
            self.time_it(event);
        }
    }

    /// Whether it has clocks. Otherwise none of the others needs to be called.
    #[inline]
    pub(crate) fn is_timed(&self) -> bool {
        self.timing.get().is_some()
    }

    /// `count` bytes were received, of `most` that were asked for.
    #[inline(never)]
    pub(crate) fn time_received(&self, count: usize, most: usize) {
        self.put_off(|clocks, now| {
            clocks.moved(now);
            clocks.forgive_input(now, self.absence(count, most));
        });
    }

    /// `offered` bytes were offered to the kernel. It has accepted some of them, or (`None`) would have blocked.
    #[inline(never)]
    pub(crate) fn time_sent(&self, accepted: Option<usize>, offered: usize) {
        let (all, sent) = (!self.flags.has(Flag::BLOCKED), self.accepted_out());
        self.put_off(|clocks, now| {
            if let Some(count) = accepted {
                clocks.moved(now);
                clocks.forgive_output(now, self.absence(count, offered));
            }
            clocks.offered(now, all, sent);
        });
        if !all {
            self.set_deadline_timer();
        }
    }

    /// For how long the peer may have waited for the loop, if `count` bytes have moved, of `most` that could have moved
    /// with this call.
    fn absence(&self, count: usize, most: usize) -> Duration {
        match self.agenda() {
            Some(agenda) if count > 0 && count >= most.min(BUFFERED) => agenda.absence(),
            _ => Duration::ZERO,
        }
    }

    /// The turn is over, and this is what the channel waits for: input, with nothing left to deliver; the kernel
    /// to take output.
    #[inline(never)]
    pub(crate) fn time_wait(&self, awaits_input: bool, has_output: bool) {
        let is_changed = |timing: &RefCell<Timing>| {
            let clocks = &timing.borrow().clocks;
            clocks.is_changed_by_turn(awaits_input, has_output)
        };
        if self.timing.get().is_some_and(|timing| is_changed(timing)) {
            self.time_it(|clocks, now| {
                if awaits_input {
                    clocks.end_turn(now, true, has_output);
                } else {
                    clocks.end_turn(self.polled_until(now), false, has_output);
                }
            });
        }
    }

    /// This side stops reading. The time since the loop polled last is not the peer's: nobody will see whether
    /// its input waited.
    pub(crate) fn stop_input_clocks(&self) {
        self.time(|clocks, now| clocks.pause(self.polled_until(now)));
    }

    fn polled_until(&self, now: Instant) -> Instant {
        self.agenda().map_or(now, |agenda| agenda.polled_until(now))
    }

    // Not inlined: a connection without deadlines must not pay for it.
    #[inline(never)]
    fn time_it(&self, event: impl FnOnce(&mut Clocks, Instant)) {
        self.put_off(event);
        self.set_deadline_timer();
    }

    /// Notifies the clocks of something that puts deadlines off, or ends them. The timer needs no change for that: most
    /// events of a connection are such.
    #[inline]
    pub(crate) fn put_off(&self, event: impl FnOnce(&mut Clocks, Instant)) {
        if let Some(agenda) = self.agenda()
            && let Some(timing) = self.timing.get()
        {
            event(&mut timing.borrow_mut().clocks, agenda.time_of_event());
        }
    }

    #[inline(never)]
    fn set_deadline_timer(&self) {
        let Some(agenda) = self.agenda() else {
            return;
        };
        let Some(timing) = self.timing.get() else {
            return;
        };
        let timing = &mut *timing.borrow_mut();
        // The timer is moved when a deadline is earlier than it, never when it is later: when it fires, it
        // is set for what is next.
        if let Some((when, _)) = timing.clocks.next()
            && !self.has_ended()
        {
            match timing.timer {
                Some((_, due)) if due <= when => {}
                Some((timer, _)) => {
                    agenda.reset_timer_at(timer, when);
                    timing.timer = Some((timer, when));
                }
                None => {
                    let timer = agenda.set_timer_at(when, Task::Deadline(self.id.get()));
                    timing.timer = Some((timer, when));
                }
            }
        }
    }

    /// Takes the timer of a channel that is closing, to be cancelled.
    pub(super) fn take_deadline_timer(&self) -> Option<TimerId> {
        let (timer, _) = self.timing.get()?.borrow_mut().timer.take()?;
        Some(timer)
    }

    /// The deadline that has passed, if one has.
    pub(crate) fn overdue(&self, now: Instant) -> Option<Passed> {
        let (when, which) = self.timing.get()?.borrow().clocks.next()?;
        (when <= now).then_some(which)
    }

    /// Whether the peer has sent what this side has yet to read.
    pub(crate) fn has_unread(&self) -> bool {
        self.on_connected(Fd::peek).is_ok()
    }

    /// The timer has fired, but the decision is put off until then.
    pub(crate) fn look_at_clocks_later(&self, when: Instant) -> Instant {
        if let Some(timing) = self.timing.get() {
            let timer = &mut timing.borrow_mut().timer;
            *timer = timer.map(|(timer, _)| (timer, when));
        }
        when
    }

    /// The timer has fired. If a deadline has passed, ends the channel. Otherwise returns when to check
    /// again.
    pub(crate) fn look_at_clocks(self: &Rc<Self>, now: Instant) -> Option<Instant> {
        let passed = self.look(now)?;
        match passed {
            Ok(later) => return Some(later),
            Err(Passed::Deadline(which)) => self.end(Close::Timeout(which)),
            Err(Passed::Connect) => self.connect_timed_out(),
        }
        None
    }

    /// The deadline that has passed (`Err`), or when to check again (`Ok`). `None` when no clock runs. The
    /// timer stays set only with `Ok`.
    fn look(&self, now: Instant) -> Option<Result<Instant, Passed>> {
        let timing = &mut *self.timing.get()?.borrow_mut();
        let timer = timing.timer.take();
        if self.flags.has(Flag::AWAITS_WORKER) {
            // It is not the peer that is idle.
            timing.clocks.moved(now);
        }
        let (when, which) = timing.clocks.next()?;
        if when <= now {
            return Some(Err(which));
        }
        timing.timer = timer.map(|(timer, _)| (timer, when));
        Some(Ok(when))
    }
}
