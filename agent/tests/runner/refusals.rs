//! Starts and requests that must not be obeyed.

use std::collections::BTreeMap;
use std::sync::{Arc, Barrier};

use healer_agent::protocol::{
    Answer, How, RefusalCode, Request, UndoItem, UndoResult, VERSION, WitnessState,
};
use healer_agent::step::{Bits, Step};
use healer_agent::tree::{Digest, TreePath};

use crate::client::{Agent, OWNER, Place, script, wait_for};

#[test]
fn of_many_racing_starts_exactly_one_runs() {
    let place = Arc::new(Place::new());
    let barrier = Arc::new(Barrier::new(8));
    let racers: Vec<_> = (0..8)
        .map(|_| {
            let (place, barrier) = (Arc::clone(&place), Arc::clone(&barrier));
            std::thread::spawn(move || {
                let mut agent = Agent::new(&place);
                let text = format!("echo ran >> {}/runs", place.outside.display());
                let start = place.start("h1", vec![script(&text, 20_000)]);
                barrier.wait();
                let answer = agent.start(start);
                // One that lost may ask before the winner's intent stands.
                wait_for("the winner", || agent.look("h1") != WitnessState::Absent);
                (answer, agent.finished("h1").how)
            })
        })
        .collect();
    let mut started = 0;
    for racer in racers {
        match racer.join().unwrap() {
            (Ok(Answer::Started), How::Done) => started += 1,
            (Err(refusal), How::Done) => assert!(
                matches!(
                    refusal.code,
                    RefusalCode::AlreadyStarted | RefusalCode::Limit
                ),
                "{refusal:?}"
            ),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(started, 1);
    assert_eq!(place.text("runs"), "ran\n");
}

#[test]
fn a_start_after_its_settling_is_refused() {
    let place = Place::new();
    let mut agent = Agent::new(&place);
    let settle = Request::Settle {
        heal: "h1".to_owned(),
        fence: 1,
    };
    assert_eq!(
        agent.ask(settle).unwrap(),
        Answer::Witness(WitnessState::Cancelled)
    );
    let text = format!("echo ran >> {}/runs", place.outside.display());
    let refusal = agent
        .start(place.start("h1", vec![script(&text, 9000)]))
        .unwrap_err();
    assert_eq!(refusal.code, RefusalCode::AlreadyStarted);
    assert_eq!(agent.look("h1"), WitnessState::Cancelled);
    assert_eq!(place.text("runs"), "");
}

#[test]
fn a_stale_token_and_another_owner_are_refused() {
    let place = Place::new();
    let mut agent = Agent::new(&place);
    let mut start = place.start("h1", vec![script("true", 9000)]);
    start.fence = 7;
    agent.start(start).unwrap();
    assert_eq!(agent.finished("h1").how, How::Done);
    let mut stale = place.start("h2", vec![script("true", 9000)]);
    stale.fence = 6;
    assert_eq!(agent.start(stale).unwrap_err().code, RefusalCode::Fence);

    let mut other = Agent::silent(&place, &[]);
    let hello = other.hello("somebody-else").unwrap();
    assert_eq!(
        hello.owner.as_deref(),
        Some(OWNER),
        "it is told whose this is"
    );
    let mut start = place.start("h3", vec![script("true", 9000)]);
    "somebody-else".clone_into(&mut start.owner);
    start.fence = 8;
    assert_eq!(other.start(start).unwrap_err().code, RefusalCode::Owner);
    for request in [
        Request::Settle {
            heal: "h3".to_owned(),
            fence: 9,
        },
        Request::Forget {
            heal: "h1".to_owned(),
            witness: true,
        },
    ] {
        assert_eq!(other.ask(request).unwrap_err().code, RefusalCode::Owner);
    }
    assert!(
        matches!(other.look("h1"), WitnessState::Finished(_)),
        "looking is free"
    );
    assert_eq!(other.look("h3"), WitnessState::Absent);
}

#[test]
fn an_application_agent_does_nothing_of_roots() {
    let place = Place::new();
    let mut agent = Agent::new(&place);
    let chown = Step::Chown {
        paths: vec![TreePath::root()],
        uid: place.uid,
        gid: place.uid,
        recursive: false,
    };
    let unit = Step::RestartUnit {
        unit: "ssh.service".to_owned(),
    };
    for (heal, step) in [("h1", chown), ("h2", unit)] {
        let refusal = agent.start(place.start(heal, vec![step])).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::NotAllowed);
        assert_eq!(agent.look(heal), WitnessState::Absent);
    }
    let mut start = place.start("h3", vec![script("true", 9000)]);
    start.target.uid += 1;
    assert_eq!(
        agent.start(start).unwrap_err().code,
        RefusalCode::NotAllowed
    );
}

#[test]
fn a_root_agent_without_a_list_does_nothing_at_all() {
    if !rustix::process::geteuid().is_root() {
        return crate::client::skip("only root can be a root agent");
    }
    let place = Place::new();
    std::os::unix::fs::chown(&place.state, Some(0), Some(0)).unwrap();
    let mut root = RootAgent::new(&place);
    let bits = Step::SetBits {
        paths: vec![TreePath::root()],
        add: Bits::default(),
        remove: Bits::default(),
        recursive: false,
    };
    let run = Step::Run {
        argv: vec!["true".to_owned()],
        env: BTreeMap::new(),
        ok: vec![0],
        timeout_ms: 1000,
    };
    for step in [bits, run] {
        let refusal = root.0.start(place.start("h1", vec![step])).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::NotAllowed);
    }
}

#[test]
fn root_takes_back_and_repeats_what_its_own_record_says_while_the_list_allows_it() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    if !rustix::process::geteuid().is_root() {
        return crate::client::skip("only root can be a root agent");
    }
    let place = Place::new();
    std::os::unix::fs::chown(&place.state, Some(0), Some(0)).unwrap();
    let list = place.outside.join("agent.toml");
    let allow = |below: &std::path::Path| {
        let text = format!(
            "[[chown]]\nbelow = \"{}\"\nto = [{}]\n",
            below.display(),
            place.uid
        );
        std::fs::write(&list, text).unwrap();
        std::os::unix::fs::chown(&list, Some(0), Some(0)).unwrap();
        std::fs::set_permissions(&list, std::fs::Permissions::from_mode(0o644)).unwrap();
    };
    allow(&place.root);
    let file = place.root.join("storage");
    std::fs::write(&file, "root's").unwrap();
    std::os::unix::fs::chown(&file, Some(0), Some(0)).unwrap();
    let owner = || std::fs::metadata(&file).unwrap().uid();
    let mut agent = Agent::as_root(&place, &list);
    agent.hello(OWNER).unwrap();
    let chown = Step::Chown {
        paths: vec![TreePath::parse("storage").unwrap()],
        uid: place.uid,
        gid: place.uid,
        recursive: false,
    };
    agent.start(place.start("h1", vec![chown])).unwrap();
    assert_eq!(agent.finished("h1").how, How::Done);
    assert_eq!(owner(), place.uid);
    let Answer::Effects { effects, more } = agent
        .ask(Request::Effects {
            heal: "h1".to_owned(),
            after: None,
        })
        .unwrap()
    else {
        panic!("effects")
    };
    assert!(!more && effects.len() == 1, "{effects:?}");
    let item = |back: bool| {
        let (before, after) = (effects[0].before.clone(), effects[0].after.clone());
        let (before, after) = if back {
            (before, after)
        } else {
            (after, before)
        };
        UndoItem {
            path: effects[0].path.clone(),
            before,
            after,
            in_place: false,
        }
    };
    let undo = |heal: &str, item: UndoItem| Request::Undo {
        heal: heal.to_owned(),
        target: place.target(),
        items: vec![item],
        deadline_ms: 10_000,
    };
    let done = |answer: Answer| match answer {
        Answer::Undone { outcomes } => outcomes[0].result,
        other => panic!("{other:?}"),
    };
    for (back, result, want) in [
        (true, UndoResult::Restored, 0),
        (true, UndoResult::Already, 0),
        (false, UndoResult::Restored, place.uid),
        // It was another's for a while that nobody recorded: root cannot vouch for what it holds.
        (true, UndoResult::Kept, place.uid),
    ] {
        assert_eq!(done(agent.ask(undo("h1", item(back))).unwrap()), result);
        assert_eq!(owner(), want);
    }
    // Anything that is not of the record, and any record that is not there.
    let mut other = item(true);
    other.before.as_mut().unwrap().meta.uid = place.uid + 1;
    for (heal, item) in [("h1", other), ("h2", item(true))] {
        let refusal = agent.ask(undo(heal, item)).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::NotAllowed, "{heal}");
    }
    assert!(agent.close().success());
    // What the action did is not allowed any more, though the path still is.
    let elsewhere = place.outside.clone();
    allow(&elsewhere);
    let text = std::fs::read_to_string(&list).unwrap()
        + &format!("[[modes]]\nbelow = \"{}\"\n", place.root.display());
    std::fs::write(&list, text).unwrap();
    let mut agent = Agent::as_root(&place, &list);
    agent.hello(OWNER).unwrap();
    let refusal = agent.ask(undo("h1", item(true))).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::NotAllowed);
    assert_eq!(owner(), place.uid);
}

#[test]
fn what_was_in_a_group_of_others_comes_back_and_says_what_it_lacks() {
    use std::os::unix::fs::MetadataExt as _;
    if !rustix::process::geteuid().is_root() {
        return crate::client::skip("only root can give a directory to a group of others");
    }
    let place = Place::new();
    let shop = place.root.join("shop");
    std::fs::create_dir_all(shop.join("inner")).unwrap();
    for path in [&shop, &shop.join("inner")] {
        std::os::unix::fs::chown(path, Some(place.uid), Some(place.uid + 7)).unwrap();
    }
    let mut agent = Agent::new(&place);
    let remove = Step::Remove {
        paths: vec![TreePath::parse("shop").unwrap()],
        recursive: true,
    };
    agent.start(place.start("h1", vec![remove])).unwrap();
    assert_eq!(agent.finished("h1").how, How::Done);
    assert!(!shop.exists());
    let effects = Request::Effects {
        heal: "h1".to_owned(),
        after: None,
    };
    let Answer::Effects { effects, .. } = agent.ask(effects).unwrap() else {
        panic!("effects")
    };
    let shop_path = TreePath::parse("shop").unwrap();
    let items = effects
        .into_iter()
        .filter(|effect| effect.path.is_below(&shop_path))
        .map(|effect| UndoItem {
            path: effect.path,
            before: effect.before,
            after: effect.after,
            in_place: false,
        })
        .collect();
    let undo = Request::Undo {
        heal: "h1".to_owned(),
        target: place.target(),
        items,
        deadline_ms: 10_000,
    };
    let Answer::Undone { outcomes } = agent.ask(undo).unwrap() else {
        panic!("an undo")
    };
    assert_eq!(outcomes.len(), 2);
    for outcome in &outcomes {
        assert_eq!(outcome.result, UndoResult::Failed, "{outcomes:?}");
        assert!(outcome.detail.contains("not its group"), "{outcomes:?}");
    }
    assert!(shop.join("inner").is_dir(), "{outcomes:?}");
    assert_ne!(std::fs::metadata(&shop).unwrap().gid(), place.uid + 7);
}

/// An agent that stays root.
struct RootAgent(Agent);

impl RootAgent {
    fn new(place: &Place) -> Self {
        let mut agent = Agent::as_root(place, &place.outside.join("absent.toml"));
        agent.hello(OWNER).unwrap();
        Self(agent)
    }
}

#[test]
fn nobody_is_served_before_hello_or_in_another_version() {
    let place = Place::new();
    let mut agent = Agent::silent(&place, &[]);
    let look = || Request::Look {
        heal: "h1".to_owned(),
        wait_ms: 0,
    };
    assert_eq!(agent.ask(look()).unwrap_err().code, RefusalCode::Version);
    let hello = Request::Hello {
        version: VERSION + 1,
        owner: OWNER.to_owned(),
    };
    assert_eq!(agent.ask(hello).unwrap_err().code, RefusalCode::Version);
    assert_eq!(agent.ask(look()).unwrap_err().code, RefusalCode::Version);
    agent.hello(OWNER).unwrap();
    assert!(agent.ask(look()).is_ok());
}

#[test]
fn a_bad_header_is_refused_and_a_bad_frame_ends_the_agent() {
    let place = Place::new();
    let mut agent = Agent::new(&place);
    let header = br#"{"erase_everything":{}}"#;
    let mut frame = Vec::new();
    frame.extend(u32::try_from(12 + header.len()).unwrap().to_be_bytes());
    frame.extend(77_u64.to_be_bytes());
    frame.extend(u32::try_from(header.len()).unwrap().to_be_bytes());
    frame.extend(header);
    agent.raw(&frame);
    let (id, answer, _) = agent.receive();
    assert_eq!(id, 77);
    assert!(matches!(answer, Answer::Refused(refusal) if refusal.code == RefusalCode::Malformed));
    assert_eq!(agent.look("h1"), WitnessState::Absent, "it goes on");

    agent.raw(&u32::MAX.to_be_bytes());
    let (_, answer, _) = agent.receive();
    assert!(matches!(answer, Answer::Refused(refusal) if refusal.code == RefusalCode::Malformed));
    assert!(!agent.close().success());
}

#[test]
fn a_waiting_look_keeps_nobody_waiting_and_can_be_cancelled() {
    let place = Place::new();
    let mut agent = Agent::new(&place);
    agent
        .start(place.start("h1", vec![script("exec sleep 1000", 50_000)]))
        .unwrap();
    let waiting = agent.send(
        &Request::Look {
            heal: "h1".to_owned(),
            wait_ms: 60_000,
        },
        b"",
    );
    assert_eq!(agent.look("h2"), WitnessState::Absent, "answered meanwhile");
    let cancel = agent.send(&Request::Cancel { id: waiting }, b"");
    let answered: Vec<u64> = (0..2)
        .map(|_| {
            let (id, answer, _) = agent.receive();
            assert_eq!(answer, Answer::Cancelled);
            id
        })
        .collect();
    assert_eq!(answered, [waiting, cancel]);
    agent
        .ask(Request::CancelAction {
            heal: "h1".to_owned(),
        })
        .unwrap();
    assert_eq!(agent.finished("h1").how, How::Cancelled);
}

#[test]
fn staging_on_a_full_disk_says_no_room_and_leaves_nothing() {
    let place = Place::new();
    let stage = place.state.join("stage");
    let Some(_mount) = SmallDisk::mount(&stage, place.uid) else {
        return crate::client::skip("only root can fill a disk of its own");
    };
    let mut agent = Agent::new(&place);
    let digest = Digest::of(b"anything");
    let chunk = vec![7; 900 << 10];
    let mut refused = None;
    for part in 0..4_u64 {
        let request = Request::Stage {
            heal: "h1".to_owned(),
            digest,
            offset: part * chunk.len() as u64,
            last: false,
        };
        if let Err(refusal) = agent.ask_with(&request, &chunk) {
            refused = Some(refusal.code);
            break;
        }
    }
    assert_eq!(refused, Some(RefusalCode::NoRoom));
    assert_eq!(std::fs::read_dir(stage.join("h1")).unwrap().count(), 0);
    assert!(agent.close().success());
}

/// A tmpfs of 2 MiB; gone with the value.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(path: &std::path::Path, uid: u32) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        std::fs::create_dir(path).unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o"])
            .arg(format!("size=2m,mode=700,uid={uid},gid={uid}"))
            .arg("tmpfs")
            .arg(path)
            .status()
            .unwrap();
        mounted.success().then(|| Self(path.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(
            std::process::Command::new("umount")
                .arg("-l")
                .arg(&self.0)
                .status(),
        );
    }
}
