//! Checks of passwords for tests of `nntp`, without threads.

use std::cell::RefCell;
use std::rc::Rc;

use asynchat::Chat;

use crate::server::passwords::{CheckPassword, Checked};

/// The password of the user ann is "secret".
pub(crate) fn ann() -> Box<CheckPassword> {
    Box::new(|_, name, password| match (name, password) {
        ("ann", "secret") => Some(Checked::Right),
        _ => Some(Checked::Wrong),
    })
}

/// A check that takes a while, and the connection whose password is being checked. The test ends the check.
pub(crate) fn pending() -> (Box<CheckPassword>, Rc<RefCell<Option<Chat>>>) {
    let checking: Rc<RefCell<Option<Chat>>> = Rc::default();
    let started = Rc::clone(&checking);
    let check = move |chat: &Chat, _: &str, _: &str| {
        started.replace(Some(chat.clone()));
        None
    };
    (Box::new(check), checking)
}
