//! The head of an article: reading its fields. The parsing is mail-parser's.

use mail_parser::{DateTime, Message, MessageParser};

/// A parsed head.
pub struct Head<'a>(Option<Message<'a>>);

impl<'a> Head<'a> {
    pub fn parse(head: &'a [u8]) -> Head<'a> {
        Head(MessageParser::new().parse_headers(head))
    }

    /// A field's value as OVER and HDR give it: unfolded, and with a space for
    /// each TAB, CR, LF and NUL that is left (RFC 3977, sections 8.3.2 and
    /// 8.5.2). Octets stay as they are: encoded words are the client's affair.
    pub fn value(&self, name: &str) -> Option<Vec<u8>> {
        let message = self.0.as_ref()?;
        let field = message
            .headers()
            .iter()
            .find(|field| field.name.as_str().eq_ignore_ascii_case(name))?;
        let range = field.offset_start as usize..field.offset_end as usize;
        let raw = message.raw_message.get(range)?.trim_ascii();
        let mut value = Vec::with_capacity(raw.len());
        for (i, &octet) in raw.iter().enumerate() {
            match octet {
                b'\r' if raw.get(i + 1) == Some(&b'\n') => {}
                b'\n' if i > 0 && raw[i - 1] == b'\r' => {}
                b'\t' | b'\r' | b'\n' | 0 => value.push(b' '),
                _ => value.push(octet),
            }
        }
        Some(value)
    }

    /// The Date, in seconds of Unix time.
    pub fn date(&self) -> Option<i64> {
        let date = self.0.as_ref()?.date()?;
        date.is_valid().then(|| DateTime::to_timestamp(date))
    }

    /// True when From names somebody's address.
    pub fn has_author(&self) -> bool {
        let from = self.0.as_ref().and_then(Message::from);
        let address = from.and_then(|from| from.first()?.address());
        address.is_some_and(|address| address.contains('@'))
    }
}

/// A message identifier as RFC 3977, section 3.6, has it: in angle brackets, 3
/// to 250 printable octets, none of them a `>` before the last.
pub fn is_message_id(text: &[u8]) -> bool {
    (3..=250).contains(&text.len())
        && matches!(text, [b'<', inner @ .., b'>']
            if inner.iter().all(|&b| b.is_ascii_graphic() && b != b'>' && b != b'<'))
}

/// True when every line is a field or the continuation of one. mail-parser
/// forgives what is not, as a mail client has to; a poster is told.
pub fn is_well_formed(head: &[u8]) -> bool {
    let mut lines = head.split_inclusive(|&b| b == b'\n');
    !head.starts_with(b" ")
        && !head.starts_with(b"\t")
        && lines.all(|line| {
            let name = line.split(|&b| b == b':').next().unwrap_or_default();
            let field = name.len() < line.len()
                && !name.is_empty()
                && name.iter().all(u8::is_ascii_graphic);
            field || line.starts_with(b" ") || line.starts_with(b"\t")
        })
        && !head.contains(&0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_unfolded_and_tabs_become_spaces() {
        let head = b"Subject: one\r\n\ttwo\tthree \r\nX-Empty:\r\nsubject: no\r\n";
        let head = Head::parse(head);
        assert_eq!(head.value("SUBJECT").unwrap(), b"one two three");
        assert_eq!(head.value("X-Empty").unwrap(), b"");
        assert_eq!(head.value("X-None"), None);
    }

    #[test]
    fn eight_bit_octets_stay() {
        let head = Head::parse(b"Subject: caf\xe9 \xff\r\n");
        assert_eq!(head.value("Subject").unwrap(), b"caf\xe9 \xff");
    }

    #[test]
    fn message_identifiers() {
        assert!(is_message_id(b"<a@b>"));
        assert!(is_message_id(b"<a>"));
        for bad in [
            &b"<>"[..],
            b"a@b",
            b"<a b@c>",
            b"<a>b>",
            b"<a@b",
            b"<\xe9@b>",
        ] {
            assert!(!is_message_id(bad));
        }
        assert!(!is_message_id(format!("<{}>", "a".repeat(249)).as_bytes()));
    }

    #[test]
    fn lines_that_are_no_fields() {
        assert!(is_well_formed(b"A: b\r\n c\r\nD:\r\n"));
        for bad in [
            &b" A: b\r\n"[..],
            b"A: b\r\nnonsense\r\n",
            b": x\r\n",
            b"A b: c\r\n",
        ] {
            assert!(!is_well_formed(bad));
        }
    }
}
