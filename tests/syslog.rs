//! The example `syslog`: its framing over TCP, however the network cuts it; its parser has its tests
//! beside it.

#[path = "../examples/syslog/collector.rs"]
#[allow(dead_code, reason = "the datagrams are tried with logger(1)")]
mod collector;
#[path = "../examples/syslog/message.rs"]
mod message;

use std::cell::RefCell;
use std::io::{self, Write};
use std::rc::Rc;

use asynchat::sim::{self, Script};
use collector::{Collector, Stream};

/// What was written down.
#[derive(Clone, Default)]
struct Written(Rc<RefCell<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Written {
    fn text(&self) -> String {
        String::from_utf8(self.0.borrow().clone()).unwrap()
    }
}

const MIXED: &[u8] = b"<11>one\r\n8 <12>two\n\n<13>three\n<14>four\n12 <15>five\nsix<10>seven";

const EXPECTED: &str = "err     - one\n\
                        warning - two\n\
                        notice  - three\n\
                        info    - four\n\
                        debug   - five\\nsix\n\
                        crit    - seven\n";

#[test]
fn both_framings_on_one_connection_however_it_is_cut() {
    let written = Written::default();
    let out = written.clone();
    let transcript = sim::drive_every_segmentation(
        move |chat| {
            out.0.borrow_mut().clear();
            Stream::new(chat, Rc::new(Collector::new(7, out.clone())))
        },
        MIXED,
    );
    transcript.unwrap();
    assert_eq!(written.text(), EXPECTED);
}

#[test]
fn less_severe_ones_are_counted_and_not_written() {
    let written = Written::default();
    let collector = Rc::new(Collector::new(4, written.clone()));
    let stream = Rc::clone(&collector);
    sim::drive(
        move |chat| Stream::new(chat, stream),
        Script::new().send(MIXED).finish(),
    )
    .unwrap();
    assert_eq!(written.text().lines().count(), 3);
    let report = collector.report();
    assert!(
        report.starts_with("so far: crit 1 err 1 warning 1 notice 1 info 1 debug 1\n"),
        "{report}"
    );
}

#[test]
fn a_count_without_reason_ends_its_connection() {
    for input in [b"99999 <13>x".as_slice(), b"123456789 x", b"1x2 <13>y"] {
        let collector = Rc::new(Collector::new(7, Written::default()));
        let transcript = sim::drive(
            move |chat| Stream::new(chat, collector),
            Script::new().send(input),
        )
        .unwrap();
        let why = transcript
            .close
            .map(|why| why.to_string())
            .unwrap_or_default();
        assert!(
            why.contains("failed") || why.contains("over its limit"),
            "{why}"
        );
    }
}
