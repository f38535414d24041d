//! `Dialogue`: the commands of a client, and what it does with the replies.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt::{self, Display, Write};
use std::io;
use std::ptr;
use std::rc::{Rc, Weak};

use bytes::Bytes;

use crate::chat::handle::Chat;
use crate::error::{Close, Error, Result, WithSources};
use crate::framing::terminator::Terminator;
use crate::output::fifo::{COPIED, Item};
use crate::output::producers::{More, Producer};
use crate::user_code::Discarded;

/// How many bytes of a record an error shows.
const EXCERPT: usize = 60;

/// The most bytes of small commands that a producer copies at once.
const CHUNK: usize = 16_384;

const BEHIND_TLS: &str =
    "it was sent behind the command that begins TLS, before the reply to that has arrived";

/// The commands that a client has sent, and what it does with their replies: "send this, expect that, then ...".
///
/// [`send`](Dialogue::send) pushes a command and queues a function for the first line of its reply.
/// [`expect`](Dialogue::expect) queues a function for a further record of the same reply, with the terminator of
/// that record. Each function gets the session and one record. `found_terminator` of the session passes each
/// record to [`receive`](Dialogue::receive).
///
/// ```
/// use asynchat::{AsyncChat, Chat, Close, Dialogue, Result, Terminator};
///
/// /// Fetches the headers of two articles of a news server.
/// struct Reader { dialogue: Dialogue<Reader> }
///
/// impl Reader {
///     fn new(chat: Chat) -> Reader {
///         let mut dialogue = Dialogue::new(&chat);
///         dialogue.expect(Terminator::crlf(), Reader::greeted);
///         Reader { dialogue }
///     }
///
///     fn greeted(&mut self, line: &[u8]) -> Result {
///         if !line.starts_with(b"20") {
///             return Err("no service".into());
///         }
///         for number in [17, 18] {
///             self.dialogue.send(format!("HEAD {number}\r\n"), move |reader, line| {
///                 if line.starts_with(b"221") {
///                     let block = Terminator::dot_block().limit(1 << 20);
///                     reader.dialogue.expect(block, move |_, head| {
///                         println!("{number}: {}", head.escape_ascii());
///                         Ok(())
///                     });
///                 }
///                 Ok(())
///             });
///         }
///         self.dialogue.send("QUIT\r\n", |_, _| Ok(()));
///         Ok(())
///     }
/// }
///
/// impl AsyncChat for Reader {
///     fn found_terminator(&mut self, record: &[u8]) -> Result {
///         let then = self.dialogue.receive(record)?;
///         then(self)
///     }
///
///     fn handle_close(&mut self, why: &Close) {
///         if let Err(error) = self.dialogue.outcome(why) {
///             eprintln!("{error}"); // HEAD: 2 replies are missing: the peer reset the connection
///         }
///     }
/// }
/// ```
///
/// # Pipelining
///
/// Commands that are sent one after the other do not wait for replies. A command that must wait (after STARTTLS, or
/// after DATA of SMTP: RFC 2920 section 3.1) is sent by the function that gets the reply.
///
/// Between STARTTLS and `start_tls` no other command may be outstanding: the server would have to take it for one that
/// somebody else has inserted, and its reply would arrive in clear (CVE-2011-0411). A command that is sent behind
/// `STARTTLS` or `STLS` before the reply to that ends the connection with an error, and
/// [`start_tls`](Dialogue::start_tls) returns one.
///
/// A client that only writes while its server only writes would wait for ever. Therefore commands never stop the
/// input: what does not fit into the queue of the connection below its
/// [`high_water`](crate::Limits#structfield.high_water) mark waits in the dialogue, and is queued as the kernel accepts
/// what comes before, without waiting for replies. Commands and what the session pushes to its
/// [`Chat`] in between are sent in the order of the calls.
///
/// # Memory
///
/// A command whose reply is outstanding takes about 80 bytes, and what its function captures; a function without
/// captures is not allocated. A command that the kernel has not accepted takes its own length as well. A session
/// bounds both with [`len`](Dialogue::len).
///
/// # Streamed records
///
/// The chunks of a [streamed](Terminator::streamed) record go to `collect_incoming_data` as always, and the
/// function gets an empty record at its end. A record that ends with the connection
/// ([`Terminator::none`]) is reported to `handle_eof`, which calls `receive` then.
///
/// # What it is not for
///
/// A dialogue needs one reply for each command, in order. Messages that come unasked (IRC, untagged replies of IMAP)
/// are handled by the session before it calls `receive`. A session that is connected [again](crate::Reconnect) has a
/// new dialogue: the functions of the old one are dropped uncalled.
pub struct Dialogue<S> {
    chat: Chat,
    /// The terminator of the first line of a reply.
    line: Terminator,
    /// In the order in which they arrive.
    expected: Discarded<ExpectedReply<S>>,
    /// Commands that wait for room in the queue. They belong to a producer in the queue.
    unsent: Weak<Unsent>,
    /// The command whose reply arrives.
    current: Verb,
    /// How many of them, at the front, were added since the last record.
    added: usize,
    /// The first command that was sent since the last record.
    sent: Option<Verb>,
    /// Whether the connection has another terminator than `line`.
    is_changed: bool,
}

/// A reply, or a part of one, that is still to arrive.
struct ExpectedReply<S> {
    verb: Verb,
    /// `None`: that of the first line of a reply.
    terminator: Option<Terminator>,
    then: Then<S>,
}

type Then<S> = Box<dyn FnOnce(&mut S, &[u8]) -> Result>;

impl<S: 'static> Dialogue<S> {
    /// A dialogue on this connection. The first line of each reply ends with the terminator that the connection has
    /// now.
    pub fn new(chat: &Chat) -> Self {
        chat.state().out.borrow_mut().ignore_backlog();
        Dialogue {
            chat: chat.clone(),
            line: chat.terminator(),
            expected: Discarded(VecDeque::new()),
            unsent: Weak::new(),
            current: Verb::word(b"greeting"),
            added: 0,
            sent: None,
            is_changed: false,
        }
    }

    /// Pushes a command, which contains its line end, and calls `then` with the first line of the reply. An error
    /// that `then` returns ends the connection, as that of any callback.
    ///
    /// Errors name the first word of the command, but not its arguments, which may be secret.
    pub fn send(
        &mut self,
        command: impl Into<Bytes>,
        then: impl FnOnce(&mut S, &[u8]) -> Result + 'static,
    ) {
        let command = command.into();
        self.command(Verb::of(&command), command, Box::new(then));
    }

    /// Like [`send`](Dialogue::send), for a line whose first word may be secret, such as the response to a
    /// challenge (RFC 4954 section 4). Errors name it `secret`.
    pub fn send_secret(
        &mut self,
        command: impl Into<Bytes>,
        then: impl FnOnce(&mut S, &[u8]) -> Result + 'static,
    ) {
        self.command(Verb::word(b"secret"), command.into(), Box::new(then));
    }

    /// Calls `then` with the next record: a further record of the reply that arrives, or the greeting if nothing has
    /// arrived yet. It precedes the replies to all commands. Further calls before the next record add the records
    /// after that one.
    ///
    /// Only the first line of a reply tells whether a record follows, so the function of that line makes the call.
    /// A call that follows [`send`](Dialogue::send) before the next record has arrived looks as if it were about the reply
    /// to that command. It ends the connection with an error. A function that calls both calls `send` last.
    ///
    /// A reply of several lines, each of which tells whether another one follows (RFC 5321 section 4.2.1):
    ///
    /// ```
    /// # use asynchat::{Dialogue, Result, Terminator};
    /// # struct Client { dialogue: Dialogue<Client>, extensions: Vec<String> }
    /// # impl Client {
    /// fn extension(&mut self, line: &[u8]) -> Result {
    ///     self.extensions.push(String::from_utf8_lossy(line).into_owned());
    ///     if line.starts_with(b"250-") {
    ///         self.dialogue.expect(Terminator::crlf(), Client::extension);
    ///     }
    ///     Ok(())
    /// }
    /// # }
    /// ```
    pub fn expect(
        &mut self,
        terminator: Terminator,
        then: impl FnOnce(&mut S, &[u8]) -> Result + 'static,
    ) {
        if let Some(verb) = self.sent {
            let error = "`expect` was called after `send`, before the reply has begun";
            return self.chat.close_with(format!("{verb}: {error}"));
        }
        let reply = ExpectedReply {
            verb: self.current,
            terminator: (terminator != self.line).then_some(terminator),
            then: Box::new(then),
        };
        self.expected.0.insert(self.added, reply);
        self.added += 1;
        if self.added == 1 {
            self.set_terminator();
        }
    }

    /// Returns the function for this record, which is the next one that has arrived. The session calls it with
    /// itself. The errors of the function get the first word of the command and the beginning of the record as context.
    ///
    /// ```
    /// # use asynchat::{AsyncChat, Dialogue, Result};
    /// # struct Client { dialogue: Dialogue<Client> }
    /// # impl AsyncChat for Client {
    /// fn found_terminator(&mut self, record: &[u8]) -> Result {
    ///     let then = self.dialogue.receive(record)?;
    ///     then(self)
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// When no record was expected. The error contains the beginning of the record.
    pub fn receive<'r>(
        &mut self,
        record: &'r [u8],
    ) -> Result<impl FnOnce(&mut S) -> Result + use<'r, S>, Error> {
        let Some(ExpectedReply { verb, then, .. }) = self.expected.0.pop_front() else {
            return Err(Error::new(format!("unexpected: `{}`", excerpt(record))));
        };
        self.current = verb;
        self.added = 0;
        self.sent = None;
        self.set_terminator();
        Ok(move |session: &mut S| {
            then(session, record).map_err(|error| {
                let context = format!("{verb}: `{}`", excerpt(record));
                Error::new(error).context(context).into()
            })
        })
    }

    /// How many records are expected: one for each command whose reply has not begun, and those that
    /// [`expect`](Dialogue::expect) has added.
    pub fn len(&self) -> usize {
        self.expected.0.len()
    }

    /// Whether no record is expected.
    pub fn is_empty(&self) -> bool {
        self.expected.0.is_empty()
    }

    /// How the dialogue ended, for `handle_close`.
    ///
    /// # Errors
    /// When replies are missing, or the reason is neither [`Close::Eof`] nor that this side
    /// [closed](Close::is_local) the connection. The error names the first command without a reply, and the reason.
    /// Its [kind](Error::io_kind) is that of the reason, if that contains an i/o error; `ConnectionReset`, `TimedOut`
    /// or, when replies are missing, `UnexpectedEof` for the reasons of these names.
    pub fn outcome(&self, why: &Close) -> Result<(), Error> {
        let message = match (why, self.expected.0.front()) {
            (Close::Handler(error), _) => WithSources(&**error).to_string(),
            (why, Some(reply)) => match self.len() {
                1 => format!("{}: the reply is missing: {why}", reply.verb),
                n => format!("{}: {n} replies are missing: {why}", reply.verb),
            },
            (why, None) if why.is_local() || matches!(why, Close::Eof) => return Ok(()),
            (why, None) => why.to_string(),
        };
        Err(match why.io_kind() {
            Some(kind) => io::Error::new(kind, message).into(),
            None => Error::new(message),
        })
    }

    /// Begins TLS, as [`Chat::start_tls`]: for the function that gets the reply which permits it.
    ///
    /// Needs the feature `tls` or `tls-no-provider`.
    ///
    /// # Errors
    /// When the reply to another command is outstanding, and those of [`Chat::start_tls`].
    #[cfg(feature = "tls-no-provider")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub fn start_tls(&self, tls: impl Into<crate::stage::side::Side>) -> Result<(), Error> {
        match self.expected.0.front() {
            Some(reply) => Err(Error::new(format!("{}: {BEHIND_TLS}", reply.verb))),
            None => self.chat.start_tls(tls),
        }
    }

    fn command(&mut self, verb: Verb, command: Bytes, then: Then<S>) {
        if let Some(last) = self.expected.0.back()
            && last.verb.begins_tls()
        {
            return self.chat.close_with(format!("{verb}: {BEHIND_TLS}"));
        }
        self.sent.get_or_insert(verb);
        self.push(command);
        self.expected.0.push_back(ExpectedReply {
            verb,
            terminator: None,
            then,
        });
    }

    /// Pushes a command if the queue stays below its high-water mark. Otherwise its producer does so later.
    fn push(&mut self, command: Bytes) {
        let state = self.chat.state();
        let is_waiting = self.unsent.strong_count() > 0;
        if !is_waiting && self.has_room(command.len()) {
            return self.chat.push(command);
        }
        // What was pushed behind the producer comes before this command.
        if let Some(unsent) = self.unsent.upgrade()
            && state.out.borrow().ends_with(unsent.producer.get())
        {
            return unsent.commands.borrow_mut().0.push_back(command);
        }
        let unsent = Rc::new(Unsent::new(command));
        self.unsent = Rc::downgrade(&unsent);
        let producer = Box::new(Commands(unsent));
        producer.0.producer.set((&raw const *producer).cast());
        state.push_item(Item::Producer(producer));
    }

    /// Large commands are sent in pieces, so they need no room.
    fn has_room(&self, len: usize) -> bool {
        let mark = || self.chat.state().limit(|limits| limits.high_water);
        len < COPIED && self.chat.queued() + len <= mark()
    }

    /// Gives the connection the terminator of the next record.
    fn set_terminator(&mut self) {
        let next = self.expected.0.front();
        let other = next.and_then(|reply| reply.terminator.as_ref());
        if other.is_some() || self.is_changed {
            self.is_changed = other.is_some();
            self.chat
                .set_terminator(other.unwrap_or(&self.line).clone());
        }
    }
}

impl<S> fmt::Debug for Dialogue<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unsent = self.unsent.upgrade();
        let unsent = unsent.map_or(0, |it| it.commands.borrow().0.len());
        f.debug_struct("Dialogue")
            .field("chat", &self.chat)
            .field("expected", &self.expected.0.len())
            .field("unsent", &unsent)
            .finish()
    }
}

/// The commands of a dialogue that wait for room.
struct Unsent {
    commands: RefCell<Discarded<Bytes>>,
    /// The address of their producer.
    producer: Cell<*const ()>,
}

impl Unsent {
    fn new(first: Bytes) -> Self {
        Unsent {
            commands: RefCell::new(Discarded(VecDeque::from([first]))),
            producer: Cell::new(ptr::null()),
        }
    }

    /// Takes the first command if it has fewer bytes than this.
    fn pop_shorter(&self, len: usize) -> Option<Bytes> {
        let commands = &mut self.commands.borrow_mut().0;
        if commands.front()?.len() < len {
            commands.pop_front()
        } else {
            None
        }
    }
}

/// Queues the commands as fast as the kernel accepts them. No borrow is held when a command is dropped: its owner
/// may be the user's.
struct Commands(Rc<Unsent>);

impl Producer for Commands {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        // Small commands share a chunk.
        let room = budget.min(CHUNK);
        let mut chunk = Vec::new();
        while let Some(command) = self.0.pop_shorter(COPIED.min(room - chunk.len() + 1)) {
            if chunk.is_empty() {
                chunk.reserve(room);
            }
            chunk.extend_from_slice(&command);
        }
        if !chunk.is_empty() {
            return Ok(More::Chunk(chunk.into()));
        }
        let Some(mut large) = self.0.pop_shorter(usize::MAX) else {
            return Ok(More::Done);
        };
        let piece = large.split_to(budget.clamp(1, large.len()));
        if !large.is_empty() {
            self.0.commands.borrow_mut().0.push_front(large);
        }
        Ok(More::Chunk(piece))
    }
}

/// The first word of a command, padded with zeros. It is copied, because the command is gone when its reply arrives.
#[derive(Clone, Copy)]
struct Verb([u8; 16]);

impl Verb {
    /// `command`, unless its first word is a word of at most 16 letters.
    fn of(command: &[u8]) -> Verb {
        let end = command
            .iter()
            .take(17)
            .position(|byte| !byte.is_ascii_alphabetic());
        match command.split_at_checked(end.unwrap_or(0)) {
            Some((word @ [_, ..], [b' ' | b'\r' | b'\n', ..])) => Verb::word(word),
            _ => Verb::word(b"command"),
        }
    }

    /// Whether it is the command for TLS of NNTP, SMTP and others, or of POP3 (RFC 2595).
    fn begins_tls(self) -> bool {
        let is = |word: &[u8]| self.0.eq_ignore_ascii_case(&Verb::word(word).0);
        is(b"STARTTLS") || is(b"STLS")
    }

    fn word(word: &[u8]) -> Verb {
        let mut letters = [0; 16];
        letters
            .iter_mut()
            .zip(word)
            .for_each(|(to, from)| *to = *from);
        Verb(letters)
    }
}

impl Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = self.0.iter().take_while(|byte| **byte != 0);
        letters
            .map(|byte| char::from(*byte))
            .try_for_each(|letter| f.write_char(letter))
    }
}

/// The beginning of a record, escaped.
fn excerpt(record: &[u8]) -> String {
    let (start, more) = match record.get(..EXCERPT) {
        Some(start) if record.len() > EXCERPT => (start, "..."),
        _ => (record, ""),
    };
    format!("{}{more}", start.escape_ascii())
}
