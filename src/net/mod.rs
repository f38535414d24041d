//! How connections begin: servers, connectors, reconnection, child processes.

mod accept;
#[cfg(feature = "proxy-protocol")]
mod announcement;
pub(crate) mod arrivals;
pub(crate) mod connector;
pub(crate) mod endpoint;
#[cfg(feature = "proxy-protocol")]
mod identification;
mod policy;
mod preamble;
pub(crate) mod receiver;
pub(crate) mod reconnect;
pub(crate) mod server;
// Needs waitid(2) with WNOWAIT: the end of a process is awaited, and its status left in place.
#[cfg(all(unix, not(any(target_os = "openbsd", target_os = "redox"))))]
pub(crate) mod subprocess;
