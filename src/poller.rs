//! The poller seam: which sockets are watched, and waiting for them.
//!
//! This is the one file with `unsafe` in it. `polling` asks of whoever registers a socket that it
//! be deleted before it is closed: a closed and reused descriptor would otherwise be watched
//! under the old key. Here that can not be got wrong: [`Poller::watch`] gives out a
//! [`Registration`] that keeps the socket open and deletes it when it is dropped.

#[cfg_attr(
    all(
        any(target_os = "linux", target_os = "android"),
        not(any(asynchat_portable_wait, polling_test_poll_backend))
    ),
    path = "poller/epoll.rs"
)]
#[cfg_attr(
    not(all(
        any(target_os = "linux", target_os = "android"),
        not(any(asynchat_portable_wait, polling_test_poll_backend))
    )),
    path = "poller/portable.rs"
)]
mod wait;

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use polling::{Event, PollMode};

use crate::socket::Socket;
pub(crate) use wait::Waker;

/// What a socket is watched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interest {
    pub(crate) read: bool,
    pub(crate) write: bool,
}

impl Interest {
    pub(crate) const NONE: Interest = Interest {
        read: false,
        write: false,
    };

    fn is_none(self) -> bool {
        self == Interest::NONE
    }

    fn event(self, key: usize) -> Event {
        Event::new(key, self.read, self.write)
    }
}

/// What a wait found out about the socket registered under `key`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ready {
    pub(crate) key: usize,
    pub(crate) read: bool,
    pub(crate) write: bool,
    /// Urgent data is waiting.
    pub(crate) urgent: bool,
}

impl Ready {
    /// No news from the kernel.
    pub(crate) const NOTHING: Ready = Ready {
        key: 0,
        read: false,
        write: false,
        urgent: false,
    };

    /// The news of both.
    pub(crate) fn and(self, other: Ready) -> Ready {
        Ready {
            key: self.key,
            read: self.read || other.read,
            write: self.write || other.write,
            urgent: self.urgent || other.urgent,
        }
    }
}

/// The kernel's readiness queue: epoll, kqueue, event ports, IOCP or poll.
pub(crate) struct Poller {
    poller: Arc<polling::Poller>,
    waiter: wait::Waiter,
    mode: PollMode,
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        let poller = Arc::new(polling::Poller::new()?);
        // Level-triggered is the cheaper one where interest seldom changes, and it reports again
        // what a turn's budget left over. Event ports (Solaris, illumos) have one-shot only, armed
        // again after each event; so has the test run that takes the portable way.
        let mode = match poller.supports_level() && !cfg!(asynchat_portable_wait) {
            true => PollMode::Level,
            false => PollMode::Oneshot,
        };
        let waiter = wait::Waiter::new(&poller)?;
        Ok(Poller {
            poller,
            waiter,
            mode,
        })
    }

    /// Ends a wait from another thread.
    pub(crate) fn waker(&self) -> Waker {
        self.waiter.waker()
    }

    /// The time, on the clock that timers and deadlines go by.
    pub(crate) fn now(&self) -> Instant {
        let _ = self;
        Instant::now()
    }

    /// Waits for readiness, a wake-up or the timeout, and appends to `ready` what it found. A
    /// wait that failed may still have found something: it is in `ready` all the same.
    pub(crate) fn wait(&self, ready: &mut Vec<Ready>, timeout: Option<Duration>) -> io::Result<()> {
        self.waiter.wait(ready, timeout)
    }

    /// Watches `socket` under `key` from now until the registration is dropped.
    #[allow(unsafe_code)]
    pub(crate) fn watch(
        self: &Rc<Self>,
        socket: Rc<Socket>,
        key: usize,
        interest: Interest,
    ) -> io::Result<Registration> {
        let event = interest.event(key);
        // SAFETY: `polling` requires that the source be deleted from the poller before it is
        // closed. The registration made below holds a reference to the socket, so it stays open,
        // and deletes it from this very poller, which it holds too, before it lets go of either
        // (`Drop for Registration`). A registration that is leaked leaks its socket as well,
        // which then stays open and registered.
        unsafe {
            self.poller
                .add_with_mode(socket.source(), event, self.mode)?;
        }
        Ok(Registration {
            poller: Rc::clone(self),
            socket,
            key,
            interest: Cell::new(interest),
        })
    }
}

#[cfg(all(
    unix,
    not(polling_test_poll_backend),
    not(any(target_os = "solaris", target_os = "illumos", target_os = "redox"))
))]
impl std::os::fd::AsFd for Poller {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.poller.as_fd()
    }
}

/// A socket that is watched, for as long as this value lives.
pub(crate) struct Registration {
    poller: Rc<Poller>,
    socket: Rc<Socket>,
    key: usize,
    interest: Cell<Interest>,
}

impl Registration {
    /// Changes what it is watched for; no system call when that is what it is watched for
    /// already. Never with no interest at all, which level mode would still answer with
    /// hang-ups, for ever: then drop the registration.
    pub(crate) fn set_interest(&self, interest: Interest) -> io::Result<()> {
        debug_assert!(!interest.is_none());
        if self.interest.get() == interest {
            return Ok(());
        }
        let event = interest.event(self.key);
        self.poller
            .poller
            .modify_with_mode(self.socket.source(), event, self.poller.mode)?;
        self.interest.set(interest);
        Ok(())
    }

    /// Tells it that it has reported something: one-shot, it has then to be armed again.
    pub(crate) fn reported(&self) {
        if self.poller.mode == PollMode::Oneshot {
            self.interest.set(Interest::NONE);
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // The socket is open and was registered here, so this can only fail for want of kernel
        // memory; closing the last reference to the descriptor then takes it out all the same.
        if let Err(error) = self.poller.poller.delete(self.socket.source()) {
            tracing::debug!(%error, "a socket could not be taken out of the poller");
        }
    }
}
