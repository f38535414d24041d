//! Turns the bytes of a fuzzer's input into choices.

/// The bytes that are left. When there are none, every choice is the first one, so an input that is
/// cut short makes the same choices as the whole one up to the cut.
pub struct Choices<'i>(&'i [u8]);

impl<'i> Choices<'i> {
    pub fn new(input: &'i [u8]) -> Self {
        Choices(input)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        first
    }

    /// A number below `end`, which is at most 256.
    pub fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }

    pub fn is_true(&mut self) -> bool {
        self.below(2) == 1
    }

    pub fn one_of<T: Copy>(&mut self, these: &[T]) -> T {
        these[self.below(these.len())]
    }

    /// The next `len` bytes, or the rest if fewer are left.
    pub fn bytes(&mut self, len: usize) -> &'i [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub fn rest(self) -> &'i [u8] {
        self.0
    }
}
