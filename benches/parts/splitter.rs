//! The splitter: from bytes to records.

use asynchat::Terminator;
use asynchat::internals::{Event, Splitter};
use divan::counter::BytesCount;
use divan::{Bencher, black_box};

/// The maximum size of a read of the loop.
const READ: usize = 64 * 1024;

/// About the size of a TCP segment on Ethernet. It is not a multiple of the record lengths below, so that
/// records are split at all positions.
const SEGMENT: usize = 1400;

/// Lines of thirty letters, as long as typical commands. Most lines are within one segment.
#[divan::bench(args = [READ, SEGMENT, 100])]
fn short_lines(bencher: Bencher<'_, '_>, segment: usize) {
    let line = [&[b'x'; 30], &b"\r\n"[..]].concat();
    let stream = line.repeat(READ / line.len());
    split(bencher, Terminator::crlf(), &stream, segment);
}

/// Records of the same length with a terminator of arbitrary bytes, which does not use the fast path for
/// lines.
#[divan::bench(args = [READ, SEGMENT])]
fn short_records(bencher: Bencher<'_, '_>, segment: usize) {
    let record = [&[b'x'; 30], &b"||"[..]].concat();
    let stream = record.repeat(READ / record.len());
    split(bencher, Terminator::bytes(b"||"), &stream, segment);
}

#[divan::bench(args = [READ, SEGMENT])]
fn count(bencher: Bencher<'_, '_>, segment: usize) {
    split(bencher, Terminator::count(1024), &[b'x'; READ], segment);
}

/// An article with lines of seventy letters. Every tenth line begins with a dot.
#[divan::bench(args = [READ, SEGMENT])]
fn dot_block(bencher: Bencher<'_, '_>, segment: usize) {
    let mut block = Vec::new();
    for number in 0..READ / 72 {
        let first: &[u8] = if number % 10 == 0 { b".." } else { b"x" };
        block.extend_from_slice(first);
        block.extend_from_slice(&[b'x'; 69]);
        block.extend_from_slice(b"\r\n");
    }
    block.extend_from_slice(b".\r\n");
    split(bencher, Terminator::dot_block(), &block, segment);
}

/// A line of one mebibyte, delivered whole or streamed.
#[divan::bench(args = ["whole", "streamed"])]
fn long_line(bencher: Bencher<'_, '_>, how: &str) {
    let line = [&vec![b'x'; 1 << 20], &b"\r\n"[..]].concat();
    let terminator = match how {
        "streamed" => Terminator::crlf().streamed(),
        _ => Terminator::crlf(),
    };
    split(bencher, terminator, &line, SEGMENT);
}

/// Measures the splitting of `stream` in segments of this size. The stream ends with the end of a record.
fn split(bencher: Bencher<'_, '_>, terminator: Terminator, stream: &[u8], segment: usize) {
    let mut splitter = Splitter::new(terminator.unlimited(), 0);
    bencher
        .counter(BytesCount::of_slice(stream))
        .bench_local(|| {
            let mut records = 0;
            for mut input in stream.chunks(segment) {
                while let Some(event) = splitter.next(&mut input).expect("there is no count(0)") {
                    records += usize::from(!matches!(black_box(event), Event::Chunk(_)));
                }
            }
            assert!(records > 0 && splitter.is_idle());
        });
}
