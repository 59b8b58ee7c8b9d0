//! A web server as small as can be: serves the pages of one folder on the loopback, and 503 while a maintenance flag
//! lies there. One request per connection; nothing else is understood.

use std::io;
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Longest request.
const REQUEST_BYTES_MAX: usize = 8 << 10;

/// Longest time for one request.
const REQUEST_WITHIN: Duration = Duration::from_secs(5);

/// A site that answers until it is dropped.
#[derive(Debug)]
pub(super) struct Site {
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl Site {
    /// Listens on a free port of the loopback.
    pub(super) async fn serve(root: PathBuf) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let root = root.clone();
                tokio::spawn(async move {
                    // A visitor who went away needs no answer.
                    drop(tokio::time::timeout(REQUEST_WITHIN, answer(stream, &root)).await);
                });
            }
        });
        Ok(Self { address, server })
    }

    /// Where it answers.
    pub(super) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Visits the site; the status of the answer.
    pub(super) async fn visit(&self) -> io::Result<u16> {
        let mut stream = TcpStream::connect(self.address).await?;
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .await?;
        let mut text = String::new();
        let mut reader = stream.take(REQUEST_BYTES_MAX as u64);
        reader.read_to_string(&mut text).await?;
        text.split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .ok_or_else(|| io::Error::other("the site's answer has no status"))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(mut stream: TcpStream, root: &Path) -> io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut part = [0; 1024];
        let count = stream.read(&mut part).await?;
        request.extend_from_slice(&part[..count]);
        if count == 0 || request.len() > REQUEST_BYTES_MAX {
            return Ok(());
        }
    }
    let (status, body) = page(&request, root);
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&body).await?;
    stream.shutdown().await
}

fn page(request: &[u8], root: &Path) -> (&'static str, Vec<u8>) {
    if root.join(".maintenance").exists() {
        return (
            "503 Service Unavailable",
            b"<h1>Back in a minute</h1>\n".to_vec(),
        );
    }
    let line = String::from_utf8_lossy(request);
    let path = line
        .split(' ')
        .nth(1)
        .unwrap_or("/")
        .trim_start_matches('/');
    let path = Path::new(if path.is_empty() { "index.html" } else { path });
    let is_plain = path
        .components()
        .all(|part| matches!(part, Component::Normal(name) if !name.as_encoded_bytes().starts_with(b".")));
    match std::fs::read(root.join(path)) {
        Ok(body) if is_plain => ("200 OK", body),
        Ok(_) | Err(_) => ("404 Not Found", b"<h1>Not found</h1>\n".to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_maintenance_flag_closes_the_site() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("index.html"), "<h1>Shop</h1>").unwrap();
        let site = Site::serve(folder.path().to_owned()).await.unwrap();
        assert_eq!(site.visit().await.unwrap(), 200);
        std::fs::write(folder.path().join(".maintenance"), "").unwrap();
        assert_eq!(site.visit().await.unwrap(), 503);
    }

    #[test]
    fn only_plain_pages_are_served() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(".env"), "SECRET=1").unwrap();
        for path in ["/.env", "/../etc/passwd", "//etc/passwd", "/none"] {
            let request = format!("GET {path} HTTP/1.1\r\n\r\n");
            assert_eq!(
                page(request.as_bytes(), folder.path()).0,
                "404 Not Found",
                "{path}"
            );
        }
    }
}
