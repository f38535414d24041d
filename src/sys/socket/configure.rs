//! The user's function that sets options of a new socket.

use std::fmt;
use std::io;
use std::rc::Rc;

use socket2::SockRef;

use super::Fd;
use crate::user_code::{discard, enter};

type Function = dyn Fn(&SockRef<'_>) -> io::Result<()>;

/// A function of the user that sets options of a new socket.
#[derive(Clone)]
pub(crate) struct Configure(Option<Rc<Function>>);

impl Configure {
    pub(crate) fn new(function: impl Fn(&SockRef<'_>) -> io::Result<()> + 'static) -> Self {
        Configure(Some(Rc::new(function)))
    }

    /// Calls the function with `socket`. A simulated socket has no options: nothing is called for it.
    ///
    /// # Errors
    /// That of the function, or its panic.
    pub(crate) fn apply(&self, socket: &Fd) -> io::Result<()> {
        #[cfg(feature = "sim")]
        if matches!(socket, Fd::Simulated(_)) {
            return Ok(());
        }
        let socket = socket.view()?;
        self.call(&socket)
    }

    pub(super) fn call(&self, socket: &SockRef<'_>) -> io::Result<()> {
        let Some(function) = &self.0 else {
            return Ok(());
        };
        match enter(|| function(socket).map_err(without_user_code)) {
            // A blocking socket would stop the loop.
            Ok(Ok(())) => socket.set_nonblocking(true),
            Ok(Err(error)) => Err(error),
            Err(panic) => Err(io::Error::other(format!("configure panicked: {panic}"))),
        }
    }
}

/// The same error, whose destructor and text are no user code any more: it is stored, logged and dropped in places
/// where none may run.
fn without_user_code(error: io::Error) -> io::Error {
    match error.get_ref() {
        Some(custom) => {
            let (kind, text) = (error.kind(), custom.to_string());
            discard(error);
            io::Error::new(kind, text)
        }
        None => error,
    }
}

impl Drop for Configure {
    /// What the function has captured is the user's.
    fn drop(&mut self) {
        discard(self.0.take());
    }
}

impl fmt::Debug for Configure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Configure")
    }
}
