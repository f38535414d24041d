//! What a key can have.

use std::iter;
use std::sync::Arc;

use asynchat::bytes::Bytes;

use super::change::element_number;
use super::dropper::MANY;
use super::estimate;
use super::hash::{Field, Hash};
use super::list::List;
use super::number::{Digits, decimal, integer};
use super::ranked::Scored;
use super::sorted_set::SortedSet;
use super::table::Table;
use super::text::Text;

/// From this length on a string is shared with the replies that contain it instead of copied.
pub const SHARED: usize = 16 * 1024;

/// A value, in 24 bytes. Collections are shared with the replies that are being made of them.
#[derive(Clone)]
pub enum Value {
    /// A string that is the decimal text of this number.
    Int(i64),
    Text(Text),
    /// A string that is appended to.
    Growing(Arc<Vec<u8>>),
    Shared(Arc<Bytes>),
    List(Arc<List>),
    Hash(Arc<Hash>),
    Set(Arc<Set>),
    Sorted(Arc<SortedSet>),
}

pub type Set = Table<Text>;

/// A string that was appended to, and that a snapshot of the key has, too.
struct Owner(Arc<Vec<u8>>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Value {
    /// A string.
    pub fn string(data: &[u8]) -> Value {
        if data.len() <= 20 {
            match integer(data) {
                Some(number) => Value::Int(number),
                None => Value::Text(data.into()),
            }
        } else {
            Value::Text(data.into())
        }
    }

    /// A string that takes over the bytes, if they are many.
    pub fn from_bytes(data: Bytes) -> Value {
        if data.len() >= SHARED {
            Value::Shared(Arc::new(data))
        } else {
            Value::string(&data)
        }
    }

    /// The bytes of a string. `digits` has those of a number. `None` for a collection.
    #[inline]
    pub fn text<'a>(&'a self, digits: &'a mut Digits) -> Option<&'a [u8]> {
        Some(match self {
            Value::Int(number) => decimal(*number, digits),
            Value::Text(text) => text.as_bytes(),
            Value::Growing(data) => data,
            Value::Shared(data) => data,
            _ => return None,
        })
    }

    pub fn is_string(&self) -> bool {
        matches!(
            self,
            Value::Int(_) | Value::Text(_) | Value::Growing(_) | Value::Shared(_)
        )
    }

    /// The bytes of a string that was appended to, shared from now on. `None` for any other value.
    pub fn share(&mut self) -> Option<&Bytes> {
        if let Value::Growing(data) = self {
            let data = match Arc::try_unwrap(std::mem::take(data)) {
                Ok(data) => data.into(),
                Err(data) => Bytes::from_owner(Owner(data)),
            };
            *self = Value::Shared(Arc::new(data));
        }
        match self {
            Value::Shared(data) => Some(data),
            _ => None,
        }
    }

    /// The bytes of a large string, without a copy. Until they are dropped, the string is copied before it is changed.
    pub fn shared(&self) -> Option<Bytes> {
        self.shared_from(SHARED)
    }

    /// The same of a string that was appended to and has at least so many bytes, too.
    pub fn shared_from(&self, least: usize) -> Option<Bytes> {
        match self {
            Value::Growing(data) if data.len() >= least => {
                Some(Bytes::from_owner(Owner(Arc::clone(data))))
            }
            Value::Shared(data) => Some(Bytes::clone(data)),
            _ => None,
        }
    }

    /// The bytes of a string, to be changed.
    pub fn growing(&mut self) -> Option<&mut Vec<u8>> {
        if let Value::Shared(data) = self {
            // Without a copy, if no reply contains it.
            let data = Vec::from(std::mem::take(Arc::make_mut(data)));
            *self = Value::Growing(Arc::new(data));
        }
        if !matches!(self, Value::Growing(_)) {
            let mut digits = Digits::default();
            let data = self.text(&mut digits)?.to_vec();
            *self = Value::Growing(Arc::new(data));
        }
        match self {
            Value::Growing(data) => Some(Arc::make_mut(data)),
            _ => None,
        }
    }

    /// Whether a string has to be copied before it is changed.
    pub fn is_shared(&self) -> bool {
        match self {
            Value::Growing(data) => Arc::strong_count(data) > 1,
            Value::Shared(data) => Arc::strong_count(data) > 1 || !data.is_unique(),
            _ => false,
        }
    }

    /// Whether it is a string that replies share.
    pub fn is_large_string(&self) -> bool {
        match self {
            Value::Growing(data) => data.len() >= SHARED,
            Value::Shared(_) => true,
            _ => false,
        }
    }

    /// How many elements a collection has. 0 for a string.
    pub fn len(&self) -> usize {
        match self {
            Value::List(list) => list.len(),
            Value::Hash(hash) => hash.len(),
            Value::Set(set) => set.len(),
            Value::Sorted(set) => set.len(),
            _ => 0,
        }
    }

    /// The bytes of a string, or of all elements. If these are many, it is an estimate from some at both ends, of 64 bytes
    /// for each at least: a row costs about so much, however short it is.
    pub fn size(&self) -> usize {
        match self {
            Value::Int(_) => size_of::<i64>(),
            Value::Text(text) => text.as_bytes().len(),
            Value::Growing(data) => data.len(),
            Value::Shared(data) => data.len(),
            Value::List(list) => {
                let size = |it: &Text| 8 + it.as_bytes().len();
                let from_end = list.iter().rev().map(size);
                size_of_all(list.len(), list.iter().map(size), from_end)
            }
            Value::Hash(hash) => {
                let size = |it: &Field| it.name.as_bytes().len() + it.value.as_bytes().len();
                size_of_all(hash.len(), hash.iter().map(size), iter::empty())
            }
            Value::Set(set) => {
                let sizes = set.iter().map(|it| it.as_bytes().len());
                size_of_all(set.len(), sizes, iter::empty())
            }
            Value::Sorted(set) => {
                let size = |it: &Scored| it.member.as_bytes().len() + 8;
                let from_end = set.ranked.before(set.len()).map(size);
                size_of_all(set.len(), set.ranked.from(0).map(size), from_end)
            }
        }
    }

    /// The bytes of the content of an element with this name. 0 if there is none.
    pub fn size_of(&self, element: &[u8]) -> usize {
        let content = match self {
            Value::List(list) => element_number(element)
                .and_then(|number| usize::try_from(number.checked_sub(list.number(0))?).ok())
                .and_then(|index| list.get(index)),
            Value::Hash(hash) => hash.find(element),
            _ => None,
        };
        content.map_or(0, |it| it.as_bytes().len())
    }

    /// The name of the type, as TYPE returns it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::List(_) => "list",
            Value::Hash(_) => "hash",
            Value::Set(_) => "set",
            Value::Sorted(_) => "zset",
            _ => "string",
        }
    }

    /// How the value is stored, as OBJECT ENCODING returns it. Where this server stores a value in another way than
    /// Redis, it has the name that Redis has for a value of this kind.
    pub fn encoding(&self) -> &'static str {
        match self {
            Value::Int(_) => "int",
            Value::Text(text) if text.is_inline() => "embstr",
            Value::Text(_) | Value::Growing(_) | Value::Shared(_) => "raw",
            Value::List(_) => "quicklist",
            Value::Hash(hash) => match **hash {
                Hash::Small(_) => "listpack",
                Hash::Large(_) => "hashtable",
            },
            Value::Set(_) => "hashtable",
            Value::Sorted(set) => {
                if set.is_small() {
                    "listpack"
                } else {
                    "skiplist"
                }
            }
        }
    }

    /// The bytes of memory beside this struct, for MEMORY USAGE. Those of the elements of a collection are estimated from
    /// so many of them, or of a thousand.
    pub fn heap(&self, samples: usize) -> usize {
        const COUNTS: usize = 16;
        let of_all =
            |sizes: &mut dyn Iterator<Item = usize>| estimate::sum(self.len(), sizes, samples);
        match self {
            Value::Int(_) => 0,
            Value::Text(text) => text.heap(),
            Value::Growing(data) => COUNTS + size_of::<Vec<u8>>() + data.capacity(),
            Value::Shared(data) => COUNTS + size_of::<Bytes>() + data.len(),
            Value::List(list) => {
                let texts = of_all(&mut list.iter().map(Text::heap));
                COUNTS + size_of::<List>() + list.heap() + texts
            }
            Value::Hash(hash) => {
                let table = match &**hash {
                    Hash::Small(fields) => fields.capacity() * 2 * size_of::<Text>(),
                    Hash::Large(table) => table.heap(),
                };
                let mut sizes = hash.iter().map(|it| it.name.heap() + it.value.heap());
                COUNTS + size_of::<Hash>() + table + of_all(&mut sizes)
            }
            Value::Set(set) => {
                let texts = of_all(&mut set.iter().map(Text::heap));
                COUNTS + size_of::<Set>() + set.heap() + texts
            }
            Value::Sorted(set) => {
                let copies = if set.is_small() { 1 } else { 2 };
                let mut sizes = set.ranked.from(0).map(|it| copies * it.member.heap());
                COUNTS + size_of::<SortedSet>() + set.heap() + of_all(&mut sizes)
            }
        }
    }
}

/// The sum of the sizes of so many elements, or an estimate.
fn size_of_all(
    len: usize,
    sizes: impl Iterator<Item = usize>,
    from_end: impl Iterator<Item = usize>,
) -> usize {
    const SAMPLES: usize = 32;
    const LEAST: usize = 64;
    if len <= MANY {
        return sizes.sum();
    }
    let (mut number, mut bytes) = (0, 0);
    for size in sizes.take(SAMPLES).chain(from_end.take(SAMPLES)) {
        number += 1;
        bytes += size;
    }
    len * LEAST.max(bytes / number.max(1))
}

#[cfg(test)]
mod tests {
    use super::super::list::End;
    use super::*;

    #[test]
    fn a_string_that_is_read_between_two_appends_is_not_copied() {
        let mut value = Value::Text(b"a"[..].into());
        let data = value.growing().unwrap();
        data.reserve_exact(100_000);
        data.extend_from_slice(&[b'x'; 50_000]);
        let place = data.as_ptr();
        assert_eq!(value.share().unwrap().as_ptr(), place);
        assert_eq!(value.share().unwrap().len(), 50_001);
        assert_eq!(value.growing().unwrap().as_ptr(), place);
        // A reply that contains it keeps what it has.
        let reply = value.share().unwrap().clone();
        value.growing().unwrap().push(b'y');
        assert_eq!(
            (reply.len(), value.share().unwrap().len()),
            (50_001, 50_002)
        );
    }

    #[test]
    fn a_string_that_a_copy_of_the_value_has_is_shared_without_a_copy_of_its_bytes() {
        let mut value = Value::Growing(Arc::new(vec![b'x'; 50_000]));
        let start = value.text(&mut Digits::default()).map(<[u8]>::as_ptr);
        let mut copy = value.clone();
        assert!(value.is_shared() && copy.is_shared());
        assert_eq!(value.share().map(|it| it.as_ptr()), start);
        assert_eq!(copy.share().map(|it| it.as_ptr()), start);
        assert!(value.is_shared() && copy.is_shared());
    }

    #[test]
    fn a_large_string_of_a_snapshot_is_shared_without_a_copy_of_its_bytes() {
        let large = vec![b'x'; SHARED];
        let bytes = Bytes::from(large.clone());
        for value in [Value::Growing(Arc::new(large)), Value::from_bytes(bytes)] {
            let shared = value.shared().expect("it is large");
            let text = value.text(&mut Digits::default()).map(<[u8]>::as_ptr);
            assert_eq!(Some(shared.as_ptr()), text);
        }
        assert!(Value::Growing(Arc::new(b"x".to_vec())).shared().is_none());
        assert!(Value::Int(1).shared().is_none());
    }

    #[test]
    fn the_memory_of_a_collection_is_estimated_from_some_of_its_elements() {
        let mut list = List::default();
        for number in 0..1_000 {
            let len = if number < 10 { 100 } else { 200 };
            list.push(End::Right, vec![b'x'; len].into());
        }
        let chunks = list.heap();
        let value = Value::List(Arc::new(list));
        let head = 16 + size_of::<List>() + chunks;
        assert_eq!(value.heap(5), head + 100_000);
        assert_eq!(value.heap(20), head + 150_000);
        assert_eq!(value.heap(usize::MAX), head + 199_000);
        assert_eq!(Value::List(Arc::default()).heap(5), 16 + size_of::<List>());
    }

    #[test]
    fn the_size_of_many_elements_is_estimated_from_some_at_both_ends() {
        let list_of = |first: usize, number: usize, rest: usize| {
            let mut list = List::default();
            for index in 0..number {
                let len = if index < number / 2 { first } else { rest };
                list.push(End::Right, vec![b'x'; len].into());
            }
            Value::List(Arc::new(list)).size()
        };
        assert_eq!(list_of(1, MANY, 3), MANY * (8 + 2));
        assert_eq!(list_of(1, 2 * MANY, 1), 2 * MANY * 64);
        assert_eq!(list_of(10_000, 2 * MANY, 10_000), 2 * MANY * 10_008);
        assert_eq!(list_of(100, 2 * MANY, 10_100), 2 * MANY * 5_108);
    }

    #[test]
    fn a_value_has_24_bytes() {
        assert_eq!(size_of::<Value>(), 24);
    }

    #[test]
    fn a_string_returns_its_bytes_in_every_form() {
        for text in [
            "0",
            "-7",
            "007",
            "9223372036854775808",
            "hello",
            &"x".repeat(100_000),
        ] {
            let mut value = Value::from_bytes(Bytes::from(text.to_owned()));
            let mut digits = Digits::default();
            assert_eq!(value.text(&mut digits), Some(text.as_bytes()));
            assert_eq!(value.growing().map(|it| it.len()), Some(text.len()));
        }
        assert!(matches!(Value::string(b"12"), Value::Int(12)));
    }
}
