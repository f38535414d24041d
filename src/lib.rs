//! crate docs to come
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
mod chat_dispatcher;
mod connecting;
mod connector;
mod current;
mod dispatcher;
mod error;
mod event_loop;
mod fifo;
mod home;
mod limits;
mod poller;
mod producer;
mod registry;
mod remote;
mod server;
mod socket;
mod splitter;
mod terminator;
mod timer;

pub use addr::Addr;
pub use channel::{Channel, ChannelStats};
pub use chat::{AsyncChat, Chat, Eof, Overflow};
pub use connector::{Connector, Target};
pub use current::{
    call_every, call_later, call_soon, cancel, chat, close_all, connect, listen, register, remote,
    reset, run, run_once, shutdown, stop,
};
pub use dispatcher::Dispatcher;
pub use error::{Close, Deadline, Error, Result};
pub use event_loop::EventLoop;
pub use home::LoopStats;
pub use limits::Limits;
pub use producer::{
    ChunkedProducer, CompositeProducer, DotStuffer, HookedProducer, IterProducer, LinesProducer,
    More, Produced, Producer, ReadProducer, SimpleProducer,
};
pub use registry::ChannelId;
pub use remote::Remote;
pub use server::Server;
pub use socket::Socket;
pub use terminator::Terminator;
pub use timer::TimerId;

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
}

/// The parts that know no socket, for this crate's own tests, fuzzers and benchmarks. No promise
/// of any kind is made about them.
#[doc(hidden)]
pub mod internals {
    pub use crate::fifo::{Fifo, Item, PumpError, Pumped, Sink, pump};
    pub use crate::splitter::{Event, Splitter};
    pub use crate::timer::{Expired, TimerQueue};
}
