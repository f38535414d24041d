//! Ctrl-C, which ends the program, and SIGHUP.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use asynchat::Result;
#[cfg(windows)]
use asynchat::signal::SIGBREAK;
use asynchat::signal::{self, SIGINT, SIGTERM};

#[cfg(unix)]
use crate::access_log::AccessLog;
use crate::common;
use crate::status::Status;

/// Shuts the loop down at Ctrl-C and SIGTERM. Transfers have so many seconds to finish, which the program says.
pub fn shutdown_on_ctrl_c(grace: u64, status: &Rc<Status>) -> Result {
    let signals = [
        SIGINT,
        SIGTERM,
        #[cfg(windows)]
        SIGBREAK,
    ];
    let has_begun = Rc::new(Cell::new(false));
    for number in signals {
        let (status, has_begun) = (Rc::clone(status), Rc::clone(&has_begun));
        // Registered first, so that it counts what there was before.
        signal::on(number, move || {
            let is_first = !has_begun.replace(true);
            common::say(text(status.transfers(), grace, is_first));
        })?;
    }
    signal::shutdown_on_ctrl_c(Duration::from_secs(grace))?;
    Ok(())
}

fn text(transfers: u32, grace: u64, is_first: bool) -> String {
    let (these, them) = match transfers {
        0 => return "shutting down: no transfer is under way".to_owned(),
        1 => ("1 transfer".to_owned(), "it"),
        many => (format!("{many} transfers"), "them"),
    };
    match is_first {
        true => format!("shutting down: {these} may go on for {grace} s, Ctrl-C again cuts {them}"),
        false => format!("shutting down: {these} cut"),
    }
}

/// Opens the access log by its name once more at SIGHUP. Without a log, too: by default the signal would end the program.
#[cfg(unix)]
pub fn reopen_on_sighup(log: Option<AccessLog>) -> Result {
    signal::on(signal::SIGHUP, move || {
        log.iter().for_each(AccessLog::reopen);
    })?;
    Ok(())
}
