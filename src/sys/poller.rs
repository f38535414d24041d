//! The poller seam: which sockets are watched, and waiting for them.
//!
//! This file has one of the crate's two `unsafe` calls; `socket/unsent.rs` has the other. `polling`
//! requires that a registered socket be deleted before it is closed: a closed and reused
//! descriptor would otherwise be watched under the old key. A
//! [`Source`] owns its socket, and deletes it before it drops it.
//!
//! Without the feature `sim` there is no other poller than the system's, and [`Poller`] is an enum
//! of one arm, which costs nothing.

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
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use polling::{Event, PollMode};

use crate::log::log;
#[cfg(feature = "sim")]
use crate::sim;
use crate::sys::socket::{Fd, ListenOptions};

/// What a socket is watched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interest {
    pub(crate) read: bool,
    pub(crate) write: bool,
    /// Neither, but a hang-up, once: only where there is no other interest.
    hang_up: bool,
}

impl Interest {
    pub(crate) const NONE: Interest = Interest::new(false, false);

    pub(crate) const READ: Interest = Interest::new(true, false);

    /// A connection that is neither read nor written to. A peer that resets it is reported, where the
    /// system can do that (kqueue cannot), and once: level mode would report it for ever.
    pub(crate) const HANG_UP: Interest = Interest {
        hang_up: true,
        ..Interest::NONE
    };

    pub(crate) const fn new(read: bool, write: bool) -> Interest {
        Interest {
            read,
            write,
            hang_up: false,
        }
    }

    pub(crate) fn only_read(self) -> Interest {
        Interest {
            write: false,
            ..self
        }
    }

    pub(crate) fn only_write(self) -> Interest {
        Interest {
            read: false,
            ..self
        }
    }

    pub(crate) fn is_none(self) -> bool {
        self == Interest::NONE
    }

    fn event(self, key: usize) -> Event {
        match self {
            Interest::HANG_UP => Event::none(key).with_interrupt(),
            _ => Event::new(key, self.read, self.write),
        }
    }

    fn mode(self, poller: PollMode) -> PollMode {
        match self {
            Interest::HANG_UP => PollMode::Oneshot,
            _ => poller,
        }
    }
}

/// What a wait found out about the socket that is watched under `key`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report {
    pub(crate) key: usize,
    pub(crate) ready: Ready,
}

/// What a socket is ready for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ready {
    pub(crate) read: bool,
    pub(crate) write: bool,
    /// Urgent data is waiting.
    pub(crate) urgent: bool,
    /// Reset by the peer, or finished by both sides. Then it is readable and writable, too.
    pub(crate) hung_up: bool,
}

impl Ready {
    /// No news from the kernel.
    pub(crate) const NOTHING: Ready = Ready {
        read: false,
        write: false,
        urgent: false,
        hung_up: false,
    };

    /// The news of both.
    pub(crate) fn and(self, other: Ready) -> Ready {
        Ready {
            read: self.read || other.read,
            write: self.write || other.write,
            urgent: self.urgent || other.urgent,
            hung_up: self.hung_up || other.hung_up,
        }
    }
}

/// Where the addresses of a host are to be had.
#[cfg_attr(
    not(feature = "sim"),
    allow(dead_code, reason = "the other arms are the simulator's")
)]
pub(crate) enum Resolution {
    /// From the system's resolver, which takes its time.
    System,
    /// Here they are.
    Known(io::Result<Vec<SocketAddr>>),
    /// There will be no answer.
    Never,
}

/// What a loop waits on.
pub(crate) enum Poller {
    Kernel(Kernel),
    #[cfg(feature = "sim")]
    Network(sim::Poller),
}

/// The kernel's readiness queue: epoll, kqueue, event ports, IOCP or poll.
pub(crate) struct Kernel {
    poller: Arc<polling::Poller>,
    waiter: wait::Waiter,
    mode: PollMode,
}

impl Kernel {
    fn new() -> io::Result<Self> {
        let poller = Arc::new(polling::Poller::new()?);
        // Level-triggered is the cheaper one where interest seldom changes, and it reports again
        // what a turn's budget left over. Event ports (Solaris, illumos) have one-shot only, armed
        // again after each event; so has the test run that takes the portable way.
        let mode = match poller.supports_level() && !cfg!(asynchat_portable_wait) {
            true => PollMode::Level,
            false => PollMode::Oneshot,
        };
        let waiter = wait::Waiter::new(&poller)?;
        Ok(Kernel {
            poller,
            waiter,
            mode,
        })
    }
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Poller::Kernel(Kernel::new()?))
    }

    /// Ends a wait from another thread.
    pub(crate) fn waker(&self) -> Waker {
        match self {
            Poller::Kernel(kernel) => Waker::Kernel(kernel.waiter.waker()),
            #[cfg(feature = "sim")]
            Poller::Network(network) => Waker::Network(network.waker()),
        }
    }

    /// The time, on the clock that timers and deadlines go by.
    #[inline]
    pub(crate) fn now(&self) -> Instant {
        match self {
            Poller::Kernel(_) => Instant::now(),
            #[cfg(feature = "sim")]
            Poller::Network(network) => network.now(),
        }
    }

    /// Waits for readiness, a wake-up or the timeout, and appends to `found` what it found. A
    /// wait that failed may still have found something: it is in `found` all the same.
    ///
    /// # Errors
    /// Of kind `Deadlock` when nothing can ever end the wait, which only the simulated network
    /// knows; of any other when the poller fails.
    pub(crate) fn wait(
        &self,
        found: &mut Vec<Report>,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        match self {
            Poller::Kernel(kernel) => kernel.waiter.wait(found, timeout),
            #[cfg(feature = "sim")]
            Poller::Network(network) => network.wait(found, timeout),
        }
    }

    /// Lets some time pass, in which nothing is waited for.
    pub(crate) fn rest(&self, time: Duration) {
        match self {
            Poller::Kernel(_) => std::thread::sleep(time),
            #[cfg(feature = "sim")]
            Poller::Network(network) => network.rest(time),
        }
    }

    /// A number from 0 to 1, for what is better left to chance; the same in the same simulation.
    pub(crate) fn chance(&self) -> f64 {
        let bits = match self {
            // Each of these has a key of its own, which is random: no generator is needed for more.
            Poller::Kernel(_) => RandomState::new().build_hasher().finish(),
            #[cfg(feature = "sim")]
            Poller::Network(network) => network.random(),
        };
        (bits >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A new listening socket, where this poller can watch it.
    pub(crate) fn listen(&self, addr: SocketAddr, options: &ListenOptions) -> io::Result<Fd> {
        match self {
            Poller::Kernel(_) => Fd::listen(addr, options),
            #[cfg(feature = "sim")]
            Poller::Network(network) => Ok(network.listen(addr, options)?.into()),
        }
    }

    /// A new socket whose connection to `addr` is under way, where this poller can watch it.
    pub(crate) fn connect(&self, addr: SocketAddr, nodelay: bool) -> io::Result<Fd> {
        match self {
            Poller::Kernel(_) => Fd::connect(addr, nodelay),
            #[cfg(feature = "sim")]
            Poller::Network(network) => Ok(network.connect(addr)?.into()),
        }
    }

    /// The addresses of a host, or who knows them.
    pub(crate) fn resolve(&self, host: &str, port: u16) -> Resolution {
        match self {
            Poller::Kernel(_) => {
                let _ = (host, port);
                Resolution::System
            }
            #[cfg(feature = "sim")]
            Poller::Network(network) => network.resolve(host, port),
        }
    }

    /// Whether it can watch this socket.
    ///
    /// # Errors
    /// When one is simulated and the other is not, or of another network.
    pub(crate) fn can_watch(&self, socket: &Fd) -> io::Result<()> {
        match self {
            Poller::Kernel(_) => socket.of_kernel().map(drop),
            #[cfg(feature = "sim")]
            Poller::Network(network) => network.can_watch(socket.of_network()?),
        }
    }

    fn is_oneshot(&self) -> bool {
        match self {
            Poller::Kernel(kernel) => kernel.mode == PollMode::Oneshot,
            #[cfg(feature = "sim")]
            Poller::Network(network) => network.is_oneshot(),
        }
    }
}

/// Ends a wait from another thread.
#[derive(Clone)]
pub(crate) enum Waker {
    Kernel(wait::Waker),
    #[cfg(feature = "sim")]
    Network(sim::Waker),
}

impl Waker {
    pub(crate) fn wake(&self) -> io::Result<()> {
        match self {
            Waker::Kernel(waker) => waker.wake(),
            #[cfg(feature = "sim")]
            Waker::Network(waker) => {
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
            Poller::Kernel(kernel) => kernel.poller.as_fd(),
            #[cfg(feature = "sim")]
            Poller::Network(network) => network.as_fd(),
        }
    }
}

/// A socket, and whether it is watched.
///
/// Watching takes a shared reference: `polling` may log, and a subscriber that is called then may use
/// the socket's channel.
pub(crate) struct Source {
    socket: Fd,
    /// The poller that it is registered with, if it is.
    poller: Cell<Option<Rc<Poller>>>,
    key: Cell<usize>,
    /// Nothing while it is not registered, and after a one-shot report.
    interest: Cell<Interest>,
}

impl Source {
    pub(crate) fn new(socket: Fd) -> Self {
        Source {
            socket,
            poller: Cell::new(None),
            key: Cell::new(0),
            interest: Cell::new(Interest::NONE),
        }
    }

    pub(crate) fn socket(&self) -> &Fd {
        &self.socket
    }

    /// What it is watched under, if it is.
    pub(crate) fn key(&self) -> Option<usize> {
        self.poller().map(|_| self.key.get())
    }

    /// Not watched any more: under another key, if it is again.
    pub(crate) fn unwatched(self) -> Self {
        self.unwatch();
        self
    }

    /// Watches it for this from now on, and not at all for nothing: level mode would still answer
    /// with hang-ups, for ever. Under a new key, if it was not watched; no system call when it is
    /// watched for this already.
    pub(crate) fn watch(
        &self,
        poller: &Rc<Poller>,
        interest: Interest,
        key: impl FnOnce() -> usize,
    ) -> io::Result<()> {
        if interest.is_none() {
            self.unwatch();
            return Ok(());
        }
        if self.interest.get() == interest {
            return Ok(());
        }
        if let Some(poller) = self.poller() {
            self.modify(&poller, interest)?;
            self.interest.set(interest);
            return Ok(());
        }
        // Noted first: should what `polling` logs make a subscriber panic, it is deleted all the same.
        self.key.set(key());
        self.poller.set(Some(Rc::clone(poller)));
        self.interest.set(interest);
        let added = self.add(poller, interest);
        if added.is_err() {
            self.forget();
        }
        added
    }

    /// It has reported something: one-shot, it has then to be armed again.
    pub(crate) fn reported(&self) {
        // For each event: the poller is looked at, and its reference count left alone.
        let poller = self.poller.take();
        let is_oneshot = poller.as_ref().is_some_and(|poller| poller.is_oneshot());
        self.poller.set(poller);
        if is_oneshot || self.interest.get() == Interest::HANG_UP {
            self.interest.set(Interest::NONE);
        }
    }

    fn unwatch(&self) {
        let Some(poller) = self.poller() else { return };
        let deleted = self.delete(&poller);
        self.forget();
        // The socket is open and was registered here, so no kernel has a reason to refuse. Were one
        // to, closing the last reference to the descriptor would take it out all the same.
        if let Err(error) = deleted {
            log!(debug, %error, "a socket could not be taken out of the poller");
        }
    }

    /// It is not registered any more.
    fn forget(&self) {
        self.poller.set(None);
        self.interest.set(Interest::NONE);
    }

    fn poller(&self) -> Option<Rc<Poller>> {
        let poller = self.poller.take();
        self.poller.set(poller.clone());
        poller
    }

    #[allow(unsafe_code)]
    fn add(&self, poller: &Poller, interest: Interest) -> io::Result<()> {
        let key = self.key.get();
        match poller {
            Poller::Kernel(kernel) => {
                let (source, event) = (self.socket.of_kernel()?, interest.event(key));
                // SAFETY: `polling` requires that the source be deleted from the poller before it
                // is closed. The socket is this value's own. It is borrowed by others and never given
                // away. `watch` has noted before this call that it is registered: then it is deleted
                // from this very poller, a reference to which this value holds, before either is
                // dropped (`Drop for Source`). A source that is leaked leaks its socket as well, which
                // then stays open and registered.
                unsafe {
                    kernel
                        .poller
                        .add_with_mode(&*source, event, interest.mode(kernel.mode))
                        .map_err(explained)
                }
            }
            #[cfg(feature = "sim")]
            Poller::Network(network) => network.watch(self.socket.of_network()?, key, interest),
        }
    }

    fn delete(&self, poller: &Poller) -> io::Result<()> {
        match poller {
            Poller::Kernel(kernel) => kernel.poller.delete(&*self.socket.of_kernel()?),
            #[cfg(feature = "sim")]
            Poller::Network(network) => {
                network.unwatch(self.socket.of_network()?);
                Ok(())
            }
        }
    }

    fn modify(&self, poller: &Poller, interest: Interest) -> io::Result<()> {
        match poller {
            Poller::Kernel(kernel) => {
                let (source, event) = (self.socket.of_kernel()?, interest.event(self.key.get()));
                let mode = interest.mode(kernel.mode);
                kernel.poller.modify_with_mode(&*source, event, mode)
            }
            #[cfg(feature = "sim")]
            Poller::Network(network) => network.set_interest(self.socket.of_network()?, interest),
        }
    }
}

/// epoll refuses what is always ready (/dev/null) with EPERM, whose text would lead astray.
fn explained(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::PermissionDenied => io::Error::new(
            error.kind(),
            "it can not be waited for, since it is always ready: a device such as /dev/null",
        ),
        _ => error,
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.unwatch();
    }
}
