//! Many members that are removed from a sorted set: a part at a time, from a snapshot.

use std::ops::Range;
use std::sync::Arc;

use super::stored::{self, Making};
use super::{Context, Failure, Outcome, long};
use crate::resp::reply::Reply;
use crate::store::database::Database;
use crate::store::ranked::Scored;
use crate::store::sorted_set::SortedSet;
use crate::store::text::Text;
use crate::store::value::Value;

/// How many members are a part.
const PART: usize = 250;

/// What the command replies with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Replies {
    /// The number of the removed members.
    Number,
    /// The members and their scores, as an array of pairs or as one array. The key may come before them.
    Members { in_pairs: bool, with_key: bool },
}

/// Removes the members with the ranks that `range` returns. With `from_end` the last one is the first.
pub(super) fn remove(
    context: &mut Context<'_>,
    key: &[u8],
    range: impl Fn(&SortedSet) -> Result<Range<usize>, Failure> + 'static,
    from_end: bool,
    replies: Replies,
) -> Outcome {
    let source = Text::from(key);
    stored::store(context, key, Some(vec![source.clone()]), move |db| {
        let set = db.sorted(source.as_bytes())?;
        let set = set.map(|set| SortedSet::clone(set)).unwrap_or_default();
        let ranks = range(&set)?;
        Ok(Removal {
            set,
            ranks,
            from_end,
            replies,
            removed: Vec::new(),
            count: 0,
        })
    })
}

struct Removal {
    set: SortedSet,
    /// The ranks of those that are still to be removed.
    ranks: Range<usize>,
    from_end: bool,
    replies: Replies,
    /// Those that are in the reply.
    removed: Vec<Scored>,
    count: usize,
}

impl Making for Removal {
    fn len(&self) -> usize {
        self.ranks.len()
    }

    fn advance(&mut self) -> Result<bool, Failure> {
        let number = PART.min(self.ranks.len());
        let (ranked, ranks) = (&self.set.ranked, &self.ranks);
        let part: Vec<Scored> = match self.from_end {
            false => ranked.from(ranks.start).take(number).cloned().collect(),
            true => ranked.before(ranks.end).take(number).cloned().collect(),
        };
        for it in &part {
            self.set.remove(it.member.as_bytes());
        }
        self.ranks.end -= number;
        self.count += number;
        if self.replies != Replies::Number {
            self.removed.extend(part);
        }
        Ok(!self.ranks.is_empty())
    }

    fn store(&mut self, db: &mut Database, target: &[u8], reply: &mut Reply) {
        if self.count > 0 {
            let left = Value::Sorted(Arc::new(std::mem::take(&mut self.set)));
            stored::leave(db, target, left);
        }
        if self.count == 0 && matches!(self.replies, Replies::Members { with_key: true, .. }) {
            // Another client has removed the key meanwhile. There is no reply with a key and no member.
            return reply.null_array();
        }
        let in_pairs = begin(reply, target, self.count, self.replies);
        if self.replies == Replies::Number {
            return;
        }
        reply.has_taken = true;
        let mut members = std::mem::take(&mut self.removed).into_iter();
        long::reply_items(reply, move |reply| {
            let next = members.next();
            next.map(|it| encode(reply, &it, in_pairs)).is_some()
        });
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
