//! Random bytes in random chunks, with random budgets.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::rc::Rc;

use asynchat::{
    ChunkedProducer, CompositeProducer, CrlfProducer, DotStuffer, HookedProducer, IterProducer,
    LinesProducer, More, Produced, Producer, ReadProducer, SimpleProducer,
};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::{Output, ReadStep, Reader, Script, Step, bytes_of, run};

/// What a script produces: the bytes and pauses before its first failure, and the failure.
fn output_of(steps: &[Step]) -> Output {
    let mut output = Output::default();
    for step in steps {
        match step {
            Step::Chunk(chunk) => output.bytes.extend_from_slice(chunk),
            Step::Pending => output.pending += 1,
            Step::Fail => {
                output.error = Some(ErrorKind::InvalidData);
                break;
            }
        }
    }
    output
}

// ---- random input

fn budgets() -> impl Strategy<Value = Vec<usize>> {
    let one = prop_oneof![1..=4usize, 1..=100usize, 1..=70_000usize];
    prop_oneof![Just(vec![1]), vec(one, 1..6)]
}

/// Bytes, many of which mean something in a line protocol.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let special = prop::sample::select(b"\r\r\r\n\n\n...ab".to_vec());
    prop_oneof![3 => vec(special, 0..12), 1 => vec(any::<u8>(), 0..300)]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => text().prop_map(Step::Chunk),
        1 => (0..9000usize).prop_map(|n| Step::Chunk(vec![b'x'; n])),
        2 => Just(Step::Pending),
    ];
    vec(step, 0..12)
}

fn failing_steps() -> impl Strategy<Value = Vec<Step>> {
    (steps(), steps()).prop_map(|(mut steps, after)| {
        steps.push(Step::Fail);
        steps.extend(after);
        steps
    })
}

// ---- the simplest reader of each format

/// The body of a multi-line block. Nothing may follow the block.
fn unstuff(mut block: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = block.windows(2).position(|two| two == b"\r\n").unwrap();
        let (line, rest) = (&block[..end], &block[end + 2..]);
        if line == b"." {
            assert_eq!(rest, b"", "a dot line inside the body");
            return body;
        }
        body.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        body.extend_from_slice(b"\r\n");
        block = rest;
    }
}

/// The text with CR LF for each LF that has no CR before it.
fn in_crlf_lines(text: &[u8]) -> Vec<u8> {
    let mut converted = Vec::new();
    for &byte in text {
        if byte == b'\n' && converted.last() != Some(&b'\r') {
            converted.push(b'\r');
        }
        converted.push(byte);
    }
    converted
}

/// The body and the trailer section of a chunked message. Nothing may follow them.
fn unchunk(mut message: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut body = Vec::new();
    loop {
        let end = message.windows(2).position(|two| two == b"\r\n").unwrap();
        let size = std::str::from_utf8(&message[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        message = &message[end + 2..];
        if size == 0 {
            return (body, message.strip_suffix(b"\r\n").unwrap().to_vec());
        }
        body.extend_from_slice(&message[..size]);
        message = message[size..].strip_prefix(b"\r\n").unwrap();
    }
}

proptest! {
    #[test]
    fn bytes_and_simple_producer_cut_and_lose_nothing(
        data in vec(any::<u8>(), 0..2000),
        budgets in budgets(),
        size in 0..50usize,
    ) {
        prop_assert_eq!(&bytes_of(Bytes::from(data.clone()), &budgets), &data);
        prop_assert_eq!(&bytes_of(SimpleProducer::new(data.clone()), &budgets), &data);

        let output = run(SimpleProducer::new(data.clone()).chunk_size(size), &[70_000]);
        prop_assert_eq!(output.chunks, data.len().div_ceil(size.max(1)));
        prop_assert_eq!(output.bytes, data);
    }

    #[test]
    fn read_producer_reads_to_the_end(
        reads in vec(
            prop_oneof![
                5 => (1..200usize).prop_map(Ok),
                2 => (1..150_000usize).prop_map(Ok),
                1 => Just(Err(ErrorKind::Interrupted)),
                1 => Just(Err(ErrorKind::WouldBlock)),
            ],
            0..10,
        ),
        mut budgets in budgets(),
        part in 0..=100u8,
    ) {
        // So that hundreds of kilobytes do not take a call for each byte.
        budgets.push(65_536);
        let mut data = Vec::new();
        let mut steps = VecDeque::new();
        for read in &reads {
            steps.push_back(match *read {
                Ok(n) => {
                    let piece: Vec<u8> = (data.len()..data.len() + n).map(|i| (i % 251) as u8).collect();
                    data.extend_from_slice(&piece);
                    ReadStep::Data(piece)
                }
                Err(kind) => ReadStep::Fail(kind),
            });
        }
        let length = data.len() as u64;
        let blocks = reads.iter().filter(|read| **read == Err(ErrorKind::WouldBlock)).count();

        let output = run(ReadProducer::new(Reader(steps.clone())), &budgets);
        prop_assert!(output.bytes == data);
        prop_assert_eq!((output.pending, output.error), (blocks, None));

        // With a length, it neither stops too early nor reads too far.
        let sent = length * u64::from(part) / 100;
        let output = run(ReadProducer::new(Reader(steps.clone())).length(sent), &budgets);
        prop_assert!(output.bytes == data[..sent as usize]);
        prop_assert_eq!(output.error, None);
        let output = run(ReadProducer::new(Reader(steps)).length(length + 1), &budgets);
        prop_assert!(output.bytes == data);
        prop_assert_eq!(output.error, Some(ErrorKind::UnexpectedEof));
    }

    #[test]
    fn iter_producer_concatenates(
        sizes in vec(prop_oneof![8 => 0..40usize, 1 => 4000..9000usize], 0..30),
        budgets in budgets(),
    ) {
        let items: Vec<Vec<u8>> = sizes.iter().zip(b'a'..).map(|(&n, byte)| vec![byte; n]).collect();
        let output = bytes_of(IterProducer::new(items.clone()), &budgets);
        prop_assert!(output == items.concat());
    }

    #[test]
    fn lines_producer_ends_each_line(
        lines in vec("[ -~]{0,40}", 0..30),
        budgets in budgets(),
    ) {
        let expected: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        let output = run(LinesProducer::new(&lines), &budgets);
        prop_assert_eq!(&output.bytes, expected.as_bytes());
        // Eight lines per call.
        prop_assert_eq!(run(LinesProducer::new(&lines), &[70_000]).chunks, lines.len().div_ceil(8));
    }

    #[test]
    fn fallible_lines_are_sent_up_to_the_first_error(
        lines in vec("[ -~]{0,40}", 0..30),
        failure in 0..40usize,
        budgets in budgets(),
    ) {
        let items = lines.iter().enumerate().map(|(number, line)| if number == failure { Err(ErrorKind::PermissionDenied.into()) } else { Ok(line) });
        let output = run(LinesProducer::fallible(items), &budgets);
        let sent = lines.iter().take(failure);
        let expected: String = sent.map(|line| format!("{line}\r\n")).collect();
        prop_assert_eq!(&output.bytes, expected.as_bytes());
        let error = (failure < lines.len()).then_some(ErrorKind::PermissionDenied);
        prop_assert_eq!(output.error, error);
    }

    #[test]
    fn crlf_producer_ends_each_line_with_cr_lf(steps in steps(), budgets in budgets()) {
        let output = run(CrlfProducer::new(Script::new(&steps)), &budgets);
        let expected = output_of(&steps);
        prop_assert_eq!(output.pending, expected.pending);
        prop_assert_eq!(output.bytes, in_crlf_lines(&expected.bytes));
    }

    #[test]
    fn crlf_producer_does_not_change_its_own_output(steps in steps()) {
        let once = run(CrlfProducer::new(Script::new(&steps)), &[500]).bytes;
        prop_assert_eq!(&bytes_of(CrlfProducer::new(once.clone()), &[70_000]), &once);
    }

    #[test]
    fn composite_producer_concatenates(parts in vec(steps(), 0..5)) {
        let drops = Rc::new(Cell::new(0));
        let mut producer = CompositeProducer::new(
            parts.iter().map(|steps| Box::new(Script::counting(steps, &drops)) as Box<dyn Producer>),
        );
        producer.push(Script::counting(&[Step::Chunk(b"end".into())], &drops));
        let output = run(producer, &[usize::MAX]);

        let mut expected = output_of(&parts.concat());
        expected.bytes.extend_from_slice(b"end");
        prop_assert_eq!((output.bytes, output.pending), (expected.bytes, expected.pending));
        prop_assert_eq!(drops.get() as usize, parts.len() + 1);
    }

    #[test]
    fn dot_stuffer_is_undone_by_the_reader(steps in steps(), budgets in budgets()) {
        let output = run(DotStuffer::new(Script::new(&steps)), &budgets);
        let mut body = output_of(&steps).bytes;
        if !body.is_empty() && !body.ends_with(b"\r\n") {
            body.extend_from_slice(b"\r\n");
        }
        prop_assert_eq!(output.pending, output_of(&steps).pending);
        prop_assert_eq!(unstuff(&output.bytes), body);
    }

    #[test]
    fn dot_stuffer_output_does_not_depend_on_the_chunks_of_its_input(
        body in vec(prop::sample::select(b"\r\r\n\n..a".to_vec()), 0..40),
        cuts in vec(1..6usize, 1..6),
        budgets in budgets(),
    ) {
        let whole = bytes_of(DotStuffer::new(Bytes::from(body.clone())), &[70_000]);
        let mut pieces = Vec::new();
        let mut rest = &body[..];
        for &n in cuts.iter().cycle() {
            let (piece, behind) = rest.split_at(n.min(rest.len()));
            pieces.push(Step::Chunk(piece.to_vec()));
            rest = behind;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(&bytes_of(DotStuffer::new(Script::new(&pieces)), &budgets), &whole);
        prop_assert_eq!(&bytes_of(DotStuffer::new(body), &budgets), &whole);
    }

    #[test]
    fn chunked_producer_is_undone_by_the_reader(steps in steps(), budgets in budgets()) {
        let producer = ChunkedProducer::new(Script::new(&steps)).trailers([("A", "1"), ("b-c", "")]);
        let output = run(producer.unwrap(), &budgets);
        let expected = output_of(&steps);
        prop_assert_eq!(output.pending, expected.pending);
        let (body, trailers) = unchunk(&output.bytes);
        prop_assert!(body == expected.bytes);
        prop_assert_eq!(trailers, b"A: 1\r\nb-c: \r\n");
    }

    #[test]
    fn hooked_producer_reports_once_however_it_ends(
        steps in prop_oneof![steps(), failing_steps()],
        calls in 0..20usize,
    ) {
        let drops = Rc::new(Cell::new(0));
        let reports = Rc::new(RefCell::new(Vec::<Produced>::new()));
        let mut producer = HookedProducer::new(Script::counting(&steps, &drops), {
            let (reports, drops) = (reports.clone(), drops.clone());
            move |produced| {
                assert_eq!(drops.get(), 1, "the hook ran before the producer was dropped");
                reports.borrow_mut().push(produced);
            }
        });
        let (mut bytes, mut complete) = (0, false);
        for _ in 0..calls {
            match producer.more(100) {
                Ok(More::Chunk(chunk)) => bytes += chunk.len() as u64,
                Ok(More::Pending) => {}
                Ok(More::Done) => {
                    complete = true;
                    break;
                }
                Err(_) => break,
            }
        }
        prop_assert!(reports.borrow().is_empty());
        drop(producer);
        let reports = reports.borrow();
        prop_assert_eq!(reports.len(), 1);
        prop_assert_eq!((reports[0].bytes, reports[0].complete), (bytes, complete));
    }

    #[test]
    fn an_error_passes_through_after_all_that_came_before_it(
        steps in failing_steps(),
        budgets in budgets(),
    ) {
        let expected = output_of(&steps);
        for wrap in WRAPPERS {
            let output = run(wrap(Box::new(Script::new(&steps))), &[usize::MAX]);
            prop_assert_eq!(output.error, Some(ErrorKind::InvalidData));
            prop_assert_eq!(output.pending, expected.pending);
        }
        let stuffed = run(DotStuffer::new(Script::new(&steps)), &budgets).bytes;
        let whole = bytes_of(DotStuffer::new(expected.bytes), &[70_000]);
        let unfinished = whole.strip_suffix(b".\r\n").unwrap();
        prop_assert!(stuffed == unfinished || [&stuffed[..], b"\r\n"].concat() == unfinished);
    }

    #[test]
    fn an_inner_producer_is_dropped_once(
        steps in prop_oneof![steps(), failing_steps()],
        calls in 0..30usize,
    ) {
        for wrap in WRAPPERS {
            let drops = Rc::new(Cell::new(0));
            let mut producer = wrap(Box::new(Script::counting(&steps, &drops)));
            for _ in 0..calls {
                if !matches!(producer.more(500), Ok(More::Chunk(_) | More::Pending)) {
                    break;
                }
            }
            drop(producer);
            prop_assert_eq!(drops.get(), 1);
        }
    }
}

type Wrapper = fn(Box<dyn Producer>) -> Box<dyn Producer>;

const WRAPPERS: [Wrapper; 5] = [
    |inner| Box::new(CompositeProducer::new([inner])),
    |inner| Box::new(DotStuffer::new(inner)),
    |inner| Box::new(CrlfProducer::new(inner)),
    |inner| Box::new(ChunkedProducer::new(inner)),
    |inner| Box::new(HookedProducer::new(inner, |_| {})),
];
