//! Tasks that are done in parts, one part of one of them in a turn: many of them do not make a turn long.
//!
//! All commands that take several turns are such tasks. None of them schedules its next part itself.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use super::Server;
use super::progress::Progress;

/// Each call does one more part. `None` if nobody waits for the task any more: then it has done nothing, and is over.
///
/// The server owns its tasks. So a task does not own the server, which would never be dropped.
type Task = Box<dyn FnMut(&Rc<Server>) -> Option<Progress>>;

/// At most so many tasks that nobody waits for are dropped in a turn. If it were one, clients that begin a task and leave
/// could add tasks faster than they are dropped.
const DROPPED_AT_ONCE: usize = 100;

#[derive(Default)]
pub struct Tasks {
    queue: RefCell<VecDeque<Task>>,
    is_scheduled: Cell<bool>,
}

impl Server {
    /// Calls `task` in some of the next turns, until it is complete.
    pub fn add_task(self: &Rc<Self>, task: impl FnMut(&Rc<Server>) -> Option<Progress> + 'static) {
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
        if self.tasks.queue.borrow().is_empty() {
            self.tasks.is_scheduled.set(false);
            return;
        }
        // Before the part, which may panic.
        self.schedule_task();
        for _ in 0..DROPPED_AT_ONCE {
            let Some(mut task) = self.next_task() else {
                return;
            };
            match task(self) {
                Some(Progress::More) => return self.tasks.queue.borrow_mut().push_back(task),
                Some(Progress::Complete) => return,
                None => {}
            }
        }
    }

    fn next_task(&self) -> Option<Task> {
        self.tasks.queue.borrow_mut().pop_front()
    }
}
