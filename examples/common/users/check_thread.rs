//! A check on a thread, and what follows it on the loop.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

/// What follows a check.
type Follow = Box<dyn FnOnce(Option<bool>)>;

thread_local! {
    /// What follows each check, by the number of the check. It belongs to the loop and cannot be moved to the thread of the
    /// check. The thread gets its number only.
    static FOLLOWING: RefCell<HashMap<u64, Follow>> = RefCell::default();
    static NUMBER: Cell<u64> = const { Cell::new(0) };
}

/// Calls `check` on a thread of its own, and then `follow` on the loop. `follow` gets `None` if `check` panics or the system
/// has no thread.
pub fn on_a_thread(
    check: impl FnOnce() -> bool + Send + 'static,
    follow: impl FnOnce(Option<bool>) + 'static,
) {
    let number = NUMBER.get();
    NUMBER.set(number + 1);
    FOLLOWING.with_borrow_mut(|all| all.insert(number, Box::new(follow)));
    let thread = thread::Builder::new().name("password".to_owned());
    let spawned = asynchat::remote().map(|remote| {
        thread.spawn(move || {
            let is_right = catch_unwind(AssertUnwindSafe(check)).ok();
            // An error means that the loop has ended.
            let _ = remote.post(move || call_following(number, is_right));
        })
    });
    if !matches!(spawned, Ok(Ok(_))) {
        tracing::warn!("there is no thread for the check of a password");
        asynchat::call_soon(move || call_following(number, None));
    }
}

fn call_following(number: u64, is_right: Option<bool>) {
    let follow = FOLLOWING.with_borrow_mut(|all| all.remove(&number));
    if let Some(follow) = follow {
        follow(is_right);
    }
}
