//! Compares the timer queue with a plain list under random operations, among them callbacks that
//! cancel, reset and insert timers.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::{Expired, TimerId, TimerQueue};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// What a timer's callback does. A `u64` is a time in milliseconds, a `usize` is the number of a timer
/// in the order of insertion.
#[derive(Clone, Debug)]
enum Callback {
    OneShot,
    Periodic(u64),
    CancelsItself(u64),
    ResetsItself(u64, u64),
    Cancels(usize),
    Inserts(u64),
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u64, Callback),
    Cancel(usize),
    Reset(usize, u64),
    Advance(u64),
}

fn callbacks() -> impl Strategy<Value = Callback> {
    prop_oneof![
        Just(Callback::OneShot),
        (0..9u64).prop_map(Callback::Periodic),
        (0..9u64).prop_map(Callback::CancelsItself),
        (0..9u64, 0..9u64).prop_map(|(period, reset)| Callback::ResetsItself(period, reset)),
        (0..40usize).prop_map(Callback::Cancels),
        (0..9u64).prop_map(Callback::Inserts),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..20u64, callbacks()).prop_map(|(delay, callback)| Step::Insert(delay, callback)),
        1 => (0..40usize).prop_map(Step::Cancel),
        2 => (0..40usize, 0..20u64).prop_map(|(n, delay)| Step::Reset(n, delay)),
        2 => (0..15u64).prop_map(Step::Advance),
    ]
}

/// The same operations on an unordered list that is searched from end to end.
#[derive(Default)]
struct Model {
    timers: Vec<ModelTimer>,
    times_set: u64,
}

struct ModelTimer {
    n: usize,
    due: (u64, u64),
    firing: bool,
    reset: bool,
}

impl Model {
    fn due(&mut self, deadline: u64) -> (u64, u64) {
        self.times_set += 1;
        (deadline, self.times_set)
    }

    fn insert(&mut self, n: usize, deadline: u64) {
        let due = self.due(deadline);
        self.timers.push(ModelTimer {
            n,
            due,
            firing: false,
            reset: false,
        });
    }

    fn find(&mut self, n: usize) -> Option<&mut ModelTimer> {
        self.timers.iter_mut().find(|timer| timer.n == n)
    }

    fn cancel(&mut self, n: usize) -> bool {
        let before = self.timers.len();
        self.timers.retain(|timer| timer.n != n);
        self.timers.len() < before
    }

    fn reset(&mut self, n: usize, deadline: u64) -> bool {
        let due = self.due(deadline);
        let Some(timer) = self.find(n) else {
            return false;
        };
        (timer.due, timer.reset) = (due, timer.firing);
        true
    }

    fn first(&self) -> Option<(u64, u64)> {
        let armed = self.timers.iter().filter(|timer| !timer.firing);
        armed.map(|timer| timer.due).min()
    }

    fn expire(&mut self, now: u64) -> Option<(usize, u64)> {
        let first = self.first().filter(|due| due.0 <= now)?;
        let timer = self.timers.iter_mut().find(|timer| timer.due == first)?;
        (timer.firing, timer.reset) = (true, false);
        Some((timer.n, first.0))
    }

    fn restore(&mut self, n: usize, deadline: u64) -> bool {
        let due = self.due(deadline);
        let Some(timer) = self.find(n) else {
            return false;
        };
        timer.firing = false;
        if !timer.reset {
            timer.due = due;
        }
        true
    }
}

/// The queue and its model. Each operation is applied to both.
struct Pair {
    queue: TimerQueue<(usize, Callback)>,
    model: Model,
    ids: Vec<TimerId>,
    start: Instant,
    now: u64,
}

impl Pair {
    fn insert(&mut self, delay: u64, callback: Callback) {
        let n = self.ids.len();
        let deadline = self.start + ms(self.now + delay);
        self.ids.push(self.queue.insert(deadline, (n, callback)));
        self.model.insert(n, self.now + delay);
    }

    fn cancel(&mut self, n: usize) {
        if let Some(&id) = self.ids.get(n) {
            assert_eq!(self.queue.cancel(id).is_some(), self.model.cancel(n));
        }
    }

    fn reset(&mut self, n: usize, delay: u64) {
        if let Some(&id) = self.ids.get(n) {
            let deadline = self.start + ms(self.now + delay);
            let moved = self.queue.reset(id, deadline);
            assert_eq!(moved, self.model.reset(n, self.now + delay));
        }
    }

    fn fire(&mut self) {
        for _ in 0..self.queue.len() {
            let expired = self.queue.expire(self.start + ms(self.now));
            let expected = self.model.expire(self.now);
            let Some(Expired {
                id,
                value,
                deadline,
            }) = expired
            else {
                assert_eq!(expected, None);
                return;
            };
            let (n, callback) = value;
            let due = (deadline - self.start).as_millis() as u64;
            assert_eq!(Some((n, due)), expected);
            assert_eq!(id, self.ids[n]);

            let period = match callback {
                Callback::Periodic(period)
                | Callback::CancelsItself(period)
                | Callback::ResetsItself(period, _) => Some(period),
                _ => None,
            };
            if period.is_none() {
                self.queue.finish(id);
                assert!(self.model.cancel(n));
            }
            match callback {
                Callback::OneShot | Callback::Periodic(_) => {}
                Callback::CancelsItself(_) => self.cancel(n),
                Callback::ResetsItself(_, delay) => self.reset(n, delay),
                Callback::Cancels(other) => self.cancel(other),
                Callback::Inserts(delay) => self.insert(delay, Callback::OneShot),
            }
            if let Some(period) = period {
                let restored = self.queue.restore(id, deadline + ms(period), (n, callback));
                assert_eq!(restored.is_ok(), self.model.restore(n, due + period));
            }
        }
    }
}

proptest! {
    #[test]
    fn behaves_like_a_list(steps in prop::collection::vec(steps(), 1..80)) {
        let mut pair = Pair {
            queue: TimerQueue::new(),
            model: Model::default(),
            ids: Vec::new(),
            start: Instant::now(),
            now: 0,
        };
        for step in steps {
            match step {
                Step::Insert(delay, callback) => pair.insert(delay, callback),
                Step::Cancel(n) => pair.cancel(n),
                Step::Reset(n, delay) => pair.reset(n, delay),
                Step::Advance(delay) => {
                    pair.now += delay;
                    pair.fire();
                }
            }
            prop_assert_eq!(pair.queue.len(), pair.model.timers.len());
            prop_assert_eq!(pair.queue.due.len(), pair.model.timers.len());
            let next = pair.model.first().map(|due| pair.start + ms(due.0));
            prop_assert_eq!(pair.queue.next_deadline(), next);
        }
    }
}
