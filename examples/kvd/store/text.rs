//! A short string of bytes without an allocation.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

use asynchat::bytes::Bytes;

/// The longest string that needs no allocation. With its length and the tag it makes 24 bytes.
const INLINE: usize = 22;

/// From this length on a clone shares the bytes, so that a copy of a part of a collection has an end soon.
const SHARED: usize = 1024;

/// Bytes that do not change: a key, a member, an element, a short value. Up to 22 of them are stored in the
/// place of the pointer, so that a million small keys are no million allocations.
#[derive(Clone)]
pub enum Text {
    Inline { len: u8, bytes: [u8; INLINE] },
    Boxed(Box<[u8]>),
    Shared(Arc<Long>),
}

/// Many bytes.
pub struct Long {
    bytes: Bytes,
    hash: OnceLock<u64>,
}

impl Long {
    fn new(bytes: Bytes) -> Arc<Long> {
        Arc::new(Long {
            bytes,
            hash: OnceLock::new(),
        })
    }
}

impl Text {
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Text::Inline { len, bytes } => &bytes[..usize::from(*len).min(INLINE)],
            Text::Boxed(bytes) => bytes,
            Text::Shared(long) => &long.bytes,
        }
    }

    /// What `hash`, which is always the same function, returns for the bytes. It is called once for many bytes: a segment
    /// of a table may have hundreds of such names, whose hashes a scan and a split need.
    #[inline]
    pub fn hash_with(&self, hash: fn(&[u8]) -> u64) -> u64 {
        match self {
            Text::Shared(long) => *long.hash.get_or_init(|| hash(&long.bytes)),
            _ => hash(self.as_bytes()),
        }
    }

    /// The bytes, without a copy if they are many.
    pub fn to_bytes(&self) -> Bytes {
        match self {
            Text::Shared(long) => long.bytes.clone(),
            _ => Bytes::copy_from_slice(self.as_bytes()),
        }
    }

    pub fn is_inline(&self) -> bool {
        matches!(self, Text::Inline { .. })
    }

    /// The bytes that are copied when this is cloned, beside this struct.
    pub fn size_of_clone(&self) -> usize {
        match self {
            Text::Boxed(bytes) => bytes.len(),
            Text::Inline { .. } | Text::Shared(_) => 0,
        }
    }

    /// The bytes of memory beside this struct.
    pub fn heap(&self) -> usize {
        match self {
            Text::Inline { .. } => 0,
            Text::Boxed(bytes) => bytes.len(),
            Text::Shared(long) => 16 + size_of::<Long>() + long.bytes.len(),
        }
    }
}

impl Default for Text {
    fn default() -> Self {
        b""[..].into()
    }
}

impl From<&[u8]> for Text {
    #[inline]
    fn from(data: &[u8]) -> Self {
        if data.len() > INLINE {
            return if data.len() >= SHARED {
                Text::Shared(Long::new(Bytes::copy_from_slice(data)))
            } else {
                Text::Boxed(data.into())
            };
        }
        let mut bytes = [0; INLINE];
        bytes[..data.len()].copy_from_slice(data);
        Text::Inline {
            len: data.len() as u8,
            bytes,
        }
    }
}

impl From<Vec<u8>> for Text {
    fn from(data: Vec<u8>) -> Self {
        match data.len() {
            SHARED.. => Text::Shared(Long::new(data.into_boxed_slice().into())),
            len if len > INLINE => Text::Boxed(data.into()),
            _ => data.as_slice().into(),
        }
    }
}

/// Many bytes are not copied. A part of a larger buffer keeps the whole buffer.
impl From<Bytes> for Text {
    fn from(data: Bytes) -> Self {
        if data.len() >= SHARED {
            Text::Shared(Long::new(data))
        } else {
            data[..].into()
        }
    }
}

impl<const N: usize> From<&[u8; N]> for Text {
    fn from(data: &[u8; N]) -> Self {
        data[..].into()
    }
}

impl From<&Vec<u8>> for Text {
    fn from(data: &Vec<u8>) -> Self {
        data[..].into()
    }
}

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Text {}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl Borrow<[u8]> for Text {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_24_bytes_and_returns_what_it_was_made_of() {
        assert_eq!(size_of::<Text>(), 24);
        for len in [0, 1, 21, 22, 23, 1023, 1024] {
            let data = vec![b'x'; len];
            assert_eq!(Text::from(&data[..]).as_bytes(), data);
            assert_eq!(Text::from(data.clone()), Text::from(&data[..]));
            assert_eq!(Text::from(data).is_inline(), len <= 22);
        }
    }
}
