//! asyncore and asynchat for Rust: servers and clients of line protocols, with callbacks, on one thread or on several.
//!
//! A [`Terminator`] cuts the input into records, and a session receives each of them in
//! [`found_terminator`](AsyncChat::found_terminator). The output leaves through a FIFO of bytes and
//! [`Producer`]s. [`Limits`] apply by default, and the loop stays fair to its connections, also when a client
//! sends thousands of commands before it reads a response.
//!
//! The crate is for NNTP, SMTP, POP3, FTP, IRC, RESP and similar protocols, for devices and games, and for
//! programs that used `asyncore` and `asynchat` until Python 3.12 removed them.
//!
//! # Example: an echo server
//!
//! ```no_run
//! use asynchat::{AsyncChat, Chat, Result};
//! use tracing_subscriber::filter::LevelFilter;
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
//!     tracing_subscriber::fmt().with_max_level(LevelFilter::INFO).init(); // shows failures
//!     asynchat::listen("127.0.0.1:7007", |chat| Echo { chat })?;
//!     asynchat::run()?;
//!     Ok(())
//! }
//! ```
//!
//! # Example: both ends in one loop
//!
//! ```
//! use std::{cell::RefCell, rc::Rc};
//!
//! # fn main() -> asynchat::Result {
//! // A server that answers in capitals. A closure that takes a record is a session, too.
//! let listener = asynchat::listen("127.0.0.1:0", |chat| move |line: &[u8]| {
//!     chat.push(line.to_ascii_uppercase());
//!     chat.push("\r\n");
//!     Ok(())
//! })?;
//! let addr = listener.local_addr().and_then(|addr| addr.inet()).ok_or("no address")?;
//!
//! // A client that sends three commands at once, then reads the answers.
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
//! asynchat::run()?; // returns, because nothing is registered any more
//! assert_eq!(*answers.borrow(), ["ONE", "TWO", "THREE"]);
//! # Ok(()) }
//! ```
//!
//! # Which layer
//!
//! | | layer 2: [`AsyncChat`] and [`Chat`] | layer 1: [`Dispatcher`] and [`Channel`] |
//! |---|---|---|
//! | asyncore's name | `async_chat` | `dispatcher` |
//! | you receive | records | the events of a socket: readable, writable |
//! | you send | with [`Chat::push`]: the output is queued, and the loop writes it | with [`Channel::send`], which may take a part |
//! | limits, back-pressure | built in | your responsibility |
//! | created by | [`listen`], [`connect`], [`Server`], [`Connector`] | [`Channel::listen`], [`Channel::connect`], [`Channel::adopt`], then [`register`] |
//! | for | protocols of lines, counts and blocks | everything else on a socket |
//!
//! Both run in an [`EventLoop`]. The [free functions](crate#functions) act on the loop that is running on this
//! thread, or else on the thread's default loop. Most programs never name a loop.
//!
//! A client that sends commands and receives replies queues with each command what it does with the reply, in a
//! [`Dialogue`].
//!
//! # Terminators
//!
//! | | ends a record at |
//! |---|---|
//! | [`Terminator::crlf`] | CR LF, strictly: the default |
//! | [`Terminator::line`] | LF, or CR LF |
//! | [`Terminator::bytes`] | these bytes |
//! | [`Terminator::count`] | this number of bytes |
//! | [`Terminator::dot_block`] | a line that is a single dot: NNTP, SMTP, POP3 |
//! | [`Terminator::idle_gap`] | a pause in the input |
//! | [`Terminator::none`] | the end of the stream |
//!
//! A terminator that is set with [`Chat::set_terminator`] applies to the very next byte, also to bytes that were
//! already received. Each takes a [`limit`](Terminator::limit). A [`streamed`](Terminator::streamed) terminator
//! delivers its record in chunks, to [`collect_incoming_data`](AsyncChat::collect_incoming_data). An
//! [`owned`](Terminator::owned) one delivers it as [`Bytes`](bytes::Bytes), to
//! [`found_record`](AsyncChat::found_record). An [`inclusive`](Terminator::inclusive) one delivers exactly what was
//! received, with the terminator.
//!
//! # Producers
//!
//! | | produces |
//! |---|---|
//! | `Bytes`, `String`, `Vec<u8>`, `&'static str`, `&'static [u8]` | itself |
//! | [`SimpleProducer`] | bytes, in chunks of a size that you choose |
//! | [`ReadProducer`] | the content of a [`Read`](std::io::Read), such as a file |
//! | [`IterProducer`], [`LinesProducer`] | the items of an iterator; the same as lines |
//! | [`CompositeProducer`] | the output of several producers, one after the other |
//! | [`CrlfProducer`] | the output of a producer, with CR LF for LF |
//! | [`DotStuffer`] | the output of a producer, as a dot-terminated block |
//! | [`ChunkedProducer`] | the output of a producer, in HTTP/1.1 chunks |
//! | [`HookedProducer`] | the output of a producer; then it calls a function with the count of bytes |
//!
//! [`Chat::push_with_producer`] queues a producer. The loop asks it for bytes when everything before it has been
//! sent, as fast as the peer takes them. The loop drops it when it is done or its connection has ended.
//! [`More::Pending`] pauses the queue until [`Chat::resume_producing`] is called.
//!
//! # The rules
//!
//! **No re-entrancy.** No method of a handle calls your handlers, factories, producers or hooks. All callbacks come from
//! [`run`], [`run_once`] and [`run_for`], one at a time. A [`Chat`] can therefore be used anywhere, also while the state
//! that sessions share in an `Rc<RefCell<_>>` is borrowed. The only code of yours that a method runs is what you pass to
//! it for this call: the closure of [`configure`](Chat::configure), and the `Into` or `Display` implementation of an
//! argument. Nothing of the crate is borrowed meanwhile.
//!
//! **A close is final, and reported once.** After [`Channel::close`] no record and no event reaches the handler,
//! not even one that was already received. The loop calls `handle_close` with the reason, a [`Close`], exactly
//! once, and then drops the handler.
//!
//! **Failures stay local.** A callback that returns an error or panics ends its own connection, after everything
//! it pushed before has been sent. The loop and the other connections continue. (With `panic = "abort"`, a panic
//! ends the process.)
//!
//! **Output is an exact FIFO.** A push only queues. After the callback the loop writes the queue, in the order of
//! the pushes. Pushes cannot fail. On a connection that has ended they do nothing.
//!
//! **Input is exact.** The same bytes give the same records under every segmentation. The cost is linear in the
//! bytes.
//!
//! **The loop is fair.** In a turn of the loop a connection reads once, at most 64 KiB. Its session receives at
//! most 1,024 records, and the connection then writes 64 KiB, or 68 if that is all. Other connections may push to it later in
//! the same turn. It sends their output in that turn, but does not read again. A listener accepts at most 64
//! connections. The loop makes at most 1,024 posted calls, fires at most 1,024 timers and makes at most 1,024
//! deferred calls in a turn, the earliest first; of more than 8,192 posted or deferred calls that wait, it makes an
//! eighth. The rest follows in the next turns, before which the loop does not sleep.
//!
//! **Limits apply by default.** [`Limits`] bound the length of a record, the output that is queued for a peer that
//! does not read (above it the peer's input pauses), and the number of connections, in all and from one address.
//!
//! **Deadlines are off by default.** One call sets each of them: for idle peers, for incomplete records, for
//! output that is not taken, and for the whole connection. See [`Deadlines`]. [`Channel::call_later`] sets a timer
//! of one connection, and [`call_later`] one of the loop.
//!
//! # Threads
//!
//! A loop and its handles stay on one thread. Other threads use a [`Remote`]. It posts a call to
//! the loop, or to the handler of one connection by its [`ChannelId`]. Worker threads return their results with
//! it, and signal handlers shut the loop down with it. When several requests of a connection are worked on at a
//! time, a [`Promise`] for each, which any thread may fulfill, keeps the replies in order.
//!
//! [`Workers`] are several loops on several threads, which serve one server: on several cores. [`Remotes`] has a
//! `Remote` for each, and a [`SharedGroup`] has members on all of them.
//!
//! # Platforms
//!
//! Linux, Android, macOS, the BSDs, illumos and Windows, through the `polling` crate. TCP and UDP work everywhere. On
//! Unix also Unix-domain sockets, by path too ([`Target`]), pipes, terminals, inherited descriptors, and, except on
//! OpenBSD, child processes ([`Subprocess`](https://docs.rs/asynchat/latest/asynchat/struct.Subprocess.html),
//! [`ExitWatcher`](https://docs.rs/asynchat/latest/asynchat/struct.ExitWatcher.html)): a [`Socket`] can be made from
//! each of them, and passed to [`Server::adopt`], [`Connector::adopt`] or, on layer 1, [`Channel::adopt`].
//! [`Server::reuse_port`] has no effect on Windows and illumos. Standard input and output ([`Socket::stdio`]) are a channel on
//! each system. On Unix, except Solaris and illumos, an [`EventLoop`] has a
//! descriptor, so it can run inside another loop. The feature `signal` turns signals into calls of the loop. The
//! features `tls` and `tls-no-provider` have [TLS](https://docs.rs/asynchat/latest/asynchat/tls/index.html), and
//! `proxy-protocol` has the [PROXY protocol](https://docs.rs/asynchat/latest/asynchat/proxy_protocol/index.html) of
//! load balancers.
//!
//! The crate reports through [`tracing`](https://docs.rs/tracing), each event in the span of its connection. It
//! never prints. Panics are reported at the level `ERROR`; callbacks that return an error, refused clients, failed
//! TLS handshakes and listeners that pause at `WARN`; connections that open or close at `DEBUG`. Of each kind of warning and error
//! at most ten events a second are logged. The field `suppressed` counts those that were left out before.
//!
//! # More
//!
//! Two other crates are part of this API, and re-exported so that a program uses the same versions without a
//! dependency of its own: [`bytes`] and [`socket2`].
//!
//! The folder `docs` of the source has a guide, notes for porting from Python, the architecture, and pages on
//! testing, performance and security. The folder `examples` has complete programs.
#![cfg_attr(docsrs, feature(doc_cfg))]
// A library must not print, exit or panic.
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
#[cfg(feature = "proxy-protocol")]
#[cfg_attr(docsrs, doc(cfg(feature = "proxy-protocol")))]
pub mod proxy_protocol;
mod runtime;
mod serial;
#[cfg(feature = "signal")]
#[cfg_attr(docsrs, doc(cfg(feature = "signal")))]
pub mod signal;
#[cfg(feature = "sim")]
#[cfg_attr(docsrs, doc(cfg(feature = "sim")))]
pub mod sim;
mod stage;
mod state;
mod sys;
mod target;
mod time;
#[cfg(feature = "tls-no-provider")]
#[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
pub mod tls {
    //! TLS, with [rustls]. The features `tls` (with the cryptography of ring) and `tls-no-provider` (the program
    //! brings a provider) have it.
    //!
    //! [`Server::tls`](crate::Server::tls) makes a server of plaintext a server of TLS, and
    //! [`Connector::tls`](crate::Connector::tls) a client. [`Chat::start_tls`](crate::Chat::start_tls) and
    //! [`Channel::start_tls`](crate::Channel::start_tls) begin TLS on a connection that is up (STARTTLS).
    //! [`Chat::tls`](crate::Chat::tls) tells what was agreed on.
    //!
    //! The crate never uses or sets the default provider of the process.

    pub use rustls;
    pub use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};

    pub use crate::stage::acceptor::Acceptor;
    pub use crate::stage::client::Client;
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub use crate::stage::config::{
        ClientCertificates, certificates_from_file, client_config, client_config_with_certificate,
        key_from_file, provider, roots_from_file, server_config, server_config_from_files,
        server_config_with_clients,
    };
    pub use crate::stage::failure::Failure;
    pub use crate::stage::info::Info;
    pub use crate::stage::side::Side;
}
mod user_code;
mod workers;

pub use addr::Addr;
/// The crate of [`Bytes`](bytes::Bytes): pushed output, owned records, the chunks of a [`Producer`].
pub use bytes;
pub use channel::dispatcher::Dispatcher;
pub use channel::handle::{Channel, ChannelStats};
pub use chat::dialogue::Dialogue;
pub use chat::group::{Group, SlowReader};
pub use chat::handle::Chat;
pub use chat::into_session::IntoSession;
pub use chat::pipe::pipe;
pub use chat::promise::Promise;
pub use chat::session::{AsyncChat, AtShutdown, Eof, Overflow};
pub use error::{BoxError, Close, Deadline, Error, LimitSource, RecordLimit, Result};
pub use event_loop::{
    EventLoop, call_every, call_later, call_soon, cancel, chat, close_all, now, register, remote,
    reschedule, run, run_for, run_forever, run_once, shutdown, stop,
};
pub use framing::terminator::Terminator;
pub use limits::Limits;
pub use net::connector::{Connector, connect};
pub use net::reconnect::Reconnect;
pub use net::server::{Server, listen};
#[cfg(all(unix, not(any(target_os = "openbsd", target_os = "redox"))))]
#[cfg_attr(docsrs, doc(cfg(unix)))]
pub use net::subprocess::{ExitWatcher, Subprocess};
pub use output::producers::{
    ChunkedProducer, CompositeProducer, CrlfProducer, DotStuffer, FallibleLines, HookedProducer,
    IterProducer, LinesProducer, More, Produced, Producer, ReadProducer, SimpleProducer,
};
pub use runtime::counters::{Closes, LoopStats};
pub use runtime::remote::Remote;
/// The crate that has the options of sockets: [`Server::configure`], [`Connector::configure`], [`Chat::configure`].
pub use socket2;
pub use state::ChannelId;
#[cfg(unix)]
#[cfg_attr(docsrs, doc(cfg(unix)))]
pub use sys::socket::Credentials;
pub use sys::socket::Socket;
pub use target::Target;
pub use time::backoff::Backoff;
pub use time::deadlines::Deadlines;
pub use time::timer::TimerId;
pub use workers::Workers;
pub use workers::group::SharedGroup;
pub use workers::remotes::Remotes;
pub use workers::service::Service;
pub use workers::worker::Worker;

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
    #[cfg(feature = "proxy-protocol")]
    #[doc = include_str!("../docs/proxy_protocol.md")]
    mod proxy_protocol {}
    #[cfg(feature = "tls")]
    #[doc = include_str!("../docs/tls.md")]
    mod tls {}
    #[cfg(all(feature = "sim", feature = "tls"))]
    #[doc = include_str!("../docs/testing.md")]
    mod testing {}
}

/// The sans-IO parts, for this crate's own tests, fuzzers and benchmarks. They may change in any
/// release.
#[doc(hidden)]
pub mod internals {
    pub use crate::framing::splitter::{Event, Splitter};
    pub use crate::output::fifo::{Fifo, Item, PumpError, Pumped, Sink, pump};
    #[cfg(feature = "tls-no-provider")]
    pub use crate::stage::end::TlsEnd;
    pub use crate::time::timer::{Expired, TimerQueue};
}
