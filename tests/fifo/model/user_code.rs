//! User code in the queue. It acts when it is called. It must not run under a borrow of the queue, and
//! that includes its destructor.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::rc::Rc;

use asynchat::{More, Producer};
use bytes::Bytes;

use super::act::{Act, Answer, Reply};
use super::harness::{self, Harness};
use super::naive::Entry;

/// Counts as a live piece of user code until it is dropped.
struct Token {
    harness: Rc<Harness>,
    id: u32,
}

impl Token {
    fn new(harness: &Rc<Harness>, id: u32) -> Self {
        harness.live.set(harness.live.get() + 1);
        Token {
            harness: Rc::clone(harness),
            id,
        }
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        harness::check_free();
        self.harness.live.set(self.harness.live.get() - 1);
    }
}

struct Scripted {
    token: Token,
    replies: VecDeque<Reply>,
}

pub fn producer(harness: &Rc<Harness>, id: u32, replies: Vec<Reply>) -> Box<dyn Producer> {
    Box::new(Scripted {
        token: Token::new(harness, id),
        replies: replies.into(),
    })
}

impl Producer for Scripted {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        let Token { harness, id } = &self.token;
        assert!(budget > 0);
        harness::check_free();
        harness.call();
        harness.model.borrow_mut().ask(*id);
        let reply = self.replies.pop_front().unwrap_or_default();
        reply.acts.iter().for_each(|act| harness.act(act));
        let answer = match reply.answer {
            Answer::Chunk(0) => Ok(More::Chunk(Bytes::new())),
            Answer::Chunk(len) => Ok(More::Chunk(owned(harness.pattern(len)))),
            Answer::Pending => Ok(More::Pending),
            Answer::WouldBlock => Err(ErrorKind::WouldBlock.into()),
            Answer::Fails => Err(io::Error::other("this producer fails")),
            Answer::Done => Ok(More::Done),
        };
        match &answer {
            Ok(More::Chunk(chunk)) => harness.answered(Some(chunk.len()), budget),
            _ => harness.answered(None, budget),
        }
        harness.model.borrow_mut().answered(*id, &answer);
        answer
    }
}

pub fn hook(harness: &Rc<Harness>, id: u32, acts: Vec<Act>) -> Box<dyn FnOnce()> {
    let token = Token::new(harness, id);
    Box::new(move || {
        let Token { harness, id } = &token;
        harness::check_free();
        harness.call();
        let next = harness.model.borrow_mut().entries.pop_front();
        assert_eq!(next, Some(Entry::Hook(*id)), "a hook out of its turn");
        acts.iter().for_each(|act| harness.act(act));
    })
}

/// Bytes whose owner has a destructor that is user code too.
pub fn owned(data: Vec<u8>) -> Bytes {
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
        harness::check_free();
    }
}
