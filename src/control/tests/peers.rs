//! Real callers on a real socket.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::hostile::Running;
use super::path;
use crate::control::{SocketError, bind};

/// `curl` as another user; needs root.
async fn curl_as(uid: u32, socket: &Path, route: &str, body: Option<&str>) -> String {
    #[expect(
        clippy::disallowed_methods,
        reason = "another user's program is what is tested"
    )]
    let mut command = tokio::process::Command::new("setpriv");
    command
        .arg(format!("--reuid={uid}"))
        .arg(format!("--regid={uid}"))
        .args([
            "--clear-groups",
            "curl",
            "-s",
            "-w",
            "\n%{http_code}",
            "--unix-socket",
        ])
        .arg(socket);
    if let Some(body) = body {
        command.args(["-H", "content-type: application/json", "-d", body]);
    }
    let output = command
        .arg(format!("http://healerd{route}"))
        .output()
        .await
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn a_caller_is_who_the_kernel_says_whatever_it_claims() {
    if !rustix::process::geteuid().is_root() {
        return; // only root can become somebody else
    }
    let nobody = 65534;
    let running = Running::new(Some(nobody)).await;
    let folder = running.folder.path();
    #[expect(
        clippy::disallowed_methods,
        reason = "the temporary folder must let the other user pass"
    )]
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    let socket = folder.join("control.sock");

    let own = curl_as(0, &socket, &path("/status"), None).await;
    assert!(
        own.contains(r#""role":"admin""#) && own.ends_with("\n200"),
        "{own}"
    );
    let refused = curl_as(
        nobody,
        &socket,
        &path("/hold"),
        Some(r#"{"scope":"all","reason":"uid 0 asks"}"#),
    )
    .await;
    assert!(
        refused.ends_with("\n403") && refused.contains("(65534) has no role here"),
        "{refused}"
    );
    let closed = curl_as(1, &socket, &path("/status"), None).await;
    assert_eq!(
        closed, "\n000",
        "who is not of the group cannot even connect"
    );
}

#[tokio::test]
async fn only_a_dead_socket_of_our_own_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("control.sock");
    let first = bind(&place, None).await.unwrap();
    assert_eq!(
        std::fs::metadata(&place).unwrap().permissions().mode() & 0o7777,
        0o660
    );
    assert!(matches!(
        bind(&place, None).await,
        Err(SocketError::Taken(_))
    ));
    drop(first);
    let second = bind(&place, None).await.unwrap();
    drop(second);

    let file = folder.path().join("notes.txt");
    #[expect(
        clippy::disallowed_methods,
        reason = "something that is no socket must lie there"
    )]
    std::fs::write(&file, "precious").unwrap();
    assert!(matches!(
        bind(&file, None).await,
        Err(SocketError::NotOurs(_))
    ));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
}
