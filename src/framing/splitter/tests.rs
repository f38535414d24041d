//! Tests of what callers of [`Splitter`] do not see: its cost, its fast path, its memory.

use super::search::EXAMINED;
use super::*;
use crate::sys::positions::BLOCK;

/// Feeds `input` in segments of `size`, as a driver does. Returns the numbers of records and of examined bytes.
fn cost(terminator: Terminator, input: &[u8], size: usize) -> (usize, usize) {
    EXAMINED.set(0);
    let mut splitter = Splitter::new(terminator.unlimited(), 0);
    let mut ends = 0;
    for mut segment in input.chunks(size) {
        loop {
            let mut is_searched = false;
            if let Some(mut lines) = splitter.lines(segment) {
                while lines.next().is_some() {
                    ends += 1;
                }
                segment = lines.rest();
                is_searched = lines.is_searched();
            }
            let Some(event) = splitter.next_after(is_searched, &mut segment).unwrap() else {
                break;
            };
            ends += usize::from(matches!(event, Event::Record(_) | Event::End));
        }
    }
    (ends, EXAMINED.get())
}

#[test]
fn each_byte_of_a_long_line_in_segments_of_one_byte_is_examined_once() {
    let line = vec![b'x'; 1 << 20];
    assert_eq!(cost(Terminator::crlf(), &line, 1), (0, line.len()));
}

#[test]
fn each_byte_of_a_buffer_of_empty_lines_is_examined_once() {
    let lines = b"\r\n".repeat(1 << 15);
    for terminator in [
        Terminator::crlf(),
        Terminator::crlf().streamed(),
        Terminator::line(),
    ] {
        assert_eq!(cost(terminator, &lines, lines.len()), (1 << 15, 1 << 16));
    }
}

#[test]
fn each_byte_of_a_search_for_other_terminators_is_examined_once() {
    const RECORDS: usize = 1000;
    let records = b"ab".repeat(RECORDS);
    assert_eq!(
        cost(Terminator::bytes(b"ab"), &records, records.len()),
        (RECORDS, records.len())
    );
    // No search is needed for the first dot.
    let block = b".a\r\n".repeat(RECORDS);
    assert_eq!(
        cost(Terminator::dot_block(), &block, block.len()),
        (0, block.len() - 1)
    );
    // The last two bytes are compared with the beginning of the delimiter once more.
    let no_match = vec![b'x'; RECORDS];
    assert_eq!(
        cost(Terminator::bytes(b"abc"), &no_match, no_match.len()),
        (0, no_match.len() + 2)
    );
}

/// A byte is examined three times if it is among the last bytes of its segment, which may begin a
/// terminator, and decides about the pending bytes of the segment before.
#[test]
fn no_byte_is_examined_more_than_three_times() {
    const LEN: usize = 1 << 16;
    let terminators = [
        Terminator::crlf(),
        Terminator::line(),
        Terminator::bytes(b"\r\n.\r\n"),
        Terminator::bytes(b"aaaaaaab"),
        Terminator::dot_block(),
    ];
    let inputs: [&[u8]; 6] = [b"x", b"a", b"\r", b"\n", b"\r\n", b"\r\n.a"];
    for pattern in inputs {
        let input = pattern.repeat(LEN / pattern.len());
        for size in [1, 2, 3, 7, 8, 9, 1000, LEN] {
            for whole in &terminators {
                for terminator in [whole.clone(), whole.clone().streamed()] {
                    let (_, examined) = cost(terminator.clone(), &input, size);
                    assert!(
                        examined <= 3 * LEN,
                        "{terminator:?}, {} in segments of {size}: {examined}",
                        pattern.escape_ascii()
                    );
                }
            }
        }
    }
}

/// A callback may change how the rest of the input is cut. The search of the current block is repeated then.
#[test]
fn a_stop_between_two_lines_costs_the_search_of_one_block() {
    for line in ["\r\n", "abcdefg\r\n"] {
        let input = line.repeat(1000);
        let mut segment = input.as_bytes();
        let mut splitter = Splitter::new(Terminator::crlf(), 9);
        EXAMINED.set(0);
        while splitter.next(&mut segment).unwrap().is_some() {
            assert!(splitter.set_terminator(Terminator::crlf()).is_none());
        }
        assert!(EXAMINED.get() <= 1000 * BLOCK);
    }
}

#[test]
fn the_fast_path_applies_at_the_beginning_of_whole_crlf_lines_only() {
    let applies_after = |terminator, mut input: &[u8]| {
        let mut splitter = Splitter::new(terminator, 9);
        while splitter.next(&mut input).unwrap().is_some() {}
        splitter.lines(b"").is_some()
    };
    assert!(applies_after(Terminator::crlf(), b""));
    assert!(applies_after(Terminator::crlf(), b"a\r\n"));
    assert!(!applies_after(Terminator::crlf(), b"a"));
    assert!(!applies_after(Terminator::crlf(), b"\r"));
    assert!(!applies_after(Terminator::crlf(), b"a line over its limit"));
    assert!(!applies_after(Terminator::crlf().streamed(), b""));
    assert!(!applies_after(Terminator::line(), b""));
}

#[test]
fn the_fast_path_takes_lines_up_to_the_limit() {
    let splitter = Splitter::new(Terminator::crlf(), 3);
    let mut lines = splitter.lines(b"abc\r\nabcd\r\n").unwrap();
    assert_eq!(lines.next(), Some(&b"abc"[..]));
    assert_eq!(lines.next(), None);
    assert_eq!(lines.rest(), b"abcd\r\n");
}

#[test]
fn a_record_is_begun_between_its_first_byte_and_its_end() {
    let is_begun = |terminator, mut input: &[u8]| {
        let mut splitter = Splitter::new(terminator, 9);
        while splitter.next(&mut input).unwrap().is_some() {}
        splitter.is_in_record()
    };
    assert!(!is_begun(Terminator::crlf(), b""));
    assert!(is_begun(Terminator::crlf(), b"a"));
    assert!(is_begun(Terminator::crlf(), b"a\r\n\r"));
    assert!(is_begun(Terminator::crlf(), b"a line over its limit"));
    assert!(!is_begun(Terminator::crlf(), b"a\r\n"));
    assert!(!is_begun(Terminator::none(), b"a"));
}
