//! What is done to the queue, and by what is in it.

use super::super::choices::Choices;

/// By the test, by a hook or by a producer that is asked.
#[derive(Clone, Debug)]
pub enum Act {
    PushSlice(usize),
    PushBytes(usize),
    Producer(Vec<Part>),
    Hook(Vec<Act>),
    ShutdownWrite,
    Close,
    Discard,
    Resume,
    Seal,
    HighWater(usize),
    Lend,
    Reclaim,
    /// As user code closes a channel.
    CloseSink,
    /// By the test only.
    Pump(usize),
}

/// What a producer does when it is asked, and answers. After its last part it is done.
#[derive(Clone, Debug, Default)]
pub struct Part {
    pub acts: Vec<Act>,
    pub answer: Answer,
}

#[derive(Clone, Copy, Debug, Default)]
pub enum Answer {
    #[default]
    Done,
    Chunk(usize),
    Pending,
    WouldBlock,
    Fails,
}

/// What a sink does with what it is offered.
#[derive(Clone, Copy, Debug)]
pub enum Takes {
    All,
    Bytes(usize),
    Nothing,
    Breaks,
}

/// What the test does.
pub fn act(choices: &mut Choices<'_>) -> Act {
    match choices.byte() {
        0..80 => Act::Pump(1 + size(choices)),
        80..84 => Act::CloseSink,
        byte => queued(choices, byte, 2),
    }
}

/// What anybody may do. `depth`: how deep user code may queue other user code.
fn queued(choices: &mut Choices<'_>, byte: u8, depth: usize) -> Act {
    match byte {
        120..150 => Act::PushBytes(size(choices)),
        150..180 if depth > 0 => Act::Producer(parts(choices, depth - 1)),
        180..205 if depth > 0 => Act::Hook(acts(choices, depth - 1)),
        205..210 => Act::ShutdownWrite,
        210..216 => Act::Discard,
        216..234 => Act::Resume,
        234..238 => Act::HighWater(size(choices)),
        238..242 => Act::Lend,
        242..246 => Act::Reclaim,
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
            queued(choices, byte, depth)
        })
        .collect()
}

fn parts(choices: &mut Choices<'_>, depth: usize) -> Vec<Part> {
    (0..choices.below(6))
        .map(|_| match choices.byte() {
            0..10 => Answer::WouldBlock.into(),
            10..20 => Answer::Fails.into(),
            20..60 => Answer::Pending.into(),
            60..80 => Answer::Chunk(0).into(),
            80..200 => Answer::Chunk(size(choices)).into(),
            byte => Part {
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

impl From<Answer> for Part {
    fn from(answer: Answer) -> Part {
        let acts = vec![];
        Part { acts, answer }
    }
}

/// Mostly where something changes: at nothing, and at what is no longer copied.
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

pub fn takes(choices: &mut Choices<'_>) -> Takes {
    match choices.byte() {
        0..40 => Takes::All,
        40..80 => Takes::Nothing,
        80..82 => Takes::Breaks,
        _ => Takes::Bytes(size(choices)),
    }
}
