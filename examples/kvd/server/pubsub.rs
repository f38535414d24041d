//! Channels and patterns, and who has subscribed to them.
//!
//! All workers know how many subscribers each of them has: [`Subscribers`]. Who they are only their worker knows:
//! [`Subscriptions`]. A message for subscribers of another worker is left in its mailbox. The worker is woken once for
//! all that is in there, however many messages and subscribers these are. What its own clients publish goes behind what
//! is in its mailbox, and is delivered when the lock is given back, when it is much, or before one of its clients
//! subscribes or unsubscribes. So all subscribers get all messages in the same order, and none that is older than the
//! subscription. The mailbox is emptied before the requests of a subscriber, too, so that their replies follow what was
//! published before.

use std::collections::BTreeMap;
use std::ops::Bound::{self, Excluded, Unbounded};
use std::sync::Arc;

use asynchat::bytes::Bytes;
use asynchat::{ChannelId, Chat};

use super::Server;
use super::client::Client;
use super::mailbox::{Mailbox, Message};
use super::progress::Progress;
use super::shared::{Data, lock};
use crate::resp::message::Encoded;
use crate::store::comparison::cost_per_byte;
use crate::store::glob;

/// What is subscribed to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Channel,
    Pattern,
}

/// Something for each channel and each pattern.
pub struct Names<T> {
    pub channels: BTreeMap<Bytes, T>,
    pub patterns: BTreeMap<Bytes, T>,
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Names {
            channels: BTreeMap::new(),
            patterns: BTreeMap::new(),
        }
    }
}

impl<T> Names<T> {
    pub fn of(&self, kind: Kind) -> &BTreeMap<Bytes, T> {
        match kind {
            Kind::Channel => &self.channels,
            Kind::Pattern => &self.patterns,
        }
    }

    fn of_mut(&mut self, kind: Kind) -> &mut BTreeMap<Bytes, T> {
        match kind {
            Kind::Channel => &mut self.channels,
            Kind::Pattern => &mut self.patterns,
        }
    }

    fn len(&self) -> usize {
        self.channels.len() + self.patterns.len()
    }

    pub fn append(&mut self, other: &mut Names<T>) {
        self.channels.append(&mut other.channels);
        self.patterns.append(&mut other.patterns);
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How many subscribers each channel and each pattern has on each worker.
pub type Subscribers = Names<Counts>;

/// The number of subscribers on each worker. Workers at the end that have none may be missing.
#[derive(Default)]
pub struct Counts(Vec<usize>);

impl Counts {
    pub fn total(&self) -> usize {
        self.0.iter().sum()
    }

    fn has(&self, worker: usize) -> bool {
        self.0.get(worker).is_some_and(|count| *count > 0)
    }

    fn add(&mut self, Counts(others): &Counts) {
        self.0.resize(self.0.len().max(others.len()), 0);
        let pairs = self.0.iter_mut().zip(others);
        pairs.for_each(|(own, other)| *own += other);
    }
}

impl Subscribers {
    fn add(&mut self, kind: Kind, name: &Bytes, worker: usize) {
        let Counts(counts) = self.of_mut(kind).entry(name.clone()).or_default();
        counts.resize(counts.len().max(worker + 1), 0);
        counts[worker] += 1;
    }

    fn remove(&mut self, kind: Kind, name: &[u8], worker: usize) {
        let all = self.of_mut(kind);
        if let Some(counts) = all.get_mut(name) {
            counts.0[worker] -= 1;
            if counts.total() == 0 {
                all.remove(name);
            }
        }
    }

    /// Adds what the subscribers of a worker to a message have subscribed to.
    fn note(&self, message: &Message, worker: usize, names: &mut Names<()>) {
        let channel = &message.channel;
        if self.channels.get(channel).is_some_and(|it| it.has(worker)) {
            names.channels.insert(channel.clone(), ());
        }
        let has = |name: &Bytes| self.patterns.get(name).is_some_and(|it| it.has(worker));
        let matching = message.patterns.iter().filter(|name| has(name));
        names.patterns.extend(matching.map(|it| (it.clone(), ())));
    }
}

/// The search for the patterns that match a channel, a part at a time.
pub struct PatternSearch {
    channel: Bytes,
    /// The next patterns to be compared.
    next: Vec<Bytes>,
    found: Vec<Bytes>,
}

/// How many bytes of names of channels are compared with short patterns at a time. A comparison counts as so many more.
const COMPARED_AT_ONCE: usize = 256 * 1024;
const OVERHEAD: usize = 64;

fn cost(pattern: &[u8], channel: &[u8]) -> usize {
    OVERHEAD + cost_per_byte(pattern) * channel.len()
}

impl PatternSearch {
    pub fn new(channel: Bytes, subscribers: &Subscribers) -> PatternSearch {
        let mut search = PatternSearch {
            channel,
            next: Vec::new(),
            found: Vec::new(),
        };
        search.take_next(subscribers, Unbounded);
        search
    }

    /// Takes the patterns behind those that are compared. The search is complete if there are none.
    pub fn advance(&mut self, subscribers: &Subscribers) -> Progress {
        let Some(last) = self.next.last().cloned() else {
            return Progress::Complete;
        };
        self.take_next(subscribers, Excluded(&last));
        Progress::more_if(!self.next.is_empty())
    }

    fn take_next(&mut self, subscribers: &Subscribers, start: Bound<&Bytes>) {
        let rest = subscribers.patterns.range::<Bytes, _>((start, Unbounded));
        self.next.clear();
        let mut compared = 0;
        for (pattern, _) in rest {
            if compared > COMPARED_AT_ONCE {
                break;
            }
            compared += cost(pattern, &self.channel);
            self.next.push(pattern.clone());
        }
    }

    /// Compares these patterns. That takes most of the time, and needs no lock.
    pub fn compare(&mut self) {
        let matching = self.next.iter();
        let matching = matching.filter(|it| glob::matches(it, &self.channel));
        self.found.extend(matching.cloned());
    }

    /// How many subscriptions receive the message on each worker.
    fn receivers(&self, subscribers: &Subscribers) -> Counts {
        let mut receivers = Counts::default();
        let patterns = self.found.iter();
        let matching = patterns.filter_map(|it| subscribers.patterns.get(it));
        let all = subscribers.channels.get(&self.channel).into_iter();
        all.chain(matching).for_each(|counts| receivers.add(counts));
        receivers
    }
}

impl Subscribers {
    /// Finds the channels behind `from` that match a pattern, among as many as are compared at a time. Returns the last one
    /// of these, unless there are no others.
    pub fn find_channels(
        &self,
        pattern: &[u8],
        from: Option<&Bytes>,
        found: &mut Vec<Bytes>,
    ) -> Option<Bytes> {
        let mut compared = 0;
        let start = from.map_or(Unbounded, Excluded);
        for (channel, _) in self.channels.range::<Bytes, _>((start, Unbounded)) {
            if glob::matches(pattern, channel) {
                found.push(channel.clone());
            }
            compared += cost(pattern, channel);
            if compared > COMPARED_AT_ONCE {
                return Some(channel.clone());
            }
        }
        None
    }
}

/// The subscribers of one worker.
pub type Subscriptions = Names<Connections>;

pub type Connections = BTreeMap<ChannelId, (Arc<Client>, Chat)>;

impl Subscriptions {
    fn deliver(&self, message: &Message, deliver: &mut Deliver<'_>) {
        let Message {
            channel,
            content,
            patterns,
        } = message;
        if let Some(connections) = self.channels.get(channel) {
            send(connections, &[b"message", channel], content, deliver);
        }
        for pattern in &**patterns {
            if let Some(connections) = self.patterns.get(pattern) {
                let names: &[&[u8]] = &[b"pmessage", pattern, channel];
                send(connections, names, content, deliver);
            }
        }
    }
}

/// The memory of a subscription, about: it is in a tree of its client, of its worker and of all workers.
fn size_of_subscription(name: &[u8]) -> usize {
    600 + name.len()
}

type Deliver<'a> = dyn FnMut(&Arc<Client>, &Chat, &Encoded) + 'a;

/// Delivers a message, which is encoded once for each version of the protocol. It is not encoded for clients that are
/// ended: one may have ended because of the message for an earlier pattern, and may have subscribed to very many.
fn send(connections: &Connections, names: &[&[u8]], content: &Bytes, deliver: &mut Deliver<'_>) {
    let mut encoded: [Option<Encoded>; 2] = [None, None];
    let open = connections.values().filter(|(_, chat)| !chat.is_closing());
    for (client, chat) in open {
        let resp3 = client.resp3.load();
        let message =
            encoded[usize::from(resp3)].get_or_insert_with(|| Encoded::new(names, content, resp3));
        deliver(client, chat, message);
    }
}

/// Ends subscribers that have lost messages because their worker was busy.
fn end_slow(connections: &Connections) {
    for (client, chat) in connections.values() {
        client.closes.store(true);
        chat.abort();
        let (client, addr) = (client.id, client.addr.clone());
        asynchat::call_soon(move || {
            tracing::warn!(
                client,
                addr,
                "a client has exceeded client-output-buffer-limit, because its worker was busy"
            );
        });
    }
}

impl Server {
    /// Publishes a message to a channel for which the search is complete. The subscribers of this worker get it with
    /// [`deliver`](Server::deliver). Returns how many subscriptions receive it.
    pub fn publish(
        &self,
        data: &mut Data,
        search: PatternSearch,
        content: impl FnOnce() -> Bytes,
    ) -> usize {
        let receivers = search.receivers(&data.subscribers);
        let total = receivers.total();
        if total == 0 {
            return 0;
        }
        let message = Message {
            channel: search.channel,
            content: content(),
            patterns: search.found.into(),
        };
        self.take_mailbox(data);
        let workers = data.workers.iter_mut().zip(receivers.0).enumerate();
        for (number, (worker, receivers)) in workers {
            if receivers == 0 {
                continue;
            }
            if number == self.number {
                self.deliveries.set(self.deliveries.get() + receivers);
                self.undelivered.borrow_mut().push(message.clone());
                continue;
            }
            let is_first = worker.mailbox.is_empty();
            if !worker
                .mailbox
                .add(&message, data.config.output.pubsub.most())
            {
                let lost = &mut worker.mailbox.lost;
                data.subscribers.note(&message, number, lost);
            }
            if is_first {
                worker.post(Server::deliver_mailbox);
            }
        }
        total
    }

    /// Delivers messages to subscribers of this worker if they use much memory.
    pub fn deliver_many(&self, data: &Data) {
        if self.undelivered.borrow().size() > data.config.output.pubsub.most() {
            self.deliver();
        }
    }

    /// Takes the messages that other workers have left.
    fn take_mailbox(&self, data: &mut Data) {
        let mailbox = &mut data.workers[self.number].mailbox;
        if !mailbox.is_empty() {
            let mailbox = std::mem::take(mailbox);
            self.undelivered.borrow_mut().append(mailbox);
        }
    }

    /// Delivers the mailbox, without the lock: a delivery to many subscribers takes long.
    pub fn deliver_mailbox(&self) {
        self.take_mailbox(&mut self.shared.lock());
        self.deliver();
    }

    /// Delivers the mailbox while the caller holds the lock, after the undelivered messages of this worker's own clients.
    fn deliver_mailbox_locked(&self, data: &mut Data) {
        self.take_mailbox(data);
        self.deliver();
    }

    /// Delivers messages to subscribers of this worker. Where possible, other workers may use the lock meanwhile.
    #[inline]
    pub fn deliver(&self) {
        if !self.undelivered.borrow().is_empty() {
            self.deliver_with(&mut Client::deliver);
        }
    }

    #[cold]
    pub fn deliver_with(&self, deliver: &mut Deliver<'_>) {
        let Mailbox { messages, lost, .. } = self.undelivered.take();
        let subscriptions = self.subscriptions.borrow();
        // They get no later message either.
        for kind in [Kind::Channel, Kind::Pattern] {
            let names = lost.of(kind).keys();
            let connections = names.filter_map(|name| subscriptions.of(kind).get(name));
            connections.for_each(end_slow);
        }
        for message in &messages {
            subscriptions.deliver(message, deliver);
        }
    }

    /// Subscribes a client, unless it has subscribed already. The caller ends clients that retain too much.
    pub fn subscribe(
        &self,
        data: &mut Data,
        client: &Arc<Client>,
        chat: &Chat,
        kind: Kind,
        name: &[u8],
    ) {
        self.deliver_mailbox_locked(data);
        let name = Bytes::copy_from_slice(name);
        let mut own = lock(&client.subscriptions);
        let is_new = own.of_mut(kind).insert(name.clone(), ()).is_none();
        client.subscription_count.store(own.len());
        if is_new {
            data.retain(client, size_of_subscription(&name));
            data.subscribers.add(kind, &name, self.number);
            let mut all = self.subscriptions.borrow_mut();
            let connections = all.of_mut(kind).entry(name).or_default();
            connections.insert(chat.id(), (Arc::clone(client), chat.clone()));
        }
    }

    /// Ends a subscription of a client, if it has it.
    pub fn unsubscribe(
        &self,
        data: &mut Data,
        client: &Client,
        chat: &Chat,
        kind: Kind,
        name: &[u8],
    ) {
        self.deliver_mailbox_locked(data);
        let mut own = lock(&client.subscriptions);
        let was_subscribed = own.of_mut(kind).remove(name).is_some();
        client.subscription_count.store(own.len());
        if was_subscribed {
            data.release(client, size_of_subscription(name));
            self.remove_subscription(data, chat.id(), kind, name);
        }
    }

    /// Removes a subscription that a connection of this worker has.
    pub fn remove_subscription(
        &self,
        data: &mut Data,
        channel: ChannelId,
        kind: Kind,
        name: &[u8],
    ) {
        data.subscribers.remove(kind, name, self.number);
        let mut all = self.subscriptions.borrow_mut();
        let all = all.of_mut(kind);
        if let Some(connections) = all.get_mut(name) {
            connections.remove(&channel);
            if connections.is_empty() {
                all.remove(name);
            }
        }
    }
}
