//! Web pages are no callers. A socket that somebody forwards to a port of loopback is open to every
//! page in their browser, with their rights: by a form or script from elsewhere, which says its `Origin`,
//! or by a name that is led to loopback (DNS rebinding), which stands in `Host`.

use std::net::{IpAddr, SocketAddr};

use axum::extract::Request;
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::fault::{Fault, FaultCode};

/// Passes on what no page sent.
pub(super) async fn refuse_pages(request: Request, next: Next) -> Response {
    let hosts = request.headers().get_all(header::HOST);
    let is_local = hosts.iter().all(|host| host.to_str().is_ok_and(is_local));
    if request.headers().contains_key(header::ORIGIN) || !is_local {
        let why = "web pages are not answered: no Origin, and as Host a plain name such as localhost";
        return Fault::new(FaultCode::Forbidden, why).into_response();
    }
    next.run(request).await
}

/// Loopback, or a name without a dot, which nobody can own.
fn is_local(host: &str) -> bool {
    let name = without_port(host);
    is_loopback(host)
        || (!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')))
}

/// `127.0.0.1:9100`, `[::1]:9100`, `localhost`: names that no DNS server can lend to somebody else.
pub(super) fn is_loopback(host: &str) -> bool {
    let name = match host.parse::<SocketAddr>() {
        Ok(address) => return address.ip().is_loopback(),
        Err(_) => host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host),
    };
    name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()) || without_port(name).eq_ignore_ascii_case("localhost")
}

fn without_port(name: &str) -> &str {
    name.rsplit_once(':').map_or(name, |(bare, port)| if port.parse::<u16>().is_ok() { bare } else { name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_answered() {
        for host in ["127.0.0.1:9100", "127.0.0.1", "[::1]:9100", "[::1]", "localhost", "LOCALHOST:1", "127.9.9.9:1"] {
            assert!(is_loopback(host) && is_local(host), "{host}");
        }
        for host in
            ["", "evil.example", "evil.example:9100", "127.0.0.1.evil.example", "10.0.0.1:1", "localhost.x", "[::2]"]
        {
            assert!(!is_loopback(host) && !is_local(host), "{host}");
        }
        assert!(is_local("afferent") && is_local("mesh:80") && !is_loopback("mesh:80"));
    }
}
