//! An outgoing connection on its way up: one address after another, and exactly one outcome.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use crate::error::{Close, Error};
use crate::home::Home;
use crate::poller::Interest;
use crate::socket::Fd;
use crate::state::{Core, Phase};

/// What is left to try.
pub(crate) struct Connecting {
    addrs: VecDeque<SocketAddr>,
    /// The address of the attempt under way.
    trying: Option<SocketAddr>,
    /// Why the last attempt failed.
    failed: Option<Error>,
    nodelay: bool,
    /// The name is being looked up: the addresses are still to come.
    pub(crate) resolving: bool,
}

/// How far a connection has come.
pub(crate) enum Progress {
    Waiting(Interest),
    Up,
    Failed,
}

impl Connecting {
    pub(crate) fn new(addrs: VecDeque<SocketAddr>, nodelay: bool) -> Self {
        Connecting {
            addrs,
            trying: None,
            failed: None,
            nodelay,
            resolving: false,
        }
    }

    pub(crate) fn is_exhausted(&self) -> bool {
        self.addrs.is_empty()
    }
}

impl Core {
    /// The addresses of the name that was looked up, or why there are none.
    pub(crate) fn resolved(self: &Rc<Self>, name: &str, outcome: io::Result<Vec<SocketAddr>>) {
        if let Some(mut connecting) = self.connecting() {
            connecting.resolving = false;
            match outcome {
                Ok(addrs) => connecting.addrs = addrs.into(),
                Err(error) => {
                    let error = Error::from(error).context(format_args!("look up {name}"));
                    connecting.failed = Some(error);
                }
            }
        }
        self.touch();
    }

    /// The deadline for the whole of it has passed.
    pub(crate) fn connect_timed_out(self: &Rc<Self>) {
        let trying = self.connecting().and_then(|it| it.trying);
        let error = Error::from(io::Error::from(io::ErrorKind::TimedOut));
        self.end(Close::ConnectFailed(match trying {
            Some(addr) => error.context(format_args!("connect to {addr}")),
            None => error.context("connect"),
        }));
    }

    /// Looks how the attempt under way has fared, and begins the next if it has failed.
    pub(crate) fn advance_connection(self: &Rc<Self>, home: &Home) -> Progress {
        const WRITABLE: Interest = Interest {
            read: false,
            write: true,
        };
        let Some(mut connecting) = self.take_connecting() else {
            return Progress::Failed;
        };
        let progress = if connecting.resolving {
            Progress::Waiting(Interest::NONE)
        } else {
            match self.attempt(&mut connecting, home) {
                Attempt::Up => Progress::Up,
                Attempt::UnderWay => Progress::Waiting(WRITABLE),
                Attempt::Exhausted => Progress::Failed,
            }
        };
        match progress {
            Progress::Waiting(_) => self.put_connecting(connecting),
            Progress::Up => {
                self.phase.set(Phase::Open);
                self.start_clocks();
            }
            Progress::Failed => {
                let nothing = || Error::new("the name has no address");
                let error = connecting.failed.unwrap_or_else(nothing);
                self.end(Close::ConnectFailed(error));
            }
        }
        progress
    }

    fn attempt(self: &Rc<Self>, connecting: &mut Connecting, home: &Home) -> Attempt {
        if let Some(addr) = connecting.trying {
            match self.on_socket(Fd::connected) {
                Ok(None) => return Attempt::UnderWay,
                Ok(Some(peer)) => {
                    self.set_peer(peer);
                    return Attempt::Up;
                }
                // A connection that is refused says so. One that is reset was up: it has come and
                // gone between two looks, and what it sent is still to be delivered.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    self.set_peer(addr.into());
                    self.fail_sending(error);
                    return Attempt::Up;
                }
                Err(error) => connecting.fail(addr, error),
            }
            self.replace_socket(None);
        }
        while let Some(addr) = connecting.addrs.pop_front() {
            match home.poller.connect(addr, connecting.nodelay) {
                Ok(socket) => {
                    connecting.trying = Some(addr);
                    self.replace_socket(Some(socket));
                    return Attempt::UnderWay;
                }
                Err(error) => connecting.fail(addr, error),
            }
        }
        Attempt::Exhausted
    }
}

impl Connecting {
    fn fail(&mut self, addr: SocketAddr, error: io::Error) {
        tracing::debug!(%addr, %error, "an address could not be connected to");
        self.failed = Some(Error::from(error).context(format_args!("connect to {addr}")));
        self.trying = None;
    }
}

enum Attempt {
    Up,
    UnderWay,
    Exhausted,
}
