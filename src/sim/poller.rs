//! The simulated arm of the poller seam: readiness, and a clock that moves when the loop sleeps.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::Shared;
use super::conditions::Call;
use super::end::Owner;
use super::net::Id;
use super::socket::Socket;
use crate::sys::poller::{Interest, Report, Resolution};
use crate::sys::socket::ListenOptions;

/// What a simulated loop waits on.
pub(crate) struct Poller {
    net: Shared,
    id: Id,
    one_shot: bool,
    woken: Arc<AtomicBool>,
    #[cfg(unix)]
    idle: &'static std::os::unix::net::UnixStream,
}

/// Ends a wait from another thread: the one under way, which lasts no time, or the next.
#[derive(Clone)]
pub(crate) struct Waker(Arc<AtomicBool>);

impl Waker {
    pub(crate) fn wake(&self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Poller {
    pub(super) fn new(net: &Shared) -> io::Result<Self> {
        let mut locked = net.lock();
        Ok(Poller {
            net: net.clone(),
            id: locked.new_id(),
            one_shot: locked.conditions.one_shot,
            woken: Arc::default(),
            #[cfg(unix)]
            idle: idle()?,
        })
    }

    pub(crate) fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.woken))
    }

    pub(crate) fn now(&self) -> Instant {
        self.net.lock().now()
    }

    pub(crate) fn wait(
        &self,
        found: &mut Vec<Report>,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        let mut net = self.net.lock();
        let outcome = net.fault(Call::Wait);
        net.progress();
        let mut ready = net.ready(self.id);
        if net.conditions.shuffled {
            net.rng.shuffle(&mut ready);
        }
        let late = net.conditions.late_events;
        let may_sleep = timeout != Some(Duration::ZERO);
        ready.retain(|(_, report)| {
            let now = !net.rng.chance(late) || (may_sleep && found.is_empty());
            if now {
                found.push(*report);
            }
            now
        });
        for (id, _) in &ready {
            net.reported(*id, self.one_shot);
        }
        let woken = self.woken.swap(false, Ordering::AcqRel);
        if !found.is_empty() || woken || outcome.is_err() {
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

    pub(crate) fn rest(&self, time: Duration) {
        self.net.lock().sleep(time);
    }

    pub(crate) fn random(&self) -> u64 {
        self.net.lock().rng.next()
    }

    /// Whether anything would happen without time passing. What was on its way arrives.
    pub(super) fn has_news(&self) -> bool {
        let mut net = self.net.lock();
        net.progress() || !net.ready(self.id).is_empty()
    }

    pub(super) fn is_of(&self, net: &Shared) -> bool {
        self.net.is(net)
    }

    pub(crate) fn is_oneshot(&self) -> bool {
        self.one_shot
    }

    pub(crate) fn listen(&self, addr: SocketAddr, options: &ListenOptions) -> io::Result<Socket> {
        let mut net = self.net.lock();
        net.fault(Call::Listen)?;
        let backlog = usize::try_from(options.backlog).unwrap_or(1);
        let id = net.listen(addr, options.only_v6, backlog, Owner::Loop)?;
        Ok(Socket::new(&self.net, id, true))
    }

    pub(crate) fn connect(&self, addr: SocketAddr) -> io::Result<Socket> {
        let mut net = self.net.lock();
        net.fault(Call::Connect)?;
        let id = net.connect(None, addr, Owner::Loop);
        Ok(Socket::new(&self.net, id, false))
    }

    /// The addresses of a host that the network was told of.
    pub(crate) fn resolve(&self, host: &str, port: u16) -> Resolution {
        let net = self.net.lock();
        if net.silent_hosts.contains(host) {
            return Resolution::Never;
        }
        Resolution::Known(match net.hosts.get(host) {
            Some(ips) => Ok(ips.iter().map(|ip| SocketAddr::new(*ip, port)).collect()),
            None => Err(io::Error::new(
                io::ErrorKind::NotFound,
                "the simulated network knows no host of that name",
            )),
        })
    }

    pub(crate) fn can_watch(&self, socket: &Socket) -> io::Result<()> {
        match socket.is_of(&self.net) {
            true => Ok(()),
            false => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "the socket belongs to another simulated network",
            )),
        }
    }

    pub(crate) fn watch(&self, socket: &Socket, key: usize, interest: Interest) -> io::Result<()> {
        self.can_watch(socket)?;
        let mut net = self.net.lock();
        net.watch(self.id, socket.id(), key, interest)
    }

    pub(crate) fn set_interest(&self, socket: &Socket, interest: Interest) -> io::Result<()> {
        self.net.lock().set_interest(socket.id(), interest)
    }

    pub(crate) fn unwatch(&self, socket: &Socket) {
        self.net.lock().unwatch(socket.id());
    }
}

#[cfg(unix)]
impl std::os::fd::AsFd for Poller {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.idle.as_fd()
    }
}

/// A descriptor that is never readable, for a loop that has none and is asked for one. All share it.
#[cfg(unix)]
fn idle() -> io::Result<&'static std::os::unix::net::UnixStream> {
    use std::os::unix::net::UnixStream;
    use std::sync::OnceLock;

    static IDLE: OnceLock<(UnixStream, UnixStream)> = OnceLock::new();
    if IDLE.get().is_none() {
        // Another thread may be first: then its pair stands, and this one is closed.
        let _ = IDLE.set(UnixStream::pair()?);
    }
    let pair = IDLE.get().ok_or(io::ErrorKind::NotFound)?;
    Ok(&pair.0)
}
