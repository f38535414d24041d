//! The simulated arm of the poller: readiness, and a clock that moves when the loop sleeps.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::SharedNet;
use super::conditions::Call;
use super::net::Id;
use super::socket::Socket;
use crate::sys::interest::{Event, Interest};

/// What a simulated loop waits on.
pub(crate) struct Poller {
    net: SharedNet,
    id: Id,
    is_one_shot: bool,
    is_woken: Arc<AtomicBool>,
    #[cfg(unix)]
    never_ready: &'static std::os::unix::net::UnixStream,
}

/// Ends a wait from another thread. A simulated wait takes no real time, so in practice that is the
/// next wait.
#[derive(Clone)]
pub(crate) struct Waker(Arc<AtomicBool>);

impl Waker {
    pub(crate) fn wake(&self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Poller {
    /// # Errors
    /// When the system has no descriptor left.
    pub(crate) fn new(net: &SharedNet) -> io::Result<Self> {
        let mut locked = net.lock();
        Ok(Poller {
            net: net.clone(),
            id: locked.new_id(),
            is_one_shot: locked.conditions.one_shot,
            is_woken: Arc::default(),
            #[cfg(unix)]
            never_ready: never_ready()?,
        })
    }

    pub(crate) fn net(&self) -> &SharedNet {
        &self.net
    }

    pub(crate) fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.is_woken))
    }

    pub(crate) fn is_one_shot(&self) -> bool {
        self.is_one_shot
    }

    /// Whether a wait would report something without virtual time passing. Bytes that are on their way
    /// arrive.
    pub(crate) fn has_events(&self) -> bool {
        let mut net = self.net.lock();
        net.progress() || !net.ready(self.id).is_empty()
    }

    pub(crate) fn wait(
        &self,
        events: &mut Vec<Event>,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        let mut net = self.net.lock();
        let outcome = net.take_fault(Call::Wait);
        net.progress();
        let mut ready = net.ready(self.id);
        if net.conditions.shuffled {
            net.rng.shuffle(&mut ready);
        }
        let late = net.conditions.late_events;
        let may_sleep = timeout != Some(Duration::ZERO);
        ready.retain(|(_, event)| {
            let is_reported = !net.rng.chance(late) || (may_sleep && events.is_empty());
            if is_reported {
                events.push(*event);
            }
            is_reported
        });
        for (id, _) in &ready {
            net.disarm_if_one_shot(*id, self.is_one_shot);
        }
        let woken = self.is_woken.swap(false, Ordering::AcqRel);
        if !events.is_empty() || woken || outcome.is_err() {
            return outcome;
        }
        match timeout {
            Some(timeout) => net.sleep(timeout),
            None => {
                return Err(io::Error::new(
                    io::ErrorKind::Deadlock,
                    "nothing can happen any more: no timer is pending, nothing is on its way, \
                     and no script acts while the loop sleeps",
                ));
            }
        }
        Ok(())
    }

    /// # Errors
    /// When the socket belongs to another network.
    pub(crate) fn can_watch(&self, socket: &Socket) -> io::Result<()> {
        if socket.is_of(&self.net) {
            Ok(())
        } else {
            Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "the socket belongs to another simulated network",
            ))
        }
    }

    pub(crate) fn add(&self, socket: &Socket, key: usize, interest: Interest) -> io::Result<()> {
        self.can_watch(socket)?;
        self.net.lock().add(self.id, socket.id(), key, interest)
    }

    pub(crate) fn modify(&self, socket: &Socket, interest: Interest) -> io::Result<()> {
        self.net.lock().modify(socket.id(), interest)
    }

    pub(crate) fn delete(&self, socket: &Socket) {
        self.net.lock().delete(socket.id());
    }
}

#[cfg(unix)]
impl std::os::fd::AsFd for Poller {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.never_ready.as_fd()
    }
}

/// A descriptor that is never readable. A simulated loop has none of its own, but is `AsFd` like any
/// other. All simulated loops share it.
#[cfg(unix)]
fn never_ready() -> io::Result<&'static std::os::unix::net::UnixStream> {
    use std::os::unix::net::UnixStream;
    use std::sync::OnceLock;

    static PAIR: OnceLock<(UnixStream, UnixStream)> = OnceLock::new();
    if PAIR.get().is_none() {
        // If another thread is first, its pair is used and this one is closed.
        let _ = PAIR.set(UnixStream::pair()?);
    }
    let pair = PAIR.get().ok_or(io::ErrorKind::NotFound)?;
    Ok(&pair.0)
}
