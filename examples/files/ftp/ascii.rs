//! TYPE A: lines end with CR LF on the network (RFC 959 section 3.1.1.1).

/// Converts what is received in TYPE A to lines that end with LF. (What is sent is converted by
/// [`CrlfProducer`](asynchat::CrlfProducer).)
#[derive(Default)]
pub struct Lines {
    /// The last piece has ended with a CR, which is not written yet.
    after_cr: bool,
}

impl Lines {
    /// Converts the next piece. The result does not depend on how the stream is divided.
    pub fn convert(&mut self, piece: &[u8], text: &mut Vec<u8>) {
        let Some(first) = piece.first() else {
            return;
        };
        if std::mem::take(&mut self.after_cr) && *first != b'\n' {
            text.push(b'\r');
        }
        let mut rest = piece;
        while let Some(at) = memchr::memchr(b'\r', rest) {
            text.extend_from_slice(&rest[..at]);
            match rest.get(at + 1) {
                Some(b'\n') => {}
                Some(_) => text.push(b'\r'),
                None => self.after_cr = true,
            }
            rest = &rest[at + 1..];
        }
        text.extend_from_slice(rest);
    }

    /// What follows the last piece.
    pub fn end(&mut self) -> &'static [u8] {
        if std::mem::take(&mut self.after_cr) {
            b"\r"
        } else {
            b""
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_division_of_the_stream_makes_no_difference() {
        let input = b"\r\na\r\n\r\r\nb\nc\rd\r\n\r";
        let expected = b"\na\n\r\nb\nc\rd\n\r";
        for first in 0..=input.len() {
            for second in first..=input.len() {
                let mut lines = Lines::default();
                let mut text = Vec::new();
                for piece in [&input[..first], &input[first..second], &input[second..]] {
                    lines.convert(piece, &mut text);
                }
                text.extend_from_slice(lines.end());
                assert_eq!(text, expected, "{first} {second}");
            }
        }
    }
}
