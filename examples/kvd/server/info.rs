//! INFO: figures about the server.

use std::fmt::Write;

use super::Server;
use super::shared::Data;
use crate::store::dropper;

/// What is counted for INFO.
#[derive(Default)]
pub struct Stats {
    pub commands: u64,
    pub hits: u64,
    pub misses: u64,
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
    /// Reports what this worker has counted.
    fn report(&self, data: &mut Data) {
        if let Ok(event_loop) = asynchat::EventLoop::current() {
            data.workers[self.number].counts = Counts {
                refused: event_loop.stats().refused,
                freed: dropper::count(),
            };
        }
    }
}

/// The sections, and those without which INFO is short.
const SECTIONS: &[&str] = &[
    "server",
    "clients",
    "memory",
    "persistence",
    "stats",
    "replication",
    "cpu",
    "keyspace",
];

/// The text of INFO with these sections. Without any, all of them.
pub fn info(server: &Server, data: &mut Data, wanted: &[String]) -> String {
    let is_wanted = |section: &str| {
        wanted.is_empty()
            || wanted
                .iter()
                .any(|it| it == section || matches!(it.as_str(), "all" | "default" | "everything"))
    };
    // The others report for the next time.
    server.report(data);
    data.post_to_others(server.number, |other| {
        other.report(&mut other.shared.lock());
    });
    let mut text = String::new();
    for section in SECTIONS.iter().filter(|section| is_wanted(section)) {
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        let mut title = (*section).to_owned();
        title[..1].make_ascii_uppercase();
        if title == "Cpu" {
            title.make_ascii_uppercase();
        }
        let _ = write!(text, "# {title}\r\n");
        for (name, value) in fields(section, server, data) {
            let _ = write!(text, "{name}:{value}\r\n");
        }
    }
    text
}

fn fields(section: &str, server: &Server, data: &mut Data) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    let mut add = |name: &str, value: &dyn std::fmt::Display| {
        fields.push((name.to_owned(), value.to_string()));
    };
    match section {
        "server" => {
            let uptime = server.shared.started.elapsed().as_secs();
            add("redis_version", &crate::commands::REDIS_VERSION);
            add("redis_mode", &"standalone");
            add("server_name", &"kvd");
            add("os", &std::env::consts::OS);
            add("arch_bits", &usize::BITS);
            add("process_id", &std::process::id());
            for (name, value) in data.config.matching(&[b"port"]) {
                add(&format!("tcp_{name}"), &value);
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
            add("blocked_clients", &data.waiting.clients);
            add("pubsub_clients", &subscribers);
        }
        "memory" => {
            let memory = resident_memory();
            add("used_memory", &memory);
            add(
                "used_memory_human",
                &format!("{:.2}M", memory as f64 / 1_048_576.0),
            );
            add("used_memory_rss", &memory);
            add("maxmemory", &0);
            add("maxmemory_policy", &"noeviction");
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
            add("total_connections_received", &data.last_client);
            add("total_commands_processed", &data.stats.commands);
            add("rejected_connections", &refused);
            add("lazyfreed_objects", &freed);
            add("expired_keys", &expired);
            add("keyspace_hits", &data.stats.hits);
            add("keyspace_misses", &data.stats.misses);
            add("pubsub_channels", &data.subscribers.channels.len());
            add("pubsub_patterns", &data.subscribers.patterns.len());
        }
        "replication" => {
            add("role", &"master");
            add("connected_slaves", &0);
        }
        "cpu" => {
            let (user, system) = cpu_seconds();
            add("used_cpu_sys", &format!("{system:.6}"));
            add("used_cpu_user", &format!("{user:.6}"));
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
