//! The server: INFO, CONFIG, TIME.

use std::sync::atomic::Ordering::Relaxed;

use super::flag::{ADMIN, DANGEROUS, FAST, LOADING, NOSCRIPT, STALE};
use super::stored::Waiter;
use super::{Command, Context, Mode, Outcome, SYNTAX, command, container, fail, pattern};
use crate::resp::reply::Reply;
use crate::resp::request::Args;
use crate::server::info::{Info, Stats, is_wanted};

pub(super) const TABLE: &[Command] = &[
    container(
        "config",
        "server",
        "A container for server configuration commands.",
        CONFIG,
    ),
    command(
        "info",
        -1,
        LOADING | STALE | DANGEROUS,
        (0, 0, 0),
        "server",
        "Returns information and statistics about the server.",
        info_command,
    ),
    command(
        "time",
        1,
        LOADING | STALE | FAST,
        (0, 0, 0),
        "server",
        "Returns the server time.",
        time,
    ),
];

const CONFIG: &[Command] = &[
    command(
        "config|get",
        -3,
        ADMIN | NOSCRIPT | LOADING | STALE,
        (0, 0, 0),
        "server",
        "Returns the effective values of configuration parameters.",
        config_get,
    ),
    command(
        "config|resetstat",
        2,
        ADMIN | NOSCRIPT | LOADING | STALE,
        (0, 0, 0),
        "server",
        "Resets the server's statistics.",
        |it, _| {
            it.data.stats = Stats::default();
            it.data.keyspace.databases().for_each(|it| it.expired = 0);
            it.server.reset_counts(it.data);
            it.ok()
        },
    ),
    command(
        "config|set",
        -4,
        ADMIN | NOSCRIPT | LOADING | STALE,
        (0, 0, 0),
        "server",
        "Sets configuration parameters in-flight.",
        config_set,
    ),
];

fn info_command(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let wanted: Vec<String> = args
        .from(1)
        .map(|it| String::from_utf8_lossy(it).to_lowercase())
        .collect();
    context.server.report(context.data);
    let resp3 = context.reply.resp3;
    let has_sums = context.data.workers.len() > 1 && is_wanted(&wanted, "stats");
    if !has_sums || context.mode != Mode::Request {
        let info = Info::new(context.server, context.data, &wanted, resp3);
        context.reply.produce(info);
        return Ok(());
    }
    let mut waiter = Waiter::begin(context);
    context.server.ask_others(context.data, move |server| {
        let mut reply = Reply::default();
        let data = &mut *server.shared.lock();
        // What it retains itself is none of the figures.
        waiter.release(data);
        reply.produce(Info::new(server, data, &wanted, resp3));
        waiter.end(reply);
    });
    Ok(())
}

fn time(context: &mut Context<'_>, _: Args<'_>) -> Outcome {
    let now = (context.server.shared.clock)();
    context.reply.array(2);
    context.reply.text(&(now / 1_000_000).to_string());
    context.reply.text(&(now % 1_000_000).to_string());
    Ok(())
}

/// Each pattern is compared with all parameters at once.
const MOST_BYTES_OF_PATTERNS: usize = 4096;

fn config_get(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let config = &context.data.config;
    let mut patterns = Vec::new();
    let mut size = 0;
    for argument in args.from(2) {
        size += 1 + argument.len();
        if size > MOST_BYTES_OF_PATTERNS {
            return Err(fail(
                "ERR the patterns are too long (4096 bytes together at most)",
            ));
        }
        patterns.push(pattern(argument)?);
    }
    let found = config.matching(&patterns);
    context.reply.map(found.len());
    for (name, value) in found {
        // A client looks for the name that it has asked for.
        let is_name = |it: &&&[u8]| it.eq_ignore_ascii_case(name.as_bytes());
        let asked = patterns.iter().find(is_name);
        context
            .reply
            .bulk(asked.copied().unwrap_or(name.as_bytes()));
        context.reply.bulk(value);
    }
    Ok(())
}

fn config_set(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    if !args.len().is_multiple_of(2) {
        return Err(SYNTAX);
    }
    let name = |at| String::from_utf8_lossy(args.get(at)).to_lowercase();
    let pairs = (2..args.len()).step_by(2);
    let pairs: Vec<(String, &[u8])> = pairs.map(|at| (name(at), args.get(at + 1))).collect();
    let outcome = context.data.config.set_all(&pairs);
    outcome.map_err(|why| format!("ERR {why}"))?;
    let config = &context.data.config;
    let limit = &context.server.shared.query_buffer;
    limit.store(config.query_buffer, Relaxed);
    context.server.shared.results.set_limit(config.results);
    context.server.shared.output_limits.store(config.output);
    let timeout = config.timeout;
    for client in context.data.clients.values() {
        client.post(move |session| session.apply_config(timeout));
    }
    context.data.limit_retained();
    context.server.schedule_invalidations(context.data);
    context.ok()
}
