//! An article: its overview fields in memory, and access to its text.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::io;

use asynchat::Producer;
use bytes::Bytes;

use super::crlf::Cleaned;
use super::head::{Head, MAX_LINE};

/// The text of an article, wherever it is stored. Lines end with CRLF, and nothing
/// is dot-stuffed. The source need not be trusted: [`Article`] cleans the body.
///
/// The header is small and is returned whole. The body may have any size and is
/// returned as a producer, so it is never in memory as a whole.
pub trait Text: Send + 'static {
    /// The header, without Xref.
    fn head(&self) -> io::Result<Head>;
    /// The text after the empty line.
    fn body(&self) -> io::Result<Box<dyn Producer>>;
    /// How many octets of the text are in memory permanently.
    fn in_memory(&self) -> u64 {
        0
    }
}

/// One article. All its text has the form that [`super::crlf`] describes: the
/// fields come from a [`Head`], and the body is cleaned. The overview fields
/// (RFC 3977, section 8.1) are in memory, because clients request thousands of
/// them at once. Everything else is read when a client requests it.
pub struct Article {
    pub message_id: String,
    pub subject: Vec<u8>,
    pub from: Vec<u8>,
    pub date: Vec<u8>,
    pub references: Vec<u8>,
    /// The number of lines in the body.
    pub lines: u64,
    /// The time of arrival, in seconds of Unix time. NEWNEWS compares it.
    pub arrived: i64,
    /// The octets of the whole article without Xref, including the empty line.
    size: u64,
    /// `group:number` for each group that contains the article, separated by spaces.
    locations: RefCell<String>,
    text: Box<dyn Text>,
}

impl Article {
    /// Creates an article whose overview fields come from `head`.
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

    /// The header with an Xref field for this `server` (RFC 5536, section 3.2.14).
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

    /// The size in octets of the whole article, as ARTICLE sends it.
    pub fn bytes(&self, server: &str) -> u64 {
        let value = server.len() + 1 + self.locations.borrow().len();
        let line = "Xref: ".len() + value;
        if line <= MAX_LINE {
            return self.size + line as u64 + 2;
        }
        // `Head::push` folds a long line, which changes its length.
        let mut xref = Head::default();
        xref.push("Xref", self.xref(server));
        self.size + xref.as_bytes().len() as u64
    }

    /// The length of the list of groups, which determines the cost of reading it.
    pub fn locations_size(&self) -> usize {
        self.locations.borrow().len()
    }

    /// The octets of memory that the fields and the text use.
    pub fn in_memory(&self) -> u64 {
        let fields = [&self.subject, &self.from, &self.date, &self.references];
        let fields: usize = fields.iter().map(|field| field.len()).sum();
        // The spool's index has a second copy of the message-id.
        (fields + 2 * self.message_id.len()) as u64 + self.text.in_memory()
    }

    pub fn is_in(&self, group: &str) -> bool {
        self.is_in_any(|name| name == group)
    }

    /// Whether the article is in a group whose name satisfies `wanted`.
    pub fn is_in_any(&self, wanted: impl Fn(&str) -> bool) -> bool {
        let locations = self.locations.borrow();
        let mut groups = locations.split(' ').filter_map(|l| l.rsplit_once(':'));
        groups.any(|(name, _)| wanted(name))
    }

    /// Records that the article has this number in this group.
    pub fn add_location(&self, group: &str, number: u64) {
        let mut locations = self.locations.borrow_mut();
        let gap = if locations.is_empty() { "" } else { " " };
        // Writing to a String does not fail.
        let _ = write!(locations, "{gap}{group}:{number}");
    }
}

/// The size of a body in octets and lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    pub bytes: u64,
    pub lines: u64,
}

impl Size {
    /// Adds a piece of text. Each LF in it counts as a line.
    pub fn add(&mut self, text: &[u8]) {
        self.bytes += text.len() as u64;
        self.lines += memchr::memchr_iter(b'\n', text).count() as u64;
    }
}

/// The text of an article in memory.
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

    /// Creates the article that has this text.
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
            article.add_location(&format!("a.group.with.number.{number}"), number);
            let head = article.head("srv").unwrap();
            assert_eq!(Head::parse(head.as_bytes()).as_ref(), Ok(&head));
            assert_eq!(head.value("Xref").unwrap(), article.xref("srv").as_bytes());
            let length = head.as_bytes().len() + "\r\ntext\r\n".len();
            assert_eq!(article.bytes("srv"), length as u64);
        }
    }
}
