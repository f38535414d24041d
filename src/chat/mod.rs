//! Layer 2: records in, a FIFO of producers out.

mod backlog;
pub(crate) mod driver;
pub(crate) mod group;
pub(crate) mod handle;
pub(crate) mod into_session;
pub(crate) mod pipe;
pub(crate) mod promise;
pub(crate) mod session;
