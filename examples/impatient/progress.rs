//! A line on standard error that shows how many responses have arrived.
//!
//! No crate is used for it: a progress bar crate would be a tenth of the code that is compiled for this
//! program.

use std::io::{IsTerminal, Write, stderr};
use std::rc::Rc;
use std::time::Duration;

use asynchat::TimerId;

use super::report::count;
use super::tally::Tally;

/// Redraws the line ten times a second, if standard error is a terminal.
pub struct Progress(Option<TimerId>);

impl Progress {
    pub fn show(total: u64, tally: &Rc<Tally>) -> Progress {
        let (tally, total) = (Rc::clone(tally), count(total));
        let redraw = move || {
            let responses = count(tally.responses.get());
            // If the write fails, the next redraw tries again.
            let _ = write!(stderr(), "\r{responses} of {total} responses");
        };
        let is_shown = stderr().is_terminal();
        Progress(is_shown.then(|| asynchat::call_every(Duration::from_millis(100), redraw)))
    }

    pub fn clear(self) {
        if let Some(redraw) = self.0 {
            asynchat::cancel(redraw);
            // Return to the first column and erase the line (ECMA-48, EL).
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}
