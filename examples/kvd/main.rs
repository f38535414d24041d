//! `kvd`: a database server for Redis clients, in memory or on disk.
//!
//! ```text
//! cargo run --release --example kvd                    # on 127.0.0.1:6379, in memory
//! redis-cli set greeting hello                         # in another terminal
//! redis-cli get greeting
//! redis-benchmark -q -P 16
//! printf 'PING\r\nINCR visits\r\nQUIT\r\n' | nc 127.0.0.1 6379
//! ```
//!
//! With `--dir` the keys are on disk, too:
//!
//! ```text
//! cargo run --release --example kvd -- --dir /tmp/kvd --appendfsync always
//! ```
//!
//! | `--appendfsync` | before its reply, a change is | everything is on disk | what kill -9 loses | what a crash of the system loses |
//! |---|---|---|---|---|
//! | `always` | on disk | before the reply | nothing that was acknowledged | nothing that was acknowledged |
//! | `everysec` (default) | given to the system | every second | nothing that was acknowledged | the last second |
//! | `no` | given to the system | every 30 seconds | nothing that was acknowledged | the last 30 seconds |
//!
//! With `--workers 4` four threads serve the clients. For a client they are one server: all that is shared is behind one
//! lock, which a worker has while it executes the requests of one read.
//!
//! README.md, in this folder, is about durability, a full disk, commands that take long, limits, differences from Redis, and
//! what is not there. What there is answers as Redis 7.0 does, with the same texts.
//!
//! Ctrl-C and SIGTERM end it, and a second signal ends it at once. SIGHUP does nothing.
//!
//! Reading order:
//!
//! * this file: options, start, workers and Ctrl-C;
//! * `resp/`: the protocol, both ways;
//! * `store/`: the keyspace, without any input and output; `disk/`: the keyspace on disk;
//! * `server/session.rs`: the handler of a connection; `server/mod.rs`: what the sessions of a worker share;
//!   `server/shared.rs`: what all workers share;
//! * `commands/mod.rs`: the table of commands, `commands/execute.rs`: from a request to its reply; then any other
//!   file there. `commands/long.rs` is about replies that take long, `commands/stored.rs` about values that do.

#![allow(
    clippy::mutable_key_type,
    reason = "a long text remembers its hash, which does not change"
)]
#![allow(
    unreachable_pub,
    reason = "in a program, `pub` items are visible to the other modules only"
)]

mod commands;
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/descriptors.rs"]
mod descriptors;
mod disk;
#[path = "../common/public.rs"]
mod public;
mod resp;
mod server;
mod store;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use asynchat::{Addr, EventLoop, Result, Service, Workers};
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use disk::journal::AppendFsync;
use disk::writer::Writer;
use public::warn_if_public;
use server::config::Config;
use server::shared::Shared;
use server::{Options, Server};

const UNITS: &str =
    "BYTES may have a unit: k, m or g (powers of 1000), or kb, mb or gb (powers of 1024).";

/// A database server for Redis clients.
///
/// The log goes to standard error. RUST_LOG=debug adds connections.
#[derive(Parser)]
#[command(version, name = "kvd", after_help = format!("{UNITS}\n\n{}", common::SIGNALS))]
struct Arguments {
    /// The address to listen on; port 0 chooses a free port.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:6379")]
    listen: String,

    /// The number of threads that serve clients.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: u16,

    /// For how long a thread asks for requests before it sleeps, in microseconds. More serves clients of the same machine
    /// faster, for more CPU time. 0: it sleeps at once.
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 3, value_parser = clap::value_parser!(u32).range(..=1000))]
    busy_poll: u32,

    /// The password that clients need. Other users of the system see it in the list of processes.
    #[arg(long, value_name = "PASSWORD", default_value = "")]
    requirepass: String,

    /// A file whose first line is the password that clients need.
    #[arg(long, value_name = "PATH", conflicts_with = "requirepass")]
    requirepass_file: Option<PathBuf>,

    /// Whether clients of other hosts are refused while there is no password.
    #[arg(long, value_name = "yes|no", default_value = "yes", value_parser = ["yes", "no"])]
    protected_mode: String,

    /// The maximum number of clients. If the limit on descriptors is too low for it, it is lowered, with a warning.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    maxclients: u32,

    /// After how many seconds an idle client is closed. 0 for never. A client that waits for elements or messages is not
    /// idle.
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=2_147_483_647))]
    timeout: u32,

    /// The maximum size of a value.
    #[arg(long, value_name = "BYTES", default_value = "512mb")]
    proto_max_bulk_len: String,

    /// The maximum size of a request, while it is read.
    #[arg(long, value_name = "BYTES", default_value = "1gb")]
    client_query_buffer_limit: String,

    /// The maximum number of keys that are noted for CLIENT TRACKING. 0 for no maximum.
    #[arg(long, value_name = "KEYS", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    tracking_table_max_keys: u64,

    /// Store the keys in this directory, which is created if it does not exist.
    /// Without it, they are lost when the server stops.
    #[arg(long, value_name = "PATH")]
    dir: Option<PathBuf>,

    /// When changes are on disk, with --dir.
    #[arg(long, value_enum, default_value_t = AppendFsync::Everysec, requires = "dir")]
    appendfsync: AppendFsync,

    /// Read the directory as at a start, put its log into kvd.redb, print the number of keys, and exit.
    #[arg(long, requires = "dir")]
    check: bool,

    /// The same, and make kvd.redb as small as possible: removed keys leave room in it, which is used again, but not given
    /// back to the disk. That needs some free space, and takes long for a large file.
    #[arg(long, requires = "dir")]
    compact: bool,

    /// The maximum size of messages that a subscriber has not read. 0 for no maximum. Or limits as for CONFIG SET:
    /// "normal 1gb 0 0 pubsub 32mb 8mb 60".
    #[arg(long, value_name = "BYTES", default_value = "32mb")]
    client_output_buffer_limit: String,

    /// The maximum size of all results whose replies are not complete, and also of what clients watch, have subscribed to
    /// and are named. 0 for no maximum.
    #[arg(long, value_name = "BYTES", default_value = "1gb")]
    maxmemory_clients: String,
}

/// How long the server waits at its end for clients that do not read.
const GRACE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    common::log_events_to_stderr("info");
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            common::print_to_stderr(format_args!("kvd: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result {
    let most_clients = most_clients(arguments, descriptors::raise_limit());
    let config = config(arguments, most_clients)?;
    let disk = match &arguments.dir {
        None => None,
        Some(dir) if arguments.check || arguments.compact => {
            let keys =
                Writer::check(dir, arguments.compact).map_err(|error| in_dir(dir, &error))?;
            common::print(format_args!("{keys} keys, no damage\n"))?;
            return Ok(());
        }
        Some(dir) => {
            let remote = asynchat::remote()?;
            // An error means that the loop has already ended.
            let opened = Writer::open(dir, arguments.appendfsync, move || {
                drop(remote.shutdown(GRACE));
            });
            Some(opened.map_err(|error| in_dir(dir, &error))?)
        }
    };
    let options = Options {
        config,
        most_clients: most_clients as usize,
        disk,
        ..Options::default()
    };
    let shared = Shared::new(options);
    let (addr, service) = start(&shared, arguments)
        .map_err(|error| format!("--listen {}: {error}", arguments.listen))?;
    common::shutdown_on_ctrl_c(GRACE)?;
    if let Some(addr) = addr.inet() {
        shared.set_address(addr);
    }
    shared.log_start();
    common::announce(addr);
    let ran = common::run_until_signal();
    let outcome = service.map_or(Ok(()), |it| it.finish().map(drop));
    shared.log_end();
    // Also after a failure of the loop. What is on disk is the more important error.
    shared.close()?;
    outcome?;
    ran
}

fn in_dir(dir: &Path, error: &disk::Error) -> String {
    format!("--dir {}: {error}", dir.display())
}

/// Starts the workers. One worker is the loop of this thread, which saves handing connections over.
fn start(shared: &Arc<Shared>, arguments: &Arguments) -> Result<(Addr, Option<Service>)> {
    let listen = arguments.listen.clone();
    let busy_poll = Duration::from_micros(arguments.busy_poll.into());
    if arguments.workers == 1 {
        EventLoop::current()?.set_busy_poll(busy_poll);
        let listener = Server::new(shared)?.serve(&listen)?;
        let addr = listener.local_addr().ok_or("the listener has no address")?;
        return Ok((addr, None));
    }
    let workers = Workers::new().threads(arguments.workers.into());
    let shared = Arc::clone(shared);
    let service = workers.start(move |worker| {
        EventLoop::current()?.set_busy_poll(busy_poll);
        Server::new(&shared)?.serve_with(worker, &listen)?;
        Ok(())
    })?;
    let addr = service.local_addrs().first().cloned();
    let addr = addr.ok_or("the listener has no address")?;
    Ok((addr, Some(service)))
}

/// The descriptors that are not for clients, as many as in Redis: of the files, the listener and the log. Each worker has
/// some of its own.
const RESERVED_DESCRIPTORS: u64 = 32;
const WORKER_DESCRIPTORS: u64 = 4;

/// How many clients there can be, with so many descriptors.
fn most_clients(arguments: &Arguments, descriptors: Option<u64>) -> u32 {
    let wanted = arguments.maxclients;
    let Some(descriptors) = descriptors else {
        return wanted;
    };
    let reserved = RESERVED_DESCRIPTORS + WORKER_DESCRIPTORS * u64::from(arguments.workers);
    let possible = descriptors.saturating_sub(reserved).max(1);
    let Some(possible) = u32::try_from(possible).ok().filter(|it| *it < wanted) else {
        return wanted;
    };
    tracing::warn!(
        wanted,
        possible,
        descriptors,
        "the limit on descriptors is too low for --maxclients, which is lowered"
    );
    possible
}

fn config(arguments: &Arguments, most_clients: u32) -> Result<Config> {
    let mut config = Config::default();
    config.change("requirepass", &password(arguments)?)?;
    let timeout = arguments.timeout.to_string();
    let tracked_keys = arguments.tracking_table_max_keys.to_string();
    let output = &arguments.client_output_buffer_limit;
    let output = if output.contains(' ') {
        output.clone()
    } else {
        format!("pubsub {output} 0 0")
    };
    for (name, value) in [
        ("protected-mode", &arguments.protected_mode),
        ("timeout", &timeout),
        ("proto-max-bulk-len", &arguments.proto_max_bulk_len),
        (
            "client-query-buffer-limit",
            &arguments.client_query_buffer_limit,
        ),
        ("client-output-buffer-limit", &output),
        ("maxmemory-clients", &arguments.maxmemory_clients),
        ("tracking-table-max-keys", &tracked_keys),
    ] {
        if let Err(why) = config.change(name, value.as_bytes()) {
            let given = if name == "client-output-buffer-limit" {
                &arguments.client_output_buffer_limit
            } else {
                value
            };
            let why = format!("invalid value '{given}' for '--{name}': {why}\n\n{UNITS}");
            Arguments::command()
                .error(ErrorKind::InvalidValue, why)
                .exit();
        }
    }
    if let Some(dir) = &arguments.dir {
        config.set_initial("appendonly", "yes");
        config.set_initial(
            "appendfsync",
            format!("{:?}", arguments.appendfsync).to_lowercase(),
        );
        config.set_initial("dir", dir.display().to_string());
    }
    config.set_initial("maxclients", most_clients.to_string());
    Ok(config)
}

fn password(arguments: &Arguments) -> Result<Vec<u8>> {
    let Some(path) = &arguments.requirepass_file else {
        return Ok(arguments.requirepass.clone().into());
    };
    let failed = |why: &dyn std::fmt::Display| {
        let path = path.display();
        format!("--requirepass-file {path}: {why}")
    };
    let data = std::fs::read(path).map_err(|error| failed(&error))?;
    warn_if_public(path, "the password");
    let line = data.split(|byte| *byte == b'\n').next().unwrap_or_default();
    match line.strip_suffix(b"\r").unwrap_or(line) {
        // A server without a password is not what was asked for.
        b"" => Err(failed(&"its first line is empty").into()),
        line => Ok(line.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_on_descriptors_lowers_the_number_of_clients() {
        let most = |options: &[&str], descriptors| {
            let arguments = ["kvd"].iter().chain(options);
            Arguments::try_parse_from(arguments).map(|it| most_clients(&it, descriptors))
        };
        for (options, descriptors, wanted) in [
            (&[][..], None, 10_000),
            (&[], Some(1 << 20), 10_000),
            (&[], Some(1_024), 988),
            (&["--workers", "4"], Some(1_024), 976),
            (&["--maxclients", "900"], Some(1_024), 900),
            (&[], Some(20), 1),
        ] {
            assert_eq!(most(options, descriptors).ok(), Some(wanted), "{options:?}");
        }
    }

    #[test]
    fn options_are_parameters() -> Result {
        let options = ["kvd", "--timeout", "30", "--client-output-buffer-limit"];
        for (limit, wanted) in [
            ("2mb", "normal 0 0 0 slave 0 0 0 pubsub 2097152 0 0"),
            (
                "normal 1k 0 0",
                "normal 1000 0 0 slave 0 0 0 pubsub 33554432 0 0",
            ),
        ] {
            let arguments = Arguments::try_parse_from(options.iter().chain([&limit]))?;
            let config = config(&arguments, 7)?;
            let found = config.matching(&[b"client-output*", b"maxclients", b"timeout"]);
            let values: Vec<&[u8]> = found.into_iter().map(|(_, value)| value).collect();
            assert_eq!(values, [wanted.as_bytes(), b"7", b"30"]);
        }
        Ok(())
    }
}
