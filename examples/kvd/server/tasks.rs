//! Tasks that are done in parts, one part of one of them in a turn: many of them do not make a turn long.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use super::Server;
use super::progress::Progress;

/// Each call does one more part.
type Task = Box<dyn FnMut() -> Progress>;

#[derive(Default)]
pub struct Tasks {
    queue: RefCell<VecDeque<Task>>,
    is_scheduled: Cell<bool>,
}

impl Server {
    /// Calls `task` in some of the next turns, until it is complete.
    pub fn add_task(self: &Rc<Self>, task: impl FnMut() -> Progress + 'static) {
        self.tasks.queue.borrow_mut().push_back(Box::new(task));
        if !self.tasks.is_scheduled.replace(true) {
            self.schedule_task();
        }
    }

    fn schedule_task(self: &Rc<Self>) {
        let this = Rc::downgrade(self);
        asynchat::call_soon(move || {
            if let Some(server) = this.upgrade() {
                server.run_task();
            }
        });
    }

    fn run_task(self: &Rc<Self>) {
        let Some(mut task) = self.tasks.queue.borrow_mut().pop_front() else {
            self.tasks.is_scheduled.set(false);
            return;
        };
        // Before the part, which may panic.
        self.schedule_task();
        if task() == Progress::More {
            self.tasks.queue.borrow_mut().push_back(task);
        }
    }
}
