//! Accepting: how many connections a turn takes, and what an accept that fails is about.

use std::io;

use crate::Addr;
use crate::error::{Error, Result};
use crate::log::log;
use crate::runtime::driver::Turn;
use crate::state::Flag;
use crate::sys::interest::Interest;
use crate::sys::socket::{Fd, Socket, is_protocol_error};

/// How many accepts may fail in a row. It does not depend on the turn's budget, which may be
/// unlimited while every accept fails, or a single accept.
const FAILED_ACCEPTS: usize = 64;

/// Accepts connections for `listener`, as many as the turn's budget allows, while it `accepts`. Returns
/// what the listening socket has to be watched for.
///
/// # Errors
/// When the listening socket itself has failed.
pub(crate) fn accept<L>(
    turn: &Turn<'_>,
    listener: &mut L,
    accepts: impl Fn(&L) -> bool,
    accepted: impl Fn(&mut L, Socket, Addr),
) -> Result<Interest> {
    let state = turn.state;
    let may_accept = |listener: &L| {
        let waits = state.flags.has(Flag::PAUSED) || state.flags.has(Flag::STARVED);
        !waits && !state.has_ended() && accepts(listener)
    };
    let mut left = match turn.ready.read && !turn.only_sends {
        true => state.limit(|limits| limits.turn_accepts).max(1),
        false => 0,
    };
    let mut gone = 0;
    while left > 0 && may_accept(listener) {
        left -= 1;
        let error = match state.on_socket(Fd::accept) {
            Ok((socket, peer)) => {
                turn.runtime.counters.accepted.add(1);
                state.forget_refused_accepts();
                accepted(listener, socket, peer);
                continue;
            }
            Err(error) => error,
        };
        let refusal = Refusal::of(&error);
        if !matches!(refusal, Refusal::NobodyWaits) {
            turn.runtime.counters.accepts_failed.add(1);
        }
        match refusal {
            Refusal::NobodyWaits => break,
            Refusal::PeerIsGone => {
                log!(debug, %error, "a connection was gone before its accept");
                gone += 1;
                // What is left in the queue is for the next turn.
                if gone == FAILED_ACCEPTS {
                    break;
                }
            }
            // One may be the fault of the one connection. So many in a row are the system's, for which
            // a seccomp filter and a network that is down are examples.
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
            Refusal::Listener => return Err(Error::from(error).context("accept")),
        }
    }
    Ok(Interest::new(may_accept(listener), false))
}

/// What an accept that fails is about.
enum Refusal {
    /// No connection waits.
    NobodyWaits,
    /// The one connection was gone. The next may be fine.
    PeerIsGone,
    /// The one connection, or the system.
    Unknown,
    /// The process or the system has run out of descriptors or memory.
    Exhausted,
    /// The listening socket itself.
    Listener,
}

impl Refusal {
    /// accept(2) also passes on what happened to the connection while it was in the queue; the
    /// manual says to treat those errors as if there were none.
    fn of(error: &io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::WouldBlock => Refusal::NobodyWaits,
            Kind::Interrupted | Kind::ConnectionAborted | Kind::ConnectionReset => {
                Refusal::PeerIsGone
            }
            Kind::TimedOut
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
            | Kind::PermissionDenied
            | Kind::Unsupported => Refusal::Unknown,
            _ if is_protocol_error(error) => Refusal::Unknown,
            // EINVAL: it does not listen, and never will.
            Kind::InvalidInput => Refusal::Listener,
            // EMFILE, ENFILE, ENOBUFS, ENOMEM, and whatever a system invents: a pause cannot
            // spin and does not give the listener up.
            _ => Refusal::Exhausted,
        }
    }
}
