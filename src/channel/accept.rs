//! How a listener accepts: how many connections in a turn, and what the error of a failed accept concerns.

use std::io;

use crate::Addr;
use crate::error::{Close, Error};
use crate::log::{log, log_throttled};
use crate::runtime::driver::Turn;
use crate::state::Flag;
use crate::sys::interest::{Interest, Ready};
use crate::sys::socket::{Fd, Socket, is_protocol_error};

/// How many accepts may fail: for connections that are gone, in one turn; with an error that does not say
/// what it concerns, in a row, before the listener pauses. It does not depend on the turn's budget, which
/// may be unlimited, or one.
const FAILED_ACCEPTS: usize = 64;

/// Accepts connections for `listener`, as many as the turn's budget allows, while it `accepts`. Each is counted by
/// `accepted`, or by the loop that it hands the connection to. Sets what the listening socket has to be watched for. If
/// that socket itself has failed, the listener ends.
pub(crate) fn accept<L>(
    turn: &mut Turn<'_>,
    listener: &mut L,
    accepts: impl Fn(&L) -> bool,
    accepted: impl Fn(&mut L, Socket, Addr),
) {
    let state = turn.state;
    let may_accept = |listener: &L| {
        let waits = state.flags.has(Flag::PAUSED) || state.flags.has(Flag::STARVED);
        !waits && !state.has_ended() && accepts(listener)
    };
    let mut left = if turn.ready.has(Ready::READ) && !turn.has_received {
        state.limit(|limits| limits.turn_accepts).max(1)
    } else {
        0
    };
    let mut gone = 0;
    while left > 0 && may_accept(listener) {
        left -= 1;
        let error = match state.on_socket(Fd::accept) {
            Ok((socket, peer)) => {
                state.forget_refused_accepts();
                accepted(listener, socket, peer);
                continue;
            }
            Err(error) => error,
        };
        let refusal = Refusal::of(&error);
        if !matches!(refusal, Refusal::NothingPending) {
            turn.runtime.counters.accepts_failed.add(1);
        }
        match refusal {
            Refusal::NothingPending => break,
            Refusal::PeerIsGone => {
                log!(debug, %error, "a connection was gone before its accept");
                gone += 1;
                // The rest of the queue waits for the next turn.
                if gone == FAILED_ACCEPTS {
                    break;
                }
            }
            // One such error may concern only its connection. Many in a row concern the system: a seccomp
            // filter refuses every accept, or the network is down.
            Refusal::Unknown => {
                if state.count_refused_accept() == FAILED_ACCEPTS {
                    state.forget_refused_accepts();
                    turn.runtime.pause_accepting(state, &error);
                    break;
                }
            }
            Refusal::Exhausted => {
                turn.runtime.pause_accepting(state, &error);
                break;
            }
            Refusal::Listener => {
                log_throttled!(warn, %error, "accepting failed");
                let kind = error.kind();
                let error = Error::from(error).context("accept");
                state.end(Close::Io(io::Error::new(kind, error)));
            }
        }
    }
    turn.interest = Interest::new(may_accept(listener), false);
}

/// What the error of a failed accept concerns.
enum Refusal {
    /// No connection is waiting. This is no failure.
    NothingPending,
    /// One connection, whose peer closed it while it was queued. The next accept may succeed.
    PeerIsGone,
    /// One connection, or the system: the error does not say which.
    Unknown,
    /// The process or the system is out of descriptors or memory.
    Exhausted,
    /// The listening socket itself.
    Listener,
}

impl Refusal {
    /// accept(2) also returns the network errors of a connection that waited in the queue. Its manual says
    /// to treat them like EAGAIN and to retry.
    fn of(error: &io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::WouldBlock => Refusal::NothingPending,
            Kind::Interrupted
            | Kind::ConnectionAborted
            | Kind::ConnectionReset
            | Kind::NotConnected => Refusal::PeerIsGone,
            Kind::TimedOut
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
            | Kind::PermissionDenied
            | Kind::Unsupported => Refusal::Unknown,
            _ if is_protocol_error(error) => Refusal::Unknown,
            // EINVAL: the socket does not listen, and never will.
            Kind::InvalidInput => Refusal::Listener,
            // EMFILE, ENFILE, ENOBUFS, ENOMEM, and any error not known here: a pause never spins, and the
            // listener stays.
            _ => Refusal::Exhausted,
        }
    }
}
