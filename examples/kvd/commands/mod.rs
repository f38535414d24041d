//! The commands: a table, from which they are executed and described, and a file for each family.
//!
//! `execute.rs`: from a request to its reply. `describe.rs`, `docs.rs`: COMMAND. `long.rs`: replies that are made while they are
//! sent. `stored.rs`: values that take long to make.

mod clients;
mod combined;
mod connection;
mod counted;
mod counters;
mod describe;
mod docs;
mod execute;
mod expiry;
mod found;
mod hashes;
mod key_flags;
mod keys;
mod list_moves;
mod list_search;
mod lists;
mod long;
mod pausing;
mod pops;
mod pubsub;
mod sample;
mod scan;
mod server;
mod set_operations;
mod sets;
mod sort;
mod sorted_combined;
mod sorted_operations;
mod sorted_ranges;
mod sorted_removal;
mod sorted_sets;
mod stored;
mod strings;
mod substrings;
mod tracking;
mod transactions;
mod unsubscribing;

use std::borrow::Cow;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use asynchat::Chat;

pub use execute::execute;

use crate::resp::reply::Reply;
use crate::resp::request::Args;
use crate::server::Server;
use crate::server::client::Client;
use crate::server::results::ResultMemory;
use crate::server::shared::Data;
use crate::store::database::{Database, WrongType};
use crate::store::number;

/// The version of Redis whose commands and texts these are.
pub const REDIS_VERSION: &str = "7.0.15";

/// A command, or a subcommand.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    /// The name in lower case; that of a subcommand with its command: `config|get`.
    pub name: &'static str,
    /// The number of arguments with the name; if negative, the least number.
    pub arity: i32,
    pub flags: u32,
    /// The first key, the last one (negative: from the end), and the step between keys.
    pub keys: (i32, i32, i32),
    pub group: &'static str,
    pub summary: &'static str,
    pub run: Run,
    pub subcommands: &'static [Command],
    /// Its number in the table, from 1 on, for counting.
    pub index: usize,
}

impl Command {
    /// Whether it is refused while the disk is full.
    pub fn needs_room(&self) -> bool {
        self.flags & (flag::WRITE | flag::REMOVES) == flag::WRITE
    }
}

pub type Run = fn(&mut Context<'_>, Args<'_>) -> Outcome;
pub type Outcome = Result<(), Failure>;

/// What a command can be. The names are those of COMMAND INFO.
pub mod flag {
    pub const WRITE: u32 = 1;
    pub const READONLY: u32 = 1 << 1;
    pub const DENYOOM: u32 = 1 << 2;
    pub const ADMIN: u32 = 1 << 3;
    pub const PUBSUB: u32 = 1 << 4;
    pub const NOSCRIPT: u32 = 1 << 5;
    pub const BLOCKING: u32 = 1 << 6;
    pub const LOADING: u32 = 1 << 7;
    pub const STALE: u32 = 1 << 8;
    pub const FAST: u32 = 1 << 9;
    pub const NO_AUTH: u32 = 1 << 10;
    /// Which arguments are keys depends on others: see `describe.rs`.
    pub const MOVABLEKEYS: u32 = 1 << 11;
    /// As short as those that are fast. COMMAND INFO does not say so, because Redis does not.
    pub const SHORT: u32 = 1 << 12;
    /// As long as its count says, if it has one. In Redis it is fast all the same.
    pub const COUNTED: u32 = 1 << 13;
    /// Has the category of commands that an operator may forbid to others.
    pub const DANGEROUS: u32 = 1 << 14;
    /// The reply has what the command removes. Nobody else has that any more.
    pub const TAKES: u32 = 1 << 15;
    /// Only removes whole keys, so that less has to be written: executed also while the disk is full. Otherwise a value that
    /// needs more room than there is could not be removed.
    pub const REMOVES: u32 = 1 << 16;

    pub const NAMES: [&str; 12] = [
        "write",
        "readonly",
        "denyoom",
        "admin",
        "pubsub",
        "noscript",
        "blocking",
        "loading",
        "stale",
        "fast",
        "no_auth",
        "movablekeys",
    ];
}

const fn command(
    name: &'static str,
    arity: i32,
    flags: u32,
    keys: (i32, i32, i32),
    group: &'static str,
    summary: &'static str,
    run: Run,
) -> Command {
    Command {
        name,
        arity,
        flags,
        keys,
        group,
        summary,
        run,
        subcommands: &[],
        index: 0,
    }
}

/// A command whose subcommands do the work.
const fn container(
    name: &'static str,
    group: &'static str,
    summary: &'static str,
    subcommands: &'static [Command],
) -> Command {
    Command {
        name,
        arity: -2,
        flags: 0,
        keys: (0, 0, 0),
        group,
        summary,
        run: |_, _| Err(SYNTAX),
        subcommands,
        index: 0,
    }
}

/// All commands.
pub fn table() -> &'static HashMap<&'static [u8], &'static Command, foldhash::fast::RandomState> {
    static TABLE: OnceLock<HashMap<&[u8], &Command, foldhash::fast::RandomState>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let families: &[&'static [Command]] = &[
            connection::TABLE,
            counters::TABLE,
            describe::TABLE,
            expiry::TABLE,
            hashes::TABLE,
            keys::TABLE,
            list_moves::TABLE,
            list_search::TABLE,
            lists::TABLE,
            pops::TABLE,
            pubsub::TABLE,
            scan::TABLE,
            server::TABLE,
            set_operations::TABLE,
            sets::TABLE,
            sort::TABLE,
            sorted_operations::TABLE,
            sorted_ranges::TABLE,
            sorted_sets::TABLE,
            strings::TABLE,
            substrings::TABLE,
            transactions::TABLE,
        ];
        let mut index = 0;
        let all = families.iter().copied().flatten();
        let all = all.map(|command| {
            let command: &Command = Box::leak(Box::new(numbered(command, &mut index)));
            (command.name.as_bytes(), command)
        });
        all.collect()
    })
}

/// The command with its index, and its subcommands with theirs. They stay until the end of the process.
fn numbered(command: &Command, last: &mut usize) -> Command {
    *last += 1;
    let index = *last;
    let subcommands = command.subcommands.iter();
    let subcommands: Vec<Command> = subcommands.map(|it| numbered(it, last)).collect();
    Command {
        index,
        subcommands: subcommands.leak(),
        ..*command
    }
}

/// All commands and subcommands, in the order of their names.
pub fn all() -> Vec<&'static Command> {
    let commands = table().values().copied();
    let all = commands.flat_map(|it| std::iter::once(it).chain(it.subcommands));
    let mut all: Vec<_> = all.collect();
    all.sort_unstable_by_key(|it| it.name);
    all
}

/// What a command works with.
pub struct Context<'a> {
    pub server: &'a Rc<Server>,
    pub client: &'a Arc<Client>,
    /// The connection that has sent the request. It is the client's, unless the client waits: see
    /// [`Serving`](Mode::Serving).
    pub chat: &'a Chat,
    pub data: &'a mut Data,
    pub reply: &'a mut Reply,
    pub mode: Mode<'a>,
}

/// Why a command is executed. It decides what one does that may wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode<'a> {
    /// For a request. It waits.
    Request,
    /// By EXEC. It does not wait.
    Exec,
    /// For a request that waits already, because this key has received elements. It goes on to wait.
    Serving(&'a [u8]),
}

impl Context<'_> {
    /// The database that the client has selected.
    #[inline]
    pub fn db(&mut self) -> &mut Database {
        self.data.keyspace.database(self.client.database.load())
    }

    /// The memory of a result that is made for the reply.
    pub fn result_memory(&self) -> ResultMemory {
        ResultMemory::new(&self.server.shared.results, self.client)
    }

    pub fn ok(&mut self) -> Outcome {
        self.reply.ok();
        Ok(())
    }

    /// Counts a look-up of a key for INFO.
    #[inline]
    pub fn note_lookup(&mut self, found: bool) {
        let stats = &mut self.data.stats;
        *(if found {
            &mut stats.hits
        } else {
            &mut stats.misses
        }) += 1;
    }
}

/// An error reply.
#[derive(Debug)]
pub struct Failure(pub Cow<'static, str>);

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Failure(text.into())
    }
}

impl From<WrongType> for Failure {
    fn from(_: WrongType) -> Self {
        fail("WRONGTYPE Operation against a key holding the wrong kind of value")
    }
}

const fn fail(text: &'static str) -> Failure {
    Failure(Cow::Borrowed(text))
}

// The texts of Redis.
const SYNTAX: Failure = fail("ERR syntax error");
const NOT_INTEGER: Failure = fail("ERR value is not an integer or out of range");
const NOT_FLOAT: Failure = fail("ERR value is not a valid float");
const NOT_POSITIVE: Failure = fail("ERR value is out of range, must be positive");
const OUT_OF_RANGE: Failure = fail("ERR value is out of range");
/// A count that has no positive counterpart.
const NOT_NEGATABLE: Failure = fail(
    "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
);
const NO_SUCH_KEY: Failure = fail("ERR no such key");
const OVERFLOW: Failure = fail("ERR increment or decrement would overflow");
/// The reply to a command that has panicked.
pub const PANICKED: Failure = fail("ERR the command has failed");
const TOO_LONG: Failure = fail("ERR string exceeds maximum allowed size (proto-max-bulk-len)");

/// The longest argument that is no value. To look up a key, a field or a member takes time for each of its bytes.
const LONGEST_NAME: usize = 8 << 20;

/// The longest pattern.
const LONGEST_PATTERN: usize = 1024;

fn wrong_arity(name: &str) -> Failure {
    format!("ERR wrong number of arguments for '{name}' command").into()
}

/// Too many arguments of a subcommand that has optional ones.
fn too_many(args: Args<'_>) -> Failure {
    let command = String::from_utf8_lossy(args.get(0)).to_ascii_uppercase();
    // As the client has sent it.
    let subcommand = shown(args.get(1));
    format!("ERR unknown subcommand or wrong number of arguments for '{subcommand}'. Try {command} HELP.").into()
}

/// The beginning of an argument for an error: as much as Redis shows of the name of a command.
fn shown(text: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(&text[..text.len().min(128)])
}

fn integer(text: &[u8]) -> Result<i64, Failure> {
    number::integer(text).ok_or(NOT_INTEGER)
}

fn float(text: &[u8]) -> Result<f64, Failure> {
    number::float(text).ok_or(NOT_FLOAT)
}

/// A pattern. The time of a comparison grows with its length, so this has a limit.
fn pattern(text: &[u8]) -> Result<&[u8], Failure> {
    if text.len() <= LONGEST_PATTERN {
        Ok(text)
    } else {
        Err(fail("ERR the pattern is too long (1024 bytes at most)"))
    }
}

/// A count that may be negative, and then has another meaning.
fn signed_count(text: &[u8]) -> Result<i64, Failure> {
    match integer(text)? {
        i64::MIN => Err(NOT_NEGATABLE),
        count => Ok(count),
    }
}

/// A count that must not be negative.
fn count(text: &[u8]) -> Result<usize, Failure> {
    match integer(text)? {
        count @ 0.. => usize::try_from(count).map_err(|_| NOT_POSITIVE),
        _ => Err(NOT_POSITIVE),
    }
}
