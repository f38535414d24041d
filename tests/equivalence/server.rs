//! The port of server.py, in the same order.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;

use asynchat::{
    AsyncChat, Channel, Chat, Close, CompositeProducer, HookedProducer, More, Producer,
    ReadProducer, Result, SimpleProducer, Terminator,
};

pub(crate) fn listen(addr: &str) -> Result<Channel> {
    let (notes, closed) = (Notes::default(), Closed::default());
    Ok(asynchat::listen(addr, move |chat| Session {
        chat,
        state: State::Command,
        connect_called: false,
        hooks: Rc::default(),
        notes: Rc::clone(&notes),
        closed: Rc::clone(&closed),
        name: None,
    })?)
}

fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|i| b'a' + (i * 7 % 26) as u8).collect()
}

/// Decides on its data when it is asked for it.
struct LateProducer<F: FnOnce() -> String>(Option<F>);

impl<F: FnOnce() -> String> Producer for LateProducer<F> {
    fn more(&mut self, _budget: usize) -> io::Result<More> {
        Ok(match self.0.take() {
            Some(say) => More::Chunk(say().into()),
            None => More::Done,
        })
    }
}

struct FailingProducer(Vec<&'static str>);

impl Producer for FailingProducer {
    fn more(&mut self, _budget: usize) -> io::Result<More> {
        match self.0.pop() {
            Some(chunk) => Ok(More::Chunk(chunk.into())),
            None => Err(io::Error::other("it was asked to")),
        }
    }
}

fn simple(size: usize) -> impl Producer + 'static {
    SimpleProducer::new(pattern(size)).chunk_size(512)
}

fn file(size: usize) -> impl Producer + 'static {
    ReadProducer::new(io::Cursor::new(pattern(size)))
}

type Notes = Rc<RefCell<Vec<String>>>;
type Closed = Rc<RefCell<HashMap<String, u32>>>;

struct Session {
    chat: Chat,
    state: State,
    connect_called: bool,
    hooks: Rc<Cell<u32>>,
    notes: Notes,
    closed: Closed,
    name: Option<String>,
}

enum State {
    Command,
    Record,
    Body,
    Trailer(Vec<u8>),
    Block,
    Each,
    Rest,
}

impl AsyncChat for Session {
    fn handle_connect(&mut self) -> Result {
        self.connect_called = true;
        Ok(())
    }

    fn handle_close(&mut self, _: &Close) {
        if let Some(name) = &self.name {
            *self.closed.borrow_mut().entry(name.clone()).or_default() += 1;
        }
    }

    fn collect_incoming_data(&mut self, data: &[u8]) -> Result {
        self.chat.push_slice(data);
        Ok(())
    }

    fn found_terminator(&mut self, data: &[u8]) -> Result {
        match std::mem::replace(&mut self.state, State::Command) {
            State::Command => self.command(std::str::from_utf8(data)?)?,
            State::Record => {
                self.chat.push_slices(&[b"record ", data, b"\r\n"]);
                self.chat.set_terminator(Terminator::crlf());
            }
            State::Body => self.expect(Terminator::crlf(), State::Trailer(data.to_vec())),
            State::Trailer(body) => {
                let parts = [b"body ", &body[..], b" trailer ", data, b"\r\n"];
                self.chat.push_slices(&parts);
            }
            State::Block => {
                let text = String::from_utf8_lossy(data);
                let lines: Vec<_> = text.split_terminator("\r\n").collect();
                write!(self.chat, "block {}\r\n", lines.join("|"));
                self.chat.set_terminator(Terminator::crlf());
            }
            State::Each => {
                self.chat.push_slices(&[b"each ", data, b"\r\n"]);
                self.state = State::Each;
            }
            State::Rest => {}
        }
        Ok(())
    }
}

impl Session {
    fn expect(&mut self, terminator: Terminator, state: State) {
        self.chat.set_terminator(terminator);
        self.state = state;
    }

    fn command(&mut self, line: &str) -> Result {
        let (verb, argument) = line.split_once(' ').unwrap_or((line, ""));
        let chat = self.chat.clone();
        let size = || argument.parse::<usize>();
        let count = || argument.parse().map(Terminator::count);
        match verb {
            "" => chat.push("empty\r\n"),
            "ECHO" => write!(chat, "echo {argument}\r\n"),
            "COUNT" => self.expect(count()?, State::Record),
            "EACH" => self.expect(count()?, State::Each),
            "BODY" => self.expect(count()?, State::Body),
            "UNTIL" => {
                let needle = Terminator::try_bytes(argument.as_bytes())?;
                self.expect(needle, State::Record);
            }
            "BLOCK" => self.expect(Terminator::dot_block().limit(1 << 20), State::Block),
            "REST" => {
                self.expect(Terminator::none(), State::Rest);
                chat.push("rest ");
            }
            "PUSH" => {
                chat.push(pattern(size()?));
                chat.push("\r\n");
            }
            "SIMPLE" => {
                chat.push_with_producer(simple(size()?));
                chat.push("\r\n");
            }
            "FILE" => {
                chat.push_with_producer(file(size()?));
                chat.push("\r\n");
            }
            "COMPOSITE" => {
                let mut producer = CompositeProducer::default();
                producer.push(simple(size()?));
                producer.push(file(7));
                producer.push(simple(size()?));
                chat.push_with_producer(producer);
                chat.push("\r\n");
            }
            "MIX" => {
                chat.push("a ");
                chat.push_with_producer(simple(size()?));
                chat.push(" b ");
                chat.push("c ");
                chat.push_with_producer(file(size()?));
                chat.push(" d\r\n");
            }
            "HOOKED" => self.hooked(size()?),
            "REENTER" => {
                let own = chat.clone();
                let hook = move |_| own.push("from the hook\r\n");
                chat.push_with_producer(HookedProducer::new(simple(3), hook));
                chat.push(" behind it\r\n");
                chat.push("last\r\n");
            }
            "FALSY" => {
                let mut producer = CompositeProducer::default();
                producer.push("one ");
                producer.push("two\r\n");
                chat.push_with_producer(producer);
                chat.push("behind it\r\n");
            }
            "FAILING" => {
                chat.push("before ");
                chat.push_with_producer(FailingProducer(vec!["two ", "one "]));
                chat.push("behind it\r\n");
            }
            "PUSHED" => {
                chat.push("something ");
                let queued = chat.queued() > 0;
                chat.push(if queued { "queued\r\n" } else { "sent\r\n" });
            }
            "CONNECTED" => chat.push(if self.connect_called {
                "told\r\n"
            } else {
                "not told\r\n"
            }),
            "TEXT" => chat.push("go on\r\n"),
            "NOTE" => {
                self.notes.borrow_mut().push(argument.to_owned());
                chat.push("noted\r\n");
            }
            "NOTES" => {
                let notes = self.notes.take();
                write!(chat, "notes {}\r\n", notes.join(" "));
            }
            "NAME" => {
                self.name = Some(argument.to_owned());
                chat.push("named\r\n");
            }
            "CLOSED" => {
                let count = self.closed.borrow_mut().remove(argument).unwrap_or(0);
                write!(chat, "closed {count}\r\n");
            }
            "CAUGHT" => {
                let outcome: Result = Err("it is caught in this callback".into());
                if outcome.is_err() {
                    chat.push("caught\r\n");
                }
            }
            "FAIL" => return Err("it was asked to".into()),
            "CLOSE" => chat.close(),
            "BYE" => {
                chat.push("bye\r\n");
                chat.close();
            }
            "QUIT" => {
                if !argument.is_empty() {
                    chat.push_with_producer(simple(size()?));
                }
                chat.push("bye\r\n");
                chat.close_when_done();
            }
            _ => chat.push("what?\r\n"),
        }
        Ok(())
    }

    fn hooked(&self, size: usize) {
        let say = |before: &'static str, after: &'static str| {
            let hooks = Rc::clone(&self.hooks);
            LateProducer(Some(move || format!("{before}{}{after}", hooks.get())))
        };
        let hooks = Rc::clone(&self.hooks);
        let hook = move |_| hooks.set(hooks.get() + 1);
        self.chat.push_with_producer(say("", " "));
        self.chat
            .push_with_producer(HookedProducer::new(simple(size), hook));
        self.chat.push_with_producer(say(" ", "\r\n"));
    }
}
