//! The queue of output against a model: whatever is queued, by whomever, and however little the
//! sink takes at a time, the same comes out in the same order.

mod acts;
mod model;
mod world;

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::rc::Rc;

use asynchat::internals::{PumpError, Pumped, Sink, pump};
use asynchat::{More, Producer};
use bytes::Bytes;

use super::choices::Choices;
use acts::{Act, Answer, Part, Takes};
use model::Entry;
use world::World;

/// Does with a queue what the bytes of `input` say, and then lets it drain.
pub fn fifo(input: &[u8]) {
    let mut choices = Choices::new(input);
    let high_water = choices.one_of(&[usize::MAX, 0, 100, 5000, 20_000]);
    let takes = (0..choices.below(6))
        .map(|_| acts::takes(&mut choices))
        .collect();
    let world = World::new(high_water);
    let mut sink = Socket {
        world: Rc::clone(&world),
        takes,
        turn: 0,
        fell_short: false,
    };
    let mut goes_on = true;
    for _ in 0..MOST_ACTS {
        if choices.is_empty() || !goes_on {
            break;
        }
        match acts::act(&mut choices) {
            Act::Pump(budget) => goes_on = pump_once(&world, &mut sink, budget),
            act => world.act(&act),
        }
    }
    // To the end, by way of every producer that has to be resumed. Each turn gets somewhere, since
    // everything in the queue is finite.
    sink.takes = vec![Takes::Bytes(3000)];
    for _ in 0..MOST_TURNS {
        if !goes_on || world.model.borrow().is_empty() {
            world.end();
            return;
        }
        goes_on = pump_once(&world, &mut sink, 65_536);
        world.act(&Act::Resume);
    }
    panic!("it does not end");
}

const MOST_ACTS: usize = 64;
const MOST_TURNS: usize = 100_000;

/// Pumps once and checks what the outcome says; whether there may be more to come.
fn pump_once(world: &Rc<World>, sink: &mut Socket, budget: usize) -> bool {
    world.begin_turn();
    sink.fell_short = false;
    let outcome = pump(&world.fifo, sink, budget);
    if let Ok(Pumped::Closed(_)) = outcome {
        let next = world.model.borrow_mut().entries.pop_front();
        assert_eq!(next, Some(Entry::Close));
    }
    world.check();
    let spent = world.spent.get();
    assert!(spent <= budget, "{spent} of a budget of {budget}");
    let mut model = world.model.borrow_mut();
    let is_actionable = world.fifo.borrow().is_actionable();
    match outcome {
        // User code has closed the sink; nothing was asked of the queue since.
        Ok(Pumped::Drained) if !world.open.get() => return false,
        Ok(Pumped::Drained) => {
            assert!(model.is_empty() && !is_actionable, "left: {model:?}");
        }
        Ok(Pumped::Closed(_)) => {
            assert!(model.is_empty(), "left: {model:?}");
            return false;
        }
        Ok(Pumped::Blocked) => assert!(sink.fell_short),
        Ok(Pumped::Spent) => assert!(spent == budget || !world.may_call()),
        Ok(Pumped::Pending) => {
            assert!(model.parked && !is_actionable);
            assert!(matches!(model.entries.front(), Some(Entry::Producer(_))));
        }
        Err(PumpError::Producer(_)) => {
            assert!(model.failed.take().is_some());
            return false;
        }
        Err(PumpError::Sink(error)) => {
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
            return false;
        }
    }
    assert!(model.failed.is_none(), "a producer's error was lost");
    world.open.get()
}

/// A socket that takes as much at a time as it was told to.
struct Socket {
    world: Rc<World>,
    takes: Vec<Takes>,
    turn: usize,
    fell_short: bool,
}

impl Sink for Socket {
    fn send_gathered(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        assert!(self.world.open.get(), "a send after the close");
        let mut offered = vec![];
        parts
            .iter()
            .for_each(|part| offered.extend_from_slice(part));
        assert!(!offered.is_empty(), "a send of nothing");
        let takes = match self.takes.len() {
            0 => Takes::All,
            len => self.takes[self.turn % len],
        };
        self.turn += 1;
        let taken = match takes {
            Takes::All => offered.len(),
            Takes::Bytes(n) => n.min(offered.len()),
            Takes::Nothing => {
                self.fell_short = true;
                return Err(ErrorKind::WouldBlock.into());
            }
            Takes::Breaks => return Err(ErrorKind::BrokenPipe.into()),
        };
        self.fell_short |= taken < offered.len();
        self.world.spend(taken);
        self.world.model.borrow_mut().sent(&offered, taken);
        Ok(taken)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        assert!(self.world.open.get(), "a shutdown after the close");
        let next = self.world.model.borrow_mut().entries.pop_front();
        assert_eq!(next, Some(Entry::ShutdownWrite));
        Ok(())
    }

    fn is_open(&self) -> bool {
        self.world.open.get()
    }
}

/// User code in the queue: it acts when it is called, and must not be dropped under a borrow, since
/// it may act then as well.
struct Guest {
    world: Rc<World>,
    id: u32,
}

impl Guest {
    fn new(world: &Rc<World>, id: u32) -> Self {
        world.guests.set(world.guests.get() + 1);
        Guest {
            world: Rc::clone(world),
            id,
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        world::check_free();
        self.world.guests.set(self.world.guests.get() - 1);
    }
}

struct Scripted {
    guest: Guest,
    parts: VecDeque<Part>,
}

impl Producer for Scripted {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        let Guest { world, id } = &self.guest;
        assert!(budget > 0);
        world::check_free();
        world.call();
        world.model.borrow_mut().ask(*id);
        let part = self.parts.pop_front().unwrap_or_default();
        part.acts.iter().for_each(|act| world.act(act));
        let answer = match part.answer {
            Answer::Chunk(0) => Ok(More::Chunk(Bytes::new())),
            Answer::Chunk(len) => Ok(More::Chunk(owned(world.pattern(len)))),
            Answer::Pending => Ok(More::Pending),
            Answer::WouldBlock => Err(ErrorKind::WouldBlock.into()),
            Answer::Fails => Err(io::Error::other("it was to fail")),
            Answer::Done => Ok(More::Done),
        };
        match &answer {
            Ok(More::Chunk(chunk)) => world.answered(Some(chunk.len()), budget),
            _ => world.answered(None, budget),
        }
        world.model.borrow_mut().answered(*id, &answer);
        answer
    }
}

fn hook(world: &Rc<World>, id: u32, acts: Vec<Act>) -> Box<dyn FnOnce()> {
    let guest = Guest::new(world, id);
    Box::new(move || {
        let Guest { world, id } = &guest;
        world::check_free();
        world.call();
        let next = world.model.borrow_mut().entries.pop_front();
        assert_eq!(next, Some(Entry::Hook(*id)), "a hook out of its turn");
        acts.iter().for_each(|act| world.act(act));
    })
}

/// Bytes of an owner whose destructor is user code too.
fn owned(data: Vec<u8>) -> Bytes {
    Bytes::from_owner(Owner(data))
}

struct Owner(Vec<u8>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        world::check_free();
    }
}
