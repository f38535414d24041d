//! AUTHINFO USER and PASS (RFC 4643, section 2.3), for a server with a password
//! file. They send the password, so they need TLS: section 2.3.2.

use std::rc::Rc;

use tracing::{debug, info};

use super::super::session::Session;
use super::{Outcome, Refusal, SYNTAX};

/// The state of a client's log-in.
pub enum Login {
    NotNeeded,
    Needed,
    /// After AUTHINFO USER with this name.
    Named(String),
    Done,
}

impl Login {
    /// Whether all commands are allowed.
    pub fn is_complete(&self) -> bool {
        matches!(self, Login::NotNeeded | Login::Done)
    }

    /// Whether the client has logged in.
    pub fn is_done(&self) -> bool {
        matches!(self, Login::Done)
    }

    /// Forgets what the client has sent.
    pub fn reset(&mut self) {
        if !matches!(self, Login::NotNeeded) {
            *self = Login::Needed;
        }
    }
}

/// The line of CAPABILITIES: section 2.1. Without arguments it says that no log-in is possible before TLS.
/// After a log-in AUTHINFO is not available.
pub fn capability(session: &Session) -> Option<&'static str> {
    match session.login {
        Login::Needed | Login::Named(_) if session.may_send_password() => Some("AUTHINFO USER"),
        Login::Needed | Login::Named(_) => Some("AUTHINFO"),
        Login::NotNeeded | Login::Done => None,
    }
}

pub fn authinfo(session: &mut Session, arguments: &[&str]) -> Outcome {
    let word = arguments[1];
    match arguments[0].to_ascii_uppercase().as_str() {
        "USER" => user(session, word),
        "PASS" => pass(session, word),
        _ => Err(SYNTAX),
    }
}

fn user(session: &mut Session, name: &str) -> Outcome {
    check_allowed(session)?;
    session.login = Login::Named(name.to_owned());
    session.reply("381 password required");
    Ok(())
}

fn pass(session: &mut Session, password: &str) -> Outcome {
    check_allowed(session)?;
    let Login::Named(name) = std::mem::replace(&mut session.login, Login::Needed) else {
        return Err(Refusal("482 AUTHINFO USER comes first"));
    };
    let service = Rc::clone(&session.service);
    let passwords = service.options.passwords.as_ref();
    let is_right = || passwords.is_some_and(|passwords| passwords.admit(&name, password));
    let client = session.chat.peer_addr();
    if let Err(delay) = service.login_limit.check(client.as_ref(), is_right) {
        debug!(name = %name.as_bytes().escape_ascii(), ?delay, "log-in refused");
        session.reply_later(delay, "481 authentication failed");
        return Ok(());
    }
    info!(name = %name.as_bytes().escape_ascii(), "logged in");
    session.login = Login::Done;
    session.reply("281 welcome");
    Ok(())
}

fn check_allowed(session: &Session) -> Outcome {
    match session.login {
        Login::Done => Err(Refusal("502 authenticated already")),
        Login::NotNeeded => Err(Refusal("502 no authentication is needed here")),
        _ if !session.may_send_password() => Err(Refusal("483 use STARTTLS first")),
        Login::Needed | Login::Named(_) => Ok(()),
    }
}
