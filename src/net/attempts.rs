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
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Close, Error};
use crate::log::log;
use crate::runtime::remote::Remote;
use crate::runtime::{Runtime, Task};
use crate::state::{ChannelState, Phase};
use crate::sys::interest::Interest;
use crate::sys::resolver::Ticket;
use crate::sys::system::Resolution;
use crate::sys::watched_socket::WatchedSocket;
use crate::time::timer::TimerId;

pub(crate) use plan::ATTEMPT_DELAY;
use plan::Plan;

/// How long a name may be looked up where no connect deadline is set. glibc asks each of up to three
/// servers twice, for five seconds each: resolv.conf(5).
const LOOKUP: Duration = Duration::from_secs(30);

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
    lookup: Option<Lookup>,
}

struct Lookup {
    name: String,
    /// Dropped, it leaves the resolver's queue.
    ticket: Option<Ticket>,
}

struct Attempt {
    addr: SocketAddr,
    source: WatchedSocket,
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
            lookup: None,
        }
    }

    /// To the addresses of a name, which [`ChannelState::resolved`] is given.
    pub(crate) fn resolving(name: String, delay: Duration, nodelay: bool) -> Self {
        let mut connecting = Connecting::new([], delay, nodelay);
        connecting.lookup = Some(Lookup { name, ticket: None });
        connecting
    }

    pub(crate) fn is_exhausted(&self) -> bool {
        self.plan.is_exhausted()
    }

    /// An event was delivered for one of them; it does not say which.
    pub(crate) fn reported(&mut self) {
        for attempt in &mut self.attempts {
            attempt.source.disarm_if_one_shot();
        }
    }

    /// The end of the look-up, if it has not come before.
    fn resolved(&mut self, outcome: io::Result<Vec<SocketAddr>>) {
        let Some(lookup) = self.lookup.take() else {
            return;
        };
        match outcome {
            Ok(addrs) => self.plan = Plan::new(addrs, self.delay),
            Err(error) => {
                let error = Error::from(error).context(format_args!("look up {}", lookup.name));
                self.failed = Some(error);
            }
        }
    }

    fn fail(&mut self, addr: SocketAddr, error: io::Error) {
        log!(debug, %addr, %error, "an address could not be connected to");
        self.failed = Some(Error::from(error).context(format_args!("connect to {addr}")));
        self.plan.failed();
    }
}

impl ChannelState {
    /// Has the host looked up that it is to connect to.
    pub(crate) fn look_up(self: &Rc<Self>, runtime: &Rc<Runtime>, host: &str, port: u16) {
        let (remote, id) = (Remote::new(Arc::clone(&runtime.inbox)), self.id.get());
        let reply = move |outcome: io::Result<Vec<SocketAddr>>| {
            let outcome = outcome.map(|mut addrs| {
                addrs.iter_mut().for_each(|addr| addr.set_port(port));
                addrs
            });
            // Nobody waits for it any more if the loop is gone.
            let _ = remote.send(Box::new(move |runtime| {
                if let Some(state) = runtime.state(id) {
                    state.resolved(outcome);
                }
            }));
        };
        let ticket = match runtime.poller.system().resolve(host, port) {
            Resolution::AskResolver => runtime.resolver.look_up(host, Box::new(reply)).map(Some),
            Resolution::Known(outcome) => return self.resolved(outcome),
            Resolution::NoAnswer => Ok(None),
        };
        let ticket = match ticket {
            Ok(ticket) => ticket,
            Err(error) => return self.resolved(Err(error)),
        };
        let Some(mut connecting) = self.take_connecting() else {
            return;
        };
        if let Some(lookup) = &mut connecting.lookup {
            lookup.ticket = ticket;
        }
        self.set_attempt_timer(runtime, &mut connecting, runtime.now().checked_add(LOOKUP));
        self.put_connecting(connecting);
    }

    /// The addresses of the name that was looked up, or why there are none.
    pub(crate) fn resolved(self: &Rc<Self>, outcome: io::Result<Vec<SocketAddr>>) {
        if let Some(mut connecting) = self.connecting() {
            connecting.resolved(outcome);
        }
        self.touch();
    }

    /// The deadline for the whole of it has passed.
    pub(crate) fn connect_timed_out(self: &Rc<Self>) {
        let error = Error::from(io::Error::from(io::ErrorKind::TimedOut));
        let trying = self.connecting().map(|it| match &it.lookup {
            Some(lookup) => format!("look up {}", lookup.name),
            None => {
                let addrs = it.attempts.iter().map(|attempt| attempt.addr.to_string());
                format!("connect to {}", addrs.collect::<Vec<_>>().join(", "))
            }
        });
        let trying = trying.unwrap_or_else(|| "connect".to_owned());
        self.end(Close::ConnectFailed(error.context(trying)));
    }

    /// Looks how the attempts under way have fared, and begins the next if it is due.
    pub(crate) fn advance_connection(self: &Rc<Self>, runtime: &Rc<Runtime>) -> Progress {
        let Some(mut connecting) = self.take_connecting() else {
            return Progress::Failed;
        };
        if connecting.lookup.is_some() {
            self.put_connecting(connecting);
            return Progress::Waiting;
        }
        if self.look_at_attempts(&mut connecting) {
            self.set_attempt_timer(runtime, &mut connecting, None);
            self.phase.set(Phase::Open);
            self.start_clocks();
            if let Some(retrying) = self.retrying() {
                retrying.came_up(runtime.now());
            }
            return Progress::Up;
        }
        self.begin_attempts(runtime, &mut connecting);
        let due = connecting.plan.due();
        self.set_attempt_timer(runtime, &mut connecting, due);
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
                false => source.into_unwatched(),
            }));
            if let Some(error) = reset {
                self.fail_sending(error);
            }
            return true;
        }
        false
    }

    /// Begins what is due, and has what is under way watched.
    fn begin_attempts(&self, runtime: &Rc<Runtime>, connecting: &mut Connecting) {
        loop {
            self.watch_attempts(runtime, connecting);
            let Some(addr) = connecting.plan.next(runtime.now()) else {
                return;
            };
            match runtime.poller.system().connect(addr, connecting.nodelay) {
                Ok(socket) => {
                    if self.chat.is_chat.get()
                        && let Err(error) = socket.set_urgent_inline()
                    {
                        log!(debug, %error, "SO_OOBINLINE is not set");
                    }
                    let source = WatchedSocket::new(socket);
                    connecting.attempts.push(Attempt { addr, source });
                }
                Err(error) => connecting.fail(addr, error),
            }
        }
    }

    fn watch_attempts(&self, runtime: &Rc<Runtime>, connecting: &mut Connecting) {
        for Attempt { addr, source } in mem::take(&mut connecting.attempts) {
            let new_key = || runtime.poll_key(self.id.get());
            let key = || *connecting.key.get_or_insert_with(new_key);
            match source.watch(&runtime.poller, Interest::WRITE, key) {
                Ok(()) => connecting.attempts.push(Attempt { addr, source }),
                Err(error) => connecting.fail(addr, error),
            }
        }
    }

    /// The next attempt is due then, or never.
    fn set_attempt_timer(
        &self,
        runtime: &Runtime,
        connecting: &mut Connecting,
        due: Option<Instant>,
    ) {
        match (connecting.timer, due) {
            (Some(timer), Some(due)) => {
                runtime.reset_timer_at(timer, due);
            }
            (Some(timer), None) => {
                runtime.forget_timer(timer);
                self.remove_timer(timer);
                connecting.timer = None;
            }
            (None, Some(due)) => {
                let timer = runtime.set_timer_at(due, Task::Attempt(self.id.get()));
                self.add_timer(timer);
                connecting.timer = Some(timer);
            }
            (None, None) => {}
        }
    }

    /// Its timer has fired: the next attempt is due, or the name has been looked up for too long.
    pub(crate) fn attempt_is_due(self: &Rc<Self>, runtime: &Runtime, timer: TimerId) {
        self.remove_timer(timer);
        let Some(mut connecting) = self.take_connecting() else {
            return;
        };
        connecting.timer = None;
        if connecting.lookup.is_some() {
            match self.deadlines().connect {
                None => connecting.resolved(Err(io::ErrorKind::TimedOut.into())),
                // That holds as long as there is one.
                Some(_) => {
                    let due = runtime.now().checked_add(LOOKUP);
                    self.set_attempt_timer(runtime, &mut connecting, due);
                }
            }
        }
        self.put_connecting(connecting);
        self.touch();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::channel;

    use super::*;
    use crate::sys::poller::Poller;
    use crate::sys::resolver::Resolver;
    use crate::{AsyncChat, Connector, EventLoop, Result};

    type Ends = Rc<RefCell<Vec<String>>>;

    struct Ending(&'static str, Ends);

    impl AsyncChat for Ending {
        fn found_terminator(&mut self, _: &[u8]) -> Result {
            Ok(())
        }
        fn handle_close(&mut self, why: &Close) {
            self.1.borrow_mut().push(format!("{}: {why}", self.0));
        }
    }

    /// A resolver that hangs has four threads, however many names there are; who waits for it fails at
    /// the deadline, and who is closed is closed at once.
    #[test]
    fn a_resolver_that_hangs_holds_nobody_beyond_the_deadline() -> Result {
        let ((hung, hangs), begun) = (channel::<()>(), Arc::new(AtomicUsize::new(0)));
        let (hangs, begin) = (std::sync::Mutex::new(hangs), Arc::clone(&begun));
        let resolver = Resolver::new(move |_| {
            begin.fetch_add(1, Ordering::SeqCst);
            // Until the end of the test.
            drop(hangs.lock().map(|hangs| hangs.recv()));
            Ok(Vec::new())
        });
        let event_loop = EventLoop(Runtime::with_resolver(Poller::new()?, resolver));
        let ends = Ends::default();
        let connect = |host: &'static str, n: usize, after: u64| {
            let connector = Connector::new((format!("{host}{n}"), 119))
                .connect_timeout(Duration::from_millis(after));
            let ending = Ending(host, Rc::clone(&ends));
            connector.connect_on(&event_loop, |_| ending)
        };
        let mut hanging = Vec::new();
        for n in 0..100 {
            hanging.push(connect("hung", n, 3_600_000)?);
        }
        let closed = connect("closed", 0, 3_600_000)?;
        let _late = connect("late", 0, 50)?;
        closed.close();
        while ends.borrow().len() < 2 {
            event_loop.run_once(None)?;
        }
        let late = "late: could not connect: look up late0:119: timed out";
        assert_eq!(*ends.borrow(), ["closed: closed by this side", late]);
        event_loop.close_all();
        event_loop.run()?;
        assert_eq!(ends.borrow().len(), 102);
        assert!(begun.load(Ordering::SeqCst) <= 4);
        drop(hung);
        Ok(())
    }
}
