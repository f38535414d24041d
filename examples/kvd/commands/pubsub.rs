//! Publish and subscribe.

use std::io;

use asynchat::bytes::Bytes;

use super::flag::{FAST, LOADING, NOSCRIPT, PUBSUB, STALE};
use super::long::Snapshot;
use super::stored::Waiter;
use super::unsubscribing::{Ending, execute_in_parts};
use super::{Command, Context, Mode, Outcome, command, container, fail, long, pattern};
use crate::resp::reply::Reply;
use crate::resp::request::Args;
use crate::server::Server;
use crate::server::client::ReplyMode;
use crate::server::progress::Progress;
use crate::server::pubsub::{Counts, Kind, PatternSearch};
use crate::server::results::ResultMemory;
use crate::store::dropper::Droppable;

const FLAGS: u32 = PUBSUB | NOSCRIPT | LOADING | STALE;

pub(super) const TABLE: &[Command] = &[
    command(
        "psubscribe",
        -2,
        FLAGS,
        (0, 0, 0),
        "pubsub",
        "Listens for messages published to channels that match one or more patterns.",
        |it, args| subscribe(it, args, Kind::Pattern),
    ),
    command(
        "publish",
        3,
        PUBSUB | LOADING | STALE | FAST,
        (0, 0, 0),
        "pubsub",
        "Posts a message to a channel.",
        publish,
    ),
    container(
        "pubsub",
        "pubsub",
        "A container for Pub/Sub commands.",
        INTROSPECTION,
    ),
    command(
        "punsubscribe",
        -1,
        FLAGS,
        (0, 0, 0),
        "pubsub",
        "Stops listening to messages published to channels that match one or more patterns.",
        |it, args| unsubscribe(it, args, Kind::Pattern),
    ),
    command(
        "subscribe",
        -2,
        FLAGS,
        (0, 0, 0),
        "pubsub",
        "Listens for messages published to channels.",
        |it, args| subscribe(it, args, Kind::Channel),
    ),
    command(
        "unsubscribe",
        -1,
        FLAGS,
        (0, 0, 0),
        "pubsub",
        "Stops listening to messages posted to channels.",
        |it, args| unsubscribe(it, args, Kind::Channel),
    ),
];

const INTROSPECTION: &[Command] = &[
    command(
        "pubsub|channels",
        -2,
        PUBSUB | LOADING | STALE,
        (0, 0, 0),
        "pubsub",
        "Returns the active channels.",
        channels,
    ),
    command(
        "pubsub|numpat",
        2,
        PUBSUB | LOADING | STALE,
        (0, 0, 0),
        "pubsub",
        "Returns a count of unique pattern subscriptions.",
        |it, _| {
            let count = it.data.subscribers.patterns.len();
            it.reply.count(count);
            Ok(())
        },
    ),
    command(
        "pubsub|numsub",
        -2,
        PUBSUB | LOADING | STALE,
        (0, 0, 0),
        "pubsub",
        "Returns a count of subscribers to channels.",
        numsub,
    ),
];

/// The longest name of a channel. The time of a comparison with a pattern grows with it.
const LONGEST_NAME: usize = 64 * 1024;

fn check_name(name: &[u8]) -> Outcome {
    if name.len() <= LONGEST_NAME {
        Ok(())
    } else {
        Err(fail(
            "ERR the name of the channel is too long (64 KB at most)",
        ))
    }
}

fn publish(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    check_name(args.get(1))?;
    if context.data.subscribers.is_empty() {
        context.reply.count(0);
        return Ok(());
    }
    let mut search = PatternSearch::new(args.bytes(1), &context.data.subscribers);
    search.compare();
    while search.advance(&context.data.subscribers) == Progress::More {
        if context.mode == Mode::Request {
            publish_later(context, search, args.bytes(2));
            return Ok(());
        }
        search.compare();
    }
    let count = match context.client.subscription_count.load() {
        0 => {
            let content = || args.bytes(2);
            let count = context.server.publish(context.data, search, content);
            context.server.deliver_many(context.data);
            count
        }
        _ => publish_to_itself(context, search, args),
    };
    context.reply.count(count);
    Ok(())
}

/// Compares the channel with the other patterns while the client waits and others are served. Who subscribes meanwhile may
/// get the message.
fn publish_later(context: &mut Context<'_>, search: PatternSearch, content: Bytes) {
    let mut publication = Some(Publication {
        waiter: Waiter::begin(context),
        search,
        content,
    });
    context.server.add_task(move |server| {
        let mut current = publication.take()?;
        if current.waiter.has_left() {
            current.waiter.end(Reply::default());
            return None;
        }
        publication = current.turn(server);
        Some(Progress::more_if(publication.is_some()))
    });
}

struct Publication {
    waiter: Waiter,
    search: PatternSearch,
    content: Bytes,
}

impl Publication {
    /// Returns itself if there are more patterns.
    fn turn(mut self, server: &Server) -> Option<Publication> {
        self.search.compare();
        let mut locked = server.shared.lock();
        if self.waiter.has_left() {
            drop(locked);
            self.waiter.end(Reply::default());
            return None;
        }
        if self.search.advance(&locked.subscribers) == Progress::More {
            return Some(self);
        }
        let content = self.content;
        let count = server.publish(&mut locked, self.search, || content);
        drop(locked);
        server.deliver();
        let mut reply = Reply::default();
        reply.count(count);
        self.waiter.end(reply);
        None
    }
}

/// A client that is itself a subscriber gets its earlier replies before the message, but the message is not an element
/// of the reply of EXEC.
fn publish_to_itself(context: &mut Context<'_>, search: PatternSearch, args: Args<'_>) -> usize {
    let (server, own, reply) = (context.server, context.client.id, &mut *context.reply);
    let is_in_exec = context.mode == Mode::Exec;
    server.deliver();
    if !is_in_exec {
        server.push(context.client, context.chat, reply);
    }
    let count = server.publish(context.data, search, || args.bytes(2));
    server.deliver_with(&mut |client, chat, message| {
        if is_in_exec && client.id == own {
            client.deliver_behind(chat, &mut reply.behind, message);
        } else {
            client.deliver(chat, message);
        }
    });
    count
}

fn subscribe(context: &mut Context<'_>, args: Args<'_>, kind: Kind) -> Outcome {
    let (client, chat) = (context.client, context.chat);
    for name in args.from(1) {
        match kind {
            Kind::Channel => check_name(name)?,
            Kind::Pattern => {
                pattern(name)?;
            }
        }
    }
    let name_of_event = match kind {
        Kind::Channel => b"subscribe".as_slice(),
        Kind::Pattern => b"psubscribe",
    };
    context
        .server
        .remove_leftovers(context.data, args.len() - 1);
    for name in args.from(1) {
        context
            .server
            .subscribe(context.data, client, chat, kind, name);
        confirm(context, name_of_event, Some(name));
    }
    client.apply_timeout(chat, context.data.config.timeout);
    context.data.limit_retained();
    Ok(())
}

fn unsubscribe(context: &mut Context<'_>, args: Args<'_>, kind: Kind) -> Outcome {
    let names = args.from(1).map(Bytes::copy_from_slice).collect();
    let names = (args.len() > 1).then_some(names);
    let mut ending = Ending::new(kind, names, true);
    execute_in_parts(context, move |context| ending.advance(context));
    Ok(())
}

pub(super) fn confirm(context: &mut Context<'_>, what: &[u8], name: Option<&[u8]>) {
    let count = context.client.subscription_count.load();
    // A confirmation is a message. CLIENT REPLY does not suppress it.
    let is_kept = context.client.reply_mode.load() != ReplyMode::On;
    context.reply.push(3);
    context.reply.bulk(what);
    context.reply.optional(name);
    context.reply.count(count);
    if is_kept {
        context.reply.keep();
    }
}

/// What an allocation has beside its bytes, about.
const ALLOCATION: usize = 40;

fn channels(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    if args.len() > 3 {
        return Err(super::too_many(args));
    }
    let pattern = match args.len() {
        3 => pattern(args.get(2))?,
        _ => b"*",
    };
    let pattern = Bytes::copy_from_slice(pattern);
    let (mut last, mut found) = (None, Some(Channels::new(context)));
    execute_in_parts(context, move |context| {
        let Some(channels) = &mut found else {
            return Progress::Complete;
        };
        let (subscribers, Names(names)) = (&context.data.subscribers, &mut *channels.names);
        last = subscribers.find_channels(&pattern, last.as_ref(), names);
        if let Err(why) = channels.note_use() {
            let client = context.client;
            client.closes.store(true);
            client.post(move |session| session.end_with(&why));
            return Progress::Complete;
        }
        if last.is_none()
            && let Some(channels) = found.take()
        {
            channels.reply(context.reply);
        }
        Progress::more_if(last.is_some())
    });
    Ok(())
}

/// The names of channels for a reply, and their memory. Their subscribers may have left.
struct Channels {
    names: Snapshot<Names>,
    memory: ResultMemory,
    /// How many of the names are counted, and their bytes.
    counted: usize,
    bytes: usize,
}

#[derive(Default)]
struct Names(Vec<Bytes>);

impl Droppable for Names {
    fn is_long(&self) -> bool {
        self.0.len() > long::MANY
    }
}

impl Channels {
    fn new(context: &Context<'_>) -> Channels {
        Channels {
            names: Snapshot::default(),
            memory: context.result_memory(),
            counted: 0,
            bytes: 0,
        }
    }

    /// A name is an allocation of its own.
    fn note_use(&mut self) -> io::Result<()> {
        let Names(names) = &*self.names;
        let new = names.iter().skip(self.counted);
        self.bytes += new.map(|name| ALLOCATION + name.len()).sum::<usize>();
        self.counted = names.len();
        let size = self.bytes + names.capacity() * size_of::<Bytes>();
        self.memory.note_use(size)
    }

    fn reply(mut self, reply: &mut Reply) {
        let Names(names) = &*self.names;
        reply.array(names.len());
        if !long::are_many(names.len(), names.iter().map(Bytes::len)) {
            return names.iter().for_each(|name| reply.bulk(name));
        }
        let mut next = 0;
        long::reply_parts(reply, move |reply, budget| {
            while long::has_room(reply, budget)
                && let Some(name) = self.names.0.0.get(next)
            {
                reply.bulk(name);
                next += 1;
            }
            self.note_use()
        });
    }
}

fn numsub(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let subscribers = &context.data.subscribers;
    context.reply.array(2 * (args.len() - 2));
    for name in args.from(2) {
        context.reply.bulk(name);
        context
            .reply
            .count(subscribers.channels.get(name).map_or(0, Counts::total));
    }
    Ok(())
}
