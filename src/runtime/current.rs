//! The loop of this thread: the one that is running, or else the default one.

use std::cell::RefCell;
use std::rc::Rc;

use tracing::{Dispatch, dispatcher};

use super::{Running, Runtime};
use crate::error::{Error, Result};
use crate::sys::poller::Poller;

thread_local! {
    static LOOPS: RefCell<Loops> = RefCell::default();
}

#[derive(Default)]
struct Loops {
    /// The loops that are running on this thread; more than one when a callback of one runs
    /// another.
    running: Vec<Rc<Runtime>>,
    default: Option<Rc<Runtime>>,
}

impl Drop for Loops {
    fn drop(&mut self) {
        if let Some(runtime) = self.default.take() {
            runtime.tear_down();
            // Its poller logs that it is dropped, which a subscriber may not survive: see `Drop for Runtime`.
            dispatcher::with_default(&Dispatch::none(), || drop(runtime));
        }
    }
}

/// The loop that is running on this thread, or else this thread's default one.
pub(crate) fn runtime() -> Result<Rc<Runtime>, Error> {
    if let Some(runtime) = existing()? {
        return Ok(runtime);
    }
    let runtime = new()?;
    with_loops(|loops| loops.default = Some(Rc::clone(&runtime)))?;
    Ok(runtime)
}

/// The same, if there is one: none is made.
///
/// # Errors
/// While the thread is being torn down.
pub(crate) fn existing() -> Result<Option<Rc<Runtime>>, Error> {
    with_loops(|loops| loops.running.last().or(loops.default.as_ref()).cloned())
}

/// A new loop.
///
/// # Errors
/// When the system gives no poller: out of descriptors, mostly.
pub(crate) fn new() -> Result<Rc<Runtime>, Error> {
    match Poller::new() {
        Ok(poller) => Ok(Runtime::new(poller)),
        Err(error) => Err(Error::from(error).context("create an event loop")),
    }
}

/// Makes `runtime` the running loop, until the guard is dropped.
#[inline(always)] // Each `run_once` does.
pub(crate) fn enter(runtime: &Rc<Runtime>) -> Result<Entered<'_>, Error> {
    let running = runtime.enter()?;
    with_loops(|loops| loops.running.push(Rc::clone(runtime)))?;
    Ok(Entered(running))
}

pub(crate) struct Entered<'a>(Running<'a>);

impl Entered<'_> {
    pub(crate) fn runtime(&self) -> &Rc<Runtime> {
        self.0.runtime()
    }
}

impl Drop for Entered<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        // An error means that the thread is ending, so there is nothing to do.
        let _ended = with_loops(|loops| loops.running.pop());
    }
}

#[inline]
fn with_loops<R>(act: impl FnOnce(&mut Loops) -> R) -> Result<R, Error> {
    LOOPS
        .try_with(|loops| act(&mut loops.borrow_mut()))
        .map_err(|_| Error::new("the thread is being torn down: it has no event loop any more"))
}
