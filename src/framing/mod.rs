//! Framing: cuts the input into records. Sans-IO.

mod needle;
pub(crate) mod splitter;
pub(crate) mod terminator;
