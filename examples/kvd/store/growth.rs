//! How the vector of a small collection grows.

/// Makes room for one more element, and for a quarter of those that are there. Vec would double its capacity, or begin
/// with four: too much for a million collections of a few elements.
pub fn grow_by_a_quarter<T>(elements: &mut Vec<T>) {
    if elements.len() == elements.capacity() {
        elements.reserve_exact(1 + elements.len() / 4);
    }
}
