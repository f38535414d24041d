//! What servers and connectors have in common.

use std::any::TypeId;
use std::rc::Rc;

use crate::channel::handle::Channel;
use crate::chat::driver::ChatDriver;
use crate::chat::handle::Chat;
use crate::chat::session::AsyncChat;
use crate::error::Result;
use crate::limits::Limits;
use crate::runtime::Runtime;
use crate::state::Phase;
use crate::sys::socket::Socket;
use crate::target::Target;
use crate::time::deadlines::Deadlines;

/// What a server or a connector begins with.
#[derive(Debug)]
pub(crate) enum Endpoint {
    Target(Target),
    Adopted(Socket),
}

/// What every connection of a server or a connector is given.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) limits: Option<Rc<Limits>>,
    pub(crate) deadlines: Deadlines,
}

impl Settings {
    /// Registers a channel as a chat whose session has the type `session`, and is still to be made.
    pub(crate) fn register(
        &self,
        runtime: &Rc<Runtime>,
        channel: Channel,
        session: fn() -> TypeId,
    ) -> Result<Chat> {
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
