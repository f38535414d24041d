//! The buffers of a TLS stage: what the channel receives, and what is to be sent.

use std::io::IoSlice;

use rustls::unbuffered::{EncodeError, EncryptError};

/// The longest content of a record (RFC 8446 section 5.1).
pub(super) const RECORD: usize = 16 * 1024;

/// What a record adds to its content: a header, a nonce or a content type, and a tag.
pub(super) const OVERHEAD: usize = 64;

/// The buffer of the channel, which plaintext is copied to.
pub(super) struct Destination<'a> {
    pub(super) buffer: &'a mut [u8],
    pub(super) filled: usize,
}

impl Destination<'_> {
    pub(super) fn nowhere() -> Self {
        Destination {
            buffer: &mut [],
            filled: 0,
        }
    }
}

/// What the input contained.
#[derive(Default)]
pub(super) struct Received {
    /// Plaintext that the channel has not taken.
    pub(super) plaintext: Vec<u8>,
    pub(super) taken: usize,
    pub(super) peer_has_closed: bool,
    /// How many records without content have come behind the last one with content.
    pub(super) quiet: usize,
}

/// Ciphertext that was not sent yet. The buffer is longer than its content, so that it is zero-filled once.
#[derive(Default)]
pub(super) struct Output {
    pub(super) buffer: Vec<u8>,
    pub(super) filled: usize,
    pub(super) sent: usize,
    /// It has ended with `close_notify`.
    pub(super) is_closed: bool,
}

impl Received {
    pub(super) fn is_empty(&self) -> bool {
        self.plaintext.is_empty()
    }

    pub(super) fn deliver(&mut self, mut payload: &[u8], into: &mut Destination<'_>) {
        if self.is_empty() {
            let room = into.buffer.get_mut(into.filled..).unwrap_or_default();
            let count = payload.len().min(room.len());
            let (fits, rest) = payload.split_at(count);
            room.split_at_mut(count).0.copy_from_slice(fits);
            into.filled += count;
            payload = rest;
        }
        self.plaintext.extend_from_slice(payload);
    }

    pub(super) fn take(&mut self, into: &mut [u8]) -> usize {
        let left = self.plaintext.get(self.taken..).unwrap_or_default();
        let count = left.len().min(into.len());
        into.split_at_mut(count)
            .0
            .copy_from_slice(left.split_at(count).0);
        self.taken += count;
        if self.taken == self.plaintext.len() {
            self.plaintext = Vec::new();
            self.taken = 0;
        }
        count
    }
}

impl Output {
    /// Room for this number of bytes behind the content.
    pub(super) fn room(&mut self, bytes: usize) -> &mut [u8] {
        let end = self.filled + bytes;
        if self.buffer.len() < end {
            self.buffer.resize(end, 0);
        }
        self.buffer.get_mut(self.filled..end).unwrap_or_default()
    }

    /// Appends a message of the handshake.
    pub(super) fn encode(
        &mut self,
        encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
    ) -> Result<(), rustls::Error> {
        self.write(OVERHEAD, encode)
    }

    /// Appends what `write` writes. It gets `room` bytes. If they are too few, its error says how many it needs, and it is
    /// called once more.
    pub(super) fn write<E: NotWritten>(
        &mut self,
        mut room: usize,
        mut write: impl FnMut(&mut [u8]) -> Result<usize, E>,
    ) -> Result<(), rustls::Error> {
        loop {
            match write(self.room(room)) {
                Ok(count) => {
                    self.filled += count;
                    return Ok(());
                }
                Err(error) => match error.required() {
                    Some(required) if required > room => room = required,
                    _ => return Err(rustls::Error::General(error.to_string())),
                },
            }
        }
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.room(bytes.len()).copy_from_slice(bytes);
        self.filled += bytes.len();
    }
}

/// Appends to a buffer whose capacity doubles up to `most` bytes. That of a vector would double beyond them.
pub(super) fn append(buffer: &mut Vec<u8>, bytes: &[u8], most: usize) {
    let needed = buffer.len() + bytes.len();
    if needed > buffer.capacity() {
        let capacity = needed.max(most.min(2 * buffer.capacity()));
        buffer.reserve_exact(capacity - buffer.len());
    }
    buffer.extend_from_slice(bytes);
}

/// Why rustls has not written to a buffer.
pub(super) trait NotWritten: ToString {
    /// How much room it needs, if there was too little.
    fn required(&self) -> Option<usize>;
}

impl NotWritten for EncodeError {
    fn required(&self) -> Option<usize> {
        match self {
            EncodeError::InsufficientSize(size) => Some(size.required_size),
            EncodeError::AlreadyEncoded => None,
        }
    }
}

impl NotWritten for EncryptError {
    fn required(&self) -> Option<usize> {
        match self {
            EncryptError::InsufficientSize(size) => Some(size.required_size),
            EncryptError::EncryptExhausted => None,
        }
    }
}

/// Divides the parts of a write into the contents of records. Short parts share a record.
pub(super) struct Records<'a> {
    parts: &'a [IoSlice<'a>],
    /// How much of the first part is in earlier records.
    begun: usize,
    left: usize,
}

impl<'a> Records<'a> {
    pub(super) fn new(parts: &'a [IoSlice<'a>], most: usize) -> Self {
        Records {
            parts,
            begun: 0,
            left: most,
        }
    }

    /// The content of the next record: a part, or several that are copied to `copy`.
    pub(super) fn next<'b>(&mut self, copy: &'b mut Vec<u8>) -> Option<&'b [u8]>
    where
        'a: 'b,
    {
        let most = self.left.min(RECORD);
        copy.clear();
        while copy.len() < most
            && let Some((first, others)) = self.parts.split_first()
        {
            let rest: &'a [u8] = first.get(self.begun..).unwrap_or_default();
            let count = rest.len().min(most - copy.len());
            let piece = rest.get(..count).unwrap_or_default();
            self.begun += count;
            let is_last = others.is_empty();
            if count == rest.len() {
                (self.parts, self.begun) = (others, 0);
            }
            if copy.is_empty() && (count == most || is_last) {
                self.left -= count;
                return (count > 0).then_some(piece);
            }
            copy.extend_from_slice(piece);
        }
        self.left -= copy.len();
        (!copy.is_empty()).then_some(&copy[..])
    }
}
