//! Who has changed a file, or has given a wrong password: for the events of the log.

use std::fmt;

use asynchat::Addr;
use tracing::warn;

use crate::users::LONGEST;

/// A user, and the address of its client.
pub struct Author {
    user: String,
    peer: Option<Addr>,
}

impl Author {
    pub fn new(user: &str, peer: Option<&Addr>) -> Author {
        Author {
            user: user.to_owned(),
            peer: peer.cloned(),
        }
    }
}

impl fmt::Display for Author {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.peer {
            Some(peer) => write!(f, "{} at {peer}", self.user),
            None => f.write_str(&self.user),
        }
    }
}

/// Programs such as fail2ban read this line. The log has at most ten a second.
pub fn log_wrong_password(name: &[u8], peer: Option<&Addr>) {
    let name = String::from_utf8_lossy(&name[..name.len().min(LONGEST)]);
    let peer = peer.and_then(Addr::ip).map(|ip| ip.to_canonical());
    let peer = peer.map_or("-".to_owned(), |ip| ip.to_string());
    // The name comes last: a client can write anything in it.
    warn!(%peer, user = ?name, "wrong password");
}
