//! Arbitrary elements of a collection.

use std::collections::HashSet;

use super::long::{self, Snapshot};
use super::{Failure, OUT_OF_RANGE, SYNTAX, signed_count};
use crate::resp::reply::Reply;
use crate::resp::request::Args;
use crate::server::results::ResultMemory;
use crate::store::dropper::Droppable;
use crate::store::ranked::{Ranked, Scored};
use crate::store::table::{Keyed, Table, size_of_entry};
use crate::store::text::Text;

/// What HRANDFIELD and ZRANDMEMBER are asked for.
pub(super) struct Wanted {
    /// How many elements. If negative, each is drawn from all, and may be there again.
    count: i64,
    /// Whether with their values or scores.
    pub(super) in_pairs: bool,
}

impl Wanted {
    /// Reads the arguments behind the key. Without any, one element is asked for, and not as an array.
    pub(super) fn parse(args: Args<'_>, option: &str) -> Result<Option<Wanted>, Failure> {
        if args.len() == 2 {
            return Ok(None);
        }
        let count = signed_count(args.get(2))?;
        let in_pairs = match args.len() {
            3 => false,
            4 if args.is(3, option) => true,
            _ => return Err(SYNTAX),
        };
        if in_pairs && count.abs() > i64::MAX / 2 {
            return Err(OUT_OF_RANGE);
        }
        Ok(Some(Wanted { count, in_pairs }))
    }

    pub(super) fn is_repeated(&self) -> bool {
        self.count < 0
    }

    /// Begins the reply with elements of a collection of this length. Returns how many follow, and whether each is an array
    /// of its own, as pairs are in version 3.
    pub(super) fn begin(&self, reply: &mut Reply, len: usize) -> (usize, bool) {
        let number = if self.is_repeated() {
            self.count.unsigned_abs() as usize
        } else {
            len.min(self.count as usize)
        };
        let are_arrays = self.in_pairs && reply.resp3;
        reply.array(if self.in_pairs && !are_arrays {
            2 * number
        } else {
            number
        });
        (number, are_arrays)
    }
}

/// A collection of which a clone is a snapshot.
pub(super) trait Collection: Clone + Default + Droppable {
    type Entry: Keyed;

    fn len(&self) -> usize;

    /// A few hundred entries, or `None` if there are not so many parts.
    fn part(&self, index: usize) -> Option<impl Iterator<Item = &Self::Entry>>;

    fn random(&self) -> Option<&Self::Entry>;
}

impl<T: Keyed + Send + Sync + 'static> Collection for Table<T> {
    type Entry = T;

    fn len(&self) -> usize {
        Table::len(self)
    }

    fn part(&self, index: usize) -> Option<impl Iterator<Item = &T>> {
        self.segment(index)
    }

    fn random(&self) -> Option<&T> {
        Table::random(self, fastrand::u64(..))
    }
}

impl Collection for Ranked {
    type Entry = Scored;

    fn len(&self) -> usize {
        Ranked::len(self)
    }

    fn part(&self, index: usize) -> Option<impl Iterator<Item = &Scored>> {
        self.block(index).map(<[Scored]>::iter)
    }

    fn random(&self) -> Option<&Scored> {
        Ranked::random(self, |end| fastrand::usize(..end))
    }
}

/// Replies with so many entries, each drawn from all. The array has begun. It may be much larger than the collection.
/// `draw` returns false if there is no entry.
pub(super) fn repeated(
    reply: &mut Reply,
    mut left: usize,
    mut draw: impl FnMut(&mut Reply) -> bool + Send + 'static,
) {
    long::reply_items(reply, move |reply| {
        let has_drawn = left > 0 && draw(reply);
        left = left.saturating_sub(1);
        has_drawn
    });
}

/// Replies with so many different entries, at most all. The array has begun. Those of a large collection are looked for
/// while the reply is sent. `size` is how many bytes an entry has.
pub(super) fn distinct<C: Collection>(
    (reply, memory): (&mut Reply, ResultMemory),
    collection: &C,
    number: usize,
    size: impl Fn(&C::Entry) -> usize,
    encode: impl Fn(&mut Reply, &C::Entry) + Send + 'static,
) {
    let entries = || {
        let parts = (0..).map_while(|index| collection.part(index));
        parts.flatten()
    };
    if !long::are_many(collection.len(), entries().map(size)) {
        let mut found: Vec<&C::Entry> = entries().collect();
        fastrand::shuffle(&mut found);
        let found = found.into_iter().take(number);
        return found.for_each(|entry| encode(reply, entry));
    }
    let snapshot = Snapshot(collection.clone());
    if number > collection.len() / 3 {
        select(reply, snapshot, number, encode);
    } else {
        draw((reply, memory), snapshot, number, encode);
    }
}

/// Goes through all entries, and selects each with the probability that the rest has to have.
fn select<C: Collection>(
    reply: &mut Reply,
    collection: Snapshot<C>,
    mut number: usize,
    encode: impl Fn(&mut Reply, &C::Entry) + Send + 'static,
) {
    let (mut left, mut index) = (collection.len(), 0);
    long::reply_items(reply, move |reply| {
        let Some(entries) = collection.part(index) else {
            return false;
        };
        index += 1;
        for entry in entries {
            if fastrand::usize(..left) < number {
                encode(reply, entry);
                number -= 1;
            }
            left -= 1;
        }
        true
    });
}

/// Takes arbitrary entries until there are enough different ones.
fn draw<C: Collection>(
    (reply, mut memory): (&mut Reply, ResultMemory),
    collection: Snapshot<C>,
    number: usize,
    encode: impl Fn(&mut Reply, &C::Entry) + Send + 'static,
) {
    let mut seen: HashSet<Text> = HashSet::new();
    let mut copied = 0;
    long::reply_parts(reply, move |reply, budget| {
        while long::has_room(reply, budget)
            && seen.len() < number
            && let Some(entry) = collection.random()
        {
            let key = Text::from(entry.key());
            let size = key.heap();
            if seen.insert(key) {
                copied += size;
                encode(reply, entry);
            }
        }
        // Not for each entry: it locks what all workers share.
        memory.note_use(seen.len() * size_of_entry::<Text>() + copied)
    });
}
