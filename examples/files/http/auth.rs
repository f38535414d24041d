//! Who sends a request.

use std::time::Duration;

use asynchat::{Addr, Chat};

use super::Options;
use super::reply::Reply;
use super::session::Session;
use crate::http1::{Fields, basic};
use crate::users::{Login, log_wrong_password, too_many};

/// Who sends a request that needs a user.
pub enum Sender {
    /// There is no password.
    Nobody,
    /// The name or the password is wrong.
    Wrong,
    /// The address has failed too often, and has to wait.
    TooMany(Duration),
    User(String),
    /// Too many passwords wait to be checked.
    Unchecked,
}

/// Checks the password of a request. `None`: this takes a while, then the session gets the result.
pub fn sender(fields: Fields<'_>, options: &Options, chat: &Chat) -> Option<Sender> {
    let credentials = fields
        .only("authorization")
        .filter(|_| !is_refused(options, chat))
        .and_then(basic::credentials);
    let Some((name, password)) = credentials else {
        return Some(Sender::Nobody);
    };
    let (user, peer) = (name.clone(), chat.peer_addr());
    let then = move |session: &mut Session, login| {
        session.checked(&Sender::new(login, user, peer.as_ref()));
        Ok(())
    };
    let known = options.logins.check(chat, name.clone(), password, then);
    known.map(|login| Sender::new(login, name, chat.peer_addr().as_ref()))
}

impl Sender {
    fn new(login: Login, name: Vec<u8>, peer: Option<&Addr>) -> Sender {
        if login == Login::Wrong {
            log_wrong_password(&name, peer);
        }
        match (login, String::from_utf8(name)) {
            (Login::Right, Ok(name)) => Sender::User(name),
            (Login::Busy, _) => Sender::Unchecked,
            (Login::TooMany(wait), _) => Sender::TooMany(wait),
            _ => Sender::Wrong,
        }
    }

    pub fn user(&self) -> Option<&str> {
        match self {
            Sender::User(name) => Some(name),
            Sender::Nobody | Sender::Wrong | Sender::TooMany(_) | Sender::Unchecked => None,
        }
    }

    /// The reply to a request that needs a user, and has none.
    pub fn refusal(&self, options: &Options, chat: &Chat) -> Reply {
        match self {
            Sender::Unchecked => {
                Reply::text(503, "the password cannot be checked now").field("Retry-After", "10")
            }
            Sender::TooMany(wait) => {
                let seconds = wait.as_secs().to_string();
                Reply::text(429, too_many(*wait)).field("Retry-After", seconds)
            }
            // Without a challenge, so that browsers ask for no password. A redirect would come after a password was sent.
            _ if is_refused(options, chat) => {
                Reply::text(403, "passwords are accepted with TLS only: use https")
            }
            Sender::Wrong => challenge("the name or the password is wrong"),
            _ => challenge("this needs a user and a password"),
        }
    }
}

fn challenge(text: &'static str) -> Reply {
    let realm = "Basic realm=\"files\", charset=\"UTF-8\"";
    Reply::text(401, text).field("WWW-Authenticate", realm)
}

/// Everybody on the way could read a password (RFC 7617 section 4).
fn is_refused(options: &Options, chat: &Chat) -> bool {
    options.tls.is_some() && !options.insecure_auth && chat.tls().is_none()
}
