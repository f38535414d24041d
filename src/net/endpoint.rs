//! What servers and connectors have in common.

use std::any::TypeId;
use std::rc::Rc;

use crate::channel::handle::Channel;
use crate::chat::driver::ChatDriver;
use crate::chat::handle::Chat;
use crate::chat::into_session::IntoSession;
use crate::chat::session::AsyncChat;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::runtime::Runtime;
use crate::runtime::driver::Driver;
use crate::stage::MakeStage;
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
    /// Makes the stage of each connection, if it uses TLS.
    pub(crate) stage: Option<MakeStage>,
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
        match (state.phase.get(), &self.stage) {
            // `handle_connect` is still to be called.
            (Phase::Open, None) => state.phase.set(Phase::Arrived),
            (Phase::Open, Some(make)) => state.begin_handshake(make.clone(), Phase::Arrived),
            (_, Some(make)) => state.secure_when_up(make.clone()),
            (_, None) => {}
        }
        state.set_deadlines(self.deadlines);
        let chat = Chat::new(channel, self.limits.clone());
        runtime.register(&state, session)?;
        state.open_span();
        Ok(chat)
    }
}

/// Makes the session of a chat that is registered: calls the user's factory in the span of the
/// connection. Returns whether there is one: if the factory fails, only this connection ends.
pub(crate) fn make_session<I: IntoSession>(
    runtime: &Runtime,
    chat: Chat,
    factory: impl FnOnce(Chat) -> I,
) -> bool {
    let state = Rc::clone(chat.state());
    let (driver, is_made) = session_driver(chat, factory);
    runtime.set_driver(&state, driver);
    is_made
}

/// The driver with the session that the factory makes, and whether there is one.
pub(crate) fn session_driver<I: IntoSession>(
    chat: Chat,
    factory: impl FnOnce(Chat) -> I,
) -> (Box<dyn Driver>, bool) {
    let state = Rc::clone(chat.state());
    match Runtime::call_factory(&state, || factory(chat).into_session()) {
        Some(session) => (Box::new(ChatDriver::new(&state, session)), true),
        // It sends what the factory has pushed.
        None => (Box::new(ChatDriver::new(&state, NoSession)), false),
    }
}

/// An outgoing connection whose session is still to be made. Its caller has its chat already.
pub(crate) struct PendingSession(pub(crate) Chat);

impl PendingSession {
    /// Makes the session. What the caller has done meanwhile follows what the factory does.
    pub(crate) fn make_session<I: IntoSession>(
        self,
        runtime: &Runtime,
        factory: impl FnOnce(Chat) -> I,
    ) {
        let state = Rc::clone(self.0.state());
        let early = state.take_early();
        make_session(runtime, self.0, factory);
        state.put_back_early(early);
    }
}

/// The session of a connection whose factory has failed. None of its callbacks has an effect.
struct NoSession;

impl AsyncChat for NoSession {
    fn found_terminator(&mut self, _: &[u8]) -> Result {
        Ok(())
    }
}
