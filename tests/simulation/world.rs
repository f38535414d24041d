//! One run: a network, a loop, and random events, all derived from one seed.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use asynchat::sim::{Call, Conditions, Listener, Network, Peer};
use asynchat::{Channel, Chat, Connector, Deadlines, EventLoop, Limits, Server};

use crate::actor::{Actor, act_on, random_time};
use crate::dispatcher::PlainListener;
use crate::outsider::Outsider;
use crate::rng::Rng;
use crate::seeds::Outcome;
use crate::track::Track;

const SERVER: &str = "10.0.0.1:119";
const PLAIN: &str = "10.0.0.1:7";
const OUTSIDE: &str = "192.0.2.1:80";
const NOBODY: &str = "192.0.2.2:80";
const BLACK_HOLE: &str = "192.0.2.3:80";
pub(crate) const REFUSAL: &[u8] = b"400 too many\r\n";
/// What the caller of `connect` pushes to the returned chat, before the factory is called.
const EARLY: &[u8] = b"early\r\n";

/// If the loop makes this many turns in a row without a byte or a call, and without time passing,
/// it spins. Under bad conditions most turns may do nothing, so the figure is higher.
const SPINNING: u32 = 50;
const SPINNING_BADLY: u32 = 3_000;

pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) network: Network,
    pub(crate) event_loop: EventLoop,
    pub(crate) tracks: RefCell<Vec<Rc<Track>>>,
    pub(crate) outsiders: RefCell<Vec<Rc<Outsider>>>,
    service: Listener,
    listeners: RefCell<Vec<Channel>>,
    limits: Limits,
    /// Errors were injected, so more outcomes are possible.
    pub(crate) faulted: Cell<bool>,
    /// How many. Each may pause accepting for a second.
    faults: Cell<u32>,
    pub(crate) shutting_down: Cell<bool>,
    /// No new connections or actions.
    last_orders: Cell<bool>,

    pub(crate) actors: Cell<usize>,
    pub(crate) producers: Cell<usize>,
    pub(crate) hooks: Cell<usize>,
    /// The number of callbacks.
    pub(crate) calls: Cell<u64>,
    wrong: RefCell<Vec<String>>,
    log: Option<RefCell<Vec<String>>>,
}

/// Runs one seed.
pub(crate) fn run(seed: u64, logs: bool) -> asynchat::Result<Outcome> {
    let world = World::new(seed, logs)?;
    world.serve()?;
    for _ in 0..world.rng.below(100) + 5 {
        world.happen()?;
        for _ in 0..world.rng.below(4) {
            world.turn()?;
        }
        if world.is_wrong() || world.shutting_down.get() {
            break;
        }
    }
    world.end()?;
    let turns = world.event_loop.stats().turns;
    // Any other reference to the world is a leak.
    world.tracks.borrow_mut().clear();
    let counts = [
        ("sessions", world.actors.get()),
        ("producers", world.producers.get()),
        ("hooks", world.hooks.get()),
        ("sockets", world.network.sockets()),
        ("registrations", world.network.registrations()),
        ("references", Rc::strong_count(&world) - 1),
    ];
    // A run that failed was left in the middle.
    let checked = !world.is_wrong();
    for (what, count) in counts.iter().filter(|(_, count)| checked && *count > 0) {
        world.wrong(format!("leaked: {count} {what}"));
    }
    let log = world.log.as_ref().map(RefCell::take);
    Ok(Outcome {
        wrong: world.wrong.take(),
        log: log.unwrap_or_default(),
        calls: world.calls.get(),
        turns,
    })
}

impl World {
    fn new(seed: u64, logs: bool) -> asynchat::Result<Rc<World>> {
        let rng = Rng::new(seed);
        let network = Network::new(seed);
        network.set_conditions(random_conditions(&rng));
        network.add_black_hole(addr(BLACK_HOLE));
        let high = 200 + rng.below(20_000);
        let limits = Limits::default()
            .record(20 + rng.below(3_000))
            .low_water(rng.below(high))
            .high_water(high)
            .turn_read(rng.below(3_000) + 1)
            .turn_write(rng.below(9_000) + 1)
            .turn_records(rng.below(10) + 1)
            .turn_accepts(rng.below(3) + 1)
            .connections(if rng.one_in(4) { 2 } else { 100 });
        let event_loop = network.event_loop()?;
        event_loop.set_limits(limits);
        let service = network.listen(OUTSIDE)?;
        Ok(Rc::new(World {
            rng,
            network,
            event_loop,
            tracks: RefCell::default(),
            outsiders: RefCell::default(),
            service,
            listeners: RefCell::default(),
            limits,
            faulted: Cell::new(false),
            faults: Cell::new(0),
            shutting_down: Cell::new(false),
            last_orders: Cell::new(false),
            actors: Cell::new(0),
            producers: Cell::new(0),
            hooks: Cell::new(0),
            calls: Cell::new(0),
            wrong: RefCell::default(),
            log: logs.then(RefCell::default),
        }))
    }

    pub(crate) fn wrong(&self, what: String) {
        self.log(|| format!("WRONG {what}"));
        self.wrong.borrow_mut().push(what);
    }

    fn is_wrong(&self) -> bool {
        !self.wrong.borrow().is_empty()
    }

    pub(crate) fn log(&self, what: impl FnOnce() -> String) {
        if let Some(log) = &self.log {
            log.borrow_mut().push(what());
        }
    }

    pub(crate) fn random_track(&self) -> Option<Rc<Track>> {
        self.rng.pick(&self.tracks.borrow()).cloned()
    }

    fn random_outsider(&self) -> Option<Rc<Outsider>> {
        self.rng.pick(&self.outsiders.borrow()).cloned()
    }

    // ---- connections

    fn serve(self: &Rc<Self>) -> asynchat::Result {
        let listener = self.serve_at(SERVER)?;
        self.listeners.borrow_mut().push(listener);
        let plain = PlainListener {
            channel: Channel::adopt(self.network.listening_socket(PLAIN)?)?,
            world: Rc::clone(self),
        };
        self.listeners.borrow_mut().push(plain.channel.clone());
        self.event_loop.register(plain)?;
        Ok(())
    }

    fn serve_at(self: &Rc<Self>, addr: &str) -> asynchat::Result<Channel> {
        let world = Rc::clone(self);
        Ok(Server::new(addr)
            .limits(self.limits)
            .refusal(REFUSAL)
            .listen_on(&self.event_loop, move |chat| world.new_actor(chat, false))?)
    }

    fn new_actor(self: &Rc<Self>, chat: Chat, outgoing: bool) -> Actor {
        let number = self.tracks.borrow().len();
        let track = Rc::new(Track::new(number, chat, outgoing));
        if self.shutting_down.get() {
            track.sealed.set(true);
        }
        self.log(|| format!("  #{number} {:?}", track.chat.peer_addr()));
        self.tracks.borrow_mut().push(Rc::clone(&track));
        Actor::new(track, Rc::clone(self))
    }

    /// Adds a service, from any context.
    pub(crate) fn listen(self: &Rc<Self>) {
        if self.listeners.borrow().len() < 4 && !self.last_orders.get() {
            match self.serve_at("10.0.0.1:0") {
                Ok(listener) => self.listeners.borrow_mut().push(listener),
                Err(error) if self.shutting_down.get() => drop(error),
                Err(error) => self.wrong(format!("could not listen: {error}")),
            }
        }
    }

    /// Begins an outgoing connection, from any context.
    pub(crate) fn connect(self: &Rc<Self>) {
        if self.tracks.borrow().len() > 12 || self.last_orders.get() {
            return;
        }
        let targets = [SERVER, OUTSIDE, OUTSIDE, NOBODY, BLACK_HOLE];
        let target = self.rng.pick(&targets).copied().unwrap_or(OUTSIDE);
        let connecting = Deadlines::default().connect(Duration::from_secs(3));
        self.log(|| format!("  to {target}"));
        let (world, early) = (Rc::clone(self), Rc::<Cell<&[u8]>>::default());
        let pushed = Rc::clone(&early);
        let made = Connector::new(target).deadlines(connecting).connect_on(
            &self.event_loop,
            move |chat| {
                let actor = world.new_actor(chat, true);
                actor.track.begin_output(&world, pushed.get());
                actor
            },
        );
        if let Ok(chat) = &made
            && self.rng.one_in(2)
        {
            chat.push_slice(EARLY);
            early.set(EARLY);
        }
        match made {
            Err(error) if !self.shutting_down.get() => {
                self.wrong(format!("could not connect: {error}"));
            }
            Err(_) => {}
            // The shutdown had ended because no channel was left, and the loop continues.
            Ok(_) => self.shutting_down.set(false),
        }
    }

    fn arrive(self: &Rc<Self>, at: SocketAddr) -> asynchat::Result {
        let peer = self.network.connect(at)?;
        self.log(|| format!("{} connects to {at}", peer.addr()));
        self.add_outsider(peer);
        Ok(())
    }

    fn add_outsider(&self, peer: Peer) {
        let outsider = Rc::new(Outsider::new(peer));
        self.outsiders.borrow_mut().push(outsider);
    }

    // ---- events

    /// One random event outside the loop.
    fn happen(self: &Rc<Self>) -> asynchat::Result {
        let rng = &self.rng;
        while let Some(peer) = self.service.accept() {
            self.add_outsider(peer);
        }
        match rng.below(40) {
            0..4 if self.outsiders.borrow().len() < 10 => {
                let listeners = self.listeners.borrow();
                let at = rng.pick(&listeners).and_then(Channel::local_addr);
                let at = at.and_then(|at| at.inet());
                drop(listeners);
                self.arrive(at.unwrap_or(addr(SERVER)))?;
            }
            4 => self.connect(),
            5..8 => self.advance(random_time(self))?,
            8..10 => self.settle()?,
            10 if rng.one_in(4) => self.network.set_conditions(random_conditions(rng)),
            11 if self.faulted.get() || rng.one_in(4) => self.fail(),
            12..18 => {
                if let Some(track) = self.random_track() {
                    act_on(self, &track, false);
                }
            }
            18 if rng.one_in(12) => self.shut_down(),
            _ => {
                if let Some(outsider) = self.random_outsider() {
                    outsider.act(self);
                }
            }
        }
        Ok(())
    }

    fn fail(&self) {
        use io::ErrorKind as Kind;
        self.faulted.set(true);
        self.faults.set(self.faults.get() + 1);
        // ENOBUFS, ENOMEM, EMFILE and ENFILE are all temporary.
        let faults = [
            (Call::Accept, Kind::OutOfMemory),
            (Call::Accept, Kind::Other),
            (Call::Accept, Kind::ConnectionAborted),
            (Call::Recv, Kind::ConnectionReset),
            (Call::Recv, Kind::OutOfMemory),
            (Call::Send, Kind::ConnectionReset),
            (Call::Send, Kind::BrokenPipe),
            (Call::Send, Kind::OutOfMemory),
            (Call::Connect, Kind::AddrNotAvailable),
            (Call::Watch, Kind::OutOfMemory),
            (Call::Wait, Kind::OutOfMemory),
        ];
        if let Some((call, kind)) = self.rng.pick(&faults).copied() {
            self.log(|| format!("{call:?} will fail: {kind:?}"));
            self.network.fail(call, kind);
        }
    }

    /// One turn, and the checks after it.
    fn turn(&self) -> asynchat::Result<bool> {
        self.turn_for(Duration::ZERO)
    }

    fn turn_for(&self, time: Duration) -> asynchat::Result<bool> {
        // Turns that are cut after each call.
        if self.rng.one_in(8) {
            for _ in 0..self.rng.below(20) {
                self.event_loop.run_for(Duration::ZERO)?;
                self.check_budgets();
            }
        }
        let goes_on = self.event_loop.run_once(time)?;
        self.check_budgets();
        Ok(goes_on)
    }

    fn check_budgets(&self) {
        for track in &*self.tracks.borrow() {
            track.check_budget(self);
        }
    }

    /// The work of turns: calls made and bytes transferred.
    fn work(&self) -> u64 {
        let moved = |track: &Rc<Track>| {
            let stats = track.chat.stats();
            stats.bytes_in + stats.bytes_out + stats.records_in + 1
        };
        self.calls.get() + self.tracks.borrow().iter().map(moved).sum::<u64>()
    }

    /// Data of outsiders that the loop has not received. Lingering sockets are not counted.
    fn unsent(&self) -> usize {
        let outsiders = self.outsiders.borrow();
        outsiders.iter().map(|it| it.peer.unsent()).sum()
    }

    fn settle(&self) -> asynchat::Result {
        let perfect = Conditions::default();
        let most = if self.network.conditions() == perfect {
            SPINNING
        } else {
            SPINNING_BADLY
        };
        let (mut work, mut unsent, mut idle) = (self.work(), 0, 0);
        loop {
            match self.work() {
                same if same == work => idle += 1,
                more => (work, idle) = (more, 0),
            }
            if idle > most {
                let left = self.unsent();
                if left != unsent {
                    (unsent, idle) = (left, 0);
                    continue;
                }
                self.wrong(format!(
                    "the loop does not settle: {idle} turns did nothing"
                ));
                return Ok(());
            }
            // A pending stop may have ended `run_once`. Then the run continues.
            let goes_on = self.turn()?;
            if self.is_wrong() || (!goes_on && self.event_loop.is_empty()) {
                return Ok(());
            }
            if self.network.is_at_rest(&self.event_loop)? {
                for track in &*self.tracks.borrow() {
                    track.check_rest(self);
                }
                return Ok(());
            }
        }
    }

    fn advance(&self, time: Duration) -> asynchat::Result {
        self.log(|| format!("{time:?} pass"));
        let end = self.network.elapsed() + time;
        self.settle()?;
        for step in 0.. {
            if step > 1000 {
                self.wrong(format!("{step} waits in {time:?}"));
            }
            if self.is_wrong() {
                break;
            }
            // A failed wait is followed by a pause.
            let left = end.saturating_sub(self.network.elapsed());
            let next = self.event_loop.next_timeout().unwrap_or(left).min(left);
            if left.is_zero() {
                break;
            }
            // On a simulated network, a wait without an event lets time pass.
            self.turn_for(next)?;
            self.settle()?;
            if self.event_loop.is_empty() {
                break;
            }
        }
        Ok(())
    }

    fn shut_down(&self) {
        let grace = random_time(self) * 2;
        self.log(|| format!("shutdown({grace:?})"));
        let again = self.shutting_down.replace(true);
        self.event_loop.shutdown(grace);
        for track in &*self.tracks.borrow() {
            // Connections that are not up are closed. All others get `handle_shutdown`.
            if track.outgoing && track.connected.get() == 0 {
                track.sealed.set(true);
            }
            track.shutdown_due.set(!again && !track.sealed.get());
        }
    }

    /// Ends everything, in one way or another, and checks that nothing is left.
    fn end(self: &Rc<Self>) -> asynchat::Result {
        self.log(|| "the end".to_owned());
        self.network.set_conditions(Conditions::default());
        self.settle()?;
        // All obstacles are removed.
        for track in &*self.tracks.borrow() {
            track.chat.resume_reading();
            track.paused.set(false);
            track.pending.set(0);
            track.chat.resume_producing();
        }
        for outsider in &*self.outsiders.borrow() {
            outsider.peer.start_reading(usize::MAX);
            outsider.reads.set(true);
        }
        self.settle()?;
        if self.is_wrong() {
            return Ok(());
        }
        // Long enough for paused accepting to resume.
        self.advance(Duration::from_secs(2 + u64::from(self.faults.get())))?;
        self.check_served();
        self.last_orders.set(true);
        match self.rng.below(3) {
            0 => {
                self.log(|| "close_all".to_owned());
                for track in &*self.tracks.borrow() {
                    if !track.is_done() {
                        track.asked_to_close.set(true);
                        track.end(true);
                    }
                }
                self.event_loop.close_all();
            }
            1 => self.shut_down(),
            _ => {
                for listener in &*self.listeners.borrow() {
                    listener.close();
                }
                for outsider in &*self.outsiders.borrow() {
                    outsider.finish();
                }
                self.settle()?;
                self.shut_down();
            }
        }
        // The grace, lingering, and timers that sessions have set on the loop.
        for _ in 0..20 {
            self.advance(Duration::from_secs(10))?;
            if self.event_loop.next_timeout().is_none() {
                break;
            }
        }
        if !self.event_loop.is_empty() && !self.is_wrong() {
            self.wrong(format!(
                "{} channels are open at the end",
                self.event_loop.len()
            ));
        }
        for track in &*self.tracks.borrow() {
            track.check_output(self);
        }
        self.check_outsiders();
        Ok(())
    }

    /// Every connection in a backlog was accepted.
    fn check_served(&self) {
        let tracks = self.tracks.borrow();
        for outsider in &*self.outsiders.borrow() {
            let peer = &outsider.peer;
            let addrs = (peer.peer_addr(), peer.addr());
            let is_plain = peer.peer_addr() == addr(PLAIN);
            let is_served = tracks.iter().any(|it| it.addrs.get() == Some(addrs));
            let is_gone = outsider.was_reset.get().is_some() || peer.has_ended();
            if !self.shutting_down.get() && !is_plain && !is_served && !is_gone {
                self.wrong(format!("{} was never accepted", peer.addr()));
            }
        }
    }

    /// Checks what outsiders without a session have received: the refusal, or an echo.
    fn check_outsiders(&self) {
        let tracks = self.tracks.borrow();
        for outsider in &*self.outsiders.borrow() {
            let addrs = (outsider.peer.peer_addr(), outsider.peer.addr());
            let received = outsider.peer.received();
            let is_plain = outsider.peer.peer_addr() == addr(PLAIN);
            let is_served = tracks.iter().any(|it| it.addrs.get() == Some(addrs));
            if is_plain && !outsider.sent.borrow().starts_with(&received) {
                self.wrong(format!("a wrong echo to {}", outsider.peer.addr()));
            }
            if !is_plain && !is_served && !REFUSAL.starts_with(&received) {
                self.wrong(format!("{received:?} to {}", outsider.peer.addr()));
            }
        }
    }
}

fn random_conditions(rng: &Rng) -> Conditions {
    let chance = |of: usize| match rng.below(3) {
        0 => 0.0,
        _ => rng.below(of) as f64 / 100.0,
    };
    Conditions::default()
        .short_reads(chance(100))
        .short_writes(chance(100))
        .would_block(chance(50))
        .late_events(chance(70))
        .shuffled(rng.one_in(2))
        .one_shot(rng.one_in(3))
        .buffer(if rng.one_in(2) {
            65_536
        } else {
            rng.below(5_000) + 1
        })
}

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}
