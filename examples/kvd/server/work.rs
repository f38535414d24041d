//! Results that are made in parts, one part of one of them in a turn: many of them do not make a turn long.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use super::Server;
use super::progress::Progress;

/// Does one more part.
type Step = Box<dyn FnMut() -> Progress>;

#[derive(Default)]
pub struct Works {
    steps: RefCell<VecDeque<Step>>,
    is_scheduled: Cell<bool>,
}

impl Server {
    /// Calls `step` in some of the next turns, until it is complete.
    pub fn work_later(self: &Rc<Self>, step: impl FnMut() -> Progress + 'static) {
        self.works.steps.borrow_mut().push_back(Box::new(step));
        if !self.works.is_scheduled.replace(true) {
            self.schedule_work();
        }
    }

    fn schedule_work(self: &Rc<Self>) {
        let this = Rc::downgrade(self);
        asynchat::call_soon(move || {
            if let Some(server) = this.upgrade() {
                server.work();
            }
        });
    }

    fn work(self: &Rc<Self>) {
        let Some(mut step) = self.works.steps.borrow_mut().pop_front() else {
            self.works.is_scheduled.set(false);
            return;
        };
        // Before the step, which may panic.
        self.schedule_work();
        if step() == Progress::More {
            self.works.steps.borrow_mut().push_back(step);
        }
    }
}
