//! Somebody who is told: takes notices as a webhook does, and keeps them.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use super::{locked, net};

/// Larger than any notice.
const BODY_BYTES_MAX: usize = 64 << 10;

/// A listener; it ends with the test's process.
pub(crate) struct Ear {
    pub(crate) url: String,
    heard: Arc<Mutex<Vec<Value>>>,
}

impl Ear {
    /// Listens on the loopback of a network namespace.
    pub(crate) fn open(net: u32) -> Self {
        let listener = net::thread_inside(net, || {
            TcpListener::bind("127.0.0.1:0").expect("a port is free")
        })
        .join()
        .expect("the thread only binds");
        let port = listener.local_addr().expect("it is bound").port();
        let heard = Arc::default();
        let ear = Self {
            url: format!("http://127.0.0.1:{port}/"),
            heard: Arc::clone(&heard),
        };
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                // One after another: the daemon sends no two at once.
                if let Some(notice) = take(stream) {
                    locked(&heard).push(notice);
                }
            }
        });
        ear
    }

    /// What was told about a host so far: event and title, oldest first.
    pub(crate) fn about(&self, host: &str) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        locked(&self.heard)
            .iter()
            .filter(|notice| notice["host"] == host)
            .map(|notice| (text(&notice["event"]), text(&notice["title"])))
            .collect()
    }

    /// What was heard so far does not count.
    pub(crate) fn forget(&self) {
        locked(&self.heard).clear();
    }

    /// All of it, for a failing test.
    pub(crate) fn all(&self) -> Vec<Value> {
        locked(&self.heard).clone()
    }
}

/// One request, answered with 204.
fn take(mut stream: TcpStream) -> Option<Value> {
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        if let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
            let length: usize = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length:"))?
                .trim()
                .parse()
                .ok()?;
            if bytes.len() >= end + 4 + length {
                let notice = serde_json::from_slice(&bytes[end + 4..end + 4 + length]).ok();
                stream
                    .write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
                    .ok()?;
                return notice;
            }
        }
        let count = stream.read(&mut piece).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&piece[..count]);
        if bytes.len() > BODY_BYTES_MAX {
            return None;
        }
    }
}
