//! Log events of the library, through `tracing`. Events that a peer can cause are throttled, and text
//! that may contain a peer's bytes is escaped.

use std::cell::Cell;
use std::fmt::{self, Display, Write};
use std::time::{Duration, Instant};

/// How many events of one kind are logged in a [`PERIOD`].
const MOST: u32 = 10;
const PERIOD: Duration = Duration::from_secs(1);

/// Logs an event at this level. A subscriber is user code and may panic: tracing-subscriber does when
/// standard error is a closed pipe. The panic must not reach the caller.
macro_rules! log {
    ($level:ident, $($event:tt)+) => {
        drop($crate::user_code::enter(|| tracing::$level!($($event)+)))
    };
}
pub(crate) use log;

/// Logs an event at this level (`warn`, `error`) that a peer can cause. A peer that causes a log line
/// with each connection could fill a disk, so each call site logs at most [`MOST`] events a second on
/// a thread. Further events are counted; the next one that is logged has the count as `suppressed`.
macro_rules! log_throttled {
    ($level:ident, $($event:tt)+) => {{
        thread_local! {
            static THROTTLE: $crate::log::Throttle = const { $crate::log::Throttle::new() };
        }
        // The system's clock, also in the simulator: a disk fills in real time.
        let admitted = THROTTLE.with(|throttle| throttle.admit(std::time::Instant::now()));
        if let Some(suppressed) = admitted {
            $crate::log::log!($level, suppressed, $($event)+);
        }
    }};
}
pub(crate) use log_throttled;

/// Decides which events of one kind are logged.
pub(crate) struct Throttle {
    /// When the current period began.
    since: Cell<Option<Instant>>,
    /// Events logged in the current period.
    logged: Cell<u32>,
    /// Events suppressed since the last one that was logged.
    suppressed: Cell<u64>,
}

impl Throttle {
    pub(crate) const fn new() -> Self {
        Throttle {
            since: Cell::new(None),
            logged: Cell::new(0),
            suppressed: Cell::new(0),
        }
    }

    /// `None` if the event must be suppressed. Otherwise the number of events that were suppressed since
    /// the last one that was logged.
    pub(crate) fn admit(&self, now: Instant) -> Option<u64> {
        let period = self.since.get().filter(|since| now < *since + PERIOD);
        if period.is_none() {
            self.since.set(Some(now));
            self.logged.set(0);
        }
        if self.logged.get() >= MOST {
            self.suppressed.set(self.suppressed.get() + 1);
            return None;
        }
        self.logged.set(self.logged.get() + 1);
        Some(self.suppressed.take())
    }
}

/// Displays text that may contain a peer's bytes with its control characters escaped, so that no peer
/// can forge a log line or control a terminal (CVE-2009-4487).
pub(crate) struct Escaped<T>(pub(crate) T);

impl<T: Display> Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

/// Escapes what is written to the formatter.
struct Escaping<'a, 'f>(&'a mut fmt::Formatter<'f>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // Printable ASCII needs no escape. `fmt` writes an address in a dozen pieces, so one check for each piece is faster
        // than one for each character.
        if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            self.0.write_str(text)
        } else {
            text.chars().try_for_each(|char| self.write_char(char))
        }
    }

    fn write_char(&mut self, char: char) -> fmt::Result {
        if char.is_control() || misleads(char) {
            write!(self.0, "{}", char.escape_default())
        } else {
            self.0.write_char(char)
        }
    }
}

/// Whether a reader sees something else than the text: the line and paragraph separators, and all characters
/// that change the direction of text or its shaping (CVE-2021-42574), U+206A to U+206F included, which are
/// deprecated.
fn misleads(char: char) -> bool {
    matches!(
        char,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{206f}'
    )
}

/// What this logs at the level `warn`.
///
/// While a process has one subscriber, tracing-core asks only the thread that reaches an event first whether it is wanted,
/// and remembers the answer. Another test may be that thread, so there is a second subscriber, which wants nothing.
#[cfg(test)]
pub(crate) fn warnings(run: impl FnOnce()) -> String {
    use tracing::dispatcher::Dispatch;
    use tracing::subscriber::NoSubscriber;

    static SECOND: std::sync::OnceLock<Dispatch> = std::sync::OnceLock::new();
    SECOND.get_or_init(|| Dispatch::new(NoSubscriber::default()));
    let log = tempfile::NamedTempFile::new().unwrap();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_ansi(false)
        .with_writer(log.reopen().unwrap())
        .finish();
    tracing::subscriber::with_default(subscriber, run);
    std::fs::read_to_string(log.path()).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_logged_a_few_times_a_second_and_counted() {
        let (throttle, start) = (Throttle::new(), Instant::now());
        let logged = |now| {
            (0..1000)
                .filter_map(|_| throttle.admit(now))
                .collect::<Vec<_>>()
        };
        assert_eq!(logged(start), [0; MOST as usize]);
        assert_eq!(logged(start + PERIOD / 2), []);
        let later = logged(start + PERIOD);
        assert_eq!(later.len(), MOST as usize);
        assert_eq!(later[0], 2000 - u64::from(MOST));
        assert_eq!(later[1], 0);
    }

    #[test]
    fn control_characters_are_escaped() {
        let line = "no such group: x\r\n2026 ERROR forged \u{1b}[2J \u{202e}é";
        let escaped = Escaped(line).to_string();
        assert_eq!(
            escaped,
            "no such group: x\\r\\n2026 ERROR forged \\u{1b}[2J \\u{202e}é"
        );
    }

    #[test]
    fn every_character_that_changes_the_direction_of_text_is_escaped() {
        let marks = ['\u{61c}', '\u{200e}', '\u{200f}'];
        let others = ('\u{2028}'..='\u{202e}').chain('\u{2066}'..='\u{206f}');
        for char in marks.into_iter().chain(others) {
            let code = u32::from(char);
            assert_eq!(
                Escaped(char).to_string(),
                format!("\\u{{{code:x}}}"),
                "U+{code:04X}"
            );
        }
        // The joiners are part of ordinary text in several scripts.
        for char in [
            '\u{200c}', '\u{200d}', '\u{2027}', '\u{202f}', '\u{2065}', '\u{2070}',
        ] {
            assert_eq!(Escaped(char).to_string(), char.to_string());
        }
    }
}
