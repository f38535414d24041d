//! The parts of uploads that a server has left, as in `parts.rs`, where folders are used by their paths. On Windows, nobody
//! else can open a part for writing while it is received. So a part that can be opened belongs to nobody. On other systems
//! parts stay.

use std::fs::{self, DirEntry, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::is_part_name;
use super::searched::{self, MOST_NAMES};

/// The folders that were searched for parts.
#[derive(Default)]
pub struct Searched(searched::Searched<PathBuf>);

impl Searched {
    /// Removes the parts in a folder that belong to nobody, unless this was done before.
    pub fn remove_abandoned(&self, folder: &Path) {
        if !self.0.add(folder.to_owned()) {
            return;
        }
        if let Err(error) = remove_all(folder) {
            tracing::warn!(%error, "a folder cannot be searched for parts of uploads");
        }
    }
}

/// Removes the parts in a folder that belong to nobody.
pub fn remove_all(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)?.take(MOST_NAMES) {
        let entry = entry?;
        if is_part_name(&entry.file_name()) {
            remove_if_abandoned(&entry);
        }
    }
    Ok(())
}

fn remove_if_abandoned(entry: &DirEntry) {
    let (path, name) = (entry.path(), entry.file_name());
    let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
    let may_remove = cfg!(windows) && is_file && for_one_writer().open(&path).is_ok();
    if !may_remove {
        return;
    }
    match fs::remove_file(&path) {
        Ok(()) => tracing::info!(name = %name.display(), "removed the part of an upload"),
        Err(error) => tracing::warn!(%error, name = %name.display(), "a part stays"),
    }
}

/// Creates a part.
pub fn create(path: &Path) -> io::Result<File> {
    for_one_writer().create_new(true).open(path)
}

/// Opens a file for writing. Until it is closed, others can read, rename and remove it.
pub fn for_one_writer() -> OpenOptions {
    let mut options = File::options();
    options.write(true);
    #[cfg(windows)]
    {
        use std::os::windows::fs::OpenOptionsExt;

        const FILE_SHARE_READ: u32 = 1;
        const FILE_SHARE_DELETE: u32 = 4;
        options.share_mode(FILE_SHARE_READ | FILE_SHARE_DELETE);
    }
    options
}

#[cfg(all(test, windows))]
mod tests {
    use super::*;

    #[test]
    fn parts_that_belong_to_nobody_are_removed_once() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name);
        let names = || -> io::Result<Vec<_>> {
            let names = fs::read_dir(folder.path())?.map(|entry| Ok(entry?.file_name()));
            let mut names = names.collect::<io::Result<Vec<_>>>()?;
            names.sort();
            Ok(names)
        };
        let (used, abandoned) = (
            ".files-upload-0123456789abcdef",
            ".files-upload-1111111111111111",
        );
        let part = create(&path(used))?;
        assert!(create(&path(used)).is_err());
        drop(create(&path(abandoned))?);
        fs::write(path(".files-upload-x"), "of somebody else")?;
        fs::create_dir(path(".files-upload-2222222222222222"))?;
        let searched = Searched::default();
        searched.remove_abandoned(folder.path());
        let kept = [used, ".files-upload-2222222222222222", ".files-upload-x"];
        assert_eq!(names()?, kept);
        drop(part);
        searched.remove_abandoned(folder.path());
        assert_eq!(names()?, kept, "it is not searched again");
        remove_all(folder.path())?;
        assert_eq!(names()?, kept[1..]);
        Ok(())
    }
}
