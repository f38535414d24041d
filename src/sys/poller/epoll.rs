//! Waiting on Linux: `epoll_wait` on the poller's own descriptor, and nothing else.
//!
//! `polling` arms a timer descriptor before each wait and its notifier after it: four system
//! calls beside the wait itself. The loop keeps its own timers and rounds them up to the
//! milliseconds that `epoll_wait` takes, and wakes itself through an event counter that stays
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

use super::{Ready, Report};

/// The key of the event counter. (`usize::MAX` is the one that `polling` keeps for itself.)
const WAKE: u64 = u64::MAX - 1;

/// How many events one wait takes at most; what is left is reported by the next.
const BATCH: usize = 1024;

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
            // A counter that is full wakes the loop as well as one that was just raised.
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Waiter {
    pub(super) fn new(poller: &Arc<Poller>) -> io::Result<Self> {
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        // Registered straight with epoll, by a safe call: the descriptor is closed only after
        // the last waker is gone, and closing it takes it out.
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

    pub(super) fn wait(
        &self,
        found: &mut Vec<Report>,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        use epoll::EventFlags as Flags;
        let mut events = self.events.borrow_mut();
        events.clear();
        let timeout = timeout.map(whole_millis);
        match epoll::wait(&*self.poller, spare_capacity(&mut events), timeout.as_ref()) {
            Ok(_) => {}
            // A signal ends the wait early: the loop looks around and waits again.
            Err(Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        for event in events.iter() {
            let (flags, key) = (event.flags, event.data.u64());
            if key == WAKE {
                self.clear();
                continue;
            }
            let ready = Ready {
                read: flags.intersects(Flags::IN | Flags::HUP | Flags::ERR),
                write: flags.intersects(Flags::OUT | Flags::HUP | Flags::ERR),
                urgent: flags.contains(Flags::PRI),
                hung_up: flags.intersects(Flags::HUP | Flags::ERR),
            };
            let key = key as usize;
            found.push(Report { key, ready });
        }
        Ok(())
    }

    fn clear(&self) {
        let mut count = [0; 8];
        // Empty already is as good as emptied; nothing else can go wrong with a counter.
        let _ = rustix::io::read(&*self.wake, &mut count);
    }
}

/// Rounded up, so that a timer's wait does not end just before its time and turn again. Whole
/// milliseconds keep to the plain `epoll_pwait`, which every kernel and seccomp filter knows.
fn whole_millis(timeout: Duration) -> Timespec {
    let millis = timeout.as_nanos().div_ceil(1_000_000).min(i32::MAX as u128) as u64;
    let timeout = Duration::from_millis(millis);
    Timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(i32::MAX.into()),
        tv_nsec: timeout.subsec_nanos().into(),
    }
}
