//! What the library tells through `tracing`, where a stranger has a say in it: not too often, and
//! never a line of the stranger's own making.

use std::cell::Cell;
use std::fmt::{self, Display, Write};
use std::time::{Duration, Instant};

/// How many events of one kind are told in a [`PERIOD`].
const MOST: u32 = 10;
const PERIOD: Duration = Duration::from_secs(1);

/// Logs an event at this level. A subscriber is the user's code: tracing-subscriber's own panics when
/// standard error is a pipe that nobody reads. Its panic must not end what logs.
macro_rules! log {
    ($level:ident, $($event:tt)+) => {
        drop($crate::user_code::enter(|| tracing::$level!($($event)+)))
    };
}
pub(crate) use log;

/// Tells an event at this level (`warn`, `error`), unless its like was told often enough in the
/// last second on this thread: then it is only counted, and the next one that is told says how
/// many were `suppressed`. A peer that can have a line logged for each connection fills a disk.
macro_rules! log_throttled {
    ($level:ident, $($event:tt)+) => {{
        thread_local! {
            static THROTTLE: $crate::log::Throttle = const { $crate::log::Throttle::new() };
        }
        // The real clock, also in a simulation: a disk fills in real time.
        let admitted = THROTTLE.with(|throttle| throttle.admit(std::time::Instant::now()));
        if let Some(suppressed) = admitted {
            $crate::log::log!($level, suppressed, $($event)+);
        }
    }};
}
pub(crate) use log_throttled;

/// Counts the events of one kind.
pub(crate) struct Throttle {
    since: Cell<Option<Instant>>,
    told: Cell<u32>,
    suppressed: Cell<u64>,
}

impl Throttle {
    pub(crate) const fn new() -> Self {
        Throttle {
            since: Cell::new(None),
            told: Cell::new(0),
            suppressed: Cell::new(0),
        }
    }

    /// Whether one more may be told now; if so, how many were not since the last that was.
    pub(crate) fn admit(&self, now: Instant) -> Option<u64> {
        let period = self.since.get().filter(|since| now < *since + PERIOD);
        if period.is_none() {
            self.since.set(Some(now));
            self.told.set(0);
        }
        if self.told.get() >= MOST {
            self.suppressed.set(self.suppressed.get() + 1);
            return None;
        }
        self.told.set(self.told.get() + 1);
        Some(self.suppressed.take())
    }
}

/// Text that may hold a peer's bytes, fit for a line of a log: control characters are shown
/// escaped, so that no peer can forge a line or drive a terminal (CVE-2009-4487).
pub(crate) struct Escaped<T>(pub(crate) T);

impl<T: Display> Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

struct Escaping<'a, 'f>(&'a mut fmt::Formatter<'f>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|char| self.write_char(char))
    }

    fn write_char(&mut self, char: char) -> fmt::Result {
        // The line and paragraph separators, and what turns the direction of the text around.
        let misleads = matches!(char, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if char.is_control() || misleads {
            write!(self.0, "{}", char.escape_default())
        } else {
            self.0.write_char(char)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_a_few_times_a_second_and_counted() {
        let (throttle, start) = (Throttle::new(), Instant::now());
        let told = |now| {
            (0..1000)
                .filter_map(|_| throttle.admit(now))
                .collect::<Vec<_>>()
        };
        assert_eq!(told(start), [0; MOST as usize]);
        assert_eq!(told(start + PERIOD / 2), []);
        let later = told(start + PERIOD);
        assert_eq!(later.len(), MOST as usize);
        assert_eq!(later[0], 2000 - u64::from(MOST));
        assert_eq!(later[1], 0);
    }

    #[test]
    fn what_controls_a_terminal_or_ends_a_line_is_escaped() {
        let line = "no such group: x\r\n2026 ERROR forged \u{1b}[2J \u{202e}é";
        let escaped = Escaped(line).to_string();
        assert_eq!(
            escaped,
            "no such group: x\\r\\n2026 ERROR forged \\u{1b}[2J \\u{202e}é"
        );
    }
}
