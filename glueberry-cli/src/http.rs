//! One HTTP request to a node's router.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use glueberry_tokio::proto::printable;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::output::Failure;

/// Where a node's router is: `HOST:PORT`, or a URL, which may have a path if the router is nested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HttpAddress {
    /// The host, with the brackets of an IPv6 address.
    host: String,
    port: u16,
    /// The path in front of the router's own, such as `/node`; empty, or it begins with a slash.
    path: String,
}

impl FromStr for HttpAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (is_url, rest) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (true, rest),
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => {
                return Err("https is not spoken; use http://HOST:PORT");
            }
            Some(_) => return Err("use http://HOST:PORT"),
            None => (false, text),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !authority.ends_with(']') => {
                (host, port.parse().map_err(|_| "the port is no number up to 65535")?)
            }
            _ if is_url => (authority, 80),
            _ => return Err("there is no port; use HOST:PORT or http://HOST:PORT"),
        };
        let in_brackets = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        let is_host = match in_brackets {
            Some(ip) => ip.parse::<std::net::Ipv6Addr>().is_ok(),
            None => host.chars().all(|it| it.is_ascii_alphanumeric() || "-._".contains(it)),
        };
        if host.is_empty() {
            return Err("there is no host; use HOST:PORT or http://HOST:PORT");
        }
        if !is_host {
            return Err(
                "the host is no name and no IP address; an IPv6 address stands in brackets",
            );
        }
        if !path.chars().all(|it| it.is_ascii_graphic() && !"?#".contains(it)) {
            return Err("a path has no spaces, `?` or `#`");
        }
        let path = path.trim_end_matches('/');
        let path = path.strip_suffix("/debug").unwrap_or(path);
        Ok(Self { host: host.to_owned(), port, path: path.to_owned() })
    }
}

impl fmt::Display for HttpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, path } = self;
        write!(f, "http://{host}:{port}{path}")
    }
}

/// Returns the body of a response that is good.
pub(crate) async fn get(address: &HttpAddress, path: &str) -> Result<Vec<u8>, Failure> {
    match timeout(PATIENCE, exchange(address, path)).await {
        Ok(result) => result,
        Err(_) => Err(Failure::new(format!("{address}{path} does not answer"))),
    }
}

async fn exchange(address: &HttpAddress, path: &str) -> Result<Vec<u8>, Failure> {
    let failed = |error| Failure::new(format!("{address}{path}: {error}"));
    let HttpAddress { host, port, path: nested } = address;
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((name, *port)).await;
    let mut stream = stream.map_err(|error| failed(error).with_hint(NO_ROUTER))?;
    // HTTP/1.0 has no chunks: the body ends with the connection.
    let request = format!("GET {nested}{path} HTTP/1.0\r\nHost: {host}:{port}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut response = Vec::new();
    stream.take(MAX_RESPONSE).read_to_end(&mut response).await.map_err(failed)?;
    let end = response.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let end = end.ok_or_else(|| Failure::new(format!("{address} is no HTTP server")))?;
    let status = String::from_utf8_lossy(&response[..end]);
    let status = status.lines().next().unwrap_or_default().to_owned();
    if status.split(' ').nth(1) != Some("200") {
        return Err(Failure::new(format!("{address}{path}: {}", printable(status))));
    }
    Ok(response.split_off(end + 4))
}

const NO_ROUTER: &str = "does the node serve its HTTP router there? `glueberry listen --http` does";
const PATIENCE: Duration = Duration::from_secs(10);
const MAX_RESPONSE: u64 = 64 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_host_a_port_and_maybe_a_path() {
        let shown = |text: &str| text.parse::<HttpAddress>().map(|it| it.to_string());
        for (text, url) in [
            ("127.0.0.1:9090", "http://127.0.0.1:9090"),
            ("localhost:1", "http://localhost:1"),
            ("[::1]:9090", "http://[::1]:9090"),
            ("http://127.0.0.1:9090", "http://127.0.0.1:9090"),
            ("HTTP://node-1.example.org/", "http://node-1.example.org:80"),
            ("http://[::1]", "http://[::1]:80"),
            ("http://a:1/debug", "http://a:1"),
            ("http://a:1/node/b/debug/", "http://a:1/node/b"),
            ("a:1/node", "http://a:1/node"),
        ] {
            assert_eq!(shown(text).as_deref(), Ok(url), "{text}");
        }
        for (text, why) in [
            ("", "no port"),
            ("localhost", "no port"),
            (":1", "no host"),
            ("http://", "no host"),
            ("::1:9090", "in brackets"),
            ("a b:1", "no name"),
            ("user@a:1", "no name"),
            ("a:99999", "65535"),
            ("a:", "65535"),
            ("https://a:1", "not spoken"),
            ("ftp://a:1", "use http://"),
            ("a:1/x y", "a path"),
            ("a:1/x\r\nEvil: 1", "a path"),
            ("a:1/?q", "a path"),
        ] {
            assert!(shown(text).unwrap_err().contains(why), "{text}: {:?}", shown(text));
        }
    }
}
