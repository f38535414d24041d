//! Every producer, with every budget: the bytes are those of a simple model, no chunk is over the budget, and
//! an inner producer is not asked after its end and is dropped once.

mod by_hand;
mod random;

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read};
use std::rc::Rc;

use asynchat::{More, Producer};

// ---- scripted producers and readers

#[derive(Clone, Debug)]
enum Step {
    Chunk(Vec<u8>),
    Pending,
    Fail,
}

/// Answers with its steps, whatever the budget, and checks that it is called as promised.
struct Script {
    steps: VecDeque<Step>,
    over: bool,
    drops: Rc<Cell<u32>>,
}

impl Script {
    fn new(steps: &[Step]) -> Self {
        Self::counting(steps, &Rc::default())
    }

    fn counting(steps: &[Step], drops: &Rc<Cell<u32>>) -> Self {
        Self {
            steps: steps.to_vec().into(),
            over: false,
            drops: drops.clone(),
        }
    }
}

impl Producer for Script {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        assert!(budget > 0);
        assert!(!self.over, "called after its end");
        match self.steps.pop_front() {
            Some(Step::Chunk(chunk)) => Ok(More::Chunk(chunk.into())),
            Some(Step::Pending) => Ok(More::Pending),
            Some(Step::Fail) => {
                self.over = true;
                Err(ErrorKind::InvalidData.into())
            }
            None => {
                self.over = true;
                Ok(More::Done)
            }
        }
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.drops.set(self.drops.get() + 1);
    }
}

#[derive(Clone)]
enum ReadStep {
    Data(Vec<u8>),
    Fail(ErrorKind),
}

struct Reader(VecDeque<ReadStep>);

impl Read for Reader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.0.pop_front() {
            Some(ReadStep::Data(mut data)) => {
                let n = data.len().min(buf.len());
                buf[..n].copy_from_slice(&data[..n]);
                data.drain(..n);
                if !data.is_empty() {
                    self.0.push_front(ReadStep::Data(data));
                }
                Ok(n)
            }
            Some(ReadStep::Fail(kind)) => Err(kind.into()),
            None => Ok(0),
        }
    }
}

// ---- a producer from its beginning to its end

#[derive(Debug, Default, PartialEq)]
struct Output {
    bytes: Vec<u8>,
    chunks: usize,
    pending: usize,
    error: Option<ErrorKind>,
}

/// Calls a producer with these budgets in turn, until its end.
fn run(mut producer: impl Producer, budgets: &[usize]) -> Output {
    let mut output = Output::default();
    let mut calls = 0;
    for &budget in budgets.iter().cycle() {
        calls += 1;
        assert!(calls < 1_000_000, "the producer does not end");
        match producer.more(budget) {
            Ok(More::Chunk(chunk)) => {
                assert!(chunk.len() <= budget, "{} over {budget}", chunk.len());
                output.bytes.extend_from_slice(&chunk);
                output.chunks += 1;
            }
            Ok(More::Pending) => output.pending += 1,
            Ok(More::Done) => break,
            Err(error) => {
                output.error = Some(error.kind());
                break;
            }
        }
    }
    output
}

fn bytes_of(producer: impl Producer, budgets: &[usize]) -> Vec<u8> {
    let output = run(producer, budgets);
    assert_eq!(output.error, None);
    output.bytes
}
