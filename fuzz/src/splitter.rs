//! The splitter against the naive reader: the same events in every segmentation, whatever is done
//! to it on the way.

use std::slice::Iter;

use asynchat::internals::{Event, Splitter};

use super::choices::Choices;
use super::naive::{Kind, Spec, UNLIMITED, read};

/// The naive reader takes the square of this.
const LONGEST: usize = 200;

/// Cuts the bytes of `input` into records, as its first bytes say, and compares.
pub fn splitter(input: &[u8]) {
    let plan = Plan::new(input);
    let expected = run(&plan, &mut Oracle::new(&plan), &[UNLIMITED]);
    for lens in [&[UNLIMITED][..], &[1], &plan.lens] {
        let told = run(&plan, &mut Subject::new(&plan), lens);
        assert_eq!(told, expected, "in segments of {lens:?}: {plan:?}");
    }
}

/// What a handler is told, with the chunks that follow each other joined.
#[derive(Clone, Debug, PartialEq)]
enum Told {
    Record(Vec<u8>),
    Data(Vec<u8>),
    End,
    Overflow,
    Error,
    /// To be fed again under another terminator.
    Again(Vec<u8>),
    /// Whether there is a record in hand, and silence could end it.
    State(bool, bool),
    Partial(Vec<u8>),
}

#[derive(Debug)]
struct Plan<'i> {
    default_limit: usize,
    /// The answer to an overflow; otherwise there is none.
    discards: bool,
    /// Set one by one, a new one with each record.
    script: Vec<Spec>,
    /// After so many bytes of the stream.
    actions: Vec<(usize, Action)>,
    lens: Vec<usize>,
    stream: &'i [u8],
}

/// What may happen between two segments.
#[derive(Debug)]
enum Action {
    Set(Spec),
    Gap,
    DefaultLimit(usize),
    Lend(usize),
    TakeBuffer,
}

impl<'i> Plan<'i> {
    fn new(input: &'i [u8]) -> Self {
        let mut choices = Choices::new(input);
        let default_limit = choices.below(16);
        let discards = !choices.is_true();
        let script = (0..=choices.below(4)).map(|_| spec(&mut choices)).collect();
        let mut actions: Vec<_> = (0..choices.below(5))
            .map(|_| (choices.below(64), action(&mut choices)))
            .collect();
        actions.sort_by_key(|&(at, _)| at);
        let lens = (0..=choices.below(4))
            .map(|_| 1 + choices.below(8))
            .collect();
        let stream = choices.rest();
        Plan {
            default_limit,
            discards,
            script,
            actions,
            lens,
            stream: stream.get(..LONGEST).unwrap_or(stream),
        }
    }
}

fn spec(choices: &mut Choices) -> Spec {
    let byte = choices.byte();
    let limit = match choices.below(20) {
        0..6 => None,
        6..8 => Some(UNLIMITED),
        n => Some(n - 8),
    };
    let kind = match byte & 7 {
        0 => Kind::Crlf,
        1 => Kind::Line,
        2 => Kind::DotBlock,
        3 => Kind::Count(choices.below(14)),
        4 => Kind::Bytes(choices.one_of(NEEDLES).to_vec()),
        // Any bytes at all, and where there are none, what a terminator is never made of.
        5 => {
            let len = choices.below(6);
            Kind::Bytes([choices.bytes(len), b"\xff"].concat())
        }
        6 => Kind::None,
        _ => Kind::IdleGap,
    };
    Spec {
        kind,
        limit,
        streamed: byte & 8 != 0,
    }
}

/// Those that overlap themselves, in every way.
const NEEDLES: &[&[u8]] = &[
    b"q",
    b"\r\n",
    b"qqq",
    b"aqa",
    b"aaq",
    b"\r\n.",
    b"aqaaq",
    b"a.a.b",
    b"\r\n.\r\n",
    b"\n",
    b"\r",
];

fn action(choices: &mut Choices) -> Action {
    match choices.below(8) {
        0..3 => Action::Set(spec(choices)),
        3..5 => Action::Gap,
        5 => Action::DefaultLimit(choices.below(16)),
        6 => Action::Lend(choices.below(64)),
        _ => Action::TakeBuffer,
    }
}

trait Reader {
    fn feed(&mut self, bytes: &[u8], told: &mut Vec<Told>);
    fn set_terminator(&mut self, spec: &Spec) -> Vec<u8>;
    fn gap(&mut self, told: &mut Vec<Told>);
    fn set_default_limit(&mut self, limit: usize);
    fn state(&self) -> Told;
    fn partial(&mut self) -> Vec<u8>;
    fn lend(&mut self, _capacity: usize) {}
    fn take_buffer(&mut self) {}
}

/// Feeds the stream, cut to `lens` again and again, and acts where the plan says so.
fn run(plan: &Plan, reader: &mut impl Reader, lens: &[usize]) -> Vec<Told> {
    let mut told = vec![];
    let mut fed = 0;
    let mut feed_to = |reader: &mut _, end: usize, told: &mut Vec<Told>| {
        let end = end.clamp(fed, plan.stream.len());
        feed(reader, &plan.stream[fed..end], lens, told);
        fed = end;
    };
    for (at, action) in &plan.actions {
        feed_to(reader, *at, &mut told);
        match action {
            Action::Set(spec) => {
                let again = reader.set_terminator(spec);
                told.push(Told::Again(again.clone()));
                feed(reader, &again, lens, &mut told);
            }
            Action::Gap => reader.gap(&mut told),
            Action::DefaultLimit(limit) => reader.set_default_limit(*limit),
            Action::Lend(capacity) => reader.lend(*capacity),
            Action::TakeBuffer => reader.take_buffer(),
        }
        feed(reader, b"", lens, &mut told);
        if plan.discards {
            told.push(reader.state());
        }
    }
    feed_to(reader, UNLIMITED, &mut told);
    told.push(Told::Partial(reader.partial()));
    // What comes after the error means nothing.
    if let Some(error) = told.iter().position(|told| *told == Told::Error) {
        told.truncate(error + 1);
    }
    told
}

/// An empty segment first: some records need no input.
fn feed(reader: &mut impl Reader, mut bytes: &[u8], lens: &[usize], told: &mut Vec<Told>) {
    reader.feed(b"", told);
    for &len in lens.iter().cycle() {
        if bytes.is_empty() {
            return;
        }
        let (segment, rest) = bytes.split_at(len.min(bytes.len()));
        reader.feed(segment, told);
        bytes = rest;
    }
}

fn data(told: &mut Vec<Told>, chunk: &[u8]) {
    match told.last_mut() {
        _ if chunk.is_empty() => {}
        Some(Told::Data(before)) => before.extend_from_slice(chunk),
        _ => told.push(Told::Data(chunk.to_vec())),
    }
}

/// The splitter.
struct Subject<'p> {
    splitter: Splitter,
    script: Iter<'p, Spec>,
    discards: bool,
}

impl<'p> Subject<'p> {
    fn new(plan: &'p Plan) -> Self {
        let mut script = plan.script.iter();
        let first = script.next().expect("there is one");
        Subject {
            splitter: Splitter::new(first.terminator(), plan.default_limit),
            script,
            discards: plan.discards,
        }
    }

    fn ended(&mut self) {
        assert!(self.splitter.is_idle());
        if let Some(next) = self.script.next() {
            assert_eq!(self.splitter.set_terminator(next.terminator()), None);
        }
    }
}

impl Reader for Subject<'_> {
    fn feed(&mut self, mut input: &[u8], told: &mut Vec<Told>) {
        loop {
            match self.splitter.next(&mut input) {
                Ok(None) => break,
                Ok(Some(Event::Record(record))) => {
                    told.push(Told::Record(record.to_vec()));
                    self.ended();
                }
                Ok(Some(Event::Chunk(chunk))) => {
                    assert!(!chunk.is_empty());
                    data(told, chunk);
                }
                Ok(Some(Event::End)) => {
                    told.push(Told::End);
                    self.ended();
                }
                Ok(Some(Event::Overflow)) => {
                    told.push(Told::Overflow);
                    if self.discards {
                        self.splitter.discard();
                    }
                }
                Err(_) => return told.push(Told::Error),
            }
        }
        assert!(input.is_empty(), "it left some of its input");
    }

    fn set_terminator(&mut self, spec: &Spec) -> Vec<u8> {
        let again = self.splitter.set_terminator(spec.terminator());
        assert_ne!(again.as_deref(), Some(&b""[..]));
        again.unwrap_or_default()
    }

    fn gap(&mut self, told: &mut Vec<Told>) {
        match self.splitter.gap_elapsed() {
            None => return,
            Some(Event::Record(record)) => told.push(Told::Record(record.to_vec())),
            Some(Event::End) => told.push(Told::End),
            Some(other) => panic!("{other:?} out of silence"),
        }
        self.ended();
    }

    fn set_default_limit(&mut self, limit: usize) {
        self.splitter.set_default_limit(limit);
    }

    fn state(&self) -> Told {
        Told::State(!self.splitter.is_idle(), self.splitter.idle_gap().is_some())
    }

    fn partial(&mut self) -> Vec<u8> {
        let partial = self.splitter.take_partial().to_vec();
        assert_eq!(self.splitter.take_partial(), b"", "told twice");
        partial
    }

    fn lend(&mut self, capacity: usize) {
        let mut spare = Vec::with_capacity(capacity);
        spare.resize(capacity, b'!');
        self.splitter.adopt_buffer(&mut spare);
    }

    fn take_buffer(&mut self) {
        assert_eq!(self.splitter.release_buffer(), b"");
    }
}

/// What it has to be like: asks the naive reader again with every byte.
struct Oracle<'p> {
    spec: Spec,
    script: Iter<'p, Spec>,
    default_limit: usize,
    discards: bool,
    phase: Phase,
    /// All bytes of the record in hand.
    record: Vec<u8>,
    /// So many of them have been delivered.
    delivered: usize,
    queued: Option<Spec>,
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Reading,
    Overflowed,
    /// `count(0)` has fired.
    Spent,
}

impl<'p> Oracle<'p> {
    fn new(plan: &'p Plan) -> Self {
        let mut script = plan.script.iter();
        Oracle {
            spec: script.next().expect("there is one").clone(),
            script,
            default_limit: plan.default_limit,
            discards: plan.discards,
            phase: Phase::Reading,
            record: vec![],
            delivered: 0,
            queued: None,
        }
    }

    fn look(&mut self, told: &mut Vec<Told>) {
        while self.phase != Phase::Spent {
            let naive = read(&self.spec.kind, &self.record);
            let limit = self.spec.limit(self.default_limit);
            let length = match self.spec.kind {
                Kind::Count(n) if self.record.is_empty() => n,
                _ => naive.content.len(),
            };
            if self.phase == Phase::Reading {
                if self.spec.is_streamed() {
                    let end = naive.content.len().min(limit);
                    data(told, &naive.content[self.delivered..end]);
                    self.delivered = end;
                }
                if length > limit {
                    told.push(Told::Overflow);
                    self.phase = Phase::Overflowed;
                }
            }
            let is_heard = self.phase == Phase::Reading;
            if naive.next.is_none() || !is_heard && !self.discards {
                return;
            }
            if is_heard {
                self.tell_end(naive.content, told);
            } else {
                self.end_discarding();
            }
        }
    }

    fn tell_end(&mut self, content: Vec<u8>, told: &mut Vec<Told>) {
        told.push(if self.spec.is_streamed() {
            Told::End
        } else {
            Told::Record(content)
        });
        match self.script.next() {
            Some(next) => self.install(next.clone()),
            None if self.spec.kind == Kind::Count(0) => self.phase = Phase::Spent,
            None => self.begin(),
        }
    }

    fn end_discarding(&mut self) {
        match self.queued.take() {
            Some(spec) => self.install(spec),
            None => self.begin(),
        }
    }

    fn install(&mut self, spec: Spec) {
        self.spec = spec;
        self.begin();
    }

    fn begin(&mut self) {
        self.phase = Phase::Reading;
        self.record.clear();
        self.delivered = 0;
    }
}

impl Reader for Oracle<'_> {
    fn feed(&mut self, bytes: &[u8], told: &mut Vec<Told>) {
        self.look(told);
        for &byte in bytes {
            if self.phase == Phase::Spent {
                return told.push(Told::Error);
            }
            self.record.push(byte);
            self.look(told);
        }
    }

    fn set_terminator(&mut self, spec: &Spec) -> Vec<u8> {
        if self.phase == Phase::Overflowed && self.spec.kind != Kind::None {
            self.queued = Some(spec.clone());
            return vec![];
        }
        let undelivered = self.partial();
        self.install(spec.clone());
        undelivered
    }

    fn gap(&mut self, told: &mut Vec<Told>) {
        if self.spec.kind != Kind::IdleGap || self.record.is_empty() {
            return;
        }
        match self.phase {
            Phase::Overflowed if self.discards => self.end_discarding(),
            Phase::Overflowed => {}
            _ => self.tell_end(self.record.clone(), told),
        }
    }

    fn set_default_limit(&mut self, limit: usize) {
        self.default_limit = limit;
    }

    fn state(&self) -> Told {
        let in_hand = !self.record.is_empty() || self.phase == Phase::Overflowed;
        let can_end = self.spec.kind == Kind::IdleGap && !self.record.is_empty();
        Told::State(in_hand, can_end)
    }

    fn partial(&mut self) -> Vec<u8> {
        if self.phase == Phase::Overflowed {
            return vec![];
        }
        let naive = read(&self.spec.kind, &self.record);
        let content = naive.content.get(self.delivered..).unwrap_or_default();
        [content, &naive.held].concat()
    }
}
