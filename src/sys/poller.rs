//! The poller: waits until a registered socket is ready, a thread wakes it, or time has passed.
//!
//! How it waits is a matter of the platform: `epoll.rs` on Linux, `portable.rs` elsewhere. Sockets
//! register themselves: see `watched_socket.rs`.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use polling::PollMode;

use super::clock::Clock;
use super::interest::Event;
#[cfg(feature = "sim")]
use super::simulated;
use super::socket::Fd;
use super::system::System;
use super::wait;

/// What a loop waits on.
pub(crate) enum Poller {
    Os(OsPoller),
    #[cfg(feature = "sim")]
    Simulated(simulated::Poller),
}

/// The system's readiness queue: epoll, kqueue, event ports, IOCP or poll.
pub(crate) struct OsPoller {
    pub(super) polling: Arc<polling::Poller>,
    pub(super) mode: PollMode,
    waiter: wait::Waiter,
}

impl OsPoller {
    fn new() -> io::Result<Self> {
        let polling = Arc::new(polling::Poller::new()?);
        // Level-triggered mode is cheaper where interest seldom changes, and it reports again what
        // the budget of a turn left unread. Event ports (Solaris, illumos) offer one-shot mode only,
        // which has to be armed again after each event. So does the test run of the portable wait.
        let mode = if polling.supports_level() && !cfg!(asynchat_portable_wait) {
            PollMode::Level
        } else {
            PollMode::Oneshot
        };
        let waiter = wait::Waiter::new(&polling)?;
        Ok(OsPoller {
            polling,
            mode,
            waiter,
        })
    }
}

#[cfg(all(
    unix,
    not(polling_test_poll_backend),
    not(any(target_os = "solaris", target_os = "illumos", target_os = "redox"))
))]
impl OsPoller {
    fn has_events(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut watched = [PollFd::new(&*self.polling, PollFlags::IN)];
        poll(&mut watched, Some(&Timespec::default())) != Ok(0)
    }
}

/// Without a descriptor that could be asked.
#[cfg(not(all(
    unix,
    not(polling_test_poll_backend),
    not(any(target_os = "solaris", target_os = "illumos", target_os = "redox"))
)))]
impl OsPoller {
    #[allow(clippy::unused_self, reason = "the same call as above")]
    fn has_events(&self) -> bool {
        true
    }
}

impl Poller {
    /// The operating system's.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Poller::Os(OsPoller::new()?))
    }

    /// Waits for events, a wake-up or the timeout, and appends the events to `events`. `None` waits
    /// without a timeout. A wait that fails may have found events before: they are appended too.
    ///
    /// # Errors
    /// Of kind `Deadlock` when nothing can ever end the wait, which only a simulated network knows.
    /// Any other kind when the system's poller fails.
    #[inline]
    pub(crate) fn wait(
        &self,
        events: &mut Vec<Event>,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        match self {
            Poller::Os(os) => os.waiter.wait(events, timeout),
            #[cfg(feature = "sim")]
            Poller::Simulated(simulated) => simulated.wait(events, timeout),
        }
    }

    /// Whether a wait that failed may have taken events without reporting them, or lost registrations. All sockets have to
    /// be registered anew then.
    pub(crate) fn may_have_lost_events(&self) -> bool {
        match self {
            Poller::Os(_) => wait::MAY_LOSE_EVENTS,
            // It loses none. The code is tested with it.
            #[cfg(feature = "sim")]
            Poller::Simulated(_) => true,
        }
    }

    /// The next wait that finds events fails and loses them.
    #[cfg(all(test, asynchat_portable_wait))]
    pub(crate) fn fail_and_lose_events(&self) {
        if let Poller::Os(os) = self {
            os.waiter.fail_and_lose_events();
        }
    }

    /// Whether a wait would report something at once. When that cannot be known, true.
    pub(crate) fn has_events(&self) -> bool {
        match self {
            Poller::Os(os) => os.has_events(),
            #[cfg(feature = "sim")]
            Poller::Simulated(simulated) => simulated.has_events(),
        }
    }

    /// A handle that ends a wait from another thread.
    pub(crate) fn waker(&self) -> Waker {
        match self {
            Poller::Os(os) => Waker::Os(os.waiter.waker()),
            #[cfg(feature = "sim")]
            Poller::Simulated(simulated) => Waker::Simulated(simulated.waker()),
        }
    }

    /// The clock that the timeouts of this poller go by.
    pub(crate) fn clock(&self) -> Clock {
        match self {
            Poller::Os(_) => Clock::System,
            #[cfg(feature = "sim")]
            Poller::Simulated(simulated) => Clock::Simulated(simulated.net().clone()),
        }
    }

    /// What makes the sockets that this poller can watch.
    pub(crate) fn system(&self) -> System {
        match self {
            Poller::Os(_) => System::Os,
            #[cfg(feature = "sim")]
            Poller::Simulated(simulated) => System::Simulated(simulated.net().clone()),
        }
    }

    /// Checks that this poller can watch the socket.
    ///
    /// # Errors
    /// When one of them is simulated and the other is not, or when they belong to different networks.
    pub(crate) fn can_watch(&self, socket: &Fd) -> io::Result<()> {
        match self {
            // Standard output on Windows is never watched.
            Poller::Os(_) if socket.is_always_writable() => Ok(()),
            Poller::Os(_) => socket.view().map(drop),
            #[cfg(feature = "sim")]
            Poller::Simulated(simulated) => simulated.can_watch(socket.simulated()?),
        }
    }

    /// Whether it keeps a table of its sockets, in which a refused one may have been entered. epoll has none, and
    /// `polling` has one for kqueue and IOCP. A simulated poller works like that of kqueue.
    pub(super) fn has_table(&self) -> bool {
        match self {
            Poller::Os(_) => !cfg!(any(target_os = "linux", target_os = "android")),
            #[cfg(feature = "sim")]
            Poller::Simulated(_) => true,
        }
    }

    /// Whether a socket is reported once, and then has to be armed again.
    pub(super) fn is_one_shot(&self) -> bool {
        match self {
            Poller::Os(os) => os.mode == PollMode::Oneshot,
            #[cfg(feature = "sim")]
            Poller::Simulated(simulated) => simulated.is_one_shot(),
        }
    }
}

/// Ends a wait from another thread.
#[derive(Clone)]
pub(crate) enum Waker {
    Os(wait::Waker),
    #[cfg(feature = "sim")]
    Simulated(simulated::Waker),
}

impl Waker {
    /// Ends the wait under way, or else the next one.
    pub(crate) fn wake(&self) -> io::Result<()> {
        match self {
            Waker::Os(waker) => waker.wake(),
            #[cfg(feature = "sim")]
            Waker::Simulated(waker) => {
                waker.wake();
                Ok(())
            }
        }
    }
}

#[cfg(all(
    unix,
    not(polling_test_poll_backend),
    not(any(target_os = "solaris", target_os = "illumos", target_os = "redox"))
))]
impl std::os::fd::AsFd for Poller {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        match self {
            Poller::Os(os) => os.polling.as_fd(),
            #[cfg(feature = "sim")]
            Poller::Simulated(simulated) => simulated.as_fd(),
        }
    }
}
