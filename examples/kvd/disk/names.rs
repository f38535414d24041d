//! The names of rows.
//!
//! | name | content |
//! |---|---|
//! | KEY, database, key | type, expiry and number of the value, and the bytes of a small string or the length of a large one |
//! | ELEMENT, database, number of the value, element | the value of a field, the score of a member, an element, a part |
//!
//! The name of a long key or element has its SHA-256, and then the content of the row begins with the key or element
//! itself. redb has names in the inner pages of its tree, too, and compares them on the way to a row, so they have to be
//! short.

use ring::digest::{SHA256, digest};

use crate::store::change::element_name;

/// The first byte of a name: which table has the row.
pub const KEY: u8 = b'K';
pub const ELEMENT: u8 = b'E';

/// How a key or an element is in a name.
const PLAIN: u8 = 0;
const HASHED: u8 = 1;

/// A key or an element of more bytes than this is long.
const LONG: usize = 1024;

/// The name of the row with the order of the databases. In its table it is behind all others.
pub const ORDER: &[u8] = &[KEY, u8::MAX];

/// The name of a row.
pub fn name_of(mut prefix: Vec<u8>, text: &[u8]) -> Vec<u8> {
    push_name(&mut prefix, text);
    prefix
}

/// Makes a name of a prefix.
pub fn push_name(prefix: &mut Vec<u8>, text: &[u8]) {
    if text.len() <= LONG {
        prefix.push(PLAIN);
        prefix.extend_from_slice(text);
    } else {
        prefix.push(HASHED);
        prefix.extend_from_slice(digest(&SHA256, text).as_ref());
    }
}

/// The head of the content of a row: empty unless the key or element is long.
pub fn head_of(text: &[u8]) -> Vec<u8> {
    if text.len() <= LONG {
        Vec::new()
    } else {
        [&(text.len() as u64).to_le_bytes()[..], text].concat()
    }
}

/// The key or element in a row, and the rest of the content: the opposite of [`name_of`] and [`head_of`].
pub fn text_of_row<'a>(name: &'a [u8], content: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    match name.split_first()? {
        (&PLAIN, text) => Some((text, content)),
        (&HASHED, _) => {
            let (len, rest) = content.split_first_chunk()?;
            rest.split_at_checked(usize::try_from(u64::from_le_bytes(*len)).ok()?)
        }
        _ => None,
    }
}

/// What the names of the rows of a value begin with.
pub fn prefix(database: u8, id: u64) -> Vec<u8> {
    let mut name = Vec::with_capacity(32);
    name.extend_from_slice(&[ELEMENT, database]);
    name.extend_from_slice(&id.to_be_bytes());
    name
}

/// The bytes of a [`prefix`].
pub const PREFIX: usize = 10;

/// The name of the row of an element with a number.
pub fn numbered(prefix: &[u8], number: i64) -> Vec<u8> {
    [prefix, &[PLAIN], &element_name(number)].concat()
}
