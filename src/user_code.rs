//! The one way into user code that is not called through a handler's callbacks alone: deferred
//! calls, factories, `Display` and `Drop` of what belongs to the user. A panic in it ends nothing
//! but itself, and two panics never meet: a destructor that panics while another panic unwinds
//! aborts the process.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt::Display;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use tracing::Span;

use crate::log::{Escaped, log_throttled};

/// Runs user code. If it panics, the error is what the panic said.
pub(crate) fn enter<T>(code: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(code)).map_err(message)
}

/// Runs a call that belongs to no channel: its panic is logged, and ends nothing.
pub(crate) fn contain(call: impl FnOnce()) {
    if let Err(panic) = enter(call) {
        report(&panic, "a deferred call panicked");
    }
}

/// Drops a value. A panic of its destructor is logged, and ends nothing.
pub(crate) fn discard<T>(value: T) {
    if mem::needs_drop::<T>()
        && let Err(panic) = enter(|| drop(value))
    {
        report(&panic, "a destructor panicked");
    }
}

/// Drops each of these as [`discard`] does.
pub(crate) fn discard_each<T>(values: impl IntoIterator<Item = T>) {
    values.into_iter().for_each(discard);
}

/// Drops each of these; then the first panic of a destructor goes on, as that of the callback that
/// is running.
pub(crate) fn drop_each<T>(values: impl IntoIterator<Item = T>) {
    let mut values = values.into_iter();
    while let Some(value) = values.next() {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
            discard_each(values);
            resume_unwind(panic);
        }
    }
}

/// Lends `rest` to user code, and returns both. A panic of that code goes on when `rest` has been
/// dropped on its own.
pub(crate) fn with<R, T>(mut rest: R, code: impl FnOnce(&mut R) -> T) -> (R, T) {
    match catch_unwind(AssertUnwindSafe(|| code(&mut rest))) {
        Ok(outcome) => (rest, outcome),
        Err(panic) => {
            discard(rest);
            resume_unwind(panic)
        }
    }
}

/// The text of a value whose `Display` may be the user's.
pub(crate) fn text_of(value: &dyn Display) -> String {
    match enter(|| value.to_string()) {
        Ok(text) => text,
        Err(panic) => {
            report(&panic, "a Display implementation panicked");
            format!("a text that cannot be printed: {panic}")
        }
    }
}

/// Logs a panic.
pub(crate) fn report(panic: &str, what: &'static str) {
    log_throttled!(error, panic = %Escaped(panic), "{what}");
}

/// Runs code in a span. A subscriber is the user's code, and what it panics with ends nothing. The code
/// must contain its own panics.
pub(crate) fn in_span<T>(span: Option<&Span>, code: impl FnOnce() -> T) -> T {
    let Some(span) = span else {
        return code();
    };
    let entered = enter(|| span.enter());
    let outcome = code();
    discard(entered);
    outcome
}

/// Values of the user's that are dropped one by one, whenever that is.
pub(crate) struct Discarded<T>(pub(crate) VecDeque<T>);

impl<T> Drop for Discarded<T> {
    fn drop(&mut self) {
        discard_each(mem::take(&mut self.0));
    }
}

/// What a panic said.
fn message(panic: Box<dyn Any + Send>) -> String {
    let message = if let Some(message) = panic.downcast_ref::<&str>() {
        (*message).to_owned()
    } else if let Some(message) = panic.downcast_ref::<String>() {
        message.clone()
    } else {
        String::from("no message")
    };
    // It may be of any type, and its destructor panic in its turn. That panic's is not tried.
    if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        mem::forget(another);
    }
    message
}
