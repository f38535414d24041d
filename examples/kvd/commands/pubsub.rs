//! Publish and subscribe.

use std::collections::BTreeMap;
use std::rc::Rc;

use asynchat::bytes::Bytes;

use super::flag::{FAST, LOADING, NOSCRIPT, PUBSUB, STALE};
use super::{Command, Context, Mode, Outcome, command, container, fail};
use crate::resp::request::Args;
use crate::server::client::Client;
use crate::server::pubsub::unsubscribe;
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
        |it, args| subscribe(it, args, PATTERN),
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
        |it, args| end(it, args, PATTERN),
    ),
    command(
        "subscribe",
        -2,
        FLAGS,
        (0, 0, 0),
        "pubsub",
        "Listens for messages published to channels.",
        |it, args| subscribe(it, args, CHANNEL),
    ),
    command(
        "unsubscribe",
        -1,
        FLAGS,
        (0, 0, 0),
        "pubsub",
        "Stops listening to messages posted to channels.",
        |it, args| end(it, args, CHANNEL),
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
            let count = it.server.pubsub.borrow().patterns.len();
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

/// What is subscribed to.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Kind {
    subscribe: &'static [u8],
    unsubscribe: &'static [u8],
    is_pattern: bool,
}

const CHANNEL: Kind = Kind {
    subscribe: b"subscribe",
    unsubscribe: b"unsubscribe",
    is_pattern: false,
};

const PATTERN: Kind = Kind {
    subscribe: b"psubscribe",
    unsubscribe: b"punsubscribe",
    is_pattern: true,
};

fn publish(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    // A client that is itself a subscriber gets its earlier replies before the message, but the message is not an
    // element of the reply of EXEC.
    let is_own = context.client.subscription_count() > 0;
    if is_own && context.mode != Mode::Exec {
        context.server.push(context.client, context.reply);
    }
    let (own, behind) = (context.client.id, &mut context.reply.behind);
    let is_in_exec = context.mode == Mode::Exec;
    let deliver = |client: &Client, message| match is_in_exec && client.id == own {
        true => behind.push(message),
        false => client.deliver(message),
    };
    let pubsub = context.server.pubsub.borrow();
    let count = pubsub.publish(args.get(1), args.get(2), deliver);
    context.reply.count(count);
    Ok(())
}

fn subscribe(context: &mut Context<'_>, args: Args<'_>, kind: Kind) -> Outcome {
    for name in args.from(1) {
        add(context, Bytes::copy_from_slice(name), kind);
        confirm(context, kind.subscribe, Some(name));
    }
    context.server.apply_timeout(context.client);
    Ok(())
}

fn add(context: &Context<'_>, name: Bytes, kind: Kind) {
    let mut pubsub = context.server.pubsub.borrow_mut();
    let mut own = context.client.subscriptions.borrow_mut();
    let own = own.get_or_insert_default();
    let (all, own) = match kind.is_pattern {
        true => (&mut pubsub.patterns, &mut own.patterns),
        false => (&mut pubsub.channels, &mut own.channels),
    };
    if own.insert(name.clone()) {
        let client = Rc::clone(context.client);
        all.entry(name)
            .or_default()
            .insert(client.chat.id(), client);
    }
}

fn end(context: &mut Context<'_>, args: Args<'_>, kind: Kind) -> Outcome {
    let client = context.client;
    let names: Vec<Bytes> = match args.len() {
        1 => subscribed(client, kind),
        _ => args.from(1).map(Bytes::copy_from_slice).collect(),
    };
    if names.is_empty() {
        confirm(context, kind.unsubscribe, None);
    }
    for name in names {
        let mut pubsub = context.server.pubsub.borrow_mut();
        let all = match kind.is_pattern {
            true => &mut pubsub.patterns,
            false => &mut pubsub.channels,
        };
        unsubscribe(all, &name, client);
        if let Some(own) = &mut *client.subscriptions.borrow_mut() {
            match kind.is_pattern {
                true => own.patterns.remove(&name),
                false => own.channels.remove(&name),
            };
        }
        drop(pubsub);
        confirm(context, kind.unsubscribe, Some(&name));
    }
    if client.subscription_count() == 0 {
        client.subscriptions.take();
        context.server.apply_timeout(client);
    }
    Ok(())
}

fn subscribed(client: &Client, kind: Kind) -> Vec<Bytes> {
    match &*client.subscriptions.borrow() {
        None => Vec::new(),
        Some(own) if kind.is_pattern => own.patterns.iter().cloned().collect(),
        Some(own) => own.channels.iter().cloned().collect(),
    }
}

fn confirm(context: &mut Context<'_>, what: &[u8], name: Option<&[u8]>) {
    let count = context.client.subscription_count();
    context.reply.push(3);
    context.reply.bulk(what);
    context.reply.optional(name);
    context.reply.count(count);
}

fn channels(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    if args.len() > 3 {
        return Err(fail(
            "ERR wrong number of arguments for 'pubsub|channels' command",
        ));
    }
    let pattern = if args.len() == 3 { args.get(2) } else { b"*" };
    let pubsub = context.server.pubsub.borrow();
    let found: Vec<&Bytes> = pubsub
        .channels
        .keys()
        .filter(|name| glob::matches(pattern, name))
        .collect();
    context.reply.array(found.len());
    found.iter().for_each(|name| context.reply.bulk(name));
    Ok(())
}

fn numsub(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let pubsub = context.server.pubsub.borrow();
    context.reply.array(2 * (args.len() - 2));
    for name in args.from(2) {
        context.reply.bulk(name);
        context
            .reply
            .count(pubsub.channels.get(name).map_or(0, BTreeMap::len));
    }
    Ok(())
}
