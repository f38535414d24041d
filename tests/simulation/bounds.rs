//! Bounds: after every turn, the memory in use is below a figure derived from the limits, however
//! many bytes have been transferred, and no turn of a connection calls user code more than a few
//! times.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use asynchat::sim::{Conditions, Network, Peer};
use asynchat::{
    AsyncChat, ChannelStats, Chat, Connector, EventLoop, Limits, More, Producer, Result,
};
use bytes::Bytes;

use crate::allocator;
use crate::rng::Rng;
use crate::seeds::Outcome;

/// The most calls of producers and hooks in one turn of a connection.
const CALLS: u64 = 64;

/// The longest push, and the longest chunk of a producer that exceeds its budget.
const LONGEST: usize = 5_000;

/// The cost of a loop and a connection besides buffers: handlers, queue entries, timers.
const FIXED: usize = 32 * 1024;

struct World {
    rng: Rng,
    limits: Limits,
    buffer: usize,
    network: Network,
    event_loop: EventLoop,
}

/// The test's view of one connection.
struct Connection {
    peer: Peer,
    chat: Chat,
    counts: Rc<Counts>,
    before: ChannelStats,
}

#[derive(Default)]
struct Counts {
    /// Calls of producers and hooks since the last check.
    calls: Cell<u64>,
    /// The calls of all turns.
    total: Cell<u64>,
}

impl Counts {
    fn call(&self) {
        self.calls.set(self.calls.get() + 1);
        self.total.set(self.total.get() + 1);
    }
}

pub(crate) fn run(seed: u64, logs: bool) -> Result<Outcome> {
    let rng = Rng::new(seed);
    let network = Network::new(seed);
    let buffer = 1_000 + rng.below(6_000);
    network.set_conditions(Conditions::default().buffer(buffer));
    let high = 100 + rng.below(5_000);
    let world = World {
        limits: Limits::default()
            .low_water(rng.below(high))
            .high_water(high)
            .turn_read(1 + rng.below(3_000))
            .turn_write(1 + rng.below(5_000))
            .turn_records(1 + rng.below(30)),
        buffer,
        event_loop: network.event_loop()?,
        network,
        rng,
    };
    let mut outcome = Outcome::default();
    world.allocate_read_buffer()?;
    let mut connections = Vec::new();
    for _ in 0..1 + world.rng.below(2) {
        connections.push(world.connect(&mut outcome, logs)?);
    }
    let start = allocator::balance();
    let most = world.most_memory() * connections.len();
    let mut highest = 0;
    for turn in 0..150 {
        for connection in &connections {
            world.act_as_peer(&connection.peer);
        }
        world.event_loop.run_once(Duration::from_millis(5))?;
        for connection in &mut connections {
            drop(connection.peer.take_received());
            world.check_calls(connection, &mut outcome.wrong);
        }
        let memory = usize::try_from(allocator::balance() - start).unwrap_or(0);
        highest = highest.max(memory);
        if memory > most {
            let passed: u64 = connections.iter().map(|it| it.chat.stats().bytes_out).sum();
            outcome.wrong.push(format!(
                "memory: {memory} bytes in turn {turn}, at most {most} expected; {passed} bytes have \
                 passed through {} connections: {:?}",
                connections.len(),
                world.limits
            ));
        }
        if memory > most {
            break;
        }
    }
    // One failure of each kind is enough.
    outcome.wrong.sort();
    outcome
        .wrong
        .dedup_by_key(|it| it.split(':').next().map(str::to_owned));
    if logs {
        let log = format!("at most {highest} bytes in use, {most} expected");
        outcome.log.push(log);
    }
    outcome.calls = connections.iter().map(|it| it.counts.total.get()).sum();
    outcome.turns = world.event_loop.stats().turns;
    Ok(outcome)
}

impl World {
    /// The loop allocates one read buffer for all connections, at its first read.
    fn allocate_read_buffer(&self) -> Result {
        let (socket, peer) = self.network.pair();
        Connector::adopt(socket).connect_on(&self.event_loop, |_| |_: &[u8]| Ok(()))?;
        peer.send("x\r\n");
        drop(peer);
        Ok(self.network.settle(&self.event_loop)?)
    }

    fn connect(&self, outcome: &mut Outcome, logs: bool) -> Result<Connection> {
        let (socket, peer) = self.network.pair();
        let style = Style::random(&self.rng);
        if logs {
            outcome.log.push(format!("{style:?}, {:?}", self.limits));
        }
        let counts = Rc::new(Counts::default());
        let (count, seed) = (Rc::clone(&counts), self.rng.next());
        let chat = Connector::adopt(socket).limits(self.limits).connect_on(
            &self.event_loop,
            move |chat| Session {
                chat,
                style,
                rng: Rc::new(Rng::new(seed)),
                counts: count,
            },
        )?;
        let before = chat.stats();
        Ok(Connection {
            peer,
            chat,
            counts,
            before,
        })
    }

    /// The most memory of one connection: its queue up to the mark and one more push, the input of
    /// one turn, and what the simulated kernel and peer buffer. Buffers double when they grow, and
    /// the loop has spare ones.
    fn most_memory(&self) -> usize {
        let queue = self.limits.high_water + 2 * LONGEST;
        let input = self.limits.turn_read + self.limits.record.min(1_000);
        FIXED + 4 * queue + 4 * input + 6 * self.buffer
    }

    /// A peer that keeps sending requests, and usually reads everything.
    fn act_as_peer(&self, peer: &Peer) {
        if peer.unsent() == 0 {
            for _ in 0..self.rng.below(40) {
                peer.send("x\r\n");
            }
        }
        match self.rng.below(40) {
            0 => peer.start_reading(self.rng.below(2_000)),
            1..8 => peer.start_reading(usize::MAX),
            _ => {}
        }
    }

    fn check_calls(&self, connection: &mut Connection, wrong: &mut Vec<String>) {
        let now = connection.chat.stats();
        let turns = now.turns - connection.before.turns;
        let records = now.records_in - connection.before.records_in;
        let calls = connection.counts.calls.take();
        connection.before = now;
        if calls > turns * CALLS {
            wrong.push(format!(
                "calls: producers and hooks were called {calls} times in {turns} turns of a connection"
            ));
        }
        let most = self.limits.turn_records as u64;
        if records > turns * most {
            wrong.push(format!(
                "records: {records} in {turns} turns of a connection, at most {most} in one"
            ));
        }
    }
}

/// How a session answers each record.
#[derive(Clone, Copy, Debug)]
enum Style {
    /// A reply of this size.
    Replies(usize),
    /// A producer of this many chunks.
    Streams(usize, Chunks),
    /// A chain of hooks, each of which pushes the next one.
    Hooks(usize),
    /// One of the others at random.
    Mixed,
}

#[derive(Clone, Copy, Debug)]
struct Chunks {
    size: usize,
    /// The size of each chunk, or its maximum.
    equal: bool,
    /// Whether chunks respect the budget.
    keeps_to_budget: bool,
}

impl Style {
    fn random(rng: &Rng) -> Self {
        match rng.below(5) {
            0 => Style::Mixed,
            _ => Style::pure(rng),
        }
    }

    fn pure(rng: &Rng) -> Self {
        match rng.below(5) {
            0 | 1 => Style::Replies(1 + rng.below(600)),
            2 | 3 => Style::Streams(1 + rng.below(1_000), Chunks::random(rng)),
            _ => Style::Hooks(1 + rng.below(200)),
        }
    }
}

impl Chunks {
    fn random(rng: &Rng) -> Self {
        let sizes = [1, 8, 100, 200, 300, 511, 512, 600, 4_095, 4_096, LONGEST];
        let size = rng.pick(&sizes).copied().unwrap_or(1);
        Chunks {
            size: size.saturating_sub(rng.below(2)).max(1),
            equal: rng.one_in(2),
            keeps_to_budget: rng.one_in(2),
        }
    }
}

struct Session {
    chat: Chat,
    style: Style,
    rng: Rc<Rng>,
    counts: Rc<Counts>,
}

impl AsyncChat for Session {
    fn found_terminator(&mut self, _record: &[u8]) -> Result {
        let style = match self.style {
            Style::Mixed => Style::pure(&self.rng),
            style => style,
        };
        match style {
            Style::Replies(size) => self.chat.push_slice(&DATA[..size]),
            Style::Streams(length, chunks) => self.chat.push_with_producer(Stream {
                left: length,
                chunks,
                chat: self.chat.clone(),
                rng: Rc::clone(&self.rng),
                counts: Rc::clone(&self.counts),
            }),
            Style::Hooks(length) => push_hooks(&self.chat, length, &self.counts),
            Style::Mixed => {}
        }
        Ok(())
    }
}

static DATA: [u8; LONGEST] = [b'd'; LONGEST];

fn push_hooks(chat: &Chat, length: usize, counts: &Rc<Counts>) {
    let (again, counts) = (chat.clone(), Rc::clone(counts));
    chat.push_hook(move || {
        counts.call();
        again.push("hook\r\n");
        if length > 1 {
            push_hooks(&again, length - 1, &counts);
        }
    });
}

struct Stream {
    /// The number of chunks to come.
    left: usize,
    chunks: Chunks,
    chat: Chat,
    rng: Rc<Rng>,
    counts: Rc<Counts>,
}

impl Producer for Stream {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        self.counts.call();
        if self.left == 0 {
            return Ok(More::Done);
        }
        if self.rng.one_in(300) {
            let chat = self.chat.clone();
            asynchat::call_later(Duration::from_millis(10), move || chat.resume_producing());
            return Ok(More::Pending);
        }
        self.left -= 1;
        let mut size = self.chunks.size;
        if !self.chunks.equal {
            size = 1 + self.rng.below(size);
        }
        if self.chunks.keeps_to_budget {
            size = size.min(budget);
        }
        Ok(More::Chunk(Bytes::copy_from_slice(&DATA[..size])))
    }
}
