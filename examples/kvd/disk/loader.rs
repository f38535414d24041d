//! Reads the keyspace from the rows on the disk.

use std::collections::HashMap;
use std::sync::Arc;

use asynchat::bytes::Bytes;

use super::rows::{KEY, ORDER, element_number};
use crate::store::hash::Hash;
use crate::store::keyspace::{DATABASES, Keyspace};
use crate::store::list::{End, List};
use crate::store::sorted_set::SortedSet;
use crate::store::text::Text;
use crate::store::value::{Set, Value};

/// Builds a keyspace from its rows, in the order of their names.
#[derive(Default)]
pub struct Loader {
    pub keyspace: Keyspace,
    /// The key that is being read.
    key: Option<(usize, Text, Value, i64)>,
}

impl Loader {
    /// Adds a row.
    pub fn add(&mut self, name: &[u8], content: &[u8]) -> Result<(), &'static str> {
        const DAMAGED: &str = "a row of the database is damaged";
        if name == ORDER {
            self.finish_key();
            return self.keyspace.arrange(content).then_some(()).ok_or(DAMAGED);
        }
        let (head, rest) = name.split_at_checked(5).ok_or(DAMAGED)?;
        let (number, len) = head.split_first().ok_or(DAMAGED)?;
        let len = u32::from_be_bytes(len.try_into().map_err(|_| DAMAGED)?) as usize;
        let (key, rest) = rest.split_at_checked(len).ok_or(DAMAGED)?;
        let (tag, element) = rest.split_first().ok_or(DAMAGED)?;
        let number = usize::from(*number);
        if number >= DATABASES {
            return Err(DAMAGED);
        }
        if *tag == KEY {
            self.finish_key();
            let (kind, rest) = content.split_first().ok_or(DAMAGED)?;
            let (expires, text) = rest.split_at_checked(8).ok_or(DAMAGED)?;
            let expires = i64::from_le_bytes(expires.try_into().map_err(|_| DAMAGED)?);
            let value = match kind {
                0 => Value::from_bytes(Bytes::copy_from_slice(text)),
                1 => Value::List(Arc::default()),
                2 => Value::Hash(Arc::new(Hash::default())),
                3 => Value::Set(Arc::new(Set::default())),
                4 => Value::Sorted(Arc::new(SortedSet::default())),
                _ => return Err(DAMAGED),
            };
            self.key = Some((number, key.into(), value, expires));
            return Ok(());
        }
        let (_, _, value, _) = self
            .key
            .as_mut()
            .filter(|(of, name, ..)| *of == number && name.as_bytes() == key)
            .ok_or(DAMAGED)?;
        match value {
            Value::List(list) => {
                let number = element_number(element).ok_or(DAMAGED)?;
                let list = Arc::make_mut(list);
                if list.is_empty() {
                    *list = List::starting_at(number);
                }
                list.push(End::Right, content.into());
            }
            Value::Hash(hash) => drop(Arc::make_mut(hash).insert(element, content.into())),
            Value::Set(set) => drop(Arc::make_mut(set).insert(element.into())),
            Value::Sorted(set) => {
                let score = f64::from_le_bytes(content.try_into().map_err(|_| DAMAGED)?);
                Arc::make_mut(set).insert(element, score);
            }
            _ => return Err(DAMAGED),
        }
        Ok(())
    }

    fn finish_key(&mut self) {
        if let Some((number, key, value, expires)) = self.key.take() {
            self.keyspace
                .database(number)
                .set(key.as_bytes(), value, expires);
        }
    }

    /// The keyspace, which collects its changes from now on.
    pub fn finish(mut self) -> Keyspace {
        self.finish_key();
        for database in self.keyspace.databases() {
            database.changes = Some(HashMap::new());
        }
        self.keyspace
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::rows::{ELEMENT, prefix, with};

    #[test]
    fn a_damaged_row_is_an_error() {
        let mut loader = Loader::default();
        assert!(loader.add(b"", b"").is_err());
        assert!(loader.add(&[0, 0, 0, 0, 9, 1], b"").is_err());
        assert!(
            loader
                .add(&with(&prefix(0, b"a"), ELEMENT, b"x"), b"")
                .is_err()
        );
        assert!(
            loader
                .add(
                    &with(&prefix(0, b"a"), KEY, &[]),
                    &[9, 0, 0, 0, 0, 0, 0, 0, 0]
                )
                .is_err()
        );
    }
}
