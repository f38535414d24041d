//! A connection that is replaced by another each time it has ended.

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt::{self, Display};
use std::io;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use crate::error::{Close, Error, Result};
use crate::log::{Escaped, log, log_throttled};
use crate::net::endpoint::PendingSession;
use crate::runtime::Runtime;
use crate::state::ChannelId;
use crate::state::agenda::Task;
use crate::state::connect::Retry;
use crate::time::backoff::{Backoff, Pauses};
use crate::time::timer::TimerId;
use crate::user_code::{discard_each, text_of};
use crate::{Channel, Chat};

/// A handle to a connection that is made again each time it has ended. Returned by
/// [`Connector::reconnect`](crate::Connector::reconnect).
///
/// It is cheap to clone, and dropping it stops nothing. No method calls your code.
///
/// A program that tries three times and then exits with status 1:
///
/// ```
/// use std::time::Duration;
/// use asynchat::{Backoff, Connector};
///
/// # fn example() -> asynchat::Result {
/// let backoff = Backoff::default().tries(3).initial(Duration::from_millis(1));
/// let feed = Connector::new("127.0.0.1:9").reconnect(backoff, |_| |_: &[u8]| Ok(()))?;
/// asynchat::run()?;
/// feed.outcome()?; // gave up after 3 tries: could not connect: ...
/// # Ok(()) }
/// # assert!(example().is_err());
/// ```
#[derive(Clone)]
pub struct Reconnect {
    retrier: Weak<Retrier>,
    runtime: Weak<Runtime>,
    failure: Rc<OnceCell<Failure>>,
}

/// Why there is no further connection, although this side did not want that.
struct Failure {
    tries: u32,
    why: String,
    kind: Option<io::ErrorKind>,
}

type OnEnd = Box<dyn FnOnce(Result<(), Error>)>;

impl Reconnect {
    /// How the reconnection has ended: with an error if it [gave up](Backoff#structfield.tries). The error has
    /// the reason of the last failed connection as its text, and the kind of its i/o error, if it was one.
    /// `Ok` as long as it goes on, and when this side has ended it, in the ways that
    /// [`Connector::reconnect`](crate::Connector::reconnect) lists.
    ///
    /// # Errors
    /// When the reconnection gave up.
    pub fn outcome(&self) -> Result<(), Error> {
        outcome(&self.failure)
    }

    /// Makes the loop call `call` with the [outcome](Reconnect::outcome), once, when there will be no further
    /// connection and the last one has ended. If that is so already, in the next turn. Several calls are made in
    /// the order in which they were set. A panic is logged. If the loop is dropped before, the call is dropped
    /// uncalled.
    ///
    /// ```no_run
    /// # use asynchat::{Backoff, Connector};
    /// # fn main() -> asynchat::Result {
    /// let feed = Connector::new("feed.example.org:7007")
    ///     .reconnect(Backoff::default().tries(10), |_| |_: &[u8]| Ok(()))?;
    /// feed.on_end(|outcome| {
    ///     if let Err(error) = outcome {
    ///         eprintln!("no more news: {error}");
    ///         asynchat::stop();
    ///     }
    /// });
    /// # Ok(()) }
    /// ```
    pub fn on_end(&self, call: impl FnOnce(Result<(), Error>) + 'static) {
        match self
            .retrier
            .upgrade()
            .filter(|retrier| !retrier.has_ended())
        {
            Some(retrier) => {
                let mut calls = retrier.on_end.take();
                calls.push(Box::new(call));
                retrier.on_end.set(calls);
            }
            None => {
                if let Some(runtime) = self.runtime.upgrade() {
                    report_end(&runtime, &self.failure, call);
                }
            }
        }
    }

    /// Makes no further connection. A pause ends at once. A connection that is not up yet ends with
    /// [`Close::Dropped`]. A connection that is up stays up, and is the last one. To end that one as well,
    /// close its [`chat`](Reconnect::chat): a local close stops the reconnecting too.
    pub fn stop(&self) {
        let Some(retrier) = self.retrier.upgrade() else {
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
        let retrier = self.retrier.upgrade()?;
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
        let retrier = self.retrier.upgrade();
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

fn outcome(failure: &OnceCell<Failure>) -> Result<(), Error> {
    let Some(Failure { tries, why, kind }) = failure.get() else {
        return Ok(());
    };
    let error = match kind {
        Some(kind) => Error::new(io::Error::new(*kind, why.clone())),
        None => Error::new(why.clone()),
    };
    let tries = match tries {
        1 => String::from("1 try"),
        tries => format!("{tries} tries"),
    };
    Err(error.context(format_args!("gave up after {tries}")))
}

/// Defers the call with the outcome.
fn report_end(
    runtime: &Rc<Runtime>,
    failure: &Rc<OnceCell<Failure>>,
    call: impl FnOnce(Result<(), Error>) + 'static,
) {
    let failure = Rc::clone(failure);
    runtime.call_soon(move |_| call(outcome(&failure)));
}

/// Begins a connection, whose session is still to be made.
type Connect = Box<dyn Fn(&Rc<Runtime>) -> Result<Chat, Error>>;
/// Makes the session: calls the user's factory, and contains its failures.
type MakeSession = Box<dyn FnMut(&Runtime, PendingSession)>;

/// Makes one connection after another. Its owner is the channel of the connection, or the timer of the
/// pause. Without an owner it is dropped, and the factory with it.
pub(crate) struct Retrier {
    runtime: Weak<Runtime>,
    connect: Connect,
    /// `None` while it is called.
    make_session: Cell<Option<MakeSession>>,
    pauses: RefCell<Pauses>,
    stage: Cell<Stage>,
    failure: Rc<OnceCell<Failure>>,
    /// The calls with the outcome.
    on_end: Cell<Vec<OnEnd>>,
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
    ) -> Result<Reconnect, Error> {
        let retrier = Rc::new(Retrier {
            runtime: Rc::downgrade(runtime),
            connect,
            make_session: Cell::new(Some(make_session)),
            pauses: RefCell::new(Pauses::new(backoff)),
            stage: Cell::new(Stage::Connecting(ChannelId::NONE)),
            failure: Rc::default(),
            on_end: Cell::default(),
        });
        retrier.begin(runtime)?;
        let handle = Reconnect {
            retrier: Rc::downgrade(&retrier),
            runtime: Rc::downgrade(runtime),
            failure: Rc::clone(&retrier.failure),
        };
        let retry: Rc<dyn Retry> = retrier;
        runtime.add_retry(Rc::downgrade(&retry));
        Ok(handle)
    }

    fn begin(self: &Rc<Self>, runtime: &Rc<Runtime>) -> Result<(), Error> {
        let chat = (self.connect)(runtime)?;
        self.stage.set(if self.is_stopped() {
            Stage::Stopped(Some(chat.id()))
        } else {
            Stage::Connecting(chat.id())
        });
        chat.state().set_retry(Rc::clone(self) as Rc<dyn Retry>);
        let (retrier, pending) = (Rc::clone(self), PendingSession(chat));
        runtime.call_soon(move |runtime| {
            if let Some(mut make_session) = retrier.make_session.take() {
                make_session(runtime, pending);
                retrier.make_session.set(Some(make_session));
            }
        });
        Ok(())
    }

    /// Waits before the next connection, unless the last one was the last try. `up` is how long it was
    /// established.
    fn pause(self: &Rc<Self>, runtime: &Rc<Runtime>, up: Option<Duration>, why: Why<'_>) {
        let chance = runtime.poller.system().random();
        let pause = self.pauses.borrow_mut().next(up, chance);
        let Some(pause) = pause else {
            return self.give_up(runtime, why);
        };
        let retrier = Rc::clone(self);
        let end_of_pause = move || retrier.begin_next();
        let timer = runtime
            .agenda
            .set_timer(pause, Task::Call(Box::new(end_of_pause)));
        self.stage.set(Stage::Pausing(timer));
        // Last: the subscriber and the text of `why` are user code, which may stop this.
        let why = Escaped(text_of(why.text));
        log!(info, %why, ?pause, "the next connection follows after a pause");
    }

    fn give_up(self: &Rc<Self>, runtime: &Rc<Runtime>, why: Why<'_>) {
        let failure = Failure {
            tries: self.pauses.borrow().failed(),
            why: text_of(why.text),
            kind: why.kind,
        };
        let (tries, text) = (failure.tries, Escaped(failure.why.clone()));
        // It gives up once.
        let _ = self.failure.set(failure);
        self.end(runtime);
        runtime.agenda.drop_later(Rc::clone(self));
        log_throttled!(warn, tries, why = %text, "no further connection is tried");
    }

    /// There will be no further connection, and the last one has ended.
    fn end(&self, runtime: &Rc<Runtime>) {
        self.stage.set(Stage::Stopped(None));
        for call in self.on_end.take() {
            report_end(runtime, &self.failure, call);
        }
    }

    fn begin_next(self: &Rc<Self>) {
        let Some(runtime) = self.runtime.upgrade() else {
            return;
        };
        self.stage.set(Stage::Connecting(ChannelId::NONE));
        if let Err(error) = self.begin(&runtime) {
            log_throttled!(warn, %error, "a connection could not be begun");
            if self.is_stopped() {
                return self.end(&runtime);
            }
            let kind = error.io_kind();
            self.pause(&runtime, None, Why { text: &error, kind });
        }
    }

    fn is_stopped(&self) -> bool {
        matches!(self.stage.get(), Stage::Stopped(_))
    }

    fn has_ended(&self) -> bool {
        matches!(self.stage.get(), Stage::Stopped(None))
    }
}

impl Drop for Retrier {
    /// The destructors of these calls and that of the factory are the user's. Two panics of them must not meet.
    fn drop(&mut self) {
        discard_each(self.on_end.take());
    }
}

/// Why a connection has ended.
#[derive(Clone, Copy)]
struct Why<'a> {
    text: &'a dyn Display,
    kind: Option<io::ErrorKind>,
}

impl<'a> Why<'a> {
    fn of(why: &'a Close) -> Self {
        let kind = match why {
            Close::ConnectFailed(error) => error.io_kind(),
            Close::Io(error) => Some(error.kind()),
            Close::Reset => Some(io::ErrorKind::ConnectionReset),
            _ => None,
        };
        Why { text: why, kind }
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
        let was_closed_here = why.is_local();
        if was_closed_here || self.is_stopped() {
            self.end(&runtime);
            // What the factory has captured is the user's: it is dropped by a call of the loop.
            return runtime.agenda.drop_later(self);
        }
        let up = match self.stage.get() {
            Stage::Up { since, .. } => Some(runtime.now().saturating_duration_since(since)),
            _ => None,
        };
        self.pause(&runtime, up, Why::of(why));
    }

    fn stop(&self) {
        match self.stage.get() {
            Stage::Connecting(id) | Stage::Up { id, .. } => {
                self.stage.set(Stage::Stopped(Some(id)));
            }
            Stage::Pausing(timer) => {
                if let Some(runtime) = self.runtime.upgrade() {
                    runtime.agenda.cancel_timer(timer);
                    self.end(&runtime);
                }
            }
            Stage::Stopped(_) => {}
        }
    }
}
