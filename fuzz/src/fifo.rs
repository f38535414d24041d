//! Decodes acts on the output queue from the bytes of a fuzzer's input.

use super::choices::Choices;
use super::fifo_model::{self, Act, Answer, Reply, Takes};

const MAX_ACTS: usize = 64;

/// How deep user code may queue other user code.
const MAX_DEPTH: usize = 2;

/// Does with a queue what the bytes of `input` say.
pub fn fifo(input: &[u8]) {
    let mut choices = Choices::new(input);
    let high_water = choices.one_of(&[usize::MAX, 0, 100, 5000, 20_000]);
    let takes = (0..choices.below(6)).map(|_| takes(&mut choices)).collect();
    let mut acts = Vec::new();
    while acts.len() < MAX_ACTS && !choices.is_empty() {
        acts.push(test_act(&mut choices));
    }
    fifo_model::check(high_water, takes, &acts);
}

fn test_act(choices: &mut Choices<'_>) -> Act {
    match choices.byte() {
        0..80 => Act::Pump(1 + size(choices)),
        80..84 => Act::CloseSink,
        byte => act(choices, byte, MAX_DEPTH),
    }
}

/// An act of the test or of user code. The ranges are those of the corpus: a new act takes a part of the
/// range that stands for `PushSlice`.
fn act(choices: &mut Choices<'_>, byte: u8, depth: usize) -> Act {
    match byte {
        102..108 => Act::PushSlices(size(choices)),
        108..111 => Act::Backlog(size(choices)),
        111..113 => Act::Trim,
        120..150 => Act::PushBytes(size(choices)),
        150..180 if depth > 0 => Act::Producer(replies(choices, depth - 1)),
        180..205 if depth > 0 => Act::Hook(acts(choices, depth - 1)),
        205..210 => Act::ShutdownWrite,
        210..216 => Act::Discard,
        216..234 => Act::Resume,
        234..238 => Act::HighWater(size(choices)),
        238..242 => Act::AdoptBuffer,
        242..246 => Act::ReleaseBuffer,
        246..250 => Act::Close,
        250..253 => Act::Seal,
        253.. => Act::CloseSink,
        _ => Act::PushSlice(size(choices)),
    }
}

fn acts(choices: &mut Choices<'_>, depth: usize) -> Vec<Act> {
    (0..choices.below(4))
        .map(|_| {
            let byte = choices.byte();
            act(choices, byte, depth)
        })
        .collect()
}

fn replies(choices: &mut Choices<'_>, depth: usize) -> Vec<Reply> {
    (0..choices.below(6))
        .map(|_| match choices.byte() {
            0..10 => Answer::WouldBlock.into(),
            10..20 => Answer::Fails.into(),
            20..60 => Answer::Pending.into(),
            60..80 => Answer::Chunk(0).into(),
            80..200 => Answer::Chunk(size(choices)).into(),
            byte => Reply {
                acts: acts(choices, depth),
                answer: match byte % 3 {
                    0 => Answer::Chunk(size(choices)),
                    1 => Answer::Pending,
                    _ => Answer::Done,
                },
            },
        })
        .collect()
}

/// Mostly sizes at which something changes: nothing, and those that are no longer copied.
fn size(choices: &mut Choices<'_>) -> usize {
    match choices.byte() {
        byte @ 0..128 => usize::from(byte),
        128..144 => 4095,
        144..160 => 4096,
        160..176 => 4097,
        176..192 => 10_000,
        byte => usize::from(byte - 191) * 100,
    }
}

fn takes(choices: &mut Choices<'_>) -> Takes {
    match choices.byte() {
        0..40 => Takes::All,
        40..80 => Takes::Nothing,
        80..82 => Takes::Breaks,
        _ => Takes::Bytes(size(choices)),
    }
}
