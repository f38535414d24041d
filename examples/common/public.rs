//! Files that nobody else should read.

use std::path::Path;

/// Warns if every user of the system can read or replace the file: it has `what`.
#[cfg(unix)]
pub(crate) fn warn_if_public(path: &Path, what: &str) {
    if is_public(path) {
        tracing::warn!(file = %path.display(), "every user of this system can read or replace {what}");
    }
}

/// The access lists of other systems are not read.
#[cfg(not(unix))]
pub(crate) fn warn_if_public(_: &Path, _: &str) {}

#[cfg(unix)]
fn is_public(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;

    std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o007 != 0)
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs::{File, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_public_if_others_can_use_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passwords");
        let file = File::create(&path).unwrap();
        for (mode, expected) in [(0o600, false), (0o640, false), (0o644, true), (0o602, true)] {
            file.set_permissions(Permissions::from_mode(mode)).unwrap();
            assert_eq!(is_public(&path), expected, "{mode:o}");
        }
        assert!(!is_public(&folder.path().join("none")));
    }
}
