//! Streamed records: their bytes are delivered in chunks, as they arrive.

use super::cursor::{Cursor, Scan};
use super::{Event, Phase, Splitter, take};

impl Splitter {
    /// Reads a streamed record.
    pub(super) fn next_chunk<'a, 'i: 'a>(&'a mut self, input: &mut &'i [u8]) -> Option<Event<'a>> {
        let (released, room) = loop {
            // The scan covers no more than may be delivered, so that the cursor does not pass it. At
            // the limit, scanning byte by byte shows whether the terminator follows.
            let room = self.limit().saturating_sub(self.cursor.length);
            let room = usize::try_from(room).unwrap_or(usize::MAX);
            let hay = input.get(..room.max(1)).unwrap_or(input);
            let before = self.cursor;
            let scan = self.cursor.scan(self.terminator.kind(), hay);
            if scan.released > 0 {
                take(input, scan.tail);
                if room == 0 {
                    return Some(self.overflow());
                }
                break (scan.released, room);
            }
            if scan.content > room {
                self.cursor = before;
                return Some(self.overflow());
            }
            if scan.content > 0 {
                if scan.tail > 0 {
                    self.cursor.rewind();
                }
                self.cursor.length += scan.content as u64;
                return Some(Event::Chunk(take(input, scan.content)));
            }
            take(input, scan.tail);
            if scan.end {
                self.cursor = Cursor::default();
                return Some(Event::End);
            }
            if scan == Scan::default() {
                self.free_if_empty();
                return None;
            }
        };
        let released = Cursor::released(self.terminator.kind(), released);
        let (chunk, over) = released.split_at_checked(room).unwrap_or((released, &[]));
        self.cursor.length += chunk.len() as u64;
        if !over.is_empty() {
            self.buffer.extend_from_slice(over);
            self.phase = Phase::Overflowing;
        }
        Some(Event::Chunk(chunk))
    }

    /// Reads a streamed record with its terminator: each byte is delivered as it comes.
    pub(super) fn next_inclusive_chunk<'i>(&mut self, input: &mut &'i [u8]) -> Option<Event<'i>> {
        if input.is_empty() {
            self.free_if_empty();
            return None;
        }
        let room = self.limit().saturating_sub(self.cursor.length);
        if room == 0 {
            return Some(self.overflow());
        }
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let hay = input.get(..room).unwrap_or(input);
        let scan = self.cursor.scan_inclusive(self.terminator.kind(), hay);
        self.cursor.length += scan.content as u64;
        if scan.end {
            self.phase = Phase::Ended;
        }
        Some(Event::Chunk(take(input, scan.content)))
    }
}
