//! The `syslog` example: its framing over TCP under every segmentation, and its output. The parser has unit
//! tests.

#[path = "../syslog/collector.rs"]
mod collector;
#[path = "../common/mod.rs"]
mod common;
#[path = "../syslog/message.rs"]
mod message;
#[path = "../syslog/output.rs"]
mod output;
#[path = "../syslog/stream.rs"]
mod stream;

use std::io::{self, Write};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use asynchat::sim::{self, Script};
use asynchat::{Chat, Deadlines};
use collector::Collector;
use output::Output;
use stream::Stream;

/// An output in memory.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Written {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

fn collector(threshold: u8, out: &(impl Write + Clone + Send + 'static)) -> Collector {
    Collector::new(threshold, Output::new(out.clone()).unwrap())
}

const MIXED: &[u8] =
    b"<11>one\r\n8 <12>two\n\n3 dogs\n<13>three\n<14>four\n12 <15>five\nsix1 <3 <8><10>seven";

const EXPECTED: &str = "err     - one\n\
                        warning - two\n\
                        notice  - 3 dogs\n\
                        notice  - three\n\
                        info    - four\n\
                        debug   - five\\nsix\n\
                        notice  - <\n\
                        emerg   - \n\
                        crit    - seven\n";

#[test]
fn both_framings_on_one_connection_under_every_segmentation() {
    let written = Written::default();
    let out = written.clone();
    let transcript = sim::drive_every_segmentation(
        move |chat| {
            out.0.lock().unwrap().clear();
            Stream::new(chat, Rc::new(collector(7, &out)))
        },
        MIXED,
    );
    transcript.unwrap();
    assert_eq!(written.text(), EXPECTED);
}

#[test]
fn less_severe_messages_are_counted_and_not_written() {
    let written = Written::default();
    let collector = Rc::new(collector(4, &written));
    let stream = Rc::clone(&collector);
    sim::drive(
        move |chat| Stream::new(chat, stream),
        Script::new().send(MIXED).finish(),
    )
    .unwrap();
    collector.finish();
    assert_eq!(written.text().lines().count(), 4);
    let report = collector.report();
    assert!(
        report.starts_with("so far: emerg 1 crit 1 err 1 warning 1 notice 3 info 1 debug 1\n"),
        "{report}"
    );
}

/// Lines that begin with a digit and are not counted messages. A counted message begins with a number without
/// a leading zero, a space, and the `<` of the message (RFC 6587 section 3.4.1).
const DIGITS: [&str; 10] = [
    "3 dogs barked",
    "1",
    "12",
    "12 ",
    "1x2 <13>y",
    "12\t<13>y",
    "007 <13>y",
    "2026-11-21T22:14:15Z it",
    "123456789 x",
    "123456789 <13>no message is that long",
];

#[test]
fn a_line_that_begins_with_a_digit_is_a_line() {
    for end in ["\n", "\r\n"] {
        let input = DIGITS.join(end) + end;
        let expected = DIGITS.map(|line| format!("notice  - {line}\n")).concat();
        let pieces: Vec<_> = input.as_bytes().chunks(1).collect();
        for script in [Script::new().send(&input), Script::new().send_each(pieces)] {
            let written = Written::default();
            let collector = Rc::new(collector(7, &written));
            sim::drive(|chat| Stream::new(chat, collector), script).unwrap();
            assert_eq!(written.text(), expected);
        }
    }
}

/// A message above the maximum of 64 KiB is truncated, in both framings.
#[test]
fn a_message_above_the_maximum_is_truncated_and_the_stream_stays_in_sync() {
    for length in [65_535, 65_536, 65_537, 99_999, 300_000] {
        let text = format!("<12>{}", "x".repeat(length - 4));
        let rest = "x".repeat(length.min(65_536) - 4);
        let expected = format!("warning - {rest}\nerr     - end\n");
        for input in [format!("{text}\n"), format!("{length} {text}")] {
            let written = Written::default();
            let collector = Rc::new(collector(7, &written));
            sim::drive(
                move |chat| Stream::new(chat, collector),
                Script::new().send(input).send(b"<11>end\n").finish(),
            )
            .unwrap();
            assert!(written.text() == expected, "{length}");
        }
    }
}

/// The peer half-closes, resets the connection or stops sending in the middle of a message.
#[test]
fn the_received_part_of_an_incomplete_message_is_written() {
    for (input, expected) in [
        (
            b"<11>one\n30 <12>two".as_slice(),
            "err     - one\nwarning - two\n",
        ),
        (b"<11>one\n30 <", "err     - one\nnotice  - <\n"),
        (b"<11>one\n30", "err     - one\nnotice  - 30\n"),
        (b"<11>one\n<12>two", "err     - one\nwarning - two\n"),
        (b"<11>one\n", "err     - one\n"),
    ] {
        let begun = || Script::new().send(input);
        let slow = begun().wait(Duration::from_secs(31));
        for script in [begun().finish(), begun().reset(), slow] {
            let written = Written::default();
            let collector = Rc::new(collector(7, &written));
            let deadlines = Deadlines::default().record(Duration::from_secs(30));
            let stream = move |chat: Chat| {
                chat.set_deadlines(deadlines);
                Stream::new(chat, collector)
            };
            sim::drive(stream, script).unwrap();
            assert_eq!(written.text(), expected, "{}", input.escape_ascii());
        }
    }
}

/// An output that fails while `full` is set.
#[derive(Clone, Default)]
struct Full {
    written: Written,
    full: Arc<AtomicBool>,
}

impl Write for Full {
    /// Writes a part of the data before it fails, as a full disk may do.
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.full.load(Ordering::Relaxed) && self.written.0.lock().unwrap().ends_with(b"- t") {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let most = if self.full.load(Ordering::Relaxed) {
            11
        } else {
            usize::MAX
        };
        let count = data.len().min(most);
        self.written.write(&data[..count])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[track_caller]
fn eventually(happened: impl Fn() -> bool) {
    let start = Instant::now();
    while !happened() {
        assert!(start.elapsed() < Duration::from_secs(60));
        thread::yield_now();
    }
}

#[test]
fn lines_that_failing_output_loses_are_counted() {
    let out = Full::default();
    let collector = collector(7, &out);
    collector.collect(b"<11>one");
    eventually(|| out.written.text().ends_with('\n'));
    out.full.store(true, Ordering::Relaxed);
    collector.collect(b"<12>two");
    collector.collect(b"<12>three");
    eventually(|| collector.report().ends_with("\n         2  not written\n"));
    let report = collector.report();
    assert!(report.starts_with("so far: err 1 warning 2\n"), "{report}");
    out.full.store(false, Ordering::Relaxed);
    collector.collect(b"<13>four");
    collector.finish();
    let expected = "err     - one\nwarning - t\nnotice  - four\n";
    assert_eq!(out.written.text(), expected);
}

/// An output that blocks until the gate is opened, like a pipe whose reader does not read.
#[derive(Clone)]
struct Stuck {
    written: Written,
    gate: Arc<Mutex<mpsc::Receiver<()>>>,
}

impl Write for Stuck {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        // `recv` fails after the sender was dropped, which opens the gate permanently.
        let _ = self.gate.lock().unwrap().recv();
        self.written.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn blocked_output_does_not_block_the_collector_and_discarded_lines_are_counted() {
    let (open, gate) = mpsc::channel();
    let written = Written::default();
    let out = Stuck {
        written: written.clone(),
        gate: Arc::new(Mutex::new(gate)),
    };
    let collector = collector(7, &out);
    let message = [b"<13>", "x".repeat(60_000).as_bytes()].concat();
    for _ in 0..200 {
        collector.collect(&message);
    }
    assert_eq!(written.text(), "");
    drop(open);
    collector.finish();
    // The limit of the queue is 4 MiB.
    assert_eq!(written.text().lines().count(), 69);
    let report = collector.report();
    assert!(report.ends_with("\n       131  not written\n"), "{report}");
}

#[test]
fn control_characters_are_escaped_in_output_and_report() {
    let written = Written::default();
    let collector = collector(7, &written);
    // ESC and BEL; the C1 character CSI; characters that change the direction of text; a forged line.
    for bad in [
        "\x1b[2J\x07",
        "\u{9b}2J",
        "\u{202e}\u{2066}\u{200f}\u{61c}",
        "\r\n\u{2028}x",
    ] {
        collector.collect(format!("<13>1 - ho{bad}st app - - - te{bad}xt").as_bytes());
        collector.collect(format!("<13>Nov 21 22:14:15 ho{bad}st te{bad}xt").as_bytes());
    }
    collector.finish();
    let shown = written.text() + &collector.report();
    let may_be = |c: char| matches!(c, '\n' | ' '..='~');
    assert!(shown.chars().all(may_be), "{}", shown.escape_debug());
    assert!(shown.contains("\nnotice  ho\\u{1b}[2J\\u{7}st te\\u{1b}[2J\\u{7}xt\n"));
    assert_eq!(written.text().lines().count(), 8);
}
