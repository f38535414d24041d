//! Layer 1: a socket and its callbacks.

pub(crate) mod accept;
pub(crate) mod attempts;
pub(crate) mod dispatcher;
pub(crate) mod driver;
pub(crate) mod handle;
mod socket;
pub(crate) mod unix_attempt;
