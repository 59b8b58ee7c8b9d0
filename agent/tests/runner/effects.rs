//! What an action changed stands in its record, path by path.

use std::fs;

use healer_agent::protocol::{Answer, How, Request, UndoItem, UndoResult};
use healer_agent::step::Step;
use healer_agent::tree::{Content, Digest, Effect, EffectSource, Pattern, TreePath};

use crate::client::{Agent, Place, script};

fn effects(agent: &mut Agent, heal: &str) -> Vec<Effect> {
    let request = Request::Effects {
        heal: heal.to_owned(),
        after: None,
    };
    match agent.ask(request).unwrap() {
        Answer::Effects { effects, more } => {
            assert!(!more);
            effects
        }
        other => panic!("{other:?}"),
    }
}

fn shown(effect: &Effect) -> (String, bool, bool) {
    (
        effect.path.to_string(),
        effect.before.is_some(),
        effect.after.is_some(),
    )
}

#[test]
fn programs_are_charged_with_what_differs_after_them() {
    let place = Place::new();
    let mut agent = Agent::new(&place);
    let prepare = "echo a > changed; echo b > removed; echo c > left; mkdir dir; echo d > briefly";
    agent
        .start(place.start("h1", vec![script(prepare, 9000)]))
        .unwrap();
    assert_eq!(agent.finished("h1").how, How::Done);
    let steps = vec![
        script(
            "echo A > changed; rm removed; echo e > created; cat left; rm briefly",
            9000,
        ),
        script(
            "chmod 700 dir; echo AA > changed; echo d > briefly; touch -d @1 left",
            9000,
        ),
    ];
    agent.start(place.start("h2", steps)).unwrap();
    let finished = agent.finished("h2");
    assert_eq!(finished.how, How::Done, "{finished:?}");
    let effects = effects(&mut agent, "h2");
    assert!(finished.effects_complete);
    assert_eq!(finished.effects, effects.len() as u64);
    let got: Vec<_> = effects
        .iter()
        .filter(|effect| !effect.path.is_root() && effect.path.as_bytes() != b"briefly")
        .map(shown)
        .collect();
    let want = [
        ("changed", true, true),
        ("created", false, true),
        ("dir", true, true),
        ("left", true, true),
        ("removed", true, false),
    ];
    let want: Vec<_> = want
        .map(|(path, before, after)| (path.to_owned(), before, after))
        .into();
    assert_eq!(got, want);
    let changed = effects
        .iter()
        .find(|effect| effect.path.as_bytes() == b"changed")
        .unwrap();
    assert_eq!(changed.source, EffectSource::Walk);
    let after = changed.after.as_ref().unwrap();
    assert_eq!(
        after.content,
        Content::File {
            size: 3,
            digest: Some(Digest::of(b"AA\n"))
        }
    );
}

#[test]
fn what_is_listed_can_be_read_until_it_changes() {
    let place = Place::new();
    let mut agent = Agent::new(&place);
    fs::write(place.root.join("file"), "content").unwrap();
    let list = Request::List {
        target: place.target(),
        members: vec![
            Pattern::parse("file").unwrap(),
            Pattern::parse("absent").unwrap(),
        ],
        after: None,
        digests: true,
        entries_max: 10,
        deadline_ms: 10_000,
    };
    let Answer::List { entries, more, .. } = agent.ask(list).unwrap() else {
        panic!("a list");
    };
    assert!(!more);
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[0].1, None, "absent is told");
    let (path, state) = entries[1].clone();
    let expect = state.unwrap().key;
    let mut other = expect;
    other.ino += 1;
    let many = |budget| Request::ReadMany {
        target: place.target(),
        files: vec![
            (path.clone(), expect),
            (path.clone(), other),
            (path.clone(), expect),
        ],
        budget,
    };
    let whole = fs::read(place.root.join("file")).unwrap();
    let length = u32::try_from(whole.len()).unwrap();
    let (answer, body) = agent.ask_with(&many(2 * length), b"").unwrap();
    let lengths = vec![Some(length), None, Some(length)];
    assert_eq!(answer, Answer::ReadMany { lengths });
    assert_eq!(body, [whole.clone(), whole.clone()].concat());
    let (answer, body) = agent.ask_with(&many(length + 1), b"").unwrap();
    let lengths = vec![Some(length)];
    assert_eq!((answer, body), (Answer::ReadMany { lengths }, whole));
    let (answer, body) = agent.ask_with(&many(length - 1), b"").unwrap();
    let lengths = vec![None, None, None];
    assert_eq!((answer, body), (Answer::ReadMany { lengths }, Vec::new()));
    let read = Request::Read {
        target: place.target(),
        path: path.clone(),
        expect,
        offset: 3,
        budget: 2,
    };
    let (answer, body) = agent.ask_with(&read, b"").unwrap();
    assert_eq!(
        (answer, body),
        (Answer::Read { end: false }, b"te".to_vec())
    );
    fs::write(place.root.join("file"), "other").unwrap();
    assert!(agent.ask(read).is_err());
}

#[test]
fn an_undo_brings_back_what_a_program_changed_and_twice_is_once() {
    let place = Place::new();
    let mut agent = Agent::new(&place);
    let prepare = "echo before > changed; echo gone > removed";
    agent
        .start(place.start("h1", vec![script(prepare, 9000)]))
        .unwrap();
    assert_eq!(agent.finished("h1").how, How::Done);
    let members = ["changed", "removed", "created"].map(|name| Pattern::parse(name).unwrap());
    let list = Request::List {
        target: place.target(),
        members: members.to_vec(),
        after: None,
        digests: true,
        entries_max: 10,
        deadline_ms: 10_000,
    };
    let Answer::List { entries, .. } = agent.ask(list).unwrap() else {
        panic!("a list");
    };
    let text = "echo after > changed; rm removed; echo new > created";
    agent
        .start(place.start("h2", vec![script(text, 9000)]))
        .unwrap();
    assert_eq!(agent.finished("h2").how, How::Done);
    let effects = effects(&mut agent, "h2");
    for content in ["before\n", "gone\n"] {
        let stage = Request::Stage {
            heal: "h2".to_owned(),
            digest: Digest::of(content.as_bytes()),
            offset: 0,
            last: true,
        };
        let (answer, _) = agent.ask_with(&stage, content.as_bytes()).unwrap();
        assert_eq!(answer, Answer::Staged);
    }
    let items: Vec<UndoItem> = entries
        .into_iter()
        .map(|(path, before)| {
            let effect = effects.iter().find(|effect| effect.path == path).unwrap();
            UndoItem {
                path,
                before,
                after: effect.after.clone(),
                in_place: false,
            }
        })
        .collect();
    let undo = Request::Undo {
        heal: "h2".to_owned(),
        target: place.target(),
        items,
        deadline_ms: 20_000,
    };
    for want in [UndoResult::Restored, UndoResult::Already] {
        let Answer::Undone { outcomes } = agent.ask(undo.clone()).unwrap() else {
            panic!("an undo");
        };
        assert_eq!(outcomes.len(), 3);
        assert!(
            outcomes.iter().all(|outcome| outcome.result == want),
            "{outcomes:?}"
        );
        assert_eq!(
            fs::read_to_string(place.root.join("changed")).unwrap(),
            "before\n"
        );
        assert_eq!(
            fs::read_to_string(place.root.join("removed")).unwrap(),
            "gone\n"
        );
        assert!(!place.root.join("created").exists());
    }
    let forget = Request::Forget {
        heal: "h2".to_owned(),
        witness: false,
    };
    assert_eq!(agent.ask(forget).unwrap(), Answer::Forgotten);
    assert!(!place.state.join("stage/h2").exists());
    assert!(place.state.join("witness/h2").exists());
}

#[test]
fn native_steps_tell_what_they_did_also_when_a_later_one_fails() {
    let place = Place::new();
    let mut agent = Agent::new(&place);
    let path = |text: &str| TreePath::parse(text).unwrap();
    fs::write(place.root.join(".env"), "A=1\nB=2\n").unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(place.root.join(".env"), Some(place.uid), Some(place.uid))
            .unwrap();
    }
    let digest = Digest::of(b"whole");
    let stage = Request::Stage {
        heal: "h1".to_owned(),
        digest,
        offset: 0,
        last: true,
    };
    agent.ask_with(&stage, b"whole").unwrap();
    let steps = vec![
        Step::EditKey {
            path: path(".env"),
            key: "B".to_owned(),
            value: "3".to_owned(),
        },
        Step::Put {
            path: path("put"),
            digest,
            mode: 0o640,
            owner: None,
        },
        Step::Put {
            path: path("never"),
            digest: Digest::of(b"not staged"),
            mode: 0o640,
            owner: None,
        },
        Step::Remove {
            paths: vec![path("put")],
            recursive: false,
        },
    ];
    agent.start(place.start("h1", steps)).unwrap();
    let finished = agent.finished("h1");
    assert_eq!(
        (finished.how, finished.step),
        (How::Failed, 2),
        "{finished:?}"
    );
    assert!(finished.steps[2].message.contains("was not staged"));
    assert_eq!(
        fs::read_to_string(place.root.join(".env")).unwrap(),
        "A=1\nB=3\n"
    );
    assert_eq!(fs::read_to_string(place.root.join("put")).unwrap(), "whole");
    let effects = effects(&mut agent, "h1");
    let got: Vec<_> = effects
        .iter()
        .filter(|effect| !effect.path.is_root())
        .map(shown)
        .collect();
    assert_eq!(
        got,
        [
            (".env".to_owned(), true, true),
            ("put".to_owned(), false, true)
        ]
    );
    assert!(
        effects
            .iter()
            .all(|effect| effect.source == EffectSource::Native)
    );
}
