//! Back-pressure for a peer that has disconnected: no more work is started for it than for a peer
//! that does not read.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use asynchat::sim::{Conditions, Network, Peer};
use asynchat::{AsyncChat, Chat, Close, Connector, Limits, More, Producer, Result};
use bytes::Bytes;

use crate::rng::Rng;
use crate::seeds::Outcome;

/// With more producers, hooks and large pushes in its queue than this, a session gets no more
/// input: see `Limits::high_water`.
const MANY: usize = 64;

/// What a session starts for each record.
#[derive(Clone, Copy, Debug)]
enum Job {
    /// A reply of this size.
    Reply(usize),
    /// A producer that makes a reply of this size.
    Produced(usize),
    /// A reply of this size, and a hook after it.
    Hooked(usize),
}

impl Job {
    fn random(rng: &Rng) -> Self {
        let size = 1 + rng.below(if rng.one_in(4) { 6_000 } else { 200 });
        match rng.below(3) {
            0 => Job::Reply(size),
            1 => Job::Produced(size),
            _ => Job::Hooked(size),
        }
    }

    fn size(self) -> usize {
        match self {
            Job::Reply(size) | Job::Produced(size) | Job::Hooked(size) => size,
        }
    }

    /// How many jobs may be unfinished for a peer that does not read. The first one above the mark
    /// is still started, and the kernel may have accepted a part of one reply.
    fn most(self, limits: &Limits) -> usize {
        match self {
            Job::Reply(size) => limits.high_water / size + 2,
            Job::Produced(_) | Job::Hooked(_) => MANY + 1,
        }
    }
}

/// Jobs started and finished.
#[derive(Default)]
struct Jobs {
    started: Cell<usize>,
    done: Cell<usize>,
    /// Producers and hooks that exist.
    alive: Cell<usize>,
    closes: Cell<usize>,
}

struct Session {
    chat: Chat,
    job: Job,
    jobs: Rc<Jobs>,
}

/// A peer requests many jobs, reads a small part of the results, and leaves.
pub(crate) fn run(seed: u64, logs: bool) -> Result<Outcome> {
    let rng = Rng::new(seed);
    let job = Job::random(&rng);
    let high = rng.below(8_000);
    let limits = Limits::default()
        .low_water(rng.below(high))
        .high_water(high)
        .turn_read(1 + rng.below(4_000))
        .turn_write(1 + rng.below(9_000))
        .turn_records(1 + rng.below(50));
    let network = Network::new(seed);
    // Room for all requests: they have arrived when the peer leaves.
    let buffer = 2_000 + rng.below(20_000);
    network.set_conditions(Conditions::default().buffer(buffer));
    let event_loop = network.event_loop()?;
    let (socket, peer) = network.pair();
    let jobs = Rc::new(Jobs::default());
    let session = (job, Rc::clone(&jobs));
    let chat = Connector::adopt(socket)
        .limits(limits)
        .connect_on(&event_loop, move |chat| {
            let (job, jobs) = session;
            Session { chat, job, jobs }
        })?;
    peer.stop_reading();
    // For the session, output that the kernel accepts is finished, whether or not the peer reads
    // it.
    let most = job.most(&limits);
    let in_kernel = buffer / job.size();
    let asked = (in_kernel + 3 * most + rng.below(400)).min(buffer / 3);
    let mut log = Vec::new();
    let mut wrong = Vec::new();
    // Twice the figure: the jobs that were unfinished when the peer left, and those that are
    // started before that is noticed.
    let mut check = |when: &str, most: usize| {
        let (started, mut done) = (jobs.started.get(), jobs.done.get());
        if let Job::Reply(size) = job {
            done = (chat.stats().bytes_out / size as u64) as usize;
        }
        if started - done > most && wrong.is_empty() {
            wrong.push(format!(
                "work {when}: {started} jobs of {asked} started, {done} done, at most {most} expected \
                 under way: {job:?}, {limits:?}"
            ));
        }
    };
    for _ in 0..asked {
        peer.send("x\r\n");
        if rng.one_in(20) {
            event_loop.run_once(Duration::ZERO)?;
            check("for a peer that does not read", most);
        }
        if rng.one_in(100) {
            peer.start_reading(rng.below(1_000));
        }
    }
    if rng.one_in(2) {
        network.settle(&event_loop)?;
        check("for a peer that does not read", most);
    }
    let way = leave(&rng, peer);
    if logs {
        log.push(format!("{asked} jobs of {job:?}, {limits:?}"));
        log.push(format!("the peer {}", way.1));
    }
    for _ in 0..200 {
        event_loop.run_once(Duration::ZERO)?;
        check(way.1, 2 * most);
        if network.is_at_rest(&event_loop)? {
            break;
        }
    }
    network.advance(&event_loop, Duration::from_secs(10))?;
    check(way.1, 2 * most);
    drop(way);
    network.advance(&event_loop, Duration::from_secs(10))?;
    let left = (network.sockets(), jobs.alive.get(), jobs.closes.get());
    if left != (0, 0, 1) {
        wrong.push(format!(
            "liveness: when the peer is gone, {} sockets, {} producers and hooks are left, and \
             handle_close was called {} times",
            left.0, left.1, left.2
        ));
    }
    Ok(Outcome {
        wrong,
        log,
        calls: jobs.started.get() as u64,
        turns: event_loop.stats().turns,
    })
}

/// The peer leaves: it closes, resets, or shuts down its reading side.
fn leave(rng: &Rng, peer: Peer) -> (Option<Peer>, &'static str) {
    match rng.below(3) {
        0 => {
            peer.reset();
            (Some(peer), "after a reset")
        }
        1 => {
            drop(peer);
            (None, "after a close")
        }
        _ => {
            peer.shutdown_read();
            (Some(peer), "after a shutdown of the reading side")
        }
    }
}

impl AsyncChat for Session {
    fn found_terminator(&mut self, _record: &[u8]) -> Result {
        let jobs = &self.jobs;
        jobs.started.set(jobs.started.get() + 1);
        match self.job {
            Job::Reply(size) => self.chat.push(vec![b'r'; size]),
            Job::Produced(size) => self.chat.push_with_producer(Reply {
                left: size,
                counted: Counted::new(jobs),
            }),
            Job::Hooked(size) => {
                self.chat.push(vec![b'r'; size]);
                let counted = Counted::new(jobs);
                self.chat.push_hook(move || counted.finish());
            }
        }
        Ok(())
    }

    fn handle_close(&mut self, _why: &Close) {
        self.jobs.closes.set(self.jobs.closes.get() + 1);
    }
}

/// Counts a producer or a hook for as long as it exists.
struct Counted(Rc<Jobs>);

impl Counted {
    fn new(jobs: &Rc<Jobs>) -> Self {
        jobs.alive.set(jobs.alive.get() + 1);
        Counted(Rc::clone(jobs))
    }

    fn finish(&self) {
        self.0.done.set(self.0.done.get() + 1);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.alive.set(self.0.alive.get() - 1);
    }
}

struct Reply {
    left: usize,
    counted: Counted,
}

impl Producer for Reply {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        let count = self.left.min(budget);
        self.left -= count;
        if count == 0 {
            self.counted.finish();
            return Ok(More::Done);
        }
        Ok(More::Chunk(Bytes::from(vec![b'p'; count])))
    }
}
