//! How many bytes of changes and replies wait for the disk.

use std::ops::{Add, AddAssign};

use crate::store::change::PART;

/// Bytes of memory. Those of large changes count apart from the others: a client that writes them waits for the disk,
/// and the others do not wait for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    pub small: usize,
    pub large: usize,
}

impl Size {
    /// Those of one change or reply.
    pub fn of(bytes: usize) -> Size {
        if bytes < PART {
            Size {
                small: bytes,
                large: 0,
            }
        } else {
            Size {
                small: 0,
                large: bytes,
            }
        }
    }

    pub fn total(self) -> usize {
        self.small + self.large
    }
}

impl Add for Size {
    type Output = Size;

    fn add(self, other: Size) -> Size {
        Size {
            small: self.small + other.small,
            large: self.large + other.large,
        }
    }
}

impl AddAssign for Size {
    fn add_assign(&mut self, other: Size) {
        *self = *self + other;
    }
}
