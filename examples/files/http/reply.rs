//! Replies: what they have, and how they are sent.

use std::cell::Cell;
use std::fmt::Display;
use std::fs::File;
use std::io;
use std::rc::Rc;

use asynchat::{Chat, ChunkedProducer, HookedProducer, More, Producer, ReadProducer};

use super::{Service, events};
use crate::digits::decimal;
use crate::failure::Logged;
use crate::http1::{Rejected, Version, status};
use crate::linger;
use crate::names::Names;
use crate::status::{Connection, Record};
use crate::tree::InUse;

/// What a session has to know of a request when it replies.
pub struct Exchange {
    pub is_head: bool,
    pub version: Version,
    /// Whether another request may follow.
    pub keep_alive: bool,
    /// Whether the client sends nothing more (it has said so, and this request has no body) and all earlier replies are
    /// complete.
    pub client_is_done: bool,
    /// Whether pages of other sites must not load the reply, as an image or a script.
    pub is_private: bool,
    pub record: Record,
}

pub struct Reply {
    pub status: u16,
    fields: Vec<u8>,
    content: Content,
}

pub enum Content {
    /// Such a reply has no Content-Length: 304, or 204.
    None,
    Bytes(Vec<u8>),
    /// So many bytes from the file's position, and the path.
    File(File, u64, Names),
    /// Of unknown length.
    Made(Box<dyn Producer>),
    /// The events of the status page, until the connection ends.
    Events,
}

impl Reply {
    pub fn new(status: u16, content: Content) -> Reply {
        Reply {
            status,
            fields: Vec::with_capacity(256),
            content,
        }
    }

    /// A reply for people: its status and a reason.
    pub fn text(status: u16, why: impl Display) -> Reply {
        let reason = status::reason(status);
        let text = format!("{status} {reason}: {why}\n");
        let reply = Reply::new(status, Content::Bytes(text.into_bytes()));
        reply.field("Content-Type", "text/plain; charset=utf-8")
    }

    /// To a client that has its share of the files that may be open, which is none if others have them all.
    pub fn too_many_files() -> Reply {
        Reply::text(503, "no more files may be open for your address now")
            .field("Retry-After", "10")
    }

    /// Whether a file or a folder is open while the reply is sent.
    fn reads_file(&self) -> bool {
        matches!(self.content, Content::File(..) | Content::Made(_))
    }

    /// The length of the content, if it is known before it is sent.
    fn length(&self) -> Option<u64> {
        match &self.content {
            Content::Bytes(bytes) => Some(bytes.len() as u64),
            Content::File(_, length, _) => Some(*length),
            Content::None | Content::Made(_) | Content::Events => None,
        }
    }

    pub fn field(mut self, name: &str, value: impl AsRef<str>) -> Reply {
        for part in [name, ": ", value.as_ref(), "\r\n"] {
            self.fields.extend_from_slice(part.as_bytes());
        }
        self
    }
}

impl From<Rejected> for Reply {
    fn from(rejected: Rejected) -> Reply {
        Reply::text(rejected.status, rejected.why)
    }
}

/// Pushes a reply. Returns whether it reads a file while it is sent.
pub fn send(
    chat: &Chat,
    service: &Rc<Service>,
    connection: &Rc<Connection>,
    exchange: Exchange,
    mut reply: Reply,
) -> bool {
    let reads_file = reply.reads_file() && !exchange.is_head;
    let open_file = if reads_file {
        service.open_file(connection)
    } else {
        None
    };
    if reads_file && open_file.is_none() {
        reply = Reply::too_many_files();
    }
    let mut head = service.sent.take();
    head.clear();
    let is_made = matches!(reply.content, Content::Made(_));
    // HTTP/1.0 has no chunks: the end of the connection is that of the body. So it is with events: all who watch
    // receive the same bytes.
    let ends_connection = matches!(reply.content, Content::Events)
        || (is_made && exchange.version == Version::Http10);
    let keep_alive = exchange.keep_alive && !ends_connection;
    write_head(&mut head, service, &exchange, &reply, keep_alive);
    let length = reply.length();
    let status = reply.status;
    let Exchange {
        is_head,
        version,
        client_is_done,
        record,
        ..
    } = exchange;

    if matches!(reply.content, Content::Events) && !is_head {
        chat.push_slice(&head);
        service.sent.set(head);
        events::watch(service, chat, Rc::clone(connection), record);
        return false;
    }
    let reads_file = open_file.is_some();
    let until_closed = open_file.clone();
    let log = move |bytes: Option<u64>| {
        drop(open_file);
        match bytes {
            Some(bytes) => record.finish(status, bytes),
            // The client has left before the reply began: the record is one of a request without a reply.
            None => drop(record),
        }
    };
    let begun = Begun::default();
    match reply.content {
        Content::Bytes(bytes) if !is_head => {
            chat.push_slices(&[&head, &bytes]);
            log(Some(bytes.len() as u64));
        }
        Content::File(file, length, names) if !is_head => {
            chat.push_slice(&head);
            let file = ReadProducer::new(InUse::new(file, until_closed)).length(length);
            let producer = Logged::new(file, names);
            let producer = begun.notice(connection.transfer(Some(length)).track(producer));
            chat.push_with_producer(HookedProducer::new(producer, move |sent| {
                log(begun.get().then_some(sent.bytes));
            }));
        }
        Content::Made(producer) if !is_head => {
            chat.push_slice(&head);
            let producer = begun.notice(connection.transfer(None).track(producer));
            let producer = HookedProducer::new(producer, move |sent| {
                log(begun.get().then_some(sent.bytes));
            });
            match version {
                Version::Http11 => chat.push_with_producer(ChunkedProducer::new(producer)),
                Version::Http10 => chat.push_with_producer(producer),
            }
        }
        _ => {
            chat.push_slice(&head);
            log(Some(0));
        }
    }
    service.sent.set(head);
    if !keep_alive {
        chat.close_when_done();
    }
    if client_is_done && !is_made {
        // RFC 9112 section 9.6: it sends nothing more.
        linger::skip_if_short(chat, length.unwrap_or(0));
    }
    reads_file
}

/// Whether the content of a reply was asked for: the replies before it are sent.
#[derive(Default)]
struct Begun(Rc<Cell<bool>>);

/// A producer, and whether it was asked for anything.
struct Noticed<P> {
    producer: P,
    begun: Rc<Cell<bool>>,
}

impl Begun {
    fn get(&self) -> bool {
        self.0.get()
    }

    fn notice<P: Producer>(&self, producer: P) -> Noticed<P> {
        Noticed {
            producer,
            begun: Rc::clone(&self.0),
        }
    }
}

impl<P: Producer> Producer for Noticed<P> {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        self.begun.set(true);
        self.producer.more(budget)
    }
}

fn write_head(
    head: &mut Vec<u8>,
    service: &Service,
    exchange: &Exchange,
    reply: &Reply,
    keep_alive: bool,
) {
    let mut write = |part: &[u8]| head.extend_from_slice(part);
    write(b"HTTP/1.1 ");
    write(decimal(reply.status).as_bytes());
    write(b" ");
    write(status::reason(reply.status).as_bytes());
    write(b"\r\nDate: ");
    write(service.clock.borrow_mut().date().as_bytes());
    write(b"\r\nServer: asynchat-files\r\nX-Content-Type-Options: nosniff\r\n");
    if exchange.is_private {
        write(b"Cross-Origin-Resource-Policy: same-origin\r\n");
    }
    write(&reply.fields);
    let is_http10 = exchange.version == Version::Http10;
    if let Some(length) = reply.length() {
        write(b"Content-Length: ");
        write(decimal(length).as_bytes());
        write(b"\r\n");
    } else if matches!(reply.content, Content::Made(_)) && !is_http10 {
        write(b"Transfer-Encoding: chunked\r\n");
    }
    if !keep_alive {
        write(b"Connection: close\r\n");
    } else if is_http10 {
        write(b"Connection: keep-alive\r\n");
    }
    write(b"\r\n");
}
