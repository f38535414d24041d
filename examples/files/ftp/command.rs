//! The parser of command lines.

/// A command: its name in capital letters, and what follows the space after it.
pub struct Command {
    pub name: String,
    pub argument: Vec<u8>,
}

impl Command {
    pub fn parse(line: &[u8]) -> Command {
        let line = without_telnet(line);
        let end = memchr::memchr(b' ', &line).unwrap_or(line.len());
        Command {
            name: String::from_utf8_lossy(&line[..end]).to_ascii_uppercase(),
            argument: line.get(end + 1..).unwrap_or_default().to_vec(),
        }
    }

    /// In bytes.
    pub fn size(&self) -> usize {
        self.name.len() + self.argument.len()
    }

    /// The argument, if it is text.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.argument).ok()
    }
}

const IAC: u8 = 255;

/// The control connection is one of Telnet (RFC 959 section 2.3, RFC 854). Before ABOR a client sends the signals IP and
/// Synch (RFC 959 section 4.1.3). Options are not negotiated, and a byte 255 is sent twice.
fn without_telnet(mut line: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(line.len());
    loop {
        line = match line {
            [] => return text,
            [IAC, 251..=254, _, rest @ ..] => rest, // WILL, WON'T, DO, DON'T
            [IAC, IAC, rest @ ..] if !text.is_empty() => {
                text.push(IAC);
                rest
            }
            [IAC, 240..=250, rest @ ..] => rest,
            // Clients mark one byte of a signal or another as urgent, and other systems take it out of the stream.
            [IAC, rest @ ..] => rest,
            [240..=255, rest @ ..] if text.is_empty() => rest,
            [byte, rest @ ..] => {
                text.push(*byte);
                rest
            }
        }
    }
}

/// Whether this is a line of HTTP: somebody lets a browser talk to this server (a cross-protocol attack).
pub fn is_http(line: &[u8]) -> bool {
    const METHODS: [&[u8]; 7] = [
        b"GET /",
        b"POST /",
        b"PUT /",
        b"HEAD /",
        b"OPTIONS ",
        b"CONNECT ",
        b"DELETE ",
    ];
    METHODS.iter().any(|method| line.starts_with(method))
        || (line.len() > 5 && line[..5].eq_ignore_ascii_case(b"host:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &[u8]) -> (String, Vec<u8>) {
        let Command { name, argument } = Command::parse(line);
        (name, argument)
    }

    #[test]
    fn a_command_is_a_name_and_an_argument() {
        assert_eq!(parse(b"retr a b "), ("RETR".to_owned(), b"a b ".to_vec()));
        assert_eq!(parse(b"QUIT"), ("QUIT".to_owned(), vec![]));
        assert_eq!(parse(b"PASS "), ("PASS".to_owned(), vec![]));
        assert_eq!(parse(b""), (String::new(), vec![]));
        assert_eq!(parse("RETR ü".as_bytes()).1, "ü".as_bytes());
    }

    #[test]
    fn the_signals_of_telnet_are_no_part_of_a_command() {
        for line in [
            &b"\xff\xf4\xff\xf2ABOR"[..],
            b"\xff\xf4\xf2ABOR",
            b"\xff\xf4\xffABOR",
            b"\xf2ABOR",
            b"\xff\xfd\x06ABOR",
            b"AB\xff\xf1OR",
        ] {
            assert_eq!(parse(line).0, "ABOR", "{line:?}");
        }
        assert_eq!(parse(b"RETR a\xff\xffb").1, b"a\xffb");
        assert_eq!(parse("RETR \u{1f600}".as_bytes()).1, "\u{1f600}".as_bytes());
    }
}
