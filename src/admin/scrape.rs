//! `/metrics` over TCP, for a Prometheus that cannot speak to a Unix socket: on loopback alone, that one
//! page alone, and for nobody who was led here by a name (a page in a browser, by DNS rebinding).

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request as HttpRequest, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::exposition;
use super::fault::{Fault, FaultCode};
use super::origin::is_loopback;
use super::request::Request;

/// Callers at once; more wait in the kernel's queue.
pub const SCRAPERS_MAX: usize = 8;
/// A caller that took this long is not a Prometheus.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers scrapes until `shutdown` completes.
pub async fn scrape(listener: TcpListener, requests: mpsc::Sender<Request>, shutdown: impl Future<Output = ()>) {
    let room = Arc::new(Semaphore::new(SCRAPERS_MAX));
    let accept = async {
        loop {
            let place = Arc::clone(&room).acquire_owned().await.expect("the semaphore is never closed");
            match listener.accept().await {
                Ok((stream, _)) => {
                    let requests = requests.clone();
                    tokio::spawn(async move {
                        // What becomes of one caller is nothing to us.
                        let _ = tokio::time::timeout(PATIENCE, serve(stream, requests)).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the page of metrics cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    };
    tokio::select! {
        // Dropping it closes the listener, which is what is wanted.
        () = accept => {}
        () = shutdown => {}
    }
}

async fn serve(stream: TcpStream, requests: mpsc::Sender<Request>) -> Result<(), hyper::Error> {
    let service = service_fn(move |request| {
        let requests = requests.clone();
        async move { Ok::<Response<Body>, Infallible>(answer(&request, &requests).await.into_response()) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(PATIENCE / 2).keep_alive(false).max_buf_size(16 << 10);
    server.serve_connection(TokioIo::new(stream), service).await
}

async fn answer(request: &HttpRequest<Incoming>, requests: &mpsc::Sender<Request>) -> Result<Response, Fault> {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    if !host.is_some_and(is_loopback) {
        let why = "this page is for callers that name it by its loopback address, such as 127.0.0.1";
        return Err(Fault::new(FaultCode::Forbidden, why));
    }
    if request.uri().path() != "/metrics" {
        return Err(Fault::new(FaultCode::NotFound, "there is /metrics here and nothing else"));
    }
    if request.method() != Method::GET {
        return Err(Fault::new(FaultCode::Method, "this page is only read"));
    }
    let (answer, answered) = oneshot::channel();
    requests.send(Request::Metrics { answer }).await.map_err(|_| Fault::stopping())?;
    let page = answered.await.map_err(|_| Fault::stopping())?;
    Ok(exposition::respond(request.headers(), page))
}

/// Listens for scrapes at the address of the key `set_by`.
///
/// # Errors
/// What the system says, with the address.
pub async fn bind_scrape(address: SocketAddr, set_by: &str) -> io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {address} for metrics: {error}; set {set_by}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn there_is_one_page_and_only_to_be_read() {
        let listener = bind_scrape("127.0.0.1:0".parse().expect("an address"), "metrics.listen").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (requests, mut asked) = mpsc::channel(1);
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(scrape(listener, requests, async { drop(stopped.await) }));
        let driver = tokio::spawn(async move {
            while let Some(Request::Metrics { answer }) = asked.recv().await {
                answer.send("# EOF\n".to_owned()).expect("somebody waits");
            }
        });
        let ask = async |line: &str, host: &str| {
            let mut stream = TcpStream::connect(address).await.expect("a connection");
            let asked = format!("{line} HTTP/1.1\r\nHost: {host}\r\nAccept: application/openmetrics-text\r\n\r\n");
            stream.write_all(asked.as_bytes()).await.expect("written");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("an answer");
            answer
        };
        let page = ask("GET /metrics", "127.0.0.1:1").await;
        assert!(
            page.starts_with("HTTP/1.1 200") && page.ends_with("# EOF\n") && page.contains(exposition::OPEN_METRICS),
            "{page}"
        );
        for (line, host, status) in [
            ("GET /metrics", "evil.example", "403"),
            ("GET /v1/status", "localhost", "404"),
            ("POST /metrics", "localhost", "405"),
        ] {
            let answer = ask(line, host).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{line}: {answer}");
        }
        drop(stop);
        server.await.expect("it ends");
        driver.await.expect("nobody asks any more");
    }
}
