//! The signals of a loop, and the calls that it runs for them.

use std::cell::{OnceCell, RefCell};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::serial;
use crate::state::agenda::Agenda;
use crate::state::inbox::{Inbox, Post};
use crate::sys::signals::{SignalThread, check_signal};
use crate::user_code::{contain, discard, discard_each};

/// Identifies a call that was registered for a signal, in order to [`cancel`](crate::signal::cancel) it.
///
/// A process never uses an id twice. In another loop, and after the call was cancelled, `cancel` does nothing
/// with it and returns `false`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SignalId(u64);

type Call = Box<dyn FnMut()>;

/// The signals of a loop, and their calls.
#[derive(Default)]
pub(crate) struct Signals {
    thread: OnceCell<SignalThread>,
    /// In the order of their registration.
    calls: RefCell<Vec<Registered>>,
}

struct Registered {
    id: SignalId,
    signals: Vec<i32>,
    /// Absent while it runs.
    call: Option<Call>,
}

impl Signals {
    /// Registers `call` for each of these signals.
    ///
    /// # Errors
    /// When a signal cannot be handled, or the system has no thread or descriptor left.
    pub(crate) fn on(
        &self,
        inbox: &Arc<Inbox>,
        signals: &[i32],
        call: Call,
    ) -> Result<SignalId, Error> {
        for &signal in signals {
            let waits = self.wait_for(inbox, signal);
            waits.map_err(|error| error.context(format_args!("wait for signal {signal}")))?;
        }
        let id = SignalId(serial::next());
        self.calls.borrow_mut().push(Registered {
            id,
            signals: signals.to_vec(),
            call: Some(call),
        });
        Ok(id)
    }

    fn wait_for(&self, inbox: &Arc<Inbox>, signal: i32) -> Result<(), Error> {
        check_signal(signal)?;
        let thread = match self.thread.get() {
            Some(thread) => thread,
            None => {
                let inbox = Arc::clone(inbox);
                let deliver = move |signal| inbox.send(Post::Signal(signal)).is_ok();
                let thread = SignalThread::start(deliver)?;
                self.thread.get_or_init(|| thread)
            }
        };
        Ok(thread.add(signal)?)
    }

    /// Removes a call. Returns whether it was registered. The loop drops the call, because the destructor of what
    /// a closure has captured is user code.
    pub(crate) fn cancel(&self, agenda: &Agenda, id: SignalId) -> bool {
        let Some(index) = self.position(id) else {
            return false;
        };
        let removed = self.calls.borrow_mut().remove(index);
        if let Some(call) = removed.call {
            agenda.drop_later(call);
        }
        true
    }

    /// Drops the calls, because the loop is gone.
    pub(crate) fn drop_calls(&self) {
        let calls = self.calls.take();
        discard_each(calls.into_iter().map(|registered| registered.call));
    }

    /// Runs the calls that are registered for this signal, unless one of them cancels another.
    pub(super) fn run_calls(&self, signal: i32) {
        let registered = self.calls.borrow();
        let of_signal = registered.iter().filter(|it| it.signals.contains(&signal));
        let ids: Vec<_> = of_signal.map(|it| it.id).collect();
        drop(registered);
        for id in ids {
            let Some(mut call) = self.with(id, |it| it.call.take()).flatten() else {
                continue;
            };
            contain(&mut call);
            let mut call = Some(call);
            self.with(id, |it| it.call = call.take());
            // It has cancelled itself.
            discard(call);
        }
    }

    fn with<T>(&self, id: SignalId, act: impl FnOnce(&mut Registered) -> T) -> Option<T> {
        let index = self.position(id)?;
        self.calls.borrow_mut().get_mut(index).map(act)
    }

    fn position(&self, id: SignalId) -> Option<usize> {
        self.calls.borrow().iter().position(|it| it.id == id)
    }
}
