//! What becomes of the messages: they are counted, and written down.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::common::Escaped;
use crate::message::{Message, SEVERITIES};
use crate::output::Output;

/// How many hosts are counted by name: they are free to invent some.
const HOSTS: usize = 100;

/// The longest name of a host (RFC 5424 section 6).
const LONGEST_HOST: usize = 255;

/// Writes messages down, and counts them.
pub(crate) struct Collector {
    least: u8,
    out: Output,
    by_severity: [Cell<u64>; 8],
    by_host: RefCell<BTreeMap<String, u64>>,
}

impl Collector {
    /// Writes those of at least this severity (a smaller number is a more severe one).
    pub(crate) fn new(least: u8, out: Output) -> Self {
        Collector {
            least,
            out,
            by_severity: Default::default(),
            by_host: RefCell::default(),
        }
    }

    /// Counts a message and writes it down.
    pub(crate) fn collect(&self, data: &[u8]) {
        let message = Message::parse(data);
        self.count(&message);
        if message.severity <= self.least {
            self.out.write(format!("{message}\n"));
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

    /// Writes what is not written yet.
    pub(crate) fn finish(&self) {
        self.out.finish();
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
        match self.out.not_written() {
            0 => {}
            count => drop(write!(report, "\n{count:>10}  not written")),
        }
        report.push('\n');
        report
    }
}
