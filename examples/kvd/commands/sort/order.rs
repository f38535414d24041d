//! The order of the elements, and of the sorted runs of them that are merged.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::commands::found::Found;
use crate::store::dropper::Droppable;
use crate::store::text::Text;

/// An element with what it is sorted by. There is one for each element, so it is small.
pub struct Item {
    pub weight: Weight,
    pub text: Text,
    /// Its number in the collection. As in Redis, these are fewer than 2^32.
    pub sequence: u32,
    pub order: Order,
}

#[derive(Clone, Copy)]
pub struct Order {
    pub is_sorted: bool,
    pub is_descending: bool,
}

pub enum Weight {
    Number(f64),
    Text(Option<Box<Found>>),
    /// The element itself.
    Own,
}

impl Weight {
    /// The bytes that were copied for it, beside this struct.
    pub fn size_of_copy(&self) -> usize {
        match self {
            Weight::Text(Some(found)) => match &**found {
                Found::Text(text) => size_of::<Found>() + text.size_of_clone(),
                Found::Shared(_) => size_of::<Found>(),
            },
            _ => 0,
        }
    }
}

impl Item {
    /// How many bytes are read at most when this is compared with another one.
    pub fn cost_of_comparison(&self) -> usize {
        let weight = match &self.weight {
            _ if !self.order.is_sorted => return 0,
            Weight::Text(Some(found)) => found.as_bytes().len(),
            _ => 0,
        };
        weight + self.text.as_bytes().len()
    }
}

impl Ord for Item {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_weight = match (&self.weight, &other.weight) {
            _ if !self.order.is_sorted => return self.sequence.cmp(&other.sequence),
            (Weight::Number(a), Weight::Number(b)) => a.partial_cmp(b).unwrap_or(Ordering::Equal),
            (Weight::Text(a), Weight::Text(b)) => {
                let (a, b) = (a.as_deref(), b.as_deref());
                a.map(Found::as_bytes).cmp(&b.map(Found::as_bytes))
            }
            _ => Ordering::Equal,
        };
        let order = by_weight.then_with(|| self.text.cmp(&other.text));
        if self.order.is_descending {
            order.reverse()
        } else {
            order
        }
    }
}

impl PartialOrd for Item {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Item {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Item {}

/// The least remaining element of a run, and those that follow it. The greatest of these in a heap is the one with the
/// least element.
pub struct Run(pub Item, pub std::vec::IntoIter<Item>);

impl Ord for Run {
    fn cmp(&self, other: &Self) -> Ordering {
        other.0.cmp(&self.0)
    }
}

impl PartialOrd for Run {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Run {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Run {}

impl Droppable for BinaryHeap<Run> {
    fn is_long(&self) -> bool {
        !self.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_has_48_bytes() {
        assert_eq!(size_of::<Item>(), 48);
    }
}
