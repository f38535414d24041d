//! Framing: how input is cut into records. Sans-IO.

pub(crate) mod splitter;
pub(crate) mod terminator;
