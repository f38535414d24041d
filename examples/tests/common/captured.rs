//! What a program logs.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use asynchat::Result;
use tracing::callsite::Identifier;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::{Layer, fmt};

use crate::subscribing::with_subscriber;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What `act` logs: lines of a level, a message and fields. Debug events and those of the library are left out.
pub(crate) fn captured(act: impl FnOnce() -> Result) -> Result<String> {
    captured_from("info", act)
}

/// With the events from this level on.
pub(crate) fn captured_from(level: &str, act: impl FnOnce() -> Result) -> Result<String> {
    let lines = Lines::default();
    let written = lines.clone();
    let format = fmt::layer()
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .with_writer(move || written.clone());
    let wanted: Targets = format!("{level},asynchat=off").parse()?;
    let subscriber = tracing_subscriber::registry().with(format).with(wanted);
    with_subscriber(subscriber, act)?;
    let lines = lines.0.lock().unwrap_or_else(PoisonError::into_inner);
    let text = String::from_utf8(lines.clone())?;
    // Levels are aligned.
    Ok(text
        .lines()
        .map(|line| format!("{}\n", line.trim_start()))
        .collect())
}

/// The calls in the program that log warnings while `act` runs. The log limits the warnings of each of them.
pub(crate) fn warning_calls(act: impl FnOnce() -> Result) -> Result<Vec<Identifier>> {
    let calls = Calls::default();
    let subscriber = tracing_subscriber::registry().with(calls.clone());
    with_subscriber(subscriber, act)?;
    let calls = calls.0.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(calls.clone())
}

#[derive(Clone, Default)]
struct Calls(Arc<Mutex<Vec<Identifier>>>);

impl<S: Subscriber> Layer<S> for Calls {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if *metadata.level() == Level::WARN {
            let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            calls.push(metadata.callsite());
        }
    }
}
