//! Logging to standard error.

use std::collections::HashMap;
use std::fmt;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use asynchat::{EventLoop, Result};
use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::filter::{Targets, filter_fn};
use tracing_subscriber::fmt::format::{self, FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{self as output, FmtContext};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use super::Escaped;

/// The end of the target of events that have a lower level and are limited, too: `proxy::throttled`.
const THROTTLED: &str = "::throttled";

/// How many warnings and errors one call site may log in each [`PERIOD`].
const MAX_PER_PERIOD: u32 = 10;
const PERIOD: Duration = Duration::from_secs(1);

/// Starts logging to standard error. The filter is `RUST_LOG` (for example `debug` or
/// `asynchat=trace,info`); without it, `level` is the lowest level that is logged.
pub(crate) fn log_to_stderr(level: &str) {
    start(level, true);
}

/// The same for a program that answers so many requests that spans count: without `RUST_LOG` its events do not say to
/// which connection they belong. To enter a span and to leave it takes about 1,000 instructions.
pub(crate) fn log_events_to_stderr(level: &str) {
    start(level, false);
}

/// Logs the end of a server, and what its loop has counted.
pub(crate) fn log_stopped() -> Result {
    let stats = EventLoop::current()?.stats();
    tracing::info!(
        stats.accepted,
        stats.refused,
        stats.handshakes,
        stats.handshakes_failed,
        stats.records_in,
        closes = ?stats.closes,
        "stopped"
    );
    Ok(())
}

fn start(level: &str, has_spans: bool) {
    let limit = limit_is_an_error();
    let wanted = std::env::var("RUST_LOG").ok();
    let wanted = wanted.and_then(|filter| filter.parse::<Targets>().ok());
    let only_events = |metadata: &Metadata<'_>| metadata.is_event();
    let no_spans = (!has_spans && wanted.is_none()).then(|| filter_fn(only_events));
    let filter = wanted.or_else(|| level.parse().ok()).unwrap_or_default();
    // Values may contain bytes that a peer sent.
    let fields = format::debug_fn(|writer, field, value| match field.name() {
        "message" => write!(writer, "{}", Escaped(format_args!("{value:?}"))),
        name => write!(writer, "{name}={}", Escaped(format_args!("{value:?}"))),
    });
    let lines = output::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        // Internal errors would be reported with eprintln!, which panics if standard error is full or
        // closed.
        .log_internal_errors(false)
        .event_format(Throttled {
            inner: format::format(),
            throttles: Mutex::default(),
        })
        .fmt_fields(fields.delimited(" "));
    tracing_subscriber::registry()
        .with(lines)
        .with(filter)
        .with(no_spans)
        .init();
    if let Err(error) = limit {
        tracing::warn!(%error, "the limit on the size of files ends the program");
    }
}

/// A file that would exceed the limit on the size of files (`ulimit -f`, RLIMIT_FSIZE) is an error of the write (EFBIG). By
/// default the system also sends SIGXFSZ, which ends the process: an upload, or a line of a log that is as large, would end
/// the service. Called before the first line.
#[cfg(unix)]
fn limit_is_an_error() -> Result {
    asynchat::signal::on(asynchat::signal::SIGXFSZ, || {})?;
    Ok(())
}

/// There is no such limit here.
#[cfg(not(unix))]
fn limit_is_an_error() -> Result {
    Ok(())
}

/// Limits how many warnings and errors each call site logs in a second, and how many events with a target that
/// ends with [`THROTTLED`]. Otherwise a peer that causes a log line with each of its messages could fill the disk.
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
    /// A suppressed event writes nothing, and the layer then logs nothing for it.
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        if *metadata.level() <= Level::WARN || metadata.target().ends_with(THROTTLED) {
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

/// Counts the events of one call site.
#[derive(Default)]
struct Throttle {
    since: Option<Instant>,
    logged: u32,
    suppressed: u64,
}

impl Throttle {
    /// If one more event may be logged now, returns how many were suppressed before it.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.since.is_none_or(|since| now >= since + PERIOD) {
            self.since = Some(now);
            self.logged = 0;
        }
        if self.logged >= MAX_PER_PERIOD {
            self.suppressed += 1;
            return None;
        }
        self.logged += 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn warnings_and_events_that_ask_for_it_are_limited() {
        let (written, format) = (Written::default(), format::format());
        let sink = written.clone();
        let lines = output::layer()
            .with_writer(move || sink.clone())
            .event_format(Throttled {
                inner: format,
                throttles: Mutex::default(),
            });
        let subscriber = tracing_subscriber::registry().with(lines);
        tracing::subscriber::with_default(subscriber, || {
            for _ in 0..1000 {
                tracing::warn!("a warning");
                tracing::info!(target: "program::throttled", "a refusal");
                tracing::info!("a response");
            }
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let count = |what| text.lines().filter(|line| line.ends_with(what)).count();
        assert_eq!(count("a response"), 1000);
        // The events may take longer than a second.
        assert!((10..500).contains(&count("a warning")), "{text}");
        assert!((10..500).contains(&count("a refusal")), "{text}");
    }

    #[test]
    fn events_above_the_limit_are_suppressed_and_counted() {
        let (mut throttle, start) = (Throttle::default(), Instant::now());
        let mut logged = |now| {
            let admitted = (0..1000).filter_map(|_| throttle.admit(now));
            admitted.collect::<Vec<_>>()
        };
        assert_eq!(logged(start), [0; MAX_PER_PERIOD as usize]);
        assert_eq!(logged(start + PERIOD / 2), []);
        let later = logged(start + PERIOD);
        assert_eq!(later[0], 2000 - u64::from(MAX_PER_PERIOD));
        assert_eq!(later[1..], [0; MAX_PER_PERIOD as usize - 1]);
    }
}
