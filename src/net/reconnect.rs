//! A connection that is replaced by another each time it has ended.

use std::cell::{Cell, RefCell};
use std::fmt::{self, Display};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use crate::error::{Close, Result};
use crate::log::{Escaped, log, log_throttled};
use crate::net::endpoint::Begun;
use crate::runtime::Runtime;
use crate::state::ChannelId;
use crate::state::agenda::Task;
use crate::state::connect::Retry;
use crate::time::backoff::{Backoff, Pauses};
use crate::time::timer::TimerId;
use crate::user_code::text_of;
use crate::{Channel, Chat};

/// A handle to a connection that is made again each time it has ended. Returned by
/// [`Connector::reconnect`](crate::Connector::reconnect).
///
/// It is cheap to clone, and dropping it stops nothing. No method calls your code.
#[derive(Clone)]
pub struct Reconnect(Weak<Retrier>);

impl Reconnect {
    /// Makes no further connection. A pause ends at once. A connection that is not up yet ends with
    /// [`Close::Local`]. A connection that is up stays up, and is the last one. To end that one as well,
    /// close its [`chat`](Reconnect::chat): a local close stops the reconnecting too.
    pub fn stop(&self) {
        let Some(retrier) = self.0.upgrade() else {
            return;
        };
        let stage = retrier.stage.get();
        retrier.stop();
        if let Stage::Connecting(id) = stage
            && let Some(runtime) = retrier.runtime.upgrade()
            && let Some(state) = runtime.state(id)
        {
            state.end(Close::Local);
        }
    }

    /// The chat of the connection that is up or on its way. `None` in a pause, and after the last
    /// connection has ended.
    pub fn chat(&self) -> Option<Chat> {
        let retrier = self.0.upgrade()?;
        let id = match retrier.stage.get() {
            Stage::Connecting(id) | Stage::Up { id, .. } => id,
            Stage::Pausing(_) => return None,
            Stage::Stopped(last) => last?,
        };
        let state = retrier.runtime.upgrade()?.state(id)?;
        (!state.has_ended()).then(|| Chat::of(Channel(state)))
    }

    /// Whether there will be no further connection.
    pub fn is_stopped(&self) -> bool {
        let retrier = self.0.upgrade();
        retrier.is_none_or(|retrier| retrier.is_stopped())
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

/// Begins a connection, whose session is still to be made.
type Connect = Box<dyn Fn(&Rc<Runtime>) -> Result<Chat>>;
/// Makes the session: calls the user's factory, and contains its failures.
type MakeSession = Box<dyn FnMut(&Runtime, Begun)>;

/// Makes one connection after another. Its owner is the channel of the connection, or the timer of the
/// pause. Without an owner it is dropped, and the factory with it.
pub(crate) struct Retrier {
    runtime: Weak<Runtime>,
    connect: Connect,
    /// `None` while it is called.
    make_session: Cell<Option<MakeSession>>,
    pauses: RefCell<Pauses>,
    stage: Cell<Stage>,
}

#[derive(Clone, Copy)]
enum Stage {
    Connecting(ChannelId),
    Up {
        id: ChannelId,
        since: Instant,
    },
    /// The timer begins the next connection.
    Pausing(TimerId),
    /// There will be no further connection. The last one may still be up.
    Stopped(Option<ChannelId>),
}

impl Retrier {
    /// Begins the first connection.
    pub(crate) fn start(
        runtime: &Rc<Runtime>,
        backoff: Backoff,
        connect: Connect,
        make_session: MakeSession,
    ) -> Result<Reconnect> {
        let retrier = Rc::new(Retrier {
            runtime: Rc::downgrade(runtime),
            connect,
            make_session: Cell::new(Some(make_session)),
            pauses: RefCell::new(Pauses::new(backoff)),
            stage: Cell::new(Stage::Connecting(ChannelId::NONE)),
        });
        retrier.begin(runtime)?;
        let handle = Reconnect(Rc::downgrade(&retrier));
        let retry: Rc<dyn Retry> = retrier;
        runtime.add_retry(Rc::downgrade(&retry));
        Ok(handle)
    }

    fn begin(self: &Rc<Self>, runtime: &Rc<Runtime>) -> Result {
        let chat = (self.connect)(runtime)?;
        self.stage.set(match self.is_stopped() {
            true => Stage::Stopped(Some(chat.id())),
            false => Stage::Connecting(chat.id()),
        });
        chat.0.set_retry(Rc::clone(self) as Rc<dyn Retry>);
        let (retrier, begun) = (Rc::clone(self), Begun::new(chat));
        runtime.call_soon(move |runtime| {
            if let Some(mut make_session) = retrier.make_session.take() {
                make_session(runtime, begun);
                retrier.make_session.set(Some(make_session));
            }
        });
        Ok(())
    }

    /// Waits before the next connection, after one that was up for so long.
    fn pause(self: &Rc<Self>, runtime: &Runtime, up: Option<Duration>, why: &dyn Display) {
        let chance = runtime.poller.system().random();
        let pause = self.pauses.borrow_mut().next(up, chance);
        let retrier = Rc::clone(self);
        let end_of_pause = move || retrier.begin_next();
        let timer = runtime
            .agenda
            .set_timer(pause, Task::Call(Box::new(end_of_pause)));
        self.stage.set(Stage::Pausing(timer));
        // Last: the subscriber and the text of `why` are user code, which may stop this.
        let why = Escaped(text_of(why));
        log!(info, %why, ?pause, "the next connection follows after a pause");
    }

    fn begin_next(self: &Rc<Self>) {
        let Some(runtime) = self.runtime.upgrade() else {
            return;
        };
        if let Err(error) = self.begin(&runtime) {
            log_throttled!(warn, %error, "a connection could not be begun");
            if !self.is_stopped() {
                self.pause(&runtime, None, &error);
            }
        }
    }

    fn is_stopped(&self) -> bool {
        matches!(self.stage.get(), Stage::Stopped(_))
    }
}

impl Retry for Retrier {
    fn came_up(&self, now: Instant) {
        if let Stage::Connecting(id) = self.stage.get() {
            self.stage.set(Stage::Up { id, since: now });
        }
    }

    fn ended(self: Rc<Self>, why: &Close) {
        let Some(runtime) = self.runtime.upgrade() else {
            return;
        };
        let was_closed_here = matches!(why, Close::Local | Close::Shutdown);
        if was_closed_here || self.is_stopped() {
            self.stage.set(Stage::Stopped(None));
            // What the factory has captured is the user's: it is dropped by a call of the loop.
            return runtime.agenda.drop_later(self);
        }
        let up = match self.stage.get() {
            Stage::Up { since, .. } => Some(runtime.now().saturating_duration_since(since)),
            _ => None,
        };
        self.pause(&runtime, up, why);
    }

    fn stop(&self) {
        let last = match self.stage.get() {
            Stage::Connecting(id) | Stage::Up { id, .. } => Some(id),
            Stage::Pausing(timer) => {
                if let Some(runtime) = self.runtime.upgrade() {
                    runtime.agenda.cancel_timer(timer);
                }
                None
            }
            Stage::Stopped(last) => last,
        };
        self.stage.set(Stage::Stopped(last));
    }
}
