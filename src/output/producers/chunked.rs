use std::io;

use bytes::Bytes;

use super::{More, Producer};

/// Any producer's output in the chunked transfer coding of HTTP/1.1 (RFC 9112, 7.1), for a body
/// whose length is not known when its header is sent.
///
/// Each chunk of the producer inside becomes one HTTP chunk, uncopied; to have fewer and larger ones
/// wrap a producer that gathers, like [`IterProducer`](super::IterProducer). Empty chunks are left
/// out, as an HTTP chunk of length zero is the end of the body.
///
/// If the producer fails there is no last chunk, and the client sees that the body is incomplete.
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
#[derive(Debug)]
pub struct ChunkedProducer<P> {
    producer: P,
    /// An HTTP chunk in three parts, so that its data need not be copied.
    size: Bytes,
    data: Bytes,
    crlf: Bytes,
    /// The last chunk, the trailer section and the final CRLF; taken when the producer is done.
    end: Option<Bytes>,
}

impl<P: Producer> ChunkedProducer<P> {
    /// A producer of the chunked body that `producer` produces, without trailers.
    pub fn new(producer: P) -> Self {
        Self {
            producer,
            size: Bytes::new(),
            data: Bytes::new(),
            crlf: Bytes::new(),
            end: Some(Bytes::from_static(b"0\r\n\r\n")),
        }
    }

    /// Sends these fields, name and value, after the body, in place of any set before.
    ///
    /// RFC 9110, 6.5 says which fields may be trailers, and that none may be that frames, routes or
    /// authenticates the message; that is left to you.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if a name is not a token (RFC 9110, 5.6.2) or a
    /// value contains CR, LF or NUL (RFC 9110, 5.5), as these would let a value forge a message.
    pub fn trailers<N, V>(mut self, fields: impl IntoIterator<Item = (N, V)>) -> io::Result<Self>
    where
        N: AsRef<str>,
        V: AsRef<[u8]>,
    {
        let mut end = b"0\r\n".to_vec();
        for (name, value) in fields {
            let (name, value) = (name.as_ref(), value.as_ref());
            if name.is_empty() || !name.bytes().all(is_token) {
                return Err(invalid(format!("{name:?} is no name for a trailer field")));
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
                // No chunk: an empty one ends the body.
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

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}
