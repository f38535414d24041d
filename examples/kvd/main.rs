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
//! The changes of a turn of a loop, or a part of many, are appended to a log (`kvd.log.1` and `kvd.log.2`), and then the
//! replies that acknowledge or show them are sent. While there are changes that are not in the log, all replies wait for
//! it, so nobody reads what the end of the process, or with `always` that of the system, can still undo. Only messages of
//! PUBLISH do not wait. From time to time the log is put into `kvd.redb`, which has all keys. A server locks `kvd.lock`,
//! so that no other one uses the folder. Stop the server before you copy these files, or copy a snapshot of their file
//! system: a copy of a file that is being written is damaged.
//!
//! A large change delays the replies to all clients until it is in the log: by about 30 ms for 300,000 elements and
//! 150 ms for a string of 100 MB, and with `always` as long as the disk needs for so many bytes, too. Of a client that
//! makes many such changes, others wait for one at a time: its next command waits until the last change is in the log. But
//! a transaction is one change, and so is a command with many keys. Nothing but the disk limits the size of a transaction:
//! one with 1,000 times COPY of a large key is small to send.
//!
//! The server does not start, and names the file, if one is missing, if a checksum in `kvd.redb` is wrong, or it has the
//! format of another version, and if the log begins behind `kvd.redb` or lacks changes that were on disk before those
//! behind them. What a crash can leave is no reason: an end of the log that is not complete is ignored, with a warning.
//! Without `always` there may be whole frames behind a gap in what was written since `kvd.redb` was: these are not used,
//! an error is logged, and a copy of the file stays in the folder (`kvd.log.1.damaged-N`). Damage of the disk in the last
//! seconds of the log looks the same. That the log was emptied or cut is not noticed. `--check` reads the folder as a
//! start does, and exits.
//!
//! A change writes the element of a collection that it changes, or 65,000 bytes of a large string. DEL removes the row of
//! the key, RENAME writes one for the new name, too, and SET writes the new value. The other rows of a removed or
//! overwritten value are removed later, however many they are: 10,000 at a time while nothing else is to be put into
//! `kvd.redb`, and otherwise each time as many and what that inserts. These commands write a whole value: LINSERT, LREM, MOVE, COPY, those that store their result,
//! those that remove more than 1,000 members and leave some (SPOP with a count, ZREMRANGEBYRANK, ZREMRANGEBYSCORE,
//! ZREMRANGEBYLEX, ZPOPMIN, ZPOPMAX, ZMPOP, BZMPOP), and APPEND and SETRANGE when a string becomes one of 16 KB or more.
//!
//! While the disk is full, commands that write are refused with a MISCONF error before they are executed, and commands
//! that read are served. DEL, UNLINK, FLUSHDB and FLUSHALL are executed: what they remove needs no room any more. But to
//! remove keys needs some room, too, in the log and in `kvd.redb`: if the server itself has filled the disk to its last
//! byte, commands that write stay refused after FLUSHALL, until another file on the disk was removed or the disk is
//! larger. When there is room again, the server goes on by itself. What was executed when the disk became full is in memory, others read it, and it is written when there is room. It is lost only if the server ends before:
//! unless it is killed, it reports that, and its exit code is 1. A reply without an error says that the change is in the log, so
//! these commands get a MISCONF error, which says that the command was executed: a client that repeats it does it twice. The
//! error takes the place of the whole reply, of EXEC as well.
//! But the reply of a command that removes what it replies with (LPOP, BLPOP, LMPOP, SPOP, ZPOPMIN, GETDEL, SET with GET and
//! their kind, and EXEC with one of these) waits until there is room: nobody else has that any more. A start needs room in
//! `kvd.redb` for what is only in the log. If a thread that writes ends, the server ends with an error.
//!
//! Clients that write wait while 1 MB of changes is not in the log, because every reply waits behind these, and while 64 MB
//! of small changes are not in `kvd.redb`. Values of 65,000 bytes and more, and
//! collections that are written as a whole, count apart: while 64 MB of these are not in `kvd.redb`, a client waits that
//! has written such a value, and the others are served. To put a million elements there takes some ten seconds. Above 1 GB
//! all clients that write wait.
//!
//! With `--workers 4` four threads serve the clients. For a client they are one server: all that is shared is behind one
//! lock, which a worker has while it executes the requests of one read. It gives the lock back when a millisecond has
//! passed, or when there are 10,000 messages to deliver. It looks at the time after each command that may take long, and
//! after 16 others. Receiving, sending, long replies and the writing to disk need no lock. docs/performance.md says why
//! it is one lock.
//!
//! A command that takes long works on a snapshot, a part at a time, while other clients are served: a reply (KEYS, SORT,
//! LPOS, SRANDMEMBER, CLIENT LIST), or a value that is stored when it is complete (SUNIONSTORE, LREM, SPOP with a count,
//! APPEND to a large string that a reply contains). The values for one key are made one after another. The result is
//! that of the command at its end. A pattern is compared with a key or an element of more than 64 KB a part at a time (KEYS, SCAN and its kind).
//! PUBLISH compares the channel with many patterns a part at a time, PUBSUB CHANNELS the
//! pattern with many channels, and subscriptions and watches end so, too. Many members of a sorted set are removed at once
//! (ZREMRANGEBYSCORE, ZPOPMIN and their kind), and their memory is given back later, a part at a time. A large argument is
//! stored as it was received, without a copy. These have the lock for as long as they take: commands in a transaction, one
//! with many arguments (200,000 of DEL, MSET, MGET, SADD or ZADD are 40 to 110 ms, of SUBSCRIBE or SUNIONSTORE 150 to
//! 200 ms, and of ZADD with as many scores of one member 400 ms), the removal of up to 1,000 members of a sorted set (some 5 ms
//! for each of 8 MB, if the scores are equal), FLUSHALL, FLUSHDB and SWAPDB while many keys are watched, each of which they
//! look up, and a command whose key has changed during each of three attempts. For SORT with STORE, and BY or GET, these are all keys that the patterns may name.
//! Clients that keep copies of values (CLIENT TRACKING) learn of a change behind its command, 100 at most of one command,
//! and the others a part at a time. The table of what they have read makes a command with many keys slower, by about a third.
//! Large values are dropped by a thread of their own.
//! INFO waits for the figures of all workers, so one that is busy delays it.
//!
//! SORT, KEYS, LPOS, EXEC and the commands that combine sets make their result as a whole before they send it. All results
//! together have a limit, `maxmemory-clients`: if it is exceeded, the connection ends that has waited longest for its
//! client to read, or the one whose result has just grown, if that alone has more than half of the limit. In Redis these
//! replies are in the output of the client, and the client with the most is ended. What a reply shares with a key does
//! not count, also when the key is changed meanwhile: a large string, or more than 1 MB of one. CLIENT NO-EVICT protects a
//! client.
//!
//! `redis-cli command docs` lists the commands. What there is answers as Redis 7.0 does, with the same texts; see
//! tests/kvd_random.py. There are these differences:
//!
//! * An argument has at most 8 MB, unless it is a value: a string, an element of a list, the value of a field, or a message.
//! * A pattern has at most 1024 bytes, also one of SORT, which has at most 64 of GET. The name of a channel has at most
//!   64 KB, a command that waits 10,000 keys, and CLIENT LIST and CLIENT KILL 10,000 IDs and 32 filters. The patterns of
//!   CONFIG GET have 4096 bytes together, with one more for each. Above that the reply is an error.
//! * What SORT stores of GET has at most `proto-max-bulk-len` bytes together, 512 MB unless that is set: in memory the elements
//!   share the strings of the keys, and on disk each has its own.
//! * Scores have as few digits as identify them: 0.1, where Redis 7.0 writes 0.10000000000000001. -0 is 0.
//! * A client that publishes to itself in a transaction gets the message behind the reply of EXEC, and not in its array.
//! * Numbers are decimal. INCRBYFLOAT rounds both numbers to 17 decimal places and adds them exactly, up to
//!   1e21. Beyond, it calculates with 64-bit floats.
//! * Error texts are UTF-8: other bytes of a request appear in them as U+FFFD.
//! * A client that waits for a key is served also if its new elements replace an old value: SORT with STORE, ZRANGESTORE.
//! * All that is read of a request counts for `client-query-buffer-limit`, also what is parsed already.
//! * `maxmemory-clients` is 1 GB unless it is set, and not a percent value: `maxmemory`, of which that is a part, is not
//!   limited. It limits results, and as much again of what clients watch, have subscribed to and are named, with the
//!   arguments of their commands that take several turns. Of these, unlike in Redis, those of a client that has sent CLIENT
//!   NO-EVICT do not count. What is read of other requests does not count either: that is the input of a client, as are the
//!   keys of a command that waits for an element.
//! * CLIENT PAUSE with a time that ends after the year 292 million is an error, as in Redis 7.2. A command that makes a value
//!   in parts, and has begun before a pause, stores it behind the pause.
//! * INFO commandstats has `calls` and `failed_calls` of each command, but not their times, which are not measured, and so
//!   there is no section `latencystats`. HELP is not in it. A reply that was an error only because of the disk, or while SORT
//!   of many elements was sent, is not in `errorstats`. The sections of absent features are absent.
//! * CLIENT NO-TOUCH, which is of Redis 7.2, is only shown: nothing depends on when a key was used.
//! * COMMAND DOCS has no `doc_flags`, `deprecated_since`, `replaced_by` and `history`.
//! * CONFIG SET changes client-output-buffer-limit, client-query-buffer-limit, maxmemory-clients, proto-max-bulk-len,
//!   protected-mode, requirepass, timeout and tracking-table-max-keys, until the server ends: there is no CONFIG REWRITE. Each of them is an option
//!   of the command line, too. `maxclients` is fixed at the start, and `tcp-keepalive` is 300.
//! * `client-output-buffer-limit`: what is made while it is sent does not count, and the replies of a subscriber do not
//!   count either. A message that is larger than the limit is sent if the client has read those before it. There is no
//!   soft limit by default.
//! * The table of CLIENT TRACKING has as much memory as `maxmemory-clients` says, too. It gives up keys when it has more, and a
//!   client learns that all keys have changed when more than 10,000 invalidations wait for it, or more than 4 MB of keys have
//!   changed for clients in broadcasting mode. A client has 1000 prefixes at most, with 64 KB together. Invalidations
//!   have the limits of messages: see `client-output-buffer-limit`. To another client (REDIRECT) they go when the replies
//!   before them are sent.
//! * MEMORY USAGE takes 1000 samples at most: of a larger collection its reply is an estimate, also with SAMPLES 0.
//! * OBJECT ENCODING names kvd's structures, and HELP lists what there is. CLIENT KILL ID takes several ids.
//! * CLIENT LIST: the sizes of buffers are 0 (`qbuf`, `qbuf-free`, `rbs`, `rbp`, `obl`, `oll`), and `fd` is -1. `tot-mem` is
//!   what the client watches, has subscribed to and is named, with its arguments, its transaction and its output.
//!
//! There are all commands of Redis 7.0 for strings, keys, expiry, hashes, lists, sets, sorted sets, transactions,
//! messages and connections, with client-side caching (CLIENT TRACKING), but for those in the next paragraph.
//!
//! There are no streams, scripts and functions (EVAL, FCALL), bitmaps, HyperLogLog, geographical commands, keyspace
//! notifications, shards of messages (SSUBSCRIBE), users (ACL), modules, eviction
//! (`maxmemory`), snapshots and their commands (SAVE, BGSAVE, BGREWRITEAOF, LASTSAVE), cluster and replication; nor
//! DEBUG, MEMORY DOCTOR and STATS, MONITOR, SLOWLOG, LATENCY, ROLE, WAIT, SHUTDOWN, MIGRATE, DUMP and
//! RESTORE, OBJECT IDLETIME and FREQ, LCS, LOLWUT. There is no TLS, no Unix-domain socket and no
//! configuration file. A parameter of one of these features that CONFIG GET shows can be set to its present value only.
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
