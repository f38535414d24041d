//! A tokio runtime on threads of its own, beside an `EventLoop`: sessions call asynchronous libraries (a database, an
//! HTTP client), and each reply takes its place in the output with a promise. This is the recommended way.
//!
//! ```text
//! cargo run --release --package embedding --example tokio_beside
//! nc -C 127.0.0.1 7018       # in another terminal; type ASK 500, ASK 10, and a line
//! ```
//!
//! The important part is `ask`. The loop sleeps until a task posts to it, and a task that is slow delays nobody but
//! the client that has asked.

#[path = "../common/mod.rs"]
mod common;

use std::cell::RefCell;
use std::str;
use std::time::Duration;

use asynchat::{Chat, EventLoop, Remote, Result};
use clap::Parser;
use tokio::runtime::{Builder, Handle};

use common::{Options, Server};

/// A server whose sessions wait for tasks of tokio.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    options: Options,
}

fn main() -> Result {
    let Args { options } = Args::parse();
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()?;
    let event_loop = EventLoop::new()?;
    let tasks = runtime.handle().clone();
    let command = move |chat: &Chat, line: &[u8]| ask(&tasks, chat, line);
    let server = Server::new(&event_loop, &options, |_| (), command)?;
    if let Some(period) = options.press() {
        SERVER.set(Some(server));
        runtime.spawn(press_every(period, event_loop.remote()));
    }
    event_loop.run()?;
    SERVER.set(None);
    // Ends the tasks. A promise that is dropped without an answer closes its connection.
    runtime.shutdown_background();
    Ok(())
}

/// `ASK n`: has a task answer after n milliseconds. Returns whether that was the command.
fn ask(tasks: &Handle, chat: &Chat, line: &[u8]) -> bool {
    let Some(millis) = line.strip_prefix(b"ASK ") else {
        return false;
    };
    let Some(millis) = str::from_utf8(millis).ok().and_then(|it| it.parse().ok()) else {
        chat.push("501 ASK milliseconds\r\n");
        return true;
    };
    // The place of the reply: what is pushed later waits behind it.
    let promise = chat.promise();
    tasks.spawn(async move {
        promise.fulfill(format!("250 {}\r\n", answer(millis).await));
    });
    true
}

/// Stands for a query that takes so many milliseconds.
async fn answer(millis: u64) -> String {
    tokio::time::sleep(Duration::from_millis(millis)).await;
    format!("answered after {millis} ms")
}

thread_local! {
    /// The server of the loop's thread, for posted calls.
    static SERVER: RefCell<Option<Server>> = const { RefCell::new(None) };
}

/// A task that calls the loop: what it posts runs on the loop's thread.
async fn press_every(period: Duration, remote: Remote) {
    let press = || SERVER.with_borrow(|server| server.iter().for_each(Server::press));
    // An error means that the loop has ended.
    while remote.post(press).is_ok() {
        tokio::time::sleep(period).await;
    }
}
