//! What the example programs share. It is no program itself.

#![allow(dead_code, unused_imports, reason = "no program uses all of it")]

mod escape;
mod log;

pub(crate) use escape::Escaped;
pub(crate) use log::log_to_stderr;
