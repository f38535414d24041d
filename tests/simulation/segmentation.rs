//! Segmentation: the bytes that a peer receives, and how its connection ends, do not depend on how
//! its input was segmented. This includes sessions that fail: output pushed before the failure is
//! sent first.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use asynchat::sim::{Conditions, Ended, Network};
use asynchat::{AsyncChat, Chat, Close, Connector, Eof, Limits, Result, SimpleProducer};
use bytes::Bytes;

use crate::rng::Rng;
use crate::seeds::{Outcome, SILENT};

/// What a session does at each record, whatever the record contains.
struct Script {
    greeting: Reaction,
    /// For the first record, the second, and so on.
    records: Vec<(Vec<u8>, Reaction)>,
    /// At the end of the input.
    end: Reaction,
    limits: Limits,
}

struct Reaction {
    replies: Vec<Reply>,
    then: Then,
}

enum Reply {
    Slice(Bytes),
    Bytes(Bytes),
    /// From a producer, in chunks of at most this size.
    Produced(Bytes, usize),
    /// A hook, which sends nothing.
    Hook,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    GoOn,
    /// Pauses until the pushed output is sent: a hook resumes.
    Pause,
    Fail,
    Panic,
    CloseWhenDone,
}

/// Runs one session several times, with different segmentations of its input.
pub(crate) fn run(seed: u64, logs: bool) -> Result<Outcome> {
    let rng = Rng::new(seed);
    let script = Rc::new(Script::random(&rng));
    let conditions = Conditions::default().buffer(1 + rng.below(20_000));
    let input = script.input(&rng);
    let (output, then) = script.expected();
    let mut outcome = Outcome::default();
    let every_byte = input.len().min(60);
    for most in [input.len(), every_byte.max(1), 1 + rng.below(40), 1] {
        // Pieces of one byte are expensive if the input is long.
        let most = if most == 1 {
            input.len() / 60 + 1
        } else {
            most
        };
        let pieces = cut(&rng, &input, most);
        if logs {
            outcome.log.push(describe(&pieces));
        }
        let played = play(seed, conditions, &script, &pieces)?;
        outcome.calls += script.records.len() as u64;
        outcome.turns += played.turns;
        let (got, ended) = (&played.received, played.ended);
        let close = played.closes.join(", then ");
        if *got != output {
            outcome.wrong.push(format!(
                "segmentation after {then:?}: the peer has {} of {} bytes, in {} pieces: {}",
                got.len(),
                output.len(),
                pieces.len(),
                describe(&pieces)
            ));
        }
        if ended != Some(Ended::Finished) {
            outcome.wrong.push(format!(
                "segmentation after {then:?}: the output ended with {ended:?} instead of an orderly end"
            ));
        }
        if close != reason(then) {
            outcome.wrong.push(format!(
                "segmentation after {then:?}: the reason is {close:?}"
            ));
        }
        if played.left > 0 {
            outcome.wrong.push(format!(
                "liveness: {} sockets are open after the peer has closed",
                played.left
            ));
        }
    }
    Ok(outcome)
}

struct Played {
    received: Vec<u8>,
    ended: Option<Ended>,
    closes: Vec<String>,
    /// The sockets of the loop that are open at the end.
    left: usize,
    turns: u64,
}

fn play(
    seed: u64,
    conditions: Conditions,
    script: &Rc<Script>,
    pieces: &[&[u8]],
) -> Result<Played> {
    let network = Network::new(seed);
    network.set_conditions(conditions);
    let event_loop = network.event_loop()?;
    let (socket, peer) = network.pair();
    let closes = Rc::new(RefCell::new(Vec::new()));
    let (script, log) = (Rc::clone(script), Rc::clone(&closes));
    Connector::adopt(socket)
        .limits(script.limits)
        .connect_on(&event_loop, move |chat| Session {
            chat,
            script,
            records: 0,
            closes: log,
        })?;
    network.settle(&event_loop)?;
    for piece in pieces {
        peer.send(piece);
        network.settle(&event_loop)?;
    }
    peer.finish();
    network.settle(&event_loop)?;
    let (received, ended) = (peer.take_received(), peer.ended());
    drop(peer);
    network.advance(&event_loop, Duration::from_secs(10))?;
    let closes = closes.borrow().clone();
    Ok(Played {
        received,
        ended,
        closes,
        left: network.sockets(),
        turns: event_loop.stats().turns,
    })
}

struct Session {
    chat: Chat,
    script: Rc<Script>,
    records: usize,
    closes: Rc<RefCell<Vec<String>>>,
}

impl Session {
    fn react(&self, reaction: &Reaction) -> Result {
        let chat = &self.chat;
        for reply in &reaction.replies {
            match reply {
                Reply::Slice(data) => chat.push_slice(data),
                Reply::Bytes(data) => chat.push(data.clone()),
                Reply::Produced(data, size) => {
                    let producer = SimpleProducer::new(data.clone()).chunk_size(*size);
                    chat.push_with_producer(producer);
                }
                Reply::Hook => chat.push_hook(|| {}),
            }
        }
        match reaction.then {
            Then::GoOn => {}
            Then::Pause => {
                chat.pause_reading();
                let paused = chat.clone();
                chat.push_hook(move || paused.resume_reading());
            }
            Then::Fail => return Err("a failure on purpose".into()),
            Then::Panic => std::panic::panic_any(SILENT),
            Then::CloseWhenDone => chat.close_when_done(),
        }
        Ok(())
    }
}

impl AsyncChat for Session {
    fn handle_connect(&mut self) -> Result {
        self.react(&self.script.greeting)
    }

    fn found_terminator(&mut self, record: &[u8]) -> Result {
        let script = Rc::clone(&self.script);
        let (expected, reaction) = &script.records[self.records];
        assert_eq!(record, expected, "record {}", self.records);
        self.records += 1;
        self.react(reaction)
    }

    fn handle_eof(&mut self, _partial: &[u8]) -> Result<Eof> {
        self.react(&self.script.end)?;
        Ok(Eof::CloseWhenDone)
    }

    fn handle_close(&mut self, why: &Close) {
        self.closes.borrow_mut().push(kind(why).to_owned());
    }
}

fn kind(why: &Close) -> &'static str {
    match why {
        Close::Local => "local",
        Close::Eof => "eof",
        Close::Handler(_) => "handler",
        Close::Panic(_) => "panic",
        _ => "another reason",
    }
}

fn reason(then: Then) -> &'static str {
    match then {
        Then::GoOn | Then::Pause => "eof",
        Then::Fail => "handler",
        Then::Panic => "panic",
        Then::CloseWhenDone => "local",
    }
}

impl Script {
    fn random(rng: &Rng) -> Self {
        let high = 1 + rng.below(10_000);
        let limits = Limits::default()
            .low_water(rng.below(high))
            .high_water(high)
            .turn_read(1 + rng.below(3_000))
            .turn_write(1 + rng.below(9_000))
            .turn_records(1 + rng.below(20));
        // Most sessions process most of their records.
        let records = (0..1 + rng.below(12)).map(|number| {
            let line = format!("{number}{}", "x".repeat(rng.below(30)));
            (line.into_bytes(), Reaction::random(rng, 12))
        });
        Script {
            greeting: Reaction::random(rng, 100),
            records: records.collect(),
            end: Reaction::random(rng, 6),
            limits,
        }
    }

    fn input(&self, rng: &Rng) -> Vec<u8> {
        let mut input = Vec::new();
        for (line, _) in &self.records {
            input.extend_from_slice(line);
            input.extend_from_slice(b"\r\n");
        }
        if rng.one_in(3) {
            input.extend_from_slice(b"no end");
        }
        input
    }

    /// The bytes that the peer receives, and how the session ends.
    fn expected(&self) -> (Vec<u8>, Then) {
        let mut output = Vec::new();
        let reactions = self.records.iter().map(|(_, reaction)| reaction);
        let greeting = std::iter::once(&self.greeting);
        for reaction in greeting.chain(reactions).chain([&self.end]) {
            for reply in &reaction.replies {
                match reply {
                    Reply::Slice(data) | Reply::Bytes(data) | Reply::Produced(data, _) => {
                        output.extend_from_slice(data);
                    }
                    Reply::Hook => {}
                }
            }
            if !matches!(reaction.then, Then::GoOn | Then::Pause) {
                return (output, reaction.then);
            }
        }
        (output, Then::GoOn)
    }
}

impl Reaction {
    /// Ends the session once in `rarely` records.
    fn random(rng: &Rng, rarely: usize) -> Self {
        let replies = (0..rng.below(4)).map(|_| {
            let data = Bytes::from(rng.output());
            match rng.below(5) {
                0 | 1 => Reply::Slice(data),
                2 => Reply::Bytes(data),
                3 => Reply::Produced(data, 1 + rng.below(5_000)),
                _ => Reply::Hook,
            }
        });
        let replies = replies.collect();
        let then = match rng.below(rarely) {
            0 => [Then::Fail, Then::Panic, Then::CloseWhenDone][rng.below(3)],
            1 => Then::Pause,
            _ => Then::GoOn,
        };
        Reaction { replies, then }
    }
}

/// Divides the input into pieces of at most `most` bytes.
fn cut<'a>(rng: &Rng, input: &'a [u8], most: usize) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let mut rest = input;
    while !rest.is_empty() {
        let most = most.min(rest.len());
        let size = if most == input.len() {
            most
        } else {
            1 + rng.below(most)
        };
        let (piece, behind) = rest.split_at(size);
        pieces.push(piece);
        rest = behind;
    }
    pieces
}

fn describe(pieces: &[&[u8]]) -> String {
    let pieces: Vec<String> = pieces
        .iter()
        .map(|it| it.escape_ascii().to_string())
        .collect();
    pieces.join("|")
}
