//! The attempts to connect one channel: several at a time, and exactly one outcome (RFC 8305).
//!
//! Each attempt has a socket of its own, watched under the poll key of the channel, so that an event
//! of any of them gives the channel a turn. The first socket that is connected becomes the channel's.
//! The others are closed (section 5).

pub(crate) mod adopted;
mod plan;

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::log::log;
use crate::state::connect::{AttemptContext, Connect, Connected, Progress};
use crate::sys::interest::Interest;
use crate::sys::resolver::Ticket;
use crate::sys::socket::{ConnectOptions, LocalAddrs};
use crate::sys::watched_socket::WatchedSocket;
use crate::user_code::discard_each;

use plan::Plan;

/// How long a look-up may take where no connect deadline is set. glibc asks each of up to three
/// servers twice, for five seconds each: resolv.conf(5).
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(30);

/// How the attempts are made.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// The Connection Attempt Delay of RFC 8305.
    pub(crate) delay: Duration,
    pub(crate) socket: ConnectOptions,
    /// Whether urgent data is received in its place in the stream (SO_OOBINLINE).
    pub(crate) urgent_inline: bool,
}

impl Options {
    pub(crate) fn for_dispatcher() -> Self {
        Options {
            delay: plan::RECOMMENDED_DELAY,
            socket: ConnectOptions {
                nodelay: true,
                local: LocalAddrs::default(),
                configure: None,
            },
            urgent_inline: false,
        }
    }

    pub(crate) fn for_chat() -> Self {
        Options {
            urgent_inline: true,
            ..Options::for_dispatcher()
        }
    }
}

/// The attempts to connect one channel.
pub(crate) struct Attempts {
    options: Options,
    stage: Stage,
}

enum Stage {
    Resolving(LookUp),
    Racing(Race),
}

/// The addresses of a name are awaited.
struct LookUp {
    target: String,
    /// When the look-up has failed, if no connect deadline is set then.
    give_up_at: Instant,
    /// Takes the name out of the resolver's queue when it is dropped.
    ticket: Option<Ticket>,
}

/// The addresses are tried.
struct Race {
    plan: Plan,
    attempts: Vec<Attempt>,
    /// The poll key of all attempts.
    key: Option<usize>,
    /// Why the last attempt has failed, or the look-up before them.
    error: Option<Error>,
}

struct Attempt {
    addr: SocketAddr,
    source: WatchedSocket,
}

impl Attempts {
    /// Tries these addresses.
    pub(crate) fn new(addrs: Vec<SocketAddr>, options: Options) -> Self {
        Attempts {
            stage: Stage::Racing(Race::new(addrs, &options)),
            options,
        }
    }

    /// Tries the addresses of `target`, whose look-up begins `now`.
    pub(crate) fn resolving(target: String, now: Instant, options: Options) -> Self {
        Attempts {
            options,
            stage: Stage::Resolving(LookUp {
                target,
                give_up_at: now + LOOK_UP_TIMEOUT,
                ticket: None,
            }),
        }
    }

    /// Gives the look-up its ticket from the resolver.
    pub(crate) fn set_ticket(&mut self, ticket: Ticket) {
        if let Stage::Resolving(look_up) = &mut self.stage {
            look_up.ticket = Some(ticket);
        }
    }
}

impl Connect for Attempts {
    fn advance(&mut self, context: &AttemptContext<'_>) -> Progress {
        match &mut self.stage {
            Stage::Racing(race) => race.advance(context, &self.options),
            Stage::Resolving(look_up) => look_up.advance(context),
        }
    }

    fn event_reported(&mut self) {
        if let Stage::Racing(race) = &self.stage {
            for attempt in &race.attempts {
                attempt.source.disarm_if_one_shot();
            }
        }
    }

    fn unwatch(&mut self) {
        if let Stage::Racing(race) = &self.stage {
            for attempt in &race.attempts {
                attempt.source.unwatch();
            }
        }
    }

    fn resolved(&mut self, outcome: io::Result<Vec<SocketAddr>>) {
        let Stage::Resolving(look_up) = &self.stage else {
            return;
        };
        let race = match outcome {
            Ok(addrs) => Race::new(addrs, &self.options),
            Err(error) => {
                let mut race = Race::new(Vec::new(), &self.options);
                race.error = Some(look_up.failed(error));
                race
            }
        };
        self.stage = Stage::Racing(race);
    }

    fn action(&self) -> String {
        match &self.stage {
            Stage::Resolving(look_up) => look_up.action(),
            Stage::Racing(race) => race.action(),
        }
    }
}

impl LookUp {
    fn advance(&mut self, context: &AttemptContext<'_>) -> Progress {
        if context.now >= self.give_up_at {
            if !context.has_deadline {
                return Progress::Failed(self.failed(io::ErrorKind::TimedOut.into()));
            }
            // The deadline may be lifted before it has passed.
            self.give_up_at = context.now + LOOK_UP_TIMEOUT;
        }
        Progress::Waiting(Some(self.give_up_at))
    }

    fn failed(&self, error: io::Error) -> Error {
        Error::from(error).context(self.action())
    }

    fn action(&self) -> String {
        format!("look up {}", self.target)
    }
}

impl Race {
    /// Addresses of a family that has no local address are skipped.
    fn new(addrs: Vec<SocketAddr>, options: &Options) -> Self {
        let local = options.socket.local;
        let (addrs, skipped): (Vec<_>, Vec<_>) = addrs.into_iter().partition(|it| local.reach(*it));
        let other_family = |addr| {
            let error = Error::new("the local address is of another address family");
            error.context(format_args!("connect to {addr}"))
        };
        Race {
            plan: Plan::new(addrs, options.delay),
            attempts: Vec::new(),
            key: None,
            error: skipped.first().map(other_family),
        }
    }

    fn advance(&mut self, context: &AttemptContext<'_>, options: &Options) -> Progress {
        if let Some(connected) = self.take_winner() {
            return Progress::Connected(connected);
        }
        self.begin_due(context, options);
        if self.attempts.is_empty() {
            let no_address = || Error::new("the name has no address");
            return Progress::Failed(self.error.take().unwrap_or_else(no_address));
        }
        Progress::Waiting(self.plan.due())
    }

    /// The first attempt that is connected. Those that have failed are dropped.
    fn take_winner(&mut self) -> Option<Connected> {
        let is_only = self.attempts.len() == 1;
        for Attempt { addr, source } in mem::take(&mut self.attempts) {
            let (peer, reset) = match source.socket().connected() {
                Ok(None) => {
                    self.attempts.push(Attempt { addr, source });
                    continue;
                }
                Ok(Some(peer)) => (peer, None),
                // A refused connection has another error (ECONNREFUSED). This one was up, and the
                // peer has reset it since: what it had sent before is still to be delivered.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    (addr.into(), Some(error))
                }
                Err(error) => {
                    self.fail(addr, error);
                    continue;
                }
            };
            // Events of the other attempts may still come in this batch, under the same key. A
            // winner that had company is therefore watched under another key from now on.
            let source = if is_only {
                source
            } else {
                source.into_unwatched()
            };
            return Some(Connected {
                source,
                peer: Some(peer),
                reset,
            });
        }
        None
    }

    /// Begins each attempt that is due, and watches all that are under way.
    fn begin_due(&mut self, context: &AttemptContext<'_>, options: &Options) {
        loop {
            self.watch(context);
            let Some(addr) = self.plan.next(context.now) else {
                return;
            };
            match context.poller.system().connect(addr, &options.socket) {
                Ok(socket) => {
                    if options.urgent_inline
                        && let Err(error) = socket.set_urgent_inline()
                    {
                        log!(debug, %error, "SO_OOBINLINE could not be set");
                    }
                    let source = WatchedSocket::new(socket);
                    self.attempts.push(Attempt { addr, source });
                }
                Err(error) => self.fail(addr, error),
            }
        }
    }

    fn watch(&mut self, context: &AttemptContext<'_>) {
        const WRITABLE: Interest = Interest::new(false, true);
        for Attempt { addr, source } in mem::take(&mut self.attempts) {
            let key = || *self.key.get_or_insert_with(context.new_key);
            match source.watch(context.poller, WRITABLE, key) {
                Ok(()) => self.attempts.push(Attempt { addr, source }),
                Err(error) => self.fail(addr, error),
            }
        }
    }

    fn fail(&mut self, addr: SocketAddr, error: io::Error) {
        log!(debug, %addr, %error, "a connection attempt failed");
        let error = Error::from(error).context(format_args!("connect to {addr}"));
        discard_each(self.error.replace(error));
        self.plan.attempt_failed();
    }

    fn action(&self) -> String {
        let addrs = self.attempts.iter().map(|attempt| attempt.addr.to_string());
        format!("connect to {}", addrs.collect::<Vec<_>>().join(", "))
    }
}

impl Drop for Race {
    /// The error of `configure` is the user's. No caller expects the panic of its destructor.
    fn drop(&mut self) {
        discard_each(self.error.take());
    }
}
