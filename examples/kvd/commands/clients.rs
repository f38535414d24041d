//! CLIENT: what a client says about itself, and what it can learn of the others and do to them.

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex};
use std::vec;

use asynchat::bytes::Bytes;
use asynchat::{More, Producer};

use super::flag::{ADMIN, LOADING, NOSCRIPT, STALE};
use super::long::{self, LongResult};
use super::{
    Command, Context, Failure, Outcome, SYNTAX, command, expiry, fail, integer, pausing, shown,
    tracking,
};
use crate::resp::reply::Reply;
use crate::resp::request::Args;
use crate::server::client::{Client, ReplyMode};
use crate::server::progress::Progress;
use crate::server::results::ResultMemory;
use crate::server::shared::lock;
use crate::server::waiting::Outcome as WaitOutcome;

pub(super) const FLAGS: u32 = NOSCRIPT | LOADING | STALE;

pub(super) const SUBCOMMANDS: &[Command] = &[
    tracking::CACHING,
    command(
        "client|getname",
        2,
        FLAGS,
        (0, 0, 0),
        "connection",
        "Returns the name of the connection.",
        getname,
    ),
    tracking::GETREDIR,
    command(
        "client|id",
        2,
        FLAGS,
        (0, 0, 0),
        "connection",
        "Returns the unique client ID of the connection.",
        |it, _| {
            it.reply.integer(it.client.id as i64);
            Ok(())
        },
    ),
    command(
        "client|info",
        2,
        FLAGS,
        (0, 0, 0),
        "connection",
        "Returns information about the connection.",
        |it, _| {
            let line = it.client.describe(it.data.keyspace.now());
            it.reply.verbatim(&(line + "\n"));
            Ok(())
        },
    ),
    command(
        "client|kill",
        -3,
        FLAGS | ADMIN,
        (0, 0, 0),
        "connection",
        "Terminates open connections.",
        kill,
    ),
    command(
        "client|list",
        -2,
        FLAGS | ADMIN,
        (0, 0, 0),
        "connection",
        "Lists open connections.",
        list,
    ),
    command(
        "client|no-evict",
        3,
        FLAGS | ADMIN,
        (0, 0, 0),
        "connection",
        "Sets the client eviction mode of the connection.",
        |it, args| {
            let is_on = expiry::one_of(args, 2, "on", "off")?;
            it.data.protect(it.client, is_on);
            it.data.limit_retained();
            it.ok()
        },
    ),
    command(
        "client|no-touch",
        3,
        FLAGS,
        (0, 0, 0),
        "connection",
        "Controls whether commands sent by the client affect the LRU/LFU of accessed keys.",
        |it, args| {
            // There is no such time of an access, so this is only shown.
            let is_on = expiry::one_of(args, 2, "on", "off")?;
            it.client.no_touch.store(is_on);
            it.ok()
        },
    ),
    pausing::PAUSE,
    command(
        "client|reply",
        3,
        FLAGS,
        (0, 0, 0),
        "connection",
        "Instructs the server whether to reply to commands.",
        reply_mode,
    ),
    command(
        "client|setinfo",
        4,
        FLAGS,
        (0, 0, 0),
        "connection",
        "Sets information specific to the client or connection.",
        setinfo,
    ),
    command(
        "client|setname",
        3,
        FLAGS,
        (0, 0, 0),
        "connection",
        "Sets the connection name.",
        |it, args| {
            set_name(it, args.get(2))?;
            it.ok()
        },
    ),
    tracking::TRACKING,
    tracking::TRACKINGINFO,
    command(
        "client|unblock",
        -3,
        FLAGS | ADMIN,
        (0, 0, 0),
        "connection",
        "Unblocks a client blocked by a blocking command from a different connection.",
        unblock,
    ),
    pausing::UNPAUSE,
];

pub(super) fn set_name(context: &mut Context<'_>, name: &[u8]) -> Outcome {
    // The lines of CLIENT LIST have fields with spaces in between.
    if !name.iter().all(u8::is_ascii_graphic) {
        return Err(fail(
            "ERR Client names cannot contain spaces, newlines or special characters.",
        ));
    }
    let client = context.client;
    let name = String::from_utf8_lossy(name).into();
    replace_text(context, &mut lock(&client.name), name);
    context.data.limit_retained();
    Ok(())
}

/// Replaces a text that the client retains.
fn replace_text(context: &mut Context<'_>, text: &mut Box<str>, new: Box<str>) {
    context.data.release(context.client, text.len());
    context.data.retain(context.client, new.len());
    *text = new;
}

fn getname(context: &mut Context<'_>, _: Args<'_>) -> Outcome {
    let name = lock(&context.client.name);
    if name.is_empty() {
        context.reply.null();
    } else {
        context.reply.text(&name);
    }
    Ok(())
}

/// Since Redis 7.2. Clients send it to any server.
fn setinfo(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let value: Box<str> = String::from_utf8_lossy(args.get(3)).into();
    if !value.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(fail(
            "ERR lib-name or lib-ver cannot contain spaces, newlines or special characters.",
        ));
    }
    let client = context.client;
    {
        let (name, version) = &mut *lock(&client.library);
        match expiry::one_of(args, 2, "lib-name", "lib-ver") {
            Ok(true) => replace_text(context, name, value),
            Ok(false) => replace_text(context, version, value),
            Err(_) => {
                let option = shown(args.get(2));
                return Err(format!("ERR Unrecognized option '{option}'").into());
            }
        }
    }
    context.data.limit_retained();
    context.ok()
}

fn reply_mode(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let mode = match args.option(2).as_slice() {
        // As in Redis, the next reply is left out nevertheless. EXEC has executed both.
        b"on" if context.client.reply_mode.load() == ReplyMode::SkipNext => return context.ok(),
        b"on" => ReplyMode::On,
        b"off" => ReplyMode::Off,
        // All replies are off, also behind the next one.
        b"skip" if context.client.reply_mode.load() == ReplyMode::Off => return Ok(()),
        b"skip" => ReplyMode::SkipNext,
        _ => return Err(SYNTAX),
    };
    // The replies to earlier requests are wanted, and what EXEC has replied before.
    if context.client.reply_mode.load() == ReplyMode::On && mode != ReplyMode::On {
        context.reply.keep();
    }
    context.client.reply_mode.store(mode);
    match mode {
        ReplyMode::On => context.ok(),
        _ => Ok(()),
    }
}

/// How many filters and ids a request may have: each takes time, whatever it finds.
const MOST_FILTERS: usize = 32;
const MOST_IDS: usize = 10_000;

const TOO_MANY_IDS: Failure = fail("ERR too many client IDs (10000 at most)");

const INVALID_ID: Failure = fail("ERR Invalid client ID");

/// The clients that match the filters from this argument on.
fn filtered(
    context: &Context<'_>,
    args: Args<'_>,
    from: usize,
) -> Result<Vec<Arc<Client>>, Failure> {
    let mut found: Vec<Arc<Client>> = context.data.clients.values().cloned().collect();
    let mut skips_self = false;
    let mut at = from;
    let mut filters = 0;
    while at < args.len() {
        filters += 1;
        if filters > MOST_FILTERS {
            return Err(fail("ERR too many filters (32 at most)"));
        }
        let value = if at + 1 < args.len() {
            args.get(at + 1)
        } else {
            return Err(SYNTAX);
        };
        // No address is as long as what is shown.
        let text = shown(value);
        match args.option(at).as_slice() {
            b"id" => {
                let mut ids = HashSet::new();
                while at + 1 < args.len()
                    && let Ok(id) = integer(args.get(at + 1))
                    && (id > 0 || !args.is(1, "kill"))
                {
                    ids.insert(id as u64);
                    at += 1;
                    if ids.len() > MOST_IDS {
                        return Err(TOO_MANY_IDS);
                    }
                }
                if ids.is_empty() {
                    return Err(if args.is(1, "kill") {
                        fail("ERR client-id should be greater than 0")
                    } else {
                        INVALID_ID
                    });
                }
                found.retain(|it| ids.contains(&it.id));
                at += 1;
                continue;
            }
            b"addr" => found.retain(|it| it.addr == text),
            b"laddr" => found.retain(|it| it.local_addr == text),
            b"user" if text == "default" => {}
            b"user" => return Err(format!("ERR No such user '{text}'").into()),
            b"type" => match text.to_ascii_lowercase().as_str() {
                "normal" => found.retain(|it| it.subscription_count.load() == 0),
                "pubsub" => found.retain(|it| it.subscription_count.load() > 0),
                "master" | "replica" | "slave" => found.clear(),
                _ => return Err(format!("ERR Unknown client type '{text}'").into()),
            },
            b"skipme" => skips_self = expiry::one_of(args, at + 1, "yes", "no")?,
            _ => return Err(SYNTAX),
        }
        at += 2;
    }
    if skips_self {
        found.retain(|it| it.id != context.client.id);
    }
    Ok(found)
}

fn list(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    // CLIENT LIST takes one filter, CLIENT KILL several.
    match args.len() {
        2 => {}
        4 if args.is(2, "type") => {}
        4.. if args.is(2, "id") => {
            if args.len() - 3 > MOST_IDS {
                return Err(TOO_MANY_IDS);
            }
            if args.from(3).any(|id| integer(id).is_err()) {
                return Err(INVALID_ID);
            }
        }
        _ => return Err(SYNTAX),
    }
    let now = context.data.keyspace.now();
    let found = filtered(context, args, 2)?;
    let mut listing = Listing {
        memory: context.result_memory(),
        clients: found.into_iter(),
        now,
        resp3: context.reply.resp3,
        text: String::new(),
        output: None,
    };
    if listing.advance() == Progress::More {
        let listing = long::make_later(context, listing);
        context.reply.produce(Lines(listing));
    } else {
        context.reply.verbatim(&listing.text);
    }
    Ok(())
}

/// How many clients are described at a time.
const PART: usize = 100;

/// The lines of CLIENT LIST. Their length comes before them in the reply, so they are complete before it begins.
struct Listing {
    memory: ResultMemory,
    clients: vec::IntoIter<Arc<Client>>,
    now: i64,
    resp3: bool,
    text: String,
    /// What is still to be sent of them.
    output: Option<Bytes>,
}

impl Listing {
    /// Describes some more clients.
    fn advance(&mut self) -> Progress {
        for client in self.clients.by_ref().take(PART) {
            self.text += &client.describe(self.now);
            self.text.push('\n');
        }
        Progress::more_if(self.clients.len() > 0)
    }
}

impl LongResult for Listing {
    fn turn(&mut self) -> io::Result<Progress> {
        self.memory.note_use(self.text.capacity())?;
        if self.advance() == Progress::More {
            return Ok(Progress::More);
        }
        let mut reply = Reply {
            resp3: self.resp3,
            ..Reply::default()
        };
        reply.verbatim(&std::mem::take(&mut self.text));
        self.output = Some(reply.buffer.into());
        Ok(Progress::Complete)
    }
}

/// The reply to CLIENT LIST.
struct Lines(Arc<Mutex<Listing>>);

impl Producer for Lines {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        match &mut lock(&self.0).output {
            Some(output) => output.more(budget),
            None => Ok(More::Pending),
        }
    }
}

fn kill(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    // The form of old: CLIENT KILL addr.
    if args.len() == 3 {
        let addr = shown(args.get(2));
        let mut clients = context.data.clients.values();
        let found = clients.find(|it| it.addr == addr).cloned();
        let found = found.ok_or(fail("ERR No such client"))?;
        end(context, &found);
        return context.ok();
    }
    let has_skipme = (2..args.len()).any(|at| args.is(at, "skipme"));
    let mut found = filtered(context, args, 2)?;
    if !has_skipme {
        found.retain(|it| it.id != context.client.id);
    }
    found.iter().for_each(|it| end(context, it));
    context.reply.count(found.len());
    Ok(())
}

/// Closes a connection; one's own behind the reply. The client executes nothing more, and takes no element.
fn end(context: &mut Context<'_>, other: &Client) {
    other.closes.store(true);
    if other.id != context.client.id {
        context.data.leave(other);
        context.data.release_all(other);
        context.data.clients.remove(&other.id);
        other.post(|session| session.chat.close());
    }
}

fn unblock(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let outcome = match args.len() {
        3 => WaitOutcome::Timeout,
        4 if args.is(3, "timeout") => WaitOutcome::Timeout,
        4 if args.is(3, "error") => WaitOutcome::Error,
        4 => return Err(fail("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")),
        _ => return Err(super::too_many(args)),
    };
    let id = integer(args.get(2))?;
    let found = context.data.clients.get(&(id as u64)).cloned();
    let is_unblocked = found.is_some_and(|client| context.data.unblock(&client, outcome));
    context.reply.boolean(is_unblocked);
    Ok(())
}
