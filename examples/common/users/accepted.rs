//! Passwords that were right a short while ago. HTTP sends the password with each request, and a check of its hash takes
//! fifty milliseconds.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ring::hmac;
use ring::rand::SystemRandom;

/// How long a password is known after its check.
const MEMORY: Duration = Duration::from_secs(300);

/// The last right password of each user, as a keyed digest.
pub struct Accepted {
    /// There is none if the system has no random numbers. Then nothing is remembered.
    key: Option<hmac::Key>,
    digests: Rc<RefCell<Digests>>,
}

/// By the name of the user: the digest, and when the password was checked.
type Digests = HashMap<Vec<u8>, (hmac::Tag, Instant)>;

impl Accepted {
    pub fn new() -> Accepted {
        Accepted {
            key: hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok(),
            digests: Rc::default(),
        }
    }

    pub fn has(&self, name: &[u8], password: &[u8], now: Instant) -> bool {
        let digests = self.digests.borrow();
        let (Some(key), Some((digest, since))) = (&self.key, digests.get(name)) else {
            return false;
        };
        let is_equal = || hmac::verify(key, &message(name, password), digest.as_ref()).is_ok();
        now - *since < MEMORY && is_equal()
    }

    /// Remembers a password, until a timer removes it.
    pub fn insert(&self, name: &[u8], password: &[u8], now: Instant) {
        let Some(key) = &self.key else {
            return;
        };
        // Otherwise there is a timer.
        if self.digests.borrow().is_empty() {
            schedule_forget(&self.digests);
        }
        let digest = hmac::sign(key, &message(name, password));
        let mut digests = self.digests.borrow_mut();
        forget(&mut digests, now);
        digests.insert(name.to_vec(), (digest, now));
    }
}

fn schedule_forget(digests: &Rc<RefCell<Digests>>) {
    let digests = Rc::downgrade(digests);
    asynchat::call_later(MEMORY, move || {
        if let Some(digests) = digests.upgrade() {
            forget(&mut digests.borrow_mut(), asynchat::now());
            if !digests.borrow().is_empty() {
                schedule_forget(&digests);
            }
        }
    });
}

/// Removes the digests that are too old.
fn forget(digests: &mut Digests, now: Instant) {
    digests.retain(|_, (_, since)| now - *since < MEMORY);
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
        let accepted = Accepted::new();
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

    #[test]
    fn a_password_that_is_too_old_is_removed_when_another_is_added() {
        let accepted = Accepted::new();
        let now = Instant::now();
        accepted.insert(b"ann", b"secret", now);
        accepted.insert(b"bob", b"x", now + MEMORY / 2);
        assert_eq!(accepted.digests.borrow().len(), 2);
        accepted.insert(b"carl", b"x", now + MEMORY);
        assert_eq!(accepted.digests.borrow().len(), 2);
        assert!(!accepted.digests.borrow().contains_key(&b"ann"[..]));
    }

    #[cfg(feature = "sim")]
    #[test]
    fn a_timer_removes_the_passwords_that_are_too_old() -> asynchat::Result {
        let network = asynchat::sim::Network::new(1);
        let event_loop = network.event_loop()?;
        let accepted = Rc::new(Accepted::new());
        let insert = |name: &'static [u8]| {
            let accepted = Rc::clone(&accepted);
            event_loop.call_soon(move || accepted.insert(name, b"x", asynchat::now()));
        };
        let count = || accepted.digests.borrow().len();
        insert(b"ann");
        network.advance(&event_loop, MEMORY / 2)?;
        insert(b"bob");
        network.advance(&event_loop, MEMORY / 4)?;
        assert_eq!(count(), 2);
        network.advance(&event_loop, MEMORY / 2)?;
        assert_eq!(count(), 1);
        network.advance(&event_loop, MEMORY)?;
        assert_eq!(count(), 0);
        // A further one gets another timer.
        insert(b"carl");
        network.settle(&event_loop)?;
        assert_eq!(count(), 1);
        network.advance(&event_loop, MEMORY)?;
        assert_eq!(count(), 0);
        Ok(())
    }
}
