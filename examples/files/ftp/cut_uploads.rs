//! What the last upload of a file has left that was cut, and so which file a client may continue.
//!
//! A client that continues an upload asks for the size of the file, and sends the rest. After a cut STOR that is the size
//! of the old file, because nothing of a new one is kept: the result would be a mixture of both, which the client and the
//! server take for complete. lftp continues by itself, with REST and STOR, when it has lost its connection. So REST with
//! STOR needs an entry of this list, and what is not in it is refused: after a restart, when the list was too long, and when
//! somebody else has changed the file, over FTP, over HTTP or with another program. APPE also adds to a file of which nothing
//! is known, as logs need it, and is refused only if the last upload of the file is known to have left nothing.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::Metadata;
use std::time::SystemTime;

use crate::names::Names;

/// So many are remembered. Then the oldest is forgotten.
const MOST: usize = 1000;

#[derive(Default)]
pub struct CutUploads(RefCell<VecDeque<CutUpload>>);

struct CutUpload {
    names: Names,
    version: Version,
    left: Left,
}

/// What a cut upload has left.
#[derive(Clone, PartialEq, Eq)]
pub enum Left {
    /// STOR: the old file.
    Nothing,
    /// APPE, or STOR after REST, of this user: what has arrived is in the file.
    Part(String),
}

/// What changes when somebody else changes or replaces the file.
#[derive(PartialEq, Eq)]
struct Version {
    length: u64,
    modified: Option<SystemTime>,
    /// The device and the inode.
    #[cfg(unix)]
    file: (u64, u64),
}

impl Version {
    fn of(file: &Metadata) -> Version {
        #[cfg(unix)]
        use std::os::unix::fs::MetadataExt;

        Version {
            length: file.len(),
            modified: file.modified().ok(),
            #[cfg(unix)]
            file: (file.dev(), file.ino()),
        }
    }
}

impl CutUploads {
    /// An upload was cut, or has begun with a new file, and this is the file at its path now.
    pub fn add(&self, names: Names, file: &Metadata, left: Left) {
        self.forget(&names);
        let mut cut = self.0.borrow_mut();
        if cut.len() == MOST {
            cut.pop_front();
        }
        let version = Version::of(file);
        cut.push_back(CutUpload {
            names,
            version,
            left,
        });
    }

    /// An upload of this file was completed, or the path leads to another file now, or to none.
    pub fn forget(&self, names: &Names) {
        self.0.borrow_mut().retain(|cut| !cut.is_for(names));
    }

    /// Whether the last cut upload of this file has left this, and nobody has changed the file since then.
    pub fn have_left(&self, names: &Names, file: &Metadata, left: &Left) -> bool {
        let cut = self.0.borrow();
        let found = cut.iter().find(|cut| cut.is_for(names));
        found.is_some_and(|cut| cut.left == *left && cut.version == Version::of(file))
    }
}

impl CutUpload {
    /// Compares the bytes of the paths, which is much faster than to compare their names.
    fn is_for(&self, names: &Names) -> bool {
        self.names.as_path().as_os_str() == names.as_path().as_os_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_of_too_many_is_forgotten() {
        let file = tempfile::tempfile().unwrap().metadata().unwrap();
        let names = |n: usize| Names::default().join(&n.to_string());
        let cut = CutUploads::default();
        for n in [0, 1].into_iter().chain(0..MOST) {
            cut.add(names(n), &file, Left::Nothing);
        }
        let is_known = |n| cut.have_left(&names(n), &file, &Left::Nothing);
        assert!(is_known(0));
        cut.add(names(MOST), &file, Left::Nothing);
        assert!(!is_known(0));
        assert!((1..=MOST).all(is_known));
    }

    #[test]
    fn a_part_belongs_to_a_user() {
        let file = tempfile::tempfile().unwrap().metadata().unwrap();
        let [one, two] = ["1", "2"].map(|name| Names::default().join(name));
        let part = |user: &str| Left::Part(user.to_owned());
        let cut = CutUploads::default();
        cut.add(one.clone(), &file, part("ann"));
        cut.add(two.clone(), &file, Left::Nothing);
        assert!(cut.have_left(&one, &file, &part("ann")));
        assert!(!cut.have_left(&one, &file, &part("bob")));
        assert!(!cut.have_left(&one, &file, &Left::Nothing));
        assert!(!cut.have_left(&two, &file, &part("ann")));
        assert!(cut.have_left(&two, &file, &Left::Nothing));
        cut.add(one.clone(), &file, Left::Nothing);
        assert!(!cut.have_left(&one, &file, &part("ann")));
    }
}
