//! What servers and connectors have in common.

use std::any::TypeId;
use std::rc::Rc;

use crate::channel::handle::Channel;
use crate::chat::driver::ChatDriver;
use crate::chat::handle::Chat;
use crate::chat::session::AsyncChat;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::runtime::Runtime;
use crate::state::Phase;
use crate::sys::socket::Socket;
use crate::target::Target;
use crate::time::deadlines::Deadlines;

/// The address of a server or a connector, or the socket that it adopts.
#[derive(Debug)]
pub(crate) enum Endpoint {
    Target(Target),
    Adopted(Socket),
}

/// The settings of each connection of a server or a connector.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) limits: Option<Rc<Limits>>,
    pub(crate) deadlines: Deadlines,
}

impl Settings {
    /// Registers a channel as a chat. Its session is made later, and has the type `session`.
    pub(crate) fn register(
        &self,
        runtime: &Rc<Runtime>,
        channel: Channel,
        session: fn() -> TypeId,
    ) -> Result<Chat, Error> {
        let state = Rc::clone(&channel.0);
        if state.phase.get() == Phase::Open {
            // `handle_connect` is still to be called.
            state.phase.set(Phase::Arrived);
        }
        state.set_deadlines(self.deadlines);
        let chat = Chat::new(channel, self.limits.clone());
        runtime.register(&state, session)?;
        state.open_span();
        Ok(chat)
    }
}

/// Makes the session of a chat that is registered: calls the user's factory in the span of the
/// connection. A panic of the factory ends the connection only.
pub(crate) fn make_session<S: AsyncChat>(
    runtime: &Runtime,
    chat: Chat,
    factory: impl FnOnce(Chat) -> S,
) {
    let state = Rc::clone(chat.state());
    runtime.make_driver(&state, || ChatDriver::new(chat.clone(), factory(chat)));
}
