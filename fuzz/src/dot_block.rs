//! Dot blocks: stuffing and unstuffing a body restores it, and a block ends where the RFCs say and
//! nowhere else.

use std::collections::VecDeque;
use std::io;

use asynchat::internals::{Event, Splitter};
use asynchat::{DotStuffer, More, Producer, Terminator};
use bytes::Bytes;

use super::choices::Choices;
use super::naive::{self, Kind, UNLIMITED};

/// The first bytes of `input` choose the segmentation. The rest is used as a body and as a stream.
pub fn dot_block(input: &[u8]) {
    let mut choices = Choices::new(input);
    let cuts: Vec<usize> = (0..=choices.below(4))
        .map(|_| 1 + choices.below(40))
        .collect();
    let budget = 1 + choices.below(200);
    let text = choices.rest();
    stuffed(text, &cuts, budget);
    smuggled(text, &cuts);
}

/// Stuffs and unstuffs `body`. The result is the body, plus a CR LF if it does not end with one. Bytes
/// after the block do not belong to it.
pub fn stuffed(body: &[u8], cuts: &[usize], budget: usize) {
    let block = stuff(body, cuts, budget);
    // A strict reader finds no earlier end in the block.
    assert_eq!(end(&block), Some(block.len()), "{}", block.escape_ascii());

    let mut complete = body.to_vec();
    if !body.is_empty() && !body.ends_with(b"\r\n") {
        complete.extend_from_slice(b"\r\n");
    }
    let stream = [&block[..], NEXT].concat();
    let (got, rest) = unstuff(&stream, &[UNLIMITED]);
    assert_eq!(got.as_deref(), Some(&complete[..]));
    assert_eq!(rest, NEXT);
    assert_eq!(unstuff(&stream, cuts), (got, rest));
}

/// The commands after a block. An attacker wants one of two servers to take them for its content.
const NEXT: &[u8] = b"MAIL FROM:<a@b>\r\n";

/// Any stream ends its block where RFC 5321 section 4.1.1.4 and RFC 3977 section 3.1.1 say: after the
/// first CR LF `.` CR LF, whose first CR LF can be the end of the line before the block.
pub fn smuggled(stream: &[u8], cuts: &[usize]) {
    let (block, rest) = unstuff(stream, &[UNLIMITED]);
    match end(stream) {
        None => assert_eq!((&block, &rest[..]), (&None, &b""[..])),
        Some(end) => {
            assert_eq!(rest, &stream[end..]);
            let content = naive::read(&Kind::DotBlock, stream).content;
            assert_eq!(block.as_deref(), Some(&content[..]));
        }
    }
    assert_eq!(unstuff(stream, cuts), (block, rest));
}

fn end(stream: &[u8]) -> Option<usize> {
    let with_line_before = [b"\r\n", stream].concat();
    // The end is after five bytes, two of which do not belong to `stream`.
    naive::find(b"\r\n.\r\n", &with_line_before).map(|at| at + 3)
}

/// Produces a body in pieces, with a `Pending` before each.
struct Pieces {
    pieces: VecDeque<Bytes>,
    pending: bool,
}

impl Producer for Pieces {
    fn more(&mut self, _budget: usize) -> io::Result<More> {
        self.pending = !self.pending;
        if self.pending {
            return Ok(More::Pending);
        }
        Ok(self.pieces.pop_front().map_or(More::Done, More::Chunk))
    }
}

fn stuff(body: &[u8], cuts: &[usize], budget: usize) -> Vec<u8> {
    let pieces = cut(body, cuts).map(Bytes::copy_from_slice).collect();
    let mut stuffer = DotStuffer::new(Pieces {
        pieces,
        pending: false,
    });
    let mut block = vec![];
    loop {
        match stuffer.more(budget).expect("memory does not fail") {
            More::Chunk(chunk) => {
                assert!(chunk.len() <= budget, "over the budget");
                block.extend_from_slice(&chunk);
            }
            More::Pending => {}
            More::Done => return block,
        }
    }
}

/// Reads the block at the front of the stream, whole and streamed. Returns its content if it ends, and
/// the bytes that follow it.
fn unstuff(stream: &[u8], cuts: &[usize]) -> (Option<Vec<u8>>, Vec<u8>) {
    let whole = Terminator::dot_block().unlimited();
    let result = split(whole.clone(), stream, cuts);
    assert_eq!(split(whole.streamed(), stream, cuts), result);
    result
}

fn split(terminator: Terminator, stream: &[u8], cuts: &[usize]) -> (Option<Vec<u8>>, Vec<u8>) {
    let mut splitter = Splitter::new(terminator, UNLIMITED);
    let mut content = vec![];
    let mut fed = 0;
    for mut segment in cut(stream, cuts) {
        fed += segment.len();
        while let Some(event) = splitter.next(&mut segment).expect("only count(0) fails") {
            match event {
                Event::Chunk(chunk) => content.extend_from_slice(chunk),
                Event::Record(record) => content.extend_from_slice(record),
                Event::End => {}
                Event::Owned(_) => panic!("an owned record under another terminator"),
                Event::Overflow => panic!("an overflow without a limit"),
            }
            if !matches!(event, Event::Chunk(_)) {
                return (Some(content), stream[fed - segment.len()..].to_vec());
            }
        }
    }
    (None, vec![])
}

/// Cuts `bytes` into pieces of these lengths, repeated.
fn cut<'b>(mut bytes: &'b [u8], lens: &[usize]) -> impl Iterator<Item = &'b [u8]> {
    let mut lens = lens.iter().cycle();
    std::iter::from_fn(move || {
        let len = bytes.len().min(*lens.next()?);
        let (piece, rest) = bytes.split_at(len);
        bytes = rest;
        (!piece.is_empty()).then_some(piece)
    })
}
