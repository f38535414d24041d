//! Who has changed a file, for the events of the log.

use std::fmt;

use asynchat::Addr;

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

    pub fn user(&self) -> &str {
        &self.user
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
