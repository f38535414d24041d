//! Dot blocks: what is stuffed comes back, and a block ends where the RFCs say and nowhere else.

use std::collections::VecDeque;
use std::io;

use asynchat::internals::{Event, Splitter};
use asynchat::{DotStuffer, More, Producer, Terminator};
use bytes::Bytes;

use super::choices::Choices;
use super::naive::{self, Kind, UNLIMITED};

/// Takes the bytes of `input`, after a few that say how to cut, for a body and for a block.
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

/// The body comes back from its block with nothing added but the CR LF that it has to end with, and
/// what follows the block is not part of it.
pub fn stuffed(body: &[u8], cuts: &[usize], budget: usize) {
    let block = stuff(body, cuts, budget);
    // The only end of a block that a strict reader finds in it is its own.
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

/// What a smuggler hopes that one of two servers takes for part of the block.
const NEXT: &[u8] = b"MAIL FROM:<a@b>\r\n";

/// Any stream ends its block where RFC 5321, 4.1.1.4 and RFC 3977, 3.1.1 say: after the first CR LF
/// `.` CR LF, of which the first CR LF may be the one of the line before the block.
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
    // Five bytes, of which two are not the stream's.
    naive::find(b"\r\n.\r\n", &with_line_before).map(|at| at + 3)
}

/// A body that comes in pieces, not all of them at once.
struct Pieces {
    pieces: VecDeque<Bytes>,
    rests: bool,
}

impl Producer for Pieces {
    fn more(&mut self, _budget: usize) -> io::Result<More> {
        self.rests = !self.rests;
        if self.rests {
            return Ok(More::Pending);
        }
        Ok(self.pieces.pop_front().map_or(More::Done, More::Chunk))
    }
}

fn stuff(body: &[u8], cuts: &[usize], budget: usize) -> Vec<u8> {
    let pieces = cut(body, cuts).map(Bytes::copy_from_slice).collect();
    let mut stuffer = DotStuffer::new(Pieces {
        pieces,
        rests: false,
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

/// The block at the front of the stream, if it has an end, and the bytes that are none of its own.
/// Whole and streamed give the same.
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
        while let Some(event) = splitter.next(&mut segment).expect("there is no count") {
            match event {
                Event::Chunk(chunk) => content.extend_from_slice(chunk),
                Event::Record(record) => content.extend_from_slice(record),
                Event::End => {}
                Event::Overflow => panic!("without a limit"),
            }
            if !matches!(event, Event::Chunk(_)) {
                return (Some(content), stream[fed - segment.len()..].to_vec());
            }
        }
    }
    (None, vec![])
}

/// The bytes in pieces of these lengths, again and again.
fn cut<'b>(mut bytes: &'b [u8], lens: &[usize]) -> impl Iterator<Item = &'b [u8]> {
    let mut lens = lens.iter().cycle();
    std::iter::from_fn(move || {
        let len = bytes.len().min(*lens.next()?);
        let (piece, rest) = bytes.split_at(len);
        bytes = rest;
        (!piece.is_empty()).then_some(piece)
    })
}
