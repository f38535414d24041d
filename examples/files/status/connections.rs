//! The open connections, and how far their transfers are.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Instant;

use asynchat::{Addr, Close, More, Producer};
use tracing::warn;

use super::Status;

/// The longest text of a request in bytes.
const LONGEST: usize = 200;

/// An open connection. It is in the table until its last handle is dropped.
pub struct Connection {
    status: Rc<Status>,
    id: u64,
    pub protocol: Cell<&'static str>,
    pub peer: Option<Addr>,
    pub since: Instant,
    /// The last request that has begun, as far as it is shown. Its memory is used for the next one.
    pub request: RefCell<String>,
    transfers: Cell<u32>,
    /// The bytes of the transfers that were handed to the connection, or received.
    pub done: Cell<u64>,
    /// How many these are in the end, if that is known.
    pub total: Cell<Option<u64>>,
}

/// A transfer of a file on a connection.
pub struct Progress(Rc<Connection>);

/// A producer whose output is the progress of a transfer.
pub struct Tracked<P> {
    producer: P,
    progress: Progress,
}

impl Status {
    pub fn connected(
        self: &Rc<Self>,
        protocol: &'static str,
        peer: Option<Addr>,
    ) -> Rc<Connection> {
        let id = self.next_connection.get();
        self.next_connection.set(id + 1);
        let connection = Rc::new(Connection {
            status: Rc::clone(self),
            id,
            protocol: Cell::new(protocol),
            peer,
            since: asynchat::now(),
            request: RefCell::default(),
            transfers: Cell::new(0),
            done: Cell::new(0),
            total: Cell::new(None),
        });
        let mut connections = self.connections.borrow_mut();
        connections.insert(id, Rc::downgrade(&connection));
        connection
    }

    /// How many connections are open.
    pub(super) fn open(&self) -> usize {
        self.connections.borrow().len()
    }

    /// How many transfers are under way.
    pub fn transfers(&self) -> u32 {
        let connections = self.connections.borrow();
        let open = connections.values().filter_map(std::rc::Weak::upgrade);
        open.map(|connection| connection.transfers.get()).sum()
    }

    /// Calls `show` with at most `most` connections: first those with a transfer, and then the others, the oldest ones
    /// first.
    pub(super) fn for_each_connection(&self, most: usize, mut show: impl FnMut(&Connection)) {
        let table = self.connections.borrow();
        let all = |transfers: bool| {
            let open = table.values().filter_map(std::rc::Weak::upgrade);
            open.filter(move |connection| connection.is_transferring() == transfers)
        };
        for connection in all(true).chain(all(false)).take(most) {
            show(&connection);
        }
    }
}

impl Connection {
    pub fn begin(&self, method: &str, target: &str) {
        let mut request = self.request.borrow_mut();
        request.clear();
        for part in [method, " ", target] {
            let room = LONGEST.saturating_sub(request.len()).min(part.len());
            let end = (0..=room).rev().find(|end| part.is_char_boundary(*end));
            request.push_str(&part[..end.unwrap_or(0)]);
        }
        drop(request);
        if !self.is_transferring() {
            self.done.set(0);
            self.total.set(None);
        }
    }

    /// Begins a transfer of so many bytes, if that is known. Those of pipelined requests are added up.
    pub fn transfer(self: &Rc<Self>, bytes: Option<u64>) -> Progress {
        let before = if self.is_transferring() {
            self.total.get()
        } else {
            Some(0)
        };
        let total = before.zip(bytes);
        self.total.set(total.map(|(before, bytes)| before + bytes));
        self.transfers.set(self.transfers.get() + 1);
        Progress(Rc::clone(self))
    }

    /// Logs what the operator of the server ought to know. The event of the crate does not say which connection it was.
    pub fn closed(&self, why: &Close) {
        if let Close::Handler(_) | Close::Panic(_) = why {
            let (protocol, peer) = (self.protocol.get(), self.peer.as_ref().map(Addr::to_string));
            warn!(protocol, peer, %why, "a connection has failed");
        }
    }

    pub fn is_transferring(&self) -> bool {
        self.transfers.get() > 0
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.status.connections.borrow_mut().remove(&self.id);
    }
}

impl Progress {
    pub fn advance(&self, bytes: usize) {
        self.0.done.set(self.0.done.get() + bytes as u64);
    }

    pub fn track<P: Producer>(self, producer: P) -> Tracked<P> {
        let progress = self;
        Tracked { producer, progress }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.transfers.set(self.0.transfers.get() - 1);
    }
}

impl<P: Producer> Producer for Tracked<P> {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        let more = self.producer.more(budget)?;
        if let More::Chunk(chunk) = &more {
            self.progress.advance(chunk.len());
        }
        Ok(more)
    }
}
