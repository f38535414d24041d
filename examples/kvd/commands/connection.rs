//! The connection: PING, HELLO, AUTH, SELECT, RESET, QUIT.

use super::flag::{FAST, LOADING, NO_AUTH, NOSCRIPT, STALE};
use super::unsubscribing::{Ending, execute_in_parts};
use super::{
    Command, Context, Failure, Outcome, REDIS_VERSION, SYNTAX, clients, command, container, fail,
    keys, shown, transactions, wrong_arity,
};
use crate::resp::arg::Arg;
use crate::resp::request::Args;
use crate::server::client::ReplyMode;
use crate::server::progress::Progress;
use crate::server::pubsub::Kind;

pub(super) const TABLE: &[Command] = &[
    command(
        "auth",
        -2,
        NOSCRIPT | LOADING | STALE | FAST | NO_AUTH,
        (0, 0, 0),
        "connection",
        "Authenticates the connection.",
        auth,
    ),
    container(
        "client",
        "connection",
        "A container for client connection commands.",
        clients::SUBCOMMANDS,
    ),
    command(
        "echo",
        2,
        LOADING | STALE | FAST,
        (0, 0, 0),
        "connection",
        "Returns the given string.",
        |it, args| {
            it.reply.arg(args.arg(1));
            Ok(())
        },
    ),
    command(
        "hello",
        -1,
        NOSCRIPT | LOADING | STALE | FAST | NO_AUTH,
        (0, 0, 0),
        "connection",
        "Handshakes with the Redis server.",
        hello,
    ),
    command(
        "ping",
        -1,
        FAST,
        (0, 0, 0),
        "connection",
        "Returns the server's liveliness response.",
        ping,
    ),
    command(
        "quit",
        -1,
        NOSCRIPT | LOADING | STALE | FAST | NO_AUTH,
        (0, 0, 0),
        "connection",
        "Closes the connection.",
        quit,
    ),
    command(
        "reset",
        1,
        NOSCRIPT | LOADING | STALE | FAST | NO_AUTH,
        (0, 0, 0),
        "connection",
        "Resets the connection.",
        reset,
    ),
    command(
        "select",
        2,
        LOADING | STALE | FAST,
        (0, 0, 0),
        "connection",
        "Changes the selected database.",
        select,
    ),
];

fn ping(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    if args.len() > 2 {
        return Err(wrong_arity("ping"));
    }
    let message = (args.len() == 2).then(|| args.arg(1));
    if context.client.subscription_count.load() > 0 && !context.reply.resp3 {
        context.reply.array(2);
        context.reply.bulk(b"pong");
        context.reply.arg(message.unwrap_or(Arg::InInput(b"")));
        return Ok(());
    }
    match message {
        Some(message) => context.reply.arg(message),
        None => context.reply.simple("PONG"),
    }
    Ok(())
}

fn quit(context: &mut Context<'_>, _: Args<'_>) -> Outcome {
    context.client.closes.store(true);
    context.ok()
}

fn select(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let number = keys::database(args.get(1))?;
    context.client.database.store(number);
    context.ok()
}

const WRONG_PASSWORD: Failure =
    fail("WRONGPASS invalid username-password pair or user is disabled.");

fn auth(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let (user, password) = match args.len() {
        2 if context.data.config.password.is_empty() => {
            return Err(fail(
                "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
                 configuration is correct?",
            ));
        }
        2 => (&b"default"[..], args.get(1)),
        3 => (args.get(1), args.get(2)),
        _ => return Err(SYNTAX),
    };
    log_in(context, user, password)?;
    context.ok()
}

fn log_in(context: &Context<'_>, user: &[u8], password: &[u8]) -> Outcome {
    let wanted = &context.data.config.password;
    // The time does not depend on how much of the password is right.
    let is_right = wanted.is_empty()
        || (wanted.len() == password.len()
            && wanted
                .iter()
                .zip(password)
                .fold(0, |all, (a, b)| all | (a ^ b))
                == 0);
    if user != b"default" || !is_right {
        return Err(WRONG_PASSWORD);
    }
    context.client.authenticated.store(true);
    Ok(())
}

fn hello(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let mut version = if context.client.resp3.load() { 3 } else { 2 };
    if args.len() > 1 {
        version = crate::store::number::integer(args.get(1)).ok_or(fail(
            "ERR Protocol version is not an integer or out of range",
        ))?;
        if !(2..=3).contains(&version) {
            return Err(fail("NOPROTO unsupported protocol version"));
        }
    }
    // As in Redis, what comes before an option that is wrong has its effect.
    let mut at = 2;
    while at < args.len() {
        let left = args.len() - at - 1;
        match () {
            () if args.is(at, "auth") && left >= 2 => {
                log_in(context, args.get(at + 1), args.get(at + 2))?;
                at += 3;
            }
            () if args.is(at, "setname") && left >= 1 => {
                clients::set_name(context, args.get(at + 1))?;
                at += 2;
            }
            () => {
                let option = shown(args.get(at));
                return Err(format!("ERR Syntax error in HELLO option '{option}'").into());
            }
        }
    }
    if !context.client.is_admitted(&context.data.config) {
        return Err(fail(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH \
             <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the \
             same time",
        ));
    }
    context.client.resp3.store(version == 3);
    let reply = &mut *context.reply;
    reply.resp3 = version == 3;
    reply.map(7);
    for (field, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
        reply.text(field);
        reply.text(value);
    }
    reply.text("proto");
    reply.integer(version);
    reply.text("id");
    reply.integer(context.client.id as i64);
    for (field, value) in [("mode", "standalone"), ("role", "master")] {
        reply.text(field);
        reply.text(value);
    }
    reply.text("modules");
    reply.array(0);
    Ok(())
}

fn reset(context: &mut Context<'_>, _: Args<'_>) -> Outcome {
    let client = context.client;
    transactions::discard(context);
    client.database.store(0);
    clients::set_name(context, b"")?;
    context.data.protect(client, false);
    client.no_touch.store(false);
    context.data.untrack(client);
    // CLIENT REPLY SKIP is about this reply, too.
    let is_wanted = client.reply_mode.load() != ReplyMode::Skip;
    if client.reply_mode.load() == ReplyMode::Off {
        client.reply_mode.store(ReplyMode::On);
    }
    let is_open = context.data.config.password.is_empty();
    client.authenticated.store(is_open);
    let mut endings = [Kind::Channel, Kind::Pattern].map(|kind| Ending::new(kind, None, false));
    execute_in_parts(context, move |context| {
        let mut endings = endings.iter_mut();
        let is_complete = endings.all(|it| it.advance(context) == Progress::Complete);
        if is_complete {
            context.client.resp3.store(false);
            context.reply.resp3 = false;
            if is_wanted {
                context.reply.simple("RESET");
            }
        }
        Progress::more_if(!is_complete)
    });
    Ok(())
}
