//! Messages for subscribers, and for clients that track keys.

use std::{iter, mem};

use asynchat::bytes::Bytes;

use super::reply::Reply;

/// A message as it is sent.
#[derive(Clone)]
pub struct Encoded {
    /// All of it, or what is before the content.
    start: Bytes,
    /// A large content, which the messages for all channels, patterns and versions share: a client may have thousands of
    /// patterns that match.
    content: Option<Bytes>,
    /// What is behind it.
    end: &'static [u8],
}

/// A content of more bytes is not copied.
const SHARED: usize = 16 << 10;

impl Encoded {
    pub fn new(names: &[&[u8]], content: &Bytes, resp3: bool) -> Encoded {
        let mut reply = Reply {
            resp3,
            ..Reply::default()
        };
        reply.push(names.len() + 1);
        names.iter().for_each(|name| reply.bulk(name));
        let is_shared = content.len() > SHARED;
        if is_shared {
            reply.head(b'$', content.len() as i64);
        } else {
            reply.bulk(content);
        }
        Encoded {
            start: reply.buffer.into(),
            content: is_shared.then(|| content.clone()),
            end: b"\r\n",
        }
    }

    /// Says that these keys have changed, which are encoded as an array, or all of them.
    pub fn invalidation(keys: Option<&Bytes>, resp3: bool) -> Encoded {
        let mut reply = Reply {
            resp3,
            ..Reply::default()
        };
        if resp3 {
            reply.push(2);
            reply.bulk(b"invalidate");
        } else {
            reply.push(3);
            reply.bulk(b"message");
            reply.bulk(b"__redis__:invalidate");
        }
        let mut content = None;
        match keys {
            None => reply.null(),
            Some(keys) if keys.len() > SHARED => content = Some(keys.clone()),
            Some(keys) => reply.buffer.extend_from_slice(keys),
        }
        Encoded {
            start: reply.buffer.into(),
            content,
            end: b"",
        }
    }

    /// Says that this client, which should get the invalidations, has left.
    pub fn broken_redirect(client: u64) -> Encoded {
        let mut reply = Reply {
            resp3: true,
            ..Reply::default()
        };
        reply.push(2);
        reply.bulk(b"tracking-redir-broken");
        reply.integer(client as i64);
        Encoded {
            start: reply.buffer.into(),
            content: None,
            end: b"",
        }
    }

    pub fn len(&self) -> usize {
        self.parts().map(|part| part.len()).sum()
    }

    /// What is sent, one after the other.
    pub fn parts(&self) -> impl Iterator<Item = Bytes> + '_ {
        let content = self.content.iter();
        let rest = content.flat_map(|it| [it.clone(), Bytes::from_static(self.end)]);
        let parts = iter::once(self.start.clone()).chain(rest);
        parts.filter(|it| !it.is_empty())
    }
}

/// Messages that wait for the end of a transaction.
#[derive(Default)]
pub struct Messages {
    all: Vec<Encoded>,
    size: usize,
}

impl Messages {
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The bytes of all.
    pub fn size(&self) -> usize {
        self.size
    }

    pub fn push(&mut self, message: Encoded) {
        self.size += message.len();
        self.all.push(message);
    }

    pub fn take(&mut self) -> Vec<Encoded> {
        self.size = 0;
        mem::take(&mut self.all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client may have thousands of patterns that match.
    #[test]
    fn a_large_content_is_shared_by_its_messages() {
        let content = Bytes::from(vec![b'x'; SHARED + 1]);
        let message = Encoded::new(&[b"message", b"c"], &content, true);
        let parts: Vec<Bytes> = message.parts().collect();
        assert_eq!(parts[1].as_ptr(), content.as_ptr());
        let start = format!(">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n${}\r\n", SHARED + 1);
        assert_eq!(
            parts.concat(),
            [start.as_bytes(), &content, b"\r\n"].concat()
        );
        let small = Encoded::new(&[b"message", b"c"], &Bytes::from_static(b"x"), false);
        let parts: Vec<Bytes> = small.parts().collect();
        assert_eq!(parts, ["*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nx\r\n"]);
    }
}
