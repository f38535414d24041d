//! Who sends a request.

use asynchat::Chat;

use super::Options;
use super::reply::Reply;
use crate::http1::{Fields, basic};

/// The name of the user, if the request of this client has the right password, and may have one.
pub fn user(fields: Fields<'_>, options: &Options, chat: &Chat) -> Option<String> {
    let value = fields.only("authorization")?;
    if is_refused(options, chat) {
        return None;
    }
    let (name, password) = basic::credentials(value)?;
    let is_right = || options.users.admit(&name, &password);
    let checked = options
        .login_limit
        .check(chat.peer_addr().as_ref(), is_right);
    checked.ok().and_then(|()| String::from_utf8(name).ok())
}

/// The reply to a request that needs a user, and has none.
pub fn demand(options: &Options, chat: &Chat) -> Reply {
    match is_refused(options, chat) {
        // Without a challenge, so that browsers ask for no password. A redirect would come after a password was sent.
        true => Reply::text(403, "passwords are accepted with TLS only: use https"),
        false => Reply::text(401, "this needs a user and a password").field(
            "WWW-Authenticate",
            "Basic realm=\"files\", charset=\"UTF-8\"",
        ),
    }
}

/// Everybody on the way could read a password (RFC 7617 section 4).
fn is_refused(options: &Options, chat: &Chat) -> bool {
    options.tls.is_some() && !options.insecure_auth && chat.tls().is_none()
}
