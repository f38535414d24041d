//! Layer 1: a socket and its callbacks.

pub(crate) mod dispatcher;
pub(crate) mod handle;
