//! Layer 2: records in, a FIFO of producers out.

mod backlog;
mod connection;
pub(crate) mod dialogue;
pub(crate) mod driver;
pub(crate) mod group;
pub(crate) mod handle;
pub(crate) mod into_session;
pub(crate) mod pipe;
pub(crate) mod promise;
#[cfg(feature = "proxy-protocol")]
#[cfg_attr(docsrs, doc(cfg(feature = "proxy-protocol")))]
mod proxied;
mod replace;
#[cfg(feature = "tls-no-provider")]
#[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
mod secure;
pub(crate) mod session;
