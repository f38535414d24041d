//! Deadlines: a peer that is too slow outlives none of them, and a peer that is as fast as the loop lets it be is
//! ended by none, however the loop stalls, sessions pause, and budgets cut what is moved at once.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use asynchat::sim::{Conditions, Network, Peer};
use asynchat::{
    AsyncChat, Chat, Close, Connector, Deadline, Deadlines, EventLoop, Limits, More, Producer,
    Result, Terminator, TimerId,
};

use crate::rng::Rng;
use crate::seeds::Outcome;

/// How much later than due a deadline may pass: one that has been put off is checked again after a millisecond.
const LATE: Duration = Duration::from_millis(3);

/// What a slow peer sends or takes at once. A peer of which 1 KiB waits is not slow after a stall.
const TRICKLE: usize = 5;

/// The least that a simulated kernel buffers in these programs.
const BUFFER: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Sends a few bytes now and then, of a record that it does not complete.
    SlowSender,
    /// Has complete records to send, at any time.
    FastSender,
    /// Takes a few bytes now and then, of an endless output.
    SlowReader,
    /// Takes everything at once.
    FastReader,
}

impl Kind {
    fn is_slow(self) -> bool {
        matches!(self, Kind::SlowSender | Kind::SlowReader)
    }

    fn sends(self) -> bool {
        matches!(self, Kind::SlowSender | Kind::FastSender)
    }
}

struct World {
    rng: Rc<Rng>,
    network: Network,
    event_loop: EventLoop,
    /// An outer loop polls for this one. How long it does not is not known, only how late it is.
    is_embedded: bool,
    stalls: bool,
    /// How long all stalls have lasted.
    stalled: Rc<Cell<Duration>>,
    connections: Vec<Connection>,
    log: Option<RefCell<Vec<String>>>,
    wrong: RefCell<Vec<String>>,
}

struct Connection {
    number: usize,
    kind: Kind,
    which: Deadline,
    /// Its deadline.
    after: Duration,
    peer: Peer,
    chat: Chat,
    link: Rc<Link>,
    /// When the peer has sent its first byte, and how long its session had been paused by then.
    sent: Cell<Option<(Instant, Duration)>>,
    /// When its clock had begun for sure, and how long its session had been paused by then.
    begun: Cell<Option<(Instant, Duration)>>,
    is_judged: Cell<bool>,
    /// For how long the loop had stalled when its clock began.
    stalled_before: Cell<Duration>,
}

/// The test's view of a session.
#[derive(Default)]
struct Link {
    /// It may pause.
    pauses: bool,
    paused: Cell<Option<Instant>>,
    /// For how long it was paused, in all.
    rested: Cell<Duration>,
    end: Cell<Option<(Option<Deadline>, Instant)>>,
    calls: Cell<u64>,
}

impl Link {
    fn pause(&self, chat: &Chat) {
        if self.paused.get().is_none() {
            self.paused.set(Some(asynchat::now()));
        }
        chat.pause_reading();
    }

    fn resume(&self, chat: &Chat) {
        self.rested.set(self.rested_by(asynchat::now()));
        self.paused.set(None);
        chat.resume_reading();
    }

    fn rested_by(&self, now: Instant) -> Duration {
        let since = self.paused.get();
        self.rested.get() + since.map_or(Duration::ZERO, |since| now - since)
    }
}

pub(crate) fn run(seed: u64, logs: bool) -> Result<Outcome> {
    let world = World::new(seed, logs)?;
    for _ in 0..40 + world.rng.below(60) {
        world.happen()?;
        world.check();
        if !world.wrong.borrow().is_empty() {
            break;
        }
    }
    let links = world.connections.iter().map(|it| &it.link);
    Ok(Outcome {
        wrong: world.wrong.take(),
        log: world.log.as_ref().map(RefCell::take).unwrap_or_default(),
        calls: links.map(|link| link.calls.get()).sum(),
        turns: world.event_loop.stats().turns,
    })
}

impl World {
    fn new(seed: u64, logs: bool) -> Result<World> {
        let rng = Rc::new(Rng::new(seed));
        let network = Network::new(seed);
        let stalls = rng.one_in(2);
        let buffer = BUFFER + rng.below(if rng.one_in(2) { 5_000 } else { 70_000 });
        network.set_conditions(random_conditions(&rng, buffer, stalls));
        let event_loop = network.event_loop()?;
        let is_embedded = cfg!(all(unix, not(target_os = "illumos"))) && rng.one_in(5);
        #[cfg(all(unix, not(target_os = "illumos")))]
        if is_embedded {
            let _ = std::os::fd::AsFd::as_fd(&event_loop);
        }
        let mut world = World {
            rng,
            network,
            event_loop,
            is_embedded,
            stalls,
            stalled: Rc::default(),
            connections: Vec::new(),
            log: logs.then(RefCell::default),
            wrong: RefCell::default(),
        };
        world.log(|| format!("embedded: {is_embedded}, stalls: {stalls}"));
        for number in 0..1 + world.rng.below(4) {
            let connection = world.connect(number)?;
            world.connections.push(connection);
        }
        Ok(world)
    }

    fn connect(&self, number: usize) -> Result<Connection> {
        use Kind::{FastReader, FastSender, SlowReader, SlowSender};
        let rng = &self.rng;
        let kinds = [SlowSender, FastSender, SlowReader, FastReader];
        let kind = rng.pick(&kinds).copied().unwrap_or(SlowSender);
        let after = Duration::from_millis(2_000 + rng.below(8_000) as u64);
        let (which, deadlines) = match (kind.sends(), rng.one_in(2)) {
            (false, _) => (Deadline::Drain, Deadlines::default().drain(after)),
            (true, true) => (Deadline::Record, Deadlines::default().record(after)),
            (true, false) => (Deadline::Input, Deadlines::default().input(after)),
        };
        let limits = random_limits(rng, kind, self.stalls);
        let (socket, peer) = self.network.pair();
        if kind == SlowReader {
            peer.stop_reading();
        }
        let link = Rc::new(Link {
            pauses: rng.one_in(2),
            ..Link::default()
        });
        let stall = self.stalls.then(|| self.stalling());
        let (of_session, random) = (Rc::clone(&link), Rc::clone(rng));
        let chat = Connector::adopt(socket)
            .deadlines(deadlines)
            .limits(limits)
            .connect_on(&self.event_loop, move |chat| Session {
                chat,
                kind,
                rng: random,
                link: of_session,
                stall,
                every: None,
            })?;
        self.log(|| format!("#{number}: {kind:?}, {which:?} after {after:?}, {limits:?}"));
        Ok(Connection {
            number,
            kind,
            which,
            after,
            peer,
            chat,
            link,
            sent: Cell::new(None),
            begun: Cell::new(None),
            is_judged: Cell::new(false),
            stalled_before: Cell::default(),
        })
    }

    fn log(&self, what: impl FnOnce() -> String) {
        if let Some(log) = &self.log {
            log.borrow_mut().push(what());
        }
    }

    fn wrong(&self, what: String) {
        self.log(|| format!("WRONG {what}"));
        self.wrong.borrow_mut().push(what);
    }

    /// The peers act, then time passes.
    fn happen(&self) -> Result {
        let rng = &self.rng;
        for connection in &self.connections {
            if connection.link.end.get().is_none() {
                connection.act(rng, self.event_loop.now());
            }
        }
        if rng.one_in(10) {
            let buffer = self.network.conditions().buffer;
            self.network
                .set_conditions(random_conditions(rng, buffer, self.stalls));
        }
        if rng.one_in(10)
            && let Some(connection) = rng.pick(&self.connections)
        {
            connection
                .chat
                .set_limits(random_limits(rng, connection.kind, self.stalls));
        }
        if self.stalls && rng.one_in(4) {
            self.stall()?;
        }
        let time = Duration::from_millis(50 + rng.below(1_000) as u64);
        self.log(|| format!("{time:?} pass"));
        if rng.one_in(2) {
            self.event_loop.run_once(time)?;
        } else {
            self.network.advance(&self.event_loop, time)?;
        }
        // What is due is checked, and what was put off, unless a callback stalls once more.
        loop {
            let before = self.network.elapsed();
            self.network.advance(&self.event_loop, LATE)?;
            if self.network.elapsed() == before + LATE {
                return Ok(());
            }
        }
    }

    /// The loop does not poll for a while: because of a callback, its host, or both.
    fn stall(&self) -> Result {
        let rng = &self.rng;
        let time = Duration::from_millis(rng.below(12_000) as u64);
        self.log(|| format!("a stall of {time:?}"));
        let stall = self.stalling();
        match rng.below(3) {
            0 => self.event_loop.call_soon(move || stall(time)),
            1 => stall(time),
            _ => {
                for _ in 0..rng.below(4) {
                    self.event_loop.call_soon(|| {});
                }
                self.event_loop.run_for(Duration::ZERO)?;
                stall(time);
            }
        }
        self.event_loop.run_once(Duration::ZERO)?;
        Ok(())
    }

    fn stalling(&self) -> Box<dyn Fn(Duration)> {
        let (network, stalled) = (self.network.clone(), Rc::clone(&self.stalled));
        Box::new(move |time| {
            stalled.set(stalled.get() + time);
            network.spend(time);
        })
    }

    fn check(&self) {
        let (now, stalled) = (self.event_loop.now(), self.stalled.get());
        for connection in &self.connections {
            if let Err(what) = connection.check(now, stalled, self.is_embedded) {
                let (number, kind, which) = (connection.number, connection.kind, connection.which);
                self.wrong(format!("{what}: #{number}, a {kind:?} with {which:?}"));
            }
        }
    }
}

impl Connection {
    fn act(&self, rng: &Rng, now: Instant) {
        let few = 1 + rng.below(TRICKLE);
        match self.kind {
            Kind::SlowSender if rng.one_in(2) => {
                self.peer.send(vec![b'x'; few]);
                let first = (now, self.link.rested_by(now));
                self.sent.set(self.sent.get().or(Some(first)));
            }
            Kind::FastSender => {
                while self.peer.unsent() < 10_000 {
                    let length = rng.below(if rng.one_in(4) { 50_000 } else { 2_000 });
                    self.peer.send(vec![b'x'; length]);
                    self.peer.send("\r\n");
                }
            }
            Kind::SlowReader if rng.one_in(2) => self.peer.start_reading(few),
            Kind::FastReader if self.chat.queued() == 0 => {
                drop(self.peer.take_received());
                push_output(&self.chat, rng, 1 + rng.below(100_000));
            }
            _ => {}
        }
    }

    fn check(
        &self,
        now: Instant,
        stalled: Duration,
        is_embedded: bool,
    ) -> std::result::Result<(), String> {
        let Some((passed, when)) = self.link.end.get() else {
            return self.check_open(now, stalled);
        };
        if self.is_judged.replace(true) {
            return Ok(());
        }
        match (self.kind, passed) {
            (_, passed) if passed != Some(self.which) => Err(format!(
                "ended: for another reason than its deadline ({passed:?})"
            )),
            (Kind::FastSender | Kind::FastReader, _) if is_embedded => Ok(()),
            (Kind::FastSender | Kind::FastReader, _) => {
                Err("too early: the peer was as fast as the loop let it be".to_owned())
            }
            (Kind::SlowSender, _) => {
                let sent = self.sent.get();
                let (sent, rested_before) = sent.ok_or("too early: nothing was sent")?;
                let rested = self.link.rested_by(when) - rested_before;
                let waited = (when - sent).saturating_sub(rested);
                if waited < self.after {
                    Err(format!("too early: after {waited:?} of {:?}", self.after))
                } else {
                    Ok(())
                }
            }
            (Kind::SlowReader, _) => Ok(()),
        }
    }

    /// A slow peer does not outlive its deadline.
    fn check_open(&self, now: Instant, stalled: Duration) -> std::result::Result<(), String> {
        let has_begun = match self.kind {
            // While it does not read, no deadline ends it, also not one that has passed before.
            Kind::SlowSender => self.chat.stats().bytes_in > 0 && self.link.paused.get().is_none(),
            Kind::SlowReader => self.chat.queued() > 0,
            Kind::FastSender | Kind::FastReader => false,
        };
        if !has_begun {
            return Ok(());
        }
        // A session that does not read still sends.
        let rested = if self.kind.sends() {
            self.link.rested_by(now)
        } else {
            Duration::ZERO
        };
        if self.begun.get().is_none() {
            self.begun.set(Some((now, rested)));
            self.stalled_before.set(stalled);
        }
        let (begun, rested_before) = self.begun.get().unwrap_or((now, rested));
        // A session that resumes reads from the next turn on, which may follow a stall.
        let stalled = if self.link.pauses && self.kind.sends() {
            stalled - self.stalled_before.get()
        } else {
            Duration::ZERO
        };
        let waited = (now - begun).saturating_sub(rested - rested_before + stalled);
        if waited > self.after + LATE {
            Err(format!(
                "too late: open after {waited:?}, deadline {:?}",
                self.after
            ))
        } else {
            Ok(())
        }
    }
}

/// How a session receives: whole records, their chunks, or a stream without records. It pauses and resumes in all ways.
struct Session {
    chat: Chat,
    kind: Kind,
    rng: Rc<Rng>,
    link: Rc<Link>,
    /// Makes a callback block.
    stall: Option<Box<dyn Fn(Duration)>>,
    /// At each, it pauses or resumes.
    every: Option<TimerId>,
}

impl Session {
    fn called(&self) {
        self.link.calls.set(self.link.calls.get() + 1);
        if let Some(stall) = &self.stall
            && self.rng.one_in(100)
        {
            stall(Duration::from_millis(self.rng.below(5_000) as u64));
        }
    }

    fn may_pause(&self) {
        let (rng, chat, link) = (&self.rng, self.chat.clone(), Rc::clone(&self.link));
        if !link.pauses || !rng.one_in(3) {
            return;
        }
        link.pause(&chat);
        let resume = move || link.resume(&chat);
        match rng.below(3) {
            0 => drop(
                self.chat
                    .call_later(Duration::from_millis(rng.below(900) as u64)),
            ),
            1 => asynchat::call_soon(resume),
            _ => self.chat.push_hook(resume),
        }
    }
}

impl AsyncChat for Session {
    fn handle_connect(&mut self) -> Result {
        let (rng, chat) = (&self.rng, &self.chat);
        let whole = Terminator::crlf().limit(1 << 20);
        // A record deadline does not apply to a stream without records. Nor is a peer fast there that has sent
        // everything, and sends more in the next step only.
        let may_be_none = self.kind == Kind::SlowSender && chat.deadlines().record.is_none();
        chat.set_terminator(match rng.below(3) {
            0 if may_be_none => Terminator::none(),
            1 => whole.streamed(),
            _ => whole,
        });
        if self.link.pauses && rng.one_in(2) {
            let period = Duration::from_millis(50 + rng.below(2_000) as u64);
            self.every = Some(chat.call_every(period));
        }
        if self.kind == Kind::SlowReader {
            push_output(chat, rng, usize::MAX);
        }
        Ok(())
    }

    fn found_terminator(&mut self, _: &[u8]) -> Result {
        self.called();
        self.may_pause();
        Ok(())
    }

    fn collect_incoming_data(&mut self, _: &[u8]) -> Result {
        self.called();
        self.may_pause();
        Ok(())
    }

    fn handle_timer(&mut self, timer: TimerId) -> Result {
        self.called();
        if self.every == Some(timer) && self.rng.one_in(2) {
            self.link.pause(&self.chat);
        } else {
            self.link.resume(&self.chat);
        }
        Ok(())
    }

    fn handle_close(&mut self, why: &Close) {
        let passed = match why {
            Close::Timeout(which) => Some(*which),
            _ => None,
        };
        self.link.end.set(Some((passed, asynchat::now())));
    }
}

/// Pushes so many bytes, in chunks of a random size or at once.
fn push_output(chat: &Chat, rng: &Rng, length: usize) {
    let sizes = [100, 500, 5_000, 50_000];
    match rng.pick(&sizes).copied() {
        Some(size) if length == usize::MAX || rng.one_in(2) => {
            chat.push_with_producer(Stream { left: length, size });
        }
        _ => chat.push(vec![b'x'; length]),
    }
}

struct Stream {
    left: usize,
    size: usize,
}

impl Producer for Stream {
    fn more(&mut self, _: usize) -> io::Result<More> {
        if self.left == 0 {
            return Ok(More::Done);
        }
        let length = self.size.min(self.left);
        self.left -= length;
        Ok(More::Chunk(vec![b'x'; length].into()))
    }
}

/// A session that has used up its budget of records goes on in the next turn, which may follow a stall.
fn random_limits(rng: &Rng, kind: Kind, stalls: bool) -> Limits {
    // What a slow peer moves at once must not use up a budget: the loop would not know that nothing is left.
    let least = if kind.is_slow() { BUFFER } else { 100 };
    Limits::default()
        .turn_read(least + rng.below(5_000))
        .turn_write(least + rng.below(9_000))
        .turn_records(1 + usize::from(stalls) + rng.below(10))
        .output(Limits::UNLIMITED)
}

/// While events are late, the loop does not know how long a channel was not served in a stall.
fn random_conditions(rng: &Rng, buffer: usize, stalls: bool) -> Conditions {
    let chance = |of: usize| {
        if stalls || rng.one_in(2) {
            0.0
        } else {
            rng.below(of) as f64 / 100.0
        }
    };
    Conditions::default()
        .would_block(chance(50))
        .late_events(chance(70))
        .shuffled(rng.one_in(2))
        .one_shot(rng.one_in(3))
        .buffer(buffer)
}
