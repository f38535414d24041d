//! ARTICLE, HEAD, BODY and STAT, each in three forms: by message-id, by
//! number, and the current one (RFC 3977, section 6.2).

use std::rc::Rc;

use asynchat::{CompositeProducer, Producer};

use super::super::article::Article;
use super::super::head::is_message_id;
use super::super::range::number;
use super::super::session::Session;
use super::{Outcome, Refusal, SYNTAX};

pub const NO_CURRENT: Refusal = Refusal("420 the current article number is invalid");
pub const NO_SUCH_ID: Refusal = Refusal("430 no article with that message-id");
pub const NO_SUCH_NUMBER: Refusal = Refusal("423 no article with that number");

pub fn article(session: &mut Session, arguments: &[&str]) -> Outcome {
    let (number, article) = locate(session, arguments)?;
    let (head, body) = (head_of(session, &article)?, article.body()?);
    write!(session.chat, "220 {number} {}\r\n", article.message_id);
    let parts: [Box<dyn Producer>; 3] =
        [Box::new(head), Box::new("\r\n".as_bytes()), Box::new(body)];
    session.block(CompositeProducer::new(parts));
    Ok(())
}

pub fn head(session: &mut Session, arguments: &[&str]) -> Outcome {
    let (number, article) = locate(session, arguments)?;
    let head = head_of(session, &article)?;
    write!(session.chat, "221 {number} {}\r\n", article.message_id);
    session.block(head);
    Ok(())
}

pub fn body(session: &mut Session, arguments: &[&str]) -> Outcome {
    let (number, article) = locate(session, arguments)?;
    let body = article.body()?;
    write!(session.chat, "222 {number} {}\r\n", article.message_id);
    session.block(body);
    Ok(())
}

pub fn stat(session: &mut Session, arguments: &[&str]) -> Outcome {
    let (number, article) = locate(session, arguments)?;
    write!(session.chat, "223 {number} {}\r\n", article.message_id);
    Ok(())
}

fn head_of(session: &Session, article: &Article) -> Outcome<Vec<u8>> {
    let head = article.head(&session.service.options.name)?;
    Ok(head.as_bytes().to_vec())
}

/// The article meant, and its number: 0 for one asked for by message-id, which
/// also leaves the current article as it is. Only a number moves it.
fn locate(session: &mut Session, arguments: &[&str]) -> Outcome<(u64, Rc<Article>)> {
    match arguments.first() {
        None => current(session),
        Some(id) if id.starts_with('<') => by_id(session, id),
        Some(argument) => {
            let number = number(argument).ok_or(SYNTAX)?;
            let group = session.selected()?;
            let article = group.article(number).ok_or(NO_SUCH_NUMBER)?;
            session.current = Some(number);
            Ok((number, article))
        }
    }
}

pub fn by_id(session: &Session, id: &str) -> Outcome<(u64, Rc<Article>)> {
    if !is_message_id(id.as_bytes()) {
        return Err(SYNTAX);
    }
    let article = session.service.spool().article(id).ok_or(NO_SUCH_ID)?;
    Ok((0, article))
}

pub fn current(session: &Session) -> Outcome<(u64, Rc<Article>)> {
    let group = session.selected()?;
    let number = session.current.ok_or(NO_CURRENT)?;
    let article = group.article(number).ok_or(NO_CURRENT)?;
    Ok((number, article))
}
