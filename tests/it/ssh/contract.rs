//! The same requests against an agent of this machine and one behind SSH: nobody can tell them apart by their answers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use healer_agent::protocol::{
    Answer, How, RefusalCode, Request, Start, WitnessState, WriteKind, WriteMember,
};
use healer_agent::step::Step;
use healer_agent::tree::Pattern;
use healerd::host::LocalHost;
use healerd::host::local::Launch;
use healerd::model::host::UNKNOWN_ID;
use healerd::seam::{Host, HostError, Lane, Login, Reply};

use super::remote::{OWNER, Remote, call, hello, login, target};
use crate::lab::sshd::{Like, UID};

/// A program as an action of one step.
pub(super) fn start(heal: &str, root: &Path, script: &str) -> Request {
    Request::Start(Box::new(Start {
        heal: heal.to_owned(),
        fence: 1,
        owner: OWNER.to_owned(),
        action: "test".to_owned(),
        target: target(root, UID),
        steps: vec![Step::Run {
            argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
            env: BTreeMap::new(),
            ok: vec![0],
            timeout_ms: 60_000,
        }],
        finally: Vec::new(),
        writes: vec![WriteMember {
            pattern: Pattern::parse("**").unwrap(),
            what: WriteKind::Content,
            shared: false,
        }],
        scratch: Vec::new(),
        timeout_ms: 60_000,
    }))
}

pub(super) fn look(heal: &str, wait_ms: u64) -> Request {
    Request::Look {
        heal: heal.to_owned(),
        wait_ms,
    }
}

async fn ask(host: &dyn Host, lane: Lane, request: Request) -> Result<Reply, HostError> {
    host.call(call(login("shop"), lane, request)).await
}

async fn a_host(host: &dyn Host, root: &Path) {
    let Answer::Hello(greeting) = ask(host, Lane::Check, hello()).await.unwrap().answer else {
        panic!("a greeting is answered by one");
    };
    assert_eq!((greeting.uid, greeting.gid), (UID, UID));
    assert!(!greeting.boot_id.is_empty());

    std::fs::write(root.join("page"), "x".repeat(700_000)).unwrap();
    let list = Request::List {
        target: target(root, UID),
        members: vec![Pattern::parse("**").unwrap()],
        after: None,
        digests: true,
        entries_max: 100,
        deadline_ms: 10_000,
    };
    let Answer::List { entries, .. } = ask(host, Lane::Bulk, list).await.unwrap().answer else {
        panic!("a list is answered by one");
    };
    let (path, state) = entries
        .into_iter()
        .find(|(path, _)| path.to_string() == "page")
        .expect("the file is listed");
    let read = Request::Read {
        target: target(root, UID),
        path,
        expect: state.expect("it is there").key,
        offset: 0,
        budget: 800_000,
    };
    let reply = ask(host, Lane::Bulk, read).await.unwrap();
    assert_eq!(reply.answer, Answer::Read { end: true });
    assert_eq!(reply.body.len(), 700_000);

    let gone = Request::List {
        target: target(Path::new("/nonexistent"), UID),
        members: vec![Pattern::parse("*").unwrap()],
        after: None,
        digests: false,
        entries_max: 1,
        deadline_ms: 10_000,
    };
    let error = ask(host, Lane::Check, gone).await.unwrap_err();
    let HostError::Refused { refusal, .. } = error else {
        panic!("the agent refuses: {error:?}");
    };
    assert_eq!(refusal.code, RefusalCode::Root);

    let heal = "0123456789abcdef0123456789abcdef";
    let script = "echo once >> ran";
    ask(host, Lane::Check, start(heal, root, script))
        .await
        .unwrap();
    let again = ask(host, Lane::Check, start(heal, root, script)).await;
    assert!(
        matches!(&again, Err(HostError::Refused { refusal, .. }) if refusal.code == RefusalCode::AlreadyStarted),
        "{again:?}"
    );
    let Answer::Witness(WitnessState::Finished(finished)) =
        ask(host, Lane::Check, look(heal, 15_000))
            .await
            .unwrap()
            .answer
    else {
        panic!("it ended");
    };
    assert_eq!(finished.how, How::Done, "{finished:?}");
    assert_eq!(std::fs::read_to_string(root.join("ran")).unwrap(), "once\n");

    let stranger = Login {
        uid: UID + 1,
        ..login("shop")
    };
    let unknown = Login {
        uid: UNKNOWN_ID,
        ..login("shop")
    };
    let small = || Request::Room {
        path: "/".to_owned(),
    };
    let refused = host.call(call(unknown, Lane::Check, small())).await;
    assert!(
        matches!(refused, Err(HostError::Unreachable { .. })),
        "{refused:?}"
    );
    if host.name().to_string() != "local" {
        let refused = host.call(call(stranger, Lane::Check, small())).await;
        assert!(
            matches!(refused, Err(HostError::Unreachable { .. })),
            "{refused:?}"
        );
    }
    host.close().await;
    ask(host, Lane::Check, small()).await.unwrap();
}

#[tokio::test]
async fn an_agent_behind_ssh_answers_as_one_of_this_machine() {
    let Some(remote) = Remote::open(&Like::default()) else {
        return;
    };
    let root = |name: &str| {
        let path = remote.lab.dir().join(name);
        std::fs::create_dir(&path).unwrap();
        std::os::unix::fs::chown(&path, Some(UID), Some(UID)).unwrap();
        path
    };
    a_host(&remote.host(), &root("far")).await;
    let agents = &remote.launch.agents.directories[0];
    let local = LocalHost::new(
        "local".parse().unwrap(),
        Launch {
            program: agents.join(format!("healer-agent-{}", std::env::consts::ARCH)),
            arguments: Vec::new(),
            state: remote.lab.dir().join("agents"),
            allow: None,
            groups: Arc::new(|_| Vec::new()),
            answered: Arc::new(|| {}),
            owner: OWNER.to_owned(),
        },
    );
    a_host(&local, &root("near")).await;
}
