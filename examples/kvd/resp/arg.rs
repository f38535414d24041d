//! An argument of a request, which may become a part of what is stored.

use asynchat::bytes::Bytes;

use crate::store::text::Text;

#[derive(Clone, Copy)]
pub enum Arg<'a> {
    InInput(&'a [u8]),
    /// It has a buffer of its own, so that nothing else is kept with it.
    Large(&'a Bytes),
}

impl AsRef<[u8]> for Arg<'_> {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        match self {
            Arg::InInput(bytes) => bytes,
            Arg::Large(bytes) => bytes,
        }
    }
}

impl From<Arg<'_>> for Text {
    #[inline]
    fn from(arg: Arg<'_>) -> Text {
        match arg {
            Arg::InInput(bytes) => bytes.into(),
            Arg::Large(bytes) => bytes.clone().into(),
        }
    }
}
