//! Parses the paths of MAIL and RCPT: RFC 5321, section 4.1.2. The parser does not
//! backtrack. Each function parses a prefix of the text and returns the rest.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The text between the angle brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Path {
    /// `<>`: the sender of a bounce.
    Null,
    /// `<Postmaster>`, the only recipient that needs no domain (section 4.5.1).
    Postmaster,
    Mailbox(Mailbox),
}

/// `local@domain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mailbox {
    /// The local part without quotes and backslashes: `"ann"@example.org` is
    /// `ann@example.org`.
    pub local: String,
    /// The domain as the client sent it. A literal has its square brackets.
    pub domain: String,
}

impl Path {
    /// Parses a path at the beginning of the text. Returns it and the rest.
    pub fn parse(text: &str) -> Option<(Path, &str)> {
        let inner = text.strip_prefix('<')?;
        if let Some(rest) = inner.strip_prefix('>') {
            return Some((Path::Null, rest));
        }
        let (local, rest) = local_part(source_route(inner)?)?;
        let (path, rest) = match rest.strip_prefix('@') {
            Some(rest) => {
                let (domain, rest) = domain(rest)?;
                let domain = domain.to_owned();
                (Path::Mailbox(Mailbox { local, domain }), rest)
            }
            None if local.eq_ignore_ascii_case("postmaster") => (Path::Postmaster, rest),
            None => return None,
        };
        let rest = rest.strip_prefix('>')?;
        // The limit of section 4.5.3.1.3 includes the brackets.
        (text.len() - rest.len() <= 256).then_some((path, rest))
    }
}

/// Whether the whole text is a domain or an address literal, as after EHLO.
/// Underscores are allowed, because the names of many hosts contain one.
pub fn is_host(text: &str) -> bool {
    let plain = text.replace('_', "x");
    domain(&plain).is_some_and(|(_, rest)| rest.is_empty())
}

/// Skips `@one,@two:`, which servers accept and ignore (appendix C).
fn source_route(mut text: &str) -> Option<&str> {
    if !text.starts_with('@') {
        return Some(text);
    }
    loop {
        let (_, rest) = domain(text.strip_prefix('@')?)?;
        match rest.strip_prefix(':') {
            Some(rest) => return Some(rest),
            None => text = rest.strip_prefix(',')?,
        }
    }
}

/// Parses a local part. It may exceed the 64 octets of section 4.5.3.1.1, because many local parts do
/// (bounce addresses that contain another address), and section 4.5.3.1 recommends to avoid limits. Only
/// the length of the path is limited.
fn local_part(text: &str) -> Option<(String, &str)> {
    match text.strip_prefix('"') {
        Some(quoted) => quoted_string(quoted),
        None => {
            let (dotted, rest) = split_while(text, |b| is_atext(b) || b == b'.');
            let whole = !dotted.split('.').any(str::is_empty);
            whole.then(|| (dotted.to_owned(), rest))
        }
    }
}

/// Parses a quoted string after its opening quote.
fn quoted_string(text: &str) -> Option<(String, &str)> {
    let mut content = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((content, &text[at + 1..])),
            '\\' => content.push(chars.next().map(|(_, c)| c).filter(printable)?),
            c => content.push(Some(c).filter(printable)?),
        }
    }
    None
}

fn domain(text: &str) -> Option<(&str, &str)> {
    let (domain, rest) = if text.starts_with('[') {
        let end = text.find(']')? + 1;
        let (literal, rest) = text.split_at(end);
        is_literal(&literal[1..end - 1]).then_some((literal, rest))?
    } else {
        let (name, rest) = split_while(text, |b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
        let label =
            |label: &str| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-');
        name.split('.').all(label).then_some((name, rest))?
    };
    // The limit of section 4.5.3.1.2.
    (domain.len() <= 255).then_some((domain, rest))
}

/// Whether the text between square brackets is an address literal: section 4.1.3.
fn is_literal(text: &str) -> bool {
    match text.split_once(':') {
        None => text.parse::<Ipv4Addr>().is_ok(),
        Some((tag, v6)) if tag.eq_ignore_ascii_case("IPv6") => v6.parse::<Ipv6Addr>().is_ok(),
        // No other tag is registered.
        Some(_) => false,
    }
}

fn split_while(text: &str, mut is: impl FnMut(u8) -> bool) -> (&str, &str) {
    let end = text.bytes().position(|b| !is(b)).unwrap_or(text.len());
    // The bytes before `end` are ASCII, so `end` is at the boundary of a character.
    text.split_at(end)
}

fn is_atext(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b)
}

fn printable(c: &char) -> bool {
    matches!(c, ' '..='~')
}

/// The path with its brackets, as Return-Path has it.
impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Null => f.write_str("<>"),
            Path::Postmaster => f.write_str("<Postmaster>"),
            Path::Mailbox(mailbox) => write!(f, "<{mailbox}>"),
        }
    }
}

/// The local part is quoted only if necessary.
impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mailbox { local, domain } = self;
        let atom = |atom: &str| !atom.is_empty() && atom.bytes().all(is_atext);
        if local.split('.').all(atom) {
            return write!(f, "{local}@{domain}");
        }
        let escaped = local.replace('\\', r"\\").replace('"', "\\\"");
        write!(f, "\"{escaped}\"@{domain}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The path in its printed form, and the rest.
    fn parsed(text: &str) -> Option<(String, &str)> {
        Path::parse(text).map(|(path, rest)| (path.to_string(), rest))
    }

    #[test]
    fn paths_are_parsed_and_printed() {
        for (text, printed, rest) in [
            ("<>", "<>", ""),
            ("<> SIZE=1", "<>", " SIZE=1"),
            ("<ann@example.org>", "<ann@example.org>", ""),
            ("<a.b+c@x> BODY=7BIT", "<a.b+c@x>", " BODY=7BIT"),
            ("<postMASTER>", "<Postmaster>", ""),
            ("<postmaster@x>", "<postmaster@x>", ""),
            ("<@relay.example,@other:ann@x>", "<ann@x>", ""),
            ("<@[192.0.2.1]:ann@x>", "<ann@x>", ""),
            ("<ann@[192.0.2.1]>", "<ann@[192.0.2.1]>", ""),
            ("<ann@[IPv6:2001:db8::1]>", "<ann@[IPv6:2001:db8::1]>", ""),
            ("<!#$%&'*+-/=?^_`{|}~@x>", "<!#$%&'*+-/=?^_`{|}~@x>", ""),
            // Quotes that are not necessary are not part of the name.
            (r#"<"ann"@x>"#, "<ann@x>", ""),
            (r#"<"a\nn"@x>"#, "<ann@x>", ""),
            (r#"<"ann lee"@x>"#, r#"<"ann lee"@x>"#, ""),
            (r#"<"a>b@c"@x> y"#, r#"<"a>b@c"@x>"#, " y"),
            (r#"<"a\"b\\c"@x>"#, r#"<"a\"b\\c"@x>"#, ""),
            (r#"<""@x>"#, r#"<""@x>"#, ""),
            (r#"<".a."@x>"#, r#"<".a."@x>"#, ""),
        ] {
            assert_eq!(parsed(text), Some((printed.to_owned(), rest)), "{text}");
        }
    }

    #[test]
    fn malformed_paths_are_refused() {
        for text in [
            "",
            "<",
            "ann@x",
            "<ann>",
            "<ann@>",
            "<@x>",
            "<ann@x",
            "<ann@x,y>",
            "<ann@@x>",
            "<ann@x@y>",
            "<.ann@x>",
            "<ann.@x>",
            "<a..b@x>",
            "<ann lee@x>",
            "<ann@-x>",
            "<ann@x->",
            "<ann@x..y>",
            "<ann@x.>",
            "<ann@x_y>",
            "<ann@[1.2.3]>",
            "<ann@[::1]>",
            "<ann@[IPv6:192.0.2.1]>",
            "<ann@[192.0.2.1>",
            "<@relay.example ann@x>",
            "<@relay.example,:ann@x>",
            r#"<"ann@x>"#,
            r#"<"ann"lee@x>"#,
            r#"<"ann\"#,
            "<\"a\u{7}\"@x>",
            "<\"\\\u{e4}\"@x>",
            "<j\u{e4}n@x>",
            "<ann@\u{e4}>",
        ] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }

    #[test]
    fn long_paths_are_refused() {
        let path = |local: usize, domain: usize| {
            let label = "d".repeat(domain);
            format!("<{}@{label}>", "l".repeat(local))
        };
        assert!(parsed(&path(64, 100)).is_some());
        assert!(parsed(&path(65, 100)).is_some());
        assert!(parsed(&path(243, 10)).is_some(), "256 in all");
        assert!(parsed(&path(244, 10)).is_none());
        assert!(parsed(&path(10, 243)).is_some(), "256 in all");
        assert!(parsed(&path(10, 244)).is_none());
    }

    #[test]
    fn host_names_and_literals() {
        for host in [
            "x",
            "my_host.example",
            "[127.0.0.1]",
            "[IPv6:::1]",
            "10.0.0.1",
        ] {
            assert!(is_host(host), "{host}");
        }
        for host in ["", "a b", "x.", "[x]", "(x)", "x\\y", "x\u{e4}"] {
            assert!(!is_host(host), "{host}");
        }
    }
}
