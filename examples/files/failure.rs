//! Errors of the file system, which HTTP and FTP report in their own words. Those that are the server's own, such as a
//! disk that fails, are logged with the path, which a reply does not have.

use std::io::{self, ErrorKind};

use asynchat::{More, Producer};
use tracing::warn;

use crate::names::Names;

/// Why a file or a folder cannot be used.
pub enum Failure {
    Missing,
    /// The system refuses it to the server, or it is no file, such as a pipe.
    Refused,
    IsFolder,
    Exists,
    NotEmpty,
    Impossible,
    /// Somebody else uses the file, or it is a program that runs, or a file system is mounted there.
    InUse,
    NoRoom,
    /// Larger than the file system permits.
    TooLarge,
    /// No descriptor or no memory is left, which passes.
    Busy,
    /// Any other error, usually of the disk.
    Broken,
}

impl Failure {
    /// Classifies the error, and logs it if the operator of the server may have to act.
    pub fn of(names: &Names, error: &io::Error) -> Failure {
        Failure::classify_and_log(&format!("/{}", names.display()), error)
    }

    /// The same for a rename. The log has both names, because either can be the cause.
    pub fn of_rename(from: &Names, to: &Names, error: &io::Error) -> Failure {
        let path = format!("/{} -> /{}", from.display(), to.display());
        Failure::classify_and_log(&path, error)
    }

    fn classify_and_log(path: &str, error: &io::Error) -> Failure {
        let failure = Failure::classify(error);
        match failure {
            Failure::NoRoom | Failure::Broken => {
                warn!(path, %error, "a file or a folder cannot be used");
            }
            // The system has refused it. This program's own refusal of a pipe has no number.
            Failure::Refused if error.raw_os_error().is_none() => {}
            // A client can cause these as often as it wants. Each `warn!` has a limit of ten a second, so these do not suppress
            // the errors of the disk.
            Failure::Refused | Failure::TooLarge | Failure::Busy => {
                warn!(path, %error, "a file or a folder cannot be used");
            }
            _ => {}
        }
        failure
    }

    fn classify(error: &io::Error) -> Failure {
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidFilename => {
                Failure::Missing
            }
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Failure::Refused,
            ErrorKind::IsADirectory => Failure::IsFolder,
            ErrorKind::AlreadyExists => Failure::Exists,
            ErrorKind::DirectoryNotEmpty => Failure::NotEmpty,
            ErrorKind::InvalidInput | ErrorKind::CrossesDevices => Failure::Impossible,
            ErrorKind::WouldBlock | ErrorKind::ResourceBusy | ErrorKind::ExecutableFileBusy => {
                Failure::InUse
            }
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Failure::NoRoom,
            ErrorKind::FileTooLarge => Failure::TooLarge,
            ErrorKind::OutOfMemory => Failure::Busy,
            _ if is_without_descriptor(error) => Failure::Busy,
            _ if is_locked(error) => Failure::InUse,
            _ => Failure::Broken,
        }
    }
}

/// Whether the process, or the system, has no descriptor left.
#[cfg(unix)]
fn is_without_descriptor(error: &io::Error) -> bool {
    use rustix::io::Errno;

    let found = Errno::from_io_error(error);
    matches!(found, Some(Errno::MFILE | Errno::NFILE))
}

/// `ERROR_TOO_MANY_OPEN_FILES`.
#[cfg(not(unix))]
fn is_without_descriptor(error: &io::Error) -> bool {
    error.raw_os_error() == Some(4)
}

/// Whether another program has opened or locked the file: `ERROR_SHARING_VIOLATION`, `ERROR_LOCK_VIOLATION`. The
/// errors of Unix have an `ErrorKind`.
fn is_locked(error: &io::Error) -> bool {
    cfg!(windows) && matches!(error.raw_os_error(), Some(32 | 33))
}

/// A producer that reads a file or a folder, and logs its error. The reply has begun by then, and is cut.
pub struct Logged<P> {
    producer: P,
    names: Names,
}

impl<P: Producer> Logged<P> {
    pub fn new(producer: P, names: Names) -> Logged<P> {
        Logged { producer, names }
    }
}

impl<P: Producer> Producer for Logged<P> {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        let more = self.producer.more(budget);
        if let Err(error) = &more {
            Failure::of(&self.names, error);
        }
        more
    }
}

#[cfg(all(test, windows))]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_another_program_has_opened_is_in_use() {
        let failure = |number| Failure::classify(&io::Error::from_raw_os_error(number));
        assert!(matches!(failure(4), Failure::Busy));
        assert!(matches!(failure(32), Failure::InUse));
        assert!(matches!(failure(33), Failure::InUse));
    }
}
