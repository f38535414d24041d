//! A session that acts at random, and checks each of its callbacks.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use asynchat::{
    AsyncChat, AtShutdown, Close, Deadlines, Eof, Limits, More, Overflow, Producer, RecordLimit,
    Result, SimpleProducer, TimerId,
};
use bytes::Bytes;

use crate::oracle::{Ends, Mode};
use crate::seeds::SILENT;
use crate::track::{Timer, Track};
use crate::world::World;

pub(crate) struct Actor {
    pub(crate) track: Rc<Track>,
    pub(crate) world: Rc<World>,
    /// How many sessions its connection had before.
    generation: u32,
    was_called: Cell<bool>,
    /// `found_record` has been called.
    pub(crate) is_owned: Cell<bool>,
}

impl Actor {
    /// A session that is the newest one of its connection.
    pub(crate) fn new(track: Rc<Track>, world: Rc<World>) -> Self {
        world.actors.set(world.actors.get() + 1);
        let generation = track.generation.get();
        let was_called = Cell::new(false);
        Actor {
            track,
            world,
            generation,
            was_called,
            is_owned: Cell::default(),
        }
    }

    /// The end of every callback: random actions, and sometimes a failure.
    fn act(&self) -> Result {
        let (world, track) = (&self.world, &self.track);
        self.was_called.set(true);
        if self.generation != track.generation.get() {
            world.wrong(format!("#{}: a replaced session was called", track.number));
        }
        for _ in 0..world.rng.below(3) {
            // Mostly on its own connection, sometimes on another one.
            match world.random_track().filter(|_| world.rng.one_in(6)) {
                Some(other) => act_on(world, &other, other.number == track.number),
                None => act_on(world, track, true),
            }
        }
        if world.rng.one_in(400) {
            world.log(|| format!("  #{} panics", track.number));
            track.panicked.set(true);
            track.fail();
            std::panic::panic_any(SILENT);
        }
        if world.rng.one_in(300) {
            world.log(|| format!("  #{} fails", track.number));
            track.failed.set(true);
            track.fail();
            return Err("a failure on purpose".into());
        }
        Ok(())
    }

    fn check(&self, verdict: std::result::Result<(), String>) {
        if let Err(what) = verdict {
            self.world.wrong(format!("#{}: {what}", self.track.number));
        }
    }
}

impl AsyncChat for Actor {
    fn found_terminator(&mut self, record: &[u8]) -> Result {
        let (world, track) = (&self.world, &self.track);
        track.called_for_input(world, "found_terminator");
        let stream = track.stream(world);
        let verdict = track.oracle.borrow_mut().record(&stream, record);
        self.check(verdict);
        let mode = track.oracle.borrow().mode();
        if mode.owned != self.is_owned.take() {
            self.check(Err(format!("{mode:?} in the wrong callback: {record:?}")));
        }
        if mode.ends == Ends::Count(0) {
            track.set_mode(Mode::CRLF);
        } else if world.rng.one_in(10) {
            track.set_mode(random_mode(world, true));
        }
        self.act()
    }

    fn found_record(&mut self, record: Bytes) -> Result {
        self.is_owned.set(true);
        self.found_terminator(&record)
    }

    fn collect_incoming_data(&mut self, chunk: &[u8]) -> Result {
        let (world, track) = (&self.world, &self.track);
        track.called_for_input(world, "collect_incoming_data");
        let stream = track.stream(world);
        let verdict = track.oracle.borrow_mut().chunk(&stream, chunk);
        self.check(verdict);
        self.act()
    }

    fn handle_connect(&mut self) -> Result {
        let (world, track) = (&self.world, &self.track);
        track.connected.set(track.connected.get() + 1);
        track.learn_addrs();
        track.called(world, "handle_connect");
        self.act()
    }

    fn handle_overflow(&mut self, _limit: &RecordLimit) -> Result<Overflow> {
        let (world, track) = (&self.world, &self.track);
        track.called_for_input(world, "handle_overflow");
        let discards = !world.rng.one_in(3);
        let stream = track.stream(world);
        let verdict = track.oracle.borrow_mut().overflow(&stream, discards);
        self.check(verdict);
        if discards {
            return Ok(Overflow::Discard);
        }
        track.overflowed.set(true);
        track.sealed.set(true);
        Ok(Overflow::CloseWhenDone)
    }

    fn handle_eof(&mut self, partial: &[u8]) -> Result<Eof> {
        let (world, track) = (&self.world, &self.track);
        track.called_for_input(world, "handle_eof");
        track.at_eof.set(true);
        let stream = track.stream(world);
        // For a refused connection, the input is what the kernel accepted of the refusal.
        if track.has_known_peer(world) {
            let verdict = track.oracle.borrow_mut().end(&stream, partial);
            self.check(verdict);
        }
        self.act()?;
        if world.rng.one_in(4) {
            return Ok(Eof::StayOpen);
        }
        track.sealed.set(true);
        Ok(Eof::CloseWhenDone)
    }

    fn handle_low_water(&mut self) -> Result {
        let (world, track) = (&self.world, &self.track);
        track.called(world, "handle_low_water");
        if !track.back_pressured.replace(false) && !track.may_be_over() {
            world.wrong(format!(
                "#{}: handle_low_water without back-pressure",
                track.number
            ));
        }
        self.act()
    }

    fn handle_timer(&mut self, timer: TimerId) -> Result {
        let (world, track) = (&self.world, &self.track);
        track.called(world, "handle_timer");
        let now = world.network.elapsed();
        let mut timers = track.timers.borrow_mut();
        let found = timers.iter().position(|it| it.id == timer);
        match found.map(|index| (index, timers[index])) {
            Some((_, it)) if it.due > now => {
                world.wrong(format!("#{}: a timer at {now:?}: {it:?}", track.number));
            }
            Some((index, it)) => match it.period {
                Some(period) => timers[index].due = now + period,
                None => drop(timers.remove(index)),
            },
            None => world.wrong(format!("#{}: an unknown timer", track.number)),
        }
        drop(timers);
        self.act()
    }

    fn handle_shutdown(&mut self) -> Result<AtShutdown> {
        let (world, track) = (&self.world, &self.track);
        track.called(world, "handle_shutdown");
        if !track.shutdown_due.replace(false) || track.sealed.get() {
            world.wrong(format!(
                "#{}: handle_shutdown without a shutdown",
                track.number
            ));
        }
        self.act()?;
        if world.rng.one_in(3) {
            return Ok(AtShutdown::Stay);
        }
        track.sealed.set(true);
        Ok(AtShutdown::CloseWhenDone)
    }

    fn handle_close(&mut self, why: &Close) {
        self.track.ended(&self.world, why);
        self.track.timers.borrow_mut().clear();
        for _ in 0..self.world.rng.below(2) {
            if let Some(other) = self.world.random_track() {
                act_on(&self.world, &other, false);
            }
        }
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        self.world.actors.set(self.world.actors.get() - 1);
        let is_replaced = self.generation < self.track.generation.get();
        // The connection may end before a replacement takes over.
        let is_unused = self.generation > 0 && !self.was_called.get() && !self.track.chat.is_open();
        if self.track.closes.get() != 1 && !is_replaced && !is_unused {
            let number = self.track.number;
            self.world
                .wrong(format!("#{number}: dropped without handle_close"));
        }
    }
}

/// A random time, in steps that sometimes coincide.
pub(crate) fn random_time(world: &World) -> Duration {
    Duration::from_millis(world.rng.below(40) as u64 * 100)
}

/// A random terminator. Some are chosen only within a callback of the session.
fn random_mode(world: &World, inside: bool) -> Mode {
    let ends = match world.rng.below(if inside { 9 } else { 6 }) {
        0 | 1 => Ends::Crlf,
        2 => Ends::Line,
        3 => Ends::Needle(b"abab"),
        4 => Ends::Count(world.rng.below(50) + 1),
        5 => Ends::Needle(b"\r\n\r\n"),
        6 => Ends::Count(0),
        7 => Ends::Dot,
        _ => Ends::Never,
    };
    let streamed = ends == Ends::Never || (ends != Ends::Count(0) && world.rng.one_in(3));
    let has_terminator = !matches!(ends, Ends::Count(_) | Ends::Never);
    Mode {
        ends,
        streamed,
        owned: !streamed && world.rng.one_in(4),
        inclusive: has_terminator && world.rng.one_in(4),
    }
}

/// Acts on a connection: from one of its callbacks, from those of another, or from outside.
pub(crate) fn act_on(world: &Rc<World>, track: &Rc<Track>, inside: bool) {
    let (chat, rng) = (&track.chat, &world.rng);
    let what = rng.below(100);
    world.log(|| format!("    op {what} on #{}", track.number));
    if (38..46).contains(&what) {
        track.changed.set(Some(world.network.elapsed()));
    }
    if (0..38).contains(&what) {
        track.pushing(inside);
    }
    match what {
        // A push after `close_when_done` would be an error of the program.
        0..38 if track.finished.get() => {}
        0..24 => push(world, track),
        24..32 => push_producer(world, track),
        32..38 => push_hook(world, track),
        38..43 => {
            // In the middle of a block the position of the next byte is unknown, because the dots
            // that were parsed are removed.
            let mode = track.oracle.borrow().mode();
            if !matches!(mode.ends, Ends::Dot | Ends::Count(0)) {
                track.set_mode(random_mode(world, false));
            }
        }
        43..46 => {
            chat.pause_reading();
            track.paused.set(true);
        }
        46..56 => {
            chat.resume_reading();
            track.paused.set(false);
        }
        56..58 if rng.one_in(4) => {
            if !track.is_done() {
                track.asked_to_close.set(true);
                track.end(true);
            }
            if rng.one_in(2) {
                chat.close();
            } else {
                chat.abort();
            }
        }
        58..60 if rng.one_in(2) && chat.is_open() => {
            chat.close_when_done();
            track.asked_to_close.set(true);
            track.sealed.set(true);
        }
        60 if track.takes_output(world) => {
            chat.shutdown_write();
            track.check_output_limit(world);
            track.finished.set(true);
        }
        61 if !track.finished.get() && chat.is_open() => track.discard(),
        62..65 => set_limits(world, track),
        65..70 => post(world, track),
        70..73 => world.connect(),
        73 => world.listen(),
        74..82 => set_timer(world, track),
        82..86 => {
            let now = world.network.elapsed();
            let mut timers = track.timers.borrow_mut();
            let index = rng.below(timers.len());
            if let Some(timer) = timers.get(index).copied() {
                let done = if rng.one_in(2) {
                    timers.remove(index);
                    chat.cancel(timer.id)
                } else {
                    let delay = random_time(world);
                    timers[index].due = now + delay;
                    chat.reschedule(timer.id, delay)
                };
                // The grace of a shutdown may have just ended the connection.
                let ends = track.over.get() || track.failing.get() || !chat.is_open();
                if !done && !ends && track.closes.get() == 0 {
                    world.wrong(format!("#{}: its timer does not exist", track.number));
                }
            }
        }
        86..88 => {
            let time = |chance| rng.one_in(chance).then(|| random_time(world) * 4);
            let deadlines = Deadlines::default()
                .idle(time(2))
                .record(time(2))
                .input(time(3))
                .drain(time(2))
                .lifetime(time(6));
            track.timed.set(true);
            // A connection that has ended has no timers, even before `handle_close`.
            if chat.is_open() {
                track.deadlines.set(deadlines);
            }
            chat.set_deadlines(deadlines);
        }
        88..94 => {
            track.pending.set(0);
            chat.resume_producing();
        }
        94 if inside && rng.one_in(4) => world.event_loop.stop(),
        98 if rng.one_in(2) && chat.is_open() => {
            chat.close_with("a reason on purpose");
            track.failed.set(true);
            track.fail();
        }
        95..98 => {
            let weak = Rc::downgrade(world);
            let later = move || {
                if let Some(world) = weak.upgrade()
                    && let Some(track) = world.random_track()
                {
                    act_on(&world, &track, false);
                }
            };
            if rng.one_in(2) {
                world.event_loop.call_soon(later);
            } else {
                world.event_loop.call_later(random_time(world), later);
            }
        }
        98 if rng.one_in(2) && chat.is_open() && !track.over.get() => {
            track.generation.set(track.generation.get() + 1);
            chat.replace_session(Actor::new(Rc::clone(track), Rc::clone(world)));
        }
        _ => {}
    }
}

fn push(world: &World, track: &Track) {
    let data = world.rng.output();
    let takes = track.takes_output(world);
    match world.rng.below(4) {
        0 => track.chat.push(data.clone()),
        1 => {
            let (front, back) = data.split_at(data.len() / 2);
            track.chat.push_slices(&[front, back]);
        }
        2 => track.chat.push(Bytes::from(data.clone())),
        _ => {
            let text = data.escape_ascii().to_string();
            write!(track.chat, "{text}\r\n");
            if takes {
                track.pushed(world, format!("{text}\r\n").as_bytes());
            }
            return;
        }
    }
    if takes {
        track.pushed(world, &data);
    }
}

fn push_producer(world: &Rc<World>, track: &Rc<Track>) {
    let data = world.rng.output();
    let takes = track.takes_output(world);
    if world.rng.one_in(3) {
        let size = world.rng.below(500) + 1;
        track
            .chat
            .push_with_producer(SimpleProducer::new(data.clone()).chunk_size(size));
    } else {
        world.producers.set(world.producers.get() + 1);
        track.chat.push_with_producer(RandomProducer {
            data: data.clone().into(),
            world: Rc::clone(world),
            track: Rc::clone(track),
        });
    }
    if takes {
        track.expected.borrow_mut().extend_from_slice(&data);
        track.check_output_limit(world);
    }
}

/// A producer that may be pending, exceed its budget, or fail.
struct RandomProducer {
    data: Bytes,
    world: Rc<World>,
    track: Rc<Track>,
}

impl Producer for RandomProducer {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        let (rng, track) = (&self.world.rng, &self.track);
        self.world.calls.set(self.world.calls.get() + 1);
        if track.is_done() {
            let number = track.number;
            self.world
                .wrong(format!("#{number}: a producer was called after the close"));
        }
        match rng.below(12) {
            0 => {
                track.pending.set(track.pending.get() + 1);
                track.was_pending.set(true);
                // The world resumes it later.
                let chat = track.chat.clone();
                let track = Rc::clone(track);
                self.world
                    .event_loop
                    .call_later(random_time(&self.world), move || {
                        track.pending.set(0);
                        chat.resume_producing();
                    });
                if rng.one_in(2) {
                    Ok(More::Pending)
                } else {
                    Err(io::ErrorKind::WouldBlock.into())
                }
            }
            1 => Ok(More::Chunk(Bytes::new())),
            2 if rng.one_in(20) => {
                track.failed.set(true);
                track.source_failed.set(true);
                track.end(true);
                Err(io::Error::other("a failure on purpose"))
            }
            _ if self.data.is_empty() => Ok(More::Done),
            3 => Ok(More::Chunk(self.data.split_off(0))),
            _ => {
                let most = self.data.len().min(budget);
                Ok(More::Chunk(self.data.split_to(rng.below(most) + 1)))
            }
        }
    }
}

impl Drop for RandomProducer {
    fn drop(&mut self) {
        self.world.producers.set(self.world.producers.get() - 1);
    }
}

/// A hook that knows its position in the stream.
fn push_hook(world: &Rc<World>, track: &Rc<Track>) {
    struct Counted(Rc<World>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.hooks.set(self.0.hooks.get() - 1);
        }
    }
    world.hooks.set(world.hooks.get() + 1);
    let counted = Counted(Rc::clone(world));
    let (position, called) = (track.expected.borrow().len() as u64, Cell::new(false));
    let weak = Rc::downgrade(track);
    let takes = track.takes_output(world);
    track.chat.push_hook(move || {
        let world = &counted.0;
        world.calls.set(world.calls.get() + 1);
        let Some(track) = weak.upgrade() else { return };
        let sent = track.chat.stats().bytes_out;
        let number = track.number;
        if called.replace(true) || !takes || sent != position {
            world.wrong(format!(
                "#{number}: a hook at byte {position} was called after {sent} bytes"
            ));
        }
        if track.is_done() {
            world.wrong(format!("#{number}: a hook was called after the close"));
        }
        act_on(world, &track, true);
    });
    if takes {
        track.check_output_limit(world);
    }
}

fn set_limits(world: &World, track: &Track) {
    let rng = &world.rng;
    let record = track.limits.get().record;
    let high = rng.below(30_000);
    let limits = Limits::default()
        .record(record)
        .low_water(rng.below(high))
        .high_water(high)
        .turn_read(rng.below(3_000))
        .turn_write(rng.below(9_000))
        .turn_records(rng.below(10))
        .output(if rng.one_in(4) { 60_000 } else { 4 << 20 });
    track.chat.set_limits(limits);
    track.limits.set(limits);
    track.limits_changed.set(true);
}

fn set_timer(world: &World, track: &Track) {
    if track.over.get() || track.closes.get() > 0 || track.timers.borrow().len() > 4 {
        return;
    }
    let delay = random_time(world);
    let due = world.network.elapsed() + delay;
    let period = world
        .rng
        .one_in(4)
        .then(|| delay + Duration::from_millis(50));
    let timer = match period {
        Some(period) => Timer {
            id: track.chat.call_every(period),
            due: due + Duration::from_millis(50),
            period: Some(period),
        },
        None => Timer {
            id: track.chat.call_later(delay),
            due,
            period: None,
        },
    };
    track.timers.borrow_mut().push(timer);
}

fn post(world: &World, track: &Track) {
    // Calls that were posted before a shutdown are made before it reaches the session.
    let what = if world.shutting_down.get() {
        "a posted call"
    } else {
        "an earlier call"
    };
    let call = move |actor: &mut Actor| {
        actor.track.called(&actor.world, what);
        actor.act()
    };
    let open = track.chat.is_open();
    let posted = if world.rng.one_in(2) {
        track.chat.post(call)
    } else {
        world.event_loop.remote().post_to(track.chat.id(), call)
    };
    if open && posted.is_err() {
        world.wrong(format!("#{}: no handler for a posted call", track.number));
    }
}
