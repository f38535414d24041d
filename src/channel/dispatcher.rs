//! Layer 1: a socket and its callbacks.

use std::any::Any;
use std::io;
use std::rc::Rc;

use crate::error::{Close, Error, Result};
use crate::log::{Escaped, log, log_throttled};
use crate::net::attempts::Progress;
use crate::runtime::Runtime;
use crate::state::{Broken, ChannelState, Phase};
use crate::sys::interest::{Interest, Ready};
use crate::sys::socket::{Fd, Socket, is_protocol_error};
use crate::time::timer::TimerId;
use crate::user_code::{self, discard};
use crate::{Addr, Channel};

/// A socket and what is to be done when something happens to it: asyncore's `dispatcher`.
///
/// The loop calls, one callback at a time, and never from inside a method of one of its handles:
/// while a callback runs, whatever it calls on its own channel or another's only takes note. A
/// callback that returns an error, or panics, ends its own channel and no other:
/// [`handle_error`](Dispatcher::handle_error), then [`handle_close`](Dispatcher::handle_close).
/// An error of kind `WouldBlock` from a callback means "later" and closes nothing (bpo-16133).
///
/// For a protocol of lines or other delimited records, [`AsyncChat`](crate::AsyncChat) is less
/// work.
///
/// ```
/// use asynchat::{Channel, Dispatcher, Result};
///
/// /// Discards what it is sent (RFC 863).
/// struct Discard { channel: Channel, received: usize }
///
/// impl Dispatcher for Discard {
///     fn channel(&self) -> &Channel { &self.channel }
///     fn handle_read(&mut self) -> Result {
///         self.received += self.channel.recv(&mut [0; 4096])?;
///         Ok(())
///     }
/// }
/// ```
pub trait Dispatcher: Any {
    /// The channel that it owns. Asked once, by [`register`](crate::register).
    fn channel(&self) -> &Channel;

    /// Whether it wants to be told of input. Asked after each of its callbacks and each touch of
    /// its channel.
    fn readable(&self) -> bool {
        true
    }

    /// Whether it has something to send: then `handle_write` is called until it has not. Asked as
    /// [`readable`](Dispatcher::readable) is. It is false unless you say so: asyncore's was true,
    /// which kept a core busy (42,461 polls in 0.2 s).
    fn writable(&self) -> bool {
        false
    }

    /// A connection was accepted; only for channels that listen. Hand the socket to
    /// [`Channel::adopt`], or drop it, which closes it.
    ///
    /// # Errors
    /// An error costs that one connection: it is told to `handle_error`, and accepting goes on.
    fn handle_accepted(&mut self, socket: Socket, peer: Addr) -> Result {
        drop(socket);
        let peer = Escaped(peer);
        log_throttled!(warn, %peer, "unhandled connection: handle_accepted is not implemented");
        Ok(())
    }

    /// An outgoing connection is up. Not called for accepted or adopted ones, as in asyncore.
    ///
    /// # Errors
    /// An error closes the channel.
    fn handle_connect(&mut self) -> Result {
        Ok(())
    }

    /// There is input, or the end of it: call [`Channel::recv`].
    ///
    /// # Errors
    /// An error closes the channel, but for `WouldBlock`.
    fn handle_read(&mut self) -> Result {
        log_throttled!(warn, "unhandled read event: closing");
        self.channel().close();
        Ok(())
    }

    /// The kernel takes output, and [`writable`](Dispatcher::writable) is true: call
    /// [`Channel::send`]. The first call comes at once, without asking the poller: most of the
    /// time there is room.
    ///
    /// # Errors
    /// An error closes the channel, but for `WouldBlock`.
    fn handle_write(&mut self) -> Result {
        Ok(())
    }

    /// There is out-of-band data (TCP urgent data), which is discarded afterwards. A chat has no such
    /// callback: it receives urgent data in its place in the stream (SO_OOBINLINE).
    ///
    /// # Errors
    /// An error closes the channel.
    fn handle_expt(&mut self) -> Result {
        log!(debug, "out-of-band data is discarded");
        Ok(())
    }

    /// A timer of its channel is due: [`Channel::call_later`], [`Channel::call_every`].
    ///
    /// # Errors
    /// An error closes the channel.
    fn handle_timer(&mut self, timer: TimerId) -> Result {
        let _ = timer;
        Ok(())
    }

    /// The loop has begun to shut down: for chats, whose sessions have a callback for it.
    #[doc(hidden)]
    fn begin_shutdown(&mut self) -> Result {
        Ok(())
    }

    /// A callback returned this error, and the channel is about to be closed. By default it is
    /// logged as a `tracing` event: at most ten of these a second, control characters escaped.
    fn handle_error(&mut self, error: &Error) {
        log_throttled!(warn, error = %Escaped(error), "a callback failed");
    }

    /// The channel has ended, and this is why: exactly once, and the last call. Its socket is
    /// closed already, or out of its hands; the dispatcher is dropped next.
    fn handle_close(&mut self, why: &Close) {
        let _ = why;
    }
}

/// What the loop calls: one virtual call for an event, all callbacks in it statically bound.
pub(crate) trait Driven: Any {
    /// Makes the calls that come before any other: that an accepted connection is up, and that
    /// the loop shuts down.
    fn announce(&mut self, state: &Rc<ChannelState>) -> Result;
    /// Acts on what happened, and on what was asked for in the meantime; says what to watch for.
    fn turn(
        &mut self,
        state: &Rc<ChannelState>,
        runtime: &Rc<Runtime>,
        ready: Ready,
    ) -> Result<Interest>;
    fn timer(&mut self, timer: TimerId) -> Result;
    fn error(&mut self, error: &Error);
    fn close(&mut self, why: &Close);
    fn handler(&mut self) -> &mut dyn Any;
}

impl<D: Dispatcher> Driven for D {
    fn announce(&mut self, state: &Rc<ChannelState>) -> Result {
        let is_due = state.announce.get() || state.chat.shutdown_due.get();
        if !is_due || state.phase.get() != Phase::Open {
            return Ok(());
        }
        if state.announce.take() {
            make_callback(state, || self.handle_connect())?;
        }
        if state.chat.shutdown_due.take() && !state.is_ending() {
            make_callback(state, || self.begin_shutdown())?;
        }
        Ok(())
    }

    fn turn(
        &mut self,
        state: &Rc<ChannelState>,
        runtime: &Rc<Runtime>,
        ready: Ready,
    ) -> Result<Interest> {
        match state.phase.get() {
            Phase::Connecting => match state.advance_connection(runtime) {
                Progress::Waiting | Progress::Failed => return Ok(Interest::NONE),
                Progress::Up => make_callback(state, || self.handle_connect())?,
            },
            Phase::Listening if ready.read => accept(self, state, runtime)?,
            Phase::Open => self.announce(state)?,
            Phase::Listening => {}
            Phase::Closed => return Ok(Interest::NONE),
        }
        let open = || !state.is_ending();
        if ready.urgent && open() {
            // What a chat's socket does not receive inline is lost: a chat has no use for it.
            if !state.chat.is_chat.get() {
                make_callback(state, || self.handle_expt())?;
            }
            state.drop_out_of_band();
        }
        if state.phase.get() == Phase::Open {
            let input = (ready.read && !state.eof.get()) || state.held.get();
            let reads = !state.paused.get() && self.readable();
            if input && open() && reads {
                make_callback(state, || self.handle_read())?;
            } else if ready.hung_up && open() && (!reads || state.eof.get()) && state.can_hang_up()
            {
                state.hang_up();
            }
            if ready.write {
                state.blocked.set(false);
            }
            if open() && !state.blocked.get() && may_send(state) && self.writable() {
                make_callback(state, || self.handle_write())?;
            }
        }
        if !open() {
            return Ok(Interest::NONE);
        }
        Ok(self.wants(state, runtime))
    }

    fn timer(&mut self, timer: TimerId) -> Result {
        self.handle_timer(timer)
    }

    fn error(&mut self, error: &Error) {
        self.handle_error(error);
    }

    fn close(&mut self, why: &Close) {
        self.handle_close(why);
    }

    fn handler(&mut self) -> &mut dyn Any {
        self
    }
}

/// What follows a turn's callbacks.
trait Wants: Dispatcher {
    fn wants(&self, state: &Rc<ChannelState>, runtime: &Rc<Runtime>) -> Interest;
}

impl<D: Dispatcher> Wants for D {
    fn wants(&self, state: &Rc<ChannelState>, runtime: &Rc<Runtime>) -> Interest {
        let readable = self.readable() && !state.paused.get() && !state.starved.get();
        let writable = state.phase.get() == Phase::Open && may_send(state) && self.writable();
        if state.has_failed_sending() && state.end_if_useless(readable) {
            return Interest::NONE;
        }
        // It does not wait for the kernel any more: when it writes again it just tries.
        if !writable && state.blocked.replace(false) {
            state.time(|clocks, _| clocks.drained());
        }
        if !writable && state.draining.get() {
            state.end(Close::Shutdown);
            return Interest::NONE;
        }
        if !writable && state.eof.get() && !state.half_open.get() && !state.held.get() {
            state.end(match state.take_send_error() {
                Some(error) => Close::from_io(error),
                None => Close::Eof,
            });
            return Interest::NONE;
        }
        // What needs no event from the kernel gets its turn from the loop's ready list.
        let due = state.chat.shutdown_due.get();
        if due || (state.held.get() && readable) || (writable && !state.blocked.get()) {
            runtime.again(state);
        }
        let interest = Interest::new(
            readable && !state.eof.get(),
            writable && state.blocked.get(),
        );
        if interest.is_none() && state.phase.get() == Phase::Open && state.can_hang_up() {
            return Interest::HANG_UP;
        }
        interest
    }
}

/// Makes a callback. If a dispatcher passes on `WouldBlock`, nothing has failed. If it passes on the
/// error of a send or a receive that it made in this callback, the connection ends for that reason. Any
/// other error, and every error of a session, which has no socket, is an error of the handler.
#[inline]
pub(crate) fn make_callback(state: &Rc<ChannelState>, callback: impl FnOnce() -> Result) -> Result {
    if state.chat.is_chat.get() {
        return callback();
    }
    state.broken.set(None);
    let Err(error) = callback() else {
        return Ok(());
    };
    let Some(kind) = error.io_kind() else {
        return Err(error);
    };
    match state.broken.take() {
        _ if kind == io::ErrorKind::WouldBlock => {}
        Some((Broken::Receiving, failed)) if failed == kind => {
            state.end(Close::from_io(error.into()));
        }
        Some((Broken::Sending, failed)) if failed == kind => state.fail_sending(error.into()),
        _ => return Err(error),
    }
    Ok(())
}

/// Once a send of a dispatcher's has failed, it is only asked to read: a chat's queue has its own
/// ways.
fn may_send(state: &ChannelState) -> bool {
    state.chat.is_chat.get() || !state.has_failed_sending()
}

/// How many accepts may fail in a row. It does not depend on the turn's budget, which may be
/// unlimited while every accept fails, or a single accept.
const FAILED_ACCEPTS: usize = 64;

fn accept(
    listener: &mut impl Dispatcher,
    state: &Rc<ChannelState>,
    runtime: &Rc<Runtime>,
) -> Result {
    let budget = state.limit(|limits| limits.turn_accepts).max(1);
    let mut gone = 0;
    for _ in 0..budget {
        if state.paused.get() || state.starved.get() || !listener.readable() {
            break;
        }
        if state.is_ending() {
            break;
        }
        match state.on_socket(Fd::accept) {
            Ok((accepted, peer)) => {
                runtime.counters.accepted.add(1);
                state.forget_refused_accepts();
                if let Err(error) = listener.handle_accepted(accepted, peer) {
                    let (error, ()) = user_code::with(error, |error| listener.handle_error(error));
                    discard(error);
                }
            }
            Err(error) => {
                let refusal = Refusal::of(&error);
                if !matches!(refusal, Refusal::Nobody) {
                    runtime.counters.accepts_failed.add(1);
                }
                match refusal {
                    Refusal::Nobody => break,
                    Refusal::Peer => {
                        log!(debug, %error, "a connection was gone before its accept");
                        gone += 1;
                        // What is left in the queue is for the next turn.
                        if gone == FAILED_ACCEPTS {
                            break;
                        }
                    }
                    // One may be its own fault. So many in a row are the system's, for which a
                    // seccomp filter and a network that is down are examples.
                    Refusal::Strange => {
                        if state.count_refused_accept() == FAILED_ACCEPTS {
                            state.forget_refused_accepts();
                            runtime.pause_accepting(state, &error);
                            break;
                        }
                    }
                    Refusal::Resources => {
                        runtime.pause_accepting(state, &error);
                        break;
                    }
                    Refusal::Listener => return Err(Error::from(error).context("accept")),
                }
            }
        }
    }
    Ok(())
}

/// What an accept that fails tells about.
enum Refusal {
    /// Nobody is waiting.
    Nobody,
    /// The one connection was gone: the next is none the worse.
    Peer,
    /// The one connection, it seems.
    Strange,
    /// The process or the system has run out of something: the queue waits until it has not.
    Resources,
    /// The listening socket itself.
    Listener,
}

impl Refusal {
    /// accept(2) also passes on what happened to the connection while it was in the queue; the
    /// manual says to treat those errors as if there were none.
    fn of(error: &io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::WouldBlock => Refusal::Nobody,
            Kind::Interrupted | Kind::ConnectionAborted | Kind::ConnectionReset => Refusal::Peer,
            Kind::TimedOut
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
            | Kind::PermissionDenied
            | Kind::Unsupported => Refusal::Strange,
            _ if is_protocol_error(error) => Refusal::Strange,
            // EINVAL: it does not listen, and never will.
            Kind::InvalidInput => Refusal::Listener,
            // EMFILE, ENFILE, ENOBUFS, ENOMEM, and whatever a system invents: a pause can not
            // spin and does not give the listener up.
            _ => Refusal::Resources,
        }
    }
}
