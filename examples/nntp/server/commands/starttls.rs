//! STARTTLS (RFC 4642).

use tracing::debug;

use super::super::session::Session;
use super::{Outcome, Refusal};

/// Whether CAPABILITIES lists STARTTLS: section 2.1.
pub fn is_offered(session: &Session) -> bool {
    session.service.options.start_tls.is_some() && check_allowed(session).is_ok()
}

/// The crate ends the connection if the client has not waited for the reply.
pub fn starttls(session: &mut Session, _: &[&str]) -> Outcome {
    check_allowed(session)?;
    let Some(start_tls) = &session.service.options.start_tls else {
        return Err(Refusal("580 this server has no certificate"));
    };
    session.reply("382 continue with TLS negotiation");
    if let Err(error) = start_tls(&session.chat) {
        session.chat.close_with(error);
    }
    Ok(())
}

/// STARTTLS is not valid with TLS, nor after a log-in: section 2.2.1.
fn check_allowed(session: &Session) -> Outcome {
    if session.is_secure {
        return Err(Refusal("502 TLS is active already"));
    }
    if session.login.is_done() {
        return Err(Refusal("502 too late for TLS, after the log-in"));
    }
    Ok(())
}

/// TLS is up. Everything that came in clear may be from somebody else, so it is forgotten: section 2.2.2.
pub fn forget_state(session: &mut Session) {
    debug!("TLS is up");
    session.is_secure = true;
    session.group = None;
    session.current = None;
    session.login.reset();
}
