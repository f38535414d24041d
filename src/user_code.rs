//! Runs user code and catches its panics: callbacks, deferred calls, factories, `Display` and `Drop`
//! implementations, `tracing` subscribers. No other file of the crate calls `catch_unwind`.
//!
//! Values of the user are dropped one at a time, each under its own `catch_unwind`: a destructor that
//! panics while another panic unwinds would abort the process.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt::Display;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use tracing::Span;

use crate::log::{Escaped, log_throttled};

/// Runs user code. If it panics, the error is the message of the panic.
pub(crate) fn enter<T>(code: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(code)).map_err(message)
}

/// Runs a call that belongs to no channel. A panic is logged and has no other effect.
pub(crate) fn contain(call: impl FnOnce()) {
    if let Err(panic) = enter(call) {
        report(&panic, "a deferred call panicked");
    }
}

/// Drops a value. A panic of its destructor is logged and has no other effect.
pub(crate) fn discard<T>(value: T) {
    if mem::needs_drop::<T>()
        && let Err(panic) = enter(|| drop(value))
    {
        report(&panic, "a destructor panicked");
    }
}

/// Drops each value as [`discard`] does.
pub(crate) fn discard_each<T>(values: impl IntoIterator<Item = T>) {
    values.into_iter().for_each(discard);
}

/// Drops each value, then resumes the first panic of a destructor. The caller runs inside a callback,
/// which that panic ends. Further panics are logged.
pub(crate) fn drop_each<T>(values: impl IntoIterator<Item = T>) {
    let mut values = values.into_iter();
    while let Some(value) = values.next() {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
            discard_each(values);
            resume_unwind(panic);
        }
    }
}

/// Runs user code with a reference to `rest`, and returns `rest` with the outcome. If the code panics,
/// `rest` is dropped first, under its own `catch_unwind`, and then the panic resumes.
pub(crate) fn with<R, T>(mut rest: R, code: impl FnOnce(&mut R) -> T) -> (R, T) {
    match catch_unwind(AssertUnwindSafe(|| code(&mut rest))) {
        Ok(outcome) => (rest, outcome),
        Err(panic) => {
            discard(rest);
            resume_unwind(panic)
        }
    }
}

/// The text of a value whose `Display` implementation may be user code.
pub(crate) fn text_of(value: &dyn Display) -> String {
    match enter(|| value.to_string()) {
        Ok(text) => text,
        Err(panic) => {
            report(&panic, "a Display implementation panicked");
            format!("a text that cannot be printed: {panic}")
        }
    }
}

/// Logs the message of a panic.
pub(crate) fn report(panic: &str, what: &'static str) {
    log_throttled!(error, panic = %Escaped(panic), "{what}");
}

/// Runs code in a span. A subscriber is user code, so a panic on entering or leaving the span is caught.
/// The code itself must not panic.
pub(crate) fn in_span<T>(span: Option<&Span>, code: impl FnOnce() -> T) -> T {
    let entered = span.map(|span| enter(|| span.enter()));
    // Called in one place, so that the compiler puts it there.
    let outcome = code();
    if entered.is_some() {
        discard(entered);
    }
    outcome
}

/// Values of the user that are dropped as [`discard`] does, whenever this queue is dropped.
pub(crate) struct Discarded<T>(pub(crate) VecDeque<T>);

impl<T> Drop for Discarded<T> {
    fn drop(&mut self) {
        discard_each(mem::take(&mut self.0));
    }
}

/// The message of a panic.
fn message(panic: Box<dyn Any + Send>) -> String {
    let message = if let Some(message) = panic.downcast_ref::<&str>() {
        (*message).to_owned()
    } else if let Some(message) = panic.downcast_ref::<String>() {
        message.clone()
    } else {
        String::from("no message")
    };
    // The payload may have any type, and its destructor may panic, too. The payload of that second panic
    // is leaked, because its destructor could panic again.
    if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        mem::forget(another);
    }
    message
}
