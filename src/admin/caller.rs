//! Who is calling, and the bound on how many do.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::net::unix::UCred;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::CONNECTIONS_MAX;
use super::fault::{Fault, FaultCode};
use super::socket::Socket;

/// The process at the other end of a connection, as the kernel names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Caller {
    /// Its user.
    pub(super) uid: u32,
    /// It may change things.
    pub(super) may_write: bool,
}

/// Who may write to a socket of this mode, owner and group?
///
/// With mode 0660 the kernel has let in root, the owner and the group, and there is nothing to add.
/// Where somebody opened the socket to others, writing takes the uid of root or of the daemon, or the
/// socket's group as the caller's own.
fn may_write(caller: (u32, u32), daemon: u32, mode: u32, socket_group: u32) -> bool {
    let (uid, gid) = caller;
    let is_open_to_others = mode & 0o002 != 0;
    !is_open_to_others || uid == 0 || uid == daemon || gid == socket_group
}

impl Caller {
    /// What cannot be found out counts against the caller.
    fn of(credentials: io::Result<UCred>, socket: &Path) -> Caller {
        let nobody = Caller { uid: u32::MAX, may_write: false };
        let (Ok(credentials), Ok(meta)) = (credentials, std::fs::metadata(socket)) else { return nobody };
        let daemon = rustix::process::geteuid().as_raw();
        let caller = (credentials.uid(), credentials.gid());
        Caller { uid: caller.0, may_write: may_write(caller, daemon, meta.mode(), meta.gid()) }
    }
}

/// The socket as a server sees it: callers come in one by one while there is room.
pub(super) struct Gate {
    socket: Socket,
    room: Arc<Semaphore>,
}

impl Gate {
    pub(super) fn new(socket: Socket) -> Gate {
        Gate { socket, room: Arc::new(Semaphore::new(CONNECTIONS_MAX)) }
    }
}

impl Listener for Gate {
    type Io = Guest;
    type Addr = Caller;

    async fn accept(&mut self) -> (Guest, Caller) {
        let room = Arc::clone(&self.room).acquire_owned().await.expect("the semaphore is never closed");
        loop {
            match self.socket.listener.accept().await {
                Ok((stream, _)) => {
                    let caller = Caller::of(stream.peer_cred(), self.socket.path());
                    return (Guest { stream, _room: room }, caller);
                }
                Err(error) => {
                    // Out of descriptors, most likely: others finish meanwhile.
                    tracing::warn!(%error, "the local API cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Caller> {
        Ok(Caller { uid: rustix::process::geteuid().as_raw(), may_write: true })
    }
}

/// One connection with its place.
pub(super) struct Guest {
    stream: UnixStream,
    _room: OwnedSemaphorePermit,
}

impl AsyncRead for Guest {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Guest {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Connected<IncomingStream<'_, Gate>> for Caller {
    fn connect_info(stream: IncomingStream<'_, Gate>) -> Caller {
        *stream.remote_addr()
    }
}

/// A caller that may change things. As an argument of a handler it refuses all others.
pub(super) struct Writer {
    /// Its user, for the log.
    pub(super) uid: u32,
}

impl<S: Send + Sync> FromRequestParts<S> for Writer {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Writer, Fault> {
        match parts.extensions.get::<ConnectInfo<Caller>>() {
            Some(ConnectInfo(caller)) if caller.may_write => Ok(Writer { uid: caller.uid }),
            _ => Err(Fault::new(
                FaultCode::Forbidden,
                "changes take root, the user of the daemon, or the group of its socket",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_the_kernel_let_in_may_write_unless_the_door_was_opened_to_all() {
        let (daemon, group) = (998, 997);
        assert!(may_write((1000, 1000), daemon, 0o140_660, group), "a member of the group, by the kernel's word");
        assert!(!may_write((1000, 1000), daemon, 0o140_666, group));
        assert!(may_write((0, 0), daemon, 0o140_666, group));
        assert!(may_write((998, 5), daemon, 0o140_666, group));
        assert!(may_write((1000, 997), daemon, 0o140_666, group));
    }
}
