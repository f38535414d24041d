//! ARTICLE, HEAD, BODY and STAT. The argument is a message-id, a number, or missing
//! for the current article (RFC 3977, section 6.2).

use std::io;
use std::rc::Rc;

use asynchat::{CompositeProducer, DotStuffer, More, Producer};

use super::super::Service;
use super::super::article::Article;
use super::super::head::is_message_id;
use super::super::range::number;
use super::super::session::Session;
use super::{Outcome, Refusal, SYNTAX};

pub const NO_CURRENT: Refusal = Refusal("420 the current article number is invalid");
pub const NO_SUCH_ID: Refusal = Refusal("430 no article with that message-id");
pub const NO_SUCH_NUMBER: Refusal = Refusal("423 no article with that number");

pub fn article(session: &mut Session, arguments: &[&str]) -> Outcome {
    send(session, arguments, "220", |article, server| {
        let parts: [Box<dyn Producer>; 3] = [
            Box::new(article.head(server)?.into_bytes()),
            Box::new("\r\n".as_bytes()),
            Box::new(article.body()?),
        ];
        Ok(Box::new(CompositeProducer::new(parts)))
    })
}

pub fn head(session: &mut Session, arguments: &[&str]) -> Outcome {
    send(session, arguments, "221", |article, server| {
        Ok(Box::new(article.head(server)?.into_bytes()))
    })
}

pub fn body(session: &mut Session, arguments: &[&str]) -> Outcome {
    send(session, arguments, "222", |article, _| {
        Ok(Box::new(article.body()?))
    })
}

fn send(session: &mut Session, arguments: &[&str], code: &'static str, open: Open) -> Outcome {
    let (number, article) = locate(session, arguments)?;
    session.chat.push_with_producer(Reply::Queued {
        service: Rc::clone(&session.service),
        code,
        number,
        article,
        open,
    });
    Ok(())
}

/// Opens the text of an article or a part of it. The second argument is the server's name.
type Open = fn(&Article, &str) -> io::Result<Box<dyn Producer>>;

/// The reply to ARTICLE, HEAD or BODY. It opens the text when it is first called, not when the command
/// is read. A client may pipeline thousands of commands, and each text may be an open file.
enum Reply {
    Queued {
        service: Rc<Service>,
        code: &'static str,
        number: u64,
        article: Rc<Article>,
        open: Open,
    },
    Open(DotStuffer<Box<dyn Producer>>),
    Ended,
}

/// The first chunk has at least this size if the text is long enough.
const FIRST_CHUNK: usize = 4 * 1024;

impl Producer for Reply {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        let (service, code, number, article, open) = match self {
            Reply::Ended => return Ok(More::Done),
            Reply::Open(text) => return text.more(budget),
            Reply::Queued {
                service,
                code,
                number,
                article,
                open,
            } => (service, code, number, article, open),
        };
        let mut text = match open(article, &service.options.name) {
            Ok(text) => DotStuffer::new(text),
            Err(error) => {
                *self = Reply::Ended;
                return Ok(More::Chunk(
                    format!("{}\r\n", Refusal::from(error).0).into(),
                ));
            }
        };
        let mut reply = format!("{code} {number} {}\r\n", article.message_id).into_bytes();
        while reply.len() < FIRST_CHUNK.min(budget) {
            match text.more(budget - reply.len())? {
                More::Chunk(chunk) if !chunk.is_empty() => reply.extend_from_slice(&chunk),
                More::Chunk(_) | More::Pending => break,
                More::Done => {
                    *self = Reply::Ended;
                    return Ok(More::Chunk(reply.into()));
                }
            }
        }
        *self = Reply::Open(text);
        Ok(More::Chunk(reply.into()))
    }
}

pub fn stat(session: &mut Session, arguments: &[&str]) -> Outcome {
    let (number, article) = locate(session, arguments)?;
    write!(session.chat, "223 {number} {}\r\n", article.message_id);
    Ok(())
}

/// The article that the argument selects, and its number, which is 0 with a
/// message-id. Only a number as argument changes the current article.
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
