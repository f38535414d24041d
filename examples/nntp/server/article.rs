//! An article: what the overview says of it, and where its text lies.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::io;

use asynchat::Producer;
use bytes::Bytes;

use super::crlf::Cleaned;
use super::head::{Head, MAX_LINE};

/// Where an article's text lies. Line ends are CRLF, and nothing is dot-stuffed.
/// An article cleans its body, so no source has to be trusted.
///
/// The head is small and comes whole; the body may be of any size and comes as
/// a producer, so no article is ever built in memory to be sent.
pub trait Text: Send + 'static {
    /// The header, without Xref.
    fn head(&self) -> io::Result<Head>;
    /// All that follows the empty line.
    fn body(&self) -> io::Result<Box<dyn Producer>>;
    /// Octets of it that stay in memory: none when it is read from elsewhere.
    fn in_memory(&self) -> u64 {
        0
    }
}

/// One article. What it gives out is of the form that [`super::crlf`] describes:
/// its fields come from a [`Head`], its body is cleaned. The overview's fields
/// (RFC 3977, section 8.1) are kept ready, for they are asked for by the
/// thousand; all else is read when it is wanted.
pub struct Article {
    pub message_id: String,
    pub subject: Vec<u8>,
    pub from: Vec<u8>,
    pub date: Vec<u8>,
    pub references: Vec<u8>,
    /// Lines of the body.
    pub lines: u64,
    /// When it came here, in seconds of Unix time: what NEWNEWS goes by.
    pub arrived: i64,
    /// Octets of the whole article without Xref, the empty line included.
    size: u64,
    /// `group:number` for each group that it is in.
    locations: RefCell<String>,
    text: Box<dyn Text>,
}

impl Article {
    /// An article of this `head` and of a body of so many octets and lines.
    pub fn new(head: &Head, body: Size, arrived: i64, text: impl Text) -> Article {
        let field = |name| head.value(name).unwrap_or_default();
        let message_id = field("Message-ID");
        Article {
            message_id: String::from_utf8_lossy(&message_id).into_owned(),
            subject: field("Subject"),
            from: field("From"),
            date: field("Date"),
            references: field("References"),
            size: head.as_bytes().len() as u64 + 2 + body.bytes,
            lines: body.lines,
            arrived,
            locations: RefCell::default(),
            text: Box::new(text),
        }
    }

    /// The header, with the Xref of this `server` (RFC 5536, section 3.2.14).
    pub fn head(&self, server: &str) -> io::Result<Head> {
        let mut head = self.text.head()?;
        head.push("Xref", self.xref(server));
        Ok(head)
    }

    pub fn body(&self) -> io::Result<Cleaned<Box<dyn Producer>>> {
        Ok(Cleaned::new(self.text.body()?))
    }

    /// The value of Xref.
    pub fn xref(&self, server: &str) -> String {
        format!("{server} {}", self.locations.borrow())
    }

    /// Octets of the whole article, as ARTICLE sends it.
    pub fn bytes(&self, server: &str) -> u64 {
        let value = server.len() + 1 + self.locations.borrow().len();
        let line = "Xref: ".len() + value;
        if line <= MAX_LINE {
            return self.size + line as u64 + 2;
        }
        // A long one is folded.
        let mut xref = Head::default();
        xref.push("Xref", self.xref(server));
        self.size + xref.as_bytes().len() as u64
    }

    /// Octets of the list of its groups and numbers: reading it costs as much.
    pub fn locations_size(&self) -> usize {
        self.locations.borrow().len()
    }

    /// Octets of memory for its fields and its text.
    pub fn in_memory(&self) -> u64 {
        let fields = [&self.subject, &self.from, &self.date, &self.references];
        let fields: usize = fields.iter().map(|field| field.len()).sum();
        // The spool finds it by a second copy of its message-id.
        (fields + 2 * self.message_id.len()) as u64 + self.text.in_memory()
    }

    pub fn is_in(&self, group: &str) -> bool {
        self.is_in_any(|name| name == group)
    }

    /// Whether it is in a group for whose name `wanted` is true.
    pub fn is_in_any(&self, wanted: impl Fn(&str) -> bool) -> bool {
        let locations = self.locations.borrow();
        let mut groups = locations.split(' ').filter_map(|l| l.rsplit_once(':'));
        groups.any(|(name, _)| wanted(name))
    }

    /// Notes that the article is number `number` of `group`.
    pub fn locate(&self, group: &str, number: u64) {
        let mut locations = self.locations.borrow_mut();
        let gap = if locations.is_empty() { "" } else { " " };
        // Writing to a String does not fail.
        let _ = write!(locations, "{gap}{group}:{number}");
    }
}

/// The size of a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    pub bytes: u64,
    pub lines: u64,
}

impl Size {
    /// Adds a piece of text, whose every line ends with LF.
    pub fn add(&mut self, text: &[u8]) {
        self.bytes += text.len() as u64;
        self.lines += memchr::memchr_iter(b'\n', text).count() as u64;
    }
}

/// Text that is in memory.
pub struct Memory {
    head: Head,
    body: Bytes,
}

impl Memory {
    pub fn new(head: Head, body: impl Into<Bytes>) -> Memory {
        Memory {
            head,
            body: body.into(),
        }
    }

    /// The article that this text is.
    pub fn article(self, arrived: i64) -> Article {
        let mut size = Size::default();
        size.add(&self.body);
        Article::new(&self.head.clone(), size, arrived, self)
    }
}

impl Text for Memory {
    fn head(&self) -> io::Result<Head> {
        Ok(self.head.clone())
    }

    fn body(&self) -> io::Result<Box<dyn Producer>> {
        Ok(Box::new(self.body.clone()))
    }

    fn in_memory(&self) -> u64 {
        (self.head.as_bytes().len() + self.body.len()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_article_in_many_groups_has_a_folded_xref() {
        let head = Head::parse(b"Message-ID: <1@x>\r\n").unwrap();
        let article = Memory::new(head, "text\r\n").article(0);
        for number in 1..=100 {
            article.locate(&format!("a.group.with.number.{number}"), number);
            let head = article.head("srv").unwrap();
            assert_eq!(Head::parse(head.as_bytes()).as_ref(), Ok(&head));
            assert_eq!(head.value("Xref").unwrap(), article.xref("srv").as_bytes());
            let length = head.as_bytes().len() + "\r\ntext\r\n".len();
            assert_eq!(article.bytes("srv"), length as u64);
        }
    }
}
