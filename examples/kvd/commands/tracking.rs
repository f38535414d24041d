//! CLIENT TRACKING and its kind, and what follows each command while a client tracks keys.

use asynchat::bytes::Bytes;

use super::clients::FLAGS;
use super::describe::key_places;
use super::{Command, Context, Outcome, SYNTAX, command, expiry, fail, flag, integer};
use crate::resp::request::Args;
use crate::server::shared::lock;
use crate::server::tracking::prefixes::overlapping;
use crate::server::tracking::{Mode, Settings, Tracker};

pub(super) const CACHING: Command = command(
    "client|caching",
    3,
    FLAGS,
    (0, 0, 0),
    "connection",
    "Instructs the server whether to track the keys in the next request.",
    caching,
);

pub(super) const GETREDIR: Command = command(
    "client|getredir",
    2,
    FLAGS,
    (0, 0, 0),
    "connection",
    "Returns the client ID to which the connection's tracking notifications are redirected.",
    |it, _| {
        let redirect = redirect(lock(&it.client.tracker).as_deref());
        it.reply.integer(redirect);
        Ok(())
    },
);

pub(super) const TRACKING: Command = command(
    "client|tracking",
    -3,
    FLAGS,
    (0, 0, 0),
    "connection",
    "Controls server-assisted client-side caching for the connection.",
    tracking,
);

pub(super) const TRACKINGINFO: Command = command(
    "client|trackinginfo",
    2,
    FLAGS,
    (0, 0, 0),
    "connection",
    "Returns information about server-assisted client-side caching for the connection.",
    trackinginfo,
);

/// What follows a request that was executed.
#[cold]
pub(super) fn follow_request(context: &mut Context<'_>, command: &Command, args: Args<'_>) {
    follow(context, command, args);
    end_choice(context, Some(command));
}

/// CLIENT CACHING is for the next request, which this was, or for the next transaction.
#[cold]
pub(super) fn end_choice(context: &Context<'_>, executed: Option<&Command>) {
    let is_client = executed.is_some_and(|it| it.name.starts_with("client|"));
    if !is_client
        && !context.client.is_in_transaction.load()
        && let Some(tracker) = &mut *lock(&context.client.tracker)
    {
        tracker.has_chosen = false;
    }
}

/// Notes the keys that a command has read, and sends invalidations of those that it has changed. Those for the client itself
/// follow the reply.
pub(super) fn follow(context: &mut Context<'_>, command: &Command, args: Args<'_>) {
    let mut keys = Vec::new();
    if command.flags & flag::READONLY != 0 && lock(&context.client.tracker).is_some() {
        let request: Vec<&[u8]> = args.from(0).collect();
        let places = key_places(command, &request).unwrap_or_default();
        keys.extend(places.into_iter().map(|at| request[at]));
    }
    let (server, client) = (context.server, context.client);
    let own = server.invalidate_behind(context.data, client, &keys);
    if client.resp3.load() {
        for invalid in own {
            let message = invalid.encode(true);
            client.deliver_behind(context.chat, &mut context.reply.behind, &message);
        }
    }
}

/// How many prefixes a client may have, and how many bytes these have together: each new one is compared with all others.
const MOST_PREFIXES: usize = 1000;
const MOST_BYTES_OF_PREFIXES: usize = 64 * 1024;

fn tracking(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let mut settings = Settings::default();
    let (mut broadcasts, mut opts_in, mut opts_out) = (false, false, false);
    let mut prefixes = Vec::new();
    let mut at = 3;
    while at < args.len() {
        let has_value = at + 1 < args.len();
        match args.option(at).as_slice() {
            b"redirect" if has_value => {
                at += 1;
                if settings.redirect.is_some() {
                    return Err(fail(
                        "ERR A client can only redirect to a single other client",
                    ));
                }
                let id = integer(args.get(at))? as u64;
                if !context.data.clients.contains_key(&id) {
                    return Err(fail(
                        "ERR The client ID you want redirect to does not exist",
                    ));
                }
                settings.redirect = Some(id);
            }
            b"prefix" if has_value => {
                at += 1;
                prefixes.push(args.get(at));
            }
            b"bcast" => broadcasts = true,
            b"optin" => opts_in = true,
            b"optout" => opts_out = true,
            b"noloop" => settings.skips_own = true,
            _ => return Err(SYNTAX),
        }
        at += 1;
    }
    let client = context.client;
    if !expiry::one_of(args, 2, "on", "off")? {
        context.data.untrack(client);
        return context.ok();
    }
    settings.mode = match (broadcasts, opts_in, opts_out) {
        (true, ..) => Mode::Broadcast,
        (_, true, _) => Mode::OptIn,
        (_, _, true) => Mode::OptOut,
        _ => Mode::Reads,
    };
    check_modes(
        lock(&client.tracker).as_deref(),
        (broadcasts, opts_in, opts_out),
        &prefixes,
    )?;
    if broadcasts && prefixes.is_empty() {
        prefixes.push(b"");
    }
    context.data.track(client, settings, &prefixes);
    context.data.limit_retained();
    context.ok()
}

/// Whether the options go together, and with what is on already.
fn check_modes(
    before: Option<&Tracker>,
    (broadcasts, opts_in, opts_out): (bool, bool, bool),
    prefixes: &[&[u8]],
) -> Outcome {
    let mode = before.map(|it| it.settings.mode);
    if !broadcasts && !prefixes.is_empty() {
        return Err(fail("ERR PREFIX option requires BCAST mode to be enabled"));
    }
    if mode.is_some_and(|it| (it == Mode::Broadcast) != broadcasts) {
        return Err(fail(
            "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it \
             with a different mode.",
        ));
    }
    if broadcasts && (opts_in || opts_out) {
        return Err(fail("ERR OPTIN and OPTOUT are not compatible with BCAST"));
    }
    if opts_in && opts_out {
        return Err(fail(
            "ERR You can't specify both OPTIN mode and OPTOUT mode",
        ));
    }
    if (opts_in && mode == Some(Mode::OptOut)) || (opts_out && mode == Some(Mode::OptIn)) {
        return Err(fail(
            "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it \
             with a different mode.",
        ));
    }
    check_prefixes(before, prefixes)
}

fn check_prefixes(before: Option<&Tracker>, prefixes: &[&[u8]]) -> Outcome {
    let own = before.map(|it| &it.prefixes).into_iter().flatten();
    let sizes = own.clone().map(Bytes::len);
    let bytes: usize = sizes.chain(prefixes.iter().map(|it| it.len())).sum();
    if own.count() + prefixes.len() > MOST_PREFIXES || bytes > MOST_BYTES_OF_PREFIXES {
        return Err(fail(
            "ERR too many prefixes (1000 at most, with 64 KB together)",
        ));
    }
    let Some((prefix, other, is_own)) = overlapping(before.map(|it| &it.prefixes), prefixes) else {
        return Ok(());
    };
    let kind = if is_own {
        "an existing prefix"
    } else {
        "another provided prefix"
    };
    let [prefix, other] = [prefix, other].map(String::from_utf8_lossy);
    Err(format!(
        "ERR Prefix '{prefix}' overlaps with {kind} '{other}'. Prefixes for a single client must not overlap."
    )
    .into())
}

fn caching(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let mut tracker = lock(&context.client.tracker);
    let Some(tracker) = &mut *tracker else {
        return Err(fail(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
        ));
    };
    match (expiry::one_of(args, 2, "yes", "no")?, tracker.settings.mode) {
        (true, Mode::OptIn) | (false, Mode::OptOut) => tracker.has_chosen = true,
        (true, _) => {
            return Err(fail(
                "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.",
            ));
        }
        (false, _) => {
            return Err(fail(
                "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.",
            ));
        }
    }
    context.reply.ok();
    Ok(())
}

/// 0 if it is not another client that gets the invalidations, and -1 without tracking.
fn redirect(tracker: Option<&Tracker>) -> i64 {
    tracker.map_or(-1, |it| it.settings.redirect.unwrap_or(0) as i64)
}

fn trackinginfo(context: &mut Context<'_>, _: Args<'_>) -> Outcome {
    let (client, reply) = (context.client, &mut *context.reply);
    let tracker = lock(&client.tracker);
    let tracker = tracker.as_deref();
    let is = |mode| tracker.is_some_and(|it| it.settings.mode == mode);
    let has_chosen = tracker.is_some_and(|it| it.has_chosen);
    let flags = [
        (tracker.is_none(), "off"),
        (tracker.is_some(), "on"),
        (is(Mode::Broadcast), "bcast"),
        (is(Mode::OptIn), "optin"),
        (is(Mode::OptIn) && has_chosen, "caching-yes"),
        (is(Mode::OptOut), "optout"),
        (is(Mode::OptOut) && has_chosen, "caching-no"),
        (tracker.is_some_and(|it| it.settings.skips_own), "noloop"),
        (
            tracker.is_some_and(|it| it.is_redirect_broken),
            "broken_redirect",
        ),
    ];
    let flags = flags.iter().filter(|(is_set, _)| *is_set);
    reply.map(3);
    reply.text("flags");
    reply.set(flags.clone().count());
    flags.for_each(|(_, flag)| reply.text(flag));
    reply.text("redirect");
    reply.integer(redirect(tracker));
    reply.text("prefixes");
    let prefixes = tracker.map(|it| &it.prefixes).into_iter().flatten();
    reply.array(prefixes.clone().count());
    prefixes.for_each(|prefix| reply.bulk(prefix));
    Ok(())
}
