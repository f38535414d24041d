//! The password in a request, if the proxy has users (RFC 9110 section 11.7).

use std::mem;

use super::{Client, State};
use crate::http1::{self, Request, basic};
use crate::server::users::{Login, log_wrong_password, too_many};

/// Who sends a request.
pub(super) enum Sender {
    /// The proxy has no users.
    Anybody,
    /// There is no password.
    Nobody,
    User(Vec<u8>, Login),
    /// The check of the password has taken too long.
    Unchecked,
}

impl Client {
    /// Checks the password of a request. `None`: this takes a while.
    pub(super) fn log_in(&mut self, request: &Request<'_>) -> Option<Sender> {
        self.user = None;
        let logins = &self.proxy.options.logins;
        if logins.is_empty() {
            return Some(Sender::Anybody);
        }
        let field = request.fields.only("proxy-authorization");
        let Some((name, password)) = field.and_then(basic::credentials) else {
            return Some(Sender::Nobody);
        };
        let later = name.clone();
        let then = |client: &mut Client, login| {
            client.checked(Sender::User(later, login));
            Ok(())
        };
        let known = logins.check(&self.chat, name.clone(), password, then);
        known.map(|login| Sender::User(name, login))
    }

    /// Whether the request may be served. If not, it is answered.
    pub(super) fn admit(&mut self, request: &Request<'_>, sender: Sender) -> bool {
        match sender {
            Sender::Anybody => return true,
            Sender::User(name, Login::Right) => {
                self.user = Some(String::from_utf8_lossy(&name).into_owned());
                return true;
            }
            Sender::Nobody => self.reply(request, 407, "this proxy needs a name and a password"),
            Sender::User(name, login) => self.refuse_login(request, &name, login),
            Sender::Unchecked => self.refuse_login(request, b"", Login::Busy),
        }
        false
    }

    fn refuse_login(&mut self, request: &Request<'_>, name: &[u8], login: Login) {
        match login {
            Login::TooMany(wait) => {
                self.reply_with_wait(request, 429, &too_many(wait), wait);
            }
            Login::Busy => self.reply(request, 503, "the password cannot be checked now"),
            Login::Right | Login::Wrong => {
                log_wrong_password(name, self.chat.peer_addr().as_ref());
                self.reply(request, 407, "the name or the password is wrong");
            }
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
    pub(super) fn checked(&mut self, sender: Sender) {
        // A request whose reply would be dropped must not reach its server.
        if !matches!(self.state, State::LoggingIn) || self.chat.is_closing() {
            return;
        }
        self.state = State::Head;
        self.chat.resume_reading();
        let head = mem::take(&mut self.head);
        let mut space = http1::field_space();
        match Request::parse(&head, &mut space) {
            Ok(request) => self.serve(&request, sender),
            Err(rejected) => self.refuse(rejected),
        }
    }
}
