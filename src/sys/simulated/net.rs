//! The network in memory: TCP as programs see it, without segments and acknowledgements.
//!
//! Sent bytes are on their way until [`Net::progress`] lets them arrive: at the beginning of each
//! wait, and whenever a script acts. So a reset can destroy them: a socket that is closed with unread
//! input resets the connection, and what it sent just before never arrives (RFC 1122 section
//! 4.2.2.13, RFC 2525 section 2.17).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::conditions::{Call, Conditions};
use super::end::{End, Ended, Owner, State};
use super::registrations::Registration;
use super::rng::Rng;

/// Identifies an end, a listener or a poller. No id is used twice in a network.
pub(crate) type Id = u64;

pub(crate) struct Net {
    pub(crate) rng: Rng,
    pub(crate) conditions: Conditions,
    start: Instant,
    pub(crate) elapsed: Duration,
    pub(super) ends: BTreeMap<Id, End>,
    pub(super) listeners: BTreeMap<Id, Listening>,
    pub(super) registrations: BTreeMap<Id, Registration>,
    faults: VecDeque<(Call, io::Error)>,
    pub(crate) hosts: BTreeMap<String, Vec<IpAddr>>,
    /// Host names that no name server answers.
    pub(crate) silent_hosts: BTreeSet<String>,
    /// Addresses from which no answer comes to a connect.
    pub(crate) black_holes: BTreeSet<SocketAddr>,
    last_id: Id,
    last_port: u16,
}

pub(super) struct Listening {
    addr: SocketAddr,
    only_v6: bool,
    backlog: usize,
    pub(super) queue: VecDeque<Id>,
    owner: Owner,
}

impl Net {
    pub(crate) fn new(seed: u64) -> Self {
        Net {
            rng: Rng::new(seed),
            conditions: Conditions::default(),
            // The only real time. All other times add virtual time to it.
            start: Instant::now(),
            elapsed: Duration::ZERO,
            ends: BTreeMap::new(),
            listeners: BTreeMap::new(),
            registrations: BTreeMap::new(),
            faults: VecDeque::new(),
            hosts: BTreeMap::new(),
            silent_hosts: BTreeSet::new(),
            black_holes: BTreeSet::new(),
            last_id: 0,
            // The dynamic ports begin at 49,152 (RFC 6335 section 6).
            last_port: 49_151,
        }
    }

    pub(crate) fn new_id(&mut self) -> Id {
        self.last_id += 1;
        self.last_id
    }

    fn new_port(&mut self) -> u16 {
        self.last_port = self.last_port.checked_add(1).unwrap_or(49_152);
        self.last_port
    }

    // ---- time, faults and chance

    pub(crate) fn now(&self) -> Instant {
        self.start.checked_add(self.elapsed).unwrap_or(self.start)
    }

    pub(crate) fn sleep(&mut self, time: Duration) {
        self.elapsed = self.elapsed.saturating_add(time);
    }

    /// Makes the next such call fail.
    pub(crate) fn fail(&mut self, call: Call, error: io::Error) {
        self.faults.push_back((call, error));
    }

    /// The next error that was asked for such a call, if any.
    pub(super) fn take_fault(&mut self, call: Call) -> io::Result<()> {
        let found = self.faults.iter().position(|(failing, _)| *failing == call);
        match found.and_then(|index| self.faults.remove(index)) {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }

    /// How many of `most` bytes a call moves, given the conditions.
    ///
    /// # Errors
    /// `WouldBlock` when it moves nothing.
    fn count_moved(&mut self, most: usize, short: f64) -> io::Result<usize> {
        if self.rng.chance(self.conditions.would_block) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if self.rng.chance(short) {
            Ok(1 + self.rng.below(most))
        } else {
            Ok(most)
        }
    }

    // ---- listening

    pub(crate) fn listen(
        &mut self,
        mut addr: SocketAddr,
        only_v6: bool,
        backlog: usize,
        owner: Owner,
    ) -> io::Result<Id> {
        if addr.port() == 0 {
            addr.set_port(self.new_port());
        }
        if self.listeners.values().any(|it| it.addr == addr) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let id = self.new_id();
        let listening = Listening {
            addr,
            only_v6,
            backlog: backlog.max(1),
            queue: VecDeque::new(),
            owner,
        };
        self.listeners.insert(id, listening);
        Ok(id)
    }

    pub(crate) fn listening_at(&self, id: Id) -> io::Result<SocketAddr> {
        match self.listeners.get(&id) {
            Some(listening) => Ok(listening.addr),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// The listener for connections to this address.
    fn listener_at(&self, addr: SocketAddr) -> Option<Id> {
        let takes = |it: &Listening| {
            it.addr == addr
                || (it.addr.port() == addr.port()
                    && it.addr.ip().is_unspecified()
                    && (it.addr.is_ipv4() == addr.is_ipv4() || (addr.is_ipv4() && !it.only_v6)))
        };
        let mut found = self.listeners.iter().filter(|(_, it)| takes(it));
        found.next().map(|(id, _)| *id)
    }

    /// Takes a connection from the backlog. It belongs to `owner` from now on.
    pub(crate) fn accept(&mut self, id: Id, owner: Owner) -> io::Result<(Id, SocketAddr)> {
        let waiting = self.listeners.get(&id).map(|it| it.queue.len());
        match waiting {
            None => return Err(io::ErrorKind::InvalidInput.into()),
            Some(0) => return Err(io::ErrorKind::WouldBlock.into()),
            Some(_) => {}
        }
        if owner == Owner::Loop {
            if let Err(error) = self.take_fault(Call::Accept) {
                if is_fatal(error.kind())
                    && let Some(gone) = self.dequeue(id)
                {
                    self.close(gone, true);
                }
                return Err(error);
            }
            self.count_moved(1, 0.0)?;
        }
        let accepted = self.dequeue(id);
        let end = accepted.and_then(|id| Some((id, self.ends.get_mut(&id)?)));
        let Some((accepted, end)) = end else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        end.owner = owner;
        Ok((accepted, end.remote))
    }

    fn dequeue(&mut self, id: Id) -> Option<Id> {
        self.listeners.get_mut(&id)?.queue.pop_front()
    }

    // ---- connecting

    /// A new end that connects to `to`. Without `from`, or with its port 0, the network chooses the
    /// address or the port.
    pub(crate) fn connect(&mut self, from: Option<SocketAddr>, to: SocketAddr, owner: Owner) -> Id {
        let loopback = match to {
            SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::from(Ipv6Addr::LOCALHOST),
        };
        let mut local = from.unwrap_or(SocketAddr::new(loopback, 0));
        if local.port() == 0 {
            local.set_port(self.new_port());
        }
        let id = self.new_id();
        self.ends.insert(id, End::new(local, to, owner));
        id
    }

    /// A connection that is up: both ends, the first of `owner` and the second of `other`, and the
    /// addresses of the second and the first.
    pub(crate) fn pair(
        &mut self,
        owner: Owner,
        other: Owner,
    ) -> (Id, Id, (SocketAddr, SocketAddr)) {
        let port = self.new_port();
        let [to, from] =
            [port, self.new_port()].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let second = self.connect(Some(from), to, other);
        let first = self.establish(second, owner);
        (first, second, (from, to))
    }

    /// Makes the other end of a connection in progress, which is up then.
    fn establish(&mut self, id: Id, owner: Owner) -> Id {
        let accepted = self.new_id();
        if let Some(end) = self.ends.get_mut(&id) {
            end.state = State::Up;
            end.other = Some(accepted);
            let mut other = End::new(end.remote, end.local, owner);
            other.state = State::Up;
            other.other = Some(id);
            self.ends.insert(accepted, other);
        }
        accepted
    }

    /// Establishes or refuses a connection in progress, if that is possible now. Returns whether it
    /// was.
    fn advance_connection(&mut self, id: Id) -> bool {
        let Some(end) = self.ends.get_mut(&id) else {
            return false;
        };
        if end.state != State::Connecting || self.black_holes.contains(&end.remote) {
            return false;
        }
        let to = end.remote;
        let Some(listener) = self.listener_at(to) else {
            if let Some(end) = self.ends.get_mut(&id) {
                end.state = State::Dead;
                end.error = Some(io::ErrorKind::ConnectionRefused);
                end.outside.ended = Some(Ended::Refused);
            }
            return true;
        };
        let room = |it: &Listening| it.queue.len() < it.backlog;
        if !self.listeners.get(&listener).is_some_and(room) {
            return false;
        }
        let accepted = self.establish(id, Owner::Queue);
        if let Some(listening) = self.listeners.get_mut(&listener) {
            listening.queue.push_back(accepted);
        }
        true
    }

    // ---- moving bytes

    /// Has everything arrive that is on its way, and peers read and write as much as they can. Returns
    /// whether anything has changed.
    pub(crate) fn progress(&mut self) -> bool {
        let ids: Vec<Id> = self.ends.keys().copied().collect();
        let mut changed = false;
        for id in &ids {
            changed |= self.advance_connection(*id);
            changed |= self.write_as_peer(*id);
            changed |= self.reset_if_closed(*id);
        }
        for end in self.ends.values_mut() {
            if end.owner != Owner::Nobody {
                changed |= end.arrive();
                changed |= end.read_as_peer();
            }
        }
        changed
    }

    /// Sends what a peer has written, as far as the buffer has room.
    fn write_as_peer(&mut self, id: Id) -> bool {
        let writes = |end: &&mut End| {
            end.is_up() && (end.outside.finishing || !end.outside.outbox.is_empty())
        };
        // Most ends are not peers, or have nothing to send.
        if self.ends.get_mut(&id).filter(writes).is_none() {
            return false;
        }
        let room = self.room(id);
        let Some(end) = self.ends.get_mut(&id) else {
            return false;
        };
        let outbox = &mut end.outside.outbox;
        let count = outbox.len().min(room);
        let data: Vec<u8> = outbox.drain(..count).collect();
        let finishes = end.outside.finishing && outbox.is_empty() && !end.write_shut;
        end.write_shut |= finishes;
        if let Some(other) = end.other.and_then(|other| self.ends.get_mut(&other)) {
            other.bytes.extend(data);
            other.finished |= finishes;
        }
        finishes || count > 0
    }

    /// Answers data for a closed end with a reset.
    fn reset_if_closed(&mut self, id: Id) -> bool {
        let Some(end) = self.ends.get_mut(&id) else {
            return false;
        };
        if end.owner != Owner::Nobody || end.bytes.is_empty() {
            return false;
        }
        end.bytes.clear();
        self.reset(id);
        true
    }

    /// How many more bytes this end may send.
    pub(super) fn room(&self, id: Id) -> usize {
        let other = self.ends.get(&id).and_then(|end| end.other);
        match other.and_then(|other| self.ends.get(&other)) {
            Some(other) => self
                .conditions
                .buffer
                .max(1)
                .saturating_sub(other.bytes.len()),
            None => 0,
        }
    }

    /// How many bytes that this end has sent are not read yet. The network has one buffer for each
    /// direction, so a reset can still destroy what the other end has not read.
    pub(super) fn unsent(&self, id: Id) -> usize {
        let other = self.ends.get(&id).and_then(|end| end.other);
        let other = other.and_then(|other| self.ends.get(&other));
        other.map_or(0, |other| other.bytes.len())
    }

    pub(super) fn recv(&mut self, id: Id, buffer: &mut [u8]) -> io::Result<usize> {
        if let Err(error) = self.take_fault(Call::Recv) {
            return Err(self.apply_fault(id, error));
        }
        let most = self.peek(id)?.min(buffer.len());
        let count = match most {
            0 => return Ok(0),
            most => self.count_moved(most, self.conditions.short_reads)?,
        };
        let data = self.end(id)?.take_arrived(count);
        if let Some(to) = buffer.get_mut(..data.len()) {
            to.copy_from_slice(&data);
        }
        Ok(count)
    }

    /// How many bytes can be received: 0 at the end of the stream.
    pub(super) fn peek(&mut self, id: Id) -> io::Result<usize> {
        let end = self.end(id)?;
        match end.state {
            State::Connecting => Err(io::ErrorKind::NotConnected.into()),
            _ if end.arrived > 0 => Ok(end.arrived),
            state => {
                if let Some(error) = end.error.take() {
                    return Err(error.into());
                }
                if state == State::Dead || end.finish_arrived {
                    Ok(0)
                } else {
                    Err(io::ErrorKind::WouldBlock.into())
                }
            }
        }
    }

    pub(super) fn send(&mut self, id: Id, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        if let Err(error) = self.take_fault(Call::Send) {
            return Err(self.apply_fault(id, error));
        }
        let end = self.end(id)?;
        if let Some(error) = end.error.take() {
            return Err(error.into());
        }
        match end.state {
            State::Connecting => return Err(io::ErrorKind::NotConnected.into()),
            State::Dead => return Err(io::ErrorKind::BrokenPipe.into()),
            State::Up if !end.can_send() => return Err(io::ErrorKind::BrokenPipe.into()),
            State::Up => {}
        }
        let other = end.other;
        let offered: usize = parts.iter().map(|part| part.len()).sum();
        if offered == 0 {
            return Ok(0);
        }
        let most = offered.min(self.room(id));
        if most == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = self.count_moved(most, self.conditions.short_writes)?;
        if let Some(other) = other.and_then(|other| self.ends.get_mut(&other)) {
            let mut left = count;
            for part in parts {
                let taken = part.get(..left).unwrap_or(part);
                other.bytes.extend(taken);
                left -= taken.len();
            }
        }
        Ok(count)
    }

    /// Sends an urgent byte to the other end.
    pub(crate) fn send_urgent(&mut self, id: Id, byte: u8) {
        let end = self.ends.get(&id).filter(|end| end.is_up());
        if let Some(other) = end.and_then(|end| end.other)
            && let Some(other) = self.ends.get_mut(&other)
            && other.owner != Owner::Nobody
        {
            other.urgent = Some(byte);
        }
    }

    pub(super) fn shutdown_write(&mut self, id: Id) -> io::Result<()> {
        let end = self.end(id)?;
        if !end.is_up() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        end.write_shut = true;
        if let Some(other) = end.other.and_then(|other| self.ends.get_mut(&other)) {
            other.finished = true;
        }
        Ok(())
    }

    /// Ends the connection if a fault with this error is fatal to it.
    fn apply_fault(&mut self, id: Id, error: io::Error) -> io::Error {
        if is_fatal(error.kind()) {
            self.reset(id);
            if let Some(end) = self.ends.get_mut(&id) {
                end.state = State::Dead;
            }
        }
        error
    }

    /// Resets the connection: this end is dead, and the other end receives the reset.
    pub(crate) fn reset(&mut self, id: Id) {
        let Some(end) = self.ends.get_mut(&id).filter(|end| end.is_up()) else {
            return;
        };
        end.state = State::Dead;
        if let Some(other) = end.other.and_then(|other| self.ends.get_mut(&other)) {
            other.be_reset();
        }
    }

    /// Closes an end or a listener. An end with unread input resets its connection, as does `reset`.
    /// Any other end finishes sending.
    pub(crate) fn close(&mut self, id: Id, reset: bool) {
        if let Some(listening) = self.listeners.remove(&id) {
            for waiting in listening.queue {
                self.close(waiting, true);
            }
            return;
        }
        let Some(end) = self.ends.get_mut(&id) else {
            return;
        };
        let other = end.other;
        if reset || end.reset_on_close || !end.bytes.is_empty() {
            self.reset(id);
        } else if end.is_up() {
            end.outside.finishing = true;
            self.write_as_peer(id);
        }
        if let Some(end) = self.ends.get_mut(&id) {
            end.owner = Owner::Nobody;
            end.bytes.clear();
            end.arrived = 0;
        }
        let is_closed = |id: &Id| {
            self.ends
                .get(id)
                .is_none_or(|end| end.owner == Owner::Nobody)
        };
        if other.is_none_or(|other| is_closed(&other)) {
            self.ends.remove(&id);
            other.map(|other| self.ends.remove(&other));
        }
    }

    pub(crate) fn end(&mut self, id: Id) -> io::Result<&mut End> {
        let end = self.ends.get_mut(&id);
        end.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    // ---- counting

    /// How many sockets the loops have open.
    pub(crate) fn sockets(&self) -> usize {
        let of_loop = |owner: Owner| owner == Owner::Loop;
        let ends = self.ends.values().filter(|it| of_loop(it.owner));
        let listeners = self.listeners.values().filter(|it| of_loop(it.owner));
        ends.count() + listeners.count()
    }

    pub(crate) fn registrations(&self) -> usize {
        self.registrations.len()
    }
}

/// Whether an error of this kind ends its connection.
fn is_fatal(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, TimedOut};
    matches!(
        kind,
        ConnectionReset | ConnectionAborted | BrokenPipe | TimedOut | NotConnected
    )
}
