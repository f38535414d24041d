//! Output: the queue of a connection, and the producers that fill it. Sans-IO.

pub(crate) mod fifo;
pub(crate) mod producers;
