//! The operating system: the poller, sockets, and the resolver. All code that depends on the platform.

pub(crate) mod poller;
pub(crate) mod resolver;
pub(crate) mod socket;
