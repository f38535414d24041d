//! The timer queue, with a number of other timers pending.

use std::time::{Duration, Instant};

use asynchat::internals::TimerQueue;
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};

const PENDING: [u32; 2] = [10, 10_000];

/// Inserts a timer and cancels it, as most timeouts do.
#[divan::bench(args = PENDING, sample_size = 1000)]
fn insert_and_cancel(bencher: Bencher<'_, '_>, pending: u32) {
    let (mut timers, start) = queue(pending);
    let mut somewhere = spread(pending);
    bencher.counter(ItemsCount::new(1u32)).bench_local(|| {
        let id = timers.insert(start + somewhere(), 0);
        black_box(timers.cancel(id))
    });
}

/// Moves the first timer to the end, as a deadline does when its connection is active.
#[divan::bench(args = PENDING, sample_size = 1000)]
fn reset(bencher: Bencher<'_, '_>, pending: u32) {
    let mut timers = TimerQueue::new();
    let mut time = Instant::now();
    let mut ids = (0..pending)
        .map(|_| {
            time += STEP;
            timers.insert(time, 0)
        })
        .collect::<Vec<_>>()
        .into_iter()
        .cycle();
    bencher.counter(ItemsCount::new(1u32)).bench_local(|| {
        time += STEP;
        let id = ids.next().expect("the iterator cycles");
        assert!(timers.reset(id, time));
    });
}

/// Expires a timer and inserts another.
#[divan::bench(args = PENDING, sample_size = 1000)]
fn expire_and_insert(bencher: Bencher<'_, '_>, pending: u32) {
    let (mut timers, _) = queue(pending);
    let mut somewhere = spread(pending);
    bencher.counter(ItemsCount::new(1u32)).bench_local(|| {
        let now = timers.next_deadline().expect("some are pending");
        let expired = timers.expire(now).expect("it is due");
        timers.finish(expired.id);
        timers.insert(now + somewhere(), expired.value)
    });
}

/// Expires a periodic timer and restores it.
#[divan::bench(args = PENDING, sample_size = 1000)]
fn expire_and_restore(bencher: Bencher<'_, '_>, pending: u32) {
    let (mut timers, _) = queue(pending);
    bencher.counter(ItemsCount::new(1u32)).bench_local(|| {
        let now = timers.next_deadline().expect("some are pending");
        let expired = timers.expire(now).expect("it is due");
        let next = expired.deadline + STEP * pending;
        timers.restore(expired.id, next, expired.value)
    });
}

/// The time between two deadlines.
const STEP: Duration = Duration::from_millis(1);

fn queue(pending: u32) -> (TimerQueue<u32>, Instant) {
    let (mut timers, start) = (TimerQueue::new(), Instant::now());
    let mut somewhere = spread(pending);
    for value in 0..pending {
        timers.insert(start + somewhere(), value);
    }
    (timers, start)
}

/// Random delays within those of the pending timers. They are the same in each run.
fn spread(pending: u32) -> impl FnMut() -> Duration {
    let mut random = fastrand::Rng::with_seed(7);
    move || STEP * random.u32(1..=pending)
}
