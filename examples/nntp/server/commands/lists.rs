//! The LIST family (RFC 3977, section 7.6; RFC 6048), NEWGROUPS and NEWNEWS
//! (sections 7.3 and 7.4).

use std::collections::HashSet;
use std::io::Write as _;
use std::rc::Rc;

use asynchat::LinesProducer;

use super::super::Service;
use super::super::date;
use super::super::session::Session;
use super::super::spool::Group;
use super::super::wildmat::Wildmat;
use super::overview::FORMAT;
use super::rows::Rows;
use super::{Outcome, Refusal, SYNTAX};

pub fn list(session: &mut Session, arguments: &[&str]) -> Outcome {
    let keyword = arguments.first().copied().unwrap_or("ACTIVE");
    let argument = arguments.get(1).copied();
    match keyword.to_ascii_uppercase().as_str() {
        "ACTIVE" => by_group(session, argument, write_active),
        "ACTIVE.TIMES" => by_group(session, argument, |row, g| {
            let _ = write!(row, "{} {} asynchat", g.name, g.created);
        }),
        "COUNTS" => by_group(session, argument, |row, g| {
            let (high, low, count) = (g.high(), g.low(), g.count());
            let _ = write!(row, "{} {high} {low} {count} {}", g.name, g.status());
        }),
        "NEWSGROUPS" => by_group(session, argument, |row, g| {
            let _ = write!(row, "{}\t{}", g.name, g.description);
        }),
        // All groups are recommended. A 503 here makes slrn 1.0.3 disconnect and
        // reconnect.
        "SUBSCRIPTIONS" => by_group(session, argument, |row, g| {
            row.extend_from_slice(g.name.as_bytes());
        }),
        "OVERVIEW.FMT" => no_argument(argument).map(|()| {
            session.reply("215 order of fields in the overview follows");
            session.block(LinesProducer::new(FORMAT));
        }),
        "HEADERS" => match argument.map(str::to_ascii_uppercase).as_deref() {
            None | Some("MSGID" | "RANGE") => {
                session.reply("215 fields that HDR knows follow");
                // A single colon means any header field (section 8.6.2).
                session.block(LinesProducer::new([":", ":bytes", ":lines"]));
                Ok(())
            }
            Some(_) => Err(SYNTAX),
        },
        "DISTRIB.PATS" | "DISTRIBUTIONS" | "MODERATORS" | "MOTD" => {
            Err(Refusal("503 this server keeps no such list"))
        }
        _ => Err(SYNTAX),
    }
}

/// NEWGROUPS date time [GMT]. Without GMT the time is in the server's time zone,
/// which is UTC here.
pub fn newgroups(session: &mut Session, arguments: &[&str]) -> Outcome {
    let since = since(arguments)?;
    session.reply("231 list of new newsgroups follows");
    push_groups(session, None, move |row, group| {
        if group.created >= since {
            write_active(row, group);
        }
    });
    Ok(())
}

pub fn newnews(session: &mut Session, arguments: &[&str]) -> Outcome {
    let wildmat = Wildmat::parse(arguments[0]).ok_or(SYNTAX)?;
    let since = since(&arguments[1..])?;
    session.reply("230 list of new articles follows");
    let mut groups = Groups::new(session);
    let mut listed = HashSet::new();
    let mut open: Option<(Rc<Group>, u64)> = None;
    let step = move |row: &mut Vec<u8>| {
        let Some((group, number)) = &mut open else {
            let group = groups.next()?;
            let cost = match_cost(&wildmat, &group);
            if wildmat.matches(&group.name) {
                listed.insert(group.name.clone());
                let first = group.first_since(since);
                open = Some((group, first));
            }
            return Some(cost);
        };
        let Some((found, article)) = group.at_or_after(*number) else {
            open = None;
            return Some(1);
        };
        *number = found + 1;
        // An article in several listed groups is listed with the first of them only.
        let before = |name: &str| name < group.name.as_str() && listed.contains(name);
        if article.arrived >= since && !article.is_in_any(before) {
            row.extend_from_slice(article.message_id.as_bytes());
        }
        Some(1 + article.locations_size() / 32)
    };
    session.chat.push_with_producer(Rows::new(step));
    Ok(())
}

/// Replies with a line for each group that the wildmat matches, or for all groups.
fn by_group(session: &Session, wildmat: Option<&str>, write: fn(&mut Vec<u8>, &Group)) -> Outcome {
    let wildmat = match wildmat {
        Some(text) => Some(Wildmat::parse(text).ok_or(SYNTAX)?),
        None => None,
    };
    session.reply("215 list follows");
    push_groups(session, wildmat, write);
    Ok(())
}

fn push_groups(
    session: &Session,
    wildmat: Option<Wildmat>,
    write: impl Fn(&mut Vec<u8>, &Group) + 'static,
) {
    let mut groups = Groups::new(session);
    session
        .chat
        .push_with_producer(Rows::new(move |row: &mut Vec<u8>| {
            let group = groups.next()?;
            if wildmat.as_ref().is_none_or(|w| w.matches(&group.name)) {
                write(row, &group);
            }
            Some(
                wildmat
                    .as_ref()
                    .map_or(GROUP_COST, |w| match_cost(w, &group)),
            )
        }));
}

/// All groups, sorted by name. Each is looked up when the iterator reaches it.
struct Groups {
    service: Rc<Service>,
    /// The name of the last group; empty at the beginning.
    last: String,
}

impl Groups {
    fn new(session: &Session) -> Groups {
        Groups {
            service: Rc::clone(&session.service),
            last: String::new(),
        }
    }
}

impl Iterator for Groups {
    type Item = Rc<Group>;

    fn next(&mut self) -> Option<Rc<Group>> {
        let group = self.service.spool().group_after(&self.last)?;
        self.last.clone_from(&group.name);
        Some(group)
    }
}

/// The cost of looking up a group and writing its line, in the units of [`Rows`].
const GROUP_COST: usize = 4;

/// [`GROUP_COST`] plus the cost of matching the group's name.
fn match_cost(wildmat: &Wildmat, group: &Group) -> usize {
    GROUP_COST + wildmat.comparisons(&group.name) / 64
}

fn write_active(row: &mut Vec<u8>, group: &Group) {
    let (name, high, low, status) = (&group.name, group.high(), group.low(), group.status());
    // Writing to memory does not fail.
    let _ = write!(row, "{name} {high} {low} {status}");
}

fn no_argument(argument: Option<&str>) -> Outcome {
    argument.map_or(Ok(()), |_| Err(SYNTAX))
}

/// Parses `date time [GMT]`.
fn since(arguments: &[&str]) -> Outcome<i64> {
    let gmt = arguments.get(2);
    if gmt.is_some_and(|word| !word.eq_ignore_ascii_case("GMT")) {
        return Err(SYNTAX);
    }
    date::parse(arguments[0], arguments[1], date::now()).ok_or(SYNTAX)
}
