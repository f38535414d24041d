//! Single cases.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use asynchat::{
    ChunkedProducer, CompositeProducer, CrlfProducer, DotStuffer, HookedProducer, IterProducer,
    LinesProducer, More, Producer, ReadProducer, SimpleProducer,
};
use bytes::Bytes;

use super::{ReadStep, Reader, Script, Step, bytes_of, run};

#[test]
fn dot_stuffer_by_hand() {
    for (body, block) in [
        ("", ".\r\n"),
        ("a", "a\r\n.\r\n"),
        ("a\r\n", "a\r\n.\r\n"),
        ("\r\n", "\r\n.\r\n"),
        (".", "..\r\n.\r\n"),
        (".\r\n", "..\r\n.\r\n"),
        ("..\r\n.a\r\n", "...\r\n..a\r\n.\r\n"),
        ("a.\r\nb.c", "a.\r\nb.c\r\n.\r\n"),
        // A bare CR or LF neither starts a line nor ends the last one.
        ("a\r", "a\r\r\n.\r\n"),
        ("a\n", "a\n\r\n.\r\n"),
        ("\n.\n.\r.", "\n.\n.\r.\r\n.\r\n"),
        ("\r\r\n.", "\r\r\n..\r\n.\r\n"),
        ("\r\n\n.", "\r\n\n.\r\n.\r\n"),
    ] {
        for budget in [1, 2, 3, 70_000] {
            let bytes = bytes_of(DotStuffer::new(body), &[budget]);
            assert_eq!(
                bytes.escape_ascii().to_string(),
                block.escape_default().to_string()
            );
        }
    }
}

#[test]
fn chunked_producer_by_hand() {
    let producer = ChunkedProducer::new(IterProducer::new(["", "hello, ", "", "world.."]));
    let bytes = bytes_of(producer, &[16]);
    assert_eq!(bytes, b"e\r\nhello, world..\r\n0\r\n\r\n");
    let bytes = bytes_of(
        ChunkedProducer::new(SimpleProducer::new("tea").chunk_size(2)),
        &[2],
    );
    assert_eq!(bytes, b"2\r\nte\r\n1\r\na\r\n0\r\n\r\n");
    assert_eq!(bytes_of(ChunkedProducer::new(""), &[16]), b"0\r\n\r\n");
}

#[test]
fn chunked_producer_refuses_trailers_that_could_forge_a_message() {
    let refused = |name: &str, value: &[u8]| {
        let result = ChunkedProducer::new("").trailers([("Fine", &b"fine"[..]), (name, value)]);
        result.is_err_and(|error| error.kind() == ErrorKind::InvalidInput)
    };
    for name in ["", " ", "a b", "a:", "a\r\nb", "\u{e9}", "a\0", "(a)", "\""] {
        assert!(refused(name, b"x"), "{name:?}");
    }
    for value in [&b"\r\nX: y"[..], b"a\rb", b"a\n", b"\0"] {
        assert!(refused("Name", value), "{}", value.escape_ascii());
    }
    assert!(!refused("!#$%&'*+-.^_`|~09azAZ", b"\x80 and so on\t"));
}

#[test]
fn lines_producer_refuses_a_line_with_a_line_break() {
    for (line, budget) in [("a\r\nb", 5), ("a\n", 7), ("\r", 70_000)] {
        let output = run(LinesProducer::new(["first", line, "last"]), &[budget]);
        assert_eq!(output.bytes, b"first\r\n", "{line:?}");
        assert_eq!(output.error, Some(ErrorKind::InvalidInput), "{line:?}");
    }
}

#[test]
fn strings_vectors_and_boxes_are_producers() {
    fn all(producer: impl Producer) -> Vec<u8> {
        bytes_of(producer, &[usize::MAX])
    }
    assert_eq!(all("text"), b"text");
    assert_eq!(all(&b"bytes"[..]), b"bytes");
    assert_eq!(all(String::from("string")), b"string");
    assert_eq!(all(vec![1, 2, 3]), [1, 2, 3]);
    assert_eq!(all(Bytes::from_static(b"bytes")), b"bytes");
    assert_eq!(all(Box::new("boxed")), b"boxed");
    assert_eq!(all(Box::new("dyn") as Box<dyn Producer>), b"dyn");
    for empty in [
        all(""),
        all(String::new()),
        all(Vec::new()),
        all(Bytes::new()),
    ] {
        assert_eq!(empty, b"");
    }
}

#[test]
fn a_budget_of_0_is_taken_as_1() {
    assert_eq!(
        SimpleProducer::new("ab").more(0).unwrap(),
        More::Chunk("a".into())
    );
    assert_eq!(
        ReadProducer::new(&b"ab"[..]).more(0).unwrap(),
        More::Chunk("a".into())
    );
    assert_eq!(
        IterProducer::new(["ab"]).more(0).unwrap(),
        More::Chunk("a".into())
    );
    assert_eq!(
        LinesProducer::new(["ab"]).more(0).unwrap(),
        More::Chunk("a".into())
    );
    assert_eq!(
        DotStuffer::new("ab").more(0).unwrap(),
        More::Chunk("a".into())
    );
    assert_eq!(
        ChunkedProducer::new("ab").more(0).unwrap(),
        More::Chunk("2".into())
    );
}

#[test]
fn data_in_memory_is_not_copied() {
    let data = Bytes::from(b"no dot starts a line.\r\n".repeat(1000));
    let inside = |chunk: &Bytes| data.as_ptr_range().contains(&chunk.as_ptr());
    let producers: [Box<dyn Producer>; 6] = [
        Box::new(data.clone()),
        Box::new(SimpleProducer::new(data.clone())),
        Box::new(IterProducer::new([data.clone()])),
        Box::new(DotStuffer::new(data.clone())),
        Box::new(ChunkedProducer::new(data.clone())),
        Box::new(HookedProducer::new(data.clone(), |_| {})),
    ];
    for (i, mut producer) in producers.into_iter().enumerate() {
        let mut uncopied = 0;
        while let More::Chunk(chunk) = producer.more(10_000).unwrap() {
            uncopied += if inside(&chunk) { chunk.len() } else { 0 };
        }
        // The end of an item may be gathered with the next one.
        assert!(uncopied > data.len() - 4096, "producer {i}");
    }
}

#[test]
fn dot_stuffer_works_on_no_more_than_the_budget() {
    let data = Bytes::from([&[b'x'; 10_000][..], b"\r\n.\r\n"].concat());
    let mut producer = DotStuffer::new(HandsOverAll(data.clone()));
    // The dot at the end of the large chunk has not been reached: this is not a stuffed copy.
    match producer.more(1000).unwrap() {
        More::Chunk(chunk) => assert_eq!(chunk.as_ptr_range(), data[..1000].as_ptr_range()),
        other => panic!("{other:?}"),
    }
}

struct HandsOverAll(Bytes);

impl Producer for HandsOverAll {
    fn more(&mut self, _budget: usize) -> io::Result<More> {
        Ok(More::Chunk(std::mem::take(&mut self.0)))
    }
}

#[test]
fn an_endless_iterator_is_advanced_no_further_than_the_budget() {
    let asked = Cell::new(0);
    let mut producer = IterProducer::new(std::iter::repeat_with(|| {
        asked.set(asked.get() + 1);
        "0123456789"
    }));
    assert!(matches!(producer.more(60).unwrap(), More::Chunk(chunk) if chunk.len() == 60));
    assert_eq!(asked.get(), 6);
    assert!(matches!(producer.more(15).unwrap(), More::Chunk(chunk) if chunk.len() == 15));
    drop(producer);

    let mut producer = LinesProducer::new(std::iter::repeat_with(|| {
        asked.set(asked.get() + 1);
        "12345678"
    }));
    asked.set(0);
    assert!(matches!(producer.more(75).unwrap(), More::Chunk(chunk) if chunk.len() == 75));
    assert_eq!(asked.take(), 8);
    assert!(matches!(producer.more(5).unwrap(), More::Chunk(chunk) if chunk.len() == 5));
    assert_eq!(asked.take(), 0);
}

/// An iterator that filters a large table works for each item, also for one without bytes.
#[test]
fn an_iterator_is_asked_for_8_items_in_a_call() {
    let asked = Rc::new(Cell::new(0));
    let items = |item: &'static str| {
        let asked = Rc::clone(&asked);
        std::iter::repeat_with(move || {
            asked.set(asked.get() + 1);
            item
        })
    };
    assert!(matches!(
        IterProducer::new(items("")).more(65_536).unwrap(),
        More::Chunk(chunk) if chunk.is_empty()
    ));
    assert_eq!(asked.take(), 8);
    let chunk = IterProducer::new(items("0123456789")).more(65_536).unwrap();
    assert!(matches!(chunk, More::Chunk(chunk) if chunk.len() == 80));
    assert_eq!(asked.take(), 8);
    let chunk = LinesProducer::new(items("")).more(65_536).unwrap();
    assert!(matches!(chunk, More::Chunk(chunk) if chunk.len() == 16));
    assert_eq!(asked.take(), 8);
}

/// A producer that returns empty chunks for ever must not keep its wrapper in a loop.
#[test]
fn wrappers_pass_empty_chunks_on() {
    struct Empty;
    impl Producer for Empty {
        fn more(&mut self, _budget: usize) -> io::Result<More> {
            Ok(More::Chunk(Bytes::new()))
        }
    }
    let is_empty = |more: io::Result<More>| more.unwrap() == More::Chunk(Bytes::new());
    assert!(is_empty(ChunkedProducer::new(Empty).more(1000)));
    assert!(is_empty(DotStuffer::new(Empty).more(1000)));
    let nothing = || Box::new(Bytes::new()) as Box<dyn Producer>;
    let mut many = CompositeProducer::new((0..100).map(|_| nothing()));
    assert!(is_empty(many.more(1000)));
    assert_eq!(many.more(1000).unwrap(), More::Done);
}

#[test]
fn composite_producer_drops_each_part_before_it_asks_the_next() {
    let drops = Rc::new(Cell::new(0));
    let steps = [Step::Chunk(b"x".into())];
    let mut producer = CompositeProducer::new([]);
    for _ in 0..3 {
        producer.push(Script::counting(&steps, &drops));
    }
    for dropped in 0..3 {
        assert_eq!(producer.more(9).unwrap(), More::Chunk("x".into()));
        assert_eq!(drops.get(), dropped);
    }
    assert_eq!(producer.more(9).unwrap(), More::Done);
    assert_eq!(drops.get(), 3);
}

/// A second panic while the first unwinds would abort the process.
#[test]
fn composite_producer_drops_its_parts_one_by_one() {
    struct Panics(Rc<Cell<u32>>);
    impl Producer for Panics {
        fn more(&mut self, _budget: usize) -> io::Result<More> {
            Ok(More::Pending)
        }
    }
    impl Drop for Panics {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
            panic!("a destructor that panics");
        }
    }
    let drops = Rc::new(Cell::new(0));
    let mut producer = CompositeProducer::default();
    for _ in 0..3 {
        producer.push(Panics(Rc::clone(&drops)));
    }
    assert!(catch_unwind(AssertUnwindSafe(|| drop(producer))).is_err());
    assert_eq!(drops.get(), 3);
}

#[test]
fn hooked_producer_reports_how_much_it_has_produced() {
    let reports = Rc::new(RefCell::new(Vec::new()));
    for calls in 0..4 {
        let steps = [Step::Chunk(b"four".into()), Step::Chunk(b"seven..".into())];
        let reported = Rc::clone(&reports);
        let mut producer = HookedProducer::new(Script::new(&steps), move |produced| {
            reported
                .borrow_mut()
                .push((produced.bytes, produced.complete));
        });
        for _ in 0..calls {
            producer.more(9).unwrap();
        }
    }
    assert_eq!(
        reports.take(),
        [(0, false), (4, false), (11, false), (11, true)]
    );
}

#[test]
fn iter_producer_copies_items_under_4096_bytes() {
    for (len, is_copied) in [(4095, true), (4096, false)] {
        let item = Bytes::from(vec![b'x'; len]);
        match IterProducer::new([item.clone()]).more(65_536).unwrap() {
            More::Chunk(chunk) => assert_eq!(chunk.as_ptr() != item.as_ptr(), is_copied),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn read_producer_passes_errors_on_and_does_not_trust_the_count() {
    let steps = [
        ReadStep::Data(b"abc".into()),
        ReadStep::Fail(ErrorKind::PermissionDenied),
    ];
    let output = run(ReadProducer::new(Reader(steps.into())), &[2]);
    assert_eq!(output.bytes, b"abc");
    assert_eq!(output.error, Some(ErrorKind::PermissionDenied));

    struct Liar;
    impl Read for Liar {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            Ok(buf.len() + 1)
        }
    }
    assert_eq!(
        ReadProducer::new(Liar).more(9).unwrap_err().kind(),
        ErrorKind::Other
    );
}

/// The buffers are used again, and hold what was sent to another peer.
#[test]
fn a_reader_that_counts_bytes_it_has_not_written_sends_zeros() {
    struct Counts;
    impl Read for Counts {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            Ok(buf.len())
        }
    }
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&[b's'; 65_536]).unwrap();
    file.rewind().unwrap();
    let secret = ReadProducer::new(file).more(65_536).unwrap();
    assert_eq!(secret, More::Chunk(vec![b's'; 65_536].into()));
    drop(secret);
    for budget in [10, 65_536] {
        let sent = ReadProducer::new(Counts).more(budget).unwrap();
        assert_eq!(sent, More::Chunk(vec![0; budget].into()));
    }
}

#[test]
fn read_producer_tries_an_interrupted_read_again_and_is_pending_when_it_would_block() {
    let steps = [
        ReadStep::Fail(ErrorKind::Interrupted),
        ReadStep::Data(b"abc".into()),
        ReadStep::Fail(ErrorKind::WouldBlock),
        ReadStep::Data(b"d".into()),
    ];
    let output = run(ReadProducer::new(Reader(steps.into())), &[9]);
    assert_eq!(output.bytes, b"abcd");
    assert_eq!((output.chunks, output.pending, output.error), (2, 1, None));
}

/// Otherwise it would stop the loop.
#[test]
fn read_producer_that_is_interrupted_every_time_has_nothing_yet() {
    struct Interrupted(Rc<Cell<usize>>);
    impl Read for Interrupted {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            self.0.set(self.0.get() + 1);
            Err(ErrorKind::Interrupted.into())
        }
    }
    let reads = Rc::new(Cell::new(0));
    let mut producer = ReadProducer::new(Interrupted(Rc::clone(&reads)));
    for calls in 1..=3 {
        assert_eq!(producer.more(9).unwrap(), More::Chunk(Bytes::new()));
        assert_eq!(reads.get(), calls * 16);
    }
}

/// However much of its buffer a reader has filled before.
#[test]
fn read_producer_always_offers_a_whole_buffer() {
    struct Fills(usize, Rc<Cell<usize>>);
    impl Read for Fills {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.1.set(buf.len());
            Ok(self.0)
        }
    }
    for first in [1, 4096, 61_440, 61_441, 65_536] {
        let room = Rc::new(Cell::new(0));
        let mut producer = ReadProducer::new(Fills(first, Rc::clone(&room)));
        producer.more(usize::MAX).unwrap();
        assert_eq!(room.get(), 65_536);
        // A count above the room is an error. Only the room counts here.
        let _ = producer.more(usize::MAX);
        assert_eq!(room.get(), 65_536);
        let mut producer = ReadProducer::new(Fills(1, Rc::clone(&room))).length(1000);
        producer.more(usize::MAX).unwrap();
        assert_eq!(room.get(), 1000, "no more than the length");
    }
}

/// Neither another file, nor the end of this one.
#[test]
fn read_producer_with_a_length_reads_no_more_than_that() {
    struct Once(bool);
    impl Read for Once {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            assert!(!std::mem::replace(&mut self.0, true), "read again");
            buf.fill(b'x');
            Ok(buf.len())
        }
    }
    let output = run(ReadProducer::new(Once(false)).length(12), &[70_000]);
    assert_eq!(output.bytes, b"xxxxxxxxxxxx");
    assert_eq!(bytes_of(ReadProducer::new(Once(true)).length(0), &[9]), b"");
}

/// It would mean "pending", and what follows would be taken for the next line.
#[test]
fn a_line_that_would_block_is_an_error() {
    let lines = [Ok("one"), Err(ErrorKind::WouldBlock.into()), Ok("two")];
    let output = run(LinesProducer::fallible(lines), &[70_000]);
    assert_eq!(output.bytes, b"one\r\n");
    assert_eq!((output.pending, output.error), (0, Some(ErrorKind::Other)));
}

#[test]
fn crlf_producer_leaves_what_has_crlf_alone() {
    let text = Bytes::from_static(b"a\r\n\rb\r\r\n");
    match CrlfProducer::new(text.clone()).more(65_536).unwrap() {
        More::Chunk(chunk) => assert_eq!(chunk.as_ptr(), text.as_ptr(), "it was copied"),
        other => panic!("{other:?}"),
    }
    for budget in 1..20 {
        assert_eq!(bytes_of(CrlfProducer::new(text.clone()), &[budget]), text);
        let converted = bytes_of(CrlfProducer::new(&b"\na\n\nb"[..]), &[budget]);
        assert_eq!(converted, b"\r\na\r\n\r\nb");
    }
}

#[test]
fn a_stored_message_becomes_a_block_of_crlf_lines() {
    let message = &b"Subject: dots\n\n.\n..\n.end"[..];
    for budget in [1, 2, 7, 70_000] {
        let block = DotStuffer::new(CrlfProducer::new(ReadProducer::new(message)));
        assert_eq!(
            bytes_of(block, &[budget]),
            b"Subject: dots\r\n\r\n..\r\n...\r\n..end\r\n.\r\n"
        );
    }
}

#[test]
fn read_producer_does_not_reuse_the_memory_of_a_queued_chunk() {
    let data: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
    let mut producer = ReadProducer::new(&data[..]);
    let mut queued = Vec::new();
    while let More::Chunk(chunk) = producer.more(usize::MAX).unwrap() {
        assert!(chunk.len() <= 64 * 1024);
        queued.push(chunk);
    }
    assert!(queued.concat() == data);
}
