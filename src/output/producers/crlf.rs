use std::fmt;
use std::io;

use bytes::Bytes;
use memchr::memchr_iter;

use super::converted::{Conversion, Converted};
use super::{More, Producer};

/// Sends the output of another producer with CR LF at the end of each line: an LF without a CR before it
/// becomes CR LF. Use it for text that is stored with the line endings of Unix, such as the messages of a
/// maildir.
///
/// A CR LF is sent unchanged, and so is a CR without an LF. A last line without an ending gets none, unless
/// a [`DotStuffer`](super::DotStuffer) around this producer adds it. A chunk in which no LF is converted is
/// not copied.
///
/// # Errors
///
/// Those of the inner producer.
///
/// ```
/// use asynchat::{CrlfProducer, DotStuffer, More, Producer, ReadProducer};
///
/// // The reply to RETR of POP3: the message of a maildir, in CR LF lines, dot-stuffed.
/// let message = &b"Subject: hello\n\n.\nbye\n"[..];
/// let mut producer = DotStuffer::new(CrlfProducer::new(ReadProducer::new(message)));
/// assert_eq!(
///     producer.more(65536)?,
///     More::Chunk("Subject: hello\r\n\r\n..\r\nbye\r\n".into())
/// );
/// assert_eq!(producer.more(65536)?, More::Chunk(".\r\n".into()));
/// assert_eq!(producer.more(65536)?, More::Done);
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use = "a producer does nothing until it is pushed"]
pub struct CrlfProducer<P>(Converted<P, Endings>);

impl<P: Producer> CrlfProducer<P> {
    /// A producer of the output of `producer` in CR LF lines.
    pub fn new(producer: P) -> Self {
        Self(Converted::new(producer, Endings { after_cr: false }))
    }
}

impl<P> fmt::Debug for CrlfProducer<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CrlfProducer").field(&self.0).finish()
    }
}

impl<P: Producer> Producer for CrlfProducer<P> {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        self.0.more(budget)
    }
}

struct Endings {
    /// The last piece ended with a CR.
    after_cr: bool,
}

impl Conversion for Endings {
    fn convert(&mut self, piece: Bytes) -> Bytes {
        let after_cr = self.after_cr;
        self.after_cr = piece.ends_with(b"\r");
        let mut bare = memchr_iter(b'\n', &piece).filter(|&lf| match lf.checked_sub(1) {
            Some(before) => piece.get(before) != Some(&b'\r'),
            None => !after_cr,
        });
        let Some(mut lf) = bare.next() else {
            drop(bare);
            return piece;
        };
        let mut converted = Vec::with_capacity(piece.len() + piece.len() / 16 + 1);
        let mut copied = 0;
        loop {
            converted.extend_from_slice(piece.get(copied..lf).unwrap_or_default());
            converted.extend_from_slice(b"\r\n");
            copied = lf + 1;
            match bare.next() {
                Some(next) => lf = next,
                None => break,
            }
        }
        converted.extend_from_slice(piece.get(copied..).unwrap_or_default());
        converted.into()
    }

    fn end(&mut self) -> &'static [u8] {
        b""
    }
}
