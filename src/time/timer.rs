//! The timer queue of a loop.
//!
//! It reads no clock and calls no callback. The loop sleeps until
//! [`next_deadline`](TimerQueue::next_deadline) and then takes the timers that have
//! [expired](TimerQueue::expire).
//!
//! The queue is an ordered map and not a heap, because most timeouts are cancelled and a heap has no
//! cheap cancellation: either cancelled timers stay in the heap and accumulate (as in asyncio before
//! bpo-22448 was fixed), or an index has to follow every move in the heap. A `BTreeMap` inserts,
//! removes and finds the first entry in O(log n), and frees the memory of removed entries. The slab that has the
//! values reuses the slot of a removed timer, and so takes as much memory as the most timers at a time need.

use std::collections::BTreeMap;
use std::mem;
use std::time::{Duration, Instant};

use slab::Slab;

use crate::serial;

/// The shortest period of a periodic timer. One of zero would be due in every turn, and the loop would spin.
pub(crate) const MIN_PERIOD: Duration = Duration::from_millis(1);

/// Identifies a timer, in order to [`cancel`](crate::cancel) or [`reschedule`](crate::reschedule) it.
///
/// A process never uses an id twice. The id of a one-shot timer is valid until the timer fires, that
/// of a periodic timer until the timer is cancelled. After that, and in any other loop, `cancel` and
/// `reschedule` do nothing with it and return `false`.
///
/// ```
/// use std::time::Duration;
/// let timer = asynchat::call_later(Duration::from_secs(60), || {});
/// assert!(asynchat::reschedule(timer, Duration::from_secs(90)));
/// assert!(asynchat::cancel(timer));
/// assert!(!asynchat::cancel(timer));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TimerId {
    slot: usize,
    serial: u64,
}

impl TimerId {
    /// The id of no timer. Functions return it when there is no loop or no open channel to set a
    /// timer for.
    pub(crate) const NEVER: TimerId = TimerId {
        slot: usize::MAX,
        serial: u64::MAX,
    };

    /// An id for [`TimerQueue::insert_as`], made before its timer.
    pub(crate) fn reserve() -> TimerId {
        TimerId {
            slot: NO_SLOT,
            serial: serial::next(),
        }
    }
}

/// The slot in an id that was made before its timer.
const NO_SLOT: usize = usize::MAX;

/// Timers with a value of type `T` each, ordered by deadline. Timers with equal deadlines are ordered
/// by the time they were set or last reset.
///
/// [`expire`](Self::expire) gives the caller the timer's value. From then until the caller finishes
/// or restores it, the timer is *firing*. Its id is valid during that time, so the callback of a
/// periodic timer can cancel or reset its own timer.
#[derive(Debug)]
pub struct TimerQueue<T> {
    timers: Slab<Timer<T>>,
    /// The slots of all armed timers.
    due: BTreeMap<Due, usize>,
    /// The slots of the timers whose ids were made before them, by serial number.
    reserved: BTreeMap<u64, usize>,
    /// Counts the calls that set a deadline. It breaks ties between equal deadlines.
    times_set: u64,
}

/// A deadline and the value of `times_set` when it was set, which makes the pair unique.
type Due = (Instant, u64);

#[derive(Debug)]
struct Timer<T> {
    serial: u64,
    state: State<T>,
}

#[derive(Debug)]
enum State<T> {
    Armed(Due, T),
    /// The caller of `expire` has the value. If the timer has been reset meanwhile, this is its new
    /// deadline.
    Firing(Option<Due>),
}

/// A timer that [`TimerQueue::expire`] has found due.
#[derive(Debug, PartialEq, Eq)]
pub struct Expired<T> {
    /// The id of the timer, valid until the timer is finished.
    pub id: TimerId,
    /// When the timer was due. The next period of a periodic timer starts here and not at the time of
    /// the call, so that the timer does not drift.
    pub deadline: Instant,
    /// The value that was inserted.
    pub value: T,
}

impl<T> TimerQueue<T> {
    /// Creates an empty queue. It allocates memory for its first timer only.
    pub const fn new() -> Self {
        Self {
            timers: Slab::new(),
            due: BTreeMap::new(),
            reserved: BTreeMap::new(),
            times_set: 0,
        }
    }

    /// Sets a timer that is due at `deadline`.
    pub fn insert(&mut self, deadline: Instant, value: T) -> TimerId {
        let serial = serial::next();
        let slot = self.arm(serial, deadline, value);
        TimerId { slot, serial }
    }

    /// Sets a timer that is due at `deadline` and has this [reserved](TimerId::reserve) id.
    pub(crate) fn insert_as(&mut self, id: TimerId, deadline: Instant, value: T) {
        let slot = self.arm(id.serial, deadline, value);
        self.reserved.insert(id.serial, slot);
    }

    fn arm(&mut self, serial: u64, deadline: Instant, value: T) -> usize {
        let due = self.due_at(deadline);
        let slot = self.timers.insert(Timer {
            serial,
            state: State::Armed(due, value),
        });
        self.due.insert(due, slot);
        slot
    }

    /// Removes a timer, armed or firing. Returns `None` if there is no timer with this id.
    ///
    /// The inner value is that of an armed timer, and `None` for a firing timer. It is returned and
    /// not dropped here, because its destructor can be user code.
    pub fn cancel(&mut self, id: TimerId) -> Option<Option<T>> {
        match self.remove(id)?.state {
            State::Armed(due, value) => {
                self.due.remove(&due);
                Some(Some(value))
            }
            State::Firing(_) => Some(None),
        }
    }

    /// Changes the deadline of a timer. Returns `false` if there is no timer with this id.
    ///
    /// The new deadline of a firing timer takes effect when the timer is [restored](Self::restore).
    pub fn reset(&mut self, id: TimerId, deadline: Instant) -> bool {
        let new = self.due_at(deadline);
        let Some(slot) = self.slot_of(id) else {
            return false;
        };
        let Some(timer) = self.timers.get_mut(slot) else {
            return false;
        };
        match &mut timer.state {
            State::Armed(due, _) => {
                let old = mem::replace(due, new);
                self.due.remove(&old);
                self.due.insert(new, slot);
            }
            State::Firing(reset) => *reset = Some(new),
        }
        true
    }

    /// Returns the earliest deadline, or `None` if no timer is armed.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.due.first_key_value().map(|(due, _)| due.0)
    }

    /// Takes the timer with the earliest deadline if that is at or before `now`. The timer is firing
    /// until the caller does one of two things:
    ///
    /// - [`finish`](Self::finish), for a one-shot timer, before its callback runs, so that the
    ///   callback sees an id that is no longer valid;
    /// - [`restore`](Self::restore), for a periodic timer, after its callback has run.
    ///
    /// A callback can set a timer that is due at the same `now`. In one turn of the loop, call this
    /// at most [`len`](Self::len) times, counted before the first call, so that I/O gets its turn.
    pub fn expire(&mut self, now: Instant) -> Option<Expired<T>> {
        let first = self.due.first_entry()?;
        if first.key().0 > now {
            return None;
        }
        let slot = first.remove();
        self.fire(slot)
    }

    /// Takes this timer if its deadline is at or before `now`, even if other timers are due earlier.
    /// Otherwise it is like [`expire`](Self::expire).
    pub fn expire_one(&mut self, id: TimerId, now: Instant) -> Option<Expired<T>> {
        let slot = self.slot_of(id)?;
        match self.timers.get(slot)?.state {
            State::Armed(due, _) if due.0 <= now => {
                self.due.remove(&due);
                self.fire(slot)
            }
            _ => None,
        }
    }

    fn fire(&mut self, slot: usize) -> Option<Expired<T>> {
        let timer = self.timers.get_mut(slot)?;
        let serial = timer.serial;
        match mem::replace(&mut timer.state, State::Firing(None)) {
            State::Armed((deadline, _), value) => Some(Expired {
                id: if self.reserved.contains_key(&serial) {
                    TimerId {
                        slot: NO_SLOT,
                        serial,
                    }
                } else {
                    TimerId { slot, serial }
                },
                deadline,
                value,
            }),
            State::Firing(_) => None,
        }
    }

    /// Removes a firing timer. Its id is no longer valid. Does nothing to an armed timer.
    pub fn finish(&mut self, id: TimerId) {
        let timer = self.slot_of(id).and_then(|slot| self.timers.get(slot));
        if let Some(State::Firing(_)) = timer.map(|timer| &timer.state) {
            self.remove(id);
        }
    }

    /// Arms a firing timer again under the same id. It is due at `deadline`, unless it has been reset
    /// while it was firing.
    ///
    /// # Errors
    ///
    /// Returns the value if the timer is not firing, which includes one that has been cancelled while
    /// it was.
    pub fn restore(&mut self, id: TimerId, deadline: Instant, value: T) -> Result<(), T> {
        let due = self.due_at(deadline);
        let Some(slot) = self.slot_of(id) else {
            return Err(value);
        };
        let Some(timer) = self.timers.get_mut(slot) else {
            return Err(value);
        };
        let State::Firing(reset) = timer.state else {
            return Err(value);
        };
        let due = reset.unwrap_or(due);
        timer.state = State::Armed(due, value);
        self.due.insert(due, slot);
        Ok(())
    }

    /// Returns the values of all armed timers in no particular order.
    pub fn into_values(self) -> impl Iterator<Item = T> {
        let timers = self.timers.into_iter();
        timers.filter_map(|(_, timer)| match timer.state {
            State::Armed(_, value) => Some(value),
            State::Firing(_) => None,
        })
    }

    /// Returns the number of timers, armed and firing.
    pub fn len(&self) -> usize {
        self.timers.len()
    }

    /// Returns whether there is no timer, neither armed nor firing.
    pub fn is_empty(&self) -> bool {
        self.timers.is_empty()
    }

    fn due_at(&mut self, deadline: Instant) -> Due {
        self.times_set += 1;
        (deadline, self.times_set)
    }

    /// The slot of this timer, if there is one.
    fn slot_of(&self, id: TimerId) -> Option<usize> {
        let slot = match id.slot {
            NO_SLOT => *self.reserved.get(&id.serial)?,
            slot => slot,
        };
        let timer = self.timers.get(slot)?;
        (timer.serial == id.serial).then_some(slot)
    }

    fn remove(&mut self, id: TimerId) -> Option<Timer<T>> {
        let slot = self.slot_of(id)?;
        if id.slot == NO_SLOT {
            self.reserved.remove(&id.serial);
        }
        self.timers.try_remove(slot)
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
    fn timers_fire_by_deadline_and_then_in_the_order_they_were_set() {
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
    fn an_id_made_before_its_timer_is_that_of_the_timer_until_it_has_fired() {
        let mut queue = TimerQueue::new();
        let t = Instant::now();
        let [fired, moved, cancelled] = [(); 3].map(|()| TimerId::reserve());
        assert!(!queue.reset(fired, t), "there is no timer yet");
        assert_eq!(queue.cancel(cancelled), None);
        for (id, value) in [(fired, 1), (moved, 2), (cancelled, 3)] {
            queue.insert_as(id, t, value);
        }
        assert_eq!(queue.cancel(cancelled), Some(Some(3)));
        assert_eq!(queue.cancel(cancelled), None);
        assert!(queue.reset(moved, t + ms(2)));
        let expired = queue.expire(t).expect("it is due");
        assert_eq!((expired.id, expired.value), (fired, 1));
        assert_eq!(queue.restore(fired, t + ms(1), 1), Ok(()));
        assert_eq!(queue.expire(t + ms(1)).map(|it| it.id), Some(fired));
        queue.finish(fired);
        assert!(!queue.reset(fired, t));
        assert_eq!(
            queue.expire_one(moved, t + ms(2)).map(|it| it.value),
            Some(2)
        );
        queue.finish(moved);
        assert!(queue.is_empty() && queue.reserved.is_empty());
        assert!(!queue.reset(TimerId::NEVER, t));
    }

    #[test]
    fn an_id_is_invalid_after_firing_after_cancelling_and_in_another_queue() {
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
    fn the_callback_of_a_one_shot_timer_cannot_use_its_own_id() {
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
    fn a_periodic_timer_can_cancel_itself_while_firing() {
        let mut queue = TimerQueue::new();
        let t = Instant::now();
        let id = queue.insert(t, "tick");
        let expired = queue.expire(t).unwrap();
        assert_eq!(queue.cancel(id), Some(None));
        assert_eq!(queue.cancel(id), None);
        // The next timer gets its slot, and restoring the cancelled timer does not affect that one.
        let next = queue.insert(t + ms(1), "next");
        assert_eq!(next.slot, id.slot);
        assert_eq!(queue.restore(id, t, expired.value), Err("tick"));
        assert_eq!(values(&mut queue, t + ms(1)), ["next"]);
    }

    #[test]
    fn a_periodic_timer_can_reset_itself_while_firing() {
        let mut queue = TimerQueue::new();
        let t = Instant::now();
        let id = queue.insert(t, "tick");
        let expired = queue.expire(t).unwrap();
        assert!(queue.reset(id, t + ms(70)));
        assert!(queue.reset(id, t + ms(7)));
        assert_eq!(queue.next_deadline(), None);
        assert_eq!(queue.restore(id, t + ms(10), expired.value), Ok(()));
        assert_eq!(queue.next_deadline(), Some(t + ms(7)));
        // The reset applies once. The next period is regular.
        let expired = queue.expire(t + ms(7)).unwrap();
        assert_eq!(queue.restore(id, t + ms(17), expired.value), Ok(()));
        assert_eq!(queue.next_deadline(), Some(t + ms(17)));
    }

    #[test]
    fn only_a_firing_timer_can_be_finished_or_restored() {
        let mut queue = TimerQueue::new();
        let t = Instant::now();
        let id = queue.insert(t, 1);
        queue.finish(id);
        assert_eq!(queue.restore(id, t + ms(1), 2), Err(2));
        assert_eq!(values(&mut queue, t), [1]);
    }

    #[test]
    fn a_timer_can_expire_before_earlier_ones_if_it_is_due() {
        let mut queue = TimerQueue::new();
        let t = Instant::now();
        queue.insert(t, "first");
        let id = queue.insert(t + ms(1), "second");
        assert_eq!(queue.expire_one(id, t), None);
        let expired = queue.expire_one(id, t + ms(1)).unwrap();
        assert_eq!((expired.id, expired.value), (id, "second"));
        assert_eq!(queue.expire_one(id, t + ms(1)), None);
        queue.finish(id);
        // The next timer gets its slot, and the old id does not expire that one.
        let next = queue.insert(t, "next");
        assert_eq!(next.slot, id.slot);
        assert_eq!(queue.expire_one(id, t + ms(1)), None);
        assert_eq!(values(&mut queue, t + ms(1)), ["first", "next"]);
    }

    #[test]
    fn the_values_of_armed_timers_are_returned_at_the_end() {
        let mut queue = TimerQueue::new();
        assert!(queue.is_empty());
        let t = Instant::now();
        queue.insert(t, 1);
        assert!(!queue.is_empty());
        queue.insert(t + ms(1), 2);
        assert_eq!(queue.expire(t).map(|expired| expired.value), Some(1));
        assert_eq!(queue.into_values().collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn cancelled_timers_use_no_memory() {
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
