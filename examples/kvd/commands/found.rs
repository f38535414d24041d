//! A string that a reply will have: the value of a key for MGET, or what a pattern of SORT refers to.

use asynchat::bytes::Bytes;

use super::long::{MANY, MANY_BYTES};
use crate::resp::reply::Reply;
use crate::store::dropper::Droppable;
use crate::store::number::Digits;
use crate::store::text::Text;
use crate::store::value::Value;

/// From this length on a string is not copied.
const LONG: usize = 1024;

/// A string. A long one is not copied.
pub enum Found {
    Text(Text),
    Shared(Bytes),
}

impl Found {
    /// The string of a key. `None` for a collection.
    pub fn of(value: &Value) -> Option<Found> {
        if let Value::Text(text) = value {
            return Some(Found::Text(text.clone()));
        }
        match value.shared_from(LONG) {
            Some(data) => Some(Found::Shared(data)),
            None => Some(Found::Text(value.text(&mut Digits::default())?.into())),
        }
    }

    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Found::Text(text) => text.as_bytes(),
            Found::Shared(data) => data,
        }
    }

    /// As an element of a list.
    pub fn into_text(self) -> Text {
        match self {
            Found::Text(text) => text,
            Found::Shared(data) => data.into(),
        }
    }

    /// The bytes that were copied, beside this struct. What is shared with the key is memory of the key.
    pub fn size_of_copy(&self) -> usize {
        match self {
            Found::Text(text) => text.size_of_clone(),
            Found::Shared(_) => 0,
        }
    }

    pub fn encode(&self, reply: &mut Reply) {
        match self {
            Found::Text(text) => reply.item(text),
            Found::Shared(data) => reply.bytes(data),
        }
    }
}

/// The strings of many keys, `None` for those that are missing.
#[derive(Default)]
pub struct Values(pub Vec<Option<Found>>);

impl Droppable for Values {
    fn is_long(&self) -> bool {
        let mut found = self.0.iter().flatten();
        self.0.len() > MANY || found.any(|it| it.as_bytes().len() > MANY_BYTES)
    }
}
