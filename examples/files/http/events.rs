//! The events of the status page (server-sent events, in the HTML standard). While somebody watches, there is one in a
//! second, which all of them share.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use asynchat::{AsyncChat, Chat, Close, Group, Result, SlowReader, Terminator};
use bytes::Bytes;

use super::Service;
use crate::status::{Connection, Record, Status};

const PERIOD: Duration = Duration::from_secs(1);

/// A client with so many bytes queued misses events. If it does not read at all, the drain deadline ends it.
const SLOW: usize = 128 << 10;

/// Those who watch.
pub struct Events {
    group: Group,
    has_timer: Cell<bool>,
    last: RefCell<Option<(Instant, Bytes)>>,
}

impl Default for Events {
    fn default() -> Events {
        let group = Group::default();
        group.set_slow_readers(SLOW, SlowReader::Skip);
        Events {
            group,
            has_timer: Cell::default(),
            last: RefCell::default(),
        }
    }
}

/// The session of a connection that receives events, after its request. It is the last request of the connection.
pub struct Watcher {
    chat: Chat,
    /// The status page lists the connection while this exists.
    _connection: Rc<Connection>,
    record: Option<Record>,
    /// The bytes that the connection had sent before.
    sent_before: u64,
    status: Rc<Status>,
}

/// Sends events from now on. The head of the reply was pushed.
pub fn watch(service: &Rc<Service>, chat: &Chat, connection: Rc<Connection>, record: Record) {
    let status = &service.status;
    let sent_before = chat.stats().bytes_out + chat.queued() as u64;
    status.watchers.set(status.watchers.get() + 1);
    // How long the browser waits when the connection has ended.
    chat.push_slice(b"retry: 1000\n");
    // Making an event reads all counters. Clients that connect again and again get the event that exists.
    chat.push(service.events.at_most_a_period_old(status));
    // There is no request to wait for.
    chat.set_idle_timeout(None);
    chat.set_terminator(Terminator::none());
    service.events.group.add(chat);
    if !service.events.has_timer.replace(true) {
        schedule(service);
    }
    chat.replace_session(Watcher {
        chat: chat.clone(),
        _connection: connection,
        record: Some(record),
        sent_before,
        status: Rc::clone(status),
    });
}

fn schedule(service: &Rc<Service>) {
    let weak = Rc::downgrade(service);
    asynchat::call_later(PERIOD, move || {
        let Some(service) = weak.upgrade() else {
            return;
        };
        if service.status.watchers.get() == 0 {
            service.events.has_timer.set(false);
            return;
        }
        schedule(&service);
        let event = service.events.make(&service.status);
        service.events.group.push(event);
    });
}

impl Events {
    fn make(&self, status: &Status) -> Bytes {
        let event = Bytes::from(format!("data: {}\n\n", status.json()));
        self.last.replace(Some((asynchat::now(), event.clone())));
        event
    }

    fn at_most_a_period_old(&self, status: &Status) -> Bytes {
        match &*self.last.borrow() {
            Some((made, event)) if asynchat::now() - *made < PERIOD => return event.clone(),
            _ => {}
        }
        self.make(status)
    }
}

impl AsyncChat for Watcher {
    /// Further requests are ignored: the connection ends with this reply.
    fn collect_incoming_data(&mut self, _: &[u8]) -> Result {
        Ok(())
    }

    fn found_terminator(&mut self, _: &[u8]) -> Result {
        Ok(())
    }

    fn handle_close(&mut self, _: &Close) {
        if let Some(record) = self.record.take() {
            let sent = self.chat.stats().bytes_out;
            record.finish(200, sent.saturating_sub(self.sent_before));
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.status.watchers.set(self.status.watchers.get() - 1);
    }
}
