//! Parses syslog messages.

use std::fmt;

use crate::common::Escaped;

/// The maximum length of a message over TCP. RFC 5424 section 6.1 requires at least 2,048.
pub(crate) const MAX_MESSAGE: usize = 64 * 1024;

/// The names of the severities (RFC 5424 section 6.2.1, table 2).
pub(crate) const SEVERITIES: [&str; 8] = [
    "emerg", "alert", "crit", "err", "warning", "notice", "info", "debug",
];

/// The priority of a message that has none: user, notice (RFC 3164 section 4.3.3).
const DEFAULT_PRIORITY: u8 = 13;

/// The parts of a message that the collector uses.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    pub(crate) severity: u8,
    pub(crate) host: Option<&'a str>,
    pub(crate) text: String,
}

impl<'a> Message<'a> {
    /// Parses any text. A malformed message is still a message, because syslog has no way to refuse it.
    pub(crate) fn parse(data: &'a [u8]) -> Self {
        let (priority, rest) = priority(data).unwrap_or((DEFAULT_PRIORITY, data));
        let (host, text) = match rest.strip_prefix(b"1 ") {
            // RFC 5424: TIMESTAMP HOSTNAME APP-NAME PROCID MSGID STRUCTURED-DATA MSG.
            Some(header) => (word(header, 1), after_words(header, 2)),
            // RFC 3164: "Nov 21 21:40:00 HOST TAG: text", or anything.
            None if is_dated(rest) => {
                let after_date = rest.get(16..).unwrap_or_default();
                match word(after_date, 0) {
                    // Programs on the same host omit its name, so the tag comes first.
                    Some(tag) if tag.ends_with(':') => (None, after_date),
                    host => (host, after_words(after_date, 1)),
                }
            }
            None => (None, rest),
        };
        Message {
            severity: priority % 8,
            host: host.filter(|host| *host != "-"),
            text: printable(text),
        }
    }
}

impl fmt::Display for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = SEVERITIES[usize::from(self.severity)];
        let host = Escaped(self.host.unwrap_or("-"));
        write!(f, "{severity:<8}{host} {}", self.text)
    }
}

/// Parses `<N>` with N up to 191 (RFC 5424 section 6.2.1). Returns N and the rest.
fn priority(data: &[u8]) -> Option<(u8, &[u8])> {
    let rest = data.strip_prefix(b"<")?;
    let end = rest.iter().take(4).position(|byte| *byte == b'>')?;
    let (digits, rest) = rest.split_at(end);
    let number: u8 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (number <= 191).then_some((number, &rest[1..]))
}

/// Whether a text begins with "Mmm dd hh:mm:ss ".
fn is_dated(text: &[u8]) -> bool {
    matches!(
        text,
        [
            b'A'..=b'Z',
            _,
            _,
            b' ',
            _,
            _,
            b' ',
            _,
            _,
            b':',
            _,
            _,
            b':',
            _,
            _,
            b' ',
            ..
        ]
    )
}

fn word(text: &[u8], number: usize) -> Option<&str> {
    let word = text.split(|byte| *byte == b' ').nth(number)?;
    std::str::from_utf8(word).ok().filter(|it| !it.is_empty())
}

fn after_words(text: &[u8], count: usize) -> &[u8] {
    let mut parts = text.splitn(count + 1, |byte| *byte == b' ');
    parts.nth(count).unwrap_or_default()
}

/// Escapes a text so that it cannot control the terminal.
fn printable(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    Escaped(text.trim_end_matches(['\r', '\n', '\0'])).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(data: &[u8]) -> (u8, Option<&str>, String) {
        let message = Message::parse(data);
        (message.severity, message.host, message.text)
    }

    #[test]
    fn messages_of_rfc_5424() {
        let data = b"<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 - It is";
        let text = "evntslog - ID47 - It is".to_owned();
        assert_eq!(parsed(data), (5, Some("mymachine.example.com"), text));
        assert_eq!(parsed(b"<0>1 - - - - - - x").1, None);
    }

    #[test]
    fn messages_of_rfc_3164() {
        let data = b"<34>Oct 11 22:14:15 mymachine su: 'su root' failed\n";
        let text = "su: 'su root' failed".to_owned();
        assert_eq!(parsed(data), (2, Some("mymachine"), text));
    }

    #[test]
    fn messages_of_rfc_3164_without_a_host() {
        let data = b"<13>Nov 21 22:14:15 root: hello";
        assert_eq!(parsed(data), (5, None, "root: hello".to_owned()));
    }

    #[test]
    fn malformed_messages() {
        assert_eq!(parsed(b"hello"), (5, None, "hello".to_owned()));
        assert_eq!(parsed(b"<192>hello"), (5, None, "<192>hello".to_owned()));
        assert_eq!(parsed(b"<>"), (5, None, "<>".to_owned()));
        assert_eq!(parsed(b""), (5, None, String::new()));
        assert_eq!(parsed(b"<13>"), (5, None, String::new()));
        assert_eq!(parsed(b"<13>1 "), (5, None, String::new()));
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(parsed(b"<13>\x1b[2Jx").2, "\\u{1b}[2Jx");
    }
}
