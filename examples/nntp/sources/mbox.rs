//! Any mailbox file as a group. The messages are found once, at the start, by
//! mail-parser's reader; their text stays in the file and is read when asked
//! for, so a mailbox may be larger than memory. It must not change meanwhile.

use std::cell::Cell;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use asynchat::{Producer, ReadProducer};
use bytes::Bytes;
use mail_parser::mailbox::mbox::MessageIterator;

use crate::server::Spool;
use crate::server::article::{Article, Size, Text};
use crate::server::date::unix;
use crate::server::head::{Head, is_message_id};

/// Adds a group with the messages of the mailbox in `path`.
pub fn add(spool: &mut Spool, name: &str, path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    let created = file.metadata()?.modified().map_or(0, unix);
    let description = format!("The mailbox {}", path.display());
    let group = spool.add_group(name, &description, created, false);

    let mut file = BufReader::new(file);
    let mut separator = Vec::new();
    file.read_until(b'\n', &mut separator)?;
    if !separator.is_empty() && !separator.starts_with(b"From ") {
        let why = "not a mailbox: the first line does not begin with \"From \"";
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    // A message is handed out when the separator after it has been read: what
    // has been read by then is where the next one starts.
    let position = Rc::new(Cell::new(separator.len() as u64));
    let mut start = position.get();
    let file = Counted {
        inner: file,
        position: Rc::clone(&position),
    };
    let path: Arc<Path> = path.into();
    for message in MessageIterator::new(Cursor::new(separator).chain(file)) {
        let message = message?;
        let arrived = i64::try_from(message.internal_date()).unwrap_or(0);
        let article = article(&path, start, name, message.contents(), arrived);
        let known = spool.article(&article.message_id);
        if !known.is_some_and(|known| known.is_in(name)) {
            spool.append(&group, article);
        }
        start = position.get();
    }
    Ok(())
}

/// The article that is the message at `start`, of which `contents` is the text
/// with the `>` before `From ` taken off already.
fn article(path: &Arc<Path>, start: u64, group: &str, contents: &[u8], arrived: i64) -> Article {
    let mut head = Vec::new();
    let mut lines = contents.split_inclusive(|&b| b == b'\n').map(trim_end);
    for line in lines.by_ref().take_while(|line| !line.is_empty()) {
        head.extend_from_slice(line);
        head.extend_from_slice(b"\r\n");
    }
    let mut size = Size::default();
    let mut empty = 0;
    for line in lines {
        size.lines += 1;
        size.bytes += line.len() as u64 + 2;
        empty = if line.is_empty() { empty + 1 } else { 0 };
    }
    // The last empty line belongs to the separator.
    if empty > 0 {
        size.lines -= 1;
        size.bytes -= 2;
    }

    let fields = Head::parse(&head);
    let mut added = String::new();
    if !fields
        .value("Message-ID")
        .is_some_and(|id| is_message_id(&id))
    {
        let mut hasher = DefaultHasher::new();
        contents.hash(&mut hasher);
        added += &format!(
            "Message-ID: <{:016x}@mbox.asynchat.invalid>\r\n",
            hasher.finish()
        );
    }
    if fields.value("Newsgroups").is_none() {
        added += &format!("Newsgroups: {group}\r\n");
    }
    let arrived = fields.date().filter(|_| arrived == 0).unwrap_or(arrived);
    let text = Message {
        path: Arc::clone(path),
        start,
        added: added.clone(),
        head: head.len() as u64,
        body: size.bytes,
    };
    // What is added comes first, where it also wins over a field that is bad.
    Article::new(&[added.as_bytes(), &head].concat(), size, arrived, text)
}

/// A message in its file. The sizes are those of the text as it is sent.
struct Message {
    path: Arc<Path>,
    start: u64,
    added: String,
    head: u64,
    body: u64,
}

impl Message {
    fn open(&self) -> io::Result<impl Read + use<>> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.start))?;
        Ok(Lines::new(BufReader::new(file)))
    }
}

impl Text for Message {
    fn head(&self) -> io::Result<Bytes> {
        let mut head = self.added.clone().into_bytes();
        self.open()?.take(self.head).read_to_end(&mut head)?;
        Ok(head.into())
    }

    fn body(&self) -> io::Result<Box<dyn Producer>> {
        let mut text = self.open()?;
        io::copy(&mut (&mut text).take(self.head + 2), &mut io::sink())?;
        Ok(Box::new(ReadProducer::new(text.take(self.body))))
    }
}

/// Reads a mailbox's lines as they are sent: with CRLF, and without the `>`
/// that keeps a line from looking like a separator.
struct Lines<R> {
    inner: R,
    line: Vec<u8>,
    /// What of the line has been read.
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
            self.line.clear();
            if self.inner.read_until(b'\n', &mut self.line)? == 0 {
                return Ok(0);
            }
            let end = trim_end(&self.line).len();
            self.line.truncate(end);
            self.line.extend_from_slice(b"\r\n");
            let quotes = self.line.iter().take_while(|&&b| b == b'>').count();
            self.read = usize::from(quotes > 0 && self.line[quotes..].starts_with(b"From "));
        }
        let size = (&self.line[self.read..]).read(buffer)?;
        self.read += size;
        Ok(size)
    }
}

/// A line without the CRLF or LF that ends it.
fn trim_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Tells how much has been read.
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
            let head = article.head().unwrap();
            assert_eq!(article.bytes, (head.len() + 2 + expected.len()) as u64);
            assert!(is_message_id(article.message_id.as_bytes()));
        }
        let first = group.article(1).unwrap();
        let head = &b"Newsgroups: mail\r\nSubject: one\r\nMessage-ID: <1@x>\r\n"[..];
        assert_eq!(first.head().unwrap(), head);
        assert_eq!((first.lines, first.arrived), (5, 820_631_134));
    }

    #[test]
    fn what_is_no_mailbox() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"Dear diary,\n").unwrap();
        assert!(add(&mut Spool::default(), "mail", file.path()).is_err());
    }
}
