//! How many requests and tunnels are under way.

use std::cell::Cell;
use std::rc::Rc;

/// A count of what is under way. Clones share it.
#[derive(Clone, Default)]
pub struct UnderWay(Rc<Cell<usize>>);

/// Something that is under way until it is dropped.
pub struct Begun(UnderWay);

impl UnderWay {
    pub fn begin(&self) -> Begun {
        self.0.set(self.0.get() + 1);
        Begun(self.clone())
    }

    #[allow(dead_code, reason = "the tests of the proxy do not ask")]
    pub fn count(&self) -> usize {
        self.0.get()
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let UnderWay(count) = &self.0;
        count.set(count.get() - 1);
    }
}
