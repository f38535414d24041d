//! The password in a request, if the proxy has users (RFC 9110 section 11.7).

use std::mem;

use super::{Client, State};
use crate::http1::{self, Request, basic};
use crate::server::users::Login;

impl Client {
    /// Checks the password of a request. `None`: this takes a while.
    pub(super) fn log_in(&self, request: &Request<'_>) -> Option<Login> {
        let logins = &self.proxy.options.logins;
        if logins.is_empty() {
            return Some(Login::Right);
        }
        let field = request.fields.only("proxy-authorization");
        let Some((name, password)) = field.and_then(basic::credentials) else {
            return Some(Login::Wrong);
        };
        let then = |client: &mut Client, login| {
            client.checked(login);
            Ok(())
        };
        logins.check(&self.chat, name, password, then)
    }

    /// Stores the head while its password is checked. [`Client::checked`] parses it a second time, because a [`Request`]
    /// borrows it.
    pub(super) fn wait_for_login(&mut self, head: &[u8]) {
        self.head = head.to_vec();
        self.state = State::LoggingIn;
        self.chat.pause_reading();
    }

    /// The password in the head was checked.
    pub(super) fn checked(&mut self, login: Login) {
        // A request whose reply would be dropped must not reach its server.
        if !matches!(self.state, State::LoggingIn) || self.chat.is_closing() {
            return;
        }
        self.state = State::Head;
        self.chat.resume_reading();
        let head = mem::take(&mut self.head);
        let mut space = http1::field_space();
        match Request::parse(&head, &mut space) {
            Ok(request) => self.serve(&request, login),
            Err(rejected) => self.refuse(rejected),
        }
    }
}
