//! The silence that ends a record of `Terminator::idle_gap`: when input last came, and the timer that looks how long
//! ago that was. There is one timer, and input does not move it: when it fires, it is set for the rest of the gap.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::ChannelState;
use super::agenda::deadline_after;
use crate::time::timer::TimerId;

/// A record has begun that silence ends.
#[derive(Clone, Copy)]
pub(super) struct Silence {
    since: Instant,
    timer: TimerId,
    /// When the timer is due: at the end of the gap, or earlier.
    due: Instant,
}

impl ChannelState {
    /// Input has come: the silence begins again.
    #[inline]
    pub(crate) fn end_silence(&self, now: impl FnOnce() -> Instant) {
        self.cold(|cold| {
            if let Some(silence) = &mut cold.silence {
                silence.since = now();
            }
        });
    }

    /// Waits for a silence of this length. It began when input last came, or begins now.
    pub(crate) fn await_silence(self: &Rc<Self>, gap: Duration, now: Instant) {
        match self.cold(|cold| cold.silence).flatten() {
            None => self.await_silence_since(now, gap, now),
            Some(Silence { since, timer, due }) => {
                let end = deadline_after(since, gap);
                if end < due {
                    self.reset_timer(timer, end.saturating_duration_since(now));
                    let due = end;
                    self.with_cold(|cold| cold.silence = Some(Silence { since, timer, due }));
                }
            }
        }
    }

    /// The same, for a silence that began then.
    pub(crate) fn await_silence_since(
        self: &Rc<Self>,
        since: Instant,
        gap: Duration,
        now: Instant,
    ) {
        let due = deadline_after(since, gap);
        let timer = self.set_timer(due.saturating_duration_since(now), None);
        self.with_cold(|cold| cold.silence = Some(Silence { since, timer, due }));
    }

    /// Waits for silence no more. Returns whether it did.
    pub(crate) fn forget_silence(&self) -> bool {
        let Some(silence) = self.take_silence() else {
            return false;
        };
        self.cancel_timer(silence.timer);
        true
    }

    /// If this timer, which has fired, is that of the silence: when input last came.
    pub(crate) fn silence_looked_for(&self, timer: TimerId) -> Option<Instant> {
        let own = self.cold(|cold| cold.silence).flatten()?.timer;
        if own == timer {
            self.take_silence().map(|silence| silence.since)
        } else {
            None
        }
    }

    fn take_silence(&self) -> Option<Silence> {
        self.cold(|cold| cold.silence.take())?
    }
}
