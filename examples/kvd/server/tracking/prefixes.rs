//! The prefixes of clients in broadcasting mode, and which keys with them have changed in a turn.

use std::collections::hash_map::{Entry, HashMap};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::mem;
use std::ops::Bound::{Excluded, Included, Unbounded};

use asynchat::bytes::Bytes;
use foldhash::fast::RandomState;

use super::delivery::Invalid;
use crate::store::text::Text;

/// The changed keys of a turn have so many bytes together. With more, all keys of a prefix have changed.
const MOST_CHANGED: usize = 4 << 20;
const KEY: usize = 64;

/// So many keys are encoded in the time of one delivery, about.
const ENCODED_AT_ONCE: usize = 10;

/// The memory of a prefix of a client, about.
pub fn size_of(prefix: &[u8]) -> usize {
    400 + 2 * prefix.len()
}

#[derive(Default)]
pub struct Prefixes {
    all: BTreeMap<Bytes, Prefix>,
    /// Those with changed keys.
    changed: Vec<Bytes>,
    /// The bytes of the changed keys.
    size: usize,
}

#[derive(Default)]
struct Prefix {
    clients: BTreeSet<u64>,
    changed: Option<Changed>,
}

/// The changed keys, each with the client that has changed it, if it is the only one.
enum Changed {
    Keys(HashMap<Text, Option<u64>, RandomState>),
    /// More than are noted.
    All,
}

/// The beginnings of a text that are among these, the longest first. Others than those, which are looked at on the way, are
/// no more than its bytes.
pub fn beginnings<'a, T>(
    all: &'a BTreeMap<Bytes, T>,
    text: &'a [u8],
) -> impl Iterator<Item = &'a Bytes> {
    let mut end = Included(text);
    std::iter::from_fn(move || {
        loop {
            let mut range = all.range::<[u8], _>((Unbounded, end));
            let (last, _) = range.next_back()?;
            let common = last.iter().zip(text).take_while(|(a, b)| a == b).count();
            if common == last.len() {
                end = Excluded(&text[..common]);
                return Some(last);
            }
            // A shorter beginning of the text has no more bytes than these.
            end = Included(&text[..common]);
        }
    })
}

impl Prefixes {
    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn add(&mut self, prefix: Bytes, client: u64) {
        self.all.entry(prefix).or_default().clients.insert(client);
    }

    pub fn remove(&mut self, prefix: &[u8], client: u64) {
        if let Some(found) = self.all.get_mut(prefix) {
            found.clients.remove(&client);
            if found.clients.is_empty() {
                self.all.remove(prefix);
            }
        }
    }

    /// The first client of a prefix from this one on.
    pub fn next_client(&self, prefix: &[u8], from: u64) -> Option<u64> {
        self.all.get(prefix)?.clients.range(from..).next().copied()
    }

    pub fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    pub fn note_change(&mut self, key: &Text, by: Option<u64>) {
        if self.all.is_empty() {
            return;
        }
        let found: Vec<Bytes> = beginnings(&self.all, key.as_bytes()).cloned().collect();
        for name in found {
            let Some(prefix) = self.all.get_mut(&name) else {
                continue;
            };
            let changed = prefix.changed.get_or_insert_with(|| {
                self.changed.push(name);
                Changed::Keys(HashMap::default())
            });
            if let Changed::Keys(keys) = changed {
                match keys.entry(key.clone()) {
                    // Each of them has to learn what the others have changed.
                    Entry::Occupied(mut known) if *known.get() != by => *known.get_mut() = None,
                    Entry::Occupied(_) => {}
                    Entry::Vacant(new) => {
                        new.insert(by);
                        self.size += KEY + key.heap();
                    }
                }
                if self.size > MOST_CHANGED {
                    *changed = Changed::All;
                }
            }
        }
    }

    /// Takes what has changed since the last call: a batch for each prefix.
    pub fn take_batches(&mut self) -> Vec<Batch> {
        self.size = 0;
        let mut names = mem::take(&mut self.changed);
        names.sort_unstable();
        let batches = names.into_iter().filter_map(|prefix| {
            let changed = self.all.get_mut(&prefix)?.changed.take()?;
            Some(Batch::new(prefix, changed))
        });
        batches.collect()
    }
}

/// The keys with a prefix that have changed in a turn.
pub struct Batch {
    prefix: Bytes,
    changed: Changed,
    /// The clients that have changed them.
    writers: HashSet<u64, RandomState>,
    /// The invalidation of all of them, when it is encoded.
    invalid: Option<Invalid>,
}

impl Batch {
    fn new(prefix: Bytes, changed: Changed) -> Batch {
        let writers = match &changed {
            Changed::Keys(keys) => keys.values().flatten().copied().collect(),
            Changed::All => HashSet::default(),
        };
        Batch {
            prefix,
            changed,
            writers,
            invalid: None,
        }
    }

    pub fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// The invalidation for a client, but for the keys that were changed by `skipped`, if there are others. It takes as long
    /// as so many deliveries.
    pub fn invalid(&mut self, skipped: Option<u64>) -> (Option<Invalid>, usize) {
        let Changed::Keys(keys) = &self.changed else {
            return (Some(Invalid::All), 0);
        };
        let cost = keys.len() / ENCODED_AT_ONCE;
        if skipped.is_some_and(|id| self.writers.contains(&id)) {
            let keys = keys.iter().filter(|(_, by)| **by != skipped);
            let keys: Vec<&[u8]> = keys.map(|(key, _)| key.as_bytes()).collect();
            let invalid = (!keys.is_empty()).then(|| Invalid::keys(keys.into_iter()));
            return (invalid, cost);
        }
        if let Some(invalid) = &self.invalid {
            return (Some(invalid.clone()), 0);
        }
        let invalid = Invalid::keys(keys.keys().map(Text::as_bytes));
        self.invalid = Some(invalid.clone());
        (Some(invalid), cost)
    }
}

/// The first of these prefixes that overlaps with one that the client has, or with a later one of them. With the other one, and
/// whether the client has that.
pub fn overlapping<'a>(
    own: Option<&'a BTreeSet<Bytes>>,
    new: &[&'a [u8]],
) -> Option<(&'a [u8], &'a [u8], bool)> {
    let overlap = |a: &[u8], b: &[u8]| a.starts_with(b) || b.starts_with(a);
    for (at, prefix) in new.iter().enumerate() {
        if let Some(other) = own.into_iter().flatten().find(|it| overlap(it, prefix)) {
            return Some((prefix, other, true));
        }
        if let Some(other) = new[at + 1..].iter().find(|it| overlap(it, prefix)) {
            return Some((prefix, other, false));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings_are_found_as_if_all_were_compared() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut text = |longest| -> Vec<u8> {
            let len = random.usize(0..longest);
            (0..len).map(|_| random.u8(b'a'..b'c')).collect()
        };
        for number in 0..300 {
            let all: BTreeMap<Bytes, ()> = (0..number % 30).map(|_| (text(6).into(), ())).collect();
            let text = text(9);
            let found: Vec<&Bytes> = beginnings(&all, &text).collect();
            let longest_first = all.keys().rev();
            let wanted: Vec<&Bytes> = longest_first.filter(|it| text.starts_with(it)).collect();
            assert_eq!(found, wanted);
        }
    }

    #[test]
    fn a_batch_skips_what_only_the_client_itself_has_changed() {
        let mut prefixes = Prefixes::default();
        prefixes.add("a".into(), 1);
        prefixes.note_change(&b"a1"[..].into(), Some(1));
        prefixes.note_change(&b"b1"[..].into(), Some(1));
        let own = &mut prefixes.take_batches()[0];
        assert!(own.invalid(Some(1)).0.is_none() && own.invalid(Some(2)).0.is_some());
        for writers in [[Some(1), Some(2)], [None, Some(2)], [Some(2), None]] {
            for by in writers {
                prefixes.note_change(&b"a1"[..].into(), by);
            }
            let of_both = &mut prefixes.take_batches()[0];
            assert!(of_both.invalid(Some(1)).0.is_some() && of_both.invalid(Some(2)).0.is_some());
        }
        assert!(prefixes.take_batches().is_empty());
        // A prefix that nobody has any more.
        prefixes.note_change(&b"a1"[..].into(), None);
        prefixes.remove(b"a", 1);
        assert!(prefixes.take_batches().is_empty() && prefixes.len() == 0);
    }

    #[test]
    fn prefixes_overlap_if_one_begins_with_the_other() {
        let own = BTreeSet::from([Bytes::from_static(b"ab"), Bytes::from_static(b"c")]);
        let overlapping = |new: &[&'static str]| {
            let new: Vec<&[u8]> = new.iter().map(|it| it.as_bytes()).collect();
            overlapping(Some(&own), &new).map(|(_, _, is_own)| is_own)
        };
        assert_eq!(overlapping(&["aa", "b", "d"]), None);
        assert_eq!(overlapping(&["b", "a"]), Some(true));
        assert_eq!(overlapping(&["abc"]), Some(true));
        assert_eq!(overlapping(&["x", "y", "yy"]), Some(false));
        assert_eq!(overlapping(&[""]), Some(true));
    }
}
