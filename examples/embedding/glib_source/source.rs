//! A source of GLib for an `EventLoop`. The safe interface of the crate `glib` has no sources of one's own.
#![allow(unsafe_code)]

use std::mem;
use std::os::fd::AsRawFd;
use std::time::Duration;

use asynchat::{EventLoop, Result};
use glib::ffi::{
    self, GFALSE, GIOCondition, GSource, GSourceFunc, GSourceFuncs, GTRUE, gboolean, gpointer,
};
use glib::translate::IntoGlib;

/// Below the priority of GTK's redraws, which is 120, and above that of idle calls, which is 200. So input that never
/// ends cannot keep a window from being drawn.
const PRIORITY: i32 = ffi::G_PRIORITY_HIGH_IDLE + 30;

/// Adds a source to the default main context, which this thread must iterate. GLib takes turns of the loop with it, of
/// at most `budget`, until nothing is left to run for. Then `done` is called.
pub(crate) fn attach(
    event_loop: &EventLoop,
    budget: Duration,
    done: impl FnOnce(Result) + 'static,
) {
    let inner = Box::new(Inner {
        event_loop: event_loop.clone(),
        budget,
        done: Some(Box::new(done)),
    });
    // SAFETY: The functions in FUNCS fit a `Source`, whose size is given, and GLib does not write to FUNCS. `inner` is
    // set before the source is attached, so no function sees it unset. The context keeps its own reference to the
    // source, so this one is given up.
    unsafe {
        let funcs = (&raw const FUNCS).cast_mut();
        let source = ffi::g_source_new(funcs, mem::size_of::<Source>() as u32);
        (*source.cast::<Source>()).inner = Box::into_raw(inner);
        let watched = GIOCondition::from(ffi::G_IO_IN);
        (*source.cast::<Source>()).tag =
            ffi::g_source_add_unix_fd(source, event_loop.as_raw_fd(), watched);
        ffi::g_source_set_priority(source, PRIORITY);
        ffi::g_source_attach(source, std::ptr::null_mut());
        ffi::g_source_unref(source);
    }
}

/// GLib's part of a source, and ours.
#[repr(C)]
struct Source {
    base: GSource,
    /// What GLib calls the descriptor.
    tag: gpointer,
    inner: *mut Inner,
}

struct Inner {
    event_loop: EventLoop,
    budget: Duration,
    done: Option<Box<dyn FnOnce(Result)>>,
}

static FUNCS: GSourceFuncs = GSourceFuncs {
    prepare: Some(prepare),
    check: Some(check),
    dispatch: Some(dispatch),
    finalize: Some(finalize),
    closure_callback: None,
    closure_marshal: None,
};

/// Before GLib sleeps: may it, and for how long?
unsafe extern "C" fn prepare(source: *mut GSource, timeout: *mut i32) -> gboolean {
    // SAFETY: GLib calls this for a source that `attach` has made and that is not finalized, on the thread that
    // iterates the context. `timeout` points to an integer of GLib's.
    let (inner, timeout) = unsafe { (&*(*source.cast::<Source>()).inner, &mut *timeout) };
    let next = inner.event_loop.next_timeout();
    // Rounded up: otherwise GLib would not sleep during the last millisecond before a timer.
    let millis = |time: Duration| time.as_nanos().div_ceil(1_000_000);
    *timeout = next.map_or(-1, |time| i32::try_from(millis(time)).unwrap_or(i32::MAX));
    (next == Some(Duration::ZERO)).into_glib()
}

/// After the sleep: is there anything to do?
unsafe extern "C" fn check(source: *mut GSource) -> gboolean {
    // SAFETY: As in `prepare`. The tag is that of a descriptor of this source.
    let (inner, found) = unsafe {
        let ours = source.cast::<Source>();
        (
            &*(*ours).inner,
            ffi::g_source_query_unix_fd(source, (*ours).tag),
        )
    };
    (found != 0 || inner.event_loop.next_timeout() == Some(Duration::ZERO)).into_glib()
}

/// GLib does not call this for a source that it is dispatching, and ignores the source meanwhile. So a nested main loop
/// that a callback runs neither comes here nor spins.
unsafe extern "C" fn dispatch(source: *mut GSource, _: GSourceFunc, _: gpointer) -> gboolean {
    // SAFETY: As in `prepare`. `done` is changed only here, and the reference to it ends before it is called.
    let inner = unsafe { (*source.cast::<Source>()).inner };
    // SAFETY: As above. This shared reference may exist together with those of `prepare` and `check`.
    let (event_loop, budget) = unsafe { ((*inner).event_loop.clone(), (*inner).budget) };
    let outcome = match event_loop.run_for(budget) {
        Ok(true) => return GTRUE,
        Ok(false) => Ok(()),
        Err(error) => Err(error.into()),
    };
    // SAFETY: As above. No other reference exists while GLib dispatches the source.
    if let Some(done) = unsafe { (*inner).done.take() } {
        done(outcome);
    }
    // Removes the source.
    GFALSE
}

unsafe extern "C" fn finalize(source: *mut GSource) {
    // SAFETY: GLib calls this once, at the end. `inner` comes from `Box::into_raw`.
    drop(unsafe { Box::from_raw((*source.cast::<Source>()).inner) });
}
