//! MULTI, EXEC, DISCARD, WATCH and UNWATCH.

use super::counted::Counted;
use super::flag::{FAST, LOADING, NOSCRIPT, STALE};
use super::{Command, Context, Failure, Mode, Outcome, command, execute, fail, tracking};
use crate::resp::request::Args;
use crate::server::client::{Client, ReplyMode, Transaction, Watched};
use crate::server::shared::lock;
use crate::store::dropper;

pub(super) const TABLE: &[Command] = &[
    command(
        "discard",
        1,
        NOSCRIPT | LOADING | STALE | FAST,
        (0, 0, 0),
        "transactions",
        "Discards a transaction.",
        discard_command,
    ),
    command(
        "exec",
        1,
        NOSCRIPT | LOADING | STALE,
        (0, 0, 0),
        "transactions",
        "Executes all commands in a transaction.",
        exec,
    ),
    command(
        "multi",
        1,
        NOSCRIPT | LOADING | STALE | FAST,
        (0, 0, 0),
        "transactions",
        "Starts a transaction.",
        multi,
    ),
    command(
        "unwatch",
        1,
        NOSCRIPT | LOADING | STALE | FAST,
        (0, 0, 0),
        "transactions",
        "Forgets about watched keys of a transaction.",
        unwatch,
    ),
    command(
        "watch",
        -2,
        NOSCRIPT | LOADING | STALE | FAST,
        (1, -1, 1),
        "transactions",
        "Monitors changes to keys to determine the execution of a transaction.",
        watch,
    ),
];

fn multi(context: &mut Context<'_>, _: Args<'_>) -> Outcome {
    if context.client.is_in_transaction.swap(true) {
        return Err(fail("ERR MULTI calls can not be nested"));
    }
    lock(&context.client.transaction).replace(Box::default());
    context.ok()
}

/// Ends the transaction and the watches.
pub(super) fn discard(context: &mut Context<'_>) {
    dropper::drop_later(take(context.client));
    context.server.unwatch(context.data, context.client);
}

fn take(client: &Client) -> Option<Box<Transaction>> {
    client.is_in_transaction.store(false);
    lock(&client.transaction).take()
}

fn discard_command(context: &mut Context<'_>, _: Args<'_>) -> Outcome {
    if !context.client.is_in_transaction.load() {
        return Err(fail("ERR DISCARD without MULTI"));
    }
    discard(context);
    context.ok()
}

/// The reply of EXEC if the transaction was not even tried.
pub(super) fn abort(why: &Failure) -> Failure {
    let why = why.0.strip_prefix("ERR ").unwrap_or(&why.0);
    format!("EXECABORT Transaction discarded because of: {why}").into()
}

fn exec(context: &mut Context<'_>, _: Args<'_>) -> Outcome {
    let Some(transaction) = take(context.client) else {
        return Err(fail("ERR EXEC without MULTI"));
    };
    let is_unchanged = are_watches_intact(context);
    context.server.unwatch(context.data, context.client);
    if transaction.failed {
        return Err(fail(
            "EXECABORT Transaction discarded because of previous errors.",
        ));
    }
    let mut commands = transaction.queued.iter().map(|(command, _)| command);
    if commands.any(|command| command.needs_room())
        && let Err(failure) = context.server.check_writable()
    {
        return Err(abort(&failure));
    }
    if !is_unchanged {
        context.reply.null_array();
        return Ok(());
    }
    context.reply.array(transaction.queued.len());
    drop_unwanted(context);
    let mode = std::mem::replace(&mut context.mode, Mode::Exec);
    let mut counted = Counted::new(context);
    for (command, args) in &transaction.queued {
        if let Err(failure) = execute::run(context, command, args.args()) {
            context.reply.error(&failure.0);
        }
        drop_unwanted(context);
        if context.data.tracking.is_on() {
            tracking::follow(context, command, args.args());
        }
        counted.note(context);
    }
    context.mode = mode;
    dropper::drop_later(Some(transaction));
    Ok(())
}

fn are_watches_intact(context: &mut Context<'_>) -> bool {
    let Watched { watch, keys, .. } = &*lock(&context.client.watched);
    if keys.is_empty() || watch.is_broken() {
        return !watch.is_broken();
    }
    // Either may be many: the keys whose time is over, or those of the client. The fewer are searched.
    let keyspace = &mut context.data.keyspace;
    let are_few_due = keyspace.databases().all(|it| it.has_fewer_due(keys.len()));
    let is_broken = if are_few_due {
        keyspace.databases().any(|it| it.is_broken(watch))
    } else {
        let mut keys = keys.iter();
        keys.any(|(number, key)| keyspace.database(*number).is_due(key.as_bytes()))
    };
    !is_broken
}

/// CLIENT REPLY OFF applies to the parts of the reply of EXEC.
fn drop_unwanted(context: &mut Context<'_>) {
    if context.client.reply_mode.load() == ReplyMode::Off {
        context.reply.drop_unwanted();
    }
}

fn watch(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    if context.client.is_in_transaction.load() {
        return Err(fail("ERR WATCH inside MULTI is not allowed"));
    }
    let number = context.client.database.load();
    context
        .server
        .remove_leftovers(context.data, args.len() - 1);
    let mut added = 0;
    {
        let watched = &mut *lock(&context.client.watched);
        let database = context.data.keyspace.database(number);
        for key in args.from(1) {
            if watched.keys.insert((number, key.into())) {
                database.watch(key, &watched.watch);
                added += Watched::size_of(key);
            }
        }
        watched.size += added;
    }
    context.data.retain(context.client, added);
    context.data.limit_retained();
    context.ok()
}

fn unwatch(context: &mut Context<'_>, _: Args<'_>) -> Outcome {
    context.server.unwatch(context.data, context.client);
    context.ok()
}
