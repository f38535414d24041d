//! An outgoing connection on its way up: several attempts at a time, and exactly one outcome.
//!
//! Until it is up the channel has no socket. Each attempt has one, watched under the channel's own
//! poll key, so that news of any of them is the channel's turn. The first to be up becomes the
//! channel's; the others are closed (RFC 8305 section 5).

mod plan;

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::error::{Close, Error};
use crate::home::{Home, Task};
use crate::poller::{Interest, Source};
use crate::state::{Core, Phase};
use crate::timer::TimerId;

pub(crate) use plan::ATTEMPT_DELAY;
use plan::Plan;

/// What is under way, and what is left to try.
pub(crate) struct Connecting {
    plan: Plan,
    attempts: Vec<Attempt>,
    /// That of all attempts.
    key: Option<usize>,
    /// Set for when the next is due.
    timer: Option<TimerId>,
    /// Why the last attempt failed.
    failed: Option<Error>,
    delay: Duration,
    nodelay: bool,
    /// The name is being looked up: the addresses are still to come.
    resolving: bool,
}

struct Attempt {
    addr: SocketAddr,
    source: Source,
}

/// How far a connection has come.
pub(crate) enum Progress {
    Waiting,
    Up,
    Failed,
}

impl Connecting {
    pub(crate) fn new(
        addrs: impl IntoIterator<Item = SocketAddr>,
        delay: Duration,
        nodelay: bool,
    ) -> Self {
        Connecting {
            plan: Plan::new(addrs, delay),
            attempts: Vec::new(),
            key: None,
            timer: None,
            failed: None,
            delay,
            nodelay,
            resolving: false,
        }
    }

    /// To addresses that [`Core::resolved`] is to tell.
    pub(crate) fn resolving(delay: Duration, nodelay: bool) -> Self {
        let mut connecting = Connecting::new([], delay, nodelay);
        connecting.resolving = true;
        connecting
    }

    pub(crate) fn is_exhausted(&self) -> bool {
        self.plan.is_exhausted()
    }

    /// An event was delivered for one of them; it does not say which.
    pub(crate) fn reported(&mut self) {
        for attempt in &mut self.attempts {
            attempt.source.reported();
        }
    }

    fn fail(&mut self, addr: SocketAddr, error: io::Error) {
        tracing::debug!(%addr, %error, "an address could not be connected to");
        self.failed = Some(Error::from(error).context(format_args!("connect to {addr}")));
        self.plan.failed();
    }
}

impl Core {
    /// The addresses of the name that was looked up, or why there are none.
    pub(crate) fn resolved(self: &Rc<Self>, name: &str, outcome: io::Result<Vec<SocketAddr>>) {
        if let Some(mut connecting) = self.connecting() {
            connecting.resolving = false;
            match outcome {
                Ok(addrs) => connecting.plan = Plan::new(addrs, connecting.delay),
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
        let error = Error::from(io::Error::from(io::ErrorKind::TimedOut));
        let trying = self.connecting().map(|it| {
            let addrs = it.attempts.iter().map(|attempt| attempt.addr.to_string());
            addrs.collect::<Vec<_>>().join(", ")
        });
        self.end(Close::ConnectFailed(match trying {
            Some(addrs) if !addrs.is_empty() => error.context(format_args!("connect to {addrs}")),
            _ => error.context("connect"),
        }));
    }

    /// Looks how the attempts under way have fared, and begins the next if it is due.
    pub(crate) fn advance_connection(self: &Rc<Self>, home: &Rc<Home>) -> Progress {
        let Some(mut connecting) = self.take_connecting() else {
            return Progress::Failed;
        };
        if connecting.resolving {
            self.put_connecting(connecting);
            return Progress::Waiting;
        }
        if self.look_at_attempts(&mut connecting) {
            self.set_attempt_timer(home, &mut connecting, None);
            self.phase.set(Phase::Open);
            self.start_clocks();
            if let Some(retrying) = self.retrying() {
                retrying.came_up(home.now());
            }
            return Progress::Up;
        }
        self.begin_attempts(home, &mut connecting);
        let due = connecting.plan.due();
        self.set_attempt_timer(home, &mut connecting, due);
        if !connecting.attempts.is_empty() {
            self.put_connecting(connecting);
            return Progress::Waiting;
        }
        let nothing = || Error::new("the name has no address");
        self.end(Close::ConnectFailed(
            connecting.failed.unwrap_or_else(nothing),
        ));
        Progress::Failed
    }

    /// Whether one of them is up: then its socket is the channel's.
    fn look_at_attempts(self: &Rc<Self>, connecting: &mut Connecting) -> bool {
        let alone = connecting.attempts.len() == 1;
        for Attempt { addr, source } in mem::take(&mut connecting.attempts) {
            // A connection that is refused says so. One that is reset was up: it has come and
            // gone between two looks, and what it sent is still to be delivered.
            let (peer, reset) = match source.socket().connected() {
                Ok(None) => {
                    connecting.attempts.push(Attempt { addr, source });
                    continue;
                }
                Ok(Some(peer)) => (peer, None),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    (addr.into(), Some(error))
                }
                Err(error) => {
                    connecting.fail(addr, error);
                    continue;
                }
            };
            self.set_peer(peer);
            // News of the others may be still to come in this batch: it is not the winner's.
            self.replace_source(Some(match alone {
                true => source,
                false => source.unwatched(),
            }));
            if let Some(error) = reset {
                self.fail_sending(error);
            }
            return true;
        }
        false
    }

    /// Begins what is due, and has what is under way watched.
    fn begin_attempts(&self, home: &Rc<Home>, connecting: &mut Connecting) {
        loop {
            self.watch_attempts(home, connecting);
            let Some(addr) = connecting.plan.next(home.now()) else {
                return;
            };
            match home.poller.connect(addr, connecting.nodelay) {
                Ok(socket) => {
                    if self.chat.is_chat.get() {
                        socket.set_urgent_inline();
                    }
                    let source = Source::new(socket);
                    connecting.attempts.push(Attempt { addr, source });
                }
                Err(error) => connecting.fail(addr, error),
            }
        }
    }

    fn watch_attempts(&self, home: &Rc<Home>, connecting: &mut Connecting) {
        const WRITABLE: Interest = Interest {
            read: false,
            write: true,
        };
        for Attempt { addr, mut source } in mem::take(&mut connecting.attempts) {
            let new_key = || home.poll_key(self.id.get());
            let key = || *connecting.key.get_or_insert_with(new_key);
            match source.watch(&home.poller, WRITABLE, key) {
                Ok(()) => connecting.attempts.push(Attempt { addr, source }),
                Err(error) => connecting.fail(addr, error),
            }
        }
    }

    /// The next attempt is due then, or never.
    fn set_attempt_timer(&self, home: &Home, connecting: &mut Connecting, due: Option<Instant>) {
        match (connecting.timer, due) {
            (Some(timer), Some(due)) => {
                home.reset_timer_at(timer, due);
            }
            (Some(timer), None) => {
                home.forget_timer(timer);
                self.remove_timer(timer);
                connecting.timer = None;
            }
            (None, Some(due)) => {
                let timer = home.set_timer_at(due, Task::Attempt(self.id.get()));
                self.add_timer(timer);
                connecting.timer = Some(timer);
            }
            (None, None) => {}
        }
    }

    /// Its timer has fired.
    pub(crate) fn attempt_is_due(self: &Rc<Self>, timer: TimerId) {
        self.remove_timer(timer);
        if let Some(mut connecting) = self.connecting() {
            connecting.timer = None;
        }
        self.touch();
    }
}
