//! A mailbox file as a group. mail-parser finds the messages once, at the start.
//! Their text remains in the file and is read when a client requests it, so a
//! mailbox may be larger than memory. The file must not change while it is served.

use std::cell::Cell;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use asynchat::{Producer, ReadProducer};
use mail_parser::mailbox::mbox::{Message, MessageIterator};
use tracing::warn;

use super::address::mailbox;
use crate::server::Spool;
use crate::server::article::{Article, Size, Text};
use crate::server::date::{is_rfc5322, now, rfc5322, unix};
use crate::server::head::{Head, is_article_id, is_field, is_newsgroup};

/// The domain of generated Message-IDs, and of senders without an address.
const DOMAIN: &str = "mbox.asynchat.invalid";

/// Adds a group with the messages of the mailbox in `path`.
pub fn add(spool: &mut Spool, name: &str, path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    let created = file.metadata()?.modified().map_or(0, unix);
    // A path may contain a line end, and a line of LIST NEWSGROUPS must not.
    let description = format!("The mailbox {}", path.display()).replace(char::is_control, " ");
    let group = spool.add_group(name, &description, created, false);

    let mut file = BufReader::new(file);
    let mut separator = Vec::new();
    file.read_until(b'\n', &mut separator)?;
    if !separator.is_empty() && !separator.starts_with(b"From ") {
        let why = "not a mailbox: the first line does not begin with \"From \"";
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    // The iterator returns a message when it has read the separator after it. The
    // position is then that of the next message.
    let position = Rc::new(Cell::new(separator.len() as u64));
    let mut start = position.get();
    let file = Counted {
        inner: file,
        position: Rc::clone(&position),
    };
    let path: Arc<Path> = path.into();
    let mut duplicates = 0;
    for message in MessageIterator::new(Cursor::new(separator).chain(file)) {
        let article = article(&path, start, name, &message?, created);
        let known = spool.article(&article.message_id);
        if known.is_some_and(|known| known.is_in(name)) {
            duplicates += 1;
        } else {
            spool.append(&group, article);
        }
        start = position.get();
    }
    if duplicates > 0 {
        warn!(
            duplicates,
            "{}: messages with a duplicate Message-ID are skipped",
            path.display()
        );
    }
    Ok(())
}

/// Makes an article from the message at the position `start` of the file.
fn article(path: &Arc<Path>, start: u64, group: &str, message: &Message, created: i64) -> Article {
    let split = Split::new(message.contents());
    let fields = Head::repair(&split.head);
    let date = i64::try_from(message.internal_date()).ok();
    let date = date.filter(|&date| date != 0).or(fields.date());
    let arrived = date.unwrap_or(created);
    let text = Stored {
        path: Arc::clone(path),
        start,
        head: split.head.len() as u64,
        before: split.before,
        body: split.size.bytes,
        amended: Amended::new(&fields, message, group, arrived),
    };
    let head = text.amended.apply(&fields);
    Article::new(&head, split.size, arrived, text)
}

/// The header and the size of the body of a message. All sizes are those of the
/// lines that are sent, which may differ from those in the file.
struct Split {
    head: Vec<u8>,
    /// Octets before the body.
    before: u64,
    size: Size,
}

impl Split {
    /// In `contents`, the `>` before a quoted `From ` has been removed.
    fn new(contents: &[u8]) -> Split {
        let mut split = Split {
            head: Vec::new(),
            before: 0,
            size: Size::default(),
        };
        let mut in_head = true;
        let mut empty_end = false;
        for line in contents.split_inclusive(|&b| b == b'\n') {
            let line = as_sent(line);
            let length = line.len() as u64;
            if in_head && (split.continues(&line) || is_field(&line)) {
                split.head.extend_from_slice(&line);
                split.before += length;
                continue;
            }
            // If the empty line is missing, the body begins with the first line
            // that is not a field.
            if std::mem::take(&mut in_head) && &*line == b"\r\n" {
                split.before += length;
                continue;
            }
            split.size.add(&line);
            empty_end = &*line == b"\r\n";
        }
        // The last empty line belongs to the separator.
        if empty_end {
            split.size.bytes -= 2;
            split.size.lines -= 1;
        }
        split
    }

    /// Whether a line belongs to the header although it is not a field: a
    /// continuation line, or a quoted separator before the first field.
    fn continues(&self, line: &[u8]) -> bool {
        if self.head.is_empty() {
            line.starts_with(b"From ") || line.starts_with(b">From ")
        } else {
            line.starts_with(b" ") || line.starts_with(b"\t")
        }
    }
}

/// The changes that make an article header from a mail header: RFC 5536,
/// section 3.1, requires six fields.
struct Amended {
    added: Head,
    /// Fields that are renamed.
    renamed: Vec<&'static str>,
}

impl Amended {
    fn new(head: &Head, message: &Message, group: &str, arrived: i64) -> Amended {
        let mut amended = Amended {
            added: Head::default(),
            // A mail must not act as a control message on a server that receives
            // the article. Bytes and Lines could contradict the counts in OVER.
            renamed: vec!["Control", "Also-Control", "Supersedes", "Bytes", "Lines"],
        };
        let value = |name| head.value(name).unwrap_or_default();
        let text = |name| String::from_utf8_lossy(&value(name)).into_owned();

        let path = value("Path");
        if path.is_empty() || !path.iter().all(|b| b.is_ascii_graphic() || *b == b' ') {
            amended.replace("Path", "mbox!not-for-mail");
        }
        if !head.has_author() {
            amended.replace("From", &mailbox("", message.from(), DOMAIN));
        }
        if value("Subject").is_empty() {
            amended.replace("Subject", "(no subject)");
        }
        // Servers refuse articles that are dated more than a day ahead.
        let date = head.date().filter(|&date| date <= now() + 86_400);
        if date.is_none() || !is_rfc5322(&text("Date")) {
            amended.replace("Date", &rfc5322(date.unwrap_or(arrived)));
        }
        let id = text("Message-ID");
        if !is_article_id(id.as_bytes()) {
            let mut words = id.split(' ');
            match words.find(|word| is_article_id(word.as_bytes())) {
                Some(word) => amended.replace("Message-ID", word),
                None => amended.replace("Message-ID", &made_id(message.contents())),
            }
        }
        let groups = text("Newsgroups");
        let mut names = groups.split(',').map(str::trim);
        if !names.clone().all(is_newsgroup) || !names.any(|name| name == group) {
            amended.replace("Newsgroups", group);
        }
        amended
    }

    fn replace(&mut self, name: &'static str, value: &str) {
        self.renamed.push(name);
        self.added.push(name, value);
    }

    fn apply(&self, head: &Head) -> Head {
        let rest = head.without(&["Xref"]).with_originals(&self.renamed);
        self.added.clone().followed_by(&rest)
    }
}

/// A Message-ID made from the content. A message always gets the same one.
fn made_id(contents: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    contents.hash(&mut hasher);
    format!("<{:016x}@{DOMAIN}>", hasher.finish())
}

/// The text of a message, which is read from the file.
struct Stored {
    path: Arc<Path>,
    start: u64,
    head: u64,
    before: u64,
    body: u64,
    amended: Amended,
}

impl Stored {
    fn open(&self) -> io::Result<impl Read + use<>> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.start))?;
        Ok(Lines::new(BufReader::new(file)))
    }
}

impl Text for Stored {
    fn head(&self) -> io::Result<Head> {
        let mut head = Vec::new();
        self.open()?.take(self.head).read_to_end(&mut head)?;
        Ok(self.amended.apply(&Head::repair(&head)))
    }

    fn body(&self) -> io::Result<Box<dyn Producer>> {
        let mut text = self.open()?;
        io::copy(&mut (&mut text).take(self.before), &mut io::sink())?;
        Ok(Box::new(ReadProducer::new(text.take(self.body))))
    }
}

/// Reads the lines of a mailbox as they are sent. It removes the `>` that quotes a
/// line which would otherwise look like a separator.
struct Lines<R> {
    inner: R,
    line: Vec<u8>,
    /// How many octets of the line have been read.
    read: usize,
}

impl<R: BufRead> Lines<R> {
    fn new(inner: R) -> Lines<R> {
        Lines {
            inner,
            line: Vec::new(),
            read: 0,
        }
    }
}

impl<R: BufRead> Read for Lines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.read == self.line.len() {
            let mut line = Vec::new();
            if self.inner.read_until(b'\n', &mut line)? == 0 {
                return Ok(0);
            }
            let quotes = line.iter().take_while(|&&b| b == b'>').count();
            let quoted = quotes > 0 && line[quotes..].starts_with(b"From ");
            self.line = as_sent(&line[usize::from(quoted)..]);
            self.read = 0;
        }
        let size = (&self.line[self.read..]).read(buffer)?;
        self.read += size;
        Ok(size)
    }
}

/// A line as it is sent: it ends with CRLF, NULs are removed, and a CR inside it
/// becomes a space.
fn as_sent(line: &[u8]) -> Vec<u8> {
    let mut end = line.strip_suffix(b"\n").unwrap_or(line);
    while let Some(shorter) = end.strip_suffix(b"\r") {
        end = shorter;
    }
    let octets = end.iter().filter(|&&octet| octet != 0);
    let mut line: Vec<u8> = octets
        .map(|&octet| if octet == b'\r' { b' ' } else { octet })
        .collect();
    line.extend_from_slice(b"\r\n");
    line
}

/// A reader that counts how many octets have been read.
struct Counted<R> {
    inner: R,
    position: Rc<Cell<u64>>,
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = self.inner.read(buffer)?;
        self.position.set(self.position.get() + size as u64);
        Ok(size)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, size: usize) {
        self.position.set(self.position.get() + size as u64);
        self.inner.consume(size);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use asynchat::More;

    use super::*;

    const MAILBOX: &[u8] = b"From a@x Sat Jan  3 01:05:34 1996\n\
        Subject: one\nMessage-ID: <1@x>\n\n\
        >From here\n>>From there\n> From elsewhere\n.dot\n\n\n\
        From b@x Sun Feb  4 01:05:34 1996\r\n\
        Subject: two\r\n\r\ncaf\xe9\r\n\r\n\
        From c@x Sun Feb  4 01:05:34 1996\n\
        Subject: three\n\nno end of line";

    fn body(article: &Article) -> Vec<u8> {
        let mut producer = article.body().unwrap();
        let mut body = Vec::new();
        loop {
            match producer.more(7).unwrap() {
                More::Chunk(chunk) => body.extend_from_slice(&chunk),
                More::Done => return body,
                More::Pending => panic!("a file is never pending"),
            }
        }
    }

    #[test]
    fn messages_are_served_from_the_file() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(MAILBOX).unwrap();
        let mut spool = Spool::default();
        add(&mut spool, "mail", file.path()).unwrap();
        let group = spool.group("mail").unwrap();
        assert_eq!(group.count(), 3);

        let bodies: [&[u8]; 3] = [
            b"From here\r\n>From there\r\n> From elsewhere\r\n.dot\r\n\r\n",
            b"caf\xe9\r\n",
            b"no end of line\r\n",
        ];
        for (number, expected) in (1..).zip(bodies) {
            let article = group.article(number).unwrap();
            assert_eq!(body(&article), expected);
            let head = article.head("srv").unwrap();
            assert_eq!(Head::parse(head.as_bytes()).as_ref(), Ok(&head));
            let length = head.as_bytes().len() + 2 + expected.len();
            assert_eq!(article.bytes("srv"), length as u64);
            assert!(is_article_id(article.message_id.as_bytes()));
        }
        let first = group.article(1).unwrap();
        let head = "Path: mbox!not-for-mail\r\nFrom: a@x\r\n\
            Date: Wed, 3 Jan 1996 01:05:34 +0000\r\nNewsgroups: mail\r\n\
            Subject: one\r\nMessage-ID: <1@x>\r\nXref: srv mail:1\r\n";
        let served = first.head("srv").unwrap();
        assert_eq!(String::from_utf8_lossy(served.as_bytes()), head);
        assert_eq!((first.lines, first.arrived), (5, 820_631_134));
    }

    /// The header and the body of each article that a mailbox is served as.
    fn served(mailbox: &[u8]) -> Vec<(String, String)> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(mailbox).unwrap();
        let mut spool = Spool::default();
        add(&mut spool, "mail", file.path()).unwrap();
        let group = spool.group("mail").unwrap();
        let text = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
        (1..=group.high())
            .map(|number| {
                let article = group.article(number).unwrap();
                let (head, body) = (article.head("srv").unwrap(), body(&article));
                assert_eq!(Head::parse(head.as_bytes()).as_ref(), Ok(&head));
                let length = head.as_bytes().len() + 2 + body.len();
                assert_eq!(article.bytes("srv"), length as u64);
                assert_eq!(article.lines as usize, text(&body).matches("\r\n").count());
                for name in [
                    "Path",
                    "From",
                    "Subject",
                    "Date",
                    "Message-ID",
                    "Newsgroups",
                ] {
                    assert!(
                        head.value(name).is_some_and(|value| !value.is_empty()),
                        "{name}"
                    );
                }
                assert!(head.has_author() && head.date().is_some());
                (text(head.as_bytes()), text(&body))
            })
            .collect()
    }

    #[test]
    fn mail_headers_are_made_valid_for_news() {
        let mailbox = b"From x at noon\nFrom: nobody\nDate: Mon, 1 Jan 2001 10:00\nMessage-ID: <a..b@c>\n\
            Subject: a\0b\rc\nsubject: two\nXref: x y:1\nNewsgroups: other.group\nControl: rmgroup mail\n\
            X-Empty:\n\none\0\rtwo\r\r\n.\0\n\r\n\n\
            From jane Mon Jan  1 10:00:00 2001\nDate: Mon, 1 Jan 2094 10:00:00 +0000\n\
            Message-ID: <1@x> (a relay)\nPath: caf\xe9\nno field\nbody\n\n\
            From x Mon Jan  1 10:00:00 2001\n>From y\nA: b\n\n\
            From x Mon Jan  1 10:00:00 2001\n\n\
            From x Mon Jan  1 10:00:00 2001\nbody";
        let articles = served(mailbox);
        let (head, body) = &articles[0];
        for line in [
            "From: x@mbox.asynchat.invalid",
            "X-Original-From: nobody",
            "X-Original-Date: Mon, 1 Jan 2001 10:00",
            "X-Original-Message-ID: <a..b@c>",
            "Subject: ab c",
            "X-Original-subject: two",
            "Newsgroups: mail",
            "X-Original-Newsgroups: other.group",
            "X-Original-Control: rmgroup mail",
            "Xref: srv mail:1",
        ] {
            assert!(head.lines().any(|found| found == line), "{line} in {head}");
        }
        assert!(!head.contains("X-Empty") && !head.contains("y:1"), "{head}");
        assert_eq!(body, "one two\r\n.\r\n\r\n");

        let (head, body) = &articles[1];
        assert!(
            head.starts_with("Path: mbox!not-for-mail\r\nFrom: jane@mbox.asynchat.invalid\r\n"),
            "{head}"
        );
        assert!(
            head.contains("\r\nDate: Mon, 1 Jan 2001 10:00:00 +0000\r\n"),
            "{head}"
        );
        assert!(head.contains("\r\nMessage-ID: <1@x>\r\n"), "{head}");
        assert_eq!(body, "no field\r\nbody\r\n");
        let bodies: Vec<&str> = articles[2..].iter().map(|(_, body)| &**body).collect();
        assert_eq!(bodies, ["", "", "body\r\n"]);
        assert!(articles[2].0.contains("\r\nA: b\r\n"));
    }

    #[test]
    fn a_file_that_is_not_a_mailbox_is_refused() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"Dear diary,\n").unwrap();
        assert!(add(&mut Spool::default(), "mail", file.path()).is_err());
    }
}
