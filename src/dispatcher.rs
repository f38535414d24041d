//! Layer 1: a socket and its callbacks.

use std::any::Any;
use std::io;
use std::rc::Rc;

use crate::connecting::Progress;
use crate::contain::{self, discard};
use crate::error::{Close, Error, Result};
use crate::home::Home;
use crate::poller::{Interest, Ready};
use crate::socket::{Fd, Socket, is_protocol_error};
use crate::state::{Broken, Core, Phase};
use crate::timer::TimerId;
use crate::told::{Escaped, log, told};
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
        told!(warn, %peer, "unhandled connection: handle_accepted is not implemented");
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
        told!(warn, "unhandled read event: closing");
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
        told!(warn, error = %Escaped(error), "a callback failed");
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
    fn announce(&mut self, core: &Rc<Core>) -> Result;
    /// Acts on what happened, and on what was asked for in the meantime; says what to watch for.
    fn turn(&mut self, core: &Rc<Core>, home: &Rc<Home>, ready: Ready) -> Result<Interest>;
    fn timer(&mut self, timer: TimerId) -> Result;
    fn error(&mut self, error: &Error);
    fn close(&mut self, why: &Close);
    fn handler(&mut self) -> &mut dyn Any;
}

impl<D: Dispatcher> Driven for D {
    fn announce(&mut self, core: &Rc<Core>) -> Result {
        let is_due = core.announce.get() || core.chat.shutdown_due.get();
        if !is_due || core.phase.get() != Phase::Open {
            return Ok(());
        }
        if core.announce.take() {
            make_callback(core, || self.handle_connect())?;
        }
        if core.chat.shutdown_due.take() && !core.is_ending() {
            make_callback(core, || self.begin_shutdown())?;
        }
        Ok(())
    }

    fn turn(&mut self, core: &Rc<Core>, home: &Rc<Home>, ready: Ready) -> Result<Interest> {
        match core.phase.get() {
            Phase::Connecting => match core.advance_connection(home) {
                Progress::Waiting | Progress::Failed => return Ok(Interest::NONE),
                Progress::Up => make_callback(core, || self.handle_connect())?,
            },
            Phase::Listening if ready.read => accept(self, core, home)?,
            Phase::Open => self.announce(core)?,
            Phase::Listening => {}
            Phase::Closed => return Ok(Interest::NONE),
        }
        let open = || !core.is_ending();
        if ready.urgent && open() {
            // What a chat's socket does not receive inline is lost: a chat has no use for it.
            if !core.chat.is_chat.get() {
                make_callback(core, || self.handle_expt())?;
            }
            core.drop_out_of_band();
        }
        if core.phase.get() == Phase::Open {
            let input = (ready.read && !core.eof.get()) || core.held.get();
            let reads = !core.paused.get() && self.readable();
            if input && open() && reads {
                make_callback(core, || self.handle_read())?;
            } else if ready.hung_up && open() && (!reads || core.eof.get()) && core.can_hang_up() {
                core.hang_up();
            }
            if ready.write {
                core.blocked.set(false);
            }
            if open() && !core.blocked.get() && may_send(core) && self.writable() {
                make_callback(core, || self.handle_write())?;
            }
        }
        if !open() {
            return Ok(Interest::NONE);
        }
        Ok(self.wants(core, home))
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
    fn wants(&self, core: &Rc<Core>, home: &Rc<Home>) -> Interest;
}

impl<D: Dispatcher> Wants for D {
    fn wants(&self, core: &Rc<Core>, home: &Rc<Home>) -> Interest {
        let readable = self.readable() && !core.paused.get() && !core.starved.get();
        let writable = core.phase.get() == Phase::Open && may_send(core) && self.writable();
        if core.has_failed_sending() && core.end_if_useless(readable) {
            return Interest::NONE;
        }
        // It does not wait for the kernel any more: when it writes again it just tries.
        if !writable && core.blocked.replace(false) {
            core.time(|clocks, _| clocks.drained());
        }
        if !writable && core.draining.get() {
            core.end(Close::Shutdown);
            return Interest::NONE;
        }
        if !writable && core.eof.get() && !core.half_open.get() && !core.held.get() {
            core.end(match core.take_send_error() {
                Some(error) => Close::from_io(error),
                None => Close::Eof,
            });
            return Interest::NONE;
        }
        // What needs no event from the kernel gets its turn from the loop's ready list.
        let due = core.chat.shutdown_due.get();
        if due || (core.held.get() && readable) || (writable && !core.blocked.get()) {
            home.again(core);
        }
        let interest = Interest::new(readable && !core.eof.get(), writable && core.blocked.get());
        if interest.is_none() && core.phase.get() == Phase::Open && core.can_hang_up() {
            return Interest::HANG_UP;
        }
        interest
    }
}

/// Makes a callback. If a dispatcher passes on `WouldBlock`, nothing has failed. If it passes on the
/// error of a send or a receive that it made in this callback, the connection ends for that reason. Any
/// other error, and every error of a session, which has no socket, is an error of the handler.
#[inline]
pub(crate) fn make_callback(core: &Rc<Core>, callback: impl FnOnce() -> Result) -> Result {
    if core.chat.is_chat.get() {
        return callback();
    }
    core.broken.set(None);
    let Err(error) = callback() else {
        return Ok(());
    };
    let Some(kind) = error.io_kind() else {
        return Err(error);
    };
    match core.broken.take() {
        _ if kind == io::ErrorKind::WouldBlock => {}
        Some((Broken::Receiving, failed)) if failed == kind => {
            core.end(Close::from_io(error.into()));
        }
        Some((Broken::Sending, failed)) if failed == kind => core.fail_sending(error.into()),
        _ => return Err(error),
    }
    Ok(())
}

/// Once a send of a dispatcher's has failed, it is only asked to read: a chat's queue has its own
/// ways.
fn may_send(core: &Core) -> bool {
    core.chat.is_chat.get() || !core.has_failed_sending()
}

/// How many accepts may fail in a row. It does not depend on the turn's budget, which may be
/// unlimited while every accept fails, or a single accept.
const FAILED_ACCEPTS: usize = 64;

fn accept(listener: &mut impl Dispatcher, core: &Rc<Core>, home: &Rc<Home>) -> Result {
    let budget = core.limit(|limits| limits.turn_accepts).max(1);
    let mut gone = 0;
    for _ in 0..budget {
        if core.paused.get() || core.starved.get() || !listener.readable() {
            break;
        }
        if core.is_ending() {
            break;
        }
        match core.on_socket(Fd::accept) {
            Ok((accepted, peer)) => {
                home.counters.accepted.add(1);
                core.forget_refused_accepts();
                if let Err(error) = listener.handle_accepted(accepted, peer) {
                    let (error, ()) = contain::with(error, |error| listener.handle_error(error));
                    discard(error);
                }
            }
            Err(error) => {
                let refusal = Refusal::of(&error);
                if !matches!(refusal, Refusal::Nobody) {
                    home.counters.accepts_failed.add(1);
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
                        if core.count_refused_accept() == FAILED_ACCEPTS {
                            core.forget_refused_accepts();
                            home.pause_accepting(core, &error);
                            break;
                        }
                    }
                    Refusal::Resources => {
                        home.pause_accepting(core, &error);
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
