//! Liveness: every connection ends. When a send has failed and the connection cannot recover, it
//! ends while its peer stays connected. When all peers have closed, nothing is left.

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use asynchat::sim::{Call, Conditions, Network, Peer};
use asynchat::{Chat, Connector, EventLoop, Limits, Result, Socket};

use crate::rng::Rng;
use crate::seeds::Outcome;
use crate::worker::{Link, Worker, soon};

/// Longer than any wait of a session, and than the linger time of the default deadlines.
const LONG: Duration = Duration::from_secs(20);

struct World {
    rng: Rc<Rng>,
    network: Network,
    event_loop: EventLoop,
    connections: Vec<Connection>,
    /// Sessions pause without a plan to resume, and all peers leave with a reset.
    pauses_for_good: bool,
    log: Option<Rc<RefCell<Vec<String>>>>,
    wrong: RefCell<Vec<String>>,
}

/// One connection and its peer. A connection of two descriptors has one peer for each.
struct Connection {
    link: Rc<Link>,
    chat: Chat,
    sender: RefCell<Option<Peer>>,
    /// The sender may still exist after it has finished or reset.
    may_send: Cell<bool>,
    /// The receiver of the output, if it is not the sender.
    receiver: RefCell<Option<Peer>>,
    has_two: bool,
    /// The number of pushes when the receiver stopped receiving.
    pushes_at_loss: Cell<Option<usize>>,
    /// The other end of its pipe.
    piped_to: Cell<Option<usize>>,
}

pub(crate) fn run(seed: u64, logs: bool) -> Result<Outcome> {
    let world = World::new(seed, logs)?;
    for _ in 0..10 + world.rng.below(40) {
        world.happen()?;
        for _ in 0..world.rng.below(4) {
            world.event_loop.run_once(Duration::ZERO)?;
        }
    }
    world.settle_twice()?;
    world.check_open_connections();
    world.leave()?;
    world.check_that_nothing_is_left();
    let log = world.log.as_ref().map(|log| log.take());
    let links = world.connections.iter().map(|it| &it.link);
    Ok(Outcome {
        wrong: world.wrong.take(),
        log: log.unwrap_or_default(),
        calls: links.map(|link| link.calls.get()).sum(),
        turns: world.event_loop.stats().turns,
    })
}

impl World {
    fn new(seed: u64, logs: bool) -> Result<World> {
        let rng = Rc::new(Rng::new(seed));
        let network = Network::new(seed);
        let mut world = World {
            pauses_for_good: rng.one_in(8),
            event_loop: network.event_loop()?,
            network,
            rng,
            connections: Vec::new(),
            log: logs.then(Rc::default),
            wrong: RefCell::default(),
        };
        world.network.set_conditions(world.random_conditions());
        for number in 0..1 + world.rng.below(4) {
            let connection = world.connect(number)?;
            world.connections.push(connection);
        }
        Ok(world)
    }

    fn connect(&self, number: usize) -> Result<Connection> {
        let (socket, sender) = self.network.pair();
        let has_two = self.rng.one_in(3);
        let (socket, receiver) = if has_two {
            let (output, receiver) = self.network.pair();
            (Socket::halves(socket, output), Some(receiver))
        } else {
            (socket, None)
        };
        let link = Rc::new(Link {
            number,
            rng: Rc::clone(&self.rng),
            pauses_for_good: self.pauses_for_good,
            paused: Cell::new(false),
            finished: Cell::new(false),
            pushes: Cell::new(0),
            closes: Cell::new(0),
            alive: Cell::new(0),
            calls: Cell::new(0),
            log: self.log.clone(),
        });
        let high = 100 + self.rng.below(10_000);
        let limits = Limits::default()
            .low_water(self.rng.below(high))
            .high_water(high)
            .turn_read(1 + self.rng.below(3_000))
            .turn_write(1 + self.rng.below(9_000))
            .turn_records(1 + self.rng.below(10));
        let known = Rc::clone(&link);
        let chat = Connector::adopt(socket)
            .limits(limits)
            .connect_on(&self.event_loop, move |chat| Worker::new(chat, &known))?;
        link.log(|| format!("has two descriptors: {has_two}"));
        Ok(Connection {
            link,
            chat,
            sender: RefCell::new(Some(sender)),
            may_send: Cell::new(true),
            receiver: RefCell::new(receiver),
            has_two,
            pushes_at_loss: Cell::new(None),
            piped_to: Cell::new(None),
        })
    }

    fn random_conditions(&self) -> Conditions {
        let rng = &self.rng;
        let chance = |of: usize| {
            if rng.one_in(2) {
                0.0
            } else {
                rng.below(of) as f64 / 100.0
            }
        };
        Conditions::default()
            .short_reads(chance(100))
            .short_writes(chance(100))
            .would_block(chance(50))
            .late_events(chance(50))
            .shuffled(rng.one_in(2))
            .one_shot(rng.one_in(3))
            .buffer(1 + rng.below(8_000))
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

    /// One random event outside the loop.
    fn happen(&self) -> Result {
        let rng = &self.rng;
        let Some(connection) = rng.pick(&self.connections) else {
            return Ok(());
        };
        match rng.below(60) {
            0..20 => {
                let lines = 1 + rng.below(4);
                connection.send(&b"x\r\n".repeat(lines));
            }
            20 => connection.send(&[b'x'; 2_000]),
            21..25 => connection.read(rng.below(3_000)),
            25..32 => connection.read(usize::MAX),
            // An orderly close with unread input is noticed when reading resumes.
            32 | 33 if !self.pauses_for_good => connection.shutdown_read(),
            34 if !self.pauses_for_good => connection.finish(),
            35 => connection.drop_sender(self.pauses_for_good || rng.one_in(2)),
            36 if connection.has_two => {
                connection.drop_receiver(self.pauses_for_good || rng.one_in(2));
            }
            37 | 38 => self.pipe(),
            39..45 => {
                let time = soon(rng);
                self.log(|| format!("{time:?} pass"));
                self.network.advance(&self.event_loop, time)?;
            }
            45 if rng.one_in(4) => self.network.set_conditions(self.random_conditions()),
            46 if rng.one_in(4) => {
                let kinds = [
                    ErrorKind::BrokenPipe,
                    ErrorKind::ConnectionReset,
                    ErrorKind::OutOfMemory,
                ];
                let kind = rng.pick(&kinds).copied().unwrap_or(ErrorKind::Other);
                self.log(|| format!("a send will fail: {kind:?}"));
                self.network.fail(Call::Send, kind);
            }
            _ => self.network.settle(&self.event_loop)?,
        }
        Ok(())
    }

    fn pipe(&self) {
        let count = self.connections.len();
        let (one, other) = (self.rng.below(count), self.rng.below(count));
        let (a, b) = (&self.connections[one], &self.connections[other]);
        let free = |it: &Connection| it.link.is_open() && it.piped_to.get().is_none();
        if one != other && free(a) && free(b) && asynchat::pipe(&a.chat, &b.chat).is_ok() {
            self.log(|| format!("#{one} and #{other} are piped"));
            a.piped_to.set(Some(other));
            b.piped_to.set(Some(one));
        }
    }

    /// Peers read everything and send a little more, and then nothing happens for long. All of this
    /// twice: by the second time every session has resumed, so it reads at once.
    fn settle_twice(&self) -> Result {
        self.log(|| "the network has good conditions".to_owned());
        self.network.set_conditions(Conditions::default());
        self.network.settle(&self.event_loop)?;
        for _ in 0..2 {
            for _ in 0..3 {
                for connection in &self.connections {
                    connection.read(usize::MAX);
                    connection.send(b"x\r\n");
                }
                self.network.settle(&self.event_loop)?;
            }
            self.network.advance(&self.event_loop, LONG)?;
        }
        Ok(())
    }

    /// Checks that every open connection can make progress.
    fn check_open_connections(&self) {
        if self.pauses_for_good {
            return;
        }
        for connection in self.connections.iter().filter(|it| it.link.is_open()) {
            let (link, number) = (&connection.link, connection.link.number);
            if link.paused.get() {
                self.wrong(format!(
                    "liveness (paused): #{number} is paused, and its resume was dropped with its output"
                ));
            }
            // Pushes after the session's own end of output are an error of the session.
            if link.finished.get() {
                continue;
            }
            let Some(pushes) = connection.pushes_at_loss.get() else {
                continue;
            };
            let partner = connection.piped_to.get().map(|it| &self.connections[it]);
            match partner {
                Some(partner) if partner.may_send.get() => self.wrong(format!(
                    "liveness (pipe): the output of #{number} has failed, but it is still piped to #{}",
                    partner.link.number
                )),
                None if link.pushes.get() > pushes && !connection.has_two => self.wrong(format!(
                    "liveness (reading side shut): {} pushes to #{number} were dropped",
                    link.pushes.get() - pushes
                )),
                _ => {}
            }
        }
    }

    /// All peers close, and time passes.
    fn leave(&self) -> Result {
        for connection in &self.connections {
            let resets = self.pauses_for_good || self.rng.one_in(3);
            connection.drop_receiver(resets);
            connection.drop_sender(resets);
            if self.rng.one_in(2) {
                self.network.settle(&self.event_loop)?;
            }
        }
        for _ in 0..3 {
            self.network.advance(&self.event_loop, LONG)?;
        }
        Ok(())
    }

    fn check_that_nothing_is_left(&self) {
        for connection in &self.connections {
            let link = &connection.link;
            let number = link.number;
            let state = match (self.pauses_for_good, link.paused.get()) {
                (true, true) => " (hang-up)",
                (false, true) => " (paused)",
                _ if connection.piped_to.get().is_some() => " (pipe)",
                _ => "",
            };
            let (closes, alive) = (link.closes.get(), link.alive.get());
            if closes != 1 {
                self.wrong(format!(
                    "liveness{state}: handle_close of #{number} was called {closes} times when all \
                     peers are gone"
                ));
            } else if alive > 0 {
                self.wrong(format!(
                    "liveness{state}: {alive} sessions, producers and hooks of #{number} are alive at the end"
                ));
            }
        }
        let counts = [
            ("sockets", self.network.sockets()),
            ("registrations", self.network.registrations()),
            ("channels", self.event_loop.len()),
        ];
        for (what, count) in counts.iter().filter(|(_, count)| *count > 0) {
            if self.wrong.borrow().is_empty() {
                self.wrong(format!("liveness: {count} {what} are left"));
            }
        }
    }
}

impl Connection {
    fn send(&self, data: &[u8]) {
        if let Some(sender) = &*self.sender.borrow()
            && self.may_send.get()
        {
            self.link.log(|| format!("its peer sends {}", data.len()));
            sender.send(data);
        }
    }

    fn read(&self, count: usize) {
        self.at_receiver(|receiver| receiver.start_reading(count));
    }

    fn at_receiver(&self, act: impl FnOnce(&Peer)) {
        let receiver = if self.has_two {
            self.receiver.borrow()
        } else {
            self.sender.borrow()
        };
        if let Some(receiver) = &*receiver {
            act(receiver);
        }
    }

    fn shutdown_read(&self) {
        self.at_receiver(|receiver| {
            self.link
                .log(|| "its peer shuts down its reading side".to_owned());
            receiver.shutdown_read();
            self.receiver_is_gone();
        });
    }

    fn receiver_is_gone(&self) {
        if self.pushes_at_loss.get().is_none() {
            self.pushes_at_loss.set(Some(self.link.pushes.get()));
        }
    }

    fn finish(&self) {
        if let Some(sender) = &*self.sender.borrow() {
            self.link.log(|| "its peer finishes".to_owned());
            self.may_send.set(false);
            sender.finish();
        }
    }

    fn drop_sender(&self, resets: bool) {
        if let Some(sender) = self.sender.take() {
            self.link
                .log(|| format!("its peer closes, with a reset: {resets}"));
            self.may_send.set(false);
            if !self.has_two {
                self.receiver_is_gone();
            }
            if resets {
                sender.reset();
            }
        }
    }

    fn drop_receiver(&self, resets: bool) {
        if let Some(receiver) = self.receiver.take() {
            self.link
                .log(|| format!("the receiver of its output closes, with a reset: {resets}"));
            self.receiver_is_gone();
            if resets {
                receiver.reset();
            }
        }
    }
}
