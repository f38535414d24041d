//! The access log, in the combined format of Apache, which goaccess and other programs read:
//!
//! ```text
//! 127.0.0.1 - ann [06/Nov/1994:08:49:37 +0000] "GET /a HTTP/1.1" 200 5 "http://x/" "curl/8"
//! 127.0.0.1 - ann [06/Nov/1994:08:49:38 +0000] "RETR /a FTP" 226 5 "-" "-"
//! 127.0.0.1 - - [06/Nov/1994:08:49:39 +0000] "-" 400 40 "-" "-"
//! ```
//!
//! The second line is a transfer of FTP, and the third one is input that is no request. goaccess accepts all three, and
//! shows "RETR /a FTP" as a path without a method.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use asynchat::Addr;

use crate::digits::decimal;

/// So many bytes of lines are written at once.
const FULL: usize = 32 << 10;

/// How long a line waits for others.
const PERIOD: Duration = Duration::from_secs(1);

/// The longest value of a request in a line.
const LONGEST: usize = 2048;

/// A file to which lines are appended.
#[derive(Clone)]
pub struct AccessLog(Rc<Shared>);

struct Shared {
    path: PathBuf,
    file: RefCell<File>,
    lines: RefCell<Vec<u8>>,
    /// Whether the last line in the file lacks its end.
    is_torn: Cell<bool>,
    /// The memory of a line that was added, for the next one.
    spare: Cell<Vec<u8>>,
}

/// What a line says of a request.
pub struct Request<'a> {
    pub user: Option<&'a str>,
    pub method: &'a str,
    pub target: &'a str,
    /// `HTTP/1.1`
    pub protocol: &'a str,
    pub referer: Option<&'a [u8]>,
    pub user_agent: Option<&'a [u8]>,
}

/// A line without the outcome.
pub struct Line {
    log: AccessLog,
    text: Vec<u8>,
    /// Where the outcome goes.
    outcome: usize,
}

impl AccessLog {
    pub fn open(path: &Path) -> io::Result<AccessLog> {
        let (file, is_torn) = open(path)?;
        Ok(AccessLog(Rc::new(Shared {
            path: path.to_owned(),
            file: RefCell::new(file),
            lines: RefCell::default(),
            is_torn: Cell::new(is_torn),
            spare: Cell::default(),
        })))
    }

    /// Opens the file by its name once more, because it may have been renamed (logrotate). If that fails, the lines go to
    /// the file that is open.
    #[cfg_attr(windows, expect(dead_code))] // Windows has no SIGHUP.
    pub fn reopen(&self) {
        self.0.write();
        match open(&self.0.path) {
            Ok((file, is_torn)) => {
                self.0.file.replace(file);
                self.0.is_torn.set(is_torn);
            }
            Err(error) => {
                let path = self.0.path.display();
                tracing::error!(%path, %error, "the access log cannot be opened: lines go on to the file that was open");
            }
        }
    }

    pub fn request(&self, peer: Option<&Addr>, date: &str, request: &Request<'_>) -> Line {
        let mut text = self.start(peer, request.user, date);
        escape(&mut text, request.method.as_bytes());
        text.push(b' ');
        escape(&mut text, request.target.as_bytes());
        push(&mut text, [" ", request.protocol, "\" "]);
        let outcome = text.len();
        for value in [request.referer, request.user_agent] {
            text.extend_from_slice(b" \"");
            escape(&mut text, value.unwrap_or(b"-"));
            text.push(b'"');
        }
        let log = self.clone();
        Line { log, text, outcome }
    }

    /// For what is no request.
    pub fn refused(&self, peer: Option<&Addr>, date: &str) -> Line {
        let mut text = self.start(peer, None, date);
        push(&mut text, ["-\" "]);
        let outcome = text.len();
        push(&mut text, [" \"-\" \"-\""]);
        let log = self.clone();
        Line { log, text, outcome }
    }

    /// A line up to the request.
    fn start(&self, peer: Option<&Addr>, user: Option<&str>, date: &str) -> Vec<u8> {
        let mut text = self.0.spare.take();
        text.clear();
        match peer.and_then(Addr::ip) {
            Some(ip) => push_ip(&mut text, ip),
            None => text.push(b'-'),
        }
        push(&mut text, [" - "]);
        match user {
            Some(user) => escape(&mut text, user.replace(' ', "+").as_bytes()),
            None => text.push(b'-'),
        }
        push(&mut text, [" [", date, "] \""]);
        text
    }

    /// The lines are written when there are many, and after a second.
    fn add(&self, line: Line, status: u16, bytes: u64) {
        let mut lines = self.0.lines.borrow_mut();
        if lines.is_empty() {
            let shared = Rc::downgrade(&self.0);
            asynchat::call_later(PERIOD, move || {
                if let Some(shared) = shared.upgrade() {
                    shared.write();
                }
            });
        }
        let (start, end) = line.text.split_at(line.outcome);
        lines.extend_from_slice(start);
        lines.extend_from_slice(decimal(status).as_bytes());
        lines.push(b' ');
        match bytes {
            0 => lines.push(b'-'),
            _ => lines.extend_from_slice(decimal(bytes).as_bytes()),
        }
        lines.extend_from_slice(end);
        lines.push(b'\n');
        self.0.spare.set(line.text);
        let is_full = lines.len() >= FULL;
        drop(lines);
        if is_full {
            self.0.write();
        }
    }
}

/// Opens the log, and looks whether its last line lacks its end: the disk of an earlier server may have been full.
fn open(path: &Path) -> io::Result<(File, bool)> {
    let mut options = File::options();
    options.append(true).create(true);
    // A pipe that nobody reads must not stop the loop, neither here nor when a line is written.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(
        &mut options,
        rustix::fs::OFlags::NONBLOCK.bits().cast_signed(),
    );
    let file = options
        .open(path)
        .map_err(|error| match error.raw_os_error() {
            #[cfg(unix)]
            Some(code) if code == rustix::io::Errno::NXIO.raw_os_error() && is_pipe(path) => {
                io::Error::new(error.kind(), "nobody reads the pipe")
            }
            _ => error,
        })?;
    // Not of a pipe: nobody may write to it yet.
    let is_torn = file.metadata()?.is_file() && last_byte(path).is_ok_and(|it| it != b'\n');
    Ok((file, is_torn))
}

#[cfg(unix)]
fn is_pipe(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;

    path.metadata().is_ok_and(|it| it.file_type().is_fifo())
}

/// The last byte of a file that is not empty.
fn last_byte(path: &Path) -> io::Result<u8> {
    let mut file = File::open(path)?;
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last[0])
}

impl Shared {
    fn write(&self) {
        let mut lines = self.lines.borrow_mut();
        let mut file = self.file.borrow_mut();
        // Whoever rotates the log may have emptied it, or opened another one.
        let has_content = || {
            let found = file.metadata();
            found.is_ok_and(|it| !it.is_file() || it.len() > 0)
        };
        let mut is_torn = self.is_torn.get() && has_content();
        if let Err(error) = write_lines(&mut *file, &mut lines, &mut is_torn) {
            tracing::warn!(%error, "the access log cannot be written");
        }
        self.is_torn.set(is_torn);
        lines.clear();
    }
}

/// Writes lines. A full disk may take a part of a line, whose rest is lost. `is_torn`: whether such a line is at the end.
/// The next lines begin behind a newline then.
fn write_lines(file: &mut impl Write, lines: &mut Vec<u8>, is_torn: &mut bool) -> io::Result<()> {
    if *is_torn && !lines.is_empty() {
        lines.insert(0, b'\n');
    }
    let mut rest = lines.as_slice();
    while !rest.is_empty() {
        match file.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                *is_torn = rest[count - 1] != b'\n';
                rest = &rest[count..];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.write();
    }
}

impl Line {
    /// Logs the request, with the bytes of the body that were sent.
    pub fn finish(self, status: u16, bytes: u64) {
        let log = self.log.clone();
        log.add(self, status, bytes);
    }
}

fn push<const N: usize>(line: &mut Vec<u8>, parts: [&str; N]) {
    for part in parts {
        line.extend_from_slice(part.as_bytes());
    }
}

fn push_ip(line: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets().map(decimal);
            line.extend_from_slice(a.as_bytes());
            for number in [b, c, d] {
                line.push(b'.');
                line.extend_from_slice(number.as_bytes());
            }
        }
        // Writing to memory does not fail.
        IpAddr::V6(ip) => drop(write!(line, "{ip}")),
    }
}

/// As Apache does: a client must not forge lines, nor control the terminal of somebody who reads them.
fn escape(line: &mut Vec<u8>, value: &[u8]) {
    let value = &value[..value.len().min(LONGEST)];
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !b"\"\\".contains(byte);
    if value.iter().all(is_plain) {
        return line.extend_from_slice(value);
    }
    for &byte in value {
        match byte {
            b'"' | b'\\' => line.extend([b'\\', byte]),
            b' '..=b'~' => line.push(byte),
            _ => drop(write!(line, "\\x{byte:02x}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Windows does not rename a file that is open.
    #[cfg(unix)]
    #[test]
    fn a_log_that_was_renamed_is_opened_by_its_name_once_more() -> io::Result<()> {
        let folder = std::env::temp_dir().join(format!("access-log-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let (path, renamed) = (folder.join("log"), folder.join("log.1"));
        let log = AccessLog::open(&path)?;
        log.refused(None, "before").finish(400, 0);
        fs::rename(&path, &renamed)?;
        log.reopen();
        log.refused(None, "after").finish(400, 0);
        // Where it cannot be opened, the lines go to the file that is open.
        fs::remove_file(&path)?;
        fs::create_dir(&path)?;
        log.reopen();
        fs::remove_dir(&path)?;
        log.reopen();
        log.refused(None, "last").finish(400, 0);
        drop(log);
        assert_eq!(
            fs::read_to_string(&renamed)?,
            "- - - [before] \"-\" 400 - \"-\" \"-\"\n"
        );
        assert_eq!(
            fs::read_to_string(&path)?,
            "- - - [last] \"-\" 400 - \"-\" \"-\"\n"
        );
        fs::remove_dir_all(&folder)
    }

    #[test]
    fn a_line_that_an_earlier_server_could_not_finish_is_not_continued() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("log");
        for (before, after) in [("", "- "), ("torn", "torn\n- "), ("whole\n", "whole\n- ")] {
            fs::write(&path, before)?;
            AccessLog::open(&path)?.refused(None, "x").finish(400, 0);
            let content = fs::read_to_string(&path)?;
            assert!(content.starts_with(after), "{content:?}");
        }
        Ok(())
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_that_nobody_reads_stops_nothing() -> io::Result<()> {
        use std::os::unix::fs::OpenOptionsExt;

        use rustix::fs::OFlags;

        let folder = tempfile::tempdir()?;
        let path = folder.path().join("pipe");
        // `rustix` has no function for this on macOS.
        let made = std::process::Command::new("mkfifo").arg(&path).status()?;
        assert!(made.success());
        let error = AccessLog::open(&path).map(drop).unwrap_err();
        assert_eq!(error.to_string(), "nobody reads the pipe");
        let mut options = File::options();
        let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
        let mut reader = options.read(true).custom_flags(nonblocking).open(&path)?;
        let log = AccessLog::open(&path)?;
        let fill = || {
            for _ in 0..10_000 {
                log.refused(None, "x").finish(400, 0);
            }
        };
        fill();
        let mut lines = String::new();
        let end = reader.read_to_string(&mut lines);
        assert!(end.is_err_and(|it| it.kind() == io::ErrorKind::WouldBlock));
        let (first, _) = lines.split_once('\n').unwrap();
        assert_eq!(first, "- - - [x] \"-\" 400 - \"-\" \"-\"");
        drop(reader);
        log.reopen();
        fill();
        Ok(())
    }

    /// A disk with room for so many bytes.
    struct Disk {
        room: usize,
        content: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.room);
            if count == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room -= count;
            self.content.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_a_full_disk_has_cut_is_not_continued() {
        for (room, content) in [
            (0, "third\nlast\n"),
            (3, "fir\nthird\nlast\n"),
            (6, "first\nthird\nlast\n"),
            (8, "first\nse\nthird\nlast\n"),
        ] {
            let mut disk = Disk {
                room,
                content: vec![],
            };
            let mut is_torn = false;
            let mut write = |disk: &mut Disk, lines: &str| {
                write_lines(disk, &mut lines.as_bytes().to_vec(), &mut is_torn)
            };
            for lines in ["first\nsecond\n", "lost\n", ""] {
                assert_eq!(write(&mut disk, lines).is_err(), !lines.is_empty());
            }
            disk.room = 100;
            write(&mut disk, "third\n").unwrap();
            write(&mut disk, "last\n").unwrap();
            assert_eq!(String::from_utf8(disk.content).unwrap(), content);
        }
    }

    #[test]
    fn a_value_stays_in_its_quotes() {
        let mut line = Vec::new();
        super::escape(&mut line, b"a\" b\\\n\x1b\xc3\xa9");
        assert_eq!(line, b"a\\\" b\\\\\\x0a\\x1b\\xc3\\xa9");
    }
}
