//! A hash: fields with values. A small one is a vector in the order of insertion, as in Redis.

use super::growth::grow_by_a_quarter;
use super::table::{Keyed, Table};
use super::text::Text;

/// `hash-max-listpack-entries` and `hash-max-listpack-value` of Redis.
const SMALL: usize = 128;
const SHORT: usize = 64;

#[derive(Clone)]
pub struct Field {
    pub name: Text,
    pub value: Text,
}

impl Keyed for Field {
    fn name(&self) -> &Text {
        &self.name
    }
}

#[derive(Clone)]
pub enum Hash {
    Small(Vec<Field>),
    Large(Table<Field>),
}

impl Default for Hash {
    fn default() -> Self {
        Hash::Small(Vec::new())
    }
}

impl Hash {
    pub fn len(&self) -> usize {
        match self {
            Hash::Small(fields) => fields.len(),
            Hash::Large(table) => table.len(),
        }
    }

    pub fn find(&self, name: &[u8]) -> Option<&Text> {
        match self {
            Hash::Small(fields) => fields
                .iter()
                .find(|it| it.key() == name)
                .map(|it| &it.value),
            Hash::Large(table) => table.find(name).map(|it| &it.value),
        }
    }

    /// Sets a field. Returns whether it is new.
    pub fn insert(&mut self, name: impl AsRef<[u8]> + Into<Text>, value: Text) -> bool {
        let bytes = name.as_ref();
        let found = match self {
            Hash::Small(fields) => fields.iter_mut().find(|it| it.key() == bytes),
            Hash::Large(table) => table.find_mut(bytes),
        };
        let is_long = value.as_bytes().len() > SHORT || bytes.len() > SHORT;
        let is_new = match found {
            Some(field) => {
                field.value = value;
                false
            }
            None => {
                let name = name.into();
                match self {
                    Hash::Small(fields) => {
                        grow_by_a_quarter(fields);
                        fields.push(Field { name, value });
                    }
                    Hash::Large(table) => table.insert_new(Field { name, value }),
                }
                true
            }
        };
        if let Hash::Small(fields) = self
            && (is_long || fields.len() > SMALL)
        {
            let mut table = Table::default();
            fields.drain(..).for_each(|field| table.insert_new(field));
            *self = Hash::Large(table);
        }
        is_new
    }

    pub fn remove(&mut self, name: &[u8]) -> bool {
        match self {
            Hash::Small(fields) => {
                let at = fields.iter().position(|it| it.key() == name);
                at.map(|at| fields.remove(at)).is_some()
            }
            Hash::Large(table) => table.remove(name).is_some(),
        }
    }

    pub fn iter(&self) -> Box<dyn Iterator<Item = &Field> + '_> {
        match self {
            Hash::Small(fields) => Box::new(fields.iter()),
            Hash::Large(table) => Box::new(table.iter()),
        }
    }

    pub fn random(&self, random: u64) -> Option<&Field> {
        match self {
            Hash::Small(fields) if fields.is_empty() => None,
            Hash::Small(fields) => fields.get((random % fields.len() as u64) as usize),
            Hash::Large(table) => table.random(random),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_keeps_the_order_of_insertion_while_it_is_small_and_its_fields_when_it_grows() {
        let mut hash = Hash::default();
        for number in (0..100).rev() {
            assert!(hash.insert(format!("{number}").as_bytes(), b"v"[..].into()));
        }
        let first = hash.iter().next().map(|it| it.name.as_bytes().to_vec());
        assert_eq!(first, Some(b"99".to_vec()));
        for number in 100..1_000 {
            assert!(hash.insert(format!("{number}").as_bytes(), b"v"[..].into()));
        }
        assert!(!hash.insert(b"5", b"w"[..].into()));
        assert_eq!(hash.find(b"5").map(Text::as_bytes), Some(&b"w"[..]));
        assert!(hash.remove(b"5") && !hash.remove(b"5"));
        assert_eq!(hash.len(), 999);
    }
}
