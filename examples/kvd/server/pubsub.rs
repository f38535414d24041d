//! Channels and patterns, and who has subscribed to them.

use std::collections::BTreeMap;
use std::rc::Rc;

use asynchat::ChannelId;
use asynchat::bytes::Bytes;

use super::client::Client;
use crate::resp::reply::Reply;
use crate::store::glob;

type Subscribers = BTreeMap<ChannelId, Rc<Client>>;

#[derive(Default)]
pub struct PubSub {
    pub channels: BTreeMap<Bytes, Subscribers>,
    pub patterns: BTreeMap<Bytes, Subscribers>,
}

impl PubSub {
    /// Delivers a message. Returns how many subscriptions have received it.
    pub fn publish(
        &self,
        channel: &[u8],
        message: &[u8],
        mut deliver: impl FnMut(&Client, Bytes),
    ) -> usize {
        let mut count = 0;
        if let Some(subscribers) = self.channels.get(channel) {
            let parts: &[&[u8]] = &[b"message", channel, message];
            count += send(subscribers, parts, &mut deliver);
        }
        for (pattern, subscribers) in &self.patterns {
            if glob::matches(pattern, channel) {
                let parts: &[&[u8]] = &[b"pmessage", pattern, channel, message];
                count += send(subscribers, parts, &mut deliver);
            }
        }
        count
    }

    /// Ends all subscriptions of a client.
    pub fn remove(&mut self, client: &Client) {
        let Some(all) = client.subscriptions.take() else {
            return;
        };
        for channel in &all.channels {
            unsubscribe(&mut self.channels, channel, client);
        }
        for pattern in &all.patterns {
            unsubscribe(&mut self.patterns, pattern, client);
        }
    }
}

/// Removes a subscriber, and a channel or a pattern that has none.
pub fn unsubscribe(from: &mut BTreeMap<Bytes, Subscribers>, name: &[u8], client: &Client) {
    if let Some(subscribers) = from.get_mut(name) {
        subscribers.remove(&client.chat.id());
        if subscribers.is_empty() {
            from.remove(name);
        }
    }
}

/// Delivers a message, which is encoded once for each version of the protocol.
fn send(
    subscribers: &Subscribers,
    parts: &[&[u8]],
    deliver: &mut impl FnMut(&Client, Bytes),
) -> usize {
    let mut encoded: [Option<Bytes>; 2] = [None, None];
    for client in subscribers.values() {
        let resp3 = client.resp3.get();
        let message = encoded[usize::from(resp3)].get_or_insert_with(|| {
            let mut reply = Reply {
                resp3,
                ..Reply::default()
            };
            reply.push(parts.len());
            parts.iter().for_each(|part| reply.bulk(part));
            reply.buffer.into()
        });
        deliver(client, message.clone());
    }
    subscribers.len()
}
