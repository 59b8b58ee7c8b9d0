//! Servers that hang, floods, cuts and frozen agents: each costs its own callers, and nothing is said to have failed
//! that may have been done.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use healer_agent::protocol::{Answer, Frame, Hello, How, VERSION, WitnessState};
use healerd::model::action::Identity;
use healerd::model::host::Become;
use healerd::seam::{Call, Host as _, HostError, Lane, Login};
use rustix::process::Signal;

use super::contract::{look, start};
use super::remote::{Remote, answers, call, hello, login, refusal, room};
use crate::lab::sshd::{Like, UID, descendants};
use crate::lab::{process, set_mode, wait_for};

/// A server that says `greeting` and nothing more; it ends with the test's process.
fn mute_server(greeting: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            std::thread::spawn(move || {
                if stream.write_all(greeting).is_ok() {
                    let mut sink = [0; 1024];
                    while stream.read(&mut sink).is_ok_and(|count| count > 0) {}
                }
            });
        }
    });
    port
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_at_a_named_step() {
    let Some(mut remote) = Remote::open(&Like::default()) else {
        return;
    };
    remote.settings.connect_within = Duration::from_secs(1);
    for (greeting, words) in [
        (&b""[..], "the banner of its SSH server took longer than"),
        (
            b"SSH-2.0-OpenSSH_9.2\r\n",
            "the key exchange took longer than",
        ),
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            "the banner of its SSH server",
        ),
    ] {
        remote.settings.target.address.port = mute_server(greeting);
        let begun = Instant::now();
        let said = refusal(&remote.host()).await;
        assert!(said.contains(words), "{said}");
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "{:?}",
            begun.elapsed()
        );
    }
    remote.settings.target.address.port = 1;
    let said = refusal(&remote.host()).await;
    assert!(said.contains("the TCP connection failed"), "{said}");
}

#[tokio::test]
async fn a_frozen_agent_is_left_after_two_silences() {
    let Some(remote) = Remote::open(&Like::default()) else {
        return;
    };
    let host = remote.host();
    answers(&host).await;
    let agent = descendants(remote.sshd.pid)
        .into_iter()
        .find(|pid| {
            std::fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.windows(12).any(|word| word == b"healer-agent"))
        })
        .expect("an agent runs");
    process::signal(agent, Signal::STOP);
    let quick = || Call {
        timeout: Duration::from_millis(300),
        ..call(login("shop"), Lane::Check, hello())
    };
    for _ in 0..2 {
        let silent = host.call(quick()).await;
        assert!(
            matches!(silent, Err(HostError::Unknown { .. })),
            "it was sent: {silent:?}"
        );
    }
    answers(&host).await;
    assert_eq!(remote.sshd.logins(&remote.lab), 1, "on the same connection");
    process::signal(agent, Signal::KILL);
}

#[tokio::test]
async fn a_connection_that_no_longer_answers_is_replaced() {
    let Some(remote) = Remote::open(&Like::default()) else {
        return;
    };
    let host = remote.host();
    answers(&host).await;
    let frozen = descendants(remote.sshd.pid);
    for pid in &frozen {
        process::signal(*pid, Signal::STOP);
    }
    let begun = Instant::now();
    loop {
        let quick = Call {
            timeout: Duration::from_millis(300),
            ..call(login("shop"), Lane::Check, hello())
        };
        match host.call(quick).await {
            Ok(_) => break,
            Err(HostError::Unknown { .. }) => {}
            Err(error) => {
                assert!(begun.elapsed() < Duration::from_secs(40), "{error}");
                host.forgive();
            }
        }
    }
    assert_eq!(remote.sshd.logins(&remote.lab), 2);
    for pid in frozen {
        process::signal(pid, Signal::KILL);
    }
}

#[tokio::test]
async fn a_cut_in_mid_action_is_unknown_and_the_action_goes_on() {
    let Some(remote) = Remote::open(&Like::default()) else {
        return;
    };
    let root = remote.lab.dir().join("app");
    std::fs::create_dir(&root).unwrap();
    std::os::unix::fs::chown(&root, Some(UID), Some(UID)).unwrap();
    let host = Arc::new(remote.host());
    let heal = "0123456789abcdef0123456789abcdef";
    let script = "echo begun >> ran; until [ -e go ]; do sleep 0.05; done; echo ended >> ran";
    let ask = |request| host.call(call(login("shop"), Lane::Check, request));
    ask(start(heal, &root, script)).await.unwrap();
    let waiting = tokio::spawn({
        let host = Arc::clone(&host);
        async move {
            host.call(call(login("shop"), Lane::Check, look(heal, 15_000)))
                .await
        }
    });
    let ran = root.join("ran");
    tokio::task::spawn_blocking({
        let ran = ran.clone();
        move || wait_for("the action has begun", || ran.exists())
    })
    .await
    .unwrap();
    answers(&host).await;
    remote.sshd.cut();
    let cut = waiting.await.unwrap();
    assert!(matches!(cut, Err(HostError::Unknown { .. })), "{cut:?}");

    let seen = ask(look(heal, 0)).await.unwrap().answer;
    assert!(
        matches!(seen, Answer::Witness(WitnessState::Running { .. })),
        "{seen:?}"
    );
    std::fs::write(root.join("go"), "").unwrap();
    let Answer::Witness(WitnessState::Finished(finished)) =
        ask(look(heal, 15_000)).await.unwrap().answer
    else {
        panic!("it ended");
    };
    assert_eq!(finished.how, How::Done);
    assert_eq!(std::fs::read_to_string(ran).unwrap(), "begun\nended\n");
    assert_eq!(remote.sshd.logins(&remote.lab), 2);
}

#[tokio::test]
async fn a_server_that_is_gone_is_unreachable_and_comes_back() {
    let Some(remote) = Remote::open(&Like::default()) else {
        return;
    };
    let host = remote.host();
    answers(&host).await;
    remote.lab.stop(remote.sshd.pid);
    host.close().await;
    let said = refusal(&host).await;
    assert!(said.contains("the TCP connection failed"), "{said}");
    let said = refusal(&host).await;
    assert!(said.contains("not tried again for 2 s"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flooding_channel_does_not_stop_another_of_its_connection() {
    let config = "PermitUserEnvironment yes";
    let Some(mut remote) = Remote::open(&Like {
        config: config.to_owned(),
        ..Like::default()
    }) else {
        return;
    };
    // In the place of a root agent: it greets, and then sends frames that nobody asked for, for ever.
    let dir = remote.lab.dir().to_owned();
    let frame = |id, header: Vec<u8>, body: usize| {
        let body = vec![0; body];
        Frame { id, header, body }.encode().unwrap()
    };
    let greeting = Answer::Hello(Hello {
        version: VERSION,
        boot_id: "b".to_owned(),
        machine_id: "m".to_owned(),
        uid: 0,
        gid: 0,
        landlock: 0,
        uptime_ms: 1,
        allowed: Vec::new(),
        owner: None,
    });
    let greeting = serde_json::to_vec(&greeting).unwrap();
    std::fs::write(dir.join("greeting"), frame(1, greeting, 0)).unwrap();
    std::fs::write(dir.join("frame"), frame(77, b"{}".to_vec(), 500_000)).unwrap();
    let flood = format!(
        "#!/bin/sh\ncat {0}/greeting\nwhile :; do cat {0}/frame {0}/frame || exit; echo noise >&2; done\n",
        dir.display()
    );
    std::fs::create_dir(dir.join("bin")).unwrap();
    std::fs::write(dir.join("bin/sudo"), flood).unwrap();
    set_mode(&dir.join("bin/sudo"), 0o755);
    remote.settings.r#become = Some(Become {
        program: "/usr/sbin/healer-agent".into(),
    });
    remote.authorize(&format!(
        "environment=\"PATH={}/bin:/usr/bin:/bin\"",
        dir.display()
    ));
    let host = remote.host();
    answers(&host).await;
    let root = Login {
        identity: Identity::Root,
        uid: 0,
        gid: 0,
        user: None,
    };
    let flooding = host.call(Call {
        timeout: Duration::from_secs(1),
        ..call(root, Lane::Check, hello())
    });
    let flooding = flooding.await;
    assert!(
        matches!(flooding, Err(HostError::Unknown { .. })),
        "it greeted, and answers nothing: {flooding:?}"
    );
    assert_eq!(
        remote.sshd.logins(&remote.lab),
        1,
        "one connection for both"
    );
    for _ in 0..20 {
        let begun = Instant::now();
        room(&host, "shop").await.unwrap();
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "{:?}",
            begun.elapsed()
        );
    }
}
