//! Many at once on one server with default limits: nobody is refused, and an idle connection does not stay.

use std::sync::Arc;
use std::time::Duration;

use super::remote::{Remote, answers, room};
use crate::lab::sshd::Like;
use crate::lab::wait_for;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_requests_of_sixty_users_meet_no_refusal() {
    let users: Vec<String> = (0..60).map(|number| format!("user{number}")).collect();
    let like = Like {
        users: users.iter().cloned().chain(["shop".to_owned()]).collect(),
        ..Like::default()
    };
    let Some(remote) = Remote::open(&like) else {
        return;
    };
    let host = Arc::new(remote.host());
    answers(&host).await;
    let mut tasks = Vec::new();
    for user in users {
        for _ in 0..160 {
            let (host, user) = (Arc::clone(&host), user.clone());
            tasks.push(tokio::spawn(async move { room(&host, &user).await }));
        }
    }
    for _ in 0..400 {
        let host = Arc::clone(&host);
        tasks.push(tokio::spawn(async move { room(&host, "shop").await }));
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let log = remote.sshd.log(&remote.lab);
    for refused in [
        "MaxStartups",
        "MaxSessions",
        "no more sessions",
        "drop connection",
    ] {
        assert!(!log.contains(refused), "{refused}");
    }
    assert_eq!(remote.sshd.logins(&remote.lab), 61, "one connection each");
}

#[tokio::test]
async fn a_connection_that_nobody_uses_is_closed_and_comes_back() {
    let Some(mut remote) = Remote::open(&Like::default()) else {
        return;
    };
    remote.settings.idle = Duration::from_millis(300);
    let host = remote.host();
    answers(&host).await;
    let connections = || crate::lab::sshd::descendants(remote.sshd.pid).len();
    assert!(connections() > 0);
    tokio::task::spawn_blocking({
        let pid = remote.sshd.pid;
        move || {
            wait_for("the connection and its agent are gone", || {
                crate::lab::sshd::descendants(pid).is_empty()
            });
        }
    })
    .await
    .unwrap();
    answers(&host).await;
    assert_eq!(remote.sshd.logins(&remote.lab), 2);
}
