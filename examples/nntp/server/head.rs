//! The header of an article (RFC 5536, sections 2.2 and 3).
//!
//! A [`Head`] is always well-formed. [`Head::parse`] is for text from clients: it
//! refuses a malformed header with a reason. [`Head::repair`] is for mailboxes: it
//! corrects a malformed header. [`Head::push`] cleans the value that it adds.
//! mail-parser parses the dates and addresses.

use mail_parser::{DateTime, Message, MessageParser};

/// The maximum length of a line in octets, without its CRLF (RFC 5536, section 2.2).
pub const MAX_LINE: usize = 998;

/// The prefix for the name of a field that is a duplicate or has a bad value.
const ORIGINAL: &[u8] = b"X-Original-";

/// Fields that may occur only once in a header: RFC 5536, section 3; RFC 5322,
/// section 3.6; and the fields of MIME that determine how a body is read.
const UNIQUE: &[&str] = &[
    "Approved",
    "Archive",
    "Bcc",
    "Cc",
    "Content-Transfer-Encoding",
    "Content-Type",
    "Control",
    "Date",
    "Distribution",
    "Expires",
    "Followup-To",
    "From",
    "In-Reply-To",
    "Injection-Date",
    "Injection-Info",
    "Keywords",
    "Lines",
    "MIME-Version",
    "Message-ID",
    "Newsgroups",
    "Organization",
    "Path",
    "References",
    "Reply-To",
    "Sender",
    "Subject",
    "Summary",
    "Supersedes",
    "To",
    "User-Agent",
    "Xref",
];

/// A header. Each line is a field, `Name: value`, or the continuation of one. It
/// ends with CRLF, contains no other CR or LF and no NUL, and has at most
/// [`MAX_LINE`] octets. A header that was parsed or repaired contains no field of
/// [`UNIQUE`] twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head(Vec<u8>);

impl Head {
    /// Parses the header that a client sent. The error is the reason of the refusal.
    pub fn parse(text: &[u8]) -> Result<Head, &'static str> {
        super::crlf::Check::default().piece(text)?;
        if !text.is_empty() && !text.ends_with(b"\r\n") {
            return Err("the last line of the header has no end");
        }
        let (mut head, mut seen) = (Head::default(), Seen::default());
        for field in fields(text) {
            let (name, body) = split(field).ok_or("a line of the header is no header field")?;
            if field
                .split(|&b| b == b'\n')
                .any(|line| line.len() > MAX_LINE + 1)
            {
                return Err("a line of the header is too long");
            }
            let folded = lines(body).count() > 1;
            if folded && lines(body).any(is_blank) {
                return Err("a line of a folded header field is blank");
            }
            if seen.is_repeated(name) {
                return Err("a header field is there twice");
            }
            head.append(name, body);
        }
        Ok(head)
    }

    /// Makes a well-formed header from any text. Lines that are not fields are
    /// dropped, and duplicates of unique fields are renamed.
    pub fn repair(text: &[u8]) -> Head {
        let mut text = text.to_vec();
        super::crlf::clean(&mut text);
        let (mut head, mut seen) = (Head::default(), Seen::default());
        for (name, body) in fields(&text).filter_map(split) {
            if seen.is_repeated(name) {
                head.append(&[ORIGINAL, name].concat(), body);
            } else {
                head.append(name, body);
            }
        }
        head
    }

    /// Adds a field. Folds in the value remain. Every other CR, LF and NUL becomes
    /// a space, so a value cannot begin another field.
    pub fn push(&mut self, name: &str, value: impl AsRef<[u8]>) {
        let mut value = value.as_ref().to_vec();
        super::crlf::clean(&mut value);
        for at in 0..value.len() {
            let fold = value.get(at + 2).is_some_and(is_space);
            if value[at..].starts_with(b"\r\n") && !fold {
                value[at..at + 2].copy_from_slice(b"  ");
            }
        }
        self.append(name.as_bytes(), &value);
    }

    /// This header followed by the fields of another.
    pub fn followed_by(mut self, other: &Head) -> Head {
        self.0.extend_from_slice(&other.0);
        self
    }

    /// A copy without the fields that have these names.
    pub fn without(&self, names: &[&str]) -> Head {
        let unwanted = |field| split(field).is_some_and(|(name, _)| is_one_of(name, names));
        let wanted = fields(&self.0).filter(|field| !unwanted(field));
        Head(wanted.flatten().copied().collect())
    }

    /// A copy in which the names of these fields have the prefix X-Original-, and
    /// fields without a value are missing (RFC 5536, section 2.2, requires a value).
    pub fn with_originals(&self, names: &[&str]) -> Head {
        let mut copy = Head::default();
        for (name, body) in fields(&self.0).filter_map(split) {
            if lines(body).all(is_blank) {
                continue;
            }
            if is_one_of(name, names) {
                copy.append(&[ORIGINAL, name].concat(), body);
            } else {
                copy.append(name, body);
            }
        }
        copy
    }

    /// The value of a field as OVER and HDR return it: unfolded, and with a space
    /// instead of each TAB (RFC 3977, sections 8.3.2 and 8.5.2). Encoded words are
    /// not decoded; the client does that.
    pub fn value(&self, name: &str) -> Option<Vec<u8>> {
        let unfolded = self.field(name.as_bytes())?.trim_ascii().iter();
        let octets = unfolded.filter(|octet| !b"\r\n".contains(octet));
        let space = |&octet| if octet == b'\t' { b' ' } else { octet };
        Some(octets.map(space).collect())
    }

    /// The value of Date, in seconds of Unix time.
    pub fn date(&self) -> Option<i64> {
        let message = self.message()?;
        let date = message.date()?;
        date.is_valid().then(|| DateTime::to_timestamp(date))
    }

    /// Whether From contains an address.
    pub fn has_author(&self) -> bool {
        let message = self.message();
        let from = message.as_ref().and_then(Message::from);
        let address = from.and_then(|from| from.first()?.address());
        address.is_some_and(|address| address.contains('@'))
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn message(&self) -> Option<Message<'_>> {
        MessageParser::new().parse_headers(&self.0)
    }

    /// The text after the colon of the first field with this name.
    fn field(&self, name: &[u8]) -> Option<&[u8]> {
        fields(&self.0)
            .filter_map(split)
            .find(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, body)| body)
    }

    /// Adds a field whose body is clean. The body may be folded.
    fn append(&mut self, name: &[u8], body: &[u8]) {
        self.0.extend_from_slice(name);
        self.0.extend_from_slice(b": ");
        let mut written = name.len() + 2;
        let body = body.strip_prefix(b" ").unwrap_or(body);
        for (index, line) in lines(body).enumerate().filter(|(_, line)| !is_blank(line)) {
            if written == 0 {
                self.0.extend_from_slice(b"\r\n");
            }
            // A line that replaces a blank first line loses its leading space.
            let moved_up = index > 0 && written > 0;
            let gap = if moved_up { gap(line) } else { 0 };
            self.append_line(&line[gap..], written);
            written = 0;
        }
        self.0.extend_from_slice(b"\r\n");
    }

    /// Adds a line without its end, and folds it where it is too long. `written`
    /// octets of the line are already there.
    fn append_line(&mut self, mut line: &[u8], mut written: usize) {
        while written + line.len() > MAX_LINE {
            let room = MAX_LINE - written;
            // Leading space is dropped, so that a fold does not make a blank line.
            let gap = gap(line);
            let wanted = usize::from(written == 0);
            if gap > wanted {
                line = &line[gap - wanted..];
                continue;
            }
            let is_gap = |at: &usize| is_space(&line[*at]) && !is_space(&line[at - 1]);
            let at = (gap + 1..=room).rev().find(is_gap);
            let (part, rest) = line.split_at(at.unwrap_or(room));
            self.0.extend_from_slice(part);
            if is_blank(rest) {
                return;
            }
            self.0.extend_from_slice(b"\r\n");
            line = rest;
            written = 0;
            // A word that is longer than a line is split.
            if at.is_none() {
                self.0.push(b' ');
                written = 1;
            }
        }
        self.0.extend_from_slice(line);
    }
}

fn is_space(octet: &u8) -> bool {
    matches!(octet, b' ' | b'\t')
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(is_space)
}

/// How many octets of white space a line begins with.
fn gap(line: &[u8]) -> usize {
    line.iter().take_while(|octet| is_space(octet)).count()
}

/// The fields of a header, each with its continuation lines.
fn fields(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let ends = memchr::memchr_iter(b'\n', rest).map(|at| at + 1);
        let is_end = |&end: &usize| !rest.get(end).is_some_and(is_space);
        let end = ends.clone().find(is_end).unwrap_or(rest.len());
        let (field, after) = rest.split_at(end);
        rest = after;
        (!field.is_empty()).then_some(field)
    })
}

/// Whether a line is the first line of a field.
pub fn is_field(line: &[u8]) -> bool {
    split(line).is_some()
}

/// Splits a field into its name and the text after the colon.
fn split(field: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr::memchr(b':', field)?;
    let (name, body) = (&field[..colon], &field[colon + 1..]);
    // A longer name would leave no space for a value in its line.
    let valid = (1..=900).contains(&name.len()) && name.iter().all(u8::is_ascii_graphic);
    valid.then_some((name, body.strip_suffix(b"\r\n").unwrap_or(body)))
}

fn is_one_of(name: &[u8], names: &[&str]) -> bool {
    names
        .iter()
        .any(|n| n.as_bytes().eq_ignore_ascii_case(name))
}

/// The lines of a folded body, without their ends.
fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    body.split(|&b| b == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

/// The unique fields that a header has so far. Each has a bit.
#[derive(Default)]
struct Seen(u64);

impl Seen {
    /// Records a field. Returns whether it is a unique field that was recorded before.
    fn is_repeated(&mut self, name: &[u8]) -> bool {
        let is_it = |unique: &&str| unique.as_bytes().eq_ignore_ascii_case(name);
        let bit = UNIQUE.iter().position(is_it).map_or(0, |at| 1 << at);
        let is_repeated = self.0 & bit != 0;
        self.0 |= bit;
        is_repeated
    }
}

/// Whether a text is a message identifier as commands allow it (RFC 3977, section
/// 3.6): 3 to 250 printable octets in angle brackets, with no bracket inside.
pub fn is_message_id(text: &[u8]) -> bool {
    (3..=250).contains(&text.len())
        && matches!(text, [b'<', inner @ .., b'>']
            if inner.iter().all(|&b| b.is_ascii_graphic() && b != b'>' && b != b'<'))
}

/// Whether a text is a message identifier as an article must have it (RFC 5536,
/// section 3.1.3).
pub fn is_article_id(text: &[u8]) -> bool {
    let [b'<', inner @ .., b'>'] = text else {
        return false;
    };
    let Some(at) = memchr::memchr(b'@', inner) else {
        return false;
    };
    let (left, right) = (&inner[..at], &inner[at + 1..]);
    let literal = matches!(right, [b'[', inner @ .., b']']
        if inner.iter().all(|&b| b.is_ascii_graphic() && !b"[\\]>".contains(&b)));
    is_message_id(text) && is_dot_atom(left) && (literal || is_dot_atom(right))
}

/// Whether a text is a dot-atom (RFC 5322, section 3.2.3).
pub fn is_dot_atom(text: &[u8]) -> bool {
    let is_atext = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(b);
    text.split(|&b| b == b'.')
        .all(|atom| !atom.is_empty() && atom.iter().all(is_atext))
}

/// Whether a text is the name of a newsgroup (RFC 5536, section 3.1.4). Such a name
/// needs no quoting in a wildmat (RFC 3977, section 4.1) or a list.
pub fn is_newsgroup(name: &str) -> bool {
    let is_valid = |b: u8| b.is_ascii_alphanumeric() || b"+-_".contains(&b);
    name.split('.')
        .all(|part| !part.is_empty() && part.bytes().all(is_valid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_unfolded_and_tabs_become_spaces() {
        let head = b"Subject: one\r\n\ttwo\tthree \r\nX-Empty:\r\nsubject: no\r\n";
        let head = Head::repair(head);
        assert_eq!(head.value("SUBJECT").unwrap(), b"one two three");
        assert_eq!(head.value("X-Empty").unwrap(), b"");
        assert_eq!(head.value("X-None"), None);
    }

    #[test]
    fn eight_bit_octets_are_preserved() {
        let head = Head::parse(b"Subject: caf\xe9 \xff\r\n").unwrap();
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
            assert!(!is_article_id(bad));
        }
        assert!(!is_message_id(format!("<{}>", "a".repeat(249)).as_bytes()));
        assert!(is_article_id(b"<a.b$c@d.e>") && is_article_id(b"<a@[::1]>"));
        for bad in [
            "<a>",
            "<a@>",
            "<@b>",
            "<a..b@c>",
            "<.a@b>",
            "<a@b@c>",
            "<\"a\"@b>",
            "<a@[b]>>",
        ] {
            assert!(!is_article_id(bad.as_bytes()), "{bad}");
        }
        let long = format!("<{}@b>", "a".repeat(247));
        assert!(!is_article_id(long.as_bytes()));
        assert!(is_article_id(long.replacen('a', "", 1).as_bytes()));
    }

    #[test]
    fn malformed_headers_are_refused() {
        assert!(Head::parse(b"A: b\r\n c\r\nD:\r\n").is_ok());
        for bad in [
            &b" A: b\r\n"[..],
            b"A: b\r\nnonsense\r\n",
            b": x\r\n",
            b"A b: c\r\n",
            b"A: b\0\r\n",
            b"A: b\nC: d\r\n",
            b"A: b\rC: d\r\n",
            b"A: b\r\n \r\n",
            b"A:\r\n b\r\n",
            b"To: a\r\ntO: b\r\n",
            b"A: b",
            b"A: b\r",
        ] {
            assert!(Head::parse(bad).is_err(), "{}", bad.escape_ascii());
        }
        let line = |n| format!("A: b\r\nC: {}\r\n", "x".repeat(n));
        assert!(Head::parse(line(995).as_bytes()).is_ok());
        assert!(Head::parse(line(996).as_bytes()).is_err());
    }

    #[test]
    fn well_formed_headers_are_not_changed() {
        let text = b"A: b\r\n\tc \r\n d\r\nX-Two:  spaces \r\nTo: a\r\n";
        assert_eq!(Head::parse(text).unwrap().as_bytes(), text);
        assert_eq!(Head::repair(text).as_bytes(), text);
        assert_eq!(Head::parse(b"A:b\r\n").unwrap().as_bytes(), b"A: b\r\n");
    }

    #[test]
    fn repaired_headers_are_well_formed() {
        let pieces: &[&[u8]] = &[
            b"To",
            b"A",
            b":",
            b" ",
            b"\t",
            b"\r\n",
            b"\n",
            b"\r",
            b"\0",
            b"\xe9",
            b"\x0c",
            b"\r\n ",
            b": x\r\n",
            &[b'w'; 700],
        ];
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..3_000 {
            let count = random.usize(..20);
            let text: Vec<u8> = (0..count)
                .flat_map(|_| pieces[random.usize(..pieces.len())])
                .copied()
                .collect();
            let head = Head::repair(&text);
            assert_eq!(
                Head::parse(head.as_bytes()).as_ref(),
                Ok(&head),
                "{}",
                text.escape_ascii()
            );
            assert_eq!(
                Head::repair(head.as_bytes()),
                head,
                "{}",
                text.escape_ascii()
            );
            let mut head = Head::default();
            head.push("X", &text);
            head.push("Y", "y");
            assert_eq!(
                Head::parse(head.as_bytes()).as_ref(),
                Ok(&head),
                "{}",
                text.escape_ascii()
            );
            assert_eq!(
                fields(head.as_bytes()).count(),
                2,
                "{}",
                text.escape_ascii()
            );
        }
    }

    #[test]
    fn repairs_of_malformed_headers() {
        let text = b"no field\r\nTo: a\r\nto: b\r\nSubject:\r\n x\0y\r\n";
        let head = Head::repair(text);
        assert_eq!(
            head.as_bytes(),
            b"To: a\r\nX-Original-to: b\r\nSubject: x y\r\n"
        );
        let head = head.with_originals(&["TO", "Cc"]);
        assert_eq!(head.value("X-Original-To").unwrap(), b"a");
        assert_eq!(head.value("To"), None);

        let long = format!("A: {} {}\r\n", "b".repeat(900), "c".repeat(3000));
        let head = Head::repair(long.as_bytes());
        let text = String::from_utf8(head.as_bytes().to_vec()).unwrap();
        assert!(text.lines().all(|line| line.len() <= MAX_LINE), "{text}");
        assert!(
            text.starts_with(&format!("A: {}\r\n {}", "b".repeat(900), "c".repeat(997))),
            "{text}"
        );
        assert_eq!(text.matches(['b', 'c']).count(), 3900);
    }

    #[test]
    fn a_value_cannot_begin_another_field() {
        let mut head = Head::default();
        head.push("Path", "a\r\nApproved: b\nc\rd\0e\r\n\tf\r\n");
        assert_eq!(head.as_bytes(), b"Path: a  Approved: b c d e\r\n\tf  \r\n");
    }
}
