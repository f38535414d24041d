//! What the server does now, and what it has done: the figures behind `/-/`, of HTTP and FTP together.
//!
//! A request costs one look-up in a small map, and a connection one in the table of connections. Whoever asks for the
//! figures pays for them: the loop adds up the counters of all its connections then.
//!
//! Reading order: `connections.rs` (what is open), `record.rs` (a request, until it is counted and logged), then the
//! two forms of the figures: `event.rs` and `metrics.rs`.

mod connections;
mod event;
pub mod metrics;
mod record;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use asynchat::{EventLoop, LoopStats};

pub use connections::{Connection, Progress};
pub use record::Record;

pub struct Status {
    /// The last name of the path of the shared folder.
    folder: String,
    started: SystemTime,
    /// The same on a clock that nobody sets.
    up_since: Instant,
    ended: RefCell<BTreeMap<Kind, u64>>,
    connections: RefCell<BTreeMap<u64, Weak<Connection>>>,
    next_connection: Cell<u64>,
    pub watchers: Cell<usize>,
}

/// Requests that are counted together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    // First, because numbers are quickly compared.
    code: u16,
    protocol: &'static str,
    method: &'static str,
}

impl Status {
    pub fn new(folder: &Path, clock: fn() -> SystemTime) -> Rc<Status> {
        // `.` has no name.
        let path = folder.canonicalize();
        let path = path.as_deref().unwrap_or(folder);
        let name = path.file_name().unwrap_or(path.as_os_str());
        Rc::new(Status {
            folder: name.to_string_lossy().into_owned(),
            started: clock(),
            up_since: asynchat::now(),
            ended: RefCell::default(),
            connections: RefCell::default(),
            next_connection: Cell::new(0),
            watchers: Cell::new(0),
        })
    }

    fn count(&self, kind: Kind) {
        *self.ended.borrow_mut().entry(kind).or_default() += 1;
    }

    /// Since 1970. It tells one run of the server from the next.
    fn started(&self) -> Duration {
        self.started.duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    fn uptime(&self) -> Duration {
        asynchat::now().saturating_duration_since(self.up_since)
    }
}

fn loop_stats() -> LoopStats {
    EventLoop::current().map_or_else(|_| LoopStats::default(), |current| current.stats())
}
