//! The timers, with so many others pending.

use std::time::{Duration, Instant};

use asynchat::internals::TimerQueue;
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};

const PENDING: [u32; 2] = [10, 10_000];

/// What becomes of most timeouts.
#[divan::bench(args = PENDING, sample_size = 1000)]
fn insert_and_cancel(bencher: Bencher<'_, '_>, pending: u32) {
    let (mut timers, start) = queue(pending);
    let mut somewhere = spread(pending);
    bencher.counter(ItemsCount::new(1u32)).bench_local(|| {
        let id = timers.insert(start + somewhere(), 0);
        black_box(timers.cancel(id))
    });
}

/// What a deadline does whenever its connection has done something: the oldest becomes the last.
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
        let id = ids.next().expect("it goes round");
        assert!(timers.reset(id, time));
    });
}

/// A timer that fires, and one that is set instead.
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

/// A periodic timer, one of as many.
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

/// Between the deadlines.
const STEP: Duration = Duration::from_millis(1);

fn queue(pending: u32) -> (TimerQueue<u32>, Instant) {
    let (mut timers, start) = (TimerQueue::new(), Instant::now());
    let mut somewhere = spread(pending);
    for value in 0..pending {
        timers.insert(start + somewhere(), value);
    }
    (timers, start)
}

/// Delays anywhere among those of the pending timers, the same ones in each run.
fn spread(pending: u32) -> impl FnMut() -> Duration {
    let mut random = fastrand::Rng::with_seed(7);
    move || STEP * random.u32(1..=pending)
}
