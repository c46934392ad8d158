//! A look at the engine's write-ahead files before the engine reads them.
//!
//! The engine stops at the first byte that does not fit: it drops what follows, refuses to open, or
//! panics. So whatever is no whole commit is taken out first: at the end it is a commit torn by a
//! crash and is cut off; in the middle it is damage, and the commits around it are kept. The layout
//! (fjall 3, `journal/entry.rs`), integers little endian:
//!
//! ```text
//! commit = 1 count(4) seqno(8)  count x item  3 xxh3-of-the-items(8) "FJL" 3
//! item   = 2 type(1) compression(1) keyspace(8) key-length(2) length(4) stored-length(4) key value
//!        | 4 keyspace(8)
//! ```

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::super::files;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const MAGIC: &[u8] = b"FJL\x03";
const START_BYTES: usize = 13;
const ITEM_BYTES: usize = 21;
const CLEAR_BYTES: usize = 9;
/// The engine reserves the highest bit of its own numbers; none comes near this in any lifetime.
const SEQNO_MAX: u64 = 1 << 56;
/// Nothing of ours is larger, written down or unpacked; without a limit a wrong length is an allocation.
pub const VALUE_BYTES_MAX: u32 = 1 << 20;

/// What had to be taken out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Mended {
    /// Bytes after the last whole commit: a crash in the middle of one.
    pub(super) cut_bytes: u64,
    /// Places in the middle that are no commits; each was one or more.
    pub(super) damaged: u64,
}

/// Takes out of every write-ahead file in this folder what is no commit. A file that was damaged in
/// the middle is kept as `<name>.damaged`.
pub(super) fn mend(folder: &Path) -> io::Result<Mended> {
    let mut mended = Mended::default();
    for path in write_ahead_files(folder)? {
        let end = files::written_end(&path)?;
        let mut bytes = vec![0; usize::try_from(end).map_err(io::Error::other)?];
        File::open(&path)?.read_exact_at(&mut bytes, 0)?;
        let commits = commits(&bytes);
        let Some(last) = commits.last() else {
            // Nothing that we know: a first commit torn, or a layout of another engine. Not ours to judge.
            mended.cut_bytes += end;
            continue;
        };
        // Zeroes are part of the last commit when its checksum ends in them, never of what follows.
        mended.cut_bytes += end.saturating_sub(last.end as u64);
        let gaps = gaps(&commits);
        if gaps > 0 {
            mended.damaged += gaps;
            rewrite(&path, &bytes, &commits)?;
        } else if end > last.end as u64 {
            let file = File::options().write(true).open(&path)?;
            file.set_len(last.end as u64)?;
            file.sync_all()?;
        }
    }
    Ok(mended)
}

fn write_ahead_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let listing = match fs::read_dir(folder) {
        Ok(listing) => listing,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(cause) => return Err(cause),
    };
    for file in listing {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "jnl") {
            found.push(path);
        }
    }
    Ok(found)
}

/// Where the whole commits stand, runs of neighbours as one.
fn commits(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        match commit(&bytes[at..]) {
            Some(len) => {
                match runs.last_mut() {
                    Some(run) if run.end == at => run.end += len,
                    Some(_) | None => runs.push(at..at + len),
                }
                at += len;
            }
            None => at += next_start(&bytes[at + 1..]).map_or(bytes.len(), |skip| skip + 1),
        }
    }
    runs
}

/// Runs that something else stands before.
fn gaps(runs: &[Range<usize>]) -> u64 {
    let at_the_start = runs.first().is_some_and(|first| first.start > 0);
    runs.len() as u64 - u64::from(!at_the_start)
}

/// How far the next byte is that a commit could begin with.
fn next_start(bytes: &[u8]) -> Option<usize> {
    let begins = |window: &[u8]| window[0] == START && matches!(window[START_BYTES], ITEM | CLEAR);
    bytes.windows(START_BYTES + 1).position(begins)
}

/// The length of the whole commit that begins here, if one does.
fn commit(bytes: &[u8]) -> Option<usize> {
    let (&START, rest) = bytes.split_first()? else { return None };
    let count = u32::from_le_bytes(*rest.first_chunk()?);
    if u64::from_le_bytes(*rest[4..].first_chunk()?) > SEQNO_MAX {
        return None;
    }
    let mut at = START_BYTES;
    for _ in 0..count {
        at += item(bytes.get(at..)?)?;
    }
    let items = bytes.get(START_BYTES..at)?;
    let (&END, rest) = bytes.get(at..)?.split_first()? else { return None };
    let (checksum, rest) = rest.split_first_chunk()?;
    let is_whole = rest.starts_with(MAGIC) && u64::from_le_bytes(*checksum) == xxhash_rust::xxh3::xxh3_64(items);
    is_whole.then_some(at + 1 + checksum.len() + MAGIC.len())
}

fn item(bytes: &[u8]) -> Option<usize> {
    match *bytes.first()? {
        CLEAR => Some(CLEAR_BYTES),
        ITEM => {
            let head: &[u8; ITEM_BYTES] = bytes.first_chunk()?;
            let key = usize::from(u16::from_le_bytes([head[11], head[12]]));
            let unpacked = u32::from_le_bytes(*head[13..].first_chunk()?);
            let stored = u32::from_le_bytes(*head[17..].first_chunk()?);
            let is_ours = unpacked <= VALUE_BYTES_MAX && stored <= VALUE_BYTES_MAX;
            is_ours.then_some(ITEM_BYTES + key + stored as usize)
        }
        _ => None,
    }
}

/// Keeps the commits, and the old file aside.
fn rewrite(path: &Path, bytes: &[u8], runs: &[Range<usize>]) -> io::Result<()> {
    let aside = path.with_extension("jnl-new");
    let mut file = File::create(&aside)?;
    for run in runs {
        file.write_all(&bytes[run.clone()])?;
    }
    file.sync_all()?;
    let damaged = path.with_extension("jnl-damaged");
    if damaged.exists() {
        fs::remove_file(&damaged)?;
    }
    fs::hard_link(path, &damaged)?;
    fs::rename(&aside, path)?;
    File::open(path.parent().unwrap_or(path))?.sync_all()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(seqno: u64, value: &[u8]) -> Vec<u8> {
        let mut item = vec![ITEM, 0, 0];
        item.extend(7u64.to_le_bytes());
        item.extend(1u16.to_le_bytes());
        item.extend([(value.len() as u32).to_le_bytes(); 2].concat());
        item.push(b'k');
        item.extend(value);
        let mut bytes = vec![START];
        bytes.extend(1u32.to_le_bytes());
        bytes.extend(seqno.to_le_bytes());
        bytes.extend(&item);
        bytes.push(END);
        bytes.extend(xxhash_rust::xxh3::xxh3_64(&item).to_le_bytes());
        bytes.extend(MAGIC);
        bytes
    }

    fn several() -> Vec<Vec<u8>> {
        (1..9u64).map(|n| one(n, format!("value {n}").as_bytes())).collect()
    }

    /// Writes a file, mends it, reads it back.
    fn mended(bytes: &[u8]) -> (Mended, Vec<u8>) {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("3.jnl");
        fs::write(&path, bytes).expect("written");
        let mended = mend(home.path()).expect("mended");
        (mended, fs::read(&path).expect("there"))
    }

    #[test]
    fn whole_files_are_left_alone() {
        let whole = several().concat();
        assert_eq!(mended(&whole), (Mended::default(), whole.clone()));
        let padded = [whole, vec![0; 1 << 20]].concat();
        assert_eq!(mended(&padded), (Mended::default(), padded.clone()));
        assert_eq!(mended(&[]), (Mended::default(), Vec::new()));
        assert_eq!(mend(Path::new("/nowhere/at/all")).expect("no folder is no file"), Mended::default());
    }

    #[test]
    fn a_torn_end_is_cut() {
        let whole = several();
        let torn = [whole[..7].concat(), whole[7][..20].to_vec()].concat();
        let (said, left) = mended(&torn);
        assert_eq!((said.damaged, left), (0, whole[..7].concat()));
        assert!((1..=20).contains(&said.cut_bytes));
    }

    #[test]
    fn a_bad_commit_in_the_middle_costs_itself_only() {
        let mut whole = several();
        whole[3][25] ^= 1;
        let bytes = whole.concat();
        whole.remove(3);
        assert_eq!(mended(&bytes), (Mended { cut_bytes: 0, damaged: 1 }, whole.concat()));
    }

    proptest! {
        #[test]
        fn any_flipped_bit_costs_one_commit_at_most(at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let whole = several();
            let mut bytes = whole.concat();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let (said, left) = mended(&bytes);
            let hit = at / whole[0].len();
            let mut rest = whole.clone();
            rest.remove(hit);
            // The engine's number is under no checksum: a commit may stay with another one.
            let is_seqno = (5..13).contains(&(at % whole[0].len()));
            prop_assert!(left == rest.concat() || is_seqno && left == bytes, "{said:?}");
            prop_assert!(left == bytes || said.damaged + said.cut_bytes > 0);
        }

        #[test]
        fn no_bytes_can_panic(bytes in prop::collection::vec(prop_oneof![0u8..5, any::<u8>()], 0..200)) {
            commits(&bytes);
        }
    }
}
