//! The path of a request, as the names of folders and of a file.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt::{self, Display};
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

/// Uploads that are not complete have names with this start. They are not served.
pub const TEMPORARY: &str = ".files-upload-";

/// The longest path in bytes, as the system has it. In a URL, where each byte may be encoded, it can be three times as long.
pub const LONGEST: usize = 4096;

/// The longest name: in bytes on Unix, and in units of UTF-16 on Windows.
const LONGEST_NAME: usize = 255;

/// The most names in a path. Each folder on the way is opened, which takes a system call, and a symbolic link to its own
/// folder makes any path possible (`--follow-symlinks`).
pub const MOST_NAMES: usize = 100;

/// What is not encoded in a URL (RFC 3986 section 2.3).
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A path below the shared folder. No name in it is empty, `.` or `..`, or has a separator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    path: PathBuf,
    /// Whether the path was written as that of a folder, with a slash at its end.
    pub is_folder: bool,
}

/// Why a path leads to no file.
#[derive(Debug, PartialEq, Eq)]
pub enum Invalid {
    /// No file can have one of the names.
    Name,
    /// There are more than [`MOST_NAMES`].
    TooDeep,
    /// It has more than [`LONGEST`] bytes.
    TooLong,
}

impl Names {
    /// Parses the path of a URL, which is percent-encoded.
    ///
    /// The path is split before it is decoded, so `%2f` does not separate names: it is in a name, which is refused.
    /// `..` is refused, too: clients remove it before they send the path (RFC 3986 section 5.2.4).
    pub fn parse(path: &str) -> Result<Names, Invalid> {
        let rest = path.strip_prefix('/').ok_or(Invalid::Name)?;
        if !is_encoded(rest) {
            return Err(Invalid::Name);
        }
        let mut names = Names {
            path: PathBuf::new(),
            is_folder: rest.is_empty() || rest.ends_with('/'),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.is_empty() {
            return match path {
                "/" => Ok(names),
                _ => Err(Invalid::Name),
            };
        }
        for name in rest.split('/') {
            let decoded = Cow::from(percent_decode_str(name));
            let name = checked(decoded.into_owned()).ok_or(Invalid::Name)?;
            if names.path.as_os_str().is_empty() {
                names.path = name.into();
            } else {
                names.path.push(name);
            }
        }
        names.bounded()
    }

    /// A path of FTP, from this folder or with a slash at its start. `..` is one folder up, at most the shared folder:
    /// it is removed from the path, and does not follow what is on the disk.
    pub fn resolve(&self, path: &[u8]) -> Result<Names, Invalid> {
        let mut names = match path {
            [b'/', ..] => Names::default(),
            _ => self.as_folder(),
        };
        for name in path.split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => drop(names.path.pop()),
                name => names
                    .path
                    .push(checked(name.to_vec()).ok_or(Invalid::Name)?),
            }
        }
        let last = path.rsplit(|byte| *byte == b'/').next();
        let is_name = path.is_empty() || !matches!(last, Some(b"" | b"." | b".."));
        names.is_folder = !is_name || names.path.as_os_str().is_empty();
        names.bounded()
    }

    /// The same path, unless it has too many names or bytes.
    fn bounded(self) -> Result<Names, Invalid> {
        let length = self.path.as_os_str().len();
        // A name and its separator take two bytes at least.
        if length >= 2 * MOST_NAMES && self.path.iter().count() > MOST_NAMES {
            Err(Invalid::TooDeep)
        } else if length > LONGEST {
            Err(Invalid::TooLong)
        } else {
            Ok(self)
        }
    }

    /// The path as FTP has it: from the shared folder, with a slash at its start.
    pub fn to_ftp_path(&self) -> Vec<u8> {
        let mut path = Vec::new();
        for name in &self.path {
            path.push(b'/');
            path.extend_from_slice(name.as_encoded_bytes());
        }
        if path.is_empty() {
            path.push(b'/');
        }
        path
    }

    /// The folder that this is in.
    pub fn parent(&self) -> Names {
        let mut path = self.path.clone();
        path.pop();
        Names {
            path,
            is_folder: true,
        }
    }

    pub fn as_path(&self) -> &Path {
        &self.path
    }

    /// The last name. `None` for the shared folder.
    pub fn last(&self) -> Option<&OsStr> {
        self.path.file_name()
    }

    /// The path of something in this folder.
    pub fn join(&self, name: &str) -> Names {
        Names {
            path: self.path.join(name),
            is_folder: false,
        }
    }

    pub fn as_folder(&self) -> Names {
        Names {
            path: self.path.clone(),
            is_folder: true,
        }
    }

    /// The path as text, for people: with slashes on each system. In a log it is in quotes, because clients choose names: one
    /// could look like further fields.
    pub fn display(&self) -> String {
        let names = self.path.iter().map(OsStr::to_string_lossy);
        names.collect::<Vec<_>>().join("/")
    }
}

/// The path of a URL.
impl Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("/")?;
        for (n, name) in self.path.iter().enumerate() {
            let slash = if n > 0 { "/" } else { "" };
            write!(f, "{slash}{}", encoded(name))?;
        }
        if self.is_folder && !self.path.as_os_str().is_empty() {
            f.write_str("/")
        } else {
            Ok(())
        }
    }
}

/// A name in a URL. The name `-` is encoded, too: what is below `/-/` belongs to the server.
pub fn encoded(name: &OsStr) -> impl Display + use<'_> {
    let characters = match name.as_encoded_bytes() {
        b"-" => NON_ALPHANUMERIC,
        _ => UNRESERVED,
    };
    percent_encode(name.as_encoded_bytes(), characters)
}

/// Whether each `%` has two digits behind it.
fn is_encoded(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_hex = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
    memchr::memchr_iter(b'%', bytes).all(|at| is_hex(at + 1) && is_hex(at + 2))
}

/// Whether the name is that of an upload that is not complete. macOS and Windows find a file by its name in other letters, too.
pub fn is_temporary(name: &[u8]) -> bool {
    let start = name.get(..TEMPORARY.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(TEMPORARY.as_bytes()))
}

/// The name, if it is one.
fn checked(name: Vec<u8>) -> Option<std::ffi::OsString> {
    let is_special = name.is_empty() || name == b"." || name == b"..";
    if is_special || is_temporary(&name) || name.iter().any(|byte| b"/\0".contains(byte)) {
        return None;
    }
    system_name(name)
}

#[cfg(unix)]
fn system_name(name: Vec<u8>) -> Option<std::ffi::OsString> {
    (name.len() <= LONGEST_NAME).then(|| std::os::unix::ffi::OsStringExt::from_vec(name))
}

/// Windows has further separators (`\`), names of devices in every folder (`NUL`, `COM1.txt`) and streams (`a:b`),
/// and drops dots and spaces at the end of a name.
#[cfg(not(unix))]
fn system_name(name: Vec<u8>) -> Option<std::ffi::OsString> {
    const DEVICES: [&str; 7] = ["con", "prn", "aux", "nul", "conin$", "conout$", "clock$"];
    let name = String::from_utf8(name).ok()?;
    let stem = name.split('.').next()?.trim_end().to_lowercase();
    let is_port = ["com", "lpt"].iter().any(|port| {
        let number = stem.strip_prefix(port);
        number.is_some_and(|number| number.chars().count() == 1)
    });
    let is_invalid = |c: char| c.is_control() || "<>:\"/\\|?*".contains(c);
    let is_refused = name.encode_utf16().count() > LONGEST_NAME
        || name.contains(is_invalid)
        || name.ends_with(['.', ' '])
        || is_alias(&name)
        || is_port
        || DEVICES.contains(&stem.as_str());
    (!is_refused).then(|| name.into())
}

/// Whether Windows can have made this name (`FILES-~1.TXT`) for a file with another one, such as an upload that is not
/// complete.
#[cfg(any(not(unix), test))]
fn is_alias(name: &str) -> bool {
    let (stem, extension) = name.split_once('.').unwrap_or((name, ""));
    let number = stem.rsplit_once('~').map_or("", |(_, number)| number);
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let is_short = stem.chars().count() <= 8 && extension.chars().count() <= 3;
    is_number && is_short && !extension.contains('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incomplete_upload_has_no_other_name() {
        for name in [
            ".files-upload-0123456789abcdef",
            ".FILES-UPLOAD-0123456789ABCDEF",
        ] {
            assert_eq!(checked(name.into()), None, "{name}");
        }
        assert!(checked(".files-uploads".into()).is_some());
        for name in ["FILES-~1", "files-~1", "FILES~12.TXT", "~1", "F~123456"] {
            assert!(is_alias(name), "{name}");
        }
        for name in [
            "a~",
            "a~b",
            "a.txt~1",
            "~",
            "a1",
            "longername~1",
            "a~1.html",
            "a~1.b.c",
        ] {
            assert!(!is_alias(name), "{name}");
        }
    }
}
