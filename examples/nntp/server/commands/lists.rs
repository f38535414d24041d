//! The LIST family (RFC 3977, section 7.6; RFC 6048), and what is new: NEWGROUPS
//! and NEWNEWS (sections 7.3 and 7.4).

use std::collections::HashSet;
use std::rc::Rc;

use asynchat::LinesProducer;

use super::super::date;
use super::super::range::Range;
use super::super::session::Session;
use super::super::spool::Group;
use super::super::wildmat::Wildmat;
use super::overview::FORMAT;
use super::{Outcome, Refusal, SYNTAX};

pub fn list(session: &mut Session, arguments: &[&str]) -> Outcome {
    let keyword = arguments.first().copied().unwrap_or("ACTIVE");
    let argument = arguments.get(1).copied();
    match keyword.to_ascii_uppercase().as_str() {
        "ACTIVE" => by_group(session, argument, |g| {
            format!("{} {} {} {}", g.name, g.high(), g.low(), g.status())
        }),
        "ACTIVE.TIMES" => by_group(session, argument, |g| {
            format!("{} {} asynchat", g.name, g.created)
        }),
        "COUNTS" => by_group(session, argument, |g| {
            let (high, low, count) = (g.high(), g.low(), g.count());
            format!("{} {high} {low} {count} {}", g.name, g.status())
        }),
        "NEWSGROUPS" => by_group(session, argument, |g| {
            format!("{}\t{}", g.name, g.description)
        }),
        // Every group is worth a new reader's while. And slrn 1.0.3 hangs up
        // and comes back when it is answered 503 here.
        "SUBSCRIPTIONS" => by_group(session, argument, |g| g.name.clone()),
        "OVERVIEW.FMT" => no_argument(argument).map(|()| {
            session.reply("215 order of fields in the overview follows");
            session.block(LinesProducer::new(FORMAT));
        }),
        "HEADERS" => match argument.map(str::to_ascii_uppercase).as_deref() {
            None | Some("MSGID" | "RANGE") => {
                session.reply("215 fields that HDR knows follow");
                // A lone colon is "any header field" (section 8.6.2).
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

/// NEWGROUPS date time [GMT]. Without GMT the time is the server's own, which
/// is UTC here.
pub fn newgroups(session: &mut Session, arguments: &[&str]) -> Outcome {
    let since = since(arguments)?;
    let groups = groups(session, |group| group.created >= since);
    session.reply("231 list of new newsgroups follows");
    session.block(LinesProducer::new(groups.into_iter().map(|g| {
        format!("{} {} {} {}", g.name, g.high(), g.low(), g.status())
    })));
    Ok(())
}

pub fn newnews(session: &mut Session, arguments: &[&str]) -> Outcome {
    let wildmat = Wildmat::parse(arguments[0]).ok_or(SYNTAX)?;
    let since = since(&arguments[1..])?;
    let groups = groups(session, |group| wildmat.matches(&group.name));
    session.reply("230 list of new articles follows");
    let all = Range {
        low: 1,
        high: u64::MAX,
    };
    let mut told = HashSet::new();
    let new = groups
        .into_iter()
        .flat_map(move |group| group.range(all))
        .filter(move |(_, article)| article.arrived >= since)
        // One posted to two groups is one article.
        .filter(move |(_, article)| told.insert(Rc::as_ptr(article)))
        .map(|(_, article)| article.message_id.clone());
    session.block(LinesProducer::new(new));
    Ok(())
}

/// A line for each group that the wildmat matches, or for all.
fn by_group(session: &Session, wildmat: Option<&str>, line: fn(&Group) -> String) -> Outcome {
    let wildmat = match wildmat {
        Some(text) => Some(Wildmat::parse(text).ok_or(SYNTAX)?),
        None => None,
    };
    let groups = groups(session, |group| {
        wildmat.as_ref().is_none_or(|w| w.matches(&group.name))
    });
    session.reply("215 list follows");
    session.block(LinesProducer::new(
        groups.into_iter().map(move |group| line(&group)),
    ));
    Ok(())
}

fn groups(session: &Session, wanted: impl Fn(&Group) -> bool) -> Vec<Rc<Group>> {
    let spool = session.service.spool();
    spool.groups().filter(|g| wanted(g)).cloned().collect()
}

fn no_argument(argument: Option<&str>) -> Outcome {
    argument.map_or(Ok(()), |_| Err(SYNTAX))
}

/// `date time [GMT]`.
fn since(arguments: &[&str]) -> Outcome<i64> {
    let gmt = arguments.get(2);
    if gmt.is_some_and(|word| !word.eq_ignore_ascii_case("GMT")) {
        return Err(SYNTAX);
    }
    date::parse(arguments[0], arguments[1], date::now()).ok_or(SYNTAX)
}
