//! Code that the example programs share. This folder is not a program.

#![allow(dead_code, unused_imports, reason = "no program uses everything here")]

mod announce;
mod escape;
mod log;
mod signals;

pub(crate) use announce::{announce, print, print_to_stderr, say};
pub(crate) use escape::Escaped;
pub(crate) use log::{log_events_to_stderr, log_stopped, log_to_stderr};
pub(crate) use signals::{
    ENDING, HELP as SIGNALS, ignore_sighup_unless, run_until_signal, shutdown_but_not_at_sighup,
    shutdown_loop_on_ctrl_c, shutdown_on_ctrl_c, shutdown_with_report,
};
