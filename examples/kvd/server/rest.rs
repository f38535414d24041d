//! The input of a connection that could not be used yet.

use std::ops::Range;

use asynchat::bytes::Bytes;

use crate::resp::request::Parser;

/// A request that is not complete, or requests that wait. It begins with a request.
#[derive(Default)]
pub struct Rest {
    input: Vec<u8>,
    /// So many bytes of it are executed.
    used: usize,
    pub parser: Parser,
    /// The large argument that is being received.
    pub large: Option<Large>,
}

impl Rest {
    pub fn input(&self) -> &[u8] {
        &self.input[self.used..]
    }

    pub fn extend(&mut self, input: &[u8]) {
        self.input.extend_from_slice(input);
    }

    /// Drops the input around this part. The part is moved only if that is as much as what is dropped at most: this runs
    /// once for each large argument of a request, and for each turn that executes what a blocked client has sent, so
    /// that a copy each time would make the cost quadratic.
    pub fn keep(&mut self, part: Range<usize>) {
        self.input.truncate(self.used + part.end);
        self.used += part.start;
        if self.used >= self.input.len() - self.used {
            self.input.drain(..self.used);
            self.used = 0;
        }
    }
}

/// An argument that is collected by itself, with the two bytes that follow it.
pub struct Large {
    len: usize,
    data: Vec<u8>,
}

impl Large {
    /// Begins with the bytes that have come with the request. It may be that more follow than the input has room for.
    pub fn begin(len: usize, begun: &[u8]) -> Large {
        let mut data = Vec::with_capacity(begun.len().max(1 << 20).min(len + 2));
        data.extend_from_slice(begun);
        Large { len, data }
    }

    /// How many bytes have come.
    pub fn received(&self) -> usize {
        self.data.len()
    }

    pub fn missing(&self) -> usize {
        self.len + 2 - self.data.len()
    }

    pub fn extend(&mut self, chunk: &[u8]) {
        let data = &mut self.data;
        if data.capacity() - data.len() < chunk.len() {
            // The system moves the pages of a large block instead of copying it.
            let wanted = (data.len() + chunk.len())
                .max(data.capacity() * 2)
                .min(self.len + 2);
            data.reserve_exact(wanted - data.len());
        }
        data.extend_from_slice(chunk);
    }

    /// The argument, without the bytes that follow it.
    pub fn into_bytes(mut self) -> Bytes {
        self.data.truncate(self.len);
        self.data.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_a_request_stays_in_its_place() {
        let mut rest = Rest {
            input: b"*9\r\n$3\r\nSET\r\n$1\r\nk\r\n".to_vec(),
            ..Rest::default()
        };
        let (begun, place) = (rest.input.len(), rest.input.as_ptr());
        for _ in 0..10 {
            rest.keep(0..begun);
            assert_eq!((rest.input.as_ptr(), rest.input.len()), (place, begun));
        }
        rest.keep(4..8);
        assert_eq!(rest.input(), b"$3\r\n");
    }

    #[test]
    fn what_is_left_of_much_input_is_moved_seldom() {
        let mut rest = Rest::default();
        rest.extend(&[7; 1000]);
        let mut moves = 0;
        for left in (0..1000).rev() {
            let before = rest.used;
            rest.keep(1..left + 1);
            moves += usize::from(rest.used <= before);
            assert_eq!(rest.input().len(), left);
        }
        assert!(moves < 12, "{moves}");
    }

    #[test]
    fn a_large_argument_is_what_was_received_without_its_end() {
        let mut large = Large::begin(5, b"he");
        large.extend(b"llo\r");
        assert_eq!((large.received(), large.missing()), (6, 1));
        large.extend(b"\n");
        assert_eq!(large.missing(), 0);
        assert_eq!(large.into_bytes(), "hello");
    }
}
