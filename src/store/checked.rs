//! Small files with a checksum: whoever reads one knows that it is whole, and a damaged one is moved aside.
//!
//! The first line is `{"format":1,"sha256":"<hex of everything after this line>"}`, the rest is the body.

use std::fs;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{StoreError, files};

#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    sha256: String,
}

fn checksum(body: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(body))
}

/// The whole file.
pub(super) fn seal(format: u32, body: &str) -> String {
    let header = Header { format, sha256: checksum(body.as_bytes()) };
    let header = serde_json::to_string(&header).expect("a header always encodes");
    format!("{header}\n{body}")
}

/// The format and the body, if it is the one that was sealed, in a format up to `newest`. The error says
/// what is wrong, for people.
pub(super) fn open(newest: u32, bytes: &[u8]) -> Result<(u32, &[u8]), String> {
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or("its first line does not end")?;
    let (header, body) = (&bytes[..end], &bytes[end + 1..]);
    let header: Header = serde_json::from_slice(header).map_err(|_| "its first line is not ours")?;
    if !(1..=newest).contains(&header.format) {
        return Err(format!("it has format {}, this program knows {newest}", header.format));
    }
    if header.sha256 != checksum(body) {
        return Err("its checksum does not match".to_owned());
    }
    Ok((header.format, body))
}

/// Moves a file to `<name>.corrupt-<n>`; both answers are `trouble` with what became of the file.
pub(super) fn move_aside(path: &Path, trouble: &str) -> Result<String, String> {
    let aside = free_name(path);
    let moved = fs::rename(path, &aside).map_err(StoreError::disk("move aside", path));
    let moved = moved.and_then(|()| files::sync_folder_of(path));
    match moved {
        Ok(()) => Ok(format!("{trouble}; it is now {}", aside.display())),
        Err(fault) => Err(format!("{trouble}; {fault}")),
    }
}

/// `peers.corrupt-1`, or the first number that is free.
fn free_name(path: &Path) -> PathBuf {
    (1u32..)
        .map(|n| path.with_extension(format!("corrupt-{n}")))
        .find(|aside| !aside.exists())
        .expect("a folder does not hold four thousand million files")
}
