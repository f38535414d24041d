//! Log-ins whose passwords are not checked before a test permits it.

use std::cell::RefCell;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use asynchat::Result;

use crate::users::Logins;

/// A test that fails must end.
const DEADLINE: Duration = Duration::from_secs(60);

/// Permits checks.
pub(crate) struct Gate {
    permit: Sender<()>,
    ended: Receiver<()>,
}

impl Gate {
    /// Lets a check find that the password is right. Returns when the loop has the result, which its next turn delivers.
    pub(crate) fn open(&self) -> Result {
        self.permit.send(())?;
        Ok(self.ended.recv_timeout(DEADLINE)?)
    }
}

/// Sends a message when it is dropped.
struct AtEnd(Sender<()>);

impl Drop for AtEnd {
    fn drop(&mut self) {
        // An error means that the test has ended.
        let _ = self.0.send(());
    }
}

thread_local! {
    /// It is dropped at the end of the thread of a check, which has posted the result to the loop before.
    static AT_END: RefCell<Option<AtEnd>> = const { RefCell::new(None) };
}

pub(crate) fn gated() -> (Logins, Gate) {
    let (permit, permitted) = channel::<()>();
    let (at_end, ended) = channel();
    let shared = Mutex::new((permitted, at_end));
    let check = move |_: &[u8], _: &[u8]| {
        shared.lock().is_ok_and(|shared| {
            AT_END.set(Some(AtEnd(shared.1.clone())));
            shared.0.recv_timeout(DEADLINE).is_ok()
        })
    };
    let logins = Logins::with_check(false, check, 1);
    (logins, Gate { permit, ended })
}
