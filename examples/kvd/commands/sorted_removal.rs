//! Many members that are removed from a sorted set at once, however many they are.

use std::ops::Range;
use std::time::Duration;

use super::long::{self, Snapshot};
use super::{Context, Outcome};
use crate::resp::reply::Reply;
use crate::server::Server;
use crate::store::ranked::Scored;

/// Between two parts of what is left of them. Other workers get the lock meanwhile: one that gives it back and takes it
/// again at once is usually faster than those that wait for it.
const PAUSE: Duration = Duration::from_millis(1);

/// What the command replies with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Replies {
    /// The number of the removed members.
    Number,
    /// The members and their scores, as an array of pairs or as one array. The key may come before them.
    Members { in_pairs: bool, with_key: bool },
}

/// Removes the members with these ranks. With `from_end` the last one is the first.
pub(super) fn remove(
    context: &mut Context<'_>,
    key: &[u8],
    ranks: Range<usize>,
    from_end: bool,
    replies: Replies,
) -> Outcome {
    let db = context
        .data
        .keyspace
        .database(context.client.database.load());
    let taken = db.sorted_mut(key)?.map(|set| set.take(ranks));
    let removed = Snapshot(taken.unwrap_or_default());
    db.touch_taken(key, &removed);
    db.note_stale(key);
    db.remove_if_empty(key);
    if context.data.keyspace.begin_to_remove_stale() {
        asynchat::call_later(PAUSE, remove_stale);
    }
    let in_pairs = begin(context.reply, key, removed.len(), replies);
    if replies == Replies::Number {
        return Ok(());
    }
    let mut blocks = 0..removed.blocks();
    long::reply_items(context.reply, move |reply| {
        let next = if from_end {
            blocks.next_back()
        } else {
            blocks.next()
        };
        let Some(block) = next.and_then(|at| removed.block(at)) else {
            return false;
        };
        if from_end {
            block
                .iter()
                .rev()
                .for_each(|it| encode(reply, it, in_pairs));
        } else {
            block.iter().for_each(|it| encode(reply, it, in_pairs));
        }
        true
    });
    Ok(())
}

/// Removes the entries that they have left behind, a part at a time.
fn remove_stale() {
    if let Some(server) = Server::current()
        && server.shared.lock().keyspace.remove_stale()
    {
        asynchat::call_later(PAUSE, remove_stale);
    }
}

/// Begins a reply. Returns whether a member and its score are a pair.
pub(super) fn begin(reply: &mut Reply, key: &[u8], number: usize, replies: Replies) -> bool {
    let Replies::Members { in_pairs, with_key } = replies else {
        reply.count(number);
        return false;
    };
    if with_key {
        reply.array(2);
        reply.bulk(key);
    }
    reply.array(if in_pairs { number } else { 2 * number });
    in_pairs
}

/// A member with its score.
pub(super) fn encode(reply: &mut Reply, it: &Scored, in_pairs: bool) {
    if in_pairs {
        reply.array(2);
    }
    reply.item(&it.member);
    reply.double(it.score);
}
