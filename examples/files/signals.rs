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

/// Shuts the loop down at Ctrl-C and SIGTERM. `grace` is the time for transfers in seconds. The program prints it.
pub fn shutdown_on_ctrl_c(grace: u64, status: &Rc<Status>) -> Result {
    let signals = [
        SIGINT,
        SIGTERM,
        #[cfg(windows)]
        SIGBREAK,
    ];
    let received = Rc::new(Cell::new(0_u32));
    for number in signals {
        let (status, received) = (Rc::clone(status), Rc::clone(&received));
        // This call is registered before the shutdown, so it counts the transfers before they are cut.
        signal::on(number, move || {
            received.set(received.get() + 1);
            if let Some(text) = text(status.transfers(), grace, received.get()) {
                common::say(text);
            }
        })?;
    }
    signal::shutdown_on_ctrl_c(Duration::from_secs(grace))?;
    Ok(())
}

/// What the program says at the first signal, and at the second one, which cuts what is left.
fn text(transfers: u32, grace: u64, received: u32) -> Option<String> {
    let (these, them) = match transfers {
        1 => ("1 transfer".to_owned(), "it"),
        many => (format!("{many} transfers"), "them"),
    };
    let text = match (received, transfers) {
        (1, 0) => "no transfer is under way".to_owned(),
        (1, _) => format!("{these} may go on for {grace} s, Ctrl-C again cuts {them}"),
        (2, 1..) => format!("{these} cut"),
        _ => return None,
    };
    Some(format!("shutting down: {text}"))
}

/// Opens the access log by its name once more at SIGHUP. Without a log, too: by default the signal would end the program.
#[cfg(unix)]
pub fn reopen_on_sighup(log: Option<AccessLog>) -> Result {
    signal::on(signal::SIGHUP, move || {
        log.iter().for_each(AccessLog::reopen);
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_two_signals_print_a_line() {
        let said = |transfers| [1, 2, 3].map(|received| text(transfers, 5, received));
        let first = Some("shutting down: no transfer is under way".to_owned());
        assert_eq!(said(0), [first, None, None]);
        let [first, second, third] = said(2);
        assert!(first.is_some_and(|it| it.contains("2 transfers may go on for 5 s")));
        assert_eq!(second.as_deref(), Some("shutting down: 2 transfers cut"));
        assert_eq!(third, None);
    }
}
