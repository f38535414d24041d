//! The operating system: the poller, sockets, and the resolver. All code that depends on the platform.

pub(crate) mod poller;
pub(crate) mod resolver;
#[cfg(feature = "signal")]
pub(crate) mod signals;
pub(crate) mod socket;
