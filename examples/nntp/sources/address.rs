//! Makes header values from arbitrary text: addresses in the format of RFC 5322,
//! section 3.4, and unstructured text. Text that is not ASCII becomes encoded words
//! (RFC 2047).

use mail_builder::encoders::base64::base64_encode_mime;

use crate::server::head::is_dot_atom;

/// Octets of text in an encoded word, which then has 68 octets. A line with it and
/// the name of the field has at most 76 octets (RFC 2047, section 2).
const WORD: usize = 42;

/// The value of a From field. If `email` is not an address, one in `domain` is made
/// from it.
pub fn mailbox(name: &str, email: &str, domain: &str) -> String {
    let address = address(email, domain);
    let name = printable(name);
    if name.is_empty() {
        return address;
    }
    if is_plain(&name) {
        let name = name.replace('\\', "\\\\").replace('"', "\\\"");
        return format!("\"{name}\" <{address}>");
    }
    // Without quotes, because encoded words are not decoded in a quoted string (RFC 2047, section 5).
    format!("{}\r\n <{address}>", encoded(&name))
}

/// The value of an unstructured field, such as Subject.
pub fn text(value: &str) -> String {
    let value = printable(value);
    if is_plain(&value) {
        value
    } else {
        encoded(&value)
    }
}

fn address(email: &str, domain: &str) -> String {
    if let Some((local, host)) = email.rsplit_once('@')
        && is_dot_atom(local.as_bytes())
        && is_dot_atom(host.as_bytes())
    {
        return email.to_owned();
    }
    let is_safe = |c: &char| c.is_ascii_alphanumeric() || "-_+".contains(*c);
    let local: String = email.chars().filter(is_safe).take(64).collect();
    let local = if local.is_empty() { "unknown" } else { &local };
    format!("{local}@{domain}")
}

/// Replaces each run of white space and control characters by a space.
fn printable(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

/// Whether text needs no encoding. Text that looks like an encoded word must be
/// encoded, because a reader would decode it.
fn is_plain(text: &str) -> bool {
    text.is_ascii() && !text.contains("=?")
}

/// Encoded words in base64, which are also valid in a phrase (section 5, rule 3).
fn encoded(text: &str) -> String {
    let mut words = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let mut ends = (0..=rest.len().min(WORD)).rev();
        let end = ends
            .find(|&end| rest.is_char_boundary(end))
            .unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let mut base64 = Vec::new();
        // Writing to memory does not fail.
        let _ = base64_encode_mime(word.as_bytes(), &mut base64, true);
        words.push(format!("=?utf-8?B?{}?=", String::from_utf8_lossy(&base64)));
        rest = after;
    }
    words.join("\r\n ")
}

#[cfg(test)]
mod tests {
    use mail_parser::MessageParser;

    use super::*;
    use crate::server::head::Head;

    /// The name and the address that a mail reader parses.
    fn read(name: &str, email: &str) -> (String, String) {
        let mut head = Head::default();
        head.push("From", mailbox(name, email, "here.invalid"));
        assert!(Head::parse(head.as_bytes()).is_ok());
        for line in head.as_bytes().split(|&b| b == b'\n') {
            assert!(!line.starts_with(b"=?") || line.len() <= 77, "{line:?}");
        }
        let message = MessageParser::new().parse_headers(head.as_bytes()).unwrap();
        let from = message.from().unwrap();
        assert_eq!(from.iter().count(), 1, "{name}");
        let from = from.first().unwrap();
        let name = from.name().unwrap_or_default();
        (
            name.to_owned(),
            from.address().unwrap_or_default().to_owned(),
        )
    }

    #[test]
    fn names_survive_encoding_and_decoding() {
        for name in [
            "Jane Doe",
            "Doe, Jane",
            "J. R. \"Bob\" Dobbs",
            "back\\slash",
            "a@b <c@d>",
            "(x",
            "a; b: c",
            "Zo\u{eb}",
            "Zo\u{eb}, Jr. (\"x\") <y@z>",
            "\u{738b}\u{5c0f}\u{660e}",
            "=?utf-8?Q?x?=",
            "",
        ] {
            let found = read(name, "a.b@example.org");
            assert_eq!(found, (name.to_owned(), "a.b@example.org".to_owned()));
        }
        let long = "\u{738b}".repeat(100);
        assert_eq!(read(&long, "a@b.example").0, long);
        assert_eq!(
            read("a\r\nApproved: b\0\u{1b}[c", "a@b.example").0,
            "a Approved: b [c"
        );
    }

    #[test]
    fn malformed_addresses_are_replaced() {
        for (email, expected) in [
            ("a@b", "a@b"),
            ("jane", "jane@here.invalid"),
            ("", "unknown@here.invalid"),
            ("(no author)", "noauthor@here.invalid"),
            ("a b@c", "abc@here.invalid"),
            ("a@b> <c@d", "abcd@here.invalid"),
            ("z\u{eb}@x", "zx@here.invalid"),
        ] {
            assert_eq!(read("n", email).1, expected);
        }
    }

    #[test]
    fn text_survives_encoding_and_decoding() {
        for value in ["plain", "caf\u{e9} ".repeat(30).trim(), "=?utf-8?Q?x?= y"] {
            let mut head = Head::default();
            head.push("Subject", text(value));
            let message = MessageParser::new().parse_headers(head.as_bytes()).unwrap();
            assert_eq!(message.subject(), Some(value));
        }
    }
}
