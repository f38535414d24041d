//! A socket and its registration with the poller.
//!
//! This file has one of the crate's few `unsafe` calls, which docs/architecture.md lists. `polling` requires that a
//! registered socket be deleted from the poller before it is closed: a descriptor that was closed and reused would
//! otherwise be watched under the old key. A [`WatchedSocket`] owns its socket, and deletes it from the poller before
//! it closes it.

use std::cell::Cell;
use std::io;
use std::mem;
use std::rc::Rc;

use super::interest::Interest;
use super::poller::Poller;
use super::socket::Fd;
use crate::log::log;

/// A socket that may be registered with a poller.
///
/// The methods take shared references: `polling` may log, and the subscriber that it calls may use
/// the channel of this socket.
pub(crate) struct WatchedSocket {
    socket: Fd,
    /// The poller that it is registered with, if any.
    poller: Cell<Option<Rc<Poller>>>,
    /// The key that it is registered under.
    key: Cell<usize>,
    /// The events that the poller watches for now. None while the socket is not registered, and after the
    /// event of a one-shot registration.
    interest: Cell<Interest>,
    /// Whether the next event disarms the registration.
    is_one_shot: Cell<bool>,
}

impl WatchedSocket {
    /// Not registered yet.
    pub(crate) fn new(socket: Fd) -> Self {
        WatchedSocket {
            socket,
            poller: Cell::new(None),
            key: Cell::new(0),
            interest: Cell::new(Interest::NONE),
            is_one_shot: Cell::new(false),
        }
    }

    #[inline]
    pub(crate) fn socket(&self) -> &Fd {
        &self.socket
    }

    /// The key that it is registered under, if it is registered.
    pub(crate) fn key(&self) -> Option<usize> {
        self.poller().map(|_| self.key.get())
    }

    /// The same socket, no longer registered.
    pub(crate) fn into_unwatched(self) -> Self {
        self.unwatch();
        self
    }

    /// The socket itself, no longer registered.
    pub(crate) fn into_socket(mut self) -> Fd {
        self.unwatch();
        mem::replace(&mut self.socket, Fd::Released)
    }

    /// Watches the socket for `interest` from now on. No system call is made if it is watched for
    /// that already.
    ///
    /// With no interest the socket is deleted from the poller: level mode would go on to report a
    /// hang-up forever. When it is registered again, it gets a new key from `new_key`.
    #[inline]
    pub(crate) fn watch(
        &self,
        poller: &Rc<Poller>,
        interest: Interest,
        new_key: impl FnOnce() -> usize,
    ) -> io::Result<()> {
        if self.interest.get() == interest && !interest.is_none() {
            return Ok(());
        }
        match self.poller() {
            None if interest.is_none() => Ok(()),
            None => self.register(poller, interest, new_key()),
            Some(_) if interest.is_none() => {
                self.unwatch();
                Ok(())
            }
            Some(poller) => {
                self.modify(&poller, interest)?;
                self.set_interest(&poller, interest);
                Ok(())
            }
        }
    }

    /// Registers the socket anew under its key, if it is registered: the poller may have lost the registration.
    pub(crate) fn reregister(&self) -> io::Result<()> {
        let (Some(poller), interest, key) = (self.poller(), self.interest.get(), self.key.get())
        else {
            return Ok(());
        };
        self.unwatch();
        self.watch(&poller, interest, || key)
    }

    /// Notes that an event of this socket was delivered. The poller has disarmed a one-shot
    /// registration then, so that the next [`watch`](WatchedSocket::watch) has to arm it again.
    #[inline]
    pub(crate) fn disarm_if_one_shot(&self) {
        if self.is_one_shot.get() {
            self.interest.set(Interest::NONE);
        }
    }

    fn set_interest(&self, poller: &Poller, interest: Interest) {
        self.interest.set(interest);
        self.is_one_shot
            .set(poller.is_one_shot() || interest == Interest::HANG_UP);
    }

    fn register(&self, poller: &Rc<Poller>, interest: Interest, key: usize) -> io::Result<()> {
        // Set before the call: if a subscriber that `polling` logs to panics, the socket may be
        // registered, and has to be deleted like any other.
        self.key.set(key);
        self.poller.set(Some(Rc::clone(poller)));
        self.set_interest(poller, interest);
        let added = self.add(poller, interest);
        if let Err(error) = &added {
            // The poller would refuse the next socket of that number. A socket that is refused because its number
            // is in the table already does not own the entry.
            let left = if poller.has_table() && error.kind() != io::ErrorKind::AlreadyExists {
                self.delete_with_retry(poller)
            } else {
                Ok(())
            };
            self.set_unregistered();
            log_left(left);
        }
        added
    }

    /// Deletes the socket from the poller, if it is registered.
    pub(crate) fn unwatch(&self) {
        let Some(poller) = self.poller() else { return };
        let deleted = self.delete_with_retry(&poller);
        self.set_unregistered();
        log_left(deleted);
    }

    /// With kqueue, `polling` leaves the socket in its table if the system refuses the delete, and refuses the next
    /// socket of that number. (epoll forgets a socket that is closed.) The socket is open and was registered, so no
    /// system has a reason to refuse; one that does may be out of memory for a moment.
    fn delete_with_retry(&self, poller: &Poller) -> io::Result<()> {
        twice(|| self.delete(poller))
    }

    fn set_unregistered(&self) {
        self.poller.set(None);
        self.interest.set(Interest::NONE);
    }

    fn poller(&self) -> Option<Rc<Poller>> {
        let poller = self.poller.take();
        self.poller.set(poller.clone());
        poller
    }

    #[allow(unsafe_code)]
    fn add(&self, poller: &Poller, interest: Interest) -> io::Result<()> {
        let key = self.key.get();
        match poller {
            Poller::Os(os) => {
                let (socket, event) = (self.socket.view()?, interest.as_polling(key));
                // SAFETY: `polling` requires that the socket be deleted from the poller before it is
                // closed. This value owns the socket, and returns only references to it.
                // `register` has stored the poller before this call, so that `Drop` deletes the
                // socket from this very poller, to which this value holds a reference, before either
                // is dropped. A value that is leaked leaks its socket as well, which then stays open
                // and registered.
                unsafe {
                    os.polling
                        .add_with_mode(&*socket, event, interest.mode(os.mode))
                        .map_err(explain)
                }
            }
            #[cfg(feature = "sim")]
            Poller::Simulated(simulated) => simulated.add(self.socket.simulated()?, key, interest),
        }
    }

    fn modify(&self, poller: &Poller, interest: Interest) -> io::Result<()> {
        match poller {
            Poller::Os(os) => {
                let event = interest.as_polling(self.key.get());
                let mode = interest.mode(os.mode);
                os.polling
                    .modify_with_mode(&*self.socket.view()?, event, mode)
            }
            #[cfg(feature = "sim")]
            Poller::Simulated(simulated) => simulated.modify(self.socket.simulated()?, interest),
        }
    }

    fn delete(&self, poller: &Poller) -> io::Result<()> {
        match poller {
            Poller::Os(os) => os.polling.delete(&*self.socket.view()?),
            #[cfg(feature = "sim")]
            Poller::Simulated(simulated) => {
                simulated.delete(self.socket.simulated()?);
                Ok(())
            }
        }
    }
}

impl Drop for WatchedSocket {
    fn drop(&mut self) {
        self.unwatch();
    }
}

/// Makes the call again if it fails. A socket that the poller does not know is as good as deleted.
fn twice(mut delete: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    match delete().or_else(|_| delete()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

/// A subscriber is user code, which may use the channel of the socket: the socket is unregistered by then.
fn log_left(deleted: io::Result<()>) {
    if let Err(error) = deleted {
        log!(warn, %error, "a socket could not be deleted from the poller");
    }
}

/// epoll refuses descriptors that are always ready, such as `/dev/null`, with EPERM. The text of EPERM ("Operation
/// not permitted") is misleading.
fn explain(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::PermissionDenied => io::Error::new(
            error.kind(),
            "it cannot be polled, because it is always ready (such as /dev/null)",
        ),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delete_that_fails_is_made_once_more() {
        let outcome_of = |outcomes: &[Option<io::ErrorKind>]| {
            let mut left = outcomes.iter();
            let outcome = twice(|| match left.next().expect("at most two calls") {
                Some(kind) => Err((*kind).into()),
                None => Ok(()),
            });
            assert_eq!(left.len(), 0, "each call is made");
            outcome.map_err(|error| error.kind())
        };
        let (memory, gone) = (io::ErrorKind::OutOfMemory, io::ErrorKind::NotFound);
        assert_eq!(outcome_of(&[None]), Ok(()));
        assert_eq!(outcome_of(&[Some(memory), None]), Ok(()));
        assert_eq!(outcome_of(&[Some(memory), Some(gone)]), Ok(()));
        assert_eq!(outcome_of(&[Some(memory), Some(memory)]), Err(memory));
    }
}
