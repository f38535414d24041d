//! A connection that is made again whenever it has ended.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::{Rc, Weak};
use std::time::Instant;

use crate::Chat;
use crate::backoff::{Backoff, Pauses};
use crate::contain::text_of;
use crate::error::{Close, Result};
use crate::event_loop::EventLoop;
use crate::home::{Home, Task};
use crate::registry::ChannelId;
use crate::state::Phase;
use crate::timer::TimerId;
use crate::told::{Escaped, log, told};

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
        EventLoop(retrying.home.upgrade()?).chat(retrying.current.get())
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
type Start = Box<dyn Fn(&Rc<Home>) -> Result<Chat>>;
/// Makes it: calls the user's factory, with its panics contained.
type Make = Box<dyn FnMut(&Home, Chat)>;

/// What makes the connections. Its connection holds it, or the timer of its pause does, and nobody
/// else: when it is let go of it is over, and the factory is dropped.
pub(crate) struct Retrying {
    home: Weak<Home>,
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
        home: &Rc<Home>,
        backoff: Backoff,
        start: Start,
        make: Make,
    ) -> Result<Reconnect> {
        let retrying = Rc::new(Retrying {
            home: Rc::downgrade(home),
            start,
            make: Cell::new(Some(make)),
            pauses: RefCell::new(Pauses::new(backoff)),
            current: Cell::new(ChannelId::NOBODY),
            up_since: Cell::new(None),
            pause: Cell::new(None),
            stopped: Cell::new(false),
            times_closed: home.times_closed.get(),
        });
        retrying.connect(home)?;
        Ok(Reconnect(Rc::downgrade(&retrying)))
    }

    fn connect(self: &Rc<Self>, home: &Rc<Home>) -> Result {
        self.up_since.set(None);
        let chat = (self.start)(home)?;
        self.current.set(chat.id());
        chat.0.set_retrying(Rc::clone(self));
        let retrying = Rc::clone(self);
        home.call_soon(Box::new(move |home| {
            if let Some(mut make) = retrying.make.take() {
                make(home, chat);
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
    pub(crate) fn ended(self: Rc<Self>, home: &Rc<Home>, why: &Close) {
        let done = matches!(why, Close::Local | Close::Shutdown);
        let all_closed = self.times_closed != home.times_closed.get();
        if done || all_closed || self.stopped.get() || home.is_shutting_down() {
            self.stopped.set(true);
            // What the factory has captured is the user's to drop: as a call of the loop's.
            return home.call_soon(Box::new(move |_| drop(self)));
        }
        self.pause(home, &text_of(why));
    }

    fn pause(self: Rc<Self>, home: &Rc<Home>, why: &str) {
        let up_for = |since| home.now().saturating_duration_since(since);
        let up = self.up_since.get().map(up_for);
        let pause = self.pauses.borrow_mut().next(up, home.poller.chance());
        log!(info, why = %Escaped(why), ?pause, "connecting again after a pause");
        let (retrying, of_loop) = (Rc::clone(&self), Rc::downgrade(home));
        let again = move || {
            if let Some(home) = of_loop.upgrade() {
                retrying.again(&home);
            }
        };
        let timer = home.set_timer(pause, Task::Call(Box::new(again)));
        self.pause.set(Some(timer));
        home.pauses.borrow_mut().insert(timer);
    }

    /// The pause is over.
    fn again(self: Rc<Self>, home: &Rc<Home>) {
        if let Some(timer) = self.pause.take() {
            home.pauses.borrow_mut().remove(&timer);
        }
        if let Err(error) = self.connect(home) {
            told!(warn, %error, "a connection could not be begun");
            self.pause(home, &error.to_string());
        }
    }

    fn stop(&self) {
        self.stopped.set(true);
        let Some(home) = self.home.upgrade() else {
            return;
        };
        if let Some(timer) = self.pause.take() {
            home.pauses.borrow_mut().remove(&timer);
            home.cancel_timer(timer);
        }
        let core = home.core(self.current.get());
        if let Some(core) = core.filter(|core| core.phase.get() == Phase::Connecting) {
            core.end(Close::Local);
        }
    }
}

impl Home {
    /// Ends what only waits to connect again.
    pub(crate) fn end_pauses(&self) {
        for timer in self.pauses.take() {
            self.cancel_timer(timer);
        }
    }
}
