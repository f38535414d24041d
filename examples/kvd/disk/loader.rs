//! Reads the keyspace from the rows on the disk.

use std::collections::HashMap;
use std::sync::Arc;

use asynchat::bytes::Bytes;

use super::names::{ORDER, text_of_row};
use super::rows::Kind;
use crate::store::change::{PART, element_number};
use crate::store::database::Entry;
use crate::store::hash::Hash;
use crate::store::keyspace::{DATABASES, Keyspace};
use crate::store::list::{End, List};
use crate::store::sorted_set::SortedSet;
use crate::store::text::Text;
use crate::store::value::{Set, Value};

/// Builds a keyspace from its rows: first those of the keys, then those of elements and parts, in the order of their
/// names.
#[derive(Default)]
pub struct Loader {
    keyspace: Keyspace,
    /// That of the databases, if it is another one than that of their numbers.
    order: Option<Vec<u8>>,
    /// The keys that have elements, by database and number.
    waiting: HashMap<(usize, u64), Loading>,
    /// The one whose elements are being read.
    current: Option<((usize, u64), Loading)>,
}

struct Loading {
    entry: Entry,
    /// A string in parts, of which there are these so far, and the length of the whole.
    string: Option<(Vec<u8>, u64)>,
}

const DAMAGED: &str = "a row of the database is damaged";

type Outcome = Result<(), &'static str>;

impl Loader {
    /// Adds the row of a key, or that with the order of the databases. The name begins with the number of the database.
    pub fn add_key(&mut self, name: &[u8], content: &[u8]) -> Outcome {
        if name == &ORDER[1..] {
            self.order = Some(content.to_vec());
            return Ok(());
        }
        let (number, name) = split_database(name)?;
        let (key, content) = text_of_row(name, content).ok_or(DAMAGED)?;
        let (kind, content) = content.split_first().ok_or(DAMAGED)?;
        let (expires, content) = content.split_first_chunk().ok_or(DAMAGED)?;
        let (id, text) = content.split_first_chunk().ok_or(DAMAGED)?;
        let mut string = None;
        let value = match Kind::ALL.get(usize::from(*kind)).ok_or(DAMAGED)? {
            Kind::String => Value::from_bytes(Bytes::copy_from_slice(text)),
            Kind::List => Value::List(Arc::default()),
            Kind::Hash => Value::Hash(Arc::new(Hash::default())),
            Kind::Set => Value::Set(Arc::new(Set::default())),
            Kind::Sorted => Value::Sorted(Arc::new(SortedSet::default())),
            Kind::Parts => {
                let len = u64::from_le_bytes(text.try_into().map_err(|_| DAMAGED)?);
                string = Some((Vec::new(), len));
                Value::Int(0)
            }
        };
        let entry = Entry {
            key: key.into(),
            value,
            expires: i64::from_le_bytes(*expires),
            id: u64::from_le_bytes(*id),
        };
        match entry.id {
            0 => self.keyspace.database(number).load(entry),
            id => {
                let other = self.waiting.insert((number, id), Loading { entry, string });
                if other.is_some() {
                    return Err(DAMAGED);
                }
            }
        }
        Ok(())
    }

    /// Adds the row of an element or a part. The name begins with the number of the database.
    pub fn add_element(&mut self, name: &[u8], content: &[u8]) -> Outcome {
        let (number, name) = split_database(name)?;
        let (id, name) = name.split_first_chunk().ok_or(DAMAGED)?;
        let id = (number, u64::from_be_bytes(*id));
        if self.current.as_ref().is_none_or(|(of, _)| *of != id) {
            self.finish_current()?;
            let entry = self.waiting.remove(&id).ok_or(DAMAGED)?;
            self.current = Some((id, entry));
        }
        let (_, loading) = self.current.as_mut().ok_or(DAMAGED)?;
        let (element, content) = text_of_row(name, content).ok_or(DAMAGED)?;
        loading.add(element, content)
    }

    /// Rows with numbers below that in this name may be there, which belong to no key.
    pub fn skip(&mut self, name: &[u8]) -> Outcome {
        let (number, id) = split_database(name)?;
        let end = u64::from_be_bytes(id.try_into().map_err(|_| DAMAGED)?);
        let database = self.keyspace.database(number);
        database.last_id = database.last_id.max(end.saturating_sub(1));
        Ok(())
    }

    fn finish_current(&mut self) -> Outcome {
        match self.current.take() {
            Some(((number, _), loading)) => self.finish_key(number, loading),
            None => Ok(()),
        }
    }

    fn finish_key(&mut self, number: usize, loading: Loading) -> Outcome {
        let mut entry = loading.entry;
        if let Some((text, len)) = loading.string {
            if text.len() as u64 != len {
                return Err(DAMAGED);
            }
            entry.value = Value::Shared(Arc::new(text.into()));
        }
        self.keyspace.database(number).load(entry);
        Ok(())
    }

    /// The keyspace, which collects its changes from now on.
    pub fn finish(mut self) -> Result<Keyspace, &'static str> {
        self.finish_current()?;
        for ((number, _), loading) in std::mem::take(&mut self.waiting) {
            self.finish_key(number, loading)?;
        }
        if self
            .order
            .is_some_and(|order| !self.keyspace.arrange(&order))
        {
            return Err(DAMAGED);
        }
        for database in self.keyspace.databases() {
            database.changes = Some(HashMap::new());
        }
        Ok(self.keyspace)
    }
}

impl Loading {
    fn add(&mut self, element: &[u8], content: &[u8]) -> Outcome {
        if let Some((text, len)) = &mut self.string {
            let part = element_number(element).and_then(|it| usize::try_from(it).ok());
            if part.and_then(|it| it.checked_mul(PART)) != Some(text.len()) {
                return Err(DAMAGED);
            }
            if text.is_empty() {
                let len = usize::try_from(*len).map_err(|_| DAMAGED)?;
                text.try_reserve_exact(len).map_err(|_| DAMAGED)?;
            }
            text.extend_from_slice(content);
            return Ok(());
        }
        match &mut self.entry.value {
            Value::List(list) => {
                let number = element_number(element).ok_or(DAMAGED)?;
                let list = Arc::make_mut(list);
                if list.is_empty() {
                    *list = List::starting_at(number);
                }
                list.push(End::Right, content.into());
            }
            Value::Hash(hash) => drop(Arc::make_mut(hash).insert(element, content.into())),
            Value::Set(set) => drop(Arc::make_mut(set).insert(Text::from(element))),
            Value::Sorted(set) => {
                let score = f64::from_le_bytes(content.try_into().map_err(|_| DAMAGED)?);
                Arc::make_mut(set).insert(element, score);
            }
            _ => return Err(DAMAGED),
        }
        Ok(())
    }
}

fn split_database(name: &[u8]) -> Result<(usize, &[u8]), &'static str> {
    let (number, rest) = name.split_first().ok_or(DAMAGED)?;
    let number = usize::from(*number);
    if number < DATABASES {
        Ok((number, rest))
    } else {
        Err(DAMAGED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::names::{numbered, prefix};

    /// The row of a key: its name and its content.
    fn key(kind: u8, id: u64, text: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let content = [&[kind][..], &[0; 8], &id.to_le_bytes(), text].concat();
        (b"\0\0k".to_vec(), content)
    }

    #[test]
    fn a_damaged_row_is_an_error() {
        let of_key = |name: &[u8], content: &[u8]| Loader::default().add_key(name, content);
        let (name, content) = key(0, 0, b"text");
        assert!(of_key(&name, &content).is_ok());
        assert!(of_key(b"", b"").is_err());
        assert!(of_key(&[16, 0, 1], &content).is_err());
        assert!(of_key(&[0, 2, 1], &content).is_err());
        assert!(of_key(&[0, 1, 1], &u64::MAX.to_le_bytes()).is_err());
        assert!(of_key(&name, &key(9, 0, b"").1).is_err());
        assert!(of_key(&name, &content[..16]).is_err());
        assert!(of_key(&name, &key(5, 1, b"12").1).is_err());
        let element = numbered(&prefix(0, 1), 0);
        assert!(
            Loader::default().add_element(&element[1..], b"").is_err(),
            "it has no key"
        );
    }

    #[test]
    fn two_keys_with_the_same_number_are_an_error() {
        let mut loader = Loader::default();
        let (name, content) = key(1, 7, b"");
        loader.add_key(&name, &content).unwrap();
        loader.add_key(b"\x01\0k", &content).unwrap();
        assert!(loader.add_key(b"\0\0other", &content).is_err());
    }

    #[test]
    fn a_string_that_has_not_all_its_parts_is_an_error() {
        let len = PART as u64 + 3;
        for (parts, is_complete) in [
            (&[(0, PART), (1, 3)][..], true),
            (&[(0, PART)], false),
            (&[(1, 3)], false),
            (&[(0, PART), (2, 3)], false),
            (&[(0, PART), (1, 4)], false),
            (&[(0, 3)], false),
            (&[], false),
        ] {
            let mut loader = Loader::default();
            let (name, content) = key(5, 1, &len.to_le_bytes());
            loader.add_key(&name, &content).unwrap();
            let added = parts.iter().try_for_each(|(part, len)| {
                let name = numbered(&prefix(0, 1), *part);
                loader.add_element(&name[1..], &vec![b'x'; *len])
            });
            let loaded = added.and_then(|()| loader.finish());
            assert_eq!(loaded.is_ok(), is_complete, "{parts:?}");
        }
    }

    #[test]
    fn numbers_are_not_used_again_while_dead_rows_have_them() {
        let mut loader = Loader::default();
        loader.skip(&prefix(3, 8)[1..]).unwrap();
        let mut keyspace = loader.finish().unwrap();
        assert_eq!(keyspace.database(3).last_id, 7);
    }
}
