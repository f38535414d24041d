//! The driver of an accepted connection that is not ready for its session: its PROXY header or its TLS handshake is
//! not complete.
//!
//! So a flood of connections that complete no handshake makes no sessions, and the factory of a session finds
//! what the handshake has agreed on, and the address of the client.

use std::cell::Cell;
use std::rc::{Rc, Weak};

use super::endpoint::session_driver;
#[cfg(feature = "proxy-protocol")]
use super::identification::Identification;
use crate::chat::handle::Chat;
use crate::chat::into_session::IntoSession;
use crate::error::{Close, Result};
use crate::runtime::driver::{Driver, Turn};
#[cfg(feature = "proxy-protocol")]
use crate::state::Flag;
use crate::state::{ChannelState, Request};
#[cfg(feature = "proxy-protocol")]
use crate::sys::interest::Interest;

/// The factory of a server. It is taken out while it is called, because it is user code.
pub(super) struct Factory<F> {
    factory: Rc<Cell<Option<F>>>,
    /// The listener of a server for one connection. It ends with the first session, and no session is made after it.
    listener: Option<Weak<ChannelState>>,
}

impl<F> Factory<F> {
    pub(super) fn new(factory: F) -> Self {
        Factory {
            factory: Rc::new(Cell::new(Some(factory))),
            listener: None,
        }
    }

    /// Makes one session for this listener.
    pub(super) fn serve_once(&mut self, listener: &Rc<ChannelState>) {
        self.listener = Some(Rc::downgrade(listener));
    }

    /// Calls the factory for a connection. Returns the driver with the session, and whether there is a session. `None`
    /// when there is to be no session any more.
    #[inline]
    pub(super) fn call<I: IntoSession>(&self, chat: Chat) -> Option<(Box<dyn Driver>, bool)>
    where
        F: FnMut(Chat) -> I,
    {
        let listener = self.listener.as_ref().map(Weak::upgrade);
        if matches!(&listener, Some(listener) if listener.as_ref().is_none_or(|it| it.has_ended()))
        {
            return None;
        }
        let mut factory = self.factory.take()?;
        let made = session_driver(chat, &mut factory);
        self.factory.set(Some(factory));
        if let (Some(listener), (_, true)) = (listener.flatten(), &made) {
            listener.end(Close::Local);
        }
        Some(made)
    }
}

impl<F> Clone for Factory<F> {
    fn clone(&self) -> Self {
        Factory {
            factory: Rc::clone(&self.factory),
            listener: self.listener.clone(),
        }
    }
}

/// Waits for the connection to be ready. Only for the PROXY header it has turns: the runtime advances handshakes.
pub(super) struct Preamble<F> {
    pub(super) chat: Chat,
    pub(super) factory: Factory<F>,
    /// Absent when the client is known.
    #[cfg(feature = "proxy-protocol")]
    pub(super) identification: Option<Box<Identification>>,
}

impl<I: IntoSession, F: FnMut(Chat) -> I + 'static> Driver for Preamble<F> {
    #[cfg_attr(
        not(feature = "proxy-protocol"),
        allow(unused_variables, reason = "only a PROXY header has turns")
    )]
    fn turn(&mut self, turn: &mut Turn<'_>) -> Result {
        #[cfg(feature = "proxy-protocol")]
        if let Some(identification) = &mut self.identification {
            if identification.advance(turn) {
                self.identification = None;
                // With TLS the handshake follows.
                if !turn.state.flags.has(Flag::STAGED) {
                    turn.state.requests.add(Request::REPLACE);
                }
            }
            turn.interest = Interest::READ;
        }
        Ok(())
    }

    #[cfg_attr(
        not(feature = "proxy-protocol"),
        allow(unused_variables, reason = "a failed handshake is counted elsewhere")
    )]
    fn close(&mut self, why: &Close) {
        #[cfg(feature = "proxy-protocol")]
        if let Some(identification) = &self.identification {
            identification.report(why);
        }
    }

    /// The connection is ready: makes its session.
    fn replaced(self: Box<Self>, state: &Rc<ChannelState>) -> Box<dyn Driver> {
        state.requests.take(Request::REPLACE);
        // The new session has its first turn.
        state.schedule();
        match self.factory.call(self.chat.clone()) {
            Some((driver, _)) => driver,
            None => {
                self.chat.close();
                self
            }
        }
    }
}
