//! Time, without a clock: whoever calls says what time it is. Sans-IO.

pub(crate) mod backoff;
pub(crate) mod deadlines;
pub(crate) mod timer;
