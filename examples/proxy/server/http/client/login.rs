//! The password in a request, if the proxy has users (RFC 9110 section 11.7).

use std::mem;

use tracing::debug;

use super::{Client, State};
use crate::http1::{self, Request, basic};
use crate::server::users::{LONGEST, Login, too_many};

impl Client {
    /// Checks the password of a request. `None`: this takes a while.
    pub(super) fn log_in(&mut self, request: &Request<'_>) -> Option<Login> {
        self.user = None;
        let logins = &self.proxy.options.logins;
        if logins.is_empty() {
            return Some(Login::Right);
        }
        let Some((name, password)) = credentials(request) else {
            return Some(Login::Wrong);
        };
        let then = |client: &mut Client, login| {
            client.checked(login);
            Ok(())
        };
        logins.check(&self.chat, name, password, then)
    }

    /// The password of a request was right, or the proxy has no users.
    pub(super) fn logged_in(&mut self, request: &Request<'_>) {
        if !self.proxy.options.logins.is_empty() {
            let name = credentials(request).map(|(name, _)| name);
            self.user = name.map(|name| String::from_utf8_lossy(&name).into_owned());
        }
    }

    /// Answers a request whose password is not right, or missing.
    pub(super) fn refuse_login(&mut self, request: &Request<'_>, login: Login) {
        match login {
            Login::TooMany(wait) => {
                self.reply_with_wait(request, 429, &too_many(wait), wait);
            }
            Login::Busy => self.reply(request, 503, "the password cannot be checked now"),
            Login::Right | Login::Wrong => match credentials(request) {
                Some((name, _)) => {
                    let name = &name[..name.len().min(LONGEST)];
                    debug!(name = %name.escape_ascii(), "wrong password");
                    self.reply(request, 407, "the name or the password is wrong");
                }
                None => self.reply(request, 407, "this proxy needs a name and a password"),
            },
        }
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

/// The name and the password in a request.
pub(super) fn credentials(request: &Request<'_>) -> Option<(Vec<u8>, Vec<u8>)> {
    let field = request.fields.only("proxy-authorization");
    field.and_then(basic::credentials)
}
