//! Timers, deadlines and back-off. Sans-IO: nothing here reads a clock, callers pass the time.

pub(crate) mod backoff;
pub(crate) mod deadlines;
pub(crate) mod timer;
