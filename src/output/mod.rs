//! Output: the queue of a connection, and producers that fill it while it is sent. Sans-IO.

pub(crate) mod fifo;
pub(crate) mod producers;
