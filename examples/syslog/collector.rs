//! Counts the messages, and writes them to the output.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::common::Escaped;
use crate::message::{Message, SEVERITIES};
use crate::output::Output;

/// How many hosts are counted by name. Senders can invent names, so there must be a limit.
const MAX_HOSTS: usize = 100;

/// The maximum length of a host's name (RFC 5424 section 6).
const MAX_HOST_NAME: usize = 255;

/// Counts messages, and writes those that are severe enough.
pub(crate) struct Collector {
    /// The least severe severity that is written. Smaller numbers are more severe.
    threshold: u8,
    out: Output,
    by_severity: [Cell<u64>; 8],
    by_host: RefCell<BTreeMap<String, u64>>,
}

impl Collector {
    /// Creates a collector that writes messages whose severity is at most `threshold`.
    pub(crate) fn new(threshold: u8, out: Output) -> Self {
        Collector {
            threshold,
            out,
            by_severity: Default::default(),
            by_host: RefCell::default(),
        }
    }

    /// Counts a message, and writes it if it is severe enough.
    pub(crate) fn collect(&self, data: &[u8]) {
        let message = Message::parse(data);
        self.count(&message);
        if message.severity <= self.threshold {
            self.out.write(format!("{message}\n"));
        }
    }

    fn count(&self, message: &Message) {
        let count = &self.by_severity[usize::from(message.severity)];
        count.set(count.get() + 1);
        let mut by_host = self.by_host.borrow_mut();
        let is_listed = |host: &str| {
            by_host.contains_key(host) || by_host.len() < MAX_HOSTS && host.len() <= MAX_HOST_NAME
        };
        let host = match message.host {
            Some(host) if is_listed(host) => host,
            Some(_) => "(others)",
            None => "(unknown)",
        };
        *by_host.entry(host.to_owned()).or_default() += 1;
    }

    /// Waits until the queued messages are written: see [`Output::finish`].
    pub(crate) fn finish(&self) {
        self.out.finish();
    }

    /// The counts as text.
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
