//! INFO: figures about the server.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use asynchat::{More, Producer, Remote};

use super::Server;
use super::shared::Data;
use crate::commands::{self, Failure};
use crate::resp::reply::Reply;
use crate::store::dropper;

/// What is counted for INFO.
pub struct Stats {
    /// Of each command, at its index.
    calls: Vec<Calls>,
    /// How many replies were errors, by the first word of their text.
    errors: BTreeMap<String, u64>,
    pub connections: u64,
    pub hits: u64,
    pub misses: u64,
    /// Clients that were ended because of what they retained.
    pub evicted: u64,
}

/// How often a command was executed.
#[derive(Clone, Copy, Default)]
struct Calls {
    all: u64,
    failed: u64,
}

impl Default for Stats {
    fn default() -> Self {
        Stats {
            calls: vec![Calls::default(); 1 + commands::all().len()],
            errors: BTreeMap::new(),
            connections: 0,
            hits: 0,
            misses: 0,
            evicted: 0,
        }
    }
}

impl Stats {
    /// A command was executed.
    #[inline]
    pub fn note_call(&mut self, index: usize, failure: Option<&Failure>) {
        self.calls[index].all += 1;
        if let Some(failure) = failure {
            self.calls[index].failed += 1;
            self.note_error(&failure.0);
        }
    }

    /// A reply is an error.
    #[cold]
    pub fn note_error(&mut self, text: &str) {
        let kind = text.split(' ').next().unwrap_or_default();
        *self.errors.entry(kind.to_owned()).or_default() += 1;
    }

    /// How many commands were executed.
    pub fn commands(&self) -> u64 {
        self.calls.iter().map(|it| it.all).sum()
    }
}

/// What each worker counts for itself.
#[derive(Clone, Copy, Default)]
pub struct Counts {
    /// Refused connections.
    refused: u64,
    /// Values that were left to another thread to be dropped.
    freed: u64,
}

impl Server {
    /// Lets the other workers report what they have counted, and calls `call` on this worker when all have.
    pub fn ask_others(&self, data: &Data, call: impl FnOnce(&Server) + Send + 'static) {
        let asked = Arc::new(Asked {
            asker: self.remote.clone(),
            call: Mutex::new(Some(Box::new(call))),
        });
        for (number, worker) in data.workers.iter().enumerate() {
            if number != self.number {
                let asked = Arc::clone(&asked);
                // An error means that the worker has ended.
                let _ = worker.remote.post(move || {
                    if let Some(server) = Server::current() {
                        server.report(&mut server.shared.lock());
                    }
                    drop(asked);
                });
            }
        }
    }

    /// Reports what this worker has counted since CONFIG RESETSTAT.
    pub fn report(&self, data: &mut Data) {
        let (before, now) = (self.counts_before.get(), Counts::now());
        data.workers[self.number].counts = Counts {
            refused: now.refused - before.refused,
            freed: now.freed - before.freed,
        };
    }

    /// Lets all workers count from 0.
    pub fn reset_counts(&self, data: &mut Data) {
        for (number, worker) in data.workers.iter_mut().enumerate() {
            worker.counts = Counts::default();
            if number != self.number {
                worker.post(|server| {
                    server.counts_before.set(Counts::now());
                    // For an INFO, this worker may have reported the old figures before this post.
                    server.report(&mut server.shared.lock());
                });
            }
        }
        self.counts_before.set(Counts::now());
    }
}

impl Counts {
    /// What this worker has counted since its start.
    fn now() -> Counts {
        let stats = asynchat::EventLoop::current().map(|it| it.stats());
        Counts {
            refused: stats.map_or(0, |stats| stats.refused),
            freed: dropper::count(),
        }
    }
}

/// The workers that have not reported. The last one to drop it makes the call.
struct Asked {
    asker: Remote,
    call: Mutex<Option<Call>>,
}

type Call = Box<dyn FnOnce(&Server) + Send>;

impl Drop for Asked {
    fn drop(&mut self) {
        let call = self.call.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(call) = call.take() {
            // An error means that the worker has ended, and its clients with it.
            let _ = self.asker.post(move || {
                if let Some(server) = Server::current() {
                    call(&server);
                }
            });
        }
    }
}

/// The sections.
const SECTIONS: &[&str] = &[
    "server",
    "clients",
    "memory",
    "persistence",
    "stats",
    "replication",
    "cpu",
    "commandstats",
    "errorstats",
    "keyspace",
];

/// Whether these arguments of INFO include a section.
pub fn is_wanted(wanted: &[String], section: &str) -> bool {
    let is_default = section != "commandstats";
    let includes = |it: &str| match it {
        "all" | "everything" => true,
        "default" => is_default,
        it => it == section,
    };
    (wanted.is_empty() && is_default) || wanted.iter().any(|it| includes(it))
}

/// The reply to INFO. What the operating system knows is read when the reply is sent: nobody is to wait for that.
pub struct Info {
    /// The wanted sections, until they are sent. `None` for the fields of those that the operating system knows.
    sections: Option<Vec<(&'static str, Option<Fields>)>>,
    resp3: bool,
}

type Sections = [(&'static str, Option<Fields>)];

impl Info {
    pub fn new(server: &Server, data: &mut Data, wanted: &[String], resp3: bool) -> Info {
        let sections = SECTIONS.iter().filter(|it| is_wanted(wanted, it));
        let fields = |section| match section {
            "memory" | "cpu" => None,
            _ => Some(fields(section, server, data)),
        };
        let mut fields = fields;
        Info {
            sections: Some(sections.map(|it| (*it, fields(*it))).collect()),
            resp3,
        }
    }

    fn text(sections: &Sections) -> String {
        let mut text = String::new();
        for (section, fields) in sections {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            let title = match *section {
                "cpu" => "CPU".to_owned(),
                section => section[..1].to_ascii_uppercase() + &section[1..],
            };
            let _ = write!(text, "# {title}\r\n");
            let of_system = match fields {
                Some(_) => Fields::default(),
                None => fields_of_system(section),
            };
            for (name, value) in &fields.as_ref().unwrap_or(&of_system).0 {
                let _ = write!(text, "{name}:{value}\r\n");
            }
        }
        text
    }
}

impl Producer for Info {
    fn more(&mut self, _: usize) -> io::Result<More> {
        let Some(sections) = self.sections.take() else {
            return Ok(More::Done);
        };
        let mut reply = Reply {
            resp3: self.resp3,
            ..Reply::default()
        };
        reply.verbatim(&Info::text(&sections));
        Ok(More::Chunk(reply.buffer.into()))
    }
}

/// Names with their values.
#[derive(Default)]
struct Fields(Vec<(String, String)>);

impl Fields {
    fn add(&mut self, name: &str, value: &dyn Display) {
        self.0.push((name.to_owned(), value.to_string()));
    }
}

fn fields_of_system(section: &str) -> Fields {
    let mut fields = Fields::default();
    let mut add = |name: &str, value: &dyn Display| fields.add(name, value);
    if section == "memory" {
        let memory = resident_memory();
        add("used_memory", &memory);
        add(
            "used_memory_human",
            &format!("{:.2}M", memory as f64 / 1_048_576.0),
        );
        add("used_memory_rss", &memory);
        add("maxmemory", &0);
        add("maxmemory_policy", &"noeviction");
    } else {
        let (user, system) = cpu_seconds();
        add("used_cpu_sys", &format!("{system:.6}"));
        add("used_cpu_user", &format!("{user:.6}"));
    }
    fields
}

fn fields(section: &str, server: &Server, data: &mut Data) -> Fields {
    let mut fields = Fields::default();
    let mut add = |name: &str, value: &dyn Display| fields.add(name, value);
    match section {
        "server" => {
            let uptime = server.shared.started.elapsed().as_secs();
            add("redis_version", &crate::commands::REDIS_VERSION);
            add("redis_mode", &"standalone");
            add("server_name", &"kvd");
            add("os", &std::env::consts::OS);
            add("arch_bits", &usize::BITS);
            add("process_id", &std::process::id());
            add("workers", &data.workers.len());
            for (name, value) in data.config.matching(&[b"port"]) {
                add(&format!("tcp_{name}"), &String::from_utf8_lossy(value));
            }
            add("uptime_in_seconds", &uptime);
            add("uptime_in_days", &(uptime / 86_400));
        }
        "clients" => {
            let subscribers = data
                .clients
                .values()
                .filter(|it| it.subscription_count.load() > 0)
                .count();
            add("connected_clients", &data.clients.len());
            add("maxclients", &server.shared.most_clients);
            let blocked = data.waiting.clients + data.pause.clients();
            add("blocked_clients", &blocked);
            add("tracking_clients", &data.tracking.clients);
            add("pubsub_clients", &subscribers);
            let watched: usize = data.keyspace.databases().map(|it| it.watched()).sum();
            add("total_watched_keys", &watched);
            add("client_results_memory", &server.shared.results.total());
            add("client_retained_memory", &data.retained);
        }
        "persistence" => {
            add("loading", &0);
            add("aof_enabled", &u8::from(server.is_durable()));
            add(
                "aof_last_write_status",
                &if server.check_writable().is_ok() {
                    "ok"
                } else {
                    "err"
                },
            );
        }
        "stats" => {
            let counts = data.workers.iter().map(|it| it.counts);
            let refused: u64 = counts.clone().map(|it| it.refused).sum();
            let freed: u64 = counts.map(|it| it.freed).sum();
            let expired: u64 = data.keyspace.databases().map(|it| it.expired).sum();
            add("total_connections_received", &data.stats.connections);
            add("total_commands_processed", &data.stats.commands());
            add("rejected_connections", &refused);
            add("lazyfreed_objects", &freed);
            let evicted = data.stats.evicted + server.shared.results.evicted();
            add("evicted_clients", &evicted);
            add("expired_keys", &expired);
            add("keyspace_hits", &data.stats.hits);
            add("keyspace_misses", &data.stats.misses);
            add("pubsub_channels", &data.subscribers.channels.len());
            add("pubsub_patterns", &data.subscribers.patterns.len());
            add("tracking_total_keys", &data.tracking.table.len());
            add("tracking_total_items", &data.tracking.table.items());
            add("tracking_total_prefixes", &data.tracking.prefixes.len());
            let errors: u64 = data.stats.errors.values().sum();
            add("total_error_replies", &errors);
        }
        "replication" => {
            add("role", &"master");
            add("connected_slaves", &0);
            add("master_repl_offset", &0);
        }
        "commandstats" => {
            for command in commands::all() {
                let Calls { all, failed } = data.stats.calls[command.index];
                if all > 0 {
                    let counts = format!("calls={all},failed_calls={failed}");
                    add(&format!("cmdstat_{}", command.name), &counts);
                }
            }
        }
        "errorstats" => {
            for (kind, count) in &data.stats.errors {
                add(&format!("errorstat_{kind}"), &format!("count={count}"));
            }
        }
        _ => {
            for (number, database) in data.keyspace.databases().enumerate() {
                if database.len() > 0 {
                    let (keys, expires) = (database.len(), database.expiring());
                    add(
                        &format!("db{number}"),
                        &format!("keys={keys},expires={expires},avg_ttl=0"),
                    );
                }
            }
        }
    }
    fields
}

/// The memory of the process in bytes, where the system has /proc. Elsewhere 0.
fn resident_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split(' ').nth(1).and_then(|it| it.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

/// The CPU time of the process in user and in system mode, where the system has /proc. Elsewhere 0.
fn cpu_seconds() -> (f64, f64) {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = text.rsplit(')').next().unwrap_or_default();
    let mut numbers = after_name.split_whitespace().skip(11);
    let mut seconds = || {
        let ticks = numbers.next().and_then(|it| it.parse::<f64>().ok());
        ticks.unwrap_or(0.0) / 100.0
    };
    (seconds(), seconds())
}
