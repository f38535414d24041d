//! POST and IHAVE (RFC 3977, section 6.3): an article comes in, is looked at,
//! and is kept. Nothing here waits: the disk's answer comes back as a visit.

use std::io::{self, Read, Seek};
use std::rc::Rc;

use tempfile::SpooledTempFile;
use tracing::debug;

use super::super::admission::{Admitted, Origin, admit};
use super::super::article::{Memory, Size};
use super::super::complaint::Complaint;
use super::super::date::now;
use super::super::head::{Head, is_article_id, is_message_id};
use super::super::incoming::{Fault, Incoming};
use super::super::session::Session;
use super::super::spool::{Group, OVERHEAD};
use super::super::store::Job;
use super::{Outcome, Refusal, SYNTAX};

pub fn post(session: &mut Session, _: &[&str]) -> Outcome {
    if !session.may_post() {
        return Err(Refusal("440 posting not permitted"));
    }
    if !has_room(session, OVERHEAD) || !store_has_room_for_any(session) {
        return Err(Refusal("440 no room for more posts"));
    }
    session.reply("340 send the article, and a line with a dot");
    let transfer = Transfer::new(session, Command::Post);
    session.receive(transfer);
    Ok(())
}

pub fn ihave(session: &mut Session, arguments: &[&str]) -> Outcome {
    let id = arguments[0];
    if !is_message_id(id.as_bytes()) {
        return Err(SYNTAX);
    }
    if !session.may_post() {
        return Err(Refusal("435 no articles wanted"));
    }
    if !is_article_id(id.as_bytes()) {
        return Err(Refusal("435 no article has such a message-id"));
    }
    {
        let spool = session.service.spool();
        if spool.article(id).is_some() {
            return Err(Refusal("435 that article is here already"));
        }
        if spool.expects(id) {
            return Err(Refusal("436 that article is on its way, try again later"));
        }
    }
    if !has_room(session, OVERHEAD) || !store_has_room_for_any(session) {
        return Err(Refusal("436 no room for more articles"));
    }
    session.reply("335 send the article, and a line with a dot");
    let transfer = Transfer::new(session, Command::Ihave(id.to_owned()));
    session.receive(transfer);
    Ok(())
}

/// An article on its way in, and the command that it came by.
pub struct Transfer {
    incoming: Incoming,
    command: Command,
}

enum Command {
    Post,
    Ihave(String),
}

/// The response codes of the two commands.
#[derive(Clone, Copy)]
struct Codes {
    kept: u16,
    /// Not this article, now or later.
    refused: u16,
    /// Our fault: try again.
    failed: u16,
}

impl Command {
    fn codes(&self) -> Codes {
        match self {
            Command::Post => Codes {
                kept: 240,
                refused: 441,
                failed: 441,
            },
            Command::Ihave(_) => Codes {
                kept: 235,
                refused: 437,
                failed: 436,
            },
        }
    }
}

impl Transfer {
    fn new(session: &Session, command: Command) -> Transfer {
        let incoming = Incoming::new(session.service.options.max_article);
        Transfer { incoming, command }
    }

    pub fn collect(&mut self, chunk: &[u8]) {
        self.incoming.collect(chunk);
    }

    /// The article has ended: keep it or say why not.
    pub fn end(self, session: &mut Session) {
        let codes = self.command.codes();
        let (head, body, size) = match self.incoming.finish() {
            Ok(parts) => parts,
            Err(Fault::Article(why)) => return refuse(session, codes, why),
            Err(Fault::Storage(error)) => return fail(session, codes, &error),
        };
        let origin = match &self.command {
            Command::Post => Origin::Reader {
                fresh_id: fresh_id(&session.service.options.name),
            },
            Command::Ihave(id) => Origin::Peer { offered: id },
        };
        let name = &session.service.options.name;
        let admitted = admit(&head, origin, &session.service.spool(), name);
        match admitted {
            Ok(admitted) => keep(session, codes, admitted, body, size),
            Err(why) => refuse(session, codes, why),
        }
    }
}

/// Keeps the article: in memory at once, or in the store, whose answer comes
/// back through `Remote::post_to`. Until then this connection is neither read
/// nor parsed, so the replies to what it sent after the article stay in order.
fn keep(
    session: &mut Session,
    codes: Codes,
    admitted: Admitted,
    body: SpooledTempFile,
    size: Size,
) {
    let Admitted {
        message_id,
        head,
        groups,
    } = admitted;
    let octets = octets(&head, size, &groups);
    if !has_room(session, octets) || !store_has_room(session, head.as_bytes().len(), size.bytes) {
        debug!(message_id, octets, "no room");
        write!(session.chat, "{} no room for more posts\r\n", codes.failed);
        return;
    }
    debug!(message_id, bytes = size.bytes, "article received");
    let mut spool = session.service.spool();
    let numbers = spool.reserve(&message_id, &groups, octets);
    let Some(store) = &session.service.options.store else {
        match read_all(body, size) {
            Ok(body) => {
                spool.file(Memory::new(head, body).article(now()), &numbers);
                drop(spool);
                kept(session, codes);
            }
            Err(error) => {
                spool.forget(&message_id);
                drop(spool);
                fail(session, codes, &error);
            }
        }
        return;
    };

    session.storing = true;
    session.chat.pause_reading();
    let remote = session.service.remote.clone();
    let id = session.chat.id();
    store.submit(Job {
        message_id,
        head,
        body,
        size,
        arrived: now(),
        numbers,
        answer: Box::new(move |durable| {
            let visit = move |session: &mut Session| {
                session.storing = false;
                session.chat.resume_reading();
                match durable {
                    true => kept(session, codes),
                    false => fail(session, codes, &io::Error::other("the store failed")),
                }
                session.leave_if_due();
                Ok(())
            };
            if remote.post_to(id, visit).is_err() {
                debug!("an article was kept while the server went down");
            }
        }),
    });
}

fn kept(session: &Session, codes: Codes) {
    write!(session.chat, "{} article received\r\n", codes.kept);
}

fn refuse(session: &Session, codes: Codes, why: &str) {
    debug!(why, "article refused");
    write!(session.chat, "{} {why}\r\n", codes.refused);
}

fn fail(session: &Session, codes: Codes, error: &io::Error) {
    static LOST: Complaint = Complaint::new("article lost");
    LOST.tell(error);
    write!(
        session.chat,
        "{} the article could not be kept, try again later\r\n",
        codes.failed
    );
}

/// What is set aside for a post: its text, the fields of its overview, and its
/// places. The text is counted on its way to the store too, and no longer there.
fn octets(head: &Head, body: Size, groups: &[Rc<Group>]) -> u64 {
    2 * head.as_bytes().len() as u64 + body.bytes + OVERHEAD * groups.len() as u64
}

/// Nobody who posts is known, and none of the posts is ever dropped: there has to
/// be an end to what they take.
fn has_room(session: &Session, octets: u64) -> bool {
    let taken = session.service.spool().posts();
    taken.saturating_add(octets) <= session.service.options.max_spool
}

/// Whether the store, if there is one, has room for any article that may be sent. To be asked
/// before it is sent, and answered with 440 or 436: 441 is a response to an article (RFC 3977,
/// section 6.3.1.1), and a client that has been sent 340 has no other way back than to send it.
fn store_has_room_for_any(session: &Session) -> bool {
    store_has_room(session, 0, session.service.options.max_article as u64)
}

fn store_has_room(session: &Session, head: usize, body: u64) -> bool {
    let store = session.service.options.store.as_ref();
    store.is_none_or(|store| store.has_room(head, body))
}

fn read_all(mut file: SpooledTempFile, size: Size) -> io::Result<Vec<u8>> {
    // Room to grow that was not used would be kept with the article.
    let mut text = Vec::with_capacity(size.bytes as usize);
    file.rewind()?;
    file.read_to_end(&mut text)?;
    Ok(text)
}

/// A Message-ID that no article had, also before a restart.
fn fresh_id(server: &str) -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static MADE: AtomicU64 = AtomicU64::new(0);
    let made = MADE.fetch_add(1, Ordering::Relaxed);
    let time = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default()
        .as_nanos();
    format!("<{time:x}.{made:x}@{server}>")
}
