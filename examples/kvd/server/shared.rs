//! What all workers share: one lock, with everything behind it that a command may use.
//!
//! A worker holds the lock while it executes the requests of one read. So a command, and a transaction as a whole, sees
//! and changes everything at once, as on one worker, and a client sees its own requests in their order. What has to
//! happen at a connection of another worker is posted there: see [`Client::post`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use asynchat::Remote;
use crossbeam_utils::atomic::AtomicCell;

use super::client::Client;
use super::config::Config;
use super::info::{Counts, Stats};
use super::mailbox::Mailbox;
use super::output::OutputLimits;
use super::pause::Pause;
use super::pubsub::Subscribers;
use super::results::Results;
use super::targets::Targets;
use super::tracking::Tracking;
use super::waiting::Waiting;
use super::{Options, Server};
use crate::disk::journal::Journal;
use crate::disk::writer::Writer;
use crate::store::dropper;
use crate::store::keyspace::Keyspace;

pub struct Shared {
    data: Mutex<Data>,
    pub most_clients: usize,
    /// `client-query-buffer-limit`, for reading a large argument without the lock.
    pub query_buffer: AtomicUsize,
    /// `client-output-buffer-limit`.
    pub output_limits: Arc<AtomicCell<OutputLimits>>,
    pub results: Arc<Results>,
    pub started: Instant,
    pub clock: fn() -> i64,
    /// `None` without a disk.
    pub disk: Option<Arc<Writer>>,
}

/// What is behind the lock.
#[derive(Default)]
pub struct Data {
    pub keyspace: Keyspace,
    pub config: Config,
    pub stats: Stats,
    pub clients: BTreeMap<u64, Arc<Client>>,
    /// The bytes that they retain.
    pub retained: usize,
    /// Those of them that count for no limit: of clients that have sent CLIENT NO-EVICT.
    pub protected: usize,
    pub waiting: Waiting,
    pub pause: Pause,
    pub targets: Targets,
    pub subscribers: Subscribers,
    pub tracking: Tracking,
    pub workers: Vec<Worker>,
    /// The id of the client that has come last.
    pub last_client: u64,
}

/// What the others need of a worker.
pub struct Worker {
    pub remote: Remote,
    pub mailbox: Mailbox,
    /// What it has reported last.
    pub counts: Counts,
}

impl Shared {
    pub fn new(options: Options) -> Arc<Shared> {
        let query_buffer = AtomicUsize::new(options.config.query_buffer);
        let output_limits = Arc::new(AtomicCell::new(options.config.output));
        let results = Arc::new(Results::new(options.config.results));
        let mut data = Data {
            config: options.config,
            ..Data::default()
        };
        let disk = options.disk.map(|(writer, keyspace)| {
            data.keyspace = keyspace;
            Arc::new(writer)
        });
        Arc::new(Shared {
            data: Mutex::new(data),
            most_clients: options.most_clients,
            query_buffer,
            output_limits,
            results,
            started: Instant::now(),
            clock: options.clock,
            disk,
        })
    }

    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, Data> {
        dropper::note_lock();
        lock(&self.data)
    }

    /// For CONFIG GET and INFO.
    pub fn set_address(&self, addr: SocketAddr) {
        let config = &mut self.lock().config;
        config.set_initial("bind", addr.ip().to_string());
        config.set_initial("port", addr.port().to_string());
    }

    /// Logs what the server is.
    pub fn log_start(&self) {
        let mut data = self.lock();
        let keys: usize = data.keyspace.databases().map(|it| it.len()).sum();
        let value = |name: &[u8]| {
            let found = data.config.matching(&[name]);
            let value = found.first().map_or(&[][..], |(_, value)| value);
            String::from_utf8_lossy(value).into_owned()
        };
        let (workers, has_password) = (data.workers.len(), !value(b"requirepass").is_empty());
        match self.disk {
            Some(_) => {
                let (dir, appendfsync) = (value(b"dir"), value(b"appendfsync"));
                tracing::info!(workers, keys, dir, appendfsync, has_password, "started");
            }
            None => tracing::info!(workers, has_password, "started, in memory only"),
        }
    }

    /// Logs what the server has done.
    pub fn log_end(&self) {
        let (clients, commands) = {
            let data = self.lock();
            (data.last_client, data.stats.commands())
        };
        tracing::info!(clients, commands, "stopped; in all it has served");
    }

    /// The journal of a worker.
    pub fn journal(&self) -> Option<Journal> {
        self.disk.as_ref().map(Journal::new)
    }

    /// Writes what is left to the disk. The workers have ended. The error says where the last changes are.
    pub fn close(&self) -> Result<(), crate::disk::Error> {
        let (Some(writer), Some(journal)) = (&self.disk, self.journal()) else {
            return Ok(());
        };
        journal.collect(&mut self.lock().keyspace);
        writer.close()
    }
}

impl Worker {
    pub fn new(remote: Remote) -> Worker {
        Worker {
            remote,
            mailbox: Mailbox::default(),
            counts: Counts::default(),
        }
    }

    /// Lets the server of this worker do something.
    pub fn post(&self, call: fn(&Server)) {
        // An error means that the worker has ended, and its clients with it.
        let _ = self.remote.post(move || {
            if let Some(server) = Server::current() {
                call(&server);
            }
        });
    }
}

/// Locks a mutex. After a panic what is behind it is used as it is, as it would be with one thread.
#[inline]
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
