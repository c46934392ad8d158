//! Small files: replaced whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::StoreError;

/// Replaces `path` by these bytes, mode 0600, durably: after a crash at any moment it holds the old
/// bytes or the new ones.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".new");
    let aside = Path::new(&aside);
    let written = write_aside(aside, bytes).and_then(|()| fs::rename(aside, path));
    if let Err(cause) = written {
        let _ = fs::remove_file(aside); // the first fault is the one to tell
        return Err(StoreError::Disk { action: "write", path: path.to_owned(), cause });
    }
    sync_folder_of(path)
}

fn write_aside(aside: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(aside)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes a name in the folder of `path` durable: creation, renaming and deletion live in the folder.
pub(super) fn sync_folder_of(path: &Path) -> Result<(), StoreError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    sync_folder(folder)
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(StoreError::disk("sync", folder))
}

/// Reads at most `bytes_max` of a file; `None` when there is no such file.
pub(super) fn read(path: &Path, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(cause),
    };
    let mut bytes = Vec::new();
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than anything written there"));
    }
    Ok(Some(bytes))
}

/// The position after the last byte of a file that is not zero. Holes cost nothing to look at.
pub(super) fn written_end(path: &Path) -> io::Result<u64> {
    const STEP: usize = 64 << 10;
    let file = File::open(path)?;
    let mut end = file.metadata()?.len();
    let mut block = vec![0; STEP];
    while end > 0 {
        let start = end.saturating_sub(STEP as u64);
        let block = &mut block[..(end - start) as usize];
        file.read_exact_at(block, start)?;
        if let Some(last) = block.iter().rposition(|byte| *byte != 0) {
            return Ok(start + last as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}
