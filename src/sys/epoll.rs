//! The wait on Linux: one `epoll_wait` on the poller's own descriptor.
//!
//! `polling` arms a timer descriptor before each wait and its notifier after it, which is four more
//! system calls. This wait needs neither. The loop keeps its own timers, whose timeouts are rounded
//! up to the milliseconds that `epoll_wait` takes. A wake-up comes through an eventfd(2), which stays
//! registered, level-triggered.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use polling::Poller;
use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::io::Errno;

use super::interest::{Event, Ready};

/// The key of the eventfd. (`usize::MAX` is reserved by `polling`.)
const WAKE: u64 = u64::MAX - 1;

/// The most events that one wait takes. The next wait reports what is left.
const BATCH: usize = 1024;

const HUNG_UP: Ready = Ready::HUNG_UP.union(Ready::READ).union(Ready::WRITE);

/// epoll_wait(2) fails before it takes an event.
pub(super) const MAY_LOSE_EVENTS: bool = false;

pub(super) struct Waiter {
    poller: Arc<Poller>,
    events: RefCell<Vec<epoll::Event>>,
    wake: Arc<OwnedFd>,
}

/// Ends a wait from another thread.
#[derive(Clone)]
pub(crate) struct Waker(Arc<OwnedFd>);

impl Waker {
    pub(crate) fn wake(&self) -> io::Result<()> {
        match rustix::io::write(&*self.0, &1u64.to_ne_bytes()) {
            // A counter at its maximum wakes the loop as well.
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Waiter {
    pub(super) fn new(poller: &Arc<Poller>) -> io::Result<Self> {
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        // Registered with epoll directly, by a safe call: the descriptor is closed only after the last
        // waker is dropped, and the close removes it from epoll.
        epoll::add(
            &**poller,
            &*wake,
            epoll::EventData::new_u64(WAKE),
            epoll::EventFlags::IN,
        )?;
        Ok(Waiter {
            poller: Arc::clone(poller),
            events: RefCell::new(Vec::with_capacity(BATCH)),
            wake,
        })
    }

    pub(super) fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.wake))
    }

    /// See [`Poller::wait`](super::poller::Poller::wait).
    pub(super) fn wait(
        &self,
        events: &mut Vec<Event>,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        use epoll::EventFlags as Flags;
        let mut reported = self.events.borrow_mut();
        reported.clear();
        let mut wait = |timeout: Option<&Timespec>| {
            epoll::wait(&*self.poller, spare_capacity(&mut reported), timeout)
        };
        let outcome = match timeout {
            // The most frequent timeout of a busy loop needs no arithmetic.
            Some(Duration::ZERO) => wait(Some(&Timespec::default())),
            timeout => wait(timeout.map(in_whole_millis).as_ref()),
        };
        match outcome {
            Ok(_) => {}
            // A signal has ended the wait early. The loop takes a turn and waits again.
            Err(Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        for event in reported.iter() {
            let (flags, key) = (event.flags, event.data.u64());
            if key == WAKE {
                self.reset_wake();
                continue;
            }
            let mut ready = (Ready::READ.when(flags.contains(Flags::IN)))
                .union(Ready::WRITE.when(flags.contains(Flags::OUT)))
                .union(Ready::URGENT.when(flags.contains(Flags::PRI)));
            if flags.intersects(Flags::HUP | Flags::ERR) {
                ready = ready.union(HUNG_UP);
            }
            let key = key as usize;
            events.push(Event { key, ready });
        }
        Ok(())
    }

    fn reset_wake(&self) {
        let mut count = [0; 8];
        // It fails only if the counter is zero already, which is the aim.
        let _ = rustix::io::read(&*self.wake, &mut count);
    }
}

/// Rounds up to milliseconds, so that the wait for a timer does not end just before the timer is due,
/// and at most 25 days. Every kernel and seccomp filter knows `epoll_pwait`, which takes these.
fn in_whole_millis(timeout: Duration) -> Timespec {
    let nanos = u64::from(timeout.subsec_nanos());
    let millis = timeout
        .as_secs()
        .saturating_mul(1000)
        .saturating_add(nanos.div_ceil(1_000_000))
        .min(i32::MAX as u64);
    Timespec {
        tv_sec: (millis / 1000) as i64,
        tv_nsec: ((millis % 1000) * 1_000_000) as _,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_rounded_up_to_milliseconds() {
        let rounded = |timeout| {
            let Timespec { tv_sec, tv_nsec } = in_whole_millis(timeout);
            Duration::new(tv_sec as u64, tv_nsec as u32)
        };
        let same = [0, 1, 999, 1000, 1001, i32::MAX as u64].map(Duration::from_millis);
        assert_eq!(same.map(rounded), same);
        assert_eq!(rounded(Duration::from_nanos(1)), Duration::from_millis(1));
        assert_eq!(
            rounded(Duration::new(1, 999_000_001)),
            Duration::from_secs(2)
        );
        let longest = Duration::from_millis(i32::MAX as u64);
        assert_eq!(rounded(longest + Duration::from_nanos(1)), longest);
        assert_eq!(rounded(Duration::MAX), longest);
    }
}
