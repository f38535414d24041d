//! Passwords that were right a short while ago. HTTP sends the password with each request, and a check of its hash takes
//! fifty milliseconds.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ring::hmac;
use ring::rand::SystemRandom;

/// Then the hash is checked again.
const MEMORY: Duration = Duration::from_secs(300);

/// The last right password of each user, as a keyed digest.
pub struct Accepted {
    /// There is none if the system has no random numbers. Then nothing is remembered.
    key: Option<hmac::Key>,
    digests: HashMap<Vec<u8>, (hmac::Tag, Instant)>,
}

impl Accepted {
    pub fn new() -> Accepted {
        Accepted {
            key: hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok(),
            digests: HashMap::new(),
        }
    }

    pub fn has(&self, name: &[u8], password: &[u8], now: Instant) -> bool {
        let (Some(key), Some((digest, since))) = (&self.key, self.digests.get(name)) else {
            return false;
        };
        let is_equal = || hmac::verify(key, &message(name, password), digest.as_ref()).is_ok();
        now - *since < MEMORY && is_equal()
    }

    pub fn insert(&mut self, name: &[u8], password: &[u8], now: Instant) {
        if let Some(key) = &self.key {
            let digest = hmac::sign(key, &message(name, password));
            self.digests.insert(name.to_vec(), (digest, now));
        }
    }
}

/// A name has no colon.
fn message(name: &[u8], password: &[u8]) -> Vec<u8> {
    [name, b":", password].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_password_of_a_user_is_remembered_for_a_while() {
        let mut accepted = Accepted::new();
        let now = Instant::now();
        accepted.insert(b"ann", b"old", now);
        accepted.insert(b"ann", b"secret", now);
        accepted.insert(b"bob", b"x", now);
        assert!(accepted.has(b"ann", b"secret", now) && accepted.has(b"bob", b"x", now));
        for (name, password) in [("ann", "old"), ("ann", "x"), ("ann", ""), ("carl", "x")] {
            assert!(!accepted.has(name.as_bytes(), password.as_bytes(), now));
        }
        let last = now + MEMORY - Duration::from_nanos(1);
        assert!(accepted.has(b"ann", b"secret", last));
        assert!(!accepted.has(b"ann", b"secret", now + MEMORY));
    }
}
