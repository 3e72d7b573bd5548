//! One HTTP request to a node's router.

use std::net::SocketAddr;
use std::time::Duration;

use glueberry_tokio::proto::printable;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::output::Failure;

/// Returns the body of a response that is good.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Result<Vec<u8>, Failure> {
    match timeout(PATIENCE, exchange(address, path)).await {
        Ok(result) => result,
        Err(_) => Err(Failure::new(format!("http://{address}{path} does not answer"))),
    }
}

async fn exchange(address: SocketAddr, path: &str) -> Result<Vec<u8>, Failure> {
    let failed = |error| Failure::new(format!("http://{address}{path}: {error}"));
    let mut stream = TcpStream::connect(address).await.map_err(failed)?;
    // HTTP/1.0 has no chunks: the body ends with the connection.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut response = Vec::new();
    stream.take(MAX_RESPONSE).read_to_end(&mut response).await.map_err(failed)?;
    let end = response.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let end = end.ok_or_else(|| Failure::new(format!("http://{address} is no HTTP server")))?;
    let status = String::from_utf8_lossy(&response[..end]);
    let status = status.lines().next().unwrap_or_default().to_owned();
    if status.split(' ').nth(1) != Some("200") {
        return Err(Failure::new(format!("http://{address}{path}: {}", printable(status))));
    }
    Ok(response.split_off(end + 4))
}

const PATIENCE: Duration = Duration::from_secs(10);
const MAX_RESPONSE: u64 = 64 * 1024 * 1024;
