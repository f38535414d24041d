//! What becomes of the messages, and the two ways they come.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::rc::Rc;

use asynchat::{AsyncChat, Channel, Chat, Dispatcher, Eof, Result, Terminator};

use crate::message::{LONGEST, Message, SEVERITIES};

/// How many hosts are counted by name: they are free to invent some.
const HOSTS: usize = 100;

/// How many datagrams are taken in one turn of the loop.
const BUDGET: usize = 64;

/// Writes messages down, and counts them.
pub(crate) struct Collector {
    least: u8,
    out: RefCell<Box<dyn Write>>,
    by_severity: [Cell<u64>; 8],
    by_host: RefCell<BTreeMap<String, u64>>,
}

impl Collector {
    /// Writes those of at least this severity (a smaller number is a more severe one).
    pub(crate) fn new(least: u8, out: impl Write + 'static) -> Self {
        Collector {
            least,
            out: RefCell::new(Box::new(out)),
            by_severity: Default::default(),
            by_host: RefCell::default(),
        }
    }

    pub(crate) fn collect(&self, data: &[u8]) -> Result {
        let message = Message::parse(data);
        let count = &self.by_severity[usize::from(message.severity)];
        count.set(count.get() + 1);
        let mut by_host = self.by_host.borrow_mut();
        let host = match message.host {
            Some(host) if by_host.len() < HOSTS || by_host.contains_key(host) => host,
            Some(_) => "(others)",
            None => "(not said)",
        };
        *by_host.entry(host.to_owned()).or_default() += 1;
        if message.severity <= self.least {
            let mut out = self.out.borrow_mut();
            writeln!(out, "{message}")?;
            out.flush()?;
        }
        Ok(())
    }

    pub(crate) fn report(&self) -> String {
        let mut report = String::from("so far:");
        for (severity, count) in SEVERITIES.iter().zip(&self.by_severity) {
            if count.get() > 0 {
                let _ = write!(report, " {severity} {}", count.get());
            }
        }
        for (host, count) in &*self.by_host.borrow() {
            let _ = write!(report, "\n{count:>10}  {host}");
        }
        report.push('\n');
        report
    }
}

/// Each datagram is a message (RFC 5426 section 3.1).
pub(crate) struct Datagrams {
    channel: Channel,
    collector: Rc<Collector>,
    buffer: Vec<u8>,
}

impl Datagrams {
    pub(crate) fn new(channel: Channel, collector: Rc<Collector>) -> Self {
        let buffer = vec![0; 65_536];
        Datagrams {
            channel,
            collector,
            buffer,
        }
    }
}

impl Dispatcher for Datagrams {
    fn channel(&self) -> &Channel {
        &self.channel
    }

    fn handle_read(&mut self) -> Result {
        for _ in 0..BUDGET {
            // The last of them says that there is none: no error, as far as the loop is concerned.
            let (count, _) = self.channel.recv_from(&mut self.buffer)?;
            self.collector.collect(&self.buffer[..count])?;
        }
        Ok(())
    }
}

/// A stream of messages, framed in either way of RFC 6587: counted (`11 <13>a message`), or each on a
/// line. Its first byte tells which.
pub(crate) struct Stream {
    chat: Chat,
    collector: Rc<Collector>,
    awaits: Awaits,
}

enum Awaits {
    FirstByte,
    Count { first: u8 },
    Counted,
    Line { first: u8 },
}

impl Stream {
    pub(crate) fn new(chat: Chat, collector: Rc<Collector>) -> Self {
        chat.set_terminator(Terminator::count(1));
        Stream {
            chat,
            collector,
            awaits: Awaits::FirstByte,
        }
    }

    fn begin(&mut self, first: u8) {
        let (awaits, terminator) = match first {
            b'1'..=b'9' => (Awaits::Count { first }, Terminator::bytes(b" ").limit(6)),
            _ => (Awaits::Line { first }, Terminator::line()),
        };
        self.awaits = awaits;
        self.chat.set_terminator(terminator);
    }
}

impl AsyncChat for Stream {
    /// A last line without its end is a message all the same.
    fn handle_eof(&mut self, partial: &[u8]) -> Result<Eof> {
        if let Awaits::Line { first } = self.awaits {
            self.collector.collect(&[&[first], partial].concat())?;
        }
        Ok(Eof::CloseWhenDone)
    }

    fn found_terminator(&mut self, record: &[u8]) -> Result {
        match self.awaits {
            Awaits::FirstByte => {
                // Blank lines between messages are nobody's.
                if let [first] = record
                    && !matches!(first, b'\r' | b'\n')
                {
                    self.begin(*first);
                }
                return Ok(());
            }
            Awaits::Count { first } => {
                let digits = [&[first], record].concat();
                let count: u64 = std::str::from_utf8(&digits)?.parse()?;
                if count > LONGEST as u64 {
                    return Err(format!("a message of {count} bytes, over {LONGEST}").into());
                }
                self.awaits = Awaits::Counted;
                self.chat.set_terminator(Terminator::count(count));
                return Ok(());
            }
            Awaits::Counted => self.collector.collect(record)?,
            Awaits::Line { first } => self.collector.collect(&[&[first], record].concat())?,
        }
        self.awaits = Awaits::FirstByte;
        self.chat.set_terminator(Terminator::count(1));
        Ok(())
    }
}
