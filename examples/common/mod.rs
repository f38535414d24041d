//! What the example programs share. It is not a program itself.

#![allow(dead_code, unused_imports, reason = "no program uses all of it")]

mod announce;
mod ctrl_c;
mod escape;
mod log;

pub(crate) use announce::{announce, say};
pub(crate) use ctrl_c::{shutdown_all_on_ctrl_c, shutdown_on_ctrl_c};
pub(crate) use escape::Escaped;
pub(crate) use log::log_to_stderr;
