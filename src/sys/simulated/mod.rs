//! The network in memory, below the event loop: sockets, a poller and a clock that know no handler.
//! The public interface is in `sim/`.
//!
//! | file | what |
//! |---|---|
//! | `net.rs` | the network: connections, and how bytes move |
//! | `end.rs` | one end of a connection |
//! | `registrations.rs` | what the pollers watch |
//! | `conditions.rs` | short reads, faults and the like |
//! | `rng.rs` | the random numbers |
//! | `poller.rs`, `socket.rs` | the arms of the two seams |

mod conditions;
mod end;
mod net;
mod poller;
mod registrations;
mod rng;
mod socket;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::socket::ListenOptions;

pub use conditions::{Call, Conditions};
pub use end::Ended;
pub(crate) use end::{Outside, Owner, State};
pub(crate) use net::{Id, Net};
pub(crate) use poller::{Poller, Waker};
pub(crate) use rng::Rng;
pub(crate) use socket::Socket;

/// The network, shared by its loops, sockets and peers. It is behind a lock, so that a simulated
/// socket is as `Send` as a real one.
#[derive(Clone)]
pub(crate) struct SharedNet(Arc<Mutex<Net>>);

impl SharedNet {
    pub(crate) fn new(seed: u64) -> Self {
        SharedNet(Arc::new(Mutex::new(Net::new(seed))))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Net> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether both are the same network.
    pub(crate) fn is(&self, other: &SharedNet) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    // ---- what a loop asks of its system

    pub(super) fn listen(&self, addr: SocketAddr, options: &ListenOptions) -> io::Result<Socket> {
        let mut net = self.lock();
        net.take_fault(Call::Listen)?;
        let backlog = usize::try_from(options.backlog).unwrap_or(1);
        let id = net.listen(addr, options.only_v6, backlog, Owner::Loop)?;
        Ok(Socket::new(self, id, true))
    }

    pub(super) fn connect(
        &self,
        local: Option<SocketAddr>,
        addr: SocketAddr,
    ) -> io::Result<Socket> {
        let mut net = self.lock();
        net.take_fault(Call::Connect)?;
        let id = net.connect(local, addr, Owner::Loop);
        Ok(Socket::new(self, id, false))
    }

    /// The addresses of a host; `None` if no name server answers.
    pub(super) fn resolve(&self, host: &str, port: u16) -> Option<io::Result<Vec<SocketAddr>>> {
        let net = self.lock();
        if net.silent_hosts.contains(host) {
            return None;
        }
        Some(match net.hosts.get(host) {
            Some(ips) => Ok(ips.iter().map(|ip| SocketAddr::new(*ip, port)).collect()),
            None => Err(io::Error::new(
                io::ErrorKind::NotFound,
                "the simulated network has no host of that name",
            )),
        })
    }
}
