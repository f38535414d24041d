use std::fmt;
use std::io;
use std::mem;

use bytes::Bytes;

use super::{More, Producer};
use crate::user_code::discard;

/// Sends the output of another producer in the chunked transfer coding of HTTP/1.1 (RFC 9112, 7.1): for a
/// body whose length is not known when its header is sent.
///
/// Each chunk of the inner producer becomes one HTTP chunk, without a copy. To send fewer and larger ones,
/// wrap a producer that gathers, such as [`IterProducer`](super::IterProducer). Empty chunks are left out,
/// because an HTTP chunk of length 0 ends the body.
///
/// # Errors
///
/// Those of the inner producer. Then no last chunk is sent, and the client can tell that the body is
/// incomplete.
///
/// ```
/// use asynchat::{ChunkedProducer, CompositeProducer, More, Producer};
///
/// let mut producer = ChunkedProducer::new("hello, world").trailers([("X-Cups", "3")])?;
/// assert_eq!(producer.more(65536)?, More::Chunk("c\r\n".into()));
/// assert_eq!(producer.more(65536)?, More::Chunk("hello, world".into()));
/// assert_eq!(producer.more(65536)?, More::Chunk("\r\n".into()));
/// assert_eq!(producer.more(65536)?, More::Chunk("0\r\nX-Cups: 3\r\n\r\n".into()));
/// assert_eq!(producer.more(65536)?, More::Done);
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use = "a producer does nothing until it is pushed"]
pub struct ChunkedProducer<P> {
    producer: P,
    /// An HTTP chunk is sent in three parts, so that its data is not copied.
    size: Bytes,
    data: Bytes,
    crlf: Bytes,
    /// The last chunk, the trailer section and the final CRLF. Taken when the inner producer is done.
    end: Option<Bytes>,
}

impl<P: Producer> ChunkedProducer<P> {
    /// A producer of this body, chunked, without trailers.
    pub fn new(producer: P) -> Self {
        Self {
            producer,
            size: Bytes::new(),
            data: Bytes::new(),
            crlf: Bytes::new(),
            end: Some(Bytes::from_static(b"0\r\n\r\n")),
        }
    }

    /// Sends these trailer fields, each a name and a value, after the body. They replace those of an
    /// earlier call.
    ///
    /// A field that frames, routes or authenticates the message must not be a trailer (RFC 9110, 6.5.1).
    /// This is not checked.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if a name is not a token (RFC 9110, 5.6.2) or a value
    /// contains CR, LF or NUL (RFC 9110, 5.5): such a value could forge a message.
    pub fn trailers<N, V>(mut self, fields: impl IntoIterator<Item = (N, V)>) -> io::Result<Self>
    where
        N: AsRef<str>,
        V: AsRef<[u8]>,
    {
        let mut end = b"0\r\n".to_vec();
        for (name, value) in fields {
            let (name, value) = (name.as_ref(), value.as_ref());
            if name.is_empty() || !name.bytes().all(is_token) {
                return Err(invalid(format!(
                    "{name:?} is not a valid name of a trailer field"
                )));
            }
            if value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
                return Err(invalid(format!(
                    "the value of the trailer field {name} contains CR, LF or NUL"
                )));
            }
            end.extend_from_slice(name.as_bytes());
            end.extend_from_slice(b": ");
            end.extend_from_slice(value);
            end.extend_from_slice(b"\r\n");
        }
        end.extend_from_slice(b"\r\n");
        self.end = Some(end.into());
        Ok(self)
    }
}

impl<P> fmt::Debug for ChunkedProducer<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChunkedProducer")
            .field(
                "buffered",
                &(self.size.len() + self.data.len() + self.crlf.len()),
            )
            .finish_non_exhaustive()
    }
}

impl<P: Producer> Producer for ChunkedProducer<P> {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        loop {
            for part in [&mut self.size, &mut self.data, &mut self.crlf] {
                if !part.is_empty() {
                    return part.more(budget);
                }
            }
            if self.end.is_none() {
                return Ok(More::Done);
            }
            match self.producer.more(budget)? {
                // It is passed on without a size: an HTTP chunk of length 0 would end the body.
                More::Chunk(data) if data.is_empty() => return Ok(More::Chunk(data)),
                More::Chunk(data) => {
                    self.size = format!("{:x}\r\n", data.len()).into();
                    self.data = data;
                    self.crlf = Bytes::from_static(b"\r\n");
                }
                More::Pending => return Ok(More::Pending),
                More::Done => self.size = self.end.take().unwrap_or_default(),
            }
        }
    }
}

impl<P> Drop for ChunkedProducer<P> {
    fn drop(&mut self) {
        // Its destructor is user code, and so is that of its producer. If both panicked in one unwinding, the
        // process would abort.
        discard(mem::take(&mut self.data));
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}
