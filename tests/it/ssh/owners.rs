//! A host whose records belong to another daemon: asked nothing but whose it is, told once, and nothing is done there.

use std::path::Path;

use healer_agent::protocol::{Answer, RefusalCode, Request, WitnessState};
use healerd::host::SshHost;
use healerd::seam::{Host as _, HostError, Lane, Reply};
use serde_json::Value;

use super::contract::{look, start};
use super::remote::{OWNER, Remote, answers, call, login, room};
use crate::lab::sshd::{Like, UID};
use crate::lab::{fixture, store, wait_for};

const HEALS: [&str; 2] = [
    "0123456789abcdef0123456789abcdef",
    "0123456789abcdef0123456789abcdee",
];

fn host_of(remote: &Remote, owner: &str) -> SshHost {
    let mut launch = remote.launch.clone();
    owner.clone_into(&mut launch.owner);
    SshHost::new("web1".parse().unwrap(), remote.settings.clone(), launch)
}

/// An action of a daemon, with the token that it has come to.
fn start_of(owner: &str, fence: u64, heal: &str, root: &Path) -> Request {
    let mut request = start(heal, root, "echo once >> ran");
    if let Request::Start(start) = &mut request {
        owner.clone_into(&mut start.owner);
        start.fence = fence;
    }
    request
}

/// What is said when it is not asked.
fn refusal(reply: Result<Reply, HostError>) -> String {
    match reply {
        Err(error @ HostError::NotOurs { .. }) => error.to_string(),
        other => panic!("it is another daemon's: {other:?}"),
    }
}

#[tokio::test]
async fn two_daemons_on_one_host_do_not_act_past_each_other() {
    let Some(remote) = Remote::open(&Like::default()) else {
        return;
    };
    let root = remote.lab.dir().join("app");
    std::fs::create_dir(&root).unwrap();
    std::os::unix::fs::chown(&root, Some(UID), Some(UID)).unwrap();
    let (ours, other) = (remote.host(), host_of(&remote, "other-daemon"));
    // Nobody has acted there yet, so both may look.
    answers(&ours).await;
    answers(&other).await;
    let ask = |host, request| SshHost::call(host, call(login("shop"), Lane::Check, request));
    ask(&ours, start_of(OWNER, 7, HEALS[0], &root))
        .await
        .unwrap();
    let ended = ask(&ours, look(HEALS[0], 15_000)).await.unwrap().answer;
    let is_finished = matches!(ended, Answer::Witness(WitnessState::Finished(_)));
    assert!(is_finished, "{ended:?}");

    // The other one's agent has been there all the time; it refuses, and from then on its daemon knows.
    let late = || start_of("other-daemon", 1, HEALS[1], &root);
    let refused = ask(&other, late()).await;
    assert!(
        matches!(&refused, Err(HostError::Refused { refusal, .. }) if refusal.code == RefusalCode::Owner),
        "{refused:?}"
    );
    let records = remote.state();
    for host in [&other, &host_of(&remote, "third-daemon")] {
        let said = refusal(room(host, "shop").await);
        for words in [
            OWNER,
            "-daemon`",
            "configuration of one of them",
            &format!("records in {} belong", records.display()),
            "remove `owner` and `fence` from that directory",
        ] {
            assert!(said.contains(words), "{words}: {said}");
        }
    }
    answers(&ours).await;
    assert_eq!(std::fs::read_to_string(root.join("ran")).unwrap(), "once\n");

    // What the message says helps.
    std::fs::remove_file(records.join("owner")).unwrap();
    std::fs::remove_dir_all(records.join("fence")).unwrap();
    other.forgive();
    answers(&other).await;
    let begun = ask(&other, late()).await.unwrap().answer;
    assert_eq!(begun, Answer::Started);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_tells_once_that_a_host_is_anothers_and_waits_for_a_person() {
    let Some(remote) = Remote::open(&Like::default()) else {
        return;
    };
    let site = remote.lab.dir().join("site");
    store::copy_tree(&fixture("php"), &site);
    give(&site);
    let ours = remote.host();
    // A tombstone makes an owner as much as an action does.
    let settle = Request::Settle {
        heal: HEALS[0].to_owned(),
        fence: 1,
    };
    let settled = ours.call(call(login("shop"), Lane::Check, settle)).await;
    assert!(settled.is_ok(), "{settled:?}");
    ours.close().await;

    let lab = &remote.lab;
    let config = format!(
        "mode = \"FULL_AUTO\"\n[check]\ninterval = \"1s\"\nlook = \"1s\"\n\
         [host.web1]\nssh = \"shop@127.0.0.1:{}\"\nkey = \"{}\"\nhost_key = \"{}\"\n\
         [app.php]\nhost = \"web1\"\npath = \"{}\"\nstack = \"php\"\nuser = \"shop\"\n",
        remote.sshd.port,
        lab.dir().join("id").display(),
        remote.sshd.host_key("ed25519"),
        site.display(),
    );
    let daemon = lab.daemon(&config, "").unwrap();
    let state = || {
        let (_, hosts) = daemon.ctl(lab, &["host"]);
        let hosts = hosts["items"].as_array().cloned().unwrap_or_default();
        let far = hosts.into_iter().find(|host| host["host"] == "web1");
        far.unwrap_or(Value::Null)["state"].clone()
    };
    wait_for("it is told", || state() == "NOT_OURS");
    let rounds_failed = || lab.log("healerd").matches("round failed").count();
    let failed = rounds_failed();
    wait_for("more rounds", || rounds_failed() > failed + 2);
    let (_, incidents) = daemon.ctl(lab, &["incidents"]);
    let incidents = incidents["items"].as_array().cloned().unwrap_or_default();
    assert_eq!(incidents.len(), 1, "{incidents:#?}");
    assert_eq!(incidents[0]["kind"], "UNKNOWN", "{incidents:#?}");
    let said = incidents[0]["message"].as_str().unwrap_or_default();
    for words in [
        "another daemon looks after it",
        OWNER,
        "configuration of one",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let (_, heals) = daemon.ctl(lab, &["heals"]);
    assert_eq!(heals["items"], serde_json::json!([]), "{heals:#}");
    let (code, found) = daemon.ctl(lab, &["host", "doctor", "web1"]);
    assert_eq!(code, Some(3), "{found:#}");
    assert!(found.to_string().contains(OWNER), "{found:#}");

    std::fs::remove_file(remote.state().join("owner")).unwrap();
    let (code, found) = daemon.ctl(lab, &["host", "doctor", "web1"]);
    assert_eq!(code, Some(0), "{found:#}");
    wait_for("it is looked after", || state() == "SEEN");
    daemon.stop(lab);
}

fn give(path: &Path) {
    std::os::unix::fs::lchown(path, Some(UID), Some(UID)).unwrap();
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path());
        }
    }
}
