//! A child process as a chat.

use std::fmt;
use std::io;
use std::ops::Deref;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::log::log;
use crate::{AsyncChat, Channel, Chat, Close, Connector, Dispatcher, Error, Result, Socket};

/// A child process whose standard input and output a session talks to: its output comes as records,
/// what is pushed is its input. Unix only, without OpenBSD: elsewhere
/// a pipe, or a process, can not be waited for.
///
/// It derefs to its [`Chat`]. [`Chat::shutdown_write`] is the end of its input, which many programs
/// wait for. Dropping it, and the end of the chat, leave the process alone: it sees its input end,
/// and SIGPIPE if it goes on writing.
///
/// While more than [`Limits::high_water`](crate::Limits::high_water) is queued for the process, its
/// output is not read. A process that writes while it reads, such as `cat`, then blocks on its
/// output, stops reading, and neither side moves again. For such a process queue less than that at a
/// time, lift the marks with [`Limits::water`](crate::Limits::water), or use [`pipe`](crate::pipe()), whose
/// two directions do not wait for each other.
///
/// ```
/// use std::process::Command;
/// use std::rc::Rc;
/// use std::cell::Cell;
///
/// use asynchat::{Subprocess, Terminator};
///
/// # fn main() -> asynchat::Result {
/// let succeeded = Rc::new(Cell::new(false));
/// let outcome = Rc::clone(&succeeded);
/// let sort = Subprocess::spawn(
///     &mut Command::new("sort"),
///     |chat| {
///         chat.set_terminator(Terminator::line());
///         |line: &[u8]| {
///             println!("{}", String::from_utf8_lossy(line));
///             Ok(())
///         }
///     },
///     move |status| outcome.set(status.is_ok_and(|status| status.success())),
/// )?;
/// sort.push("water\ngold\n");
/// sort.shutdown_write();
/// asynchat::run()?;
/// assert!(succeeded.get());
/// # Ok(()) }
/// ```
pub struct Subprocess {
    chat: Chat,
    child: Arc<Mutex<std::process::Child>>,
    id: u32,
}

impl Subprocess {
    /// Starts `command`, with pipes for its standard input and output, on this thread's loop. Its
    /// standard error is what `command` says: this process's, unless it was changed.
    ///
    /// `factory` makes the session, as for [`Connector::connect`]. `exited` is called by the loop, once,
    /// when the process has ended; its output may still be on its way then. Until that call the loop has
    /// something to run for, and a [shutdown](crate::shutdown) waits for it as long as its grace lasts.
    /// If the loop stops waiting before ([`close_all`](crate::close_all), the end of the grace, the end
    /// of the loop), `exited` is called with an error then: the process may be running. It is collected
    /// all the same.
    ///
    /// # Errors
    /// When the process can not be started, or there is no loop, thread or pipe to be had. A process
    /// that was started by then is killed.
    pub fn spawn<S: AsyncChat>(
        command: &mut Command,
        factory: impl FnOnce(Chat) -> S + 'static,
        exited: impl FnOnce(io::Result<ExitStatus>) + 'static,
    ) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| {
                let program = command.get_program().to_string_lossy();
                Error::from(error).context(format_args!("start {program}"))
            })?;
        let id = child.id();
        let pipes = (child.stdout.take(), child.stdin.take());
        let child = Arc::new(Mutex::new(child));
        let attach = || -> Result<Chat> {
            let (Some(output), Some(input)) = pipes else {
                return Err(Error::new("the pipes of a process are missing"));
            };
            let chat = Connector::adopt(Socket::halves(output, input)).connect(factory)?;
            if let Err(error) = report(&child, id, exited) {
                chat.close();
                return Err(error);
            }
            Ok(chat)
        };
        let chat = attach().inspect_err(|_| {
            let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
            // The first error is the one to tell; a process that can not be killed has ended.
            let _ = child.kill();
            let _ = child.wait();
        })?;
        Ok(Subprocess { chat, child, id })
    }

    /// The number of the process.
    pub fn process_id(&self) -> u32 {
        self.id
    }

    /// Ends the process at once (SIGKILL). One that has ended already is none the worse.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&self) -> io::Result<()> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        child.kill()
    }
}

impl Deref for Subprocess {
    type Target = Chat;

    fn deref(&self) -> &Chat {
        &self.chat
    }
}

impl fmt::Debug for Subprocess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subprocess")
            .field("process_id", &self.id)
            .field("chat", &self.chat)
            .finish()
    }
}

/// Has the loop told when the process has ended. A thread waits for it, as there is no way to do so
/// that every Unix has and that leaves the program's other children alone. It holds one end of a
/// pipe, and the loop hears the end of that.
fn report(
    child: &Arc<Mutex<std::process::Child>>,
    id: u32,
    exited: impl FnOnce(io::Result<ExitStatus>) + 'static,
) -> Result {
    let (reader, writer) = io::pipe()?;
    let child = Arc::clone(child);
    let waited = Arc::clone(&child);
    thread::Builder::new()
        .name(format!("wait for {id}"))
        .spawn(move || {
            wait_for_end(id);
            // Collected here, whatever has become of the loop by now. The status is kept.
            let status = waited.lock().unwrap_or_else(PoisonError::into_inner).wait();
            if let Err(error) = status {
                log!(debug, %error, id, "a process was collected by somebody else");
            }
            drop(writer);
        })?;
    let channel = Channel::adopt(reader)?;
    channel.0.own.set(true);
    crate::register(Exit {
        channel,
        child,
        exited: Some(exited),
    })
    .map(drop)
}

/// Waits and leaves the status, to be collected under the lock: as long as it is there the number is
/// not another's, and [`Subprocess::kill`] can not hit a stranger.
fn wait_for_end(id: u32) {
    let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) else {
        return;
    };
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(pid), options) {}
}

/// Hears that the process has ended.
struct Exit<F> {
    channel: Channel,
    child: Arc<Mutex<std::process::Child>>,
    exited: Option<F>,
}

impl<F: FnOnce(io::Result<ExitStatus>) + 'static> Dispatcher for Exit<F> {
    fn channel(&self) -> &Channel {
        &self.channel
    }

    fn handle_read(&mut self) -> Result {
        self.channel.recv(&mut [0])?;
        Ok(())
    }

    fn handle_close(&mut self, why: &Close) {
        let Some(exited) = self.exited.take() else {
            return;
        };
        let status = {
            let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
            match why {
                Close::Eof => child.wait(),
                _ => child.try_wait().and_then(|status| {
                    status.ok_or_else(|| {
                        let id = child.id();
                        io::Error::other(format!("the loop waits for process {id} no more: {why}"))
                    })
                }),
            }
        };
        exited(status);
    }
}
