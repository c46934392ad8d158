//! The client of the local API: HTTP/1.1 over its Unix socket, for the command line.

use std::io;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, Response, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::BODY_BYTES_MAX;
use super::fault::Problem;
use super::routes::LINES_TYPE;

/// A body of any kind.
pub type Outgoing = BoxBody<Bytes, io::Error>;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("no daemon answers at {}", path.display())]
    Absent {
        /// The socket.
        path: PathBuf,
    },
    /// The socket is there, and not for us.
    #[error("the socket {} is not open to this user", path.display())]
    Denied {
        /// The socket.
        path: PathBuf,
    },
    /// The connection broke off.
    #[error("the daemon broke off: {0}")]
    Broken(String),
    /// The daemon says no.
    #[error("{}", .0.problem.title)]
    Problem(Problem),
    /// An answer that cannot be read: a daemon of another version.
    #[error("the daemon answered what this version cannot read: {0}")]
    Unreadable(String),
}

/// One connection.
pub struct Client {
    sender: SendRequest<Outgoing>,
}

impl Client {
    /// Connects. The connection is driven by a task that ends with it.
    ///
    /// # Errors
    /// [`ClientError::Absent`], [`ClientError::Denied`], [`ClientError::Broken`].
    pub async fn connect(path: &Path) -> Result<Client, ClientError> {
        let stream = UnixStream::connect(path).await.map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => ClientError::Denied { path: path.to_owned() },
            _ => ClientError::Absent { path: path.to_owned() },
        })?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // What goes wrong with the connection is told to whoever waits for an answer on it.
        tokio::spawn(async { connection.await.ok() });
        Ok(Client { sender })
    }

    /// Asks for a document: its text, one line of JSON.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get(&mut self, path: &str) -> Result<String, ClientError> {
        self.text(Method::GET, path, None).await
    }

    /// Asks for a document as a value.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get_as<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, ClientError> {
        decode(&self.get(path).await?)
    }

    /// Posts a JSON object; the answer is a document.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn post(&mut self, path: &str, body: String) -> Result<String, ClientError> {
        self.text(Method::POST, path, Some(body)).await
    }

    /// Removes something; the answer is what it was.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn delete(&mut self, path: &str) -> Result<String, ClientError> {
        self.text(Method::DELETE, path, None).await
    }

    /// Begins a stream of lines.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn lines(&mut self, path: &str) -> Result<LineReader, ClientError> {
        let response = self.send(Method::GET, path, empty(), None).await?;
        Ok(LineReader::new(response.into_body()))
    }

    /// Posts lines as they come; the answer is a stream of lines too, and begins before they end.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn exchange_lines(&mut self, path: &str, lines: Outgoing) -> Result<LineReader, ClientError> {
        let response = self.send(Method::POST, path, lines, Some(LINES_TYPE)).await?;
        Ok(LineReader::new(response.into_body()))
    }

    async fn text(&mut self, method: Method, path: &str, body: Option<String>) -> Result<String, ClientError> {
        let kind = body.as_ref().map(|_| "application/json");
        let body = body.map_or_else(empty, |body| full(body.into()));
        let mut body = self.send(method, path, body, kind).await?.into_body();
        read(&mut body).await
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Outgoing,
        kind: Option<&str>,
    ) -> Result<Response<Incoming>, ClientError> {
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, "afferent");
        if let Some(kind) = kind {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        let request = request.body(body).map_err(|error| ClientError::Broken(error.to_string()))?;
        self.sender.ready().await.map_err(broken)?;
        let mut response = self.sender.send_request(request).await.map_err(broken)?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(ClientError::Problem(decode(&read(response.body_mut()).await?)?))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err calls")]
fn broken(error: hyper::Error) -> ClientError {
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
    ClientError::Broken(format!("{error}{cause}"))
}

fn decode<T: DeserializeOwned>(text: &str) -> Result<T, ClientError> {
    serde_json::from_str(text).map_err(|error| ClientError::Unreadable(error.to_string()))
}

async fn read(body: &mut Incoming) -> Result<String, ClientError> {
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        text.extend_from_slice(frame.map_err(broken)?.data_ref().map_or(&[], |data| data));
        if text.len() > BODY_BYTES_MAX {
            return Err(ClientError::Unreadable("an answer of more than 1 MiB".to_owned()));
        }
    }
    let text = String::from_utf8(text).map_err(|error| ClientError::Unreadable(error.to_string()))?;
    Ok(text.trim_end().to_owned())
}

fn empty() -> Outgoing {
    Empty::new().map_err(|never| match never {}).boxed()
}

fn full(bytes: Bytes) -> Outgoing {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}

/// Lines of an answer, as they arrive.
pub struct LineReader {
    body: Incoming,
    read: BytesMut,
    /// How much of `read` holds no LF, so that long lines are not searched again.
    searched: usize,
    is_over: bool,
}

impl LineReader {
    fn new(body: Incoming) -> LineReader {
        LineReader { body, read: BytesMut::new(), searched: 0, is_over: false }
    }

    /// The next line without its LF; `None` at the end.
    ///
    /// # Errors
    /// [`ClientError::Broken`] when the answer breaks off.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            if let Some(at) = self.read[self.searched..].iter().position(|byte| *byte == b'\n') {
                let mut line = self.read.split_to(self.searched + at + 1);
                line.truncate(line.len() - 1);
                self.searched = 0;
                return Ok(Some(line.freeze()));
            }
            self.searched = self.read.len();
            if self.is_over {
                return Ok(None);
            }
            match self.body.frame().await {
                Some(frame) => self.read.extend_from_slice(frame.map_err(broken)?.data_ref().map_or(&[], |data| data)),
                None => self.is_over = true,
            }
        }
    }

    /// True when a whole line is there already: nothing has to be waited for.
    pub fn has_line(&self) -> bool {
        self.read[self.searched..].contains(&b'\n')
    }
}

/// A piece of text as it stands in a path or a query.
pub fn escape(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::with_capacity(text.len()), |mut escaped, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => escaped.push(char::from(byte)),
            _ => {
                let _ = write!(escaped, "%{byte:02X}");
            }
        }
        escaped
    })
}
