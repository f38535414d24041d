//! Several loops on several threads: a counter of words whose table is spread over them.
//!
//! ```text
//! cargo run --release --example threads -- --threads 4
//! nc -C 127.0.0.1 7014          # in another terminal: ADD apple, ADD pear, WHO, QUIT
//! ```
//!
//! Each thread has a loop, which accepts from the one listening socket they all share, and a part of
//! the table, which no other thread touches: there is no lock. A word belongs to one thread. Whoever
//! serves the client posts the word to that thread's loop, through its `Remote`, and gives it a
//! `Promise` of the reply: so the replies come back in the order of the words, whoever makes them.

#[path = "../common/mod.rs"]
mod common;

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::net::TcpListener;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use asynchat::{AsyncChat, Chat, Error, Promise, Remote, Result, Server};
use clap::Parser;

/// Counts words, on a loop for each thread.
#[derive(Parser)]
struct Args {
    /// Where to listen; port 0 picks a free one.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7014")]
    listen: String,

    /// How many threads there are.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
}

/// The way to each loop.
type Remotes = Arc<[Remote]>;

thread_local! {
    /// The words of this thread, and how often each was added.
    static WORDS: RefCell<HashMap<String, u64>> = RefCell::default();
}

fn main() -> Result {
    common::log_to_stderr("warn");
    let args = Args::parse();
    let socket = TcpListener::bind(&args.listen)
        .map_err(|error| Error::from(error).context(format_args!("--listen {}", args.listen)))?;

    // Each thread makes its loop, tells the way to it, and is told the ways to all before it serves.
    let mut threads = Vec::new();
    let mut remotes = Vec::new();
    for number in 0..args.threads {
        let (tell, hear) = mpsc::channel();
        let (tell_all, hear_all) = mpsc::channel();
        let socket = socket.try_clone()?;
        let serve = move || -> Result {
            tell.send(asynchat::remote()?)?;
            serve(number, socket, &hear_all.recv()?)
        };
        threads.push((thread::spawn(serve), tell_all));
        remotes.push(hear.recv()?);
    }
    let remotes: Remotes = remotes.into();
    let mut serving = Vec::new();
    for (thread, tell_all) in threads {
        tell_all.send(Arc::clone(&remotes))?;
        serving.push(thread);
    }

    common::shutdown_all_on_ctrl_c(remotes.to_vec(), Duration::from_secs(5))?;
    common::announce(socket.local_addr()?);
    for thread in serving {
        thread.join().map_err(|_| "a thread panicked")??;
    }
    Ok(())
}

/// What a thread does: runs its own loop.
fn serve(number: u16, socket: TcpListener, remotes: &Remotes) -> Result {
    let remotes = Arc::clone(remotes);
    Server::adopt(socket).listen(move |chat| Counter {
        chat,
        number,
        remotes: Arc::clone(&remotes),
    })?;
    asynchat::run()
}

struct Counter {
    chat: Chat,
    /// Of the thread that serves this client.
    number: u16,
    remotes: Remotes,
}

impl AsyncChat for Counter {
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        let line = String::from_utf8_lossy(line);
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("ADD", word) if !word.is_empty() => self.add(word.to_owned())?,
            ("WHO", _) => write!(self.chat, "211 thread {}\r\n", self.number),
            ("QUIT", _) => {
                self.chat.push("221 bye\r\n");
                self.chat.close_when_done();
            }
            _ => self.chat.push("500 ADD word, WHO, or QUIT\r\n"),
        }
        Ok(())
    }
}

impl Counter {
    /// Has the thread whose word it is count it. Its own words take the same way: so all that a
    /// client adds to a word is counted in order.
    fn add(&self, word: String) -> Result {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(&word);
        let owner = (hash % self.remotes.len() as u64) as usize;
        let (promise, later) = Promise::new(&self.chat);
        self.chat.push_with_producer(later);
        self.remotes[owner].post(move || {
            let count = WORDS.with_borrow_mut(|words| {
                let count = words.entry(word.clone()).or_default();
                *count += 1;
                *count
            });
            promise.fulfill(format!("250 {word} {count}, says thread {owner}\r\n"));
        })
    }
}
