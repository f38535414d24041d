//! A connection that is made again whenever it has ended.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::{Rc, Weak};
use std::time::Instant;

use crate::Chat;
use crate::error::{Close, Result};
use crate::event_loop::EventLoop;
use crate::log::{Escaped, log, log_throttled};
use crate::runtime::registry::ChannelId;
use crate::runtime::{Runtime, Task};
use crate::state::Phase;
use crate::time::backoff::{Backoff, Pauses};
use crate::time::timer::TimerId;
use crate::user_code::text_of;

/// A connection that is made again whenever it has ended, as
/// [`Connector::reconnect`](crate::Connector::reconnect) returns it.
///
/// It is a handle: cheap to clone, and dropping it stops nothing. No method calls your code.
#[derive(Clone)]
pub struct Reconnect(Weak<Retrying>);

impl Reconnect {
    /// Makes no other connection. One that is up stays so, and is the last; one under way is given
    /// up ([`Close::Local`]); a pause is ended. To end a connection that is up as well, close its
    /// [`chat`](Reconnect::chat): then there is no need to stop.
    pub fn stop(&self) {
        if let Some(retrying) = self.0.upgrade() {
            retrying.stop();
        }
    }

    /// The chat of the connection that is under way or up; `None` in a pause, and when it has ended
    /// for good.
    pub fn chat(&self) -> Option<Chat> {
        let retrying = self.0.upgrade()?;
        EventLoop(retrying.runtime.upgrade()?).chat(retrying.current.get())
    }

    /// Whether there will be no other connection.
    pub fn is_stopped(&self) -> bool {
        let retrying = self.0.upgrade();
        retrying.is_none_or(|retrying| retrying.stopped.get())
    }
}

impl fmt::Debug for Reconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconnect")
            .field("chat", &self.chat())
            .field("stopped", &self.is_stopped())
            .finish()
    }
}

/// Begins a connection, whose handler is still to be made.
type Start = Box<dyn Fn(&Rc<Runtime>) -> Result<Chat>>;
/// Makes it: calls the user's factory, with its panics contained.
type Make = Box<dyn FnMut(&Runtime, Chat)>;

/// What makes the connections. Its connection holds it, or the timer of its pause does, and nobody
/// else: when it is let go of it is over, and the factory is dropped.
pub(crate) struct Retrying {
    runtime: Weak<Runtime>,
    start: Start,
    /// Absent while it is called.
    make: Cell<Option<Make>>,
    pauses: RefCell<Pauses>,
    current: Cell<ChannelId>,
    up_since: Cell<Option<Instant>>,
    pause: Cell<Option<TimerId>>,
    stopped: Cell<bool>,
    /// How often all channels of the loop had been closed when this began.
    times_closed: u64,
}

impl Retrying {
    pub(crate) fn begin(
        runtime: &Rc<Runtime>,
        backoff: Backoff,
        start: Start,
        make: Make,
    ) -> Result<Reconnect> {
        let retrying = Rc::new(Retrying {
            runtime: Rc::downgrade(runtime),
            start,
            make: Cell::new(Some(make)),
            pauses: RefCell::new(Pauses::new(backoff)),
            current: Cell::new(ChannelId::NOBODY),
            up_since: Cell::new(None),
            pause: Cell::new(None),
            stopped: Cell::new(false),
            times_closed: runtime.times_closed.get(),
        });
        retrying.connect(runtime)?;
        Ok(Reconnect(Rc::downgrade(&retrying)))
    }

    fn connect(self: &Rc<Self>, runtime: &Rc<Runtime>) -> Result {
        self.up_since.set(None);
        let chat = (self.start)(runtime)?;
        self.current.set(chat.id());
        chat.0.set_retrying(Rc::clone(self));
        let retrying = Rc::clone(self);
        runtime.call_soon(Box::new(move |runtime| {
            if let Some(mut make) = retrying.make.take() {
                make(runtime, chat);
                retrying.make.set(Some(make));
            }
        }));
        Ok(())
    }

    /// Its connection is up.
    pub(crate) fn came_up(&self, now: Instant) {
        self.up_since.set(Some(now));
    }

    /// Its connection has ended, and that has been told.
    pub(crate) fn ended(self: Rc<Self>, runtime: &Rc<Runtime>, why: &Close) {
        let done = matches!(why, Close::Local | Close::Shutdown);
        let all_closed = self.times_closed != runtime.times_closed.get();
        if done || all_closed || self.stopped.get() || runtime.is_shutting_down() {
            self.stopped.set(true);
            // What the factory has captured is the user's to drop: as a call of the loop's.
            return runtime.call_soon(Box::new(move |_| drop(self)));
        }
        self.pause(runtime, &text_of(why));
    }

    fn pause(self: Rc<Self>, runtime: &Rc<Runtime>, why: &str) {
        let up_for = |since| runtime.now().saturating_duration_since(since);
        let up = self.up_since.get().map(up_for);
        let pause = self
            .pauses
            .borrow_mut()
            .next(up, runtime.poller.system().random());
        log!(info, why = %Escaped(why), ?pause, "connecting again after a pause");
        let (retrying, of_loop) = (Rc::clone(&self), Rc::downgrade(runtime));
        let again = move || {
            if let Some(runtime) = of_loop.upgrade() {
                retrying.again(&runtime);
            }
        };
        let timer = runtime.set_timer(pause, Task::Call(Box::new(again)));
        self.pause.set(Some(timer));
        runtime.pauses.borrow_mut().insert(timer);
    }

    /// The pause is over.
    fn again(self: Rc<Self>, runtime: &Rc<Runtime>) {
        if let Some(timer) = self.pause.take() {
            runtime.pauses.borrow_mut().remove(&timer);
        }
        if let Err(error) = self.connect(runtime) {
            log_throttled!(warn, %error, "a connection could not be begun");
            self.pause(runtime, &error.to_string());
        }
    }

    fn stop(&self) {
        self.stopped.set(true);
        let Some(runtime) = self.runtime.upgrade() else {
            return;
        };
        if let Some(timer) = self.pause.take() {
            runtime.pauses.borrow_mut().remove(&timer);
            runtime.cancel_timer(timer);
        }
        let state = runtime.state(self.current.get());
        if let Some(state) = state.filter(|state| state.phase.get() == Phase::Connecting) {
            state.end(Close::Local);
        }
    }
}

impl Runtime {
    /// Ends what only waits to connect again.
    pub(crate) fn end_pauses(&self) {
        for timer in self.pauses.take() {
            self.cancel_timer(timer);
        }
    }
}
