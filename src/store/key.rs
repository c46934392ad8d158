//! The key file: the node's identity. Made once, read by its owner alone, never overwritten.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::{StoreError, files};
use crate::wire::Keypair;

/// A key in PKCS#8 PEM has some 120 bytes.
pub const KEY_BYTES_MAX: u64 = 16 << 10;
const GROUP_AND_OTHERS: u32 = 0o077;
const OTHERS: u32 = 0o007;

/// Reads the key.
///
/// # Errors
/// [`StoreError::KeyExposed`] when group or others may touch the file, [`StoreError::KeyUnusable`],
/// [`StoreError::Disk`].
pub fn load(path: &Path) -> Result<Keypair, StoreError> {
    load_unless_open_to(GROUP_AND_OTHERS, path)
}

/// Makes a new identity, mode 0600, durable when this returns.
///
/// # Errors
/// [`StoreError::KeyPresent`] when the file exists, whatever it holds; [`StoreError::Disk`].
pub fn create(path: &Path) -> Result<Keypair, StoreError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|cause| StoreError::Disk {
        action: "draw random bytes for",
        path: path.to_owned(),
        cause: io::Error::other(cause.to_string()),
    })?;
    let key = Keypair::from_seed(&seed);
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {
            return Err(StoreError::KeyPresent { path: path.to_owned() });
        }
        Err(cause) => return Err(StoreError::Disk { action: "create", path: path.to_owned(), cause }),
    };
    if let Err(cause) = file.write_all(key.to_pkcs8_pem().as_bytes()).and_then(|()| file.sync_all()) {
        let _ = fs::remove_file(path); // ours, made above, and of no use to anybody
        return Err(StoreError::Disk { action: "write", path: path.to_owned(), cause });
    }
    files::sync_folder_of(path)?;
    Ok(key)
}

/// Reads the key, or makes a new identity when there is no such file.
///
/// # Errors
/// As [`load`] and [`create`].
pub fn load_or_create(path: &Path) -> Result<Keypair, StoreError> {
    match fs::symlink_metadata(path) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => create(path),
        Ok(_) | Err(_) => load(path),
    }
}

/// Reads `node.key` in the directory of service credentials, given the value of
/// `$CREDENTIALS_DIRECTORY`; `None` when it is not set or holds no such file.
///
/// The service manager grants access by an ACL, whose mask shows as group permission: only access by
/// everybody is refused here.
///
/// # Errors
/// As [`load`].
pub fn from_credentials(directory: Option<&OsStr>) -> Result<Option<Keypair>, StoreError> {
    let Some(directory) = directory.filter(|directory| !directory.is_empty()) else { return Ok(None) };
    let path = PathBuf::from(directory).join("node.key");
    match fs::metadata(&path) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Ok(_) | Err(_) => load_unless_open_to(OTHERS, &path).map(Some),
    }
}

/// `shut` are the permission bits that must not be set, asked of the very file that is read.
fn load_unless_open_to(shut: u32, path: &Path) -> Result<Keypair, StoreError> {
    let file = File::open(path).map_err(StoreError::disk("open", path))?;
    let meta = file.metadata().map_err(StoreError::disk("read", path))?;
    if !meta.is_file() {
        return Err(StoreError::KeyUnusable { path: path.to_owned(), why: "not a file" });
    }
    let mode = meta.permissions().mode() & 0o777;
    if mode & shut != 0 {
        return Err(StoreError::KeyExposed { path: path.to_owned(), mode });
    }
    let mut pem = String::new();
    match file.take(KEY_BYTES_MAX).read_to_string(&mut pem) {
        Ok(_) => {}
        Err(cause) if cause.kind() == io::ErrorKind::InvalidData => {}
        Err(cause) => return Err(StoreError::Disk { action: "read", path: path.to_owned(), cause }),
    }
    Keypair::from_pkcs8_pem(&pem).map_err(|why| StoreError::KeyUnusable { path: path.to_owned(), why })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("our file");
    }

    #[test]
    fn an_identity_is_made_once_and_read_back() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("node.key");
        let made = load_or_create(&path).expect("a new one");
        assert_eq!(fs::metadata(&path).expect("is there").permissions().mode() & 0o777, 0o600);
        assert_eq!(load_or_create(&path).expect("the same").id(), made.id());
        assert_eq!(load(&path).expect("the same").seed(), made.seed());
        let other = home.path().join("other.key");
        assert_ne!(create(&other).expect("another").id(), made.id());
    }

    #[test]
    fn a_key_is_never_overwritten() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("node.key");
        for there in ["", "something else"] {
            fs::write(&path, there).expect("written");
            assert!(matches!(create(&path), Err(StoreError::KeyPresent { .. })));
            assert_eq!(fs::read_to_string(&path).expect("is there"), there);
        }
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_with_the_command_to_type() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("node.key");
        create(&path).expect("a new one");
        for open in [0o640, 0o604, 0o620, 0o644, 0o660] {
            mode(&path, open);
            let refused = load(&path).expect_err("exposed").to_string();
            assert!(refused.contains(&format!("chmod 600 {}", path.display())), "{refused}");
        }
        mode(&path, 0o400);
        assert!(load(&path).is_ok());
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_quoted() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("node.key");
        for content in [&b""[..], b"secret words", &[0xff, 0xfe], &[b'x'; 40_000]] {
            fs::write(&path, content).expect("written");
            mode(&path, 0o600);
            let refused = load(&path).expect_err("no key").to_string();
            assert!(refused.contains("node.key") && !refused.contains("secret words"), "{refused}");
        }
        assert!(matches!(load(home.path()), Err(StoreError::KeyUnusable { .. })), "a directory");
        assert!(matches!(load(&home.path().join("none")), Err(StoreError::Disk { .. })));
    }

    #[test]
    fn a_service_credential_is_used_when_there_is_one() {
        let home = tempfile::tempdir().expect("a directory");
        assert!(from_credentials(None).expect("not set").is_none());
        assert!(from_credentials(Some(OsStr::new(""))).expect("not set").is_none());
        assert!(from_credentials(Some(home.path().as_os_str())).expect("empty").is_none());
        let path = home.path().join("node.key");
        let made = create(&path).expect("a new one");
        mode(&path, 0o440);
        let read = from_credentials(Some(home.path().as_os_str())).expect("granted by an ACL").expect("there");
        assert_eq!(read.id(), made.id());
        mode(&path, 0o444);
        assert!(matches!(from_credentials(Some(home.path().as_os_str())), Err(StoreError::KeyExposed { .. })));
    }
}
