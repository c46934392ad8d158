//! The Unix socket: made once, replaced when its daemon is dead, never taken from a living one.

use std::fs::{DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// Root, the owner and the group; nobody else.
const MODE: u32 = 0o660;
/// The group that may use the socket of a daemon run by root, where the machine has it.
const GROUP: &str = "afferent";

/// Why the socket cannot be had. Whatever stands there stays as it was.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A living daemon answers there.
    #[error("another daemon{} answers at {}", pid.map(|pid| format!(" (process {pid})")).unwrap_or_default(), path.display())]
    Taken {
        /// The socket.
        path: PathBuf,
        /// Its process, where the system says so.
        pid: Option<i32>,
    },
    /// Something that is no socket stands there.
    #[error("{} is there and is no socket", path.display())]
    NoSocket {
        /// The path.
        path: PathBuf,
    },
    /// The system refused.
    #[error("the socket {} cannot be made: {cause}", path.display())]
    Refused {
        /// The path.
        path: PathBuf,
        /// Its words.
        cause: io::Error,
    },
}

/// A listening socket with its file. Dropping it removes the file, if it is still this one.
#[derive(Debug)]
pub struct Socket {
    pub(super) listener: UnixListener,
    pub(super) file: SocketFile,
}

/// The file of a socket, known by its inode.
#[derive(Debug)]
pub(super) struct SocketFile {
    pub(super) path: PathBuf,
    device: u64,
    inode: u64,
}

impl Socket {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.file.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if std::fs::symlink_metadata(&self.path).is_ok_and(|meta| (meta.dev(), meta.ino()) == (self.device, self.inode))
        {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Makes the socket and its directory. Must be called within the runtime.
///
/// The socket is made under another name, given its mode, and moved into place: it is never there
/// with a mode that lets others in, and a stale one is replaced in one step.
///
/// # Errors
/// [`BindError`].
pub async fn bind(path: &Path) -> Result<Socket, BindError> {
    let refused = |cause| BindError::Refused { path: path.to_owned(), cause };
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(directory).map_err(refused)?;
    }
    make_way(path).await?;
    let draft = path.with_file_name(format!(".{}", std::process::id()));
    let _ = std::fs::remove_file(&draft);
    let listener = UnixListener::bind(&draft).map_err(refused)?;
    let placed = share(&draft).and_then(|()| {
        std::fs::set_permissions(&draft, Permissions::from_mode(MODE))?;
        let meta = std::fs::symlink_metadata(&draft)?;
        std::fs::rename(&draft, path)?;
        Ok(SocketFile { path: path.to_owned(), device: meta.dev(), inode: meta.ino() })
    });
    match placed {
        Ok(file) => Ok(Socket { listener, file }),
        Err(cause) => {
            let _ = std::fs::remove_file(&draft);
            Err(refused(cause))
        }
    }
}

/// Is there a daemon behind what stands at this path?
async fn make_way(path: &Path) -> Result<(), BindError> {
    let refused = |cause| BindError::Refused { path: path.to_owned(), cause };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(refused(error)),
        Ok(meta) if !meta.file_type().is_socket() => return Err(BindError::NoSocket { path: path.to_owned() }),
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Ok(stream) => {
            let pid = stream.peer_cred().ok().and_then(|cred| cred.pid());
            Err(BindError::Taken { path: path.to_owned(), pid })
        }
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => Ok(()),
        Err(error) => Err(refused(error)),
    }
}

/// Gives a socket of root to the group made for it; on machines without that group root keeps it.
fn share(path: &Path) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    match group_id(&groups, GROUP) {
        Some(gid) => Ok(rustix::fs::chown(path, None, Some(rustix::fs::Gid::from_raw(gid)))?),
        None => Ok(()),
    }
}

fn group_id(groups: &str, name: &str) -> Option<u32> {
    let fields = groups.lines().map(|line| line.split(':').collect::<Vec<_>>());
    fields.into_iter().find(|fields| fields.first() == Some(&name))?.get(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_living_one_is_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("run/a.sock");
        let first = bind(&path).await.expect("a socket");
        let mode = std::fs::metadata(&path).expect("the file").permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        let taken = bind(&path).await.expect_err("taken");
        let expected = format!("another daemon (process {}) answers at {}", std::process::id(), path.display());
        assert_eq!(taken.to_string(), expected);
        drop(first.listener); // the daemon dies and leaves its file
        let second = bind(&path).await.expect("replaced");
        drop(first.file); // which is not the first one's to remove any more
        assert!(path.exists());
        drop(second);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("notes.txt");
        std::fs::write(&path, "mine").expect("a file");
        assert!(matches!(bind(&path).await, Err(BindError::NoSocket { .. })));
        assert_eq!(std::fs::read_to_string(&path).expect("still there"), "mine");
    }

    #[test]
    fn the_group_is_found_by_its_name() {
        let groups = "root:x:0:\nafferent-test:x:7:\nafferent:x:998:alice,bob\n";
        assert_eq!(group_id(groups, "afferent"), Some(998));
        assert_eq!(group_id(groups, "nobody"), None);
    }
}
