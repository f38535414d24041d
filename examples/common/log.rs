//! Logging of the example programs, to standard error.

use std::collections::HashMap;
use std::fmt;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{self, FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{self as output, FmtContext};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use super::Escaped;

/// How many warnings and errors of one kind are logged in a [`PERIOD`].
const MOST: u32 = 10;
const PERIOD: Duration = Duration::from_secs(1);

/// Logs to standard error from now on: what `RUST_LOG` asks for (`debug`, `asynchat=trace,info`), or
/// else this level and above.
pub(crate) fn log_to_stderr(level: &str) {
    let asked = std::env::var("RUST_LOG").ok();
    let filter = asked.and_then(|filter| filter.parse::<Targets>().ok());
    let filter = filter.or_else(|| level.parse().ok()).unwrap_or_default();
    // A peer's bytes may be among the values.
    let fields = format::debug_fn(|writer, field, value| match field.name() {
        "message" => write!(writer, "{}", Escaped(format_args!("{value:?}"))),
        name => write!(writer, "{name}={}", Escaped(format_args!("{value:?}"))),
    });
    let lines = output::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        // They are reported with eprintln!, which panics if standard error is full or closed.
        .log_internal_errors(false)
        .event_format(Throttled {
            inner: format::format(),
            throttles: Mutex::default(),
        })
        .fmt_fields(fields.delimited(" "));
    tracing_subscriber::registry()
        .with(lines)
        .with(filter)
        .init();
}

/// Leaves warnings and errors out when too many of one kind come in a second: a peer that can have
/// a line logged for each of its messages must not fill a disk.
struct Throttled<F> {
    inner: F,
    throttles: Mutex<HashMap<Identifier, Throttle>>,
}

impl<S, N, F> FormatEvent<S, N> for Throttled<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    /// Nothing is logged for an event that writes nothing.
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        if *metadata.level() <= Level::WARN {
            let mut throttles = self
                .throttles
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let throttle = throttles.entry(metadata.callsite()).or_default();
            match throttle.admit(Instant::now()) {
                None => return Ok(()),
                Some(0) => {}
                Some(suppressed) => writeln!(writer, "({suppressed} like the next suppressed)")?,
            }
        }
        self.inner.format_event(context, writer, event)
    }
}

/// Counts the events of one kind.
#[derive(Default)]
struct Throttle {
    since: Option<Instant>,
    logged: u32,
    suppressed: u64,
}

impl Throttle {
    /// Whether one more may be logged now; if so, how many were suppressed before it.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.since.is_none_or(|since| now >= since + PERIOD) {
            self.since = Some(now);
            self.logged = 0;
        }
        if self.logged >= MOST {
            self.suppressed += 1;
            return None;
        }
        self.logged += 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_logged_a_few_times_a_second_and_counted() {
        let (mut throttle, start) = (Throttle::default(), Instant::now());
        let mut logged = |now| {
            let admitted = (0..1000).filter_map(|_| throttle.admit(now));
            admitted.collect::<Vec<_>>()
        };
        assert_eq!(logged(start), [0; MOST as usize]);
        assert_eq!(logged(start + PERIOD / 2), []);
        let later = logged(start + PERIOD);
        assert_eq!(later[0], 2000 - u64::from(MOST));
        assert_eq!(later[1..], [0; MOST as usize - 1]);
    }
}
