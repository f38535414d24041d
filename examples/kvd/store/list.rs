//! A list. Each element has a number, which stays while elements are added and removed at the ends. The
//! database on disk stores an element under its number.
//!
//! The elements are in chunks of some hundred. A clone shares all chunks but the first one, and a later change copies
//! the chunk that it changes. So a long reply is made from a clone. The first chunk is not shared, so that a short list
//! is one allocation.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::estimate;
use super::text::Text;

/// A chunk has at most so many elements.
pub const FULL: usize = 512;

pub type Chunk = VecDeque<Text>;

#[derive(Clone, Default)]
pub struct List {
    /// The first chunk, which may be empty.
    head: Chunk,
    /// The other chunks, none of which is empty.
    rest: VecDeque<Arc<Chunk>>,
    len: usize,
    /// The number of the first element.
    first: i64,
}

/// An end of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Left,
    Right,
}

impl End {
    pub fn other(self) -> End {
        match self {
            End::Left => End::Right,
            End::Right => End::Left,
        }
    }
}

impl List {
    /// A list that begins at this number.
    pub fn starting_at(first: i64) -> List {
        List {
            first,
            ..List::default()
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The number of the element at this index.
    pub fn number(&self, index: usize) -> i64 {
        self.first + index as i64
    }

    // ---- the ends

    /// Adds an element, and returns its number.
    pub fn push(&mut self, end: End, item: Text) -> i64 {
        self.len += 1;
        match end {
            End::Left => {
                if self.head.len() >= FULL {
                    let full = std::mem::take(&mut self.head);
                    self.rest.push_front(Arc::new(full));
                }
                self.head.push_front(item);
                self.first -= 1;
                self.first
            }
            End::Right => {
                self.last_with_room().push_back(item);
                self.first + self.len as i64 - 1
            }
        }
    }

    /// The last chunk, or a new one behind it if it is full.
    fn last_with_room(&mut self) -> &mut Chunk {
        let last = self.rest.back().map_or(self.head.len(), |it| it.len());
        if last >= FULL {
            self.rest.push_back(Arc::default());
        }
        match self.rest.back_mut() {
            Some(chunk) => Arc::make_mut(chunk),
            None => &mut self.head,
        }
    }

    /// Removes an element, and returns it with its number.
    pub fn pop(&mut self, end: End) -> Option<(Text, i64)> {
        match end {
            End::Left => {
                if self.head.is_empty() {
                    self.head = Arc::unwrap_or_clone(self.rest.pop_front()?);
                }
                let item = self.head.pop_front()?;
                self.len -= 1;
                self.first += 1;
                Some((item, self.first - 1))
            }
            End::Right => {
                let item = match self.rest.back_mut() {
                    None => self.head.pop_back()?,
                    Some(chunk) => {
                        let chunk = Arc::make_mut(chunk);
                        let item = chunk.pop_back()?;
                        if chunk.is_empty() {
                            self.rest.pop_back();
                        }
                        item
                    }
                };
                self.len -= 1;
                Some((item, self.first + self.len as i64))
            }
        }
    }

    /// Removes so many elements at once, at most all, and returns them in the order of the list.
    pub fn take(&mut self, end: End, number: usize) -> List {
        let number = number.min(self.len);
        match end {
            End::Right => self.split_off(self.len - number),
            End::Left => {
                let rest = self.split_off(number);
                std::mem::replace(self, rest)
            }
        }
    }

    /// Removes the elements from this index on, and returns them.
    fn split_off(&mut self, index: usize) -> List {
        let mut behind = List {
            len: self.len - index,
            first: self.number(index),
            ..List::default()
        };
        if behind.is_empty() {
            return behind;
        }
        let (chunk, within) = self.locate(index);
        match chunk.checked_sub(1) {
            None => {
                behind.head = self.head.split_off(within);
                behind.rest = std::mem::take(&mut self.rest);
            }
            Some(chunk) => {
                behind.rest = self.rest.split_off(chunk);
                if within > 0
                    && let Some(divided) = behind.rest.front_mut()
                {
                    let after = Arc::make_mut(divided).split_off(within);
                    let before = std::mem::replace(divided, Arc::new(after));
                    self.rest.push_back(before);
                }
            }
        }
        self.len = index;
        behind
    }

    /// Removes the chunk at an end. For work that is done a chunk at a time.
    pub fn pop_chunk(&mut self, end: End) -> Option<Arc<Chunk>> {
        let chunk = match end {
            End::Right => self.rest.pop_back(),
            End::Left if self.head.is_empty() => self.rest.pop_front(),
            End::Left => None,
        };
        let chunk = match chunk {
            Some(chunk) => chunk,
            None if self.head.is_empty() => return None,
            None => Arc::new(std::mem::take(&mut self.head)),
        };
        self.len -= chunk.len();
        if end == End::Left {
            self.first += chunk.len() as i64;
        }
        Some(chunk)
    }

    /// Adds a chunk at an end. Small chunks become one.
    pub fn push_chunk(&mut self, end: End, chunk: Arc<Chunk>) {
        if chunk.is_empty() {
            return;
        }
        self.len += chunk.len();
        if end == End::Left {
            self.first -= chunk.len() as i64;
        }
        let neighbour = match end {
            End::Right => self.rest.len(),
            End::Left => 0,
        };
        if self.chunk(neighbour).len() + chunk.len() <= FULL / 2
            && let Some(neighbour) = self.chunk_mut(neighbour)
        {
            let mut added = Arc::unwrap_or_clone(chunk);
            if end == End::Left {
                std::mem::swap(neighbour, &mut added);
            }
            neighbour.append(&mut added);
            return;
        }
        match end {
            End::Right => self.rest.push_back(chunk),
            End::Left => {
                if !self.head.is_empty() {
                    let head = std::mem::take(&mut self.head);
                    self.rest.push_front(Arc::new(head));
                }
                self.rest.push_front(chunk);
            }
        }
    }

    // ---- the elements between them

    fn chunk(&self, number: usize) -> &Chunk {
        match number.checked_sub(1) {
            None => &self.head,
            Some(number) => &self.rest[number],
        }
    }

    /// The number of the chunk with the element at this index, and the index in it. For the end of the list, both are
    /// those behind its last element.
    fn locate(&self, index: usize) -> (usize, usize) {
        if index <= self.head.len() && (index < self.head.len() || self.rest.is_empty()) {
            return (0, index);
        }
        if index < self.len / 2 {
            let mut within = index - self.head.len();
            for (number, chunk) in self.rest.iter().enumerate() {
                if within < chunk.len() {
                    return (number + 1, within);
                }
                within -= chunk.len();
            }
        }
        let mut behind = self.len - index;
        for (number, chunk) in self.rest.iter().enumerate().rev() {
            if behind <= chunk.len() {
                return (number + 1, chunk.len() - behind);
            }
            behind -= chunk.len();
        }
        (0, self.head.len().saturating_sub(behind))
    }

    pub fn get(&self, index: usize) -> Option<&Text> {
        if index >= self.len {
            return None;
        }
        let (chunk, within) = self.locate(index);
        self.chunk(chunk).get(within)
    }

    pub fn get_mut(&mut self, index: usize) -> Option<&mut Text> {
        let (chunk, within) = self.locate(index);
        self.chunk_mut(chunk)?.get_mut(within)
    }

    fn chunk_mut(&mut self, number: usize) -> Option<&mut Chunk> {
        match number.checked_sub(1) {
            None => Some(&mut self.head),
            Some(number) => self.rest.get_mut(number).map(Arc::make_mut),
        }
    }

    /// Inserts an element before the one at this index. The numbers of those behind it change.
    pub fn insert(&mut self, index: usize, item: Text) {
        let (number, within) = self.locate(index);
        let Some(chunk) = self.chunk_mut(number) else {
            return;
        };
        chunk.insert(within, item);
        if chunk.len() > FULL {
            let rest = chunk.split_off(FULL / 2);
            self.rest.insert(number, Arc::new(rest));
        }
        self.len += 1;
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Text> {
        self.range(0..self.len)
    }

    /// The elements with these indices.
    pub fn range(&self, range: Range<usize>) -> impl DoubleEndedIterator<Item = &Text> {
        let (first, start) = self.locate(range.start);
        let (last, end) = if range.is_empty() {
            (first, start)
        } else {
            let (last, within) = self.locate(range.end - 1);
            (last, within + 1)
        };
        (first..=last).flat_map(move |number| {
            let chunk = self.chunk(number);
            let start = if number == first { start } else { 0 };
            let end = if number == last { end } else { chunk.len() };
            chunk.range(start..end)
        })
    }

    /// The bytes of memory for the chunks, without what is in the elements.
    pub fn heap(&self) -> usize {
        let rest = self
            .rest
            .iter()
            .map(|it| 16 + size_of::<Chunk>() + it.capacity() * size_of::<Text>());
        let rest = estimate::sum_of_all(rest) + self.rest.capacity() * size_of::<Arc<Chunk>>();
        self.head.capacity() * size_of::<Text>() + rest
    }
}

/// The elements from `start` to `stop`, of `len`, where negative numbers count from the end, as in LRANGE. The end is
/// exclusive.
pub fn range(start: i64, stop: i64, len: usize) -> Range<usize> {
    let len = len as i64;
    let from_end = |index: i64| {
        if index < 0 {
            index.saturating_add(len)
        } else {
            index
        }
    };
    let start = from_end(start).max(0);
    let stop = from_end(stop).min(len - 1);
    if start > stop {
        0..0
    } else {
        start as usize..stop as usize + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(number: usize) -> Text {
        Text::from(number.to_string().into_bytes())
    }

    fn list_of(numbers: Range<usize>) -> List {
        let mut list = List::default();
        for number in numbers {
            list.push(End::Right, text(number));
        }
        list
    }

    /// Checks the invariants and the elements.
    fn assert_is(list: &List, model: &VecDeque<Text>) {
        assert_eq!(list.len(), model.len());
        assert!(list.iter().eq(model.iter()));
        assert!(list.iter().rev().eq(model.iter().rev()));
        assert!(list.rest.iter().all(|it| (1..=FULL).contains(&it.len())));
    }

    #[test]
    fn a_list_is_a_deque_whatever_happens_to_it() {
        let mut random = fastrand::Rng::with_seed(5);
        let (mut list, mut model) = (List::default(), VecDeque::new());
        let mut snapshots = Vec::new();
        for round in 0..40_000 {
            let item = text(random.usize(0..50));
            let end = if random.bool() { End::Left } else { End::Right };
            let index = random.usize(0..=model.len());
            match random.u32(0..100) {
                0..60 if end == End::Left => {
                    list.push(end, item.clone());
                    model.push_front(item);
                }
                0..60 => {
                    list.push(end, item.clone());
                    model.push_back(item);
                }
                60..70 if end == End::Left => {
                    assert_eq!(list.pop(end).map(|it| it.0), model.pop_front());
                }
                60..70 => assert_eq!(list.pop(end).map(|it| it.0), model.pop_back()),
                70..85 => {
                    list.insert(index, item.clone());
                    model.insert(index, item);
                }
                85..98 => {
                    assert_eq!(list.get(index), model.get(index));
                    if let Some(old) = list.get_mut(index) {
                        *old = item.clone();
                        model[index] = item;
                    }
                }
                _ if round % 20 == 0 => {
                    let number = random.usize(0..=model.len() / 2);
                    let taken = match end {
                        End::Left => {
                            let rest = model.split_off(number);
                            std::mem::replace(&mut model, rest)
                        }
                        End::Right => model.split_off(model.len() - number),
                    };
                    assert_is(&list.take(end, number), &taken);
                }
                _ => {}
            }
            if round % 2_000 == 0 {
                assert_is(&list, &model);
                snapshots.push((list.clone(), model.clone()));
                let (from, to) = (index / 2, index);
                assert!(list.range(from..to).eq(model.range(from..to)));
            }
        }
        // A clone does not see later changes.
        for (list, model) in &snapshots {
            assert_is(list, model);
        }
    }

    #[test]
    fn chunks_move_from_list_to_list() {
        for end in [End::Left, End::Right] {
            for removed in [1, 2, 100] {
                let mut list = list_of(0..5_000);
                let mut result = List::default();
                while let Some(mut chunk) = list.pop_chunk(end) {
                    let stays = |it: &Text| {
                        let number = std::str::from_utf8(it.as_bytes()).unwrap();
                        number.parse::<usize>().unwrap() % removed == 0
                    };
                    Arc::make_mut(&mut chunk).retain(stays);
                    result.push_chunk(end.other(), chunk);
                }
                assert!(list.is_empty());
                let model = (0..5_000).step_by(removed).map(text).collect();
                assert_is(&result, &model);
                assert!(result.rest.len() <= model.len() * 4 / FULL + 1, "{removed}");
            }
        }
    }

    #[test]
    fn a_change_copies_one_chunk_of_a_list_that_is_shared() {
        let mut list = list_of(0..100 * FULL);
        let snapshot = list.clone();
        *list.get_mut(50 * FULL).unwrap() = text(0);
        list.push(End::Right, text(0));
        list.push(End::Left, text(0));
        let chunks = list.rest.iter().filter(|chunk| {
            let mut others = snapshot.rest.iter();
            !others.any(|other| Arc::ptr_eq(chunk, other))
        });
        // The one that was changed, the new one at the right, and the one that was the first.
        assert_eq!(chunks.count(), 3);
    }

    #[test]
    fn numbers_stay_while_the_ends_change() {
        let mut list = List::default();
        let item = |text: &str| Text::from(text.as_bytes());
        assert_eq!(list.push(End::Right, item("b")), 0);
        assert_eq!(list.push(End::Left, item("a")), -1);
        assert_eq!(list.push(End::Right, item("c")), 1);
        assert_eq!(list.pop(End::Left), Some((item("a"), -1)));
        assert_eq!(list.number(0), 0);
        assert_eq!(list.pop(End::Right), Some((item("c"), 1)));
        let mut list = list_of(0..2_000);
        list.take(End::Left, 1_500);
        assert_eq!(list.number(0), 1_500);
        list.take(End::Right, 400);
        assert_eq!(list.pop(End::Right), Some((text(1_599), 1_599)));
    }

    #[test]
    fn ranges_count_from_both_ends() {
        assert_eq!(range(0, -1, 3), 0..3);
        assert_eq!(range(-2, 5, 3), 1..3);
        assert_eq!(range(2, 1, 3), 0..0);
        assert_eq!(range(5, 9, 3), 0..0);
        assert_eq!(range(-9, -3, 3), 0..1);
        assert_eq!(range(0, -1, 0), 0..0);
    }
}
