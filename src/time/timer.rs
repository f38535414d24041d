//! The timers of a loop: which is due next, and at what time.
//!
//! Sans-IO: it reads no clock and calls nobody. The loop asks for the
//! [`next_deadline`](TimerQueue::next_deadline), sleeps until then, and takes out what has
//! [expired](TimerQueue::expire).
//!
//! An ordered map rather than a heap. Most timeouts are cancelled, and a heap has no cheap cancel:
//! either cancelled timers stay in it (and pile up, as once in asyncio: bpo-22448), or each move
//! in the heap has to be written back to an index. A `BTreeMap` inserts, finds the first and removes
//! any in O(log n), and leaves nothing behind.

use std::collections::BTreeMap;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use slab::Slab;

/// Names a timer, to cancel or to reset it.
///
/// An id is never used twice in a process: the id of a timer that has fired, or was cancelled, or
/// belongs to another loop, names nothing, and can not hit a later timer by accident.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TimerId {
    slot: usize,
    serial: u64,
}

impl TimerId {
    /// Of a timer that was not set, for want of a loop or of an open channel.
    pub(crate) const NEVER: TimerId = TimerId {
        slot: usize::MAX,
        serial: u64::MAX,
    };
}

/// Of the whole process, so that the id of one loop means nothing to another.
static NEXT_SERIAL: AtomicU64 = AtomicU64::new(0);

/// Timers that carry a `T` each, ordered by deadline; those of equal deadlines by when they were set.
///
/// A timer that has expired is *firing* until it is finished or restored. Meanwhile its value is
/// with the caller and its id still valid, so that the callback of a periodic timer may cancel or
/// reset the very timer that called it.
#[derive(Debug)]
pub struct TimerQueue<T> {
    timers: Slab<Timer<T>>,
    /// The slots of all armed timers.
    due: BTreeMap<Due, usize>,
    /// How often a timer was set.
    times_set: u64,
}

/// A deadline, and a tie-breaker that makes it unique and equal deadlines first come, first served.
type Due = (Instant, u64);

#[derive(Debug)]
struct Timer<T> {
    serial: u64,
    state: State<T>,
}

#[derive(Debug)]
enum State<T> {
    Armed(Due, T),
    /// Its value is with the caller; the deadline is that of a reset since then.
    Firing(Option<Due>),
}

/// A timer that has expired, as [`TimerQueue::expire`] hands it out.
#[derive(Debug, PartialEq, Eq)]
pub struct Expired<T> {
    /// Valid until the timer is finished.
    pub id: TimerId,
    /// When it was due, from which a periodic timer counts its next period, so as not to drift.
    pub deadline: Instant,
    /// What was inserted.
    pub value: T,
}

impl<T> TimerQueue<T> {
    /// An empty queue. It allocates nothing before its first timer.
    pub const fn new() -> Self {
        Self {
            timers: Slab::new(),
            due: BTreeMap::new(),
            times_set: 0,
        }
    }

    /// Sets a timer.
    pub fn insert(&mut self, deadline: Instant, value: T) -> TimerId {
        let due = self.due_at(deadline);
        let serial = NEXT_SERIAL.fetch_add(1, Ordering::Relaxed);
        let slot = self.timers.insert(Timer {
            serial,
            state: State::Armed(due, value),
        });
        self.due.insert(due, slot);
        TimerId { slot, serial }
    }

    /// Removes a timer, armed or firing; `None` if there is no such timer (any more).
    ///
    /// The value inside is handed back rather than dropped here, for its destructor may be a user's.
    /// It is `None` for a timer that is firing: the caller of `expire` has it.
    pub fn cancel(&mut self, id: TimerId) -> Option<Option<T>> {
        self.timer(id)?;
        match self.timers.try_remove(id.slot)?.state {
            State::Armed(due, value) => {
                self.due.remove(&due);
                Some(Some(value))
            }
            State::Firing(_) => Some(None),
        }
    }

    /// Moves the deadline of a timer; false if there is no such timer (any more). For a timer that
    /// is firing this decides when it is due after [`restore`](Self::restore).
    pub fn reset(&mut self, id: TimerId, deadline: Instant) -> bool {
        let new = self.due_at(deadline);
        let Some(timer) = self.timer(id) else {
            return false;
        };
        match &mut timer.state {
            State::Armed(due, _) => {
                let old = mem::replace(due, new);
                self.due.remove(&old);
                self.due.insert(new, id.slot);
            }
            State::Firing(reset) => *reset = Some(new),
        }
        true
    }

    /// When [`expire`](Self::expire) will next have something; `None` when no timer is armed.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.due.first_key_value().map(|(due, _)| due.0)
    }

    /// Takes out the first timer whose deadline is `now` or before. It is firing from now on: end
    /// that with [`finish`](Self::finish), for a one-shot timer before its callback runs, so that
    /// its id is already void; or with [`restore`](Self::restore), for a periodic one afterwards.
    ///
    /// A callback that sets a timer of no delay makes more work for the same `now`. To let I/O have
    /// its turn, call this no more than [`len`](Self::len) times, as it was before the first.
    pub fn expire(&mut self, now: Instant) -> Option<Expired<T>> {
        let first = self.due.first_entry()?;
        if first.key().0 > now {
            return None;
        }
        let slot = first.remove();
        self.fire(slot)
    }

    /// Takes out this timer, as [`expire`](Self::expire) does, if its deadline is `now` or before,
    /// whatever else is due.
    pub fn expire_one(&mut self, id: TimerId, now: Instant) -> Option<Expired<T>> {
        let timer = self.timers.get_mut(id.slot)?;
        match timer.state {
            State::Armed(due, _) if timer.serial == id.serial && due.0 <= now => {
                self.due.remove(&due);
                self.fire(id.slot)
            }
            _ => None,
        }
    }

    fn fire(&mut self, slot: usize) -> Option<Expired<T>> {
        let timer = self.timers.get_mut(slot)?;
        match mem::replace(&mut timer.state, State::Firing(None)) {
            State::Armed((deadline, _), value) => Some(Expired {
                id: TimerId {
                    slot,
                    serial: timer.serial,
                },
                deadline,
                value,
            }),
            State::Firing(_) => None,
        }
    }

    /// Removes a timer that is firing: its id is void.
    pub fn finish(&mut self, id: TimerId) {
        if let Some(State::Firing(_)) = self.timer(id).map(|timer| &timer.state) {
            self.timers.try_remove(id.slot);
        }
    }

    /// Arms a timer that was firing, under the same id, for `deadline`, or for what it was reset to
    /// in the meantime.
    ///
    /// # Errors
    ///
    /// The value comes back if the timer was cancelled in the meantime.
    pub fn restore(&mut self, id: TimerId, deadline: Instant, value: T) -> Result<(), T> {
        let due = self.due_at(deadline);
        let Some(timer) = self.timer(id) else {
            return Err(value);
        };
        let State::Firing(reset) = timer.state else {
            return Err(value);
        };
        let due = reset.unwrap_or(due);
        timer.state = State::Armed(due, value);
        self.due.insert(due, id.slot);
        Ok(())
    }

    /// What the timers carry, in no particular order; of those that are firing the caller of
    /// [`expire`](Self::expire) has it.
    pub fn into_values(self) -> impl Iterator<Item = T> {
        let timers = self.timers.into_iter();
        timers.filter_map(|(_, timer)| match timer.state {
            State::Armed(_, value) => Some(value),
            State::Firing(_) => None,
        })
    }

    /// The number of timers, armed and firing.
    pub fn len(&self) -> usize {
        self.timers.len()
    }

    /// True if there is no timer, armed or firing.
    pub fn is_empty(&self) -> bool {
        self.timers.is_empty()
    }

    fn due_at(&mut self, deadline: Instant) -> Due {
        self.times_set += 1;
        (deadline, self.times_set)
    }

    fn timer(&mut self, id: TimerId) -> Option<&mut Timer<T>> {
        self.timers
            .get_mut(id.slot)
            .filter(|timer| timer.serial == id.serial)
    }
}

impl<T> Default for TimerQueue<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod model;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn values<T>(queue: &mut TimerQueue<T>, now: Instant) -> Vec<T> {
        std::iter::from_fn(|| {
            let expired = queue.expire(now)?;
            queue.finish(expired.id);
            Some(expired.value)
        })
        .collect()
    }

    #[test]
    fn fires_by_deadline_then_in_the_order_set() {
        let mut queue = TimerQueue::new();
        let t = Instant::now();
        let late = queue.insert(t + ms(1), "late");
        queue.insert(t + ms(2), "b");
        queue.insert(t + ms(2), "c");
        queue.insert(t + ms(1), "a");
        assert!(queue.reset(late, t + ms(2)));

        assert_eq!(queue.next_deadline(), Some(t + ms(1)));
        assert!(queue.expire(t).is_none());
        assert_eq!(values(&mut queue, t + ms(2)), ["a", "b", "c", "late"]);
        assert_eq!(queue.next_deadline(), None);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_timer_fires_at_its_deadline_not_a_nanosecond_before() {
        let mut queue = TimerQueue::new();
        let t = Instant::now() + ms(5);
        queue.insert(t, ());
        assert!(queue.expire(t - Duration::from_nanos(1)).is_none());
        assert_eq!(queue.expire(t).map(|expired| expired.deadline), Some(t));
    }

    #[test]
    fn an_id_is_void_after_firing_cancelling_and_in_another_queue() {
        let (mut queue, mut other) = (TimerQueue::new(), TimerQueue::new());
        let t = Instant::now();

        let cancelled = queue.insert(t, 1);
        assert_eq!(queue.cancel(cancelled), Some(Some(1)));
        let fired = queue.insert(t, 2);
        assert_eq!(fired.slot, cancelled.slot);
        assert_eq!(queue.cancel(cancelled), None);
        assert!(!queue.reset(cancelled, t));
        assert_eq!(values(&mut queue, t), [2]);
        assert_eq!(queue.cancel(fired), None);

        let here = queue.insert(t, 3);
        let there = other.insert(t, 4);
        assert_eq!(here.slot, there.slot);
        assert_eq!(queue.cancel(there), None);
        assert!(!other.reset(here, t));
        assert_eq!((queue.len(), other.len()), (1, 1));
    }

    #[test]
    fn a_one_shot_timer_can_not_touch_itself_while_firing() {
        let mut queue = TimerQueue::new();
        let t = Instant::now();
        queue.insert(t, ());
        let id = queue.expire(t).unwrap().id;
        queue.finish(id);
        assert_eq!(queue.cancel(id), None);
        assert!(!queue.reset(id, t));
        assert_eq!(queue.restore(id, t, ()), Err(()));
        assert!(queue.is_empty());
    }

    #[test]
    fn a_periodic_timer_keeps_its_id() {
        let mut queue = TimerQueue::new();
        let t = Instant::now();
        let id = queue.insert(t, "tick");
        for n in 0..5 {
            let expired = queue.expire(t + ms(10 * n + 3)).unwrap();
            assert_eq!(expired.id, id);
            assert_eq!(expired.deadline, t + ms(10 * n));
            assert_eq!((queue.len(), queue.next_deadline()), (1, None));
            let next = expired.deadline + ms(10);
            assert_eq!(queue.restore(id, next, expired.value), Ok(()));
            assert_eq!(queue.next_deadline(), Some(next));
        }
        assert_eq!(queue.cancel(id), Some(Some("tick")));
        assert!(queue.is_empty());
    }

    #[test]
    fn a_periodic_timer_may_cancel_itself_while_firing() {
        let mut queue = TimerQueue::new();
        let t = Instant::now();
        let id = queue.insert(t, "tick");
        let expired = queue.expire(t).unwrap();
        assert_eq!(queue.cancel(id), Some(None));
        assert_eq!(queue.cancel(id), None);
        // Its slot is free at once, and the new owner is not disturbed by the restore.
        let next = queue.insert(t + ms(1), "next");
        assert_eq!(next.slot, id.slot);
        assert_eq!(queue.restore(id, t, expired.value), Err("tick"));
        assert_eq!(values(&mut queue, t + ms(1)), ["next"]);
    }

    #[test]
    fn a_periodic_timer_may_reset_itself_while_firing() {
        let mut queue = TimerQueue::new();
        let t = Instant::now();
        let id = queue.insert(t, "tick");
        let expired = queue.expire(t).unwrap();
        assert!(queue.reset(id, t + ms(70)));
        assert!(queue.reset(id, t + ms(7)));
        assert_eq!(queue.next_deadline(), None);
        assert_eq!(queue.restore(id, t + ms(10), expired.value), Ok(()));
        assert_eq!(queue.next_deadline(), Some(t + ms(7)));
        // Once only: the next period is regular again.
        let expired = queue.expire(t + ms(7)).unwrap();
        assert_eq!(queue.restore(id, t + ms(17), expired.value), Ok(()));
        assert_eq!(queue.next_deadline(), Some(t + ms(17)));
    }

    #[test]
    fn only_a_firing_timer_is_finished_or_restored() {
        let mut queue = TimerQueue::new();
        let t = Instant::now();
        let id = queue.insert(t, 1);
        queue.finish(id);
        assert_eq!(queue.restore(id, t + ms(1), 2), Err(2));
        assert_eq!(values(&mut queue, t), [1]);
    }

    #[test]
    fn cancelled_timers_leave_nothing_behind() {
        let mut queue = TimerQueue::new();
        let t = Instant::now();
        for n in 0..10_000 {
            let id = queue.insert(t + ms(n), n);
            assert!(queue.reset(id, t + ms(n + 1)));
            assert_eq!(queue.cancel(id), Some(Some(n)));
        }
        assert_eq!((queue.timers.len(), queue.due.len()), (0, 0));
        assert!(queue.timers.capacity() <= 4);
    }
}
