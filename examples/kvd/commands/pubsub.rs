//! Publish and subscribe.

use asynchat::bytes::Bytes;

use super::flag::{FAST, LOADING, NOSCRIPT, PUBSUB, STALE};
use super::unsubscribing::{Ending, execute_in_parts};
use super::{Command, Context, Mode, Outcome, command, container};
use crate::resp::request::Args;
use crate::server::client::ReplyMode;
use crate::server::pubsub::{Counts, Kind};
use crate::store::glob;

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

fn publish(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let count = match context.client.subscription_count.load() {
        0 => {
            let count = context.server.publish(context.data, args);
            context.server.deliver_many(context.data);
            count
        }
        _ => publish_to_itself(context, args),
    };
    context.reply.count(count);
    Ok(())
}

/// A client that is itself a subscriber gets its earlier replies before the message, but the message is not an element
/// of the reply of EXEC.
fn publish_to_itself(context: &mut Context<'_>, args: Args<'_>) -> usize {
    let (server, own, reply) = (context.server, context.client.id, &mut *context.reply);
    let is_in_exec = context.mode == Mode::Exec;
    server.deliver();
    if !is_in_exec {
        server.push(context.client, context.chat, reply);
    }
    let count = server.publish(context.data, args);
    server.deliver_with(
        &mut |client, chat, message| match is_in_exec && client.id == own {
            true => reply.behind.push(message),
            false => client.deliver(chat, message),
        },
    );
    count
}

fn subscribe(context: &mut Context<'_>, args: Args<'_>, kind: Kind) -> Outcome {
    let (client, chat) = (context.client, context.chat);
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

fn channels(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    if args.len() > 3 {
        return Err(super::too_many(args));
    }
    let pattern = if args.len() == 3 { args.get(2) } else { b"*" };
    let subscribers = &context.data.subscribers;
    let found: Vec<&Bytes> = subscribers
        .channels
        .keys()
        .filter(|name| glob::matches(pattern, name))
        .collect();
    context.reply.array(found.len());
    found.iter().for_each(|name| context.reply.bulk(name));
    Ok(())
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
