//! The test's view of one connection: what was done to it, and what must follow from that.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use asynchat::{ChannelStats, Chat, Close, Deadline, Deadlines, Limits, TimerId};

use crate::oracle::{Mode, Oracle};
use crate::outsider::Outsider;
use crate::world::{REFUSAL, World};

/// A timer of a channel.
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
    /// Its own address and that of its peer, once it is up.
    pub(crate) addrs: Cell<Option<(SocketAddr, SocketAddr)>>,
    pub(crate) oracle: RefCell<Oracle>,
    /// What was pushed, in order.
    pub(crate) expected: RefCell<Vec<u8>>,
    pub(crate) timers: RefCell<Vec<Timer>>,
    /// The number of pushes.
    items: Cell<usize>,
    /// Producers that are pending.
    pub(crate) pending: Cell<usize>,
    /// Whether one of its producers has been pending.
    pub(crate) was_pending: Cell<bool>,

    pub(crate) connected: Cell<u32>,
    pub(crate) closes: Cell<u32>,
    pub(crate) why: RefCell<Option<String>>,
    pub(crate) paused: Cell<bool>,
    pub(crate) back_pressured: Cell<bool>,
    /// Nothing more can be pushed, and no input is delivered.
    pub(crate) sealed: Cell<bool>,
    /// The loop shuts down, and `handle_shutdown` has not been called.
    pub(crate) shutdown_due: Cell<bool>,
    /// Its sending side was shut down.
    pub(crate) finished: Cell<bool>,
    /// It has been closed, or a callback has failed: only `handle_close` may follow.
    pub(crate) over: Cell<bool>,
    /// It was closed at once, so queued output may be lost.
    pub(crate) cut: Cell<bool>,
    /// A callback has failed. Output that was pushed before is still sent, including producers and
    /// hooks.
    pub(crate) failing: Cell<bool>,
    pub(crate) asked_to_close: Cell<bool>,
    pub(crate) failed: Cell<bool>,
    pub(crate) panicked: Cell<bool>,
    pub(crate) overflowed: Cell<bool>,
    pub(crate) over_output: Cell<bool>,
    /// Something was pushed in one of its own callbacks since its queue was last empty.
    pub(crate) own_pushed: Cell<bool>,
    /// One of its producers has failed.
    pub(crate) source_failed: Cell<bool>,
    /// The size of the queue before the last push.
    pub(crate) before_push: Cell<usize>,
    pub(crate) timed: Cell<bool>,
    pub(crate) deadlines: Cell<Deadlines>,
    /// When it was last paused or given a terminator from outside. Idle gaps that passed before
    /// that count.
    pub(crate) changed: Cell<Option<Duration>>,
    /// The peer has finished sending, and `handle_eof` was called.
    pub(crate) at_eof: Cell<bool>,
    pub(crate) whole: Cell<bool>,
    /// As of the last check between two turns.
    pub(crate) before: Cell<ChannelStats>,
    pub(crate) limits_changed: Cell<bool>,
    /// How often its session was replaced.
    pub(crate) generation: Cell<u32>,
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
            pending: Cell::new(0),
            was_pending: Cell::new(false),
            connected: Cell::new(0),
            closes: Cell::new(0),
            why: RefCell::default(),
            paused: Cell::new(false),
            back_pressured: Cell::new(false),
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
            generation: Cell::new(0),
        }
    }

    // ---- actions

    pub(crate) fn takes_output(&self, world: &World) -> bool {
        let has_ended = self.over.get() || self.closes.get() > 0;
        // The end of the grace ends all connections at once. Their `handle_close` follows.
        let is_interrupted = world.shutting_down.get() && !self.chat.is_open();
        !self.sealed.get() && !self.finished.get() && !has_ended && !is_interrupted
    }

    /// Before a push, which may be made in one of its own callbacks.
    pub(crate) fn pushing(&self, inside: bool) {
        let queued = self.chat.queued();
        let own = self.own_pushed.get() && queued > 0;
        self.own_pushed.set(own || inside);
        self.before_push.set(queued);
    }

    /// After the push of `data`.
    pub(crate) fn pushed(&self, world: &World, data: &[u8]) {
        self.expected.borrow_mut().extend_from_slice(data);
        if !data.is_empty() {
            self.check_output_limit(world);
        }
    }

    /// In the factory of an outgoing connection: pushes a greeting, which `early` follows, what was pushed to the
    /// returned chat before.
    pub(crate) fn begin_output(&self, world: &World, early: &[u8]) {
        let greeting: &[u8] = if world.rng.one_in(2) && self.chat.is_open() {
            b"greeting\r\n"
        } else {
            b""
        };
        self.pushing(true);
        self.chat.push_slice(greeting);
        self.pushed(world, greeting);
        self.expected.borrow_mut().extend_from_slice(early);
    }

    /// After a push: checks the output limit.
    pub(crate) fn check_output_limit(&self, world: &World) {
        self.items.set(self.items.get() + 1);
        let (queued, limits) = (self.chat.queued(), self.limits.get());
        let mark = limits.high_water.min(limits.output);
        world.log(|| format!("      {queued} queued, mark {mark}"));
        if queued > mark {
            self.back_pressured.set(true);
        }
        // A push of any size is accepted while the queue is within the limit. What a session pushes
        // in its own turn does not count, and may have been sent.
        if !self.own_pushed.get() && self.before_push.get() > limits.output {
            if self.chat.is_open() {
                world.wrong(format!(
                    "#{}: above its output limit, but open",
                    self.number
                ));
            }
            self.over_output.set(true);
            self.end(true);
        }
        // The number of remaining queue items cannot be seen from outside.
        let most = queued + self.items.get() * 4096;
        if !self.chat.is_open() && most > limits.output {
            self.over_output.set(true);
            self.end(true);
        }
    }

    /// Whether enough has been pushed that the queue may be above its mark in items rather than in
    /// bytes, which cannot be seen from outside.
    pub(crate) fn may_be_over(&self) -> bool {
        self.items.get() > 64
    }

    /// This side ends the connection. Queued output is lost if `cut`.
    pub(crate) fn end(&self, cut: bool) {
        self.over.set(true);
        if cut {
            self.cut.set(true);
        }
    }

    /// A callback fails. Only `handle_close` may follow. A connection that is up sends the output
    /// that was pushed before.
    pub(crate) fn fail(&self) {
        self.end(self.connected.get() == 0);
        self.failing.set(self.connected.get() > 0);
    }

    /// Whether its handler, producers and hooks may no longer be called.
    pub(crate) fn is_done(&self) -> bool {
        self.closes.get() > 0 || (self.over.get() && (self.cut.get() || !self.failing.get()))
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

    // ---- callbacks

    /// Checks the rules for every callback but `handle_close`.
    pub(crate) fn called(&self, world: &World, what: &str) {
        world.log(|| format!("  #{} {what}", self.number));
        world.calls.set(world.calls.get() + 1);
        if self.closes.get() > 0 {
            world.wrong(format!("#{}: {what} after handle_close", self.number));
        }
        if self.over.get() {
            world.wrong(format!("#{}: {what} after its close", self.number));
        }
        let early = self.shutdown_due.get() && !self.sealed.get();
        let first = ["handle_connect", "handle_shutdown", "an earlier call"];
        if early && !first.contains(&what) {
            world.wrong(format!("#{}: {what} before handle_shutdown", self.number));
        }
        // While connecting, timers and posted calls are possible.
        let under_way = self.outgoing && self.connected.get() == 0;
        let calls = ["handle_timer", "a posted call", "an earlier call"];
        let may_wait = calls.contains(&what) && under_way;
        if self.connected.get() != 1 && !may_wait {
            world.wrong(format!("#{}: {what} before handle_connect", self.number));
        }
    }

    /// The additional rules for input: none while paused, and none above the high-water mark.
    pub(crate) fn called_for_input(&self, world: &World, what: &str) {
        self.called(world, what);
        let flags = [
            (self.paused.get(), "paused"),
            (self.back_pressured.get(), "above its high-water mark"),
            (self.sealed.get(), "closing"),
            (self.at_eof.get(), "past its end"),
        ];
        for (_, state) in flags.iter().filter(|(is, _)| *is) {
            world.wrong(format!("#{}: {what} while {state}", self.number));
        }
    }

    /// The data that the other side has sent, as far as it is known.
    pub(crate) fn stream(&self, world: &World) -> Vec<u8> {
        if let Some(outsider) = self.outsider(world) {
            return outsider.sent.borrow().clone();
        }
        match self.other(world) {
            Some(other) => {
                let mut pushed = other.expected.borrow().clone();
                if other.closes.get() > 0 {
                    // If it was cut off, it may not have sent everything.
                    pushed.truncate(other.chat.stats().bytes_out as usize);
                }
                pushed
            }
            // A service that refused the connection.
            None => REFUSAL.to_vec(),
        }
    }

    /// The outsider that is its peer.
    pub(crate) fn outsider(&self, world: &World) -> Option<Rc<Outsider>> {
        let addrs = self.addrs.get()?;
        let outsiders = world.outsiders.borrow();
        let found = outsiders
            .iter()
            .find(|it| (it.peer.peer_addr(), it.peer.addr()) == addrs);
        found.cloned()
    }

    /// The session on the same loop that is its peer.
    pub(crate) fn other(&self, world: &World) -> Option<Rc<Track>> {
        let (own, peer) = self.addrs.get()?;
        let tracks = world.tracks.borrow();
        let found = tracks.iter().find(|it| it.addrs.get() == Some((peer, own)));
        found.cloned()
    }

    /// Whether the other end is an outsider or a session, and not a service that refused the
    /// connection.
    pub(crate) fn has_known_peer(&self, world: &World) -> bool {
        self.outsider(world).is_some() || self.other(world).is_some()
    }

    pub(crate) fn learn_addrs(&self) {
        let inet = |addr: Option<asynchat::Addr>| addr.and_then(|addr| addr.inet());
        let addrs = inet(self.chat.local_addr()).zip(inet(self.chat.peer_addr()));
        if addrs.is_some() {
            self.addrs.set(addrs);
        }
    }

    /// It has ended. Checks that the reason has a cause.
    pub(crate) fn ended(&self, world: &World, why: &Close) {
        let number = self.number;
        world.log(|| format!("  #{number} closed: {why}"));
        self.closes.set(self.closes.get() + 1);
        if self.closes.get() != 1 {
            world.wrong(format!("#{number}: handle_close was called twice"));
        }
        let faulted = world.faulted.get();
        let stranger = self.outsider(world).is_none();
        let was_reset = || {
            self.outsider(world)
                .is_some_and(|it| it.was_reset.get().is_some())
        };
        let known = match why {
            Close::Local | Close::Dropped => self.asked_to_close.get(),
            Close::Eof => self.at_eof.get(),
            Close::Reset => faulted || stranger || self.finished.get() || was_reset(),
            Close::ConnectFailed(_) => self.outgoing && self.connected.get() == 0,
            Close::Timeout(which) => self.may_time_out(world, *which),
            Close::InputLimit(_) => self.overflowed.get(),
            Close::OutputLimit => self.over_output.get(),
            Close::Handler(_) => self.failed.get(),
            Close::Panic(_) => self.panicked.get(),
            Close::Shutdown | Close::Interrupted => world.shutting_down.get(),
            Close::Io(_) => faulted,
            _ => false,
        };
        if !known {
            world.wrong(format!("#{number}: closed without a cause: {why}"));
        }
        if self.connected.get() == 0 && !matches!(why, Close::ConnectFailed(_)) && self.outgoing {
            let cause = self.over.get() || self.timed.get() || faulted || world.shutting_down.get();
            if !cause && !self.sealed.get() {
                world.wrong(format!("#{number}: closed while connecting: {why}"));
            }
        }
        let (out, pushed) = (self.chat.stats().bytes_out, self.expected.borrow().len());
        let in_order = match why {
            why if why.sent_all() => true,
            Close::InputLimit(_) => !self.cut.get(),
            // A peer that reads receives the output pushed before the failure. A peer that does not
            // read, and a pending producer, are waited for during the linger time. A peer that reads
            // again may do so too late.
            Close::Handler(_) | Close::Panic(_) => {
                let reads = |it: Rc<Outsider>| it.always_read.get() && it.was_reset.get().is_none();
                // A deadline, a close or a shutdown may have ended that earlier.
                let set = self.deadlines.get();
                let timed = set.idle.is_some() || set.lifetime.is_some() || set.drain.is_some();
                let in_time = !self.was_pending.get() && !timed && !world.shutting_down.get();
                let in_time = in_time && !faulted;
                let sends = self.failing.get() && !self.cut.get();
                sends && in_time && self.outsider(world).is_some_and(reads)
            }
            _ => false,
        };
        if in_order {
            // A close at once with unread input resets the connection, and destroys what the kernel has.
            self.whole.set(!self.cut.get());
            if out != pushed as u64 {
                world.wrong(format!("#{number}: {out} bytes of {pushed} sent: {why}"));
            }
        }
        if matches!(why, Close::Reset) && !faulted {
            self.check_reset(world);
        }
        *self.why.borrow_mut() = Some(why.to_string());
    }

    /// Whether this deadline was set, and, for those of a record, whether a record is incomplete.
    fn may_time_out(&self, world: &World, which: Deadline) -> bool {
        let set = self.deadlines.get();
        match which {
            Deadline::Idle => set.idle.is_some(),
            Deadline::Lifetime => set.lifetime.is_some(),
            Deadline::Drain => {
                set.drain.is_some() && self.chat.stats().bytes_out < self.pushed_bytes()
            }
            Deadline::Record | Deadline::Input => {
                let unheard = self.sealed.get() || self.at_eof.get();
                let received = self.chat.stats().bytes_in as usize;
                let begun = self.oracle.borrow().is_begun(received);
                let rests = self.paused.get() || self.back_pressured.get();
                let has_record = begun && !unheard && !rests;
                let just_changed = self.changed.get() == Some(world.network.elapsed());
                let is_set = match which {
                    Deadline::Record => set.record.is_some(),
                    _ => set.input.is_some(),
                };
                is_set && (has_record || just_changed)
            }
            _ => false,
        }
    }

    fn pushed_bytes(&self) -> u64 {
        self.expected.borrow().len() as u64
    }

    /// A reset loses no data that arrived before it, if the session could still receive it: when a
    /// send has failed, a session that is paused or back-pressured ends.
    fn check_reset(&self, world: &World) {
        let arrived = self.outsider(world).and_then(|it| it.was_reset.get());
        let Some(arrived) = arrived else { return };
        let limits = self.limits.get();
        let unsent = self
            .pushed_bytes()
            .saturating_sub(self.chat.stats().bytes_out);
        let rests = self.paused.get()
            || self.back_pressured.get()
            || unsent.max(self.chat.queued() as u64) > limits.high_water.min(limits.output) as u64;
        let deaf = self.sealed.get() || self.over.get() || self.at_eof.get();
        if deaf || rests || self.may_be_over() || self.connected.get() == 0 {
            return;
        }
        let received = self.chat.stats().bytes_in as usize;
        let stream = self.stream(world);
        let has_record = self.oracle.borrow_mut().has_record(&stream[..arrived]);
        if received < arrived || has_record {
            let number = self.number;
            world.wrong(format!(
                "#{number}: reset after {received} bytes of {arrived}, a complete record undelivered: {has_record}"
            ));
        }
    }

    // ---- checks between turns

    /// Checks that it did not exceed its budget in the turn.
    pub(crate) fn check_budget(&self, world: &World) {
        let (before, now) = (self.before.get(), self.chat.stats());
        self.before.set(now);
        if self.limits_changed.replace(false) {
            return;
        }
        let limits = self.limits.get();
        // `run_once` covers two halves of a turn: before the wait it continues the previous one. A
        // channel receives once in a turn, and sends again after a push. A connection whose drain
        // deadline is due makes one more attempt.
        let sends = if self.timed.get() { 4 } else { 3 };
        let within = |moved: u64, times: u64, budget: usize| moved <= times * budget.max(1) as u64;
        if !within(now.bytes_in - before.bytes_in, 2, limits.turn_read)
            || !within(now.bytes_out - before.bytes_out, sends, limits.turn_write)
            || !within(now.records_in - before.records_in, 2, limits.turn_records)
        {
            let number = self.number;
            world.wrong(format!("#{number}: above its budget: {before:?}, {now:?}"));
        }
    }

    /// Nothing can happen before time passes: no work may be left.
    pub(crate) fn check_rest(&self, world: &World) {
        let number = self.number;
        if self.closes.get() > 0 || self.connected.get() == 0 {
            return;
        }
        if self.is_done() {
            // Output pushed before a failed producer may wait for its peer.
            if !self.source_failed.get() {
                world.wrong(format!("#{number}: closed without handle_close"));
            }
            return;
        }
        if self.failing.get() {
            self.check_sent(world);
            return;
        }
        if self.shutdown_due.get() && !self.sealed.get() {
            world.wrong(format!("#{number}: no handle_shutdown"));
        }
        let now = world.network.elapsed();
        if let Some(late) = self.timers.borrow().iter().find(|timer| timer.due < now) {
            world.wrong(format!("#{number}: a timer is late at {now:?}: {late:?}"));
        }
        let Some(outsider) = self.outsider(world) else {
            return;
        };
        // After a failed send it may receive only, until its peer closes.
        if world.faulted.get() || outsider.was_reset.get().is_some() {
            return;
        }
        let stats = self.chat.stats();
        self.check_sent(world);
        let heard = self.sealed.get() || self.at_eof.get();
        let deaf = heard || self.paused.get() || self.back_pressured.get() || self.may_be_over();
        if !deaf {
            let sent = outsider.sent.borrow();
            let left = sent.len() as u64 - stats.bytes_in;
            let has_record = self.oracle.borrow_mut().has_record(&sent);
            if left > 0 || has_record {
                world.wrong(format!(
                    "#{number}: {left} bytes unread, a complete record undelivered: {has_record}"
                ));
            }
        }
    }

    /// Checks that no output is left for a peer that reads, and that a connection that was only to
    /// send the rest of its output has ended.
    fn check_sent(&self, world: &World) {
        let Some(outsider) = self.outsider(world) else {
            return;
        };
        if world.faulted.get() || outsider.was_reset.get().is_some() {
            return;
        }
        let (number, queued) = (self.number, self.chat.queued());
        let listens = outsider.reads.get() && self.pending.get() == 0;
        if listens && queued > 0 {
            world.wrong(format!(
                "#{number}: {queued} bytes are queued although the peer reads"
            ));
        }
        if listens && self.failing.get() {
            world.wrong(format!("#{number}: open after a failed callback"));
        }
    }

    /// At the end of the run: checks what the peer has received.
    pub(crate) fn check_output(&self, world: &World) {
        let number = self.number;
        let expected = self.expected.borrow();
        let (received, sure) = match (self.outsider(world), self.other(world)) {
            (Some(outsider), _) => {
                // These also end a connection that lingers.
                let set = self.deadlines.get();
                let timed = set.lifetime.is_some() || set.drain.is_some();
                let read = outsider.always_read.get() && !timed;
                let sure = read && outsider.was_reset.get().is_none();
                (outsider.peer.received(), sure && !world.faulted.get())
            }
            // Another session checks its own input.
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
