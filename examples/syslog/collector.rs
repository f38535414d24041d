//! What becomes of the messages: they are counted, and written down.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};

use crate::common::Escaped;
use crate::message::{Message, SEVERITIES};

/// How many hosts are counted by name: they are free to invent some.
const HOSTS: usize = 100;

/// The longest name of a host (RFC 5424 section 6).
const LONGEST_HOST: usize = 255;

/// Writes messages down, and counts them.
pub(crate) struct Collector {
    least: u8,
    out: RefCell<Box<dyn Write>>,
    /// Whether the last write failed.
    failing: Cell<bool>,
    not_written: Cell<u64>,
    by_severity: [Cell<u64>; 8],
    by_host: RefCell<BTreeMap<String, u64>>,
}

impl Collector {
    /// Writes those of at least this severity (a smaller number is a more severe one).
    pub(crate) fn new(least: u8, out: impl Write + 'static) -> Self {
        Collector {
            least,
            out: RefCell::new(Box::new(out)),
            failing: Cell::default(),
            not_written: Cell::default(),
            by_severity: Default::default(),
            by_host: RefCell::default(),
        }
    }

    /// Counts a message and writes it down. An error of the output ends nothing: the messages that it
    /// costs are counted, and the next one is written if the output works by then.
    pub(crate) fn collect(&self, data: &[u8]) {
        let message = Message::parse(data);
        self.count(&message);
        if message.severity > self.least {
            return;
        }
        match self.write(&message) {
            Ok(()) if self.failing.replace(false) => {
                let not_written = self.not_written.get();
                tracing::warn!(not_written, "standard output works");
            }
            Ok(()) => {}
            Err(error) => {
                self.not_written.set(self.not_written.get() + 1);
                if !self.failing.replace(true) {
                    tracing::warn!(%error, "standard output fails; the report counts what is not written");
                }
            }
        }
    }

    fn count(&self, message: &Message) {
        let count = &self.by_severity[usize::from(message.severity)];
        count.set(count.get() + 1);
        let mut by_host = self.by_host.borrow_mut();
        let is_listed = |host: &str| {
            by_host.contains_key(host) || by_host.len() < HOSTS && host.len() <= LONGEST_HOST
        };
        let host = match message.host {
            Some(host) if is_listed(host) => host,
            Some(_) => "(others)",
            None => "(not said)",
        };
        *by_host.entry(host.to_owned()).or_default() += 1;
    }

    fn write(&self, message: &Message) -> io::Result<()> {
        // A write that failed may have left a part of its line.
        let begin = if self.failing.get() { "\n" } else { "" };
        let mut out = self.out.borrow_mut();
        // In one call with a line end last: then `Stdout` has nothing in its buffer when it fails.
        out.write_all(format!("{begin}{message}\n").as_bytes())?;
        out.flush()
    }

    pub(crate) fn report(&self) -> String {
        let mut report = String::from("so far:");
        for (severity, count) in SEVERITIES.iter().zip(&self.by_severity) {
            if count.get() > 0 {
                let _ = write!(report, " {severity} {}", count.get());
            }
        }
        for (host, count) in &*self.by_host.borrow() {
            let _ = write!(report, "\n{count:>10}  {}", Escaped(host));
        }
        if self.not_written.get() > 0 {
            let _ = write!(report, "\n{:>10}  not written", self.not_written.get());
        }
        report.push('\n');
        report
    }
}
