//! Checks of passwords for tests of `nntp`, without threads.

#[path = "../../common/login_limit.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "the programs use all of it, in other modules"
)]
mod login_limit;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use asynchat::Chat;

use crate::server::passwords::{CheckPassword, Checked};
use login_limit::{Client, LoginLimit};

/// The password of the user ann is "secret". The limit is that of the program.
pub(crate) fn ann() -> Box<CheckPassword> {
    let limit = LoginLimit::default();
    Box::new(move |chat, name, password| {
        let client = Client::new(chat.peer_addr().as_ref());
        let is_right = (name, password) == ("ann", "secret");
        Some(if limit.may_try(client) && is_right {
            Checked::Right
        } else {
            limit.record_failure(client);
            Checked::Wrong(limit.delay(client, Duration::from_secs(1)))
        })
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
