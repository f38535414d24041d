//! The signals of a loop, and the calls that it runs for them.

use std::cell::{OnceCell, RefCell};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::state::inbox::{Inbox, Post};
use crate::sys::signals::{SignalThread, check_signal};
use crate::user_code::{contain, discard_each};

type Call = Box<dyn FnMut()>;

/// The signals of a loop, and their calls.
#[derive(Default)]
pub(crate) struct Signals {
    thread: OnceCell<SignalThread>,
    /// In the order of their registration. No entry is ever removed. A call is absent while it runs.
    calls: RefCell<Vec<(i32, Option<Call>)>>,
}

impl Signals {
    /// Registers `call` for this signal.
    ///
    /// # Errors
    /// When the signal cannot be handled, or the system has no thread or descriptor left.
    pub(crate) fn on(&self, inbox: &Arc<Inbox>, signal: i32, call: Call) -> Result<(), Error> {
        let context = |error| Error::from(error).context(format_args!("wait for signal {signal}"));
        check_signal(signal).map_err(context)?;
        let thread = match self.thread.get() {
            Some(thread) => thread,
            None => {
                let inbox = Arc::clone(inbox);
                let deliver = move |signal| inbox.send(Post::Signal(signal)).is_ok();
                let thread = SignalThread::start(deliver).map_err(context)?;
                self.thread.get_or_init(|| thread)
            }
        };
        thread.add(signal).map_err(context)?;
        self.calls.borrow_mut().push((signal, Some(call)));
        Ok(())
    }

    /// Drops the calls, because the loop is gone.
    pub(crate) fn drop_calls(&self) {
        discard_each(self.calls.take());
    }

    /// Runs the calls for this signal.
    pub(super) fn run_calls(&self, signal: i32) {
        let count = self.calls.borrow().len();
        for index in 0..count {
            let take = |(number, call): &mut (i32, Option<Call>)| match *number == signal {
                true => call.take(),
                false => None,
            };
            let call = self.calls.borrow_mut().get_mut(index).and_then(take);
            let Some(mut call) = call else { continue };
            contain(&mut call);
            if let Some((_, slot)) = self.calls.borrow_mut().get_mut(index) {
                *slot = Some(call);
            }
        }
    }
}
