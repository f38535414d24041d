//! The connection: PING, HELLO, AUTH, SELECT, CLIENT, RESET, QUIT.

use std::rc::Rc;

use super::flag::{ADMIN, FAST, LOADING, NO_AUTH, NOSCRIPT, STALE};
use super::{Command, Context, Failure, Outcome, REDIS_VERSION, SYNTAX, command, container, expiry, fail, integer, keys, transactions, wrong_arity};
use crate::resp::request::Args;
use crate::server::client::{Client, ReplyMode};
use crate::server::waiting::Outcome as WaitOutcome;

pub(super) const TABLE: &[Command] = &[
    command("auth", -2, NOSCRIPT | LOADING | STALE | FAST | NO_AUTH, (0, 0, 0), "connection", "Authenticates the connection.", auth),
    container("client", "connection", "A container for client connection commands.", CLIENT),
    command("echo", 2, LOADING | STALE | FAST, (0, 0, 0), "connection", "Returns the given string.", |it, args| {
        it.reply.bulk(args.get(1));
        Ok(())
    }),
    command("hello", -1, NOSCRIPT | LOADING | STALE | FAST | NO_AUTH, (0, 0, 0), "connection", "Handshakes with the Redis server.", hello),
    command("ping", -1, FAST, (0, 0, 0), "connection", "Returns the server's liveliness response.", ping),
    command("quit", -1, NOSCRIPT | LOADING | STALE | FAST | NO_AUTH, (0, 0, 0), "connection", "Closes the connection.", quit),
    command("reset", 1, NOSCRIPT | LOADING | STALE | FAST | NO_AUTH, (0, 0, 0), "connection", "Resets the connection.", reset),
    command("select", 2, LOADING | STALE | FAST, (0, 0, 0), "connection", "Changes the selected database.", select),
];

const FLAGS: u32 = NOSCRIPT | LOADING | STALE;

const CLIENT: &[Command] = &[
    command("client|getname", 2, FLAGS, (0, 0, 0), "connection", "Returns the name of the connection.", getname),
    command("client|id", 2, FLAGS, (0, 0, 0), "connection", "Returns the unique client ID of the connection.", |it, _| {
        it.reply.integer(it.client.id as i64);
        Ok(())
    }),
    command("client|info", 2, FLAGS, (0, 0, 0), "connection", "Returns information about the connection.", |it, _| {
        let line = it.client.describe(it.keyspace.now());
        it.reply.verbatim(&(line + "\n"));
        Ok(())
    }),
    command("client|kill", -3, FLAGS | ADMIN, (0, 0, 0), "connection", "Terminates open connections.", kill),
    command("client|list", -2, FLAGS | ADMIN, (0, 0, 0), "connection", "Lists open connections.", list),
    command("client|no-evict", 3, FLAGS | ADMIN, (0, 0, 0), "connection", "Sets the client eviction mode of the connection.", |it, args| {
        expiry::one_of(args, 2, "on", "off")?;
        it.ok()
    }),
    command("client|reply", 3, FLAGS, (0, 0, 0), "connection", "Instructs the server whether to reply to commands.", reply_mode),
    command("client|setinfo", 4, FLAGS, (0, 0, 0), "connection", "Sets information specific to the client or connection.", setinfo),
    command("client|setname", 3, FLAGS, (0, 0, 0), "connection", "Sets the connection name.", |it, args| {
        set_name(it, args.get(2))?;
        it.ok()
    }),
    command("client|unblock", -3, FLAGS | ADMIN, (0, 0, 0), "connection", "Unblocks a client blocked by a blocking command from a different connection.", unblock),
];

fn ping(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    if args.len() > 2 {
        return Err(wrong_arity(&TABLE[4]));
    }
    let message = (args.len() == 2).then(|| args.get(1));
    if context.client.subscription_count() > 0 && !context.reply.resp3 {
        context.reply.array(2);
        context.reply.bulk(b"pong");
        context.reply.bulk(message.unwrap_or_default());
        return Ok(());
    }
    match message {
        Some(message) => context.reply.bulk(message),
        None => context.reply.simple("PONG"),
    }
    Ok(())
}

fn quit(context: &mut Context<'_>, _: Args<'_>) -> Outcome {
    context.client.closes.set(true);
    context.ok()
}

fn select(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let number = keys::database(args.get(1))?;
    context.client.database.set(number);
    context.ok()
}

const WRONG_PASSWORD: Failure = fail("WRONGPASS invalid username-password pair or user is disabled.");

fn auth(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let (user, password) = match args.len() {
        2 if context.server.config.borrow().password.is_empty() => {
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
    let config = context.server.config.borrow();
    let wanted = config.password.as_bytes();
    // The time does not depend on how much of the password is right.
    let is_right = wanted.is_empty()
        || (wanted.len() == password.len()
            && wanted.iter().zip(password).fold(0, |all, (a, b)| all | (a ^ b)) == 0);
    if user != b"default" || !is_right {
        return Err(WRONG_PASSWORD);
    }
    context.client.authenticated.set(true);
    Ok(())
}

fn hello(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let mut version = if context.client.resp3.get() { 3 } else { 2 };
    if args.len() > 1 {
        version = crate::store::number::integer(args.get(1))
            .ok_or(fail("ERR Protocol version is not an integer or out of range"))?;
        if !(2..=3).contains(&version) {
            return Err(fail("NOPROTO unsupported protocol version"));
        }
    }
    let (mut login, mut name) = (None, None);
    let mut at = 2;
    while at < args.len() {
        let left = args.len() - at - 1;
        match () {
            () if args.is(at, "auth") && left >= 2 => {
                login = Some((args.get(at + 1), args.get(at + 2)));
                at += 3;
            }
            () if args.is(at, "setname") && left >= 1 => {
                name = Some(args.get(at + 1));
                at += 2;
            }
            () => {
                let option = String::from_utf8_lossy(args.get(at));
                return Err(format!("ERR Syntax error in HELLO option '{option}'").into());
            }
        }
    }
    if let Some((user, password)) = login {
        log_in(context, user, password)?;
    }
    if !context.client.authenticated.get() {
        return Err(fail(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH \
             <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the \
             same time",
        ));
    }
    if let Some(name) = name {
        set_name(context, name)?;
    }
    context.client.resp3.set(version == 3);
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
    let (server, client) = (context.server, context.client);
    transactions::discard(context);
    server.pubsub.borrow_mut().remove(client);
    client.resp3.set(false);
    context.reply.resp3 = false;
    client.database.set(0);
    client.name.replace("".into());
    client.reply_mode.set(ReplyMode::On);
    client.authenticated.set(server.config.borrow().password.is_empty());
    context.reply.simple("RESET");
    Ok(())
}

fn set_name(context: &Context<'_>, name: &[u8]) -> Outcome {
    // The lines of CLIENT LIST have fields with spaces in between.
    if !name.iter().all(u8::is_ascii_graphic) {
        return Err(fail("ERR Client names cannot contain spaces, newlines or special characters."));
    }
    context.client.name.replace(String::from_utf8_lossy(name).into());
    Ok(())
}

fn getname(context: &mut Context<'_>, _: Args<'_>) -> Outcome {
    let name = context.client.name.borrow();
    match name.is_empty() {
        true => context.reply.null(),
        false => context.reply.text(&name),
    }
    Ok(())
}

/// Since Redis 7.2. Clients send it to any server.
fn setinfo(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let value: Box<str> = String::from_utf8_lossy(args.get(3)).into();
    if !value.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(fail("ERR lib-name or lib-ver cannot contain spaces, newlines or special characters."));
    }
    let mut library = context.client.library.borrow_mut();
    match expiry::one_of(args, 2, "lib-name", "lib-ver") {
        Ok(true) => library.0 = value,
        Ok(false) => library.1 = value,
        Err(_) => {
            let option = String::from_utf8_lossy(args.get(2));
            return Err(format!("ERR Unrecognized option '{option}'").into());
        }
    }
    drop(library);
    context.ok()
}

fn reply_mode(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let mode = match args.get(2).to_ascii_lowercase().as_slice() {
        b"on" => ReplyMode::On,
        b"off" => ReplyMode::Off,
        b"skip" => ReplyMode::SkipNext,
        _ => return Err(SYNTAX),
    };
    // The replies to earlier requests are wanted.
    if context.client.reply_mode.get() == ReplyMode::On {
        context.server.push(context.client, context.reply);
    }
    context.client.reply_mode.set(mode);
    match mode {
        ReplyMode::On => context.ok(),
        _ => Ok(()),
    }
}

/// The clients that match the filters from this argument on.
fn filtered(context: &Context<'_>, args: Args<'_>, from: usize) -> Result<Vec<Rc<Client>>, Failure> {
    let clients = context.server.clients.borrow();
    let mut found: Vec<Rc<Client>> = clients.values().cloned().collect();
    let mut skips_self = false;
    let mut at = from;
    while at < args.len() {
        let value = if at + 1 < args.len() { args.get(at + 1) } else { return Err(SYNTAX) };
        let text = String::from_utf8_lossy(value).into_owned();
        match args.get(at).to_ascii_lowercase().as_slice() {
            b"id" => {
                let mut ids = Vec::new();
                while at + 1 < args.len()
                    && let Ok(id) = integer(args.get(at + 1))
                {
                    ids.push(id as u64);
                    at += 1;
                }
                if ids.is_empty() {
                    return Err(match args.is(1, "kill") {
                        true => fail("ERR client-id should be greater than 0"),
                        false => fail("ERR Invalid client ID"),
                    });
                }
                found.retain(|it| ids.contains(&it.id));
                at += 1;
                continue;
            }
            b"addr" => found.retain(|it| it.addr == text),
            b"laddr" => found.retain(|it| it.local_addr == text),
            b"user" => found.retain(|_| text == "default"),
            b"type" => match text.to_ascii_lowercase().as_str() {
                "normal" => found.retain(|it| it.subscription_count() == 0),
                "pubsub" => found.retain(|it| it.subscription_count() > 0),
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
    let now = context.keyspace.now();
    let found = filtered(context, args, 2)?;
    let lines: String = found.iter().map(|it| it.describe(now) + "\n").collect();
    context.reply.verbatim(&lines);
    Ok(())
}

fn kill(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    // The form of old: CLIENT KILL addr.
    if args.len() == 3 {
        let addr = String::from_utf8_lossy(args.get(2)).into_owned();
        let clients = context.server.clients.borrow();
        let found = clients.values().find(|it| it.addr == addr).cloned();
        drop(clients);
        let found = found.ok_or(fail("ERR No such client"))?;
        end(context.client, &found);
        return context.ok();
    }
    let has_skipme = (3..args.len()).any(|at| args.is(at, "skipme"));
    let mut found = filtered(context, args, 2)?;
    if !has_skipme {
        found.retain(|it| it.id != context.client.id);
    }
    found.iter().for_each(|it| end(context.client, it));
    context.reply.count(found.len());
    Ok(())
}

/// Closes a connection; one's own behind the reply.
fn end(this: &Client, other: &Client) {
    match this.id == other.id {
        true => this.closes.set(true),
        false => other.chat.close(),
    }
}

fn unblock(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let outcome = match args.len() {
        3 => WaitOutcome::Timeout,
        4 if args.is(3, "timeout") => WaitOutcome::Timeout,
        4 if args.is(3, "error") => WaitOutcome::Error,
        4 => return Err(fail("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")),
        _ => return Err(SYNTAX),
    };
    let id = integer(args.get(2))?;
    let found = context.server.clients.borrow().get(&(id as u64)).cloned();
    let is_unblocked = found.is_some_and(|client| context.server.unblock_in(&client, context.keyspace, outcome));
    context.reply.boolean(is_unblocked);
    Ok(())
}
