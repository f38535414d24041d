//! Child processes: one as a chat, and the end of any.

use std::fmt;
use std::io;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::channel::dispatcher::Dispatcher;
use crate::channel::handle::Channel;
use crate::chat::handle::Chat;
use crate::chat::into_session::IntoSession;
use crate::error::{Close, Error, Result};
use crate::event_loop::EventLoop;
use crate::log::log;
use crate::net::connector::Connector;
use crate::state::Kind;
use crate::sys::socket::Socket;
use crate::user_code::Discarded;

/// A child process that a session talks to. The session receives the standard output of the process as
/// records, and what it pushes is the standard input. Available on Unix except OpenBSD; other systems
/// cannot wait for pipes, or for a process without collecting its status.
///
/// [`chat`](Subprocess::chat) is the chat with it. [`Chat::shutdown_write`] ends the input of the process, for
/// which many programs wait. Dropping a `Subprocess` does nothing. When the chat ends, the process is not killed:
/// it reads the end of its input, and gets SIGPIPE if it writes more output.
///
/// While more than [`Limits::high_water`](crate::Limits::high_water) is queued for the process, its
/// output is not read. A process that writes while it reads, such as `cat`, then blocks on its output
/// and stops reading, so that neither side can continue. For such a process, queue less than that at a
/// time, raise the marks with [`Limits::high_water`](crate::Limits::high_water), or use [`pipe`](crate::pipe()),
/// whose two directions do not wait for each other.
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
/// sort.chat().push("water\ngold\n");
/// sort.chat().shutdown_write();
/// asynchat::run()?;
/// assert!(succeeded.get());
/// # Ok(()) }
/// ```
pub struct Subprocess {
    chat: Chat,
    process: ExitWatcher,
}

impl Subprocess {
    /// Starts `command` with pipes as its standard input and output, on this thread's loop. Its standard
    /// error is left as set in `command`: by default it is that of this process.
    ///
    /// The loop calls `factory` for the session, as for [`Connector::connect`]. It calls `exited` once,
    /// when the process has ended; records of its output may still follow. Until then
    /// [`run`](crate::run) does not return, and a [shutdown](crate::shutdown) waits until its grace is
    /// over. If the loop stops waiting earlier ([`close_all`](crate::close_all), the end of the grace, the
    /// loop is dropped), it calls `exited` with an error, as the process may still run. Its status is
    /// collected in any case, so no zombie remains.
    ///
    /// # Errors
    /// As [`spawn_on`](Subprocess::spawn_on), and as [`EventLoop::current`].
    pub fn spawn<I: IntoSession>(
        command: &mut Command,
        factory: impl FnOnce(Chat) -> I + 'static,
        exited: impl FnOnce(io::Result<ExitStatus>) + 'static,
    ) -> Result<Self, Error> {
        Subprocess::spawn_on(&EventLoop::current()?, command, factory, exited)
    }

    /// As [`spawn`](Subprocess::spawn), on the loop given.
    ///
    /// # Errors
    /// When the process cannot be started, or the system has no pipe or thread left. When the loop is shutting
    /// down. A process that has been started by then is killed.
    pub fn spawn_on<I: IntoSession>(
        event_loop: &EventLoop,
        command: &mut Command,
        factory: impl FnOnce(Chat) -> I + 'static,
        exited: impl FnOnce(io::Result<ExitStatus>) + 'static,
    ) -> Result<Self, Error> {
        // Where this fails, both functions are dropped, perhaps in one unwinding.
        let exited = guarded(exited);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| {
                let program = command.get_program().to_string_lossy();
                Error::from(error).context(format_args!("start {program}"))
            })?;
        let pipes = (child.stdout.take(), child.stdin.take());
        let process = ExitWatcher::of(child);
        let attach = || -> Result<Chat, Error> {
            let (Some(output), Some(input)) = pipes else {
                return Err(Error::new("the process has no pipes"));
            };
            let pipes = Socket::halves(output, input);
            let chat = Connector::adopt(pipes).connect_on(event_loop, factory)?;
            if let Err(error) = process.call_at_exit(event_loop, exited) {
                chat.close();
                return Err(error);
            }
            Ok(chat)
        };
        let chat = attach().inspect_err(|_| process.end_at_once())?;
        Ok(Subprocess { chat, process })
    }

    /// The chat whose records are the output of the process, and whose output is its input.
    pub fn chat(&self) -> &Chat {
        &self.chat
    }

    /// Takes the pipe of the standard error of the process, to be passed to [`Connector::adopt`]. `None` unless
    /// `command` had [`Stdio::piped`] for it, and after the first call.
    ///
    /// ```
    /// use std::process::{Command, Stdio};
    ///
    /// use asynchat::{Connector, Subprocess, Terminator};
    ///
    /// # fn main() -> asynchat::Result {
    /// let mut command = Command::new("sh");
    /// command.args(["-c", "echo to stdout; echo to stderr >&2"]).stderr(Stdio::piped());
    /// let job = Subprocess::spawn(&mut command, |_| |_: &[u8]| Ok(()), |_| ())?;
    /// if let Some(errors) = job.take_stderr() {
    ///     let errors = Connector::adopt(errors).connect(|_| |line: &[u8]| {
    ///         println!("error: {}", String::from_utf8_lossy(line));
    ///         Ok(())
    ///     })?;
    ///     errors.set_terminator(Terminator::line());
    /// }
    /// # asynchat::run()?;
    /// # Ok(()) }
    /// ```
    pub fn take_stderr(&self) -> Option<ChildStderr> {
        lock(&self.process.child).stderr.take()
    }

    /// The process id. The system may reuse it after `exited` was called.
    pub fn process_id(&self) -> u32 {
        self.process.process_id()
    }

    /// Kills the process (SIGKILL). Does nothing if it has ended.
    ///
    /// # Errors
    /// When the system does not permit it: the process runs as another user.
    pub fn kill(&self) -> io::Result<()> {
        self.process.kill()
    }
}

impl fmt::Debug for Subprocess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subprocess")
            .field("process_id", &self.process_id())
            .field("chat", &self.chat)
            .finish()
    }
}

/// Watches any child process, and calls a function when it has ended: one that a
/// [`Subprocess`] does not fit, because it has a terminal, its own files, or no pipes. Available where
/// `Subprocess` is. Dropping the watcher does nothing: the function is called all the same.
///
/// A thread waits for each child, because a child can only be waited for by its process, and a signal for the death
/// of any child would be the program's to use. So a child costs a thread and a pipe until it ends.
///
/// ```
/// use std::process::Command;
///
/// use asynchat::ExitWatcher;
///
/// # fn main() -> asynchat::Result {
/// let child = Command::new("true").spawn()?;
/// ExitWatcher::watch(child, |status| match status {
///     Ok(status) => println!("it has ended: {status}"),
///     Err(error) => println!("{error}"),
/// })?;
/// asynchat::run()?;
/// # Ok(()) }
/// ```
pub struct ExitWatcher {
    child: Arc<Mutex<Child>>,
    id: u32,
}

impl ExitWatcher {
    /// Makes this thread's loop call `exited` once, when the process has ended, as [`Subprocess::spawn`] does.
    /// Take the pipes that you need out of `child` first. The watcher closes the others when `exited` has been
    /// called and the watcher is dropped; the standard input is closed at once, as by [`Child::wait`].
    ///
    /// # Errors
    /// As [`watch_on`](ExitWatcher::watch_on), and as [`EventLoop::current`]. The process is killed then, too.
    pub fn watch(
        child: Child,
        exited: impl FnOnce(io::Result<ExitStatus>) + 'static,
    ) -> Result<Self, Error> {
        match EventLoop::current() {
            Ok(event_loop) => ExitWatcher::watch_on(&event_loop, child, exited),
            Err(error) => {
                ExitWatcher::of(child).end_at_once();
                Err(error)
            }
        }
    }

    /// As [`watch`](ExitWatcher::watch), on the loop given.
    ///
    /// # Errors
    /// When the system has no pipe or thread left, or the loop is shutting down. The process is killed then.
    pub fn watch_on(
        event_loop: &EventLoop,
        mut child: Child,
        exited: impl FnOnce(io::Result<ExitStatus>) + 'static,
    ) -> Result<Self, Error> {
        drop(child.stdin.take());
        let process = ExitWatcher::of(child);
        process
            .call_at_exit(event_loop, exited)
            .inspect_err(|_| process.end_at_once())?;
        Ok(process)
    }

    /// The process id. The system may reuse it after `exited` was called.
    pub fn process_id(&self) -> u32 {
        self.id
    }

    /// Kills the process (SIGKILL). Does nothing if it has ended.
    ///
    /// # Errors
    /// When the system does not permit it: the process runs as another user.
    pub fn kill(&self) -> io::Result<()> {
        lock(&self.child).kill()
    }

    fn of(child: Child) -> Self {
        ExitWatcher {
            id: child.id(),
            child: Arc::new(Mutex::new(child)),
        }
    }

    /// Kills the process and collects its status. The error of the caller is the one to return: killing fails
    /// only for a process that has ended.
    fn end_at_once(&self) {
        let mut child = lock(&self.child);
        let _ = child.kill();
        let _ = child.wait();
    }

    /// Makes the loop call `exited` when the process has ended. A thread waits for the process, because no other
    /// way is available on every Unix and leaves the program's other children alone. The thread owns the writing
    /// end of a pipe. It closes that end when the process has ended, and the loop sees the end of the pipe's
    /// input.
    fn call_at_exit(
        &self,
        event_loop: &EventLoop,
        exited: impl FnOnce(io::Result<ExitStatus>) + 'static,
    ) -> Result<(), Error> {
        let (reader, writer) = io::pipe().map_err(Error::new)?;
        let (id, collected) = (self.id, Arc::clone(&self.child));
        thread::Builder::new()
            .name(format!("wait for {id}"))
            .spawn(move || {
                wait_for_end(id);
                // Here, because the loop may be gone. `Child` stores the status for later calls.
                let status = lock(&collected).wait();
                if let Err(error) = status {
                    log!(debug, %error, id, "another part of the program has collected a process");
                }
                drop(writer);
            })
            .map_err(Error::new)?;
        let channel = Channel::adopt(reader)?;
        channel.0.kind.set(Kind::Internal);
        event_loop.register(Exit {
            channel,
            child: Arc::clone(&self.child),
            exited: Some(exited),
        })?;
        Ok(())
    }
}

impl fmt::Debug for ExitWatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExitWatcher")
            .field("process_id", &self.id)
            .finish_non_exhaustive()
    }
}

/// A function that is dropped under its own `catch_unwind` if it is not called: its destructor is user code.
fn guarded<T>(call: impl FnOnce(T)) -> impl FnOnce(T) {
    let mut call = Discarded([call].into());
    move |argument| {
        if let Some(call) = call.0.pop_front() {
            call(argument);
        }
    }
}

fn lock(child: &Mutex<Child>) -> MutexGuard<'_, Child> {
    child.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for the end of the process, and leaves its status, which is collected under the lock. Until then
/// the system does not reuse the process id, so [`Subprocess::kill`] cannot kill another process.
fn wait_for_end(id: u32) {
    let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) else {
        return;
    };
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(pid), options) {}
}

/// The dispatcher of the pipe's reading end, which ends when the process has ended.
struct Exit<F> {
    channel: Channel,
    child: Arc<Mutex<Child>>,
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
            let mut child = lock(&self.child);
            match why {
                Close::Eof => child.wait(),
                _ => child.try_wait().and_then(|status| {
                    status.ok_or_else(|| {
                        let id = child.id();
                        io::Error::other(format!(
                            "the loop has stopped waiting for process {id}: {why}"
                        ))
                    })
                }),
            }
        };
        exited(status);
    }
}
