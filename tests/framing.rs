//! Input is exact: the same bytes give the same records under every segmentation, and they are
//! the records that a reader obvious enough to be trusted finds in the whole stream.

use std::time::Duration;

use asynchat::Terminator;
use asynchat::internals::{Event, Splitter};
use proptest::prelude::*;

/// What a handler is told, with the chunks that follow each other joined.
#[derive(Clone, Debug, PartialEq)]
enum Told {
    Record(Vec<u8>),
    Data(Vec<u8>),
    End,
    Overflow,
    Error,
    Partial(Vec<u8>),
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Crlf,
    Line,
    Bytes(&'static [u8]),
    Count(usize),
    None,
    DotBlock,
}

#[derive(Clone, Copy, Debug)]
struct Spec {
    kind: Kind,
    limit: Option<usize>,
    streamed: bool,
}

const UNLIMITED: usize = usize::MAX;
const DEFAULT_LIMIT: usize = 5;

impl Spec {
    fn terminator(&self) -> Terminator {
        let terminator = match self.kind {
            Kind::Crlf => Terminator::crlf(),
            Kind::Line => Terminator::line(),
            Kind::Bytes(needle) => Terminator::try_bytes(needle).unwrap(),
            Kind::Count(n) => Terminator::count(n as u64),
            Kind::None => Terminator::none(),
            Kind::DotBlock => Terminator::dot_block(),
        };
        let terminator = match self.limit {
            None => terminator,
            Some(UNLIMITED) => terminator.unlimited(),
            Some(n) => terminator.limit(n),
        };
        if self.streamed {
            terminator.streamed()
        } else {
            terminator
        }
    }

    fn is_streamed(&self) -> bool {
        self.streamed || matches!(self.kind, Kind::None)
    }

    fn limit(&self) -> usize {
        match self.limit {
            Some(n) => n,
            None if self.is_streamed() => UNLIMITED,
            None => DEFAULT_LIMIT,
        }
    }
}

// The oracle: quadratic, and sees the whole stream.

/// The record at the front of a stream.
#[derive(Debug)]
struct Naive {
    content: Vec<u8>,
    /// Where the next record begins, if this one is complete.
    next: Option<usize>,
    /// If it is not: its last bytes, if they could become the terminator.
    held: Vec<u8>,
}

fn naive(kind: Kind, stream: &[u8]) -> Naive {
    match kind {
        Kind::Crlf => naive_bytes(b"\r\n", stream),
        Kind::Bytes(needle) => naive_bytes(needle, stream),
        Kind::Line => {
            let mut record = naive_bytes(b"\n", stream);
            if record.content.ends_with(b"\r") {
                record.content.pop();
                record.held = if record.next.is_none() {
                    b"\r".to_vec()
                } else {
                    vec![]
                };
            }
            record
        }
        Kind::Count(n) if stream.len() >= n => complete(stream[..n].to_vec(), n),
        Kind::Count(_) | Kind::None => incomplete(stream.to_vec(), b""),
        Kind::DotBlock => naive_block(stream),
    }
}

fn complete(content: Vec<u8>, next: usize) -> Naive {
    Naive {
        content,
        next: Some(next),
        held: vec![],
    }
}

fn incomplete(content: Vec<u8>, held: &[u8]) -> Naive {
    Naive {
        content,
        next: None,
        held: held.to_vec(),
    }
}

fn naive_bytes(needle: &[u8], stream: &[u8]) -> Naive {
    for at in 0..stream.len() {
        if stream[at..].starts_with(needle) {
            return complete(stream[..at].to_vec(), at + needle.len());
        }
        if needle.starts_with(&stream[at..]) {
            return incomplete(stream[..at].to_vec(), &stream[at..]);
        }
    }
    incomplete(stream.to_vec(), b"")
}

fn naive_block(stream: &[u8]) -> Naive {
    let mut content = vec![];
    let mut rest = stream;
    while let Some(len) = rest.windows(2).position(|pair| pair == b"\r\n") {
        let (line, next) = (&rest[..len], &rest[len + 2..]);
        if line == b"." {
            return complete(content, stream.len() - next.len());
        }
        content.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        content.extend_from_slice(b"\r\n");
        rest = next;
    }
    if rest == b"." || rest == b".\r" {
        return incomplete(content, rest);
    }
    content.extend_from_slice(rest.strip_prefix(b".").unwrap_or(rest));
    incomplete(content, b"")
}

/// What a handler has to be told of `stream`, when it sets the terminators of `script` one by
/// one, a new one with each record, and answers overflows with `Discard`.
fn expected(script: &[Spec], mut stream: &[u8]) -> Vec<Told> {
    let mut told = vec![];
    let mut script = script.iter();
    let mut spec = script.next().unwrap();
    loop {
        let record = naive(spec.kind, stream);
        let too_long = match spec.kind {
            Kind::Count(n) => n > spec.limit(),
            _ => record.content.len() > spec.limit(),
        };
        if too_long {
            if spec.is_streamed() && !matches!(spec.kind, Kind::Count(_)) {
                data(&mut told, &record.content[..spec.limit()]);
            }
            told.push(Told::Overflow);
            let Some(next) = record.next else {
                told.push(Told::Partial(vec![]));
                return told;
            };
            stream = &stream[next..];
            continue;
        }
        if spec.is_streamed() {
            data(&mut told, &record.content);
        }
        let Some(next) = record.next else {
            let mut partial = if spec.is_streamed() {
                vec![]
            } else {
                record.content
            };
            partial.extend(record.held);
            told.push(Told::Partial(partial));
            return told;
        };
        told.push(if spec.is_streamed() {
            Told::End
        } else {
            Told::Record(record.content)
        });
        stream = &stream[next..];
        let spent = matches!(spec.kind, Kind::Count(0));
        match script.next() {
            Some(next) => spec = next,
            None if spent && stream.is_empty() => {
                told.push(Told::Partial(vec![]));
                return told;
            }
            None if spent => {
                told.push(Told::Error);
                return told;
            }
            None => {}
        }
    }
}

fn data(told: &mut Vec<Told>, chunk: &[u8]) {
    match told.last_mut() {
        _ if chunk.is_empty() => {}
        Some(Told::Data(before)) => before.extend_from_slice(chunk),
        _ => told.push(Told::Data(chunk.to_vec())),
    }
}

/// What a handler is told of the same by the splitter.
fn actual<'s>(script: &[Spec], segments: impl IntoIterator<Item = &'s [u8]>) -> Vec<Told> {
    let mut told = vec![];
    let mut script = script.iter();
    let mut splitter = Splitter::new(script.next().unwrap().terminator(), DEFAULT_LIMIT);
    // An empty segment first, and so for a stream without any: some records need no input.
    for mut segment in std::iter::once(&b""[..]).chain(segments) {
        loop {
            let ended = match splitter.next(&mut segment) {
                Ok(None) => break,
                Ok(Some(Event::Record(record))) => {
                    told.push(Told::Record(record.to_vec()));
                    true
                }
                Ok(Some(Event::End)) => {
                    told.push(Told::End);
                    true
                }
                Ok(Some(Event::Chunk(chunk))) => {
                    assert!(!chunk.is_empty());
                    data(&mut told, chunk);
                    false
                }
                Ok(Some(Event::Overflow)) => {
                    told.push(Told::Overflow);
                    splitter.discard();
                    false
                }
                Err(_) => {
                    told.push(Told::Error);
                    return told;
                }
            };
            if ended {
                assert!(splitter.is_idle());
                if let Some(next) = script.next() {
                    assert_eq!(splitter.set_terminator(next.terminator()), None);
                }
            }
        }
        assert!(segment.is_empty());
        if splitter.is_idle() {
            assert_eq!(
                splitter.release_buffer().capacity(),
                0,
                "an idle splitter keeps memory"
            );
        }
    }
    let partial = splitter.take_partial().to_vec();
    assert_eq!(splitter.take_partial(), b"", "told twice");
    told.push(Told::Partial(partial));
    told
}

/// All ways to cut `stream`; bit i of `cuts`: a cut after byte i.
fn segments(stream: &[u8], cuts: u32) -> impl Iterator<Item = &[u8]> {
    let mut from = 0;
    (0..stream.len()).filter_map(move |at| {
        let cut = at + 1 == stream.len() || cuts >> at & 1 == 1;
        cut.then(|| &stream[std::mem::replace(&mut from, at + 1)..=at])
    })
}

/// Every stream of up to `longest` bytes from `alphabet`, in every segmentation.
fn exhaust(script: &[Spec], alphabet: &[u8], longest: u32) {
    for len in 0..=longest {
        for number in 0..alphabet.len().pow(len) {
            let digits = (0..len).map(|i| number / alphabet.len().pow(i) % alphabet.len());
            let stream: Vec<u8> = digits.map(|digit| alphabet[digit]).collect();
            let expected = expected(script, &stream);
            for cuts in 0..1_u32 << len.saturating_sub(1) {
                assert_eq!(
                    actual(script, segments(&stream, cuts)),
                    expected,
                    "{script:?} on {:?} cut {cuts:b}",
                    stream.escape_ascii().to_string()
                );
            }
        }
    }
}

/// A kind, whole and streamed, with limits and without.
fn variants(kind: Kind) -> impl Iterator<Item = Spec> {
    let limits = [None, Some(0), Some(1), Some(2), Some(UNLIMITED)];
    limits.into_iter().flat_map(move |limit| {
        [false, true].map(|streamed| Spec {
            kind,
            limit,
            streamed,
        })
    })
}

fn exhaust_variants(kind: Kind, alphabet: &[u8], longest: u32) {
    for spec in variants(kind) {
        exhaust(&[spec], alphabet, longest);
    }
}

#[test]
fn every_segmentation_of_every_short_stream_crlf() {
    exhaust_variants(Kind::Crlf, b"\r\na", 6);
    exhaust(&[plain(Kind::Crlf)], b"\r\n", 8);
}

#[test]
fn every_segmentation_of_every_short_stream_line() {
    exhaust_variants(Kind::Line, b"\r\na", 6);
    exhaust(&[plain(Kind::Line)], b"\r\n", 8);
}

#[test]
fn every_segmentation_of_every_short_stream_bytes() {
    exhaust_variants(Kind::Bytes(b"q"), b"qa", 6);
    exhaust_variants(Kind::Bytes(b"qq"), b"qa", 7);
    exhaust_variants(Kind::Bytes(b"qqq"), b"qa", 8);
    exhaust_variants(Kind::Bytes(b"aqa"), b"qa", 8);
    exhaust_variants(Kind::Bytes(b"aaq"), b"qa", 8);
    exhaust_variants(Kind::Bytes(b"\r\n."), b"\r\n.", 6);
    exhaust_variants(Kind::Bytes(b"aqaaq"), b"qa", 8);
}

#[test]
fn every_segmentation_of_every_short_stream_dot_block() {
    exhaust_variants(Kind::DotBlock, b"\r\n.", 6);
    exhaust_variants(Kind::DotBlock, b".\r\na", 5);
    exhaust(&[plain(Kind::DotBlock)], b".\r\n", 7);
}

#[test]
fn every_segmentation_of_every_short_stream_counts_and_none() {
    for kind in [Kind::Count(0), Kind::Count(1), Kind::Count(3), Kind::None] {
        exhaust_variants(kind, b"a", 8);
    }
}

#[test]
fn every_segmentation_of_every_short_stream_switching() {
    let kinds = [
        Kind::Crlf,
        Kind::Count(2),
        Kind::DotBlock,
        Kind::Count(0),
        Kind::Bytes(b"\r\n."),
    ];
    for first in kinds {
        for second in kinds {
            for streamed in [false, true] {
                let specs = [first, second, Kind::Line].map(|kind| Spec {
                    streamed,
                    ..plain(kind)
                });
                exhaust(&specs, b"\r\n.", 5);
            }
        }
    }
}

fn plain(kind: Kind) -> Spec {
    Spec {
        kind,
        limit: None,
        streamed: false,
    }
}

const NEEDLES: &[&[u8]] = &[
    b"q", b"aq", b"qq", b"qqq", b"aqa", b"\r\n.", b"aaq", b"a.a.b",
];

fn spec() -> impl Strategy<Value = Spec> {
    let kind = prop_oneof![
        Just(Kind::Crlf),
        Just(Kind::Line),
        prop::sample::select(NEEDLES).prop_map(Kind::Bytes),
        (0..9_usize).prop_map(Kind::Count),
        Just(Kind::None),
        Just(Kind::DotBlock),
    ];
    let limit = prop_oneof![
        Just(None),
        (0..9_usize).prop_map(Some),
        Just(Some(UNLIMITED))
    ];
    (kind, limit, any::<bool>()).prop_map(|(kind, limit, streamed)| Spec {
        kind,
        limit,
        streamed,
    })
}

/// Mostly short segments: cuts are where the faults are.
fn cut(stream: &[u8], lens: &[usize]) -> Vec<Vec<u8>> {
    let mut lens = lens.iter().cycle();
    let mut rest = stream;
    let mut segments = vec![];
    while let (false, Some(&len)) = (rest.is_empty(), lens.next()) {
        let (segment, next) = rest.split_at(len.min(rest.len()));
        segments.push(segment.to_vec());
        rest = next;
    }
    segments
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_segmentation_does_not_show(
        script in prop::collection::vec(spec(), 1..6),
        stream in prop::collection::vec(prop::sample::select(&b"\r\n.aq"[..]), 0..200),
        lens in prop::collection::vec(prop_oneof![1..4_usize, 1..40_usize], 1..20),
    ) {
        let segments = cut(&stream, &lens);
        prop_assert_eq!(
            actual(&script, segments.iter().map(Vec::as_slice)),
            expected(&script, &stream)
        );
    }

    /// Set in the middle of a record, a terminator holds from the next byte that has not been
    /// delivered. Chunks are told from where they end in the stream, as no byte is lost.
    #[test]
    fn a_terminator_set_at_any_moment_holds_from_the_next_byte(
        first in spec(),
        second in spec(),
        stream in prop::collection::vec(prop::sample::select(&b"\r\n.aq"[..]), 0..60),
        lens in prop::collection::vec(1..8_usize, 1..9),
        moment in 0..20_usize,
    ) {
        // A removed dot would make the delivered length differ from the consumed one.
        let in_block = matches!(first.kind, Kind::DotBlock);
        let stream: Vec<u8> = stream.into_iter().filter(|&byte| byte != b'.' || !in_block).collect();
        let mut splitter = Splitter::new(first.terminator(), DEFAULT_LIMIT);
        let mut delivered = 0;
        let mut events = 0;
        let mut fed = 0;
        'feeding: for segment in std::iter::once(vec![]).chain(cut(&stream, &lens)) {
            let mut input = &segment[..];
            fed += segment.len();
            // Before the segment is read: as from a timer. After an event: as from a callback.
            loop {
                if events == moment {
                    fed -= input.len();
                    break 'feeding;
                }
                events += 1;
                match splitter.next(&mut input) {
                    Ok(Some(Event::Chunk(chunk))) => delivered += chunk.len(),
                    Ok(Some(Event::Record(_) | Event::End)) => delivered = fed - input.len(),
                    Ok(None) => break,
                    Ok(Some(Event::Overflow)) | Err(_) => return Ok(()),
                }
            }
        }
        let again = splitter.set_terminator(second.terminator()).unwrap_or_default();
        prop_assert_eq!(&stream[delivered..fed], &again);
        prop_assert!(splitter.is_idle());
        prop_assert_eq!(splitter.take_partial(), b"");
    }
}

// By name.

fn run(terminator: Terminator, segments: &[&[u8]]) -> Vec<Told> {
    let mut splitter = Splitter::new(terminator, UNLIMITED);
    let mut told = vec![];
    for segment in std::iter::once(&&b""[..]).chain(segments) {
        feed(&mut splitter, segment, &mut told);
    }
    told.push(Told::Partial(splitter.take_partial().to_vec()));
    told
}

fn feed(splitter: &mut Splitter, mut input: &[u8], told: &mut Vec<Told>) {
    loop {
        match splitter.next(&mut input) {
            Ok(Some(Event::Record(record))) => told.push(Told::Record(record.to_vec())),
            Ok(Some(Event::Chunk(chunk))) => data(told, chunk),
            Ok(Some(Event::End)) => told.push(Told::End),
            Ok(Some(Event::Overflow)) => told.push(Told::Overflow),
            Ok(None) => return,
            Err(_) => return told.push(Told::Error),
        }
    }
}

fn record(bytes: &[u8]) -> Told {
    Told::Record(bytes.to_vec())
}

fn chunk(bytes: &[u8]) -> Told {
    Told::Data(bytes.to_vec())
}

fn partial(bytes: &[u8]) -> Told {
    Told::Partial(bytes.to_vec())
}

/// As in the test suite of Python's asynchat.
#[test]
fn terminators_of_one_two_and_three_bytes_in_chunks_of_one_two_and_three() {
    for needle in [&b"\n"[..], b"\r\n", b"qqq"] {
        let stream = [b"hello world", needle, b"I'm not dead yet!", needle].concat();
        for len in 1..=3 {
            let segments: Vec<&[u8]> = stream.chunks(len).collect();
            assert_eq!(
                run(Terminator::try_bytes(needle).unwrap(), &segments),
                [
                    record(b"hello world"),
                    record(b"I'm not dead yet!"),
                    partial(b"")
                ]
            );
        }
    }
}

#[test]
fn matches_are_leftmost_and_do_not_overlap() {
    assert_eq!(
        run(Terminator::bytes(b"qqq"), &[b"qqqq"]),
        [record(b""), partial(b"q")]
    );
}

#[test]
fn an_empty_record_fires() {
    assert_eq!(
        run(Terminator::crlf(), &[b"\r\n\r", b"\n"]),
        [record(b""), record(b""), partial(b"")]
    );
    assert_eq!(
        run(Terminator::crlf().streamed(), &[b"\r\n"]),
        [Told::End, partial(b"")]
    );
}

#[test]
fn crlf_is_strict_and_line_is_not() {
    let stream: &[&[u8]] = &[b"a\nb\rc\r\nd\r\r\n"];
    assert_eq!(
        run(Terminator::crlf(), stream),
        [record(b"a\nb\rc"), record(b"d\r"), partial(b"")]
    );
    assert_eq!(
        run(Terminator::line(), stream),
        [record(b"a"), record(b"b\rc"), record(b"d\r"), partial(b"")]
    );
}

#[test]
fn count_zero_fires_at_once_and_only_once() {
    assert_eq!(run(Terminator::count(0), &[]), [record(b""), partial(b"")]);
    assert_eq!(
        run(Terminator::count(0).streamed(), &[b"", b""]),
        [Told::End, partial(b"")]
    );
}

#[test]
fn count_zero_left_in_place_is_an_error_that_consumes_nothing() {
    let mut splitter = Splitter::new(Terminator::count(0), UNLIMITED);
    let mut input = &b"x"[..];
    assert_eq!(splitter.next(&mut input).unwrap(), Some(Event::Record(b"")));
    let error = splitter.next(&mut input).unwrap_err();
    assert!(error.to_string().contains("count(0)"), "{error}");
    assert_eq!(input, b"x");
    assert_eq!(splitter.set_terminator(Terminator::count(1)), None);
    assert_eq!(
        splitter.next(&mut input).unwrap(),
        Some(Event::Record(b"x"))
    );
}

#[test]
fn count_zero_set_again_fires_again() {
    let mut splitter = Splitter::new(Terminator::count(0), UNLIMITED);
    for _ in 0..3 {
        assert_eq!(
            splitter.next(&mut &b""[..]).unwrap(),
            Some(Event::Record(b""))
        );
        assert_eq!(splitter.set_terminator(Terminator::count(0)), None);
    }
}

#[test]
fn none_never_fires() {
    assert_eq!(
        run(Terminator::none(), &[b"a\r\n.", b"\r\n"]),
        [chunk(b"a\r\n.\r\n"), partial(b"")]
    );
}

#[test]
fn an_empty_dot_block_ends() {
    for segments in [
        &[&b".\r\n"[..]][..],
        &[b".", b"\r", b"\n"],
        &[b".\r", b"\n"],
    ] {
        assert_eq!(
            run(Terminator::dot_block(), segments),
            [record(b""), partial(b"")]
        );
    }
}

/// CVE-2023-51764 and the like: none of these ends a block, so the whole of it is one block.
#[test]
fn what_is_not_a_dot_between_crlfs_does_not_end_a_block() {
    for (smuggled, kept) in [
        ("\n.\n", "\n.\n"),
        ("\n.\r\n", "\n.\r\n"),
        ("\r.\r", "\r.\r"),
        ("\r.\r\n", "\r.\r\n"),
        ("\r\n.\n", "\r\n\n"),
        ("\r\n.\r", "\r\n\r"),
        ("\r\n.\rx", "\r\n\rx"),
        ("\r\n.\r\r\n", "\r\n\r\r\n"),
        ("\r\n.\0\r\n", "\r\n\0\r\n"),
    ] {
        let stream = format!("a{smuggled}b\r\n.\r\n");
        let content = format!("a{kept}b\r\n");
        let whole: &[&[u8]] = &[stream.as_bytes()];
        let bytes: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
        for segments in [whole, &bytes] {
            assert_eq!(
                run(Terminator::dot_block(), segments),
                [record(content.as_bytes()), partial(b"")],
                "{smuggled:?}"
            );
        }
    }
}

#[test]
fn dots_are_unstuffed() {
    assert_eq!(
        run(
            Terminator::dot_block(),
            &[b"..\r\n.a\r\nb.\r\n...c\r\n.\r\nnext"]
        ),
        [record(b".\r\na\r\nb.\r\n..c\r\n"), partial(b"next")]
    );
}

#[test]
fn what_arrives_whole_is_borrowed_from_the_input() {
    for (terminator, stream, len) in [
        (Terminator::crlf(), &b"hello\r\n"[..], 5),
        (Terminator::bytes(b"qqq"), b"helloqqq", 5),
        (Terminator::count(5), b"hello", 5),
        (Terminator::dot_block(), b"one\r\ntwo\r\n.\r\n", 10),
    ] {
        let mut splitter = Splitter::new(terminator, UNLIMITED);
        let mut input = stream;
        let Some(Event::Record(record)) = splitter.next(&mut input).unwrap() else {
            panic!("no record in {:?}", stream.escape_ascii().to_string());
        };
        assert_eq!(record.as_ptr(), stream.as_ptr());
        assert_eq!(record.len(), len);
    }
}

#[test]
fn the_partial_at_the_end_holds_what_was_held_back() {
    assert_eq!(
        run(Terminator::crlf(), &[b"ab", b"c\r"]),
        [partial(b"abc\r")]
    );
    assert_eq!(run(Terminator::crlf(), &[b"\r"]), [partial(b"\r")]);
    assert_eq!(
        run(Terminator::crlf().streamed(), &[b"abc\r"]),
        [chunk(b"abc"), partial(b"\r")]
    );
    assert_eq!(run(Terminator::bytes(b"qqq"), &[b"aqq"]), [partial(b"aqq")]);
    assert_eq!(
        run(Terminator::dot_block(), &[b"a\r\n.\r"]),
        [partial(b"a\r\n.\r")]
    );
    assert_eq!(run(Terminator::count(9), &[b"abc"]), [partial(b"abc")]);
}

#[test]
fn a_terminator_set_within_a_record_reads_its_bytes_again() {
    let mut splitter = Splitter::new(Terminator::bytes(b"qqq"), UNLIMITED);
    let mut told = vec![];
    feed(&mut splitter, b"ab\ncqq", &mut told);
    assert_eq!(told, []);
    let again = splitter.set_terminator(Terminator::line()).unwrap();
    assert_eq!(again, b"ab\ncqq");
    feed(&mut splitter, &again, &mut told);
    feed(&mut splitter, b"\n", &mut told);
    assert_eq!(told, [record(b"ab"), record(b"cqq")]);
}

#[test]
fn a_terminator_set_within_a_chunk_holds_from_the_byte_after_it() {
    let mut splitter = Splitter::new(Terminator::crlf().streamed(), UNLIMITED);
    let mut input = &b"abc\r\ndef"[..];
    assert_eq!(
        splitter.next(&mut input).unwrap(),
        Some(Event::Chunk(b"abc"))
    );
    assert_eq!(input, b"\r\ndef");
    assert_eq!(splitter.set_terminator(Terminator::count(5)), None);
    assert_eq!(
        splitter.next(&mut input).unwrap(),
        Some(Event::Record(b"\r\ndef"))
    );
}

#[test]
fn a_terminator_set_within_the_last_chunk_under_the_limit_loses_nothing() {
    let mut splitter = Splitter::new(Terminator::bytes(b"\r\n.").streamed().limit(1), UNLIMITED);
    feed(&mut splitter, b"\r\n", &mut vec![]);
    let mut input = &b"x"[..];
    assert_eq!(
        splitter.next(&mut input).unwrap(),
        Some(Event::Chunk(b"\r"))
    );
    assert_eq!(
        splitter.set_terminator(Terminator::crlf()).as_deref(),
        Some(&b"\n"[..])
    );
    assert_eq!(input, b"x");
}

#[test]
fn a_terminator_set_within_a_dot_block_reads_it_again_unstuffed() {
    for (stream, whole, streamed) in [
        (&b"..a\r\n"[..], Some(&b".a\r\n"[..]), None),
        (b"a\r\n.", Some(b"a\r\n."), Some(&b"."[..])),
        (b"a\r\n.\r", Some(b"a\r\n.\r"), Some(b".\r")),
        (b"a\r\n.\rb", Some(b"a\r\n\rb"), None),
        (b".", Some(b"."), Some(b".")),
    ] {
        for (terminator, again) in [
            (Terminator::dot_block(), whole),
            (Terminator::dot_block().streamed(), streamed),
        ] {
            let mut splitter = Splitter::new(terminator, UNLIMITED);
            feed(&mut splitter, stream, &mut vec![]);
            assert_eq!(
                splitter.set_terminator(Terminator::crlf()).as_deref(),
                again
            );
        }
    }
}

#[test]
fn overflow_comes_once_and_discarding_stays_in_sync() {
    let mut splitter = Splitter::new(Terminator::crlf(), 3);
    let mut told = vec![];
    feed(&mut splitter, b"abc\r\nabcd\r\n", &mut told);
    assert_eq!(told, [record(b"abc"), Told::Overflow]);
    // Without an answer nothing more comes.
    feed(&mut splitter, b"xyz\r\n", &mut told);
    assert_eq!(told.len(), 2);

    let mut splitter = Splitter::new(Terminator::crlf(), 3);
    let mut input = &b"abcd\r\nef\r\n"[..];
    assert_eq!(splitter.next(&mut input).unwrap(), Some(Event::Overflow));
    splitter.discard();
    assert_eq!(
        splitter.next(&mut input).unwrap(),
        Some(Event::Record(b"ef"))
    );
}

#[test]
fn a_terminator_set_while_discarding_waits_for_the_record_to_end() {
    let mut splitter = Splitter::new(Terminator::crlf(), 3);
    let mut input = &b"abcdefgh\r\nxy\r\n"[..];
    assert_eq!(splitter.next(&mut input).unwrap(), Some(Event::Overflow));
    assert_eq!(splitter.set_terminator(Terminator::count(2)), None);
    splitter.discard();
    assert_eq!(
        splitter.next(&mut input).unwrap(),
        Some(Event::Record(b"xy"))
    );
}

#[test]
fn a_terminator_set_after_none_overflowed_holds_at_once() {
    let mut splitter = Splitter::new(Terminator::none().limit(3), UNLIMITED);
    let mut input = &b"abcde\r\n"[..];
    assert_eq!(
        splitter.next(&mut input).unwrap(),
        Some(Event::Chunk(b"abc"))
    );
    assert_eq!(splitter.next(&mut input).unwrap(), Some(Event::Overflow));
    assert_eq!(splitter.set_terminator(Terminator::crlf()), None);
    splitter.discard();
    assert_eq!(
        splitter.next(&mut input).unwrap(),
        Some(Event::Record(b"de"))
    );
}

#[test]
fn a_count_over_its_limit_overflows_before_its_first_byte() {
    let mut splitter = Splitter::new(Terminator::count(4), 3);
    assert_eq!(splitter.next(&mut &b""[..]).unwrap(), Some(Event::Overflow));
    splitter.discard();
    assert_eq!(splitter.set_terminator(Terminator::crlf()), None);
    let mut input = &b"1234ok\r\n"[..];
    assert_eq!(
        splitter.next(&mut input).unwrap(),
        Some(Event::Record(b"ok"))
    );
}

#[test]
fn a_limit_raised_after_a_count_was_set_counts() {
    let mut splitter = Splitter::new(Terminator::count(4), 3);
    splitter.set_default_limit(4);
    assert_eq!(
        splitter.next(&mut &b"1234"[..]).unwrap(),
        Some(Event::Record(b"1234"))
    );
}

#[test]
fn memory_stays_under_the_limit() {
    let mut splitter = Splitter::new(Terminator::crlf(), 1000);
    let mut told = vec![];
    for _ in 0..1000 {
        feed(&mut splitter, b"x", &mut told);
    }
    let bytes = splitter.set_terminator(Terminator::none()).unwrap();
    assert_eq!(bytes.len(), 1000);
    assert!(bytes.capacity() <= 1000, "{}", bytes.capacity());
}

#[test]
fn silence_ends_a_record() {
    let gap = Duration::from_millis(50);
    let mut splitter = Splitter::new(Terminator::idle_gap(gap), UNLIMITED);
    let mut told = vec![];
    assert_eq!(splitter.idle_gap(), None);
    assert_eq!(
        splitter.gap_elapsed(),
        None,
        "silence alone is not a record"
    );
    feed(&mut splitter, b"ab", &mut told);
    feed(&mut splitter, b"\r\n", &mut told);
    assert_eq!(told, []);
    assert_eq!(splitter.idle_gap(), Some(gap));
    assert_eq!(splitter.gap_elapsed(), Some(Event::Record(b"ab\r\n")));
    assert_eq!(splitter.gap_elapsed(), None);
    feed(&mut splitter, b"c", &mut told);
    assert_eq!(splitter.take_partial(), b"c");
    assert_eq!(splitter.gap_elapsed(), None, "the partial was delivered");

    let mut splitter = Splitter::new(Terminator::idle_gap(gap).streamed(), UNLIMITED);
    feed(&mut splitter, b"ab", &mut told);
    assert_eq!(told, [chunk(b"ab")]);
    assert_eq!(splitter.gap_elapsed(), Some(Event::End));
    assert_eq!(splitter.gap_elapsed(), None);
}

#[test]
fn silence_ends_a_discarded_record_unheard() {
    let mut splitter = Splitter::new(Terminator::idle_gap(Duration::from_millis(50)), 3);
    let mut told = vec![];
    feed(&mut splitter, b"abcd", &mut told);
    assert_eq!(told, [Told::Overflow]);
    assert_eq!(splitter.gap_elapsed(), None);
    splitter.discard();
    feed(&mut splitter, b"ef", &mut told);
    assert!(splitter.idle_gap().is_some());
    assert_eq!(splitter.gap_elapsed(), None);
    feed(&mut splitter, b"gh", &mut told);
    assert_eq!(splitter.gap_elapsed(), Some(Event::Record(b"gh")));
}

#[test]
fn an_idle_splitter_keeps_no_buffer() {
    let mut splitter = Splitter::new(Terminator::crlf(), UNLIMITED);
    let mut told = vec![];
    feed(&mut splitter, b"ab", &mut told);
    assert_eq!(
        splitter.release_buffer().capacity(),
        0,
        "a record in hand needs its buffer"
    );
    feed(&mut splitter, b"c\r\n", &mut told);
    assert_eq!(told, [record(b"abc")]);
    assert_eq!(splitter.release_buffer().capacity(), 0);

    // The record's buffer is still there when the next terminator wants no input.
    let mut splitter = Splitter::new(Terminator::crlf(), UNLIMITED);
    feed(&mut splitter, b"abc", &mut told);
    let mut input = &b"\r\n"[..];
    assert_eq!(
        splitter.next(&mut input).unwrap(),
        Some(Event::Record(b"abc"))
    );
    assert_eq!(splitter.set_terminator(Terminator::count(0)), None);
    feed(&mut splitter, b"", &mut told);
    assert_eq!(splitter.release_buffer().capacity(), 0);
}

#[test]
fn a_lent_buffer_is_used_and_comes_back() {
    let mut splitter = Splitter::new(Terminator::crlf(), UNLIMITED);
    let mut spare = Vec::with_capacity(4096);
    let address = spare.as_ptr();
    splitter.adopt_buffer(&mut spare);
    assert_eq!(spare.capacity(), 0);
    let mut told = vec![];
    feed(&mut splitter, b"ab", &mut told);
    assert_eq!(splitter.release_buffer().capacity(), 0);
    feed(&mut splitter, b"c\r\n", &mut told);
    assert_eq!(told, [record(b"abc")]);
    let back = splitter.release_buffer();
    assert_eq!((back.as_ptr(), back.len()), (address, 0));

    feed(&mut splitter, b"ab", &mut told);
    splitter.adopt_buffer(&mut spare);
    let mut other = Vec::with_capacity(16);
    splitter.adopt_buffer(&mut other);
    assert_eq!(other.capacity(), 16, "it has one of its own");

    // A streamed record needs none.
    let mut splitter = Splitter::new(Terminator::crlf().streamed(), UNLIMITED);
    splitter.adopt_buffer(&mut other);
    feed(&mut splitter, b"ab\r", &mut told);
    assert!(!splitter.is_idle());
    assert_eq!(splitter.release_buffer().capacity(), 16);
}
