//! A server on a simulated network, in virtual time.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use asynchat::sim::{Network, Peer};
use asynchat::{EventLoop, Result};

use crate::server::shared::Shared;
use crate::server::{Options, Server};

pub const ADDR: &str = "127.0.0.1:6379";

thread_local! {
    static BEGUN: Cell<Option<Instant>> = const { Cell::new(None) };
    static SET_FORWARD: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Virtual time.
pub fn clock() -> i64 {
    let now = asynchat::now();
    let begun = BEGUN.get().unwrap_or(now);
    let since = now.saturating_duration_since(begun) + SET_FORWARD.get();
    1_800_000_000_000_000 + since.as_micros() as i64
}

/// Sets the clock forward. Timers do not notice that.
pub fn set_clock_forward(by: Duration) {
    SET_FORWARD.set(SET_FORWARD.get() + by);
}

pub fn options() -> Options {
    Options {
        clock,
        ..Options::default()
    }
}

pub struct Scene {
    pub network: Network,
    pub event_loop: EventLoop,
    pub shared: Arc<Shared>,
}

impl Scene {
    pub fn new() -> Result<Scene> {
        Scene::with(options())
    }

    pub fn with(options: Options) -> Result<Scene> {
        let network = Network::new(1);
        let event_loop = network.event_loop()?;
        BEGUN.set(Some(event_loop.now()));
        SET_FORWARD.set(Duration::ZERO);
        let shared = Shared::new(options);
        let outcome = Rc::new(RefCell::new(None));
        let (served, serving) = (Rc::clone(&outcome), Arc::clone(&shared));
        // A server uses the loop that is running, so it is made by this loop.
        event_loop.call_soon(move || {
            let server = Server::new(&serving);
            served.replace(Some(server.and_then(|server| server.serve(ADDR))));
        });
        network.settle(&event_loop)?;
        outcome.take().ok_or("it was not called")??;
        Ok(Scene {
            network,
            event_loop,
            shared,
        })
    }

    pub fn client(&self) -> Result<Peer> {
        Ok(self.network.connect(ADDR)?)
    }

    /// How much output waits for the clients.
    pub fn queued(&self) -> usize {
        let data = self.shared.lock();
        let channels = data.clients.values().map(|it| it.channel);
        let chats = channels.filter_map(|channel| self.event_loop.chat(channel));
        chats.map(|chat| chat.queued()).sum()
    }

    /// Sends lines, and returns what the client has received.
    pub fn ask(&self, client: &Peer, lines: &str) -> Result<String> {
        client.send(lines.replace('\n', "\r\n"));
        self.network.settle(&self.event_loop)?;
        Ok(received(client))
    }
}

/// When all clients have left, nothing that was theirs is left, whatever a test has done.
impl Drop for Scene {
    fn drop(&mut self) {
        if thread::panicking() || self.network.settle(&self.event_loop).is_err() {
            return;
        }
        let data = &mut *self.shared.lock();
        if !data.clients.is_empty() {
            return;
        }
        assert_eq!((data.retained, data.protected), (0, 0));
        assert_eq!(self.shared.results.total(), 0);
        assert!(data.targets.queues.is_empty());
        assert_eq!(data.waiting.clients, 0);
        assert!(data.subscribers.is_empty());
        let tracking = &data.tracking;
        let (keys, prefixes) = (tracking.table.len(), tracking.prefixes.len());
        assert_eq!((tracking.clients, keys, prefixes), (0, 0, 0));
        for database in data.keyspace.databases() {
            assert_eq!((database.watched(), database.awaited.len()), (0, 0));
        }
    }
}

pub fn received(client: &Peer) -> String {
    String::from_utf8_lossy(&client.take_received()).replace("\r\n", " ")
}
