//! Channels and patterns, and who has subscribed to them.
//!
//! All workers know how many subscribers each of them has: [`Subscribers`]. Who they are only their worker knows:
//! [`Subscriptions`]. A message for subscribers of another worker is left in its mailbox. The worker is woken once for
//! all that is in there, however many messages and subscribers these are. It delivers what is in its mailbox before one
//! of its clients publishes, subscribes or unsubscribes. So all subscribers get all messages in the same order, and none
//! that is older than the subscription.

use std::collections::BTreeMap;
use std::sync::Arc;

use asynchat::bytes::Bytes;
use asynchat::{ChannelId, Chat};

use super::Server;
use super::client::Client;
use super::mailbox::{Mailbox, Message};
use super::shared::{Data, lock};
use crate::resp::reply::Reply;
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

    /// How many subscriptions receive a message on each worker.
    fn receivers(&self, channel: &[u8]) -> Counts {
        let mut receivers = Counts::default();
        let matching = self.matching(channel).map(|(_, counts)| counts);
        let all = self.channels.get(channel).into_iter().chain(matching);
        all.for_each(|counts| receivers.add(counts));
        receivers
    }

    /// The patterns that match a channel.
    fn matching(&self, channel: &[u8]) -> impl Iterator<Item = (&Bytes, &Counts)> {
        let patterns = self.patterns.iter();
        patterns.filter(move |(pattern, _)| glob::matches(pattern, channel))
    }

    /// Adds what the subscribers of a worker to a channel have subscribed to.
    fn note(&self, channel: &Bytes, worker: usize, names: &mut Names<()>) {
        if self.channels.get(channel).is_some_and(|it| it.has(worker)) {
            names.channels.insert(channel.clone(), ());
        }
        let matching = self.matching(channel).filter(|(_, it)| it.has(worker));
        names
            .patterns
            .extend(matching.map(|(name, _)| (name.clone(), ())));
    }
}

/// The subscribers of one worker.
pub type Subscriptions = Names<Connections>;

pub type Connections = BTreeMap<ChannelId, (Arc<Client>, Chat)>;

impl Subscriptions {
    fn deliver(&self, channel: &[u8], content: &[u8], deliver: &mut Deliver<'_>) {
        if let Some(connections) = self.channels.get(channel) {
            send(connections, &[b"message", channel, content], deliver);
        }
        for (pattern, connections) in &self.patterns {
            if glob::matches(pattern, channel) {
                let parts: &[&[u8]] = &[b"pmessage", pattern, channel, content];
                send(connections, parts, deliver);
            }
        }
    }
}

type Deliver<'a> = dyn FnMut(&Arc<Client>, &Chat, Bytes) + 'a;

/// Delivers a message, which is encoded once for each version of the protocol.
fn send(connections: &Connections, parts: &[&[u8]], deliver: &mut Deliver<'_>) {
    let mut encoded: [Option<Bytes>; 2] = [None, None];
    for (client, chat) in connections.values() {
        let resp3 = client.resp3.load();
        let message = encoded[usize::from(resp3)].get_or_insert_with(|| {
            let mut reply = Reply {
                resp3,
                ..Reply::default()
            };
            reply.push(parts.len());
            parts.iter().for_each(|part| reply.bulk(part));
            reply.buffer.into()
        });
        deliver(client, chat, message.clone());
    }
}

/// Ends subscribers that have lost messages because their worker was busy.
fn end_slow(connections: &Connections) {
    for (client, chat) in connections.values() {
        chat.abort();
        let client = client.id;
        asynchat::call_soon(move || {
            tracing::warn!(
                client,
                "a client has exceeded client-output-buffer-limit, because its worker was busy"
            );
        });
    }
}

impl Server {
    /// Publishes a message. `deliver` delivers it to a client of this worker. Returns how many subscriptions receive it.
    pub fn publish(
        &self,
        data: &mut Data,
        channel: &[u8],
        content: &[u8],
        deliver: &mut Deliver<'_>,
    ) -> usize {
        let receivers = data.subscribers.receivers(channel);
        let total = receivers.total();
        if total == 0 {
            return 0;
        }
        self.deliver(self.take_mailbox(data));
        let mut message = None;
        let workers = data.workers.iter_mut().zip(receivers.0).enumerate();
        for (number, (worker, receivers)) in workers {
            if number != self.number && receivers > 0 {
                let message = message.get_or_insert_with(|| Message {
                    channel: Bytes::copy_from_slice(channel),
                    content: Bytes::copy_from_slice(content),
                });
                let is_first = worker.mailbox.is_empty();
                if !worker.mailbox.add(message, data.config.output) {
                    let lost = &mut worker.mailbox.lost;
                    data.subscribers.note(&message.channel, number, lost);
                }
                if is_first {
                    worker.post(|server| {
                        let mailbox = server.take_mailbox(&mut server.shared.lock());
                        // Other workers may use the lock meanwhile.
                        server.deliver(mailbox);
                    });
                }
            }
        }
        let subscriptions = self.subscriptions.borrow();
        subscriptions.deliver(channel, content, deliver);
        total
    }

    fn take_mailbox(&self, data: &mut Data) -> Mailbox {
        std::mem::take(&mut data.workers[self.number].mailbox)
    }

    /// Delivers the messages that other workers have left.
    fn deliver(&self, Mailbox { messages, lost, .. }: Mailbox) {
        let subscriptions = self.subscriptions.borrow();
        // They get no later message either.
        for kind in [Kind::Channel, Kind::Pattern] {
            let names = lost.of(kind).keys();
            let connections = names.filter_map(|name| subscriptions.of(kind).get(name));
            connections.for_each(end_slow);
        }
        for Message { channel, content } in &messages {
            subscriptions.deliver(channel, content, &mut |client, chat, message| {
                client.deliver(chat, message);
            });
        }
    }

    /// Subscribes a client, unless it has subscribed already.
    pub fn subscribe(
        &self,
        data: &mut Data,
        client: &Arc<Client>,
        chat: &Chat,
        kind: Kind,
        name: &[u8],
    ) {
        self.deliver(self.take_mailbox(data));
        let name = Bytes::copy_from_slice(name);
        let mut own = lock(&client.subscriptions);
        let is_new = own.of_mut(kind).insert(name.clone(), ()).is_none();
        client.subscription_count.store(own.len());
        if is_new {
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
        self.deliver(self.take_mailbox(data));
        let mut own = lock(&client.subscriptions);
        let was_subscribed = own.of_mut(kind).remove(name).is_some();
        client.subscription_count.store(own.len());
        if was_subscribed {
            data.subscribers.remove(kind, name, self.number);
            let mut all = self.subscriptions.borrow_mut();
            let all = all.of_mut(kind);
            if let Some(connections) = all.get_mut(name) {
                connections.remove(&chat.id());
                if connections.is_empty() {
                    all.remove(name);
                }
            }
        }
    }

    /// Ends all subscriptions of a client.
    pub fn unsubscribe_all(&self, data: &mut Data, client: &Client, chat: &Chat) {
        for kind in [Kind::Channel, Kind::Pattern] {
            for name in client.subscribed(kind) {
                self.unsubscribe(data, client, chat, kind, &name);
            }
        }
    }
}
