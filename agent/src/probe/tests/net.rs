//! `http` and `port` against servers of the test, friendly and hostile.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::json;

use super::{Fact, Ground, is_unknown, texts};
use crate::probe::boot_now;

/// Serves one connection; the handle gives what the client sent.
fn serve(answer: impl FnOnce(&mut TcpStream) + Send + 'static) -> (u16, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        let mut byte = [0];
        while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) > 0 {
            request.push(byte[0]);
        }
        answer(&mut stream);
        String::from_utf8(request).unwrap()
    });
    (port, thread)
}

fn ask(port: u16, timeout: &str) -> super::Facts {
    let origin = format!("127.0.0.1:{port}");
    Ground::new().ask(
        "http",
        &json!({"url": "http://shop.example/up?x=1", "origin": origin, "timeout": timeout, "find": ["fatal", "fine"]}),
    )
}

#[test]
fn a_page_is_asked_for_as_the_site_and_described() {
    let (port, thread) = serve(|stream| {
        stream
            .write_all(
                b"HTTP/1.1 503 Down\r\nLocation: /x\r\nContent-Length: 14\r\n\r\nall fine today",
            )
            .unwrap();
    });
    let facts = ask(port, "10s");
    assert_eq!(facts["reachable"], Fact::Bool(true));
    assert_eq!(facts["status"], Fact::Int(503));
    assert_eq!(facts["body_bytes"], Fact::Int(14));
    assert_eq!(facts["empty"], Fact::Bool(false));
    assert_eq!(facts["location"], Fact::from("/x"));
    assert_eq!(facts["found"], texts(&["fine"]));
    assert_eq!(facts["error"], Fact::Absent);
    let request = thread.join().unwrap();
    assert!(
        request.starts_with("GET /up?x=1 HTTP/1.1\r\nHost: shop.example\r\n"),
        "{request}"
    );
    assert!(request.contains("User-Agent: healerd\r\n"));
}

#[test]
fn nobody_there_is_refused_and_not_unknown() {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let facts = ask(port, "5s");
    assert_eq!(facts["reachable"], Fact::Bool(false));
    assert_eq!(facts["error"], Fact::from("refused"));
    assert_eq!(facts["status"], Fact::Absent);
}

#[test]
fn a_trickle_ends_at_the_timeout() {
    for (case, head, reachable) in [
        ("in the headers", "HTTP/1.1 200 OK\r\n", false),
        (
            "in the body",
            "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
            true,
        ),
    ] {
        let (stop, stopped) = channel::<()>();
        let (port, thread) = serve(move |stream| {
            stream.write_all(head.as_bytes()).unwrap();
            while stopped.recv_timeout(Duration::from_millis(10)).is_err() {
                if stream.write_all(b"x").is_err() {
                    break;
                }
            }
        });
        let start = boot_now();
        let facts = ask(port, "300ms");
        let took = boot_now().saturating_sub(start);
        drop(stop);
        assert_eq!(facts["error"], Fact::from("timeout"), "{case}");
        assert_eq!(facts["reachable"], Fact::Bool(reachable), "{case}");
        assert!(took >= Duration::from_millis(300), "{case}: gave up early");
        thread.join().unwrap();
    }
}

#[test]
fn a_silent_server_times_out() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let facts = ask(listener.local_addr().unwrap().port(), "200ms");
    assert_eq!(facts["error"], Fact::from("timeout"));
    assert_eq!(facts["reachable"], Fact::Bool(false));
}

#[test]
fn garbage_and_endless_headers_are_protocol_errors() {
    for answer in [
        &b"SSH-2.0-x\r\n"[..],
        b"\x00\xff\xfe",
        b"HTTP/1.1 200 OK\r\nx",
        b"",
    ] {
        let (port, thread) = serve(move |stream| stream.write_all(answer).unwrap());
        let facts = ask(port, "5s");
        assert_eq!(facts["reachable"], Fact::Bool(false), "{answer:?}");
        // What the client left unread may reset the connection instead.
        assert!(
            [Fact::from("protocol"), Fact::from("other")].contains(&facts["error"]),
            "{answer:?}: {facts:?}"
        );
        thread.join().unwrap();
    }
    let (port, thread) = serve(|stream| {
        _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
        while stream.write_all(&[b'x'; 4096]).is_ok() {}
    });
    assert_eq!(ask(port, "20s")["error"], Fact::from("protocol"));
    thread.join().unwrap();
}

#[test]
fn an_endless_body_is_left_after_a_mebibyte() {
    let (port, thread) = serve(|stream| {
        _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(&[b'x'; 4096]).is_ok() {}
    });
    let facts = ask(port, "20s");
    assert_eq!(facts["body_bytes"], Fact::Int(1 << 20));
    assert_eq!(facts["status"], Fact::Int(200));
    thread.join().unwrap();
}

#[test]
fn a_reset_is_no_answer() {
    let (port, thread) = serve(|stream| {
        rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO)).unwrap();
    });
    let facts = ask(port, "5s");
    assert_eq!(facts["reachable"], Fact::Bool(false));
    assert!(matches!(facts["error"], Fact::Text(_)), "{facts:?}");
    thread.join().unwrap();
}

#[test]
fn plain_text_where_tls_is_wanted_is_a_tls_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        let mut rest = Vec::new();
        _ = stream.read_to_end(&mut rest);
    });
    let origin = format!("127.0.0.1:{port}");
    let facts = Ground::new().ask(
        "http",
        &json!({"url": "https://shop.example/", "origin": origin}),
    );
    assert_eq!(facts["error"], Fact::from("tls"), "{facts:?}");
    thread.join().unwrap();
}

#[test]
fn a_unix_socket_can_be_the_origin() {
    let ground = Ground::new();
    let path = ground.path("http.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream
            .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
            .unwrap();
        let mut request = [0; 1024];
        _ = stream.read(&mut request);
    });
    let origin = format!("unix:{}", path.display());
    let facts = ground.ask(
        "http",
        &json!({"url": "http://shop.example/", "origin": origin}),
    );
    assert_eq!(facts["status"], Fact::Int(204), "{facts:?}");
    assert_eq!(facts["empty"], Fact::Bool(true));
    thread.join().unwrap();
    let gone = format!("unix:{}", ground.path("gone.sock").display());
    let facts = ground.ask(
        "http",
        &json!({"url": "http://shop.example/", "origin": gone}),
    );
    assert_eq!(facts["error"], Fact::from("refused"));
}

#[test]
fn a_port_is_seen_with_its_holder() {
    let ground = Ground::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let facts = ground.ask("port", &json!({"port": port}));
    assert_eq!(facts["listening"], Fact::Bool(true));
    assert_eq!(facts["accepts"], Fact::Bool(true));
    assert_eq!(
        facts["pids"],
        Fact::from(vec![i64::from(std::process::id())])
    );
    assert_eq!(
        facts["held_by_app"],
        Fact::Bool(false),
        "the holder does not run below the root"
    );
    let facts = ground.ask(
        "port",
        &json!({"port": port.to_string(), "address": "127.0.0.2"}),
    );
    assert_eq!(facts["listening"], Fact::Bool(false));
    drop(listener);
    let facts = ground.ask("port", &json!({"port": port}));
    assert_eq!(facts["listening"], Fact::Bool(false));
    assert_eq!(facts["accepts"], Fact::Bool(false));
    assert!(is_unknown(
        &ground.ask("port", &json!({"port": "many"}))["listening"],
        "not a port"
    ));
}
