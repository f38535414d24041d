//! A session that replies in every way, pauses and resumes from hooks, timers and posts, and fails.
//! Each pause has its resume, unless the session [pauses for good](Link::pauses_for_good).

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use asynchat::{AsyncChat, Chat, Close, Eof, More, Producer, Result, SimpleProducer};
use bytes::Bytes;

use crate::rng::Rng;
use crate::seeds::SILENT;

/// The test's view of one connection.
pub(crate) struct Link {
    pub(crate) number: usize,
    pub(crate) rng: Rc<Rng>,
    /// It may pause without a plan to resume.
    pub(crate) pauses_for_good: bool,
    pub(crate) paused: Cell<bool>,
    /// It has shut down its sending side.
    pub(crate) finished: Cell<bool>,
    /// Pushes of at least one byte.
    pub(crate) pushes: Cell<usize>,
    /// How often `handle_close` was called.
    pub(crate) closes: Cell<usize>,
    /// Sessions, producers and hooks that exist.
    pub(crate) alive: Cell<usize>,
    pub(crate) calls: Cell<u64>,
    pub(crate) log: Option<Rc<RefCell<Vec<String>>>>,
}

impl Link {
    pub(crate) fn log(&self, what: impl FnOnce() -> String) {
        if let Some(log) = &self.log {
            log.borrow_mut()
                .push(format!("  #{}: {}", self.number, what()));
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.closes.get() == 0
    }

    fn call(&self, what: &str) {
        self.calls.set(self.calls.get() + 1);
        self.log(|| what.to_owned());
    }

    fn resume(&self, chat: &Chat) {
        self.log(|| "resumes".to_owned());
        self.paused.set(false);
        chat.resume_reading();
    }
}

/// Counts a session, a producer or a hook for as long as it exists.
struct Alive(Rc<Link>);

impl Alive {
    fn new(link: &Rc<Link>) -> Self {
        link.alive.set(link.alive.get() + 1);
        Alive(Rc::clone(link))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.alive.set(self.0.alive.get() - 1);
    }
}

pub(crate) struct Worker {
    chat: Chat,
    link: Alive,
}

impl Worker {
    pub(crate) fn new(chat: Chat, link: &Rc<Link>) -> Self {
        let link = Alive::new(link);
        Worker { chat, link }
    }

    /// The actions of a callback: some replies, and sometimes a failure.
    fn act(&self) -> Result {
        let (chat, link) = (&self.chat, &self.link.0);
        for _ in 0..link.rng.below(4) {
            act(chat, link);
        }
        match link.rng.below(200) {
            0 => {
                link.log(|| "panics".to_owned());
                std::panic::panic_any(SILENT)
            }
            1 | 2 => {
                link.log(|| "fails".to_owned());
                Err("a failure on purpose".into())
            }
            _ => Ok(()),
        }
    }
}

impl AsyncChat for Worker {
    fn handle_connect(&mut self) -> Result {
        self.link.0.call("handle_connect");
        self.act()
    }

    fn found_terminator(&mut self, _record: &[u8]) -> Result {
        let link = &self.link.0;
        link.call("found_terminator");
        if link.rng.one_in(3) {
            pause(&self.chat, link);
        }
        self.act()
    }

    fn handle_low_water(&mut self) -> Result {
        self.link.0.call("handle_low_water");
        self.act()
    }

    fn handle_eof(&mut self, _partial: &[u8]) -> Result<Eof> {
        let link = &self.link.0;
        link.call("handle_eof");
        self.act()?;
        if !link.rng.one_in(4) {
            return Ok(Eof::CloseWhenDone);
        }
        // It closes later. If nothing can be sent any more, the hook is dropped and the session
        // need not stay.
        let chat = self.chat.clone();
        let close = move || chat.close_when_done();
        if link.rng.one_in(2) {
            push_hook(&self.chat, link, close);
        } else {
            asynchat::call_later(soon(&link.rng), close);
        }
        Ok(Eof::StayOpen)
    }

    fn handle_close(&mut self, why: &Close) {
        let link = &self.link.0;
        link.log(|| format!("closed: {why}"));
        link.closes.set(link.closes.get() + 1);
    }
}

/// A time of up to a second.
pub(crate) fn soon(rng: &Rng) -> Duration {
    Duration::from_millis(rng.below(10) as u64 * 100)
}

/// Pauses reading, and schedules the resume.
fn pause(chat: &Chat, link: &Rc<Link>) {
    let rng = &link.rng;
    if link.pauses_for_good && rng.one_in(2) {
        link.log(|| "pauses for good".to_owned());
        link.paused.set(true);
        return chat.pause_reading();
    }
    link.log(|| "pauses".to_owned());
    link.paused.set(true);
    chat.pause_reading();
    let (paused, known) = (chat.clone(), Rc::clone(link));
    let resume = move || known.resume(&paused);
    if rng.one_in(2) {
        push(chat, link);
    }
    match rng.below(5) {
        0 | 1 => push_hook(chat, link, resume),
        2 => {
            let (chat_of_hook, link_of_hook) = (chat.clone(), Rc::clone(link));
            push_hook(chat, link, move || {
                push(&chat_of_hook, &link_of_hook);
                push_hook(&chat_of_hook, &link_of_hook, resume);
            });
        }
        3 => drop(asynchat::call_later(soon(rng), resume)),
        // A connection that has ended needs no resume.
        _ => drop(chat.post(move |_: &mut Worker| {
            resume();
            Ok(())
        })),
    }
}

fn act(chat: &Chat, link: &Rc<Link>) {
    let rng = &link.rng;
    match rng.below(60) {
        0..25 => push(chat, link),
        25..40 => push_stream(chat, link),
        40..50 => {
            let (again, known) = (chat.clone(), Rc::clone(link));
            push_hook(chat, link, move || act(&again, &known));
        }
        50 if rng.one_in(3) => {
            link.log(|| "close_when_done".to_owned());
            chat.close_when_done();
        }
        51 if rng.one_in(3) => {
            link.log(|| "shutdown_write".to_owned());
            link.finished.set(true);
            chat.shutdown_write();
        }
        52 if rng.one_in(6) => {
            link.log(|| "close".to_owned());
            chat.close();
        }
        _ => {}
    }
}

fn size(rng: &Rng) -> usize {
    let sizes = [1, 1, 20, 200, 200, 511, 512, 4_095, 4_096, 20_000];
    rng.pick(&sizes).copied().unwrap_or(1)
}

fn push(chat: &Chat, link: &Link) {
    let data = vec![b'd'; size(&link.rng)];
    link.log(|| format!("pushes {}", data.len()));
    if chat.is_open() {
        link.pushes.set(link.pushes.get() + 1);
    }
    match link.rng.below(3) {
        0 => chat.push(data),
        1 => chat.push_slice(&data),
        _ => chat.push_with_producer(SimpleProducer::new(data).chunk_size(size(&link.rng))),
    }
}

fn push_hook(chat: &Chat, link: &Rc<Link>, call: impl FnOnce() + 'static) {
    link.log(|| "pushes a hook".to_owned());
    let alive = Alive::new(link);
    chat.push_hook(move || {
        alive.0.call("a hook");
        call();
    });
}

fn push_stream(chat: &Chat, link: &Rc<Link>) {
    let rng = &link.rng;
    let chunk = size(rng);
    let chunks = 1 + rng.below((20_000 / chunk).min(100));
    link.log(|| format!("pushes a producer of {chunks} chunks of {chunk}"));
    if chat.is_open() {
        link.pushes.set(link.pushes.get() + 1);
    }
    chat.push_with_producer(Stream {
        chunks,
        chunk,
        chat: chat.clone(),
        link: Alive::new(link),
    });
}

/// A producer that may be pending or fail.
struct Stream {
    /// The number of chunks that are left.
    chunks: usize,
    chunk: usize,
    chat: Chat,
    link: Alive,
}

impl Producer for Stream {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        let link = &self.link.0;
        link.call("a producer");
        if self.chunks == 0 {
            return Ok(More::Done);
        }
        if link.rng.one_in(40) {
            let (chat, link) = (self.chat.clone(), Rc::clone(link));
            asynchat::call_later(soon(&link.rng), move || {
                link.log(|| "goes on producing".to_owned());
                chat.resume_producing();
            });
            return Ok(More::Pending);
        }
        if link.rng.one_in(500) {
            return Err(io::Error::other("a failure on purpose"));
        }
        if link.rng.one_in(500) {
            link.log(|| "a producer panics".to_owned());
            std::panic::panic_any(SILENT);
        }
        self.chunks -= 1;
        let size = if link.rng.one_in(2) {
            self.chunk.min(budget)
        } else {
            self.chunk
        };
        Ok(More::Chunk(Bytes::from(vec![b'c'; size])))
    }
}
