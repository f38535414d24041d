//! Where a loop's sockets, addresses and random numbers come from.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::SocketAddr;

#[cfg(feature = "sim")]
use super::simulated::SharedNet;
use super::socket::unix_domain::{self, SocketFile};
use super::socket::{ConnectOptions, Fd, ListenOptions};
use crate::target::UnixName;

/// The operating system, or a simulated network in its place.
#[derive(Clone)]
pub(crate) enum System {
    Os,
    #[cfg(feature = "sim")]
    Simulated(SharedNet),
}

/// How the addresses of a host are found.
#[cfg_attr(
    not(feature = "sim"),
    allow(dead_code, reason = "only a simulated network uses the other variants")
)]
pub(crate) enum Resolution {
    /// Ask the system's resolver, which blocks: see `resolver.rs`.
    AskResolver,
    /// The outcome is known already.
    Known(io::Result<Vec<SocketAddr>>),
    /// No name server will ever answer.
    NoAnswer,
}

impl System {
    /// Makes a listening socket.
    pub(crate) fn listen(&self, addr: SocketAddr, options: &ListenOptions) -> io::Result<Fd> {
        match self {
            System::Os => Fd::listen(addr, options),
            #[cfg(feature = "sim")]
            System::Simulated(net) => Ok(Fd::Simulated(net.listen(addr, options)?)),
        }
    }

    /// Makes a socket and begins to connect it to `addr`. The outcome comes later: see
    /// [`Fd::connected`].
    pub(crate) fn connect(&self, addr: SocketAddr, options: &ConnectOptions) -> io::Result<Fd> {
        match self {
            System::Os => Fd::connect(addr, options),
            #[cfg(feature = "sim")]
            System::Simulated(net) => {
                let local = options.local.toward(addr);
                Ok(Fd::Simulated(net.connect(local, addr)?))
            }
        }
    }

    /// Makes a listening socket of the Unix domain. It has a file, unless its name is abstract.
    pub(crate) fn listen_unix(
        &self,
        name: &UnixName,
        options: &ListenOptions,
    ) -> io::Result<(Fd, Option<SocketFile>)> {
        match self {
            System::Os => unix_domain::listen(name, options),
            #[cfg(feature = "sim")]
            System::Simulated(_) => Err(not_simulated()),
        }
    }

    /// Makes a socket of the Unix domain that is connected.
    pub(crate) fn connect_unix(&self, name: &UnixName, options: &ConnectOptions) -> io::Result<Fd> {
        match self {
            System::Os => unix_domain::connect(name, options),
            #[cfg(feature = "sim")]
            System::Simulated(_) => Err(not_simulated()),
        }
    }

    /// How to find the addresses of `host`. Known addresses have this port.
    pub(crate) fn resolve(&self, host: &str, port: u16) -> Resolution {
        match self {
            System::Os => {
                let _ = (host, port);
                Resolution::AskResolver
            }
            #[cfg(feature = "sim")]
            System::Simulated(net) => match net.resolve(host, port) {
                Some(outcome) => Resolution::Known(outcome),
                None => Resolution::NoAnswer,
            },
        }
    }

    /// A random number from 0 up to, and not including, 1. A simulation with the same seed gives the
    /// same numbers.
    pub(crate) fn random(&self) -> f64 {
        let bits = match self {
            // Each `RandomState` has a random key of its own, which saves a generator.
            System::Os => RandomState::new().build_hasher().finish(),
            #[cfg(feature = "sim")]
            System::Simulated(net) => net.lock().rng.next(),
        };
        (bits >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(feature = "sim")]
fn not_simulated() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "the simulated network has no Unix-domain sockets",
    )
}
