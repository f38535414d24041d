//! One connection as its test sees it: what was done to it, and what must come of that.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use asynchat::{Channel, ChannelStats, Chat, Close, Deadline, Deadlines, Limits, TimerId};

use crate::oracle::{Mode, Oracle};
use crate::outsider::Outsider;
use crate::world::{LAST_WORDS, World};

/// A timer of a channel's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timer {
    pub(crate) id: TimerId,
    pub(crate) due: Duration,
    pub(crate) period: Option<Duration>,
}

pub(crate) struct Track {
    pub(crate) number: usize,
    pub(crate) chat: Chat,
    pub(crate) outgoing: bool,
    pub(crate) limits: Cell<Limits>,
    /// Its own address and its peer's, once it is up.
    pub(crate) addrs: Cell<Option<(SocketAddr, SocketAddr)>>,
    pub(crate) oracle: RefCell<Oracle>,
    /// What was pushed, in order.
    pub(crate) expected: RefCell<Vec<u8>>,
    pub(crate) timers: RefCell<Vec<Timer>>,
    /// How much was pushed, in pushes.
    items: Cell<usize>,
    /// Producers that are pending.
    pub(crate) parked: Cell<usize>,
    /// A producer of its has had nothing at some time.
    pub(crate) was_parked: Cell<bool>,

    pub(crate) connected: Cell<u32>,
    pub(crate) told: Cell<u32>,
    pub(crate) why: RefCell<Option<String>>,
    pub(crate) paused: Cell<bool>,
    pub(crate) choked: Cell<bool>,
    /// Nothing more can be pushed, and no input is delivered.
    pub(crate) sealed: Cell<bool>,
    /// The loop shuts down, and it has not been called for that.
    pub(crate) shutdown_due: Cell<bool>,
    /// Its sending side was shut down.
    pub(crate) finished: Cell<bool>,
    /// It has been closed, or a callback has failed: nothing may follow but `handle_close`.
    pub(crate) over: Cell<bool>,
    /// It was closed at once, so what was queued may be lost.
    pub(crate) cut: Cell<bool>,
    /// A callback has failed: what was pushed before is still sent, producers and hooks included.
    pub(crate) failing: Cell<bool>,
    pub(crate) asked_to_close: Cell<bool>,
    pub(crate) failed: Cell<bool>,
    pub(crate) panicked: Cell<bool>,
    pub(crate) overflowed: Cell<bool>,
    pub(crate) over_output: Cell<bool>,
    /// Something was pushed in one of its own callbacks since its queue was last empty.
    pub(crate) own_pushed: Cell<bool>,
    /// A producer of its has failed.
    pub(crate) source_failed: Cell<bool>,
    /// How much was queued before the last push.
    pub(crate) before_push: Cell<usize>,
    pub(crate) timed: Cell<bool>,
    pub(crate) deadlines: Cell<Deadlines>,
    /// When it was last paused or given a terminator from outside: what had passed by then had.
    pub(crate) changed: Cell<Option<Duration>>,
    /// The peer has finished sending, and it was told.
    pub(crate) at_eof: Cell<bool>,
    pub(crate) whole: Cell<bool>,
    /// As of the last look between two turns.
    pub(crate) before: Cell<ChannelStats>,
    pub(crate) limits_changed: Cell<bool>,
}

impl Track {
    pub(crate) fn new(number: usize, chat: Chat, outgoing: bool) -> Self {
        let limits = chat.limits();
        Track {
            number,
            chat,
            outgoing,
            limits: Cell::new(limits),
            addrs: Cell::default(),
            oracle: RefCell::new(Oracle::new(limits.record)),
            expected: RefCell::default(),
            timers: RefCell::default(),
            items: Cell::new(0),
            parked: Cell::new(0),
            was_parked: Cell::new(false),
            connected: Cell::new(0),
            told: Cell::new(0),
            why: RefCell::default(),
            paused: Cell::new(false),
            choked: Cell::new(false),
            sealed: Cell::new(false),
            shutdown_due: Cell::new(false),
            finished: Cell::new(false),
            over: Cell::new(false),
            cut: Cell::new(false),
            failing: Cell::new(false),
            asked_to_close: Cell::new(false),
            failed: Cell::new(false),
            panicked: Cell::new(false),
            overflowed: Cell::new(false),
            over_output: Cell::new(false),
            own_pushed: Cell::new(false),
            source_failed: Cell::new(false),
            before_push: Cell::new(0),
            timed: Cell::new(false),
            deadlines: Cell::default(),
            changed: Cell::new(None),
            at_eof: Cell::new(false),
            whole: Cell::new(false),
            before: Cell::default(),
            limits_changed: Cell::new(false),
        }
    }

    // ---- what is done to it

    pub(crate) fn takes_output(&self) -> bool {
        !self.sealed.get() && !self.finished.get() && !self.over.get() && self.told.get() == 0
    }

    /// Something is about to be pushed, perhaps in one of its own callbacks.
    pub(crate) fn pushing(&self, inside: bool) {
        let queued = self.chat.queued();
        let own = self.own_pushed.get() && queued > 0;
        self.own_pushed.set(own || inside);
        self.before_push.set(queued);
    }

    /// `data` has just been pushed.
    pub(crate) fn pushed(&self, world: &World, data: &[u8]) {
        self.expected.borrow_mut().extend_from_slice(data);
        if !data.is_empty() {
            self.weigh(world);
        }
    }

    /// Something has just been pushed: is it too much now?
    pub(crate) fn weigh(&self, world: &World) {
        self.items.set(self.items.get() + 1);
        let (queued, limits) = (self.chat.queued(), self.limits.get());
        let mark = limits.high_water.min(limits.output);
        world.log(|| format!("      {queued} queued, mark {mark}"));
        if queued > mark {
            self.choked.set(true);
        }
        // A push is accepted while the queue is within the limit, whatever its size. What a session
        // pushes in its own turn does not count, and may have gone before.
        if !self.own_pushed.get() && self.before_push.get() > limits.output {
            if self.chat.is_open() {
                world.wrong(format!("#{}: over its output limit, and open", self.number));
            }
            self.over_output.set(true);
            self.end(true);
        }
        // How many of its items are still there cannot be seen from outside.
        let most = queued + self.items.get() * 4096;
        if !self.chat.is_open() && most > limits.output {
            self.over_output.set(true);
            self.end(true);
        }
    }

    /// Whether so much has been pushed that the queue may be over its mark in items rather than in
    /// bytes, which cannot be seen from outside.
    pub(crate) fn may_be_over(&self) -> bool {
        self.items.get() > 64
    }

    /// It ends now, for a reason of this side's; what is queued is lost if it is cut off.
    pub(crate) fn end(&self, cut: bool) {
        self.over.set(true);
        if cut {
            self.cut.set(true);
        }
    }

    /// One of its callbacks fails. The handler is not called any more, but for its end; a connection
    /// that is up sends what was pushed.
    pub(crate) fn fail(&self) {
        self.end(self.connected.get() == 0);
        self.failing.set(self.connected.get() > 0);
    }

    /// Whether neither its handler nor a producer or hook of its may be called any more.
    pub(crate) fn is_done(&self) -> bool {
        self.told.get() > 0 || (self.over.get() && (self.cut.get() || !self.failing.get()))
    }

    pub(crate) fn set_mode(&self, mode: Mode) {
        self.chat.set_terminator(mode.terminator());
        self.oracle.borrow_mut().set(mode);
    }

    pub(crate) fn discard(&self) {
        let stats = self.chat.stats();
        self.chat.discard_buffers();
        self.expected
            .borrow_mut()
            .truncate(stats.bytes_out as usize);
        self.oracle
            .borrow_mut()
            .discard_until(stats.bytes_in as usize);
    }

    // ---- what it is told

    /// Checks what holds for every callback but the last.
    pub(crate) fn called(&self, world: &World, what: &str) {
        world.log(|| format!("  #{} {what}", self.number));
        world.calls.set(world.calls.get() + 1);
        if self.told.get() > 0 {
            world.wrong(format!("#{}: {what} after handle_close", self.number));
        }
        if self.over.get() {
            world.wrong(format!("#{}: {what} after its close", self.number));
        }
        let early = self.shutdown_due.get() && !self.sealed.get();
        if early && !matches!(what, "handle_connect" | "handle_shutdown") {
            world.wrong(format!("#{}: {what} before handle_shutdown", self.number));
        }
        // A connection under way may have timers and visitors.
        let under_way = self.outgoing && self.connected.get() == 0;
        let may_wait = matches!(what, "handle_timer" | "a visit") && under_way;
        if self.connected.get() != 1 && !may_wait {
            world.wrong(format!("#{}: {what} before handle_connect", self.number));
        }
    }

    /// And for input, which neither comes to one that is paused, nor past the marks.
    pub(crate) fn called_for_input(&self, world: &World, what: &str) {
        self.called(world, what);
        let flags = [
            (self.paused.get(), "paused"),
            (self.choked.get(), "over its high-water mark"),
            (self.sealed.get(), "closing"),
            (self.at_eof.get(), "past its end"),
        ];
        for (_, state) in flags.iter().filter(|(is, _)| *is) {
            world.wrong(format!("#{}: {what} while {state}", self.number));
        }
    }

    /// What the other side has sent to it, if that is known.
    pub(crate) fn stream(&self, world: &World) -> Vec<u8> {
        if let Some(outsider) = self.outsider(world) {
            return outsider.sent.borrow().clone();
        }
        match self.other(world) {
            Some(other) => {
                let mut pushed = other.expected.borrow().clone();
                if other.told.get() > 0 {
                    // Cut off, it may not have sent all of it.
                    pushed.truncate(other.chat.stats().bytes_out as usize);
                }
                pushed
            }
            // A service that has no place for it.
            None => LAST_WORDS.to_vec(),
        }
    }

    /// The peer outside that it talks to.
    pub(crate) fn outsider(&self, world: &World) -> Option<Rc<Outsider>> {
        let addrs = self.addrs.get()?;
        let outsiders = world.outsiders.borrow();
        let found = outsiders
            .iter()
            .find(|it| (it.peer.peer_addr(), it.peer.addr()) == addrs);
        found.cloned()
    }

    /// The session on the same loop that it talks to.
    pub(crate) fn other(&self, world: &World) -> Option<Rc<Track>> {
        let (own, peer) = self.addrs.get()?;
        let tracks = world.tracks.borrow();
        let found = tracks.iter().find(|it| it.addrs.get() == Some((peer, own)));
        found.cloned()
    }

    /// Whether there is somebody at the other end, and not just a service that has no place.
    pub(crate) fn has_company(&self, world: &World) -> bool {
        self.outsider(world).is_some() || self.other(world).is_some()
    }

    pub(crate) fn learn_addrs(&self) {
        let inet = |addr: Option<asynchat::Addr>| addr.and_then(|addr| addr.inet());
        let channel: &Channel = &self.chat;
        let addrs = inet(channel.local_addr()).zip(inet(channel.peer_addr()));
        if addrs.is_some() {
            self.addrs.set(addrs);
        }
    }

    /// It has ended; is that what it ended of?
    pub(crate) fn ended(&self, world: &World, why: &Close) {
        let number = self.number;
        world.log(|| format!("  #{number} closed: {why}"));
        self.told.set(self.told.get() + 1);
        if self.told.get() != 1 {
            world.wrong(format!("#{number}: told twice of its end"));
        }
        let faulted = world.faulted.get();
        let stranger = self.outsider(world).is_none();
        let was_reset = || {
            self.outsider(world)
                .is_some_and(|it| it.was_reset.get().is_some())
        };
        let known = match why {
            Close::Local => self.asked_to_close.get(),
            // One that is paused is not called for the end of its input, if both sides have finished.
            Close::Eof => self.at_eof.get() || self.paused.get(),
            Close::Reset => faulted || stranger || self.finished.get() || was_reset(),
            Close::ConnectFailed(_) => self.outgoing && self.connected.get() == 0,
            Close::Timeout(which) => self.may_time_out(world, *which),
            Close::InputLimit => self.overflowed.get(),
            Close::OutputLimit => self.over_output.get(),
            Close::Handler(_) => self.failed.get(),
            Close::Panic(_) => self.panicked.get(),
            Close::Shutdown => world.shutting_down.get(),
            Close::Io(_) => faulted,
            _ => false,
        };
        if !known {
            world.wrong(format!("#{number}: closed without cause: {why}"));
        }
        if self.connected.get() == 0 && !matches!(why, Close::ConnectFailed(_)) && self.outgoing {
            let cause = self.over.get() || self.timed.get() || faulted || world.shutting_down.get();
            if !cause && !self.sealed.get() {
                world.wrong(format!("#{number}: never up, and yet: {why}"));
            }
        }
        let (out, pushed) = (self.chat.stats().bytes_out, self.expected.borrow().len());
        let in_order = match why {
            Close::Local | Close::Eof | Close::InputLimit => true,
            // A peer that reads is sent what was pushed before the failure. One that does not, and a
            // producer that has nothing, are waited for as long as a close lingers.
            Close::Handler(_) | Close::Panic(_) => {
                let reads = |it: Rc<Outsider>| it.reads.get() && it.was_reset.get().is_none();
                // A deadline, a close or a shutdown may have ended that before.
                let set = self.deadlines.get();
                let timed = set.idle.is_some() || set.lifetime.is_some() || set.drain.is_some();
                let in_time = !self.was_parked.get() && !timed && !world.shutting_down.get();
                let in_time = in_time && !faulted;
                self.failing.get() && in_time && self.outsider(world).is_some_and(reads)
            }
            _ => false,
        };
        if in_order && !self.cut.get() {
            self.whole.set(true);
            if out != pushed as u64 {
                world.wrong(format!("#{number}: {out} bytes of {pushed} sent: {why}"));
            }
        }
        if matches!(why, Close::Reset) && !faulted {
            self.check_reset(world);
        }
        *self.why.borrow_mut() = Some(why.to_string());
    }

    /// Whether this deadline was set, and, of a record, whether there is one that the peer owes.
    fn may_time_out(&self, world: &World, which: Deadline) -> bool {
        let set = self.deadlines.get();
        match which {
            Deadline::Idle => set.idle.is_some(),
            Deadline::Lifetime => set.lifetime.is_some(),
            Deadline::Drain => {
                set.drain.is_some() && self.chat.stats().bytes_out < self.pushed_bytes()
            }
            Deadline::Record => {
                let unheard = self.sealed.get() || self.at_eof.get();
                let received = self.chat.stats().bytes_in as usize;
                let begun = self.oracle.borrow().is_begun(received);
                let rests = self.paused.get() || self.choked.get();
                let owes = begun && !unheard && !rests;
                let just_changed = self.changed.get() == Some(world.network.elapsed());
                set.record.is_some() && (owes || just_changed)
            }
            _ => false,
        }
    }

    fn pushed_bytes(&self) -> u64 {
        self.expected.borrow().len() as u64
    }

    /// A reset loses nothing that had arrived before it, where the session could still be given it:
    /// when a send has failed, one that is paused or whose pushes reach the high-water mark ends.
    fn check_reset(&self, world: &World) {
        let arrived = self.outsider(world).and_then(|it| it.was_reset.get());
        let Some(arrived) = arrived else { return };
        let limits = self.limits.get();
        let unsent = self
            .pushed_bytes()
            .saturating_sub(self.chat.stats().bytes_out);
        let rests = self.paused.get()
            || self.choked.get()
            || unsent.max(self.chat.queued() as u64) > limits.high_water.min(limits.output) as u64;
        let deaf = self.sealed.get() || self.over.get() || self.at_eof.get();
        if deaf || rests || self.may_be_over() || self.connected.get() == 0 {
            return;
        }
        let received = self.chat.stats().bytes_in as usize;
        let stream = self.stream(world);
        let owes = self.oracle.borrow_mut().owes(&stream[..arrived]);
        if received < arrived || owes {
            let number = self.number;
            world.wrong(format!(
                "#{number}: reset after {received} bytes of {arrived}, a record owed: {owes}"
            ));
        }
    }

    // ---- between turns

    /// Checks that it took no more than its share of a turn.
    pub(crate) fn check_budget(&self, world: &World) {
        let (before, now) = (self.before.get(), self.chat.stats());
        self.before.set(now);
        if self.limits_changed.replace(false) {
            return;
        }
        let limits = self.limits.get();
        // `run_once` has two halves of a turn in it: before the wait it goes on with what was left from
        // the one before. A channel receives once in a turn, and sends again when something is pushed
        // to it. What a drain deadline is about to end gets one more chance.
        let sends = if self.timed.get() { 4 } else { 3 };
        let within = |moved: u64, times: u64, budget: usize| moved <= times * budget.max(1) as u64;
        if !within(now.bytes_in - before.bytes_in, 2, limits.turn_read)
            || !within(now.bytes_out - before.bytes_out, sends, limits.turn_write)
            || !within(now.records_in - before.records_in, 2, limits.turn_records)
        {
            let number = self.number;
            world.wrong(format!("#{number}: over its budget: {before:?}, {now:?}"));
        }
    }

    /// Nothing can happen any more without time passing: then nothing may be left undone.
    pub(crate) fn check_rest(&self, world: &World) {
        let number = self.number;
        if self.told.get() > 0 || self.connected.get() == 0 {
            return;
        }
        if self.is_done() {
            // What was pushed before a producer that has failed may wait for its peer.
            if !self.source_failed.get() {
                world.wrong(format!("#{number}: closed, and not told"));
            }
            return;
        }
        if self.failing.get() {
            self.check_sent(world);
            return;
        }
        if self.shutdown_due.get() && !self.sealed.get() {
            world.wrong(format!("#{number}: not called for the shutdown"));
        }
        let now = world.network.elapsed();
        if let Some(late) = self.timers.borrow().iter().find(|timer| timer.due < now) {
            world.wrong(format!("#{number}: a timer is late at {now:?}: {late:?}"));
        }
        let Some(outsider) = self.outsider(world) else {
            return;
        };
        // A send that failed may have left it half dead, until its peer ends.
        if world.faulted.get() || outsider.was_reset.get().is_some() {
            return;
        }
        let stats = self.chat.stats();
        self.check_sent(world);
        let heard = self.sealed.get() || self.at_eof.get();
        let deaf = heard || self.paused.get() || self.choked.get() || self.may_be_over();
        if !deaf {
            let sent = outsider.sent.borrow();
            let left = sent.len() as u64 - stats.bytes_in;
            let owes = self.oracle.borrow_mut().owes(&sent);
            if left > 0 || owes {
                world.wrong(format!(
                    "#{number}: {left} bytes unread, a record owed: {owes}"
                ));
            }
        }
    }

    /// Checks that nothing is left to send to a peer that reads, and that a connection which was to
    /// send no more than that has ended.
    fn check_sent(&self, world: &World) {
        let Some(outsider) = self.outsider(world) else {
            return;
        };
        if world.faulted.get() || outsider.was_reset.get().is_some() {
            return;
        }
        let (number, queued) = (self.number, self.chat.queued());
        let listens = outsider.reads.get() && self.parked.get() == 0;
        if listens && queued > 0 {
            world.wrong(format!(
                "#{number}: {queued} bytes rest, and the peer reads"
            ));
        }
        if listens && self.failing.get() {
            world.wrong(format!("#{number}: a callback has failed, and it is open"));
        }
    }

    /// At the very end: what has its peer got?
    pub(crate) fn check_output(&self, world: &World) {
        let number = self.number;
        let expected = self.expected.borrow();
        let (received, sure) = match (self.outsider(world), self.other(world)) {
            (Some(outsider), _) => {
                // These end a connection that lingers, too.
                let set = self.deadlines.get();
                let timed = set.lifetime.is_some() || set.drain.is_some();
                let read = outsider.always_read.get() && !timed;
                let sure = read && outsider.was_reset.get().is_none();
                (outsider.peer.received(), sure && !world.faulted.get())
            }
            // Another session checks what it gets itself.
            _ => return,
        };
        if !expected.starts_with(&received) {
            let at = expected.iter().zip(&received).take_while(|(a, b)| a == b);
            let (at, total) = (at.count(), received.len());
            world.wrong(format!("#{number}: output differs at byte {at} of {total}"));
        }
        if self.whole.get() && sure && received.len() != expected.len() {
            let (got, all) = (received.len(), expected.len());
            world.wrong(format!("#{number}: the peer got {got} bytes of {all}"));
        }
    }
}
