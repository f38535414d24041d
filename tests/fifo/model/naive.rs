//! The queue in the most obvious way: a list of what still has to come out.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};

use asynchat::More;

#[derive(Debug, Default)]
pub struct Model {
    pub entries: VecDeque<Entry>,
    pub sealed: bool,
    /// The end of the sending side is queued, or was sent.
    pub finished: bool,
    /// The first producer has nothing for now.
    pub pending: bool,
    /// The producer that is being asked, and whether it was resumed meanwhile.
    asked: Option<(u32, bool)>,
    /// A producer whose error the pump has still to return.
    pub failed: Option<u32>,
}

#[derive(Debug, PartialEq)]
pub enum Entry {
    /// At least one.
    Bytes(Vec<u8>),
    Producer(u32),
    Hook(u32),
    ShutdownWrite,
    Close,
}

impl Model {
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn contains(&self, producer: u32) -> bool {
        self.entries.contains(&Entry::Producer(producer))
    }

    pub fn queued(&self) -> usize {
        let bytes = self.entries.iter().map(|entry| match entry {
            Entry::Bytes(bytes) => bytes.len(),
            _ => 0,
        });
        bytes.sum()
    }

    pub fn is_actionable(&self) -> bool {
        match self.entries.front() {
            None => false,
            Some(Entry::Bytes(_)) => true,
            Some(_) => !self.pending,
        }
    }

    pub fn refuses(&self, entry: &Entry) -> bool {
        self.sealed || (self.finished && !matches!(entry, Entry::Hook(_) | Entry::Close))
    }

    pub fn push(&mut self, entry: Entry) {
        if self.refuses(&entry) || entry == Entry::Bytes(vec![]) {
            return;
        }
        self.sealed = entry == Entry::Close;
        self.finished |= entry == Entry::ShutdownWrite;
        self.entries.push_back(entry);
    }

    /// Removes all entries but a close.
    pub fn discard(&mut self) {
        let close = match self.entries.back() {
            Some(Entry::Close) => self.entries.pop_back(),
            _ => None,
        };
        if !self.sealed && self.entries.contains(&Entry::ShutdownWrite) {
            self.finished = false;
        }
        self.entries.clear();
        self.entries.extend(close);
        self.pending = false;
    }

    pub fn resume(&mut self) {
        self.pending = false;
        if let Some((id, mut resumed)) = self.asked {
            resumed |= self.contains(id);
            self.asked = Some((id, resumed));
        }
    }

    /// These bytes were offered to the sink, which took the first `taken`.
    pub fn sent(&mut self, mut offered: &[u8], mut taken: usize) {
        for entry in &self.entries {
            let Entry::Bytes(bytes) = entry else { break };
            let len = bytes.len().min(offered.len());
            assert!(bytes[..len] == offered[..len], "not the bytes pushed");
            offered = &offered[len..];
        }
        assert!(offered.is_empty(), "bytes out of their turn");
        while taken > 0
            && let Some(Entry::Bytes(bytes)) = self.entries.front_mut()
        {
            let len = bytes.len().min(taken);
            bytes.drain(..len);
            taken -= len;
            if bytes.is_empty() {
                self.entries.pop_front();
            }
        }
    }

    /// A producer is asked. Only bytes may be before it.
    pub fn ask(&mut self, id: u32) {
        assert!(!self.pending, "asked while it is pending");
        let mut entries = self.entries.iter();
        let first = entries.find(|entry| !matches!(entry, Entry::Bytes(_)));
        assert_eq!(first, Some(&Entry::Producer(id)), "asked out of its turn");
        self.asked = Some((id, false));
    }

    /// A producer has answered. Its bytes come before it.
    pub fn answered(&mut self, id: u32, answer: &io::Result<More>) {
        let resumed = self.asked.take().is_some_and(|(_, resumed)| resumed);
        let this = Entry::Producer(id);
        let place = self.entries.iter().position(|entry| *entry == this);
        let fails = matches!(answer, Err(error) if error.kind() != ErrorKind::WouldBlock);
        if fails {
            self.failed = Some(id);
        }
        // It has no place if it has discarded the queue.
        let Some(place) = place else { return };
        match answer {
            Ok(More::Chunk(chunk)) if chunk.is_empty() => {}
            Ok(More::Chunk(chunk)) => self.entries.insert(place, Entry::Bytes(chunk.to_vec())),
            Ok(More::Pending) => self.pending = !resumed,
            Err(_) if !fails => self.pending = !resumed,
            Ok(More::Done) | Err(_) => drop(self.entries.remove(place)),
        }
    }
}
