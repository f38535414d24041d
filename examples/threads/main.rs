//! Several loops on several threads: a word counter whose table is divided among them.
//!
//! ```text
//! cargo run --release --example threads -- --threads 4
//! nc -C 127.0.0.1 7014          # in another terminal: ADD apple, ADD pear, WHO, QUIT
//! ```
//!
//! Each thread has a loop, which accepts from the listening socket that all threads share, and a part of the
//! table, which no other thread uses. So there is no lock. Each word belongs to one thread. The thread that
//! serves a client posts the word to the loop of the word's thread, through its `Remote`, together with a
//! `Promise` of the reply. So the replies are sent in the order of the words.

#[path = "../common/mod.rs"]
mod common;

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::net::TcpListener;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use asynchat::{AsyncChat, Chat, Error, Remote, Result, Server};
use clap::Parser;

/// Counts words, on several threads with a loop each.
#[derive(Parser)]
struct Args {
    /// The address to listen on; port 0 chooses a free port.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7014")]
    listen: String,

    /// How many threads to start.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
}

/// A `Remote` for each loop.
type Remotes = Arc<[Remote]>;

thread_local! {
    /// The words of this thread, with their counts.
    static WORDS: RefCell<HashMap<String, u64>> = RefCell::default();
}

fn main() -> Result {
    common::log_to_stderr("warn");
    let args = Args::parse();
    let socket = TcpListener::bind(&args.listen)
        .map_err(|error| Error::from(error).context(format_args!("--listen {}", args.listen)))?;

    // Each thread creates its loop and sends its `Remote`. It receives the remotes of all threads before it
    // serves.
    let mut threads = Vec::new();
    let mut remotes = Vec::new();
    for number in 0..args.threads {
        let (remote_sender, remote_receiver) = mpsc::channel();
        let (remotes_sender, remotes_receiver) = mpsc::channel();
        let socket = socket.try_clone()?;
        let serve = move || -> Result {
            remote_sender.send(asynchat::remote()?)?;
            serve(number, socket, &remotes_receiver.recv()?)
        };
        threads.push((thread::spawn(serve), remotes_sender));
        remotes.push(remote_receiver.recv()?);
    }
    let remotes: Remotes = remotes.into();
    let mut serving = Vec::new();
    for (thread, remotes_sender) in threads {
        remotes_sender.send(Arc::clone(&remotes))?;
        serving.push(thread);
    }

    common::shutdown_all_on_ctrl_c(remotes.to_vec(), Duration::from_secs(5))?;
    common::announce(socket.local_addr()?);
    for thread in serving {
        thread.join().map_err(|_| "a thread panicked")??;
    }
    Ok(())
}

/// Accepts clients and runs this thread's loop.
fn serve(number: u16, socket: TcpListener, remotes: &Remotes) -> Result {
    let remotes = Arc::clone(remotes);
    Server::adopt(socket).listen(move |chat| Counter {
        chat,
        number,
        remotes: Arc::clone(&remotes),
    })?;
    asynchat::run()?;
    Ok(())
}

/// The handler of a client.
struct Counter {
    chat: Chat,
    /// The number of the thread that serves this client.
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
    /// Posts the word to the thread that it belongs to, which counts it and replies. This thread's own words
    /// are also posted, so that the words of one client are counted in order.
    fn add(&self, word: String) -> Result<(), Error> {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(&word);
        let owner = (hash % self.remotes.len() as u64) as usize;
        let promise = self.chat.promise();
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
