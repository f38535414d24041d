//! Several loops on several threads: a word counter whose table is divided among them.
//!
//! ```text
//! cargo run --release --example threads -- --threads 4
//! nc -C 127.0.0.1 7014          # in another terminal: ADD apple, ADD pear, WHO, QUIT
//! ```
//!
//! Each worker has a thread with a loop, which serves its share of the clients, and a part of the table, which no
//! other thread uses. So there is no lock. Each word belongs to one worker. The worker that serves a client posts
//! the word to the loop of the word's worker, through its `Remote`, together with a `Promise` of the reply. So the
//! replies are sent in the order of the words.
//!
//! Ctrl-C and SIGTERM end it, and a second signal ends it at once. SIGHUP does nothing.

#[path = "../common/mod.rs"]
mod common;

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::time::Duration;

use asynchat::{AsyncChat, Chat, Error, Remotes, Result, Server, Worker, Workers};
use clap::Parser;

/// Counts words, on several threads with a loop each.
#[derive(Parser)]
#[command(after_help = common::SIGNALS)]
struct Args {
    /// The address to listen on; port 0 chooses a free port.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7014")]
    listen: String,

    /// How many threads to start.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
}

thread_local! {
    /// The words of this thread, with their counts.
    static WORDS: RefCell<HashMap<String, u64>> = RefCell::default();
}

fn main() -> Result {
    common::log_to_stderr("warn");
    let args = Args::parse();
    let listen = args.listen;
    let service = Workers::new()
        .threads(args.threads.into())
        .start(move |worker| serve(worker, &listen))?;
    common::shutdown_on_ctrl_c(Duration::from_secs(5))?;
    for addr in service.local_addrs() {
        common::announce(addr);
    }
    // This thread accepts. The workers serve.
    asynchat::run()?;
    service.finish()?;
    Ok(())
}

/// Makes one of the workers a server. Each has its own factory.
fn serve(worker: &Worker, listen: &str) -> Result {
    let (number, remotes) = (worker.number(), worker.remotes());
    worker.listen(Server::new(listen), move |chat| Counter {
        chat,
        number,
        remotes: remotes.clone(),
    })?;
    Ok(())
}

/// The handler of a client.
struct Counter {
    chat: Chat,
    /// The number of the worker that serves this client.
    number: usize,
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
    /// Posts the word to the worker that it belongs to, which counts it and replies. This worker's own words
    /// are also posted, so that the words of one client are counted in order.
    fn add(&self, word: String) -> Result<(), Error> {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(&word);
        let owner = (hash % self.remotes.count() as u64) as usize;
        let promise = self.chat.promise();
        let Some(remote) = self.remotes.get(owner) else {
            return Err(Error::new("there is no such worker"));
        };
        remote.post(move || {
            let count = WORDS.with_borrow_mut(|words| {
                let count = words.entry(word.clone()).or_default();
                *count += 1;
                *count
            });
            promise.fulfill(format!("250 {word} {count}, says thread {owner}\r\n"));
        })
    }
}
