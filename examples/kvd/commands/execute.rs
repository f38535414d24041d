//! From a request to its reply.

use std::borrow::Cow;

use super::{
    Command, Context, Failure, LONGEST_NAME, Outcome, fail, flag, shown, table, tracking,
    transactions, wrong_arity,
};
use crate::resp::request::Args;
use crate::server::client::Queued;
use crate::server::shared::lock;

/// The longest name of a command.
const LONGEST: usize = 32;

/// Executes a request, or queues it for EXEC, or lets it wait for the end of a pause. Returns whether that may have taken
/// long.
#[inline]
pub fn execute(context: &mut Context<'_>, args: Args<'_>) -> bool {
    let admitted = find(args).and_then(|command| {
        check(context, command, args)?;
        if context.data.pause.is_on() && context.data.pause.stops(context.client, command) {
            context.client.last_command.store(Some(command));
            context.data.postpone(context.client, context.chat);
            return Ok((command, true));
        }
        let is_queued = context.client.is_in_transaction.load() && !is_immediate(command);
        if is_queued {
            queue(context, command, args);
        }
        Ok((command, is_queued))
    });
    match admitted {
        Ok((_, true)) => false,
        Ok((command, false)) => {
            context.client.last_command.store(Some(command));
            if let Err(failure) = run(context, command, args) {
                context.reply.error(&failure.0);
            }
            if context.data.tracking.is_on() {
                tracking::follow_request(context, command, args);
            }
            may_have_taken_long(context, command, args)
        }
        Err(failure) => {
            refuse(context, args, &failure);
            tracking::end_choice(context, None);
            false
        }
    }
}

/// With more patterns than this, PUBLISH may take long.
const MANY_PATTERNS: usize = 1000;

/// With more arguments than this, every command may: the time of SADD grows with them.
const MANY_ARGUMENTS: usize = 20;

#[inline]
fn may_have_taken_long(context: &Context<'_>, command: &Command, args: Args<'_>) -> bool {
    let flags = command.flags;
    // The time of PUBLISH grows with the number of patterns, and that of SPOP with its count.
    flags & (flag::FAST | flag::SHORT) == 0
        || args.len() > MANY_ARGUMENTS
        || flags & flag::COUNTED != 0 && args.len() > 2
        || flags & flag::PUBSUB != 0 && context.data.subscribers.patterns.len() > MANY_PATTERNS
}

/// Executes a command whose request is checked.
#[inline]
pub fn run(context: &mut Context<'_>, command: &'static Command, args: Args<'_>) -> Outcome {
    let outcome = run_uncounted(context, command, args);
    let failure = outcome.as_ref().err();
    context.data.stats.note_call(command.index, failure);
    outcome
}

#[inline]
fn run_uncounted(context: &mut Context<'_>, command: &'static Command, args: Args<'_>) -> Outcome {
    if command.flags & flag::WRITE == 0 || only_reads(command, args) {
        return (command.run)(context, args);
    }
    context.server.note_write();
    context.reply.has_written = true;
    context.reply.has_taken |= command.flags & flag::TAKES != 0;
    let outcome = (command.run)(context, args);
    if context.server.is_durable() {
        context.reply.written += context.data.keyspace.take_written();
    }
    outcome
}

/// SORT without STORE has the flags of a command that writes.
fn only_reads(command: &Command, args: Args<'_>) -> bool {
    command.name == "sort" && !args.from(1).any(|arg| arg.eq_ignore_ascii_case(b"store"))
}

/// The command of a request.
#[inline]
fn find(args: Args<'_>) -> Result<&'static Command, Failure> {
    let name = args.get(0);
    let mut lower = [0; LONGEST];
    let found = lower.get_mut(..name.len()).and_then(|lower| {
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        table().get(&*lower).copied()
    });
    let Some(command) = found else {
        return Err(unknown(args));
    };
    if command.subcommands.is_empty() || args.len() < 2 {
        return Ok(command);
    }
    let wanted = args.get(1);
    let mut subcommands = command.subcommands.iter();
    let is_wanted = |sub: &&Command| {
        let name = sub.name.split('|').nth(1).unwrap_or_default();
        wanted.eq_ignore_ascii_case(name.as_bytes())
    };
    let help = wanted.eq_ignore_ascii_case(b"help").then_some(&HELP);
    subcommands.find(is_wanted).or(help).ok_or_else(|| {
        let wanted = shown(wanted);
        let name = command.name.to_ascii_uppercase();
        format!("ERR unknown subcommand '{wanted}'. Try {name} HELP.").into()
    })
}

/// HELP of every command with subcommands.
static HELP: Command = super::command(
    "help",
    2,
    flag::LOADING | flag::STALE,
    (0, 0, 0),
    "server",
    "Prints this help.",
    help,
);

fn help(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let name = args.get(0).to_ascii_lowercase();
    let subcommands = table()
        .get(name.as_slice())
        .map_or(&[][..], |it| it.subcommands);
    let name = String::from_utf8_lossy(&name).to_ascii_uppercase();
    context.reply.array(3 + 2 * subcommands.len());
    let head = format!("{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:");
    context.reply.simple(&head);
    for (sub, summary) in subcommands.iter().map(|it| (it.name, it.summary)) {
        let sub = sub.split('|').nth(1).unwrap_or_default();
        context.reply.simple(&sub.to_ascii_uppercase());
        context.reply.simple(&format!("    {summary}"));
    }
    context.reply.simple("HELP");
    context.reply.simple(&format!("    {}", HELP.summary));
    Ok(())
}

#[cold]
fn unknown(args: Args<'_>) -> Failure {
    let mut beginning = String::new();
    for arg in args.from(1) {
        if beginning.len() >= 128 {
            break;
        }
        let room = 128 - beginning.len();
        beginning += &format!("'{}' ", shown(&arg[..arg.len().min(room)]));
    }
    let name = shown(args.get(0));
    format!("ERR unknown command '{name}', with args beginning with: {beginning}").into()
}

/// Whether the client may send this now.
#[inline]
fn check(context: &Context<'_>, command: &'static Command, args: Args<'_>) -> Outcome {
    let enough = match command.arity {
        arity @ 0.. => args.len() == arity as usize,
        least => args.len() >= least.unsigned_abs() as usize,
    };
    if !enough {
        return Err(wrong_arity(&full_name(command, args)));
    }
    let client = context.client;
    if !client.is_admitted(&context.data.config) && command.flags & flag::NO_AUTH == 0 {
        return Err(fail("NOAUTH Authentication required."));
    }
    if args.has_large() {
        check_lengths(command, args)?;
    }
    if command.needs_room() {
        context.server.check_writable()?;
    }
    if client.subscription_count.load() > 0 && !client.resp3.load() && !is_for_subscribers(command)
    {
        return Err(format!(
            "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this \
             context",
            full_name(command, args)
        )
        .into());
    }
    Ok(())
}

#[cold]
fn check_lengths(command: &Command, args: Args<'_>) -> Outcome {
    let mut long = (1..args.len()).filter(|at| args.get(*at).len() > LONGEST_NAME);
    if long.all(|at| may_be_value(command, at, args.len())) {
        Ok(())
    } else {
        Err(fail(
            "ERR an argument is too long (8 MB at most, unless it is a value)",
        ))
    }
}

/// Whether this argument of a request can be a string, an element of a list, the value of a field, or a message.
fn may_be_value(command: &Command, index: usize, number: usize) -> bool {
    let (first, last, step) = command.keys;
    let last = if last < 0 { number as i32 + last } else { last };
    let is_key = first > 0
        && (first..=last)
            .step_by(step.max(1) as usize)
            .any(|at| at as usize == index);
    !is_key
        && match command.group {
            "string" | "list" => command.flags & flag::MOVABLEKEYS == 0,
            "hash" => matches!(command.name, "hset" | "hmset" | "hsetnx") && index % 2 == 1,
            "pubsub" => command.name == "publish" && index == 2,
            "connection" => matches!(command.name, "echo" | "ping"),
            _ => false,
        }
}

/// The name of a subcommand with its command. HELP is the same command for all.
fn full_name(command: &Command, args: Args<'_>) -> Cow<'static, str> {
    if std::ptr::eq(command, &raw const HELP) {
        format!(
            "{}|help",
            String::from_utf8_lossy(args.get(0)).to_lowercase()
        )
        .into()
    } else {
        command.name.into()
    }
}

/// With version 2 of the protocol, a subscriber cannot tell a reply from a message.
fn is_for_subscribers(command: &Command) -> bool {
    matches!(
        command.name,
        "subscribe" | "unsubscribe" | "psubscribe" | "punsubscribe" | "ping" | "quit" | "reset"
    )
}

/// Whether the command is executed within a transaction instead of queued.
fn is_immediate(command: &Command) -> bool {
    matches!(
        command.name,
        "exec" | "discard" | "multi" | "watch" | "quit" | "reset"
    )
}

fn queue(context: &mut Context<'_>, command: &'static Command, args: Args<'_>) {
    if let Some(transaction) = &mut *lock(&context.client.transaction) {
        let args = args.to_owned();
        transaction.size += args.size() + size_of::<Queued>();
        transaction.queued.push((command, args));
    }
    context.reply.simple("QUEUED");
}

/// Replies to a request that is neither executed nor queued, which fails its transaction.
#[cold]
fn refuse(context: &mut Context<'_>, args: Args<'_>, failure: &Failure) {
    // A browser that was led here sends a request of HTTP. The connection ends before its body, which an attacker
    // may have written, is taken for commands.
    if args.is(0, "post") || args.is(0, "host:") {
        context.client.closes.store(true);
        let (client, addr) = (context.client.id, context.client.addr.clone());
        // Logging may block, and nobody is to wait for that.
        asynchat::call_soon(move || {
            tracing::warn!(
                client,
                addr,
                "possible SECURITY ATTACK detected: POST or Host: commands from HTTP, connection closed"
            );
        });
        return;
    }
    if args.is(0, "exec") {
        transactions::discard(context);
        let failure = transactions::abort(failure);
        context.data.stats.note_error(&failure.0);
        return context.reply.error(&failure.0);
    }
    if let Some(transaction) = &mut *lock(&context.client.transaction) {
        transaction.failed = true;
    }
    context.data.stats.note_error(&failure.0);
    context.reply.error(&failure.0);
}
