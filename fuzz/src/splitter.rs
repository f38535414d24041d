//! Compares the splitter with the naive reader: it must report the same under every segmentation,
//! whichever of its methods are called between the segments.

use std::slice::Iter;

use asynchat::internals::{Event, Splitter};

use super::choices::Choices;
use super::naive::{Kind, Spec, UNLIMITED};

/// The longest stream. The naive reader's time is quadratic.
const LONGEST: usize = 200;

/// The first bytes of `input` choose the terminators, the segmentation and the calls. The rest is the
/// stream.
pub fn splitter(input: &[u8]) {
    let plan = Plan::new(input);
    let expected = run(&plan, &mut Oracle::new(&plan), &[UNLIMITED]);
    for lens in [&[UNLIMITED][..], &[1], &plan.lens] {
        let reports = run(&plan, &mut Subject::new(&plan), lens);
        assert_eq!(reports, expected, "in segments of {lens:?}: {plan:?}");
    }
}

/// What a reader reports, with adjacent chunks joined.
#[derive(Clone, Debug, PartialEq)]
enum Report {
    Record(Vec<u8>),
    Data(Vec<u8>),
    End,
    Overflow,
    Error,
    /// The bytes that `set_terminator` has returned.
    Returned(Vec<u8>),
    /// Whether part of a record has arrived, and whether silence can end it.
    State(bool, bool),
    Partial(Vec<u8>),
}

#[derive(Debug)]
struct Plan<'i> {
    default_limit: usize,
    /// Whether an overflow is answered with `discard`.
    discards: bool,
    /// The terminators. Each record sets the next one.
    script: Vec<Spec>,
    /// What happens after how many bytes of the stream.
    actions: Vec<(usize, Action)>,
    lens: Vec<usize>,
    stream: &'i [u8],
}

/// What happens between two segments.
#[derive(Debug)]
enum Action {
    Set(Spec),
    Gap,
    DefaultLimit(usize),
    AdoptBuffer(usize),
    ReleaseBuffer,
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
        // Any bytes, followed by one that keeps the needle from being empty.
        5 => {
            let len = choices.below(6);
            Kind::Bytes([choices.bytes(len), b"\xff"].concat())
        }
        6 => Kind::None,
        _ => Kind::IdleGap,
    };
    Spec {
        limit,
        streamed: byte & 8 != 0,
        owned: byte & 16 != 0,
        inclusive: byte & 32 != 0,
        ..Spec::plain(kind)
    }
}

/// Needles that overlap themselves in different ways.
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
        6 => Action::AdoptBuffer(choices.below(64)),
        _ => Action::ReleaseBuffer,
    }
}

trait Reader {
    fn feed(&mut self, bytes: &[u8], reports: &mut Vec<Report>);
    fn set_terminator(&mut self, spec: &Spec) -> Vec<u8>;
    fn gap_elapsed(&mut self, reports: &mut Vec<Report>);
    fn set_default_limit(&mut self, limit: usize);
    fn state(&self) -> Report;
    fn take_partial(&mut self) -> Vec<u8>;
    fn adopt_buffer(&mut self, _capacity: usize) {}
    fn release_buffer(&mut self) {}
}

/// Feeds the stream in segments of the lengths `lens`, repeated, and carries out the plan's actions.
fn run(plan: &Plan, reader: &mut impl Reader, lens: &[usize]) -> Vec<Report> {
    let mut reports = vec![];
    let mut fed = 0;
    let mut feed_to = |reader: &mut _, end: usize, reports: &mut Vec<Report>| {
        let end = end.clamp(fed, plan.stream.len());
        feed(reader, &plan.stream[fed..end], lens, reports);
        fed = end;
    };
    for (at, action) in &plan.actions {
        feed_to(reader, *at, &mut reports);
        match action {
            Action::Set(spec) => {
                let returned = reader.set_terminator(spec);
                reports.push(Report::Returned(returned.clone()));
                feed(reader, &returned, lens, &mut reports);
            }
            Action::Gap => reader.gap_elapsed(&mut reports),
            Action::DefaultLimit(limit) => reader.set_default_limit(*limit),
            Action::AdoptBuffer(capacity) => reader.adopt_buffer(*capacity),
            Action::ReleaseBuffer => reader.release_buffer(),
        }
        feed(reader, b"", lens, &mut reports);
        if plan.discards {
            reports.push(reader.state());
        }
    }
    feed_to(reader, UNLIMITED, &mut reports);
    reports.push(Report::Partial(reader.take_partial()));
    // Reports after the error have no meaning.
    if let Some(error) = reports.iter().position(|report| *report == Report::Error) {
        reports.truncate(error + 1);
    }
    reports
}

/// Feeds `bytes`. An empty segment is first, because some records need no input.
fn feed(reader: &mut impl Reader, mut bytes: &[u8], lens: &[usize], reports: &mut Vec<Report>) {
    reader.feed(b"", reports);
    for &len in lens.iter().cycle() {
        if bytes.is_empty() {
            return;
        }
        let (segment, rest) = bytes.split_at(len.min(bytes.len()));
        reader.feed(segment, reports);
        bytes = rest;
    }
}

fn data(reports: &mut Vec<Report>, chunk: &[u8]) {
    match reports.last_mut() {
        _ if chunk.is_empty() => {}
        Some(Report::Data(before)) => before.extend_from_slice(chunk),
        _ => reports.push(Report::Data(chunk.to_vec())),
    }
}

/// The splitter under test.
struct Subject<'p> {
    splitter: Splitter,
    script: Iter<'p, Spec>,
    discards: bool,
}

impl<'p> Subject<'p> {
    fn new(plan: &'p Plan) -> Self {
        let mut script = plan.script.iter();
        let first = script.next().expect("a plan has a terminator");
        Subject {
            splitter: Splitter::new(first.terminator(), plan.default_limit),
            script,
            discards: plan.discards,
        }
    }

    fn record_ended(&mut self) {
        assert!(self.splitter.is_idle());
        if let Some(next) = self.script.next() {
            assert_eq!(self.splitter.set_terminator(next.terminator()), None);
        }
    }
}

impl Reader for Subject<'_> {
    fn feed(&mut self, mut input: &[u8], reports: &mut Vec<Report>) {
        loop {
            match self.splitter.next(&mut input) {
                Ok(None) => break,
                Ok(Some(Event::Record(record))) => {
                    reports.push(Report::Record(record.to_vec()));
                    self.record_ended();
                }
                Ok(Some(Event::Owned(record))) => {
                    reports.push(Report::Record(record.to_vec()));
                    self.record_ended();
                }
                Ok(Some(Event::Chunk(chunk))) => {
                    assert!(!chunk.is_empty());
                    data(reports, chunk);
                }
                Ok(Some(Event::End)) => {
                    reports.push(Report::End);
                    self.record_ended();
                }
                Ok(Some(Event::Overflow)) => {
                    reports.push(Report::Overflow);
                    if self.discards {
                        self.splitter.discard();
                    }
                }
                Err(_) => return reports.push(Report::Error),
            }
        }
        assert!(input.is_empty(), "some input was not consumed");
    }

    fn set_terminator(&mut self, spec: &Spec) -> Vec<u8> {
        let returned = self.splitter.set_terminator(spec.terminator());
        assert_ne!(returned.as_deref(), Some(&b""[..]));
        returned.unwrap_or_default()
    }

    fn gap_elapsed(&mut self, reports: &mut Vec<Report>) {
        match self.splitter.gap_elapsed() {
            None => return,
            Some(Event::Record(record)) => reports.push(Report::Record(record.to_vec())),
            Some(Event::Owned(record)) => reports.push(Report::Record(record.to_vec())),
            Some(Event::End) => reports.push(Report::End),
            Some(other) => panic!("{other:?} after silence"),
        }
        self.record_ended();
    }

    fn set_default_limit(&mut self, limit: usize) {
        self.splitter.set_default_limit(limit);
    }

    fn state(&self) -> Report {
        Report::State(!self.splitter.is_idle(), self.splitter.idle_gap().is_some())
    }

    fn take_partial(&mut self) -> Vec<u8> {
        let partial = self.splitter.take_partial().to_vec();
        assert_eq!(self.splitter.take_partial(), b"", "reported twice");
        partial
    }

    fn adopt_buffer(&mut self, capacity: usize) {
        let mut spare = Vec::with_capacity(capacity);
        spare.resize(capacity, b'!');
        self.splitter.adopt_buffer(&mut spare);
    }

    fn release_buffer(&mut self) {
        assert_eq!(self.splitter.release_buffer(), b"");
    }
}

/// The expected behaviour. It runs the naive reader over the whole record after each byte.
struct Oracle<'p> {
    spec: Spec,
    script: Iter<'p, Spec>,
    default_limit: usize,
    discards: bool,
    phase: Phase,
    /// All bytes of the current record.
    record: Vec<u8>,
    /// How many bytes of its content have been delivered.
    delivered: usize,
    queued: Option<Spec>,
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Reading,
    Overflowed,
    /// `count(0)` has delivered its record.
    Spent,
}

impl<'p> Oracle<'p> {
    fn new(plan: &'p Plan) -> Self {
        let mut script = plan.script.iter();
        Oracle {
            spec: script.next().expect("a plan has a terminator").clone(),
            script,
            default_limit: plan.default_limit,
            discards: plan.discards,
            phase: Phase::Reading,
            record: vec![],
            delivered: 0,
            queued: None,
        }
    }

    fn read_record(&mut self, reports: &mut Vec<Report>) {
        while self.phase != Phase::Spent {
            let naive = self.spec.read(&self.record);
            let limit = self.spec.limit(self.default_limit);
            let length = match self.spec.kind {
                Kind::Count(n) if self.record.is_empty() => n,
                _ => naive.content.len(),
            };
            if self.phase == Phase::Reading {
                if self.spec.is_streamed() {
                    let end = naive.content.len().min(limit);
                    data(reports, &naive.content[self.delivered..end]);
                    self.delivered = end;
                }
                if length > limit {
                    reports.push(Report::Overflow);
                    self.phase = Phase::Overflowed;
                }
            }
            let is_reported = self.phase == Phase::Reading;
            if naive.next.is_none() || !is_reported && !self.discards {
                return;
            }
            if is_reported {
                self.report_end(naive.content, reports);
            } else {
                self.end_discarding();
            }
        }
    }

    fn report_end(&mut self, content: Vec<u8>, reports: &mut Vec<Report>) {
        reports.push(if self.spec.is_streamed() {
            Report::End
        } else {
            Report::Record(content)
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
    fn feed(&mut self, bytes: &[u8], reports: &mut Vec<Report>) {
        self.read_record(reports);
        for &byte in bytes {
            if self.phase == Phase::Spent {
                return reports.push(Report::Error);
            }
            self.record.push(byte);
            self.read_record(reports);
        }
    }

    fn set_terminator(&mut self, spec: &Spec) -> Vec<u8> {
        if self.phase == Phase::Overflowed && self.spec.kind != Kind::None {
            self.queued = Some(spec.clone());
            return vec![];
        }
        let undelivered = self.take_partial();
        self.install(spec.clone());
        undelivered
    }

    fn gap_elapsed(&mut self, reports: &mut Vec<Report>) {
        if self.spec.kind != Kind::IdleGap || self.record.is_empty() {
            return;
        }
        match self.phase {
            Phase::Overflowed if self.discards => self.end_discarding(),
            Phase::Overflowed => {}
            _ => self.report_end(self.record.clone(), reports),
        }
    }

    fn set_default_limit(&mut self, limit: usize) {
        self.default_limit = limit;
    }

    fn state(&self) -> Report {
        let begun = !self.record.is_empty() || self.phase == Phase::Overflowed;
        let can_end = self.spec.kind == Kind::IdleGap && !self.record.is_empty();
        Report::State(begun, can_end)
    }

    fn take_partial(&mut self) -> Vec<u8> {
        if self.phase == Phase::Overflowed {
            return vec![];
        }
        let naive = self.spec.read(&self.record);
        let content = naive.content.get(self.delivered..).unwrap_or_default();
        [content, &naive.pending].concat()
    }
}
