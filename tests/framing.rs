//! Input is exact: the same bytes give the same records under every segmentation, namely those that
//! a naive reader finds in the whole stream.

#[allow(dead_code, unreachable_pub, reason = "the fuzzers use it too")]
#[path = "common/naive.rs"]
mod naive;

use std::time::Duration;

use asynchat::Terminator;
use asynchat::internals::{Event, Splitter};
use naive::{Kind, Spec, UNLIMITED};
use proptest::prelude::*;

/// What a splitter reports, with adjacent chunks joined.
#[derive(Clone, Debug, PartialEq)]
enum Report {
    Record(Vec<u8>),
    Data(Vec<u8>),
    End,
    Overflow,
    Error,
    Partial(Vec<u8>),
}

const DEFAULT_LIMIT: usize = 5;

/// What the splitter must report of `stream`, if each record sets the next terminator of `script` and
/// each overflow is answered with `discard`.
fn expected(script: &[Spec], mut stream: &[u8]) -> Vec<Report> {
    let mut reports = vec![];
    let mut script = script.iter();
    let mut spec = script.next().unwrap();
    loop {
        let record = spec.read(stream);
        let limit = spec.limit(DEFAULT_LIMIT);
        let too_long = match spec.kind {
            Kind::Count(n) => n > limit,
            _ => record.content.len() > limit,
        };
        if too_long {
            if spec.is_streamed() && !matches!(spec.kind, Kind::Count(_)) {
                data(&mut reports, &record.content[..limit]);
            }
            reports.push(Report::Overflow);
            let Some(next) = record.next else {
                reports.push(Report::Partial(vec![]));
                return reports;
            };
            stream = &stream[next..];
            continue;
        }
        if spec.is_streamed() {
            data(&mut reports, &record.content);
        }
        let Some(next) = record.next else {
            let mut partial = if spec.is_streamed() {
                vec![]
            } else {
                record.content
            };
            partial.extend(record.pending);
            reports.push(Report::Partial(partial));
            return reports;
        };
        reports.push(if spec.is_streamed() {
            Report::End
        } else {
            Report::Record(record.content)
        });
        stream = &stream[next..];
        let spent = matches!(spec.kind, Kind::Count(0));
        match script.next() {
            Some(next) => spec = next,
            None if spent && stream.is_empty() => {
                reports.push(Report::Partial(vec![]));
                return reports;
            }
            None if spent => {
                reports.push(Report::Error);
                return reports;
            }
            None => {}
        }
    }
}

fn data(reports: &mut Vec<Report>, chunk: &[u8]) {
    match reports.last_mut() {
        _ if chunk.is_empty() => {}
        Some(Report::Data(before)) => before.extend_from_slice(chunk),
        _ => reports.push(Report::Data(chunk.to_vec())),
    }
}

/// What the splitter reports of the same stream.
fn actual<'s>(script: &[Spec], segments: impl IntoIterator<Item = &'s [u8]>) -> Vec<Report> {
    let mut reports = vec![];
    let mut script = script.iter();
    let mut spec = script.next().unwrap();
    let mut splitter = Splitter::new(spec.terminator(), DEFAULT_LIMIT);
    // An empty segment first, because some records need no input.
    for mut segment in std::iter::once(&b""[..]).chain(segments) {
        loop {
            let ended = match splitter.next(&mut segment) {
                Ok(None) => break,
                Ok(Some(Event::Record(record))) => {
                    assert!(!is_owned(spec));
                    reports.push(Report::Record(record.to_vec()));
                    true
                }
                Ok(Some(Event::Owned(record))) => {
                    assert!(is_owned(spec));
                    reports.push(Report::Record(record.to_vec()));
                    true
                }
                Ok(Some(Event::End)) => {
                    reports.push(Report::End);
                    true
                }
                Ok(Some(Event::Chunk(chunk))) => {
                    assert!(!chunk.is_empty());
                    data(&mut reports, chunk);
                    false
                }
                Ok(Some(Event::Overflow)) => {
                    reports.push(Report::Overflow);
                    splitter.discard();
                    false
                }
                Err(_) => {
                    reports.push(Report::Error);
                    return reports;
                }
            };
            if ended {
                assert!(splitter.is_idle());
                if let Some(next) = script.next() {
                    assert_eq!(splitter.set_terminator(next.terminator()), None);
                    spec = next;
                }
            }
        }
        assert!(segment.is_empty());
        if splitter.is_idle() {
            assert_eq!(
                splitter.release_buffer().capacity(),
                0,
                "an idle splitter has a buffer"
            );
        }
    }
    let partial = splitter.take_partial().to_vec();
    assert_eq!(splitter.take_partial(), b"", "reported twice");
    reports.push(Report::Partial(partial));
    reports
}

fn is_owned(spec: &Spec) -> bool {
    spec.owned && !spec.is_streamed()
}

/// Cuts `stream` after byte i for each bit i of `cuts`.
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

/// A kind in all forms, with and without limits.
fn variants(kind: &Kind) -> Vec<Spec> {
    let mut specs = vec![];
    for limit in [None, Some(0), Some(1), Some(2), Some(UNLIMITED)] {
        for streamed in [false, true] {
            specs.push(Spec {
                limit,
                streamed,
                ..plain(kind.clone())
            });
        }
    }
    // The limits of these forms are the same. One limit falls into the terminator.
    for (limit, streamed, owned, inclusive) in [
        (None, false, true, false),
        (None, false, true, true),
        (None, false, false, true),
        (None, true, false, true),
        (Some(2), false, false, true),
        (Some(2), true, false, true),
    ] {
        specs.push(Spec {
            limit,
            streamed,
            owned,
            inclusive,
            ..plain(kind.clone())
        });
    }
    specs
}

fn exhaust_variants(kind: &Kind, alphabet: &[u8], longest: u32) {
    for spec in variants(kind) {
        exhaust(&[spec], alphabet, longest);
    }
}

#[test]
fn every_segmentation_of_every_short_stream_crlf() {
    exhaust_variants(&Kind::Crlf, b"\r\na", 6);
    exhaust(&[plain(Kind::Crlf)], b"\r\n", 8);
}

#[test]
fn every_segmentation_of_every_short_stream_line() {
    exhaust_variants(&Kind::Line, b"\r\na", 6);
    exhaust(&[plain(Kind::Line)], b"\r\n", 8);
}

#[test]
fn every_segmentation_of_every_short_stream_bytes() {
    exhaust_variants(&bytes(b"q"), b"qa", 6);
    exhaust_variants(&bytes(b"qq"), b"qa", 7);
    exhaust_variants(&bytes(b"qqq"), b"qa", 8);
    exhaust_variants(&bytes(b"\r\n."), b"\r\n.", 6);
}

/// Bytes that overlap themselves in other ways.
#[test]
fn every_segmentation_of_every_short_stream_overlapping_bytes() {
    exhaust_variants(&bytes(b"aqa"), b"qa", 8);
    exhaust_variants(&bytes(b"aaq"), b"qa", 8);
    exhaust_variants(&bytes(b"aqaaq"), b"qa", 8);
}

#[test]
fn every_segmentation_of_every_short_stream_dot_block() {
    exhaust_variants(&Kind::DotBlock, b"\r\n.", 6);
    exhaust_variants(&Kind::DotBlock, b".\r\na", 5);
    exhaust(&[plain(Kind::DotBlock)], b".\r\n", 7);
}

#[test]
fn every_segmentation_of_every_short_stream_counts_and_none() {
    for kind in [Kind::Count(0), Kind::Count(1), Kind::Count(3), Kind::None] {
        exhaust_variants(&kind, b"a", 8);
    }
}

#[test]
fn every_segmentation_of_every_short_stream_switching() {
    let kinds = [
        Kind::Crlf,
        Kind::Count(2),
        Kind::DotBlock,
        Kind::Count(0),
        bytes(b"\r\n."),
    ];
    for first in &kinds {
        for second in &kinds {
            for streamed in [false, true] {
                for inclusive in [false, true] {
                    let specs = [first, second, &Kind::Line].map(|kind| Spec {
                        streamed,
                        inclusive,
                        ..plain(kind.clone())
                    });
                    exhaust(&specs, b"\r\n.", 5);
                }
            }
        }
    }
}

fn bytes(needle: &[u8]) -> Kind {
    Kind::Bytes(needle.to_vec())
}

fn plain(kind: Kind) -> Spec {
    Spec::plain(kind)
}

const NEEDLES: &[&[u8]] = &[
    b"q", b"aq", b"qq", b"qqq", b"aqa", b"\r\n.", b"aaq", b"a.a.b",
];

fn spec() -> impl Strategy<Value = Spec> {
    let kind = prop_oneof![
        Just(Kind::Crlf),
        Just(Kind::Line),
        prop::sample::select(NEEDLES).prop_map(bytes),
        (0..9_usize).prop_map(Kind::Count),
        Just(Kind::None),
        Just(Kind::DotBlock),
    ];
    let limit = prop_oneof![
        Just(None),
        (0..9_usize).prop_map(Some),
        Just(Some(UNLIMITED))
    ];
    let forms = (any::<bool>(), any::<bool>(), any::<bool>());
    (kind, limit, forms).prop_map(|(kind, limit, (streamed, owned, inclusive))| Spec {
        kind,
        limit,
        streamed,
        owned,
        inclusive,
    })
}

/// Cuts `stream` into segments of these lengths, repeated.
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

    /// A terminator that is set within a record applies from the first byte that has not been
    /// delivered.
    #[test]
    fn a_terminator_set_at_any_moment_applies_from_the_next_byte(
        first in spec(),
        second in spec(),
        stream in prop::collection::vec(prop::sample::select(&b"\r\n.aq"[..]), 0..60),
        lens in prop::collection::vec(1..8_usize, 1..9),
        moment in 0..20_usize,
    ) {
        // With removed dots the delivered length would differ from the consumed one.
        let in_block = matches!(first.kind, Kind::DotBlock) && !first.inclusive;
        let stream: Vec<u8> = stream.into_iter().filter(|&byte| byte != b'.' || !in_block).collect();
        let mut splitter = Splitter::new(first.terminator(), DEFAULT_LIMIT);
        let mut delivered = 0;
        let mut events = 0;
        let mut fed = 0;
        'feeding: for segment in std::iter::once(vec![]).chain(cut(&stream, &lens)) {
            let mut input = &segment[..];
            fed += segment.len();
            // Before the segment is read is as from a timer, after an event is as from a callback.
            loop {
                if events == moment {
                    fed -= input.len();
                    break 'feeding;
                }
                events += 1;
                match splitter.next(&mut input) {
                    Ok(Some(Event::Chunk(chunk))) => delivered += chunk.len(),
                    Ok(Some(Event::Record(_) | Event::Owned(_) | Event::End)) => delivered = fed - input.len(),
                    Ok(None) => break,
                    Ok(Some(Event::Overflow)) | Err(_) => return Ok(()),
                }
            }
        }
        let returned = splitter.set_terminator(second.terminator()).unwrap_or_default();
        prop_assert_eq!(&stream[delivered..fed], &returned);
        prop_assert!(splitter.is_idle());
        prop_assert_eq!(splitter.take_partial(), b"");
    }
}

// Single cases.

fn run(terminator: Terminator, segments: &[&[u8]]) -> Vec<Report> {
    let mut splitter = Splitter::new(terminator, UNLIMITED);
    let mut reports = vec![];
    for segment in std::iter::once(&&b""[..]).chain(segments) {
        feed(&mut splitter, segment, &mut reports);
    }
    reports.push(Report::Partial(splitter.take_partial().to_vec()));
    reports
}

fn feed(splitter: &mut Splitter, mut input: &[u8], reports: &mut Vec<Report>) {
    loop {
        match splitter.next(&mut input) {
            Ok(Some(Event::Record(record))) => reports.push(Report::Record(record.to_vec())),
            Ok(Some(Event::Owned(record))) => reports.push(Report::Record(record.to_vec())),
            Ok(Some(Event::Chunk(chunk))) => data(reports, chunk),
            Ok(Some(Event::End)) => reports.push(Report::End),
            Ok(Some(Event::Overflow)) => reports.push(Report::Overflow),
            Ok(None) => return,
            Err(_) => return reports.push(Report::Error),
        }
    }
}

fn record(bytes: &[u8]) -> Report {
    Report::Record(bytes.to_vec())
}

fn chunk(bytes: &[u8]) -> Report {
    Report::Data(bytes.to_vec())
}

fn partial(bytes: &[u8]) -> Report {
    Report::Partial(bytes.to_vec())
}

/// As in the tests of Python's asynchat (Lib/test/test_asynchat.py).
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
fn an_empty_record_is_delivered() {
    assert_eq!(
        run(Terminator::crlf(), &[b"\r\n\r", b"\n"]),
        [record(b""), record(b""), partial(b"")]
    );
    assert_eq!(
        run(Terminator::crlf().streamed(), &[b"\r\n"]),
        [Report::End, partial(b"")]
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
fn count_zero_delivers_one_record_at_once() {
    assert_eq!(run(Terminator::count(0), &[]), [record(b""), partial(b"")]);
    assert_eq!(
        run(Terminator::count(0).streamed(), &[b"", b""]),
        [Report::End, partial(b"")]
    );
}

#[test]
fn input_under_a_spent_count_zero_is_an_error_and_is_not_consumed() {
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
fn count_zero_set_again_delivers_again() {
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
fn none_never_delivers_a_record() {
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

/// SMTP smuggling (CVE-2023-51764): none of these ends a block.
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
fn a_record_that_arrives_whole_is_borrowed_from_the_input() {
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
fn an_inclusive_record_has_the_terminator_that_it_ended_with() {
    let stream: &[&[u8]] = &[b"a\r\nb\n\r", b"\nc"];
    assert_eq!(
        run(Terminator::line().inclusive(), stream),
        [
            record(b"a\r\n"),
            record(b"b\n"),
            record(b"\r\n"),
            partial(b"c")
        ]
    );
    assert_eq!(
        run(Terminator::crlf().inclusive().streamed(), stream),
        [
            chunk(b"a\r\n"),
            Report::End,
            chunk(b"b\n\r\n"),
            Report::End,
            chunk(b"c"),
            partial(b"")
        ]
    );
    assert_eq!(
        run(Terminator::bytes(b"--").inclusive(), &[b"a-", b"-b"]),
        [record(b"a--"), partial(b"b")]
    );
}

/// As the sender wrote it, so that it can be stored and sent as it is.
#[test]
fn an_inclusive_dot_block_is_the_wire_format() {
    let stream = b"..\r\n.a\r\nb.\r\n.\r\n.\r\nnext";
    for size in 1..stream.len() {
        let segments: Vec<&[u8]> = stream.chunks(size).collect();
        assert_eq!(
            run(Terminator::dot_block().inclusive(), &segments),
            [
                record(b"..\r\n.a\r\nb.\r\n.\r\n"),
                record(b".\r\n"),
                partial(b"next")
            ]
        );
    }
}

/// The limit counts the terminator, as that of RFC 5321 section 4.5.3.1.4 does.
#[test]
fn the_limit_of_an_inclusive_record_counts_its_terminator() {
    let terminator = Terminator::crlf().inclusive().limit(5);
    for segments in [
        &[&b"abc\r\nabcd\r\nab\r\n"[..]][..],
        &[b"abc\r", b"\nabcd\r", b"\nab\r", b"\n"],
    ] {
        for terminator in [terminator.clone(), terminator.clone().owned()] {
            let mut splitter = Splitter::new(terminator, UNLIMITED);
            let mut reports = vec![];
            for &segment in segments {
                let mut input = segment;
                while let Some(event) = splitter.next(&mut input).unwrap() {
                    match event {
                        Event::Record(line) => reports.push(record(line)),
                        Event::Owned(line) => reports.push(record(&line)),
                        Event::Overflow => {
                            reports.push(Report::Overflow);
                            splitter.discard();
                        }
                        other => panic!("{other:?}"),
                    }
                }
            }
            assert_eq!(
                reports,
                [record(b"abc\r\n"), Report::Overflow, record(b"ab\r\n")]
            );
        }
    }
}

#[test]
fn an_owned_record_is_its_buffer() {
    let mut splitter = Splitter::new(Terminator::count(1 << 20).owned(), UNLIMITED);
    let body = vec![b'x'; 1 << 20];
    let mut last = None;
    for mut segment in body.chunks(1400) {
        while let Some(event) = splitter.next(&mut segment).unwrap() {
            let Event::Owned(record) = event else {
                panic!("{event:?}");
            };
            last = Some(record);
        }
    }
    let record = last.expect("it was complete");
    assert_eq!(record, body);
    // A `Bytes` that was a vector becomes the same vector.
    let address = record.as_ptr();
    let vec = Vec::from(record);
    assert_eq!((vec.as_ptr(), vec.capacity()), (address, 1 << 20));
    assert_eq!(splitter.release_buffer().capacity(), 0);
}

/// A peer that announces much and sends little occupies little.
#[test]
fn memory_grows_with_what_has_arrived_and_not_with_what_is_announced() {
    for terminator in [
        Terminator::count(1 << 40),
        Terminator::count(1 << 40).owned(),
    ] {
        let mut splitter = Splitter::new(terminator.unlimited(), UNLIMITED);
        let mut arrived = 0;
        for size in [1, 100, 1000, 64, 10_000, 1, 300_000] {
            feed(&mut splitter, &vec![b'x'; size], &mut vec![]);
            arrived += size;
            let bytes = splitter.set_terminator(Terminator::none()).unwrap();
            assert_eq!(bytes.len(), arrived);
            let most = (2 * arrived).max(64);
            assert!(
                bytes.capacity() <= most,
                "{} of {arrived}",
                bytes.capacity()
            );
            let terminator = Terminator::count(1 << 40).unlimited();
            assert_eq!(splitter.set_terminator(terminator), None);
            feed(&mut splitter, &bytes, &mut vec![]);
        }
    }
}

#[test]
fn an_owned_record_leaves_an_adopted_buffer_alone() {
    let mut spare = Vec::with_capacity(4096);
    let address = spare.as_ptr();
    let mut splitter = Splitter::new(Terminator::crlf(), UNLIMITED);
    splitter.adopt_buffer(&mut spare);
    let mut reports = vec![];
    feed(&mut splitter, b"ab", &mut reports);
    feed(&mut splitter, b"\r\n", &mut reports);
    assert_eq!(splitter.set_terminator(Terminator::crlf().owned()), None);
    splitter.adopt_buffer(&mut spare);
    assert_eq!((spare.as_ptr(), spare.len()), (address, 0));
    feed(&mut splitter, b"cd", &mut reports);
    splitter.adopt_buffer(&mut spare);
    feed(&mut splitter, b"\r\n", &mut reports);
    assert_eq!(spare.as_ptr(), address);
    assert_eq!(reports, [record(b"ab"), record(b"cd")]);
}

#[test]
fn an_overflow_names_the_limit_that_was_exceeded() {
    let text = |terminator, mut input: &[u8]| {
        let mut splitter = Splitter::new(terminator, 10);
        assert_eq!(splitter.next(&mut input).unwrap(), Some(Event::Overflow));
        splitter.exceeded().to_string()
    };
    let own = Terminator::count(20).limit(15);
    for (terminator, input, expected) in [
        (
            Terminator::count(20),
            &b""[..],
            "a record of 20 bytes exceeds Limits::record (10 bytes): Terminator::limit raises it, \
             Terminator::streamed needs none",
        ),
        (
            own,
            b"",
            "a record of 20 bytes exceeds the limit of its terminator (15 bytes)",
        ),
        (
            Terminator::crlf(),
            b"12345678901",
            "a record exceeds Limits::record (10 bytes)",
        ),
        (
            Terminator::crlf().limit(3),
            b"1234",
            "a record exceeds the limit of its terminator (3 bytes)",
        ),
    ] {
        assert_eq!(text(terminator, input), expected);
    }
}

#[test]
fn the_partial_record_at_the_end_includes_pending_bytes() {
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
fn a_terminator_set_within_a_record_returns_its_bytes() {
    let mut splitter = Splitter::new(Terminator::bytes(b"qqq"), UNLIMITED);
    let mut reports = vec![];
    feed(&mut splitter, b"ab\ncqq", &mut reports);
    assert_eq!(reports, []);
    let returned = splitter.set_terminator(Terminator::line()).unwrap();
    assert_eq!(returned, b"ab\ncqq");
    feed(&mut splitter, &returned, &mut reports);
    feed(&mut splitter, b"\n", &mut reports);
    assert_eq!(reports, [record(b"ab"), record(b"cqq")]);
}

#[test]
fn a_terminator_set_within_a_chunk_applies_from_the_byte_after_it() {
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
fn a_terminator_set_within_a_dot_block_returns_it_without_removed_dots() {
    for (stream, whole, streamed) in [
        (&b"..a\r\n"[..], Some(&b".a\r\n"[..]), None),
        (b"a\r\n.", Some(b"a\r\n."), Some(&b"."[..])),
        (b"a\r\n.\r", Some(b"a\r\n.\r"), Some(b".\r")),
        (b"a\r\n.\rb", Some(b"a\r\n\rb"), None),
        (b".", Some(b"."), Some(b".")),
    ] {
        for (terminator, returned) in [
            (Terminator::dot_block(), whole),
            (Terminator::dot_block().streamed(), streamed),
        ] {
            let mut splitter = Splitter::new(terminator, UNLIMITED);
            feed(&mut splitter, stream, &mut vec![]);
            assert_eq!(
                splitter.set_terminator(Terminator::crlf()).as_deref(),
                returned
            );
        }
    }
}

#[test]
fn overflow_is_reported_once_and_the_next_record_is_delivered() {
    let mut splitter = Splitter::new(Terminator::crlf(), 3);
    let mut reports = vec![];
    feed(&mut splitter, b"abc\r\nabcd\r\n", &mut reports);
    assert_eq!(reports, [record(b"abc"), Report::Overflow]);
    // Without `discard` nothing more is delivered.
    feed(&mut splitter, b"xyz\r\n", &mut reports);
    assert_eq!(reports.len(), 2);

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
fn a_terminator_set_while_discarding_applies_after_the_record() {
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
fn a_terminator_set_after_none_has_overflowed_applies_at_once() {
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
fn a_limit_raised_after_a_count_was_set_applies_to_it() {
    let mut splitter = Splitter::new(Terminator::count(4), 3);
    splitter.set_default_limit(4);
    assert_eq!(
        splitter.next(&mut &b"1234"[..]).unwrap(),
        Some(Event::Record(b"1234"))
    );
}

#[test]
fn memory_stays_under_the_limit() {
    for size in [1, 300, 600] {
        let mut splitter = Splitter::new(Terminator::crlf(), 1000);
        let mut reports = vec![];
        for segment in [b'x'; 1000].chunks(size) {
            feed(&mut splitter, segment, &mut reports);
        }
        let bytes = splitter.set_terminator(Terminator::none()).unwrap();
        assert_eq!(bytes.len(), 1000);
        assert!(bytes.capacity() <= 1000, "{}", bytes.capacity());
    }
}

#[test]
fn silence_ends_a_record() {
    let gap = Duration::from_millis(50);
    let mut splitter = Splitter::new(Terminator::idle_gap(gap), UNLIMITED);
    let mut reports = vec![];
    assert_eq!(splitter.idle_gap(), None);
    assert_eq!(
        splitter.gap_elapsed(),
        None,
        "silence alone is not a record"
    );
    feed(&mut splitter, b"ab", &mut reports);
    feed(&mut splitter, b"\r\n", &mut reports);
    assert_eq!(reports, []);
    assert_eq!(splitter.idle_gap(), Some(gap));
    assert_eq!(splitter.gap_elapsed(), Some(Event::Record(b"ab\r\n")));
    assert_eq!(splitter.gap_elapsed(), None);
    feed(&mut splitter, b"c", &mut reports);
    assert_eq!(splitter.take_partial(), b"c");
    assert_eq!(splitter.gap_elapsed(), None, "the partial was delivered");

    let mut splitter = Splitter::new(Terminator::idle_gap(gap).streamed(), UNLIMITED);
    feed(&mut splitter, b"ab", &mut reports);
    assert_eq!(reports, [chunk(b"ab")]);
    assert_eq!(splitter.gap_elapsed(), Some(Event::End));
    assert_eq!(splitter.gap_elapsed(), None);

    let mut splitter = Splitter::new(Terminator::idle_gap(gap).owned(), UNLIMITED);
    feed(&mut splitter, b"ab", &mut reports);
    let record = splitter.gap_elapsed();
    assert_eq!(record, Some(Event::Owned("ab".into())));
    assert_eq!(splitter.gap_elapsed(), None);
    assert!(splitter.is_idle());
}

#[test]
fn silence_ends_a_discarded_record_without_an_event() {
    let mut splitter = Splitter::new(Terminator::idle_gap(Duration::from_millis(50)), 3);
    let mut reports = vec![];
    feed(&mut splitter, b"abcd", &mut reports);
    assert_eq!(reports, [Report::Overflow]);
    assert_eq!(splitter.gap_elapsed(), None);
    splitter.discard();
    feed(&mut splitter, b"ef", &mut reports);
    assert!(splitter.idle_gap().is_some());
    assert_eq!(splitter.gap_elapsed(), None);
    feed(&mut splitter, b"gh", &mut reports);
    assert_eq!(splitter.gap_elapsed(), Some(Event::Record(b"gh")));
}

#[test]
fn an_idle_splitter_has_no_buffer() {
    let mut splitter = Splitter::new(Terminator::crlf(), UNLIMITED);
    let mut reports = vec![];
    feed(&mut splitter, b"ab", &mut reports);
    assert_eq!(
        splitter.release_buffer().capacity(),
        0,
        "an incomplete record needs its buffer"
    );
    feed(&mut splitter, b"c\r\n", &mut reports);
    assert_eq!(reports, [record(b"abc")]);
    assert_eq!(splitter.release_buffer().capacity(), 0);

    // The buffer of the delivered record is freed although the next terminator needs no input.
    let mut splitter = Splitter::new(Terminator::crlf(), UNLIMITED);
    feed(&mut splitter, b"abc", &mut reports);
    let mut input = &b"\r\n"[..];
    assert_eq!(
        splitter.next(&mut input).unwrap(),
        Some(Event::Record(b"abc"))
    );
    assert_eq!(splitter.set_terminator(Terminator::count(0)), None);
    feed(&mut splitter, b"", &mut reports);
    assert_eq!(splitter.release_buffer().capacity(), 0);
}

#[test]
fn an_adopted_buffer_is_used_and_released() {
    let mut splitter = Splitter::new(Terminator::crlf(), UNLIMITED);
    let mut spare = Vec::with_capacity(4096);
    let address = spare.as_ptr();
    splitter.adopt_buffer(&mut spare);
    assert_eq!(spare.capacity(), 0);
    let mut reports = vec![];
    feed(&mut splitter, b"ab", &mut reports);
    assert_eq!(splitter.release_buffer().capacity(), 0);
    feed(&mut splitter, b"c\r\n", &mut reports);
    assert_eq!(reports, [record(b"abc")]);
    let back = splitter.release_buffer();
    assert_eq!((back.as_ptr(), back.len()), (address, 0));

    feed(&mut splitter, b"ab", &mut reports);
    splitter.adopt_buffer(&mut spare);
    let mut other = Vec::with_capacity(16);
    splitter.adopt_buffer(&mut other);
    assert_eq!(other.capacity(), 16, "the splitter has a buffer already");

    // A streamed record needs no buffer.
    let mut splitter = Splitter::new(Terminator::crlf().streamed(), UNLIMITED);
    splitter.adopt_buffer(&mut other);
    feed(&mut splitter, b"ab\r", &mut reports);
    assert!(!splitter.is_idle());
    assert_eq!(splitter.release_buffer().capacity(), 16);
}
