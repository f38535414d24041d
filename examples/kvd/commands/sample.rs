//! Arbitrary elements of a collection.

use std::collections::HashSet;

use super::long::{self, Snapshot};
use crate::resp::reply::Reply;
use crate::server::results::ResultMemory;
use crate::store::table::{Keyed, Table, size_of_entry};
use crate::store::text::Text;

/// Replies with so many different entries, at most all. The array has begun. Those of a large table are looked for
/// while the reply is sent. `size` is how many bytes an entry has.
pub(super) fn distinct<T: Keyed + Send + Sync + 'static>(
    (reply, memory): (&mut Reply, ResultMemory),
    table: &Table<T>,
    number: usize,
    size: impl Fn(&T) -> usize,
    encode: impl Fn(&mut Reply, &T) + Send + 'static,
) {
    if !long::are_many(table.len(), table.iter().map(size)) {
        let mut found: Vec<&T> = table.iter().collect();
        fastrand::shuffle(&mut found);
        let found = found.into_iter().take(number);
        return found.for_each(|entry| encode(reply, entry));
    }
    let table = Snapshot(table.clone());
    match number > table.len() / 3 {
        true => select(reply, table, number, encode),
        false => draw((reply, memory), table, number, encode),
    }
}

/// Goes through all entries, and selects each with the probability that the rest has to have.
fn select<T: Keyed + Send + Sync + 'static>(
    reply: &mut Reply,
    table: Snapshot<Table<T>>,
    mut number: usize,
    encode: impl Fn(&mut Reply, &T) + Send + 'static,
) {
    let (mut left, mut segment) = (table.len(), 0);
    long::reply_items(reply, move |reply| {
        let Some(entries) = table.segment(segment) else {
            return false;
        };
        segment += 1;
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
fn draw<T: Keyed + Send + Sync + 'static>(
    (reply, mut memory): (&mut Reply, ResultMemory),
    table: Snapshot<Table<T>>,
    number: usize,
    encode: impl Fn(&mut Reply, &T) + Send + 'static,
) {
    let mut seen: HashSet<Text> = HashSet::new();
    let mut copied = 0;
    long::reply_parts(reply, move |reply, budget| {
        while long::has_room(reply, budget)
            && seen.len() < number
            && let Some(entry) = table.random(fastrand::u64(..))
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
