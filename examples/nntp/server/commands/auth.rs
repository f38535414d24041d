//! AUTHINFO USER and PASS (RFC 4643, section 2.3), for a server with
//! passwords. They send the password, so they need TLS: section 2.3.2.

use std::rc::Rc;
use std::time::Duration;

use tracing::{debug, info};

use super::super::passwords::Checked;
use super::super::session::Session;
use super::{Outcome, Refusal, SYNTAX};

/// The state of a client's log-in.
pub enum Login {
    NotNeeded,
    Needed,
    /// After AUTHINFO USER with this name.
    Named(String),
    /// After AUTHINFO PASS, while the password is checked.
    Checking(String),
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
        Login::Needed | Login::Named(_) | Login::Checking(_) if session.may_send_password() => {
            Some("AUTHINFO USER")
        }
        Login::Needed | Login::Named(_) | Login::Checking(_) => Some("AUTHINFO"),
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
    let checked = match &service.options.check_password {
        Some(check) => check(&session.chat, &name, password),
        None => Some(Checked::Wrong(Duration::ZERO)),
    };
    session.login = Login::Checking(name);
    match checked {
        Some(checked) => end_check(session, checked),
        None => session.wait_for_check(),
    }
    Ok(())
}

/// The password of the client was checked.
pub fn end_check(session: &mut Session, checked: Checked) {
    let Login::Checking(name) = std::mem::replace(&mut session.login, Login::Needed) else {
        return;
    };
    let name = name.as_bytes().escape_ascii();
    match checked {
        Checked::Right => {
            info!(%name, "logged in");
            session.login = Login::Done;
            session.reply("281 welcome");
        }
        Checked::Wrong(delay) => {
            debug!(%name, ?delay, "log-in refused");
            session.reply_later(delay, "481 authentication failed");
        }
        // RFC 3977 section 3.2.1: an "internal fault or problem preventing action being taken".
        Checked::Busy => session.reply("403 the password cannot be checked now"),
    }
}

fn check_allowed(session: &Session) -> Outcome {
    match session.login {
        Login::Done => Err(Refusal("502 authenticated already")),
        Login::NotNeeded => Err(Refusal("502 no authentication is needed here")),
        _ if !session.may_send_password() => Err(Refusal("483 use STARTTLS first")),
        Login::Needed | Login::Named(_) | Login::Checking(_) => Ok(()),
    }
}
