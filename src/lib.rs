//! asyncore and asynchat for Rust: line-protocol servers and clients on one thread.
//!
//! Input is cut into records by a [`Terminator`]; a session gets each with
//! [`found_terminator`](AsyncChat::found_terminator). Output leaves through a FIFO of bytes and
//! [`Producer`]s. Limits are on from the start, and the loop stays fair when a client sends a barrage
//! of commands and only then counts the responses.
//!
//! It is for servers and clients of NNTP, SMTP, POP3, FTP, IRC, RESP and their kind, for device and
//! game protocols, and for programs that lost `asyncore` and `asynchat` with Python 3.12.
//!
//! # Example: an echo server
//!
//! ```no_run
//! use asynchat::{AsyncChat, Chat, Result};
//!
//! struct Echo { chat: Chat }
//!
//! impl AsyncChat for Echo {
//!     fn found_terminator(&mut self, line: &[u8]) -> Result {
//!         self.chat.push_slice(line);
//!         self.chat.push("\r\n");
//!         Ok(())
//!     }
//! }
//!
//! fn main() -> Result {
//!     asynchat::listen("127.0.0.1:7007", |chat| Echo { chat })?;
//!     asynchat::run()
//! }
//! ```
//!
//! # Example: both ends in one loop
//!
//! ```
//! use std::{cell::RefCell, rc::Rc};
//!
//! # fn main() -> asynchat::Result {
//! // A server that shouts. A closure that takes a record is a session too.
//! let listener = asynchat::listen("127.0.0.1:0", |chat| move |line: &[u8]| {
//!     chat.push(line.to_ascii_uppercase());
//!     chat.push("\r\n");
//!     Ok(())
//! })?;
//! let addr = listener.local_addr().and_then(|addr| addr.inet()).ok_or("it listens")?;
//!
//! // A client that does not wait: three commands at once, then the answers.
//! let answers: Rc<RefCell<Vec<String>>> = Rc::default();
//! let seen = Rc::clone(&answers);
//! let client = asynchat::connect(addr, move |chat| move |line: &[u8]| {
//!     seen.borrow_mut().push(String::from_utf8(line.to_vec())?);
//!     if seen.borrow().len() == 3 {
//!         chat.close();
//!         listener.close();
//!     }
//!     Ok(())
//! })?;
//! client.push("one\r\ntwo\r\nthree\r\n");
//!
//! asynchat::run()?; // returns: nothing is registered any more
//! assert_eq!(*answers.borrow(), ["ONE", "TWO", "THREE"]);
//! # Ok(()) }
//! ```
//!
//! # Which layer
//!
//! | | [`AsyncChat`] and [`Chat`] | [`Dispatcher`] and [`Channel`] |
//! |---|---|---|
//! | asyncore's name | `async_chat` | `dispatcher` |
//! | you get | records | a socket that is readable or writable |
//! | you send | by pushing: it is queued and written for you | with [`Channel::send`], which may take a part |
//! | limits, backpressure | built in | yours |
//! | made by | [`listen`], [`connect`], [`Server`], [`Connector`] | [`Channel::listen`], [`Channel::connect`], [`Channel::adopt`], then [`register`] |
//! | for | protocols of lines, counts and blocks | anything else on a stream socket |
//!
//! Both run in an [`EventLoop`]. The [free functions](crate#functions) act on the loop that is running
//! on this thread, or else on this thread's default one; most programs never name a loop.
//!
//! # Terminators
//!
//! | | ends a record |
//! |---|---|
//! | [`Terminator::crlf`] | CR LF, strictly: the default |
//! | [`Terminator::line`] | LF, or CR LF |
//! | [`Terminator::bytes`] | these bytes |
//! | [`Terminator::count`] | so many bytes |
//! | [`Terminator::dot_block`] | a line that is a single dot: NNTP, SMTP, POP3 |
//! | [`Terminator::idle_gap`] | silence |
//! | [`Terminator::none`] | the end of the stream |
//!
//! A terminator set with [`Chat::set_terminator`] holds from the very next byte, also for bytes already
//! received. Each takes a [`limit`](Terminator::limit). One that is
//! [`streamed`](Terminator::streamed) delivers its record in chunks, to
//! [`collect_incoming_data`](AsyncChat::collect_incoming_data).
//!
//! # Producers
//!
//! | | produces |
//! |---|---|
//! | `Bytes`, `String`, `Vec<u8>`, `&'static str`, `&'static [u8]` | itself |
//! | [`SimpleProducer`] | bytes, in pieces of a size of yours |
//! | [`ReadProducer`] | what a [`Read`](std::io::Read) yields: a file |
//! | [`IterProducer`], [`LinesProducer`] | the items of an iterator; the same as lines |
//! | [`CompositeProducer`] | several producers in turn |
//! | [`DotStuffer`] | a producer's output as a dot-terminated block |
//! | [`ChunkedProducer`] | a producer's output in HTTP/1.1 chunks |
//! | [`HookedProducer`] | a producer's output; and tells how far it came |
//! | [`Later`] | what a [`Promise`] of it brings, from another thread: replies in order |
//!
//! [`Chat::push_with_producer`] queues one. It is asked for its bytes when their turn comes, as fast as
//! the peer takes them, and dropped when it is done or its connection has ended.
//! [`More::Pending`] rests the queue until [`Chat::resume_producing`].
//!
//! # The rules
//!
//! **Nothing re-enters.** No method of a handle calls your code. Callbacks come from
//! [`run`] and [`run_once`] alone, one at a time. So a [`Chat`] can be used from anywhere, also while
//! the state that sessions share in an `Rc<RefCell<_>>` is borrowed.
//!
//! **A close is final, and told once.** After [`Channel::close`] no record and no event reaches the
//! handler, not even one that had been received. Then comes `handle_close` with the reason, a [`Close`],
//! exactly once, and the handler is dropped.
//!
//! **One bad connection is one bad connection.** A callback that returns an error or panics ends its own
//! connection, after what was pushed before it failed has been sent. The loop and the other connections go
//! on. (Built with `panic = "abort"`, a panic ends the process.)
//!
//! **Output is a FIFO, and exact.** Pushing only queues. After the callback the queue is written, in the
//! order of the pushes. No push can fail; on a connection that has ended, pushes do nothing.
//!
//! **Input is exact.** The same bytes give the same records however the network cut them, at a cost that
//! is linear in the bytes.
//!
//! **Fair.** In its turn a connection reads and writes at most 64 KiB and gets at most 1,024 records; a
//! listener accepts at most 64 connections. Then it is the others' turn. (A connection that something
//! was done to, and that has news of its own besides, has two.) Of posts, of timers that are due and of
//! deferred calls, the loop makes at most 1,024 each in one turn, the earliest first. It makes the rest
//! in the next turns, and does not sleep before they are made.
//!
//! **Bounded.** [`Limits`] hold for every connection unless you change them: on the length of a record,
//! on the output that is queued for a peer who does not read, whose input then stops, and on how many
//! connections there are, in all and from one address.
//!
//! **Deadlines are yours to set**, one call each: for idleness, for a record to be complete, for output to
//! be taken, for the whole connection, see [`Deadlines`]. And there are timers: [`Channel::call_later`] for
//! one connection, [`call_later`] for the loop.
//!
//! # Threads
//!
//! A loop and its handles stay on one thread. The one handle that crosses is a [`Remote`]: it posts to the
//! loop, or to one connection's handler by its [`ChannelId`], and it is how slow work comes back from a
//! worker, and how a signal handler shuts the loop down. Where replies have to keep the order of their
//! requests while several are worked on, a [`Promise`] keeps the place of each.
//!
//! # Platforms
//!
//! Linux, Android, macOS, the BSDs and Windows, through the `polling` crate. TCP and UDP everywhere; on
//! Unix also Unix-domain sockets, pipes, terminals, inherited descriptors, and child processes
//! ([`Subprocess`]): all that a [`Socket`] is made from, by way of [`Server::adopt`],
//! [`Connector::adopt`] or, on layer 1, [`Channel::adopt`]. [`Server::reuse_port`] does nothing on
//! Windows. On Unix an [`EventLoop`] is `AsFd`, so that it nests in another loop. Signals are calls of
//! the loop with the feature `signal`. There is no TLS.
//!
//! What the crate has to tell goes to [`tracing`](https://docs.rs/tracing), each event in the span of its
//! connection. It never prints.
//!
//! # More
//!
//! A guide, notes for porters from Python, the architecture, and what is promised about speed and
//! security are in the folder `docs` of the source, together with runnable examples in `examples`.
#![cfg_attr(docsrs, feature(doc_cfg))]
// A library has no business printing, exiting or panicking: see docs/security.md.
#![warn(
    clippy::exit,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unreachable,
    clippy::unwrap_used
)]
#![cfg_attr(
    test,
    allow(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

mod addr;
mod channel;
mod chat;
mod error;
mod event_loop;
mod framing;
mod limits;
mod log;
mod net;
mod output;
mod runtime;
mod serial;
#[cfg(feature = "signal")]
#[cfg_attr(docsrs, doc(cfg(feature = "signal")))]
pub mod signal;
#[cfg(feature = "sim")]
#[cfg_attr(docsrs, doc(cfg(feature = "sim")))]
pub mod sim;
mod state;
mod sys;
mod target;
mod time;
mod user_code;

pub use addr::Addr;
pub use channel::dispatcher::Dispatcher;
pub use channel::handle::{Channel, ChannelStats};
pub use chat::group::{Group, SlowReader};
pub use chat::handle::{AsyncChat, Chat, Eof, Overflow, Shutdown};
pub use chat::pipe::pipe;
pub use chat::promise::{Later, Promise};
pub use error::{Close, Deadline, Error, Result};
pub use event_loop::EventLoop;
pub use framing::terminator::Terminator;
pub use limits::Limits;
pub use net::connector::Connector;
pub use net::reconnect::Reconnect;
pub use net::server::Server;
#[cfg(all(unix, not(any(target_os = "openbsd", target_os = "redox"))))]
#[cfg_attr(docsrs, doc(cfg(unix)))]
pub use net::subprocess::Subprocess;
pub use output::producers::{
    ChunkedProducer, CompositeProducer, DotStuffer, HookedProducer, IterProducer, LinesProducer,
    More, Produced, Producer, ReadProducer, SimpleProducer,
};
pub use runtime::counters::{Closes, LoopStats};
pub use runtime::current::{
    call_every, call_later, call_soon, cancel, chat, close_all, connect, listen, register, remote,
    reset, run, run_once, shutdown, stop,
};
pub use runtime::registry::ChannelId;
pub use runtime::remote::Remote;
pub use sys::socket::Socket;
pub use target::Target;
pub use time::backoff::Backoff;
pub use time::deadlines::Deadlines;
pub use time::timer::TimerId;

#[cfg(doctest)]
mod documentation {
    #[doc = include_str!("../README.md")]
    mod readme {}
    #[doc = include_str!("../docs/guide.md")]
    mod guide {}
    #[doc = include_str!("../docs/architecture.md")]
    mod architecture {}
    #[doc = include_str!("../docs/porting.md")]
    mod porting {}
    #[doc = include_str!("../docs/performance.md")]
    mod performance {}
    #[doc = include_str!("../docs/security.md")]
    mod security {}
    #[cfg(feature = "sim")]
    #[doc = include_str!("../docs/testing.md")]
    mod testing {}
}

/// The parts that know no socket, for this crate's own tests, fuzzers and benchmarks. No promise
/// of any kind is made about them.
#[doc(hidden)]
pub mod internals {
    pub use crate::framing::splitter::{Event, Splitter};
    pub use crate::output::fifo::{Fifo, Item, PumpError, Pumped, Sink, pump};
    pub use crate::time::timer::{Expired, TimerQueue};
}
