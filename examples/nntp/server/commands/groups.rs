//! Commands that select a group or the current article: GROUP, LISTGROUP, LAST and
//! NEXT (RFC 3977, section 6.1).

use std::rc::Rc;

use super::super::article::Article;
use super::super::range::Range;
use super::super::session::Session;
use super::super::spool::Group;
use super::rows::{Rows, of_articles};
use super::{Outcome, Refusal, SYNTAX};

pub fn group(session: &mut Session, arguments: &[&str]) -> Outcome {
    let group = find(session, arguments[0])?;
    let Group { name, .. } = &*group;
    let (count, low, high) = (group.count(), group.low(), group.high());
    write!(session.chat, "211 {count} {low} {high} {name}\r\n");
    select(session, group);
    Ok(())
}

pub fn listgroup(session: &mut Session, arguments: &[&str]) -> Outcome {
    let range = match arguments.get(1) {
        Some(range) => Range::parse(range).ok_or(SYNTAX)?,
        None => Range {
            low: 1,
            high: u64::MAX,
        },
    };
    let group = match arguments.first() {
        Some(name) => find(session, name)?,
        None => session.selected()?,
    };
    let Group { name, .. } = &*group;
    let (count, low, high) = (group.count(), group.low(), group.high());
    write!(
        session.chat,
        "211 {count} {low} {high} {name} list follows\r\n"
    );
    let articles = Rc::clone(&group).range(range);
    let numbers = of_articles(articles, |row, number, _| {
        row.extend_from_slice(number.to_string().as_bytes());
        1
    });
    session.chat.push_with_producer(Rows::new(numbers));
    // The current article becomes the first of the group, not of the range: section 6.1.2.2.
    select(session, group);
    Ok(())
}

pub fn last(session: &mut Session, _: &[&str]) -> Outcome {
    step(session, "422 no previous article in this group", |g, n| {
        g.before(n)
    })
}

pub fn next(session: &mut Session, _: &[&str]) -> Outcome {
    step(session, "421 no next article in this group", |g, n| {
        g.at_or_after(n + 1)
    })
}

fn step(
    session: &mut Session,
    none: &'static str,
    neighbour: impl FnOnce(&Group, u64) -> Option<(u64, Rc<Article>)>,
) -> Outcome {
    let group = session.selected()?;
    let current = session.current.ok_or(super::articles::NO_CURRENT)?;
    let (number, article) = neighbour(&group, current).ok_or(Refusal(none))?;
    session.current = Some(number);
    write!(session.chat, "223 {number} {}\r\n", article.message_id);
    Ok(())
}

fn find(session: &Session, name: &str) -> Outcome<Rc<Group>> {
    let group = session.service.spool().group(name);
    group.ok_or(Refusal("411 no such newsgroup"))
}

fn select(session: &mut Session, group: Rc<Group>) {
    session.current = group.at_or_after(0).map(|(number, _)| number);
    session.group = Some(group);
}
