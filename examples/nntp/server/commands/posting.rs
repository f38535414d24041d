//! POST and IHAVE (RFC 3977, section 6.3): receive an article, check it and store
//! it. Nothing here blocks: the store's thread posts its result to the session.

use std::io::{self, Read, Seek};
use std::rc::Rc;

use tempfile::SpooledTempFile;
use tracing::debug;

use super::super::admission::{Admitted, Origin, admit};
use super::super::article::{Memory, Size};
use super::super::date::now;
use super::super::head::{Head, is_article_id, is_message_id};
use super::super::incoming::{Fault, Incoming};
use super::super::session::Session;
use super::super::spool::{Group, OVERHEAD};
use super::super::store::{Job, OnDone};
use super::super::throttled_warning::ThrottledWarning;
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
        if spool.is_pending(id) {
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

/// An article that is being received, and the command that announced it.
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
    stored: u16,
    /// The article is bad. The client should not try again.
    refused: u16,
    /// The server failed. The client should try again.
    failed: u16,
}

impl Command {
    fn codes(&self) -> Codes {
        match self {
            Command::Post => Codes {
                stored: 240,
                refused: 441,
                failed: 441,
            },
            Command::Ihave(_) => Codes {
                stored: 235,
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

    /// Ends the transfer: stores the article, or replies with the reason for not
    /// storing it.
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
            Ok(admitted) => store(session, codes, admitted, body, size),
            Err(why) => refuse(session, codes, why),
        }
    }
}

/// Stores the article: in memory at once, or in the store, which reports its result
/// through `Remote::post_to`. Until then this connection is neither read nor
/// parsed, so that the replies to later commands stay in order.
fn store(
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
                send_stored(session, codes);
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
        on_done: OnDone::new(move |durable| {
            let reply = move |session: &mut Session| {
                session.storing = false;
                session.chat.resume_reading();
                if durable {
                    send_stored(session, codes);
                } else {
                    fail(session, codes, &io::Error::other("the store failed"));
                }
                session.end_if_shutting_down();
                Ok(())
            };
            if remote.post_to(id, reply).is_err() {
                debug!("the session ended before its article was stored");
            }
        }),
    });
}

fn send_stored(session: &Session, codes: Codes) {
    write!(session.chat, "{} article received\r\n", codes.stored);
}

fn refuse(session: &Session, codes: Codes, why: &str) {
    debug!(why, "article refused");
    write!(session.chat, "{} {why}\r\n", codes.refused);
}

fn fail(session: &Session, codes: Codes, error: &io::Error) {
    static NOT_STORED: ThrottledWarning = ThrottledWarning::new("cannot store an article");
    NOT_STORED.log(error);
    write!(
        session.chat,
        "{} the article could not be kept, try again later\r\n",
        codes.failed
    );
}

/// The octets that are reserved for a post: its text, its overview fields, and its
/// entries in the groups. With a store, the text counts until it has been written.
fn octets(head: &Head, body: Size, groups: &[Rc<Group>]) -> u64 {
    2 * head.as_bytes().len() as u64 + body.bytes + OVERHEAD * groups.len() as u64
}

/// Whether posts may use this many more octets of memory. Posts need a limit, because
/// anyone may post and no post is ever deleted.
fn has_room(session: &Session, octets: u64) -> bool {
    let used = session.service.spool().post_octets();
    used.saturating_add(octets) <= session.service.options.max_spool
}

/// Whether the store, if there is one, has room for an article of the maximum length. POST and IHAVE check
/// this before the client sends the article, and refuse with 440 or 436. After 340 the client must send
/// the article, and only then may the server reply 441 (RFC 3977, section 6.3.1.1).
fn store_has_room_for_any(session: &Session) -> bool {
    store_has_room(session, 0, session.service.options.max_article as u64)
}

fn store_has_room(session: &Session, head: usize, body: u64) -> bool {
    let store = session.service.options.store.as_ref();
    store.is_none_or(|store| store.has_room(head, body))
}

fn read_all(mut file: SpooledTempFile, size: Size) -> io::Result<Vec<u8>> {
    // The exact capacity, because unused capacity would remain allocated with the article.
    let mut text = Vec::with_capacity(size.bytes as usize);
    file.rewind()?;
    file.read_to_end(&mut text)?;
    Ok(text)
}

/// A Message-ID that no article has had, including before a restart.
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
