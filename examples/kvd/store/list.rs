//! A list. Each element has a place, a number that stays while elements are added and removed at the ends. The
//! database on disk stores an element under its place.

use std::collections::VecDeque;

use super::text::Text;

#[derive(Clone, Default)]
pub struct List {
    pub items: VecDeque<Text>,
    /// The place of the first element.
    first: i64,
}

/// An end of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Left,
    Right,
}

impl List {
    /// A list that begins at this place.
    pub fn starting_at(first: i64) -> List {
        List {
            items: VecDeque::new(),
            first,
        }
    }

    /// Adds an element, and returns its place.
    pub fn push(&mut self, end: End, item: Text) -> i64 {
        match end {
            End::Left => {
                self.items.push_front(item);
                self.first -= 1;
                self.first
            }
            End::Right => {
                self.items.push_back(item);
                self.first + self.items.len() as i64 - 1
            }
        }
    }

    /// Removes an element, and returns it with its place.
    pub fn pop(&mut self, end: End) -> Option<(Text, i64)> {
        match end {
            End::Left => {
                let item = self.items.pop_front()?;
                self.first += 1;
                Some((item, self.first - 1))
            }
            End::Right => {
                let item = self.items.pop_back()?;
                Some((item, self.first + self.items.len() as i64))
            }
        }
    }

    /// Removes so many elements at once, at most all, and returns them in the order of the list.
    pub fn take(&mut self, end: End, number: usize) -> VecDeque<Text> {
        let len = self.items.len();
        let number = number.min(len);
        match end {
            End::Right => self.items.split_off(len - number),
            End::Left => {
                self.first += number as i64;
                // Whichever moves fewer.
                match number > len / 2 {
                    true => {
                        let rest = self.items.split_off(number);
                        std::mem::replace(&mut self.items, rest)
                    }
                    false => self.items.drain(..number).collect(),
                }
            }
        }
    }

    /// The place of the element at this index.
    pub fn place(&self, index: usize) -> i64 {
        self.first + index as i64
    }
}

/// The elements from `start` to `stop`, of `len`, where negative numbers count from the end, as in LRANGE. The end is
/// exclusive.
pub fn range(start: i64, stop: i64, len: usize) -> std::ops::Range<usize> {
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
    match start > stop {
        true => 0..0,
        false => start as usize..stop as usize + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_taken_at_once_as_one_by_one() {
        let texts = |range: std::ops::Range<u8>| range.map(|it| Text::from(&[it][..]));
        for number in [0, 1, 4, 6, 9, 10, 20] {
            for end in [End::Left, End::Right] {
                let (mut one, mut other) = (List::starting_at(5), List::starting_at(5));
                for text in texts(0..10) {
                    one.push(End::Right, text.clone());
                    other.push(End::Right, text);
                }
                let mut taken = one.take(end, number);
                if end == End::Right {
                    taken.make_contiguous().reverse();
                }
                let popped: Vec<_> = (0..number).map_while(|_| other.pop(end)).collect();
                assert!(taken.iter().eq(popped.iter().map(|(item, _)| item)));
                assert_eq!((&one.items, one.first), (&other.items, other.first));
            }
        }
    }

    #[test]
    fn places_stay_while_the_ends_change() {
        let mut list = List::default();
        let item = |text: &str| Text::from(text.as_bytes());
        assert_eq!(list.push(End::Right, item("b")), 0);
        assert_eq!(list.push(End::Left, item("a")), -1);
        assert_eq!(list.push(End::Right, item("c")), 1);
        assert_eq!(list.pop(End::Left), Some((item("a"), -1)));
        assert_eq!(list.place(0), 0);
        assert_eq!(list.pop(End::Right), Some((item("c"), 1)));
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
