use super::*;
use crate::protocol::{How, Target};
use crate::tree::EffectSource;

fn start(heal: &str, fence: u64) -> Start {
    Start {
        heal: heal.to_owned(),
        fence,
        owner: "daemon-1".to_owned(),
        action: "test".to_owned(),
        target: Target {
            root: "/srv/app".to_owned(),
            roots: vec![],
            uid: 1,
            gid: 1,
            volatile: vec![],
        },
        steps: vec![],
        finally: vec![],
        writes: vec![],
        scratch: vec![],
        timeout_ms: 1000,
    }
}

fn witness() -> (tempfile::TempDir, Witness) {
    let directory = tempfile::tempdir().unwrap();
    let witness = Witness::open(&directory.path().join("state")).unwrap();
    (directory, witness)
}

fn code<T: std::fmt::Debug>(result: Result<T, Refusal>) -> RefusalCode {
    result.unwrap_err().code
}

#[test]
fn a_tombstone_refuses_a_late_start() {
    let (_keep, witness) = witness();
    assert_eq!(witness.state("h1").unwrap(), WitnessState::Absent);
    assert_eq!(witness.settle("h1", 1).unwrap(), WitnessState::Cancelled);
    assert_eq!(
        code(witness.begin(&start("h1", 9), "/srv/app")),
        RefusalCode::AlreadyStarted
    );
    assert_eq!(witness.state("h1").unwrap(), WitnessState::Cancelled);
}

#[test]
fn settling_a_started_heal_leaves_it_started() {
    let (_keep, witness) = witness();
    let begun = witness.begin(&start("h1", 3), "/srv/app").unwrap();
    assert_eq!(
        witness.settle("h1", 3).unwrap(),
        WitnessState::Running { step: 0 }
    );
    assert_eq!(code(witness.settle("h1", 2)), RefusalCode::Fence);
    drop(begun);
    assert_eq!(
        witness.settle("h1", 3).unwrap(),
        WitnessState::Interrupted {
            step: 0,
            same_boot: true
        }
    );
}

#[test]
fn a_heal_begins_once_even_when_its_record_is_forgotten() {
    let (_keep, witness) = witness();
    drop(witness.begin(&start("h1", 3), "/srv/app").unwrap());
    assert_eq!(
        code(witness.begin(&start("h1", 3), "/srv/app")),
        RefusalCode::AlreadyStarted
    );
    witness.forget("h1").unwrap();
    assert_eq!(witness.state("h1").unwrap(), WitnessState::Absent);
    assert_eq!(
        code(witness.begin(&start("h1", 3), "/srv/app")),
        RefusalCode::AlreadyStarted
    );
    assert_eq!(
        code(witness.begin(&start("h0", 2), "/srv/app")),
        RefusalCode::Fence
    );
}

#[test]
fn two_heals_never_share_a_target() {
    let (_keep, witness) = witness();
    let first = witness.begin(&start("h1", 3), "/srv/app").unwrap();
    assert_eq!(
        code(witness.begin(&start("h2", 4), "/srv/app")),
        RefusalCode::Limit
    );
    assert_eq!(witness.state("h2").unwrap(), WitnessState::Absent);
    let other = witness.begin(&start("h3", 1), "/srv/other").unwrap();
    drop((first, other));
    drop(witness.begin(&start("h2", 4), "/srv/app").unwrap());
}

#[test]
fn another_owner_is_refused_before_anything_is_written() {
    let (_keep, witness) = witness();
    witness.claim("somebody").unwrap();
    assert_eq!(
        code(witness.begin(&start("h1", 3), "/srv/app")),
        RefusalCode::Owner
    );
    assert_eq!(witness.state("h1").unwrap(), WitnessState::Absent);
}

#[test]
fn a_torn_or_newer_record_is_unreadable_and_stays() {
    let (_keep, witness) = witness();
    for (heal, bytes) in [
        ("h1", &b"{\"version\":1,\"record\":{\"deci"[..]),
        ("h2", b"{\"version\":7,\"record\":{}}"),
        ("h3", b""),
    ] {
        let directory = witness.directory(heal).unwrap();
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join(DECIDED), bytes).unwrap();
        assert!(
            matches!(
                witness.state(heal).unwrap(),
                WitnessState::Unreadable { .. }
            ),
            "{heal}"
        );
        assert!(
            witness.begin(&start(heal, 9), "/srv/app").is_err(),
            "{heal}"
        );
        assert!(witness.forget(heal).is_err(), "{heal}");
    }
}

#[test]
fn an_id_is_never_a_path() {
    let (_keep, witness) = witness();
    for id in ["", "../x", "a/b", "A", "a.b", &"a".repeat(41)] {
        assert_eq!(code(witness.state(id)), RefusalCode::Malformed, "{id}");
        assert_eq!(code(witness.settle(id, 1)), RefusalCode::Malformed, "{id}");
    }
}

#[test]
fn finished_is_told_while_the_lock_is_still_held() {
    let (_keep, witness) = witness();
    let _begun = witness.begin(&start("h1", 3), "/srv/app").unwrap();
    let finished = Finished {
        how: How::Done,
        step: 0,
        steps: vec![],
        effects: 0,
        effects_complete: true,
        confined: true,
        duration_ms: 1,
    };
    files::replace(&witness.directory("h1").unwrap(), "finished", &finished).unwrap();
    assert_eq!(
        witness.state("h1").unwrap(),
        WitnessState::Finished(finished)
    );
}

#[test]
fn effects_are_paged_in_path_order() {
    let (_keep, witness) = witness();
    drop(witness.begin(&start("h1", 3), "/srv/app").unwrap());
    let effects: Vec<Effect> = (0..50)
        .map(|n| Effect {
            path: TreePath::parse(&format!("f{n:02}")).unwrap(),
            before: None,
            after: None,
            source: EffectSource::Native,
        })
        .collect();
    assert_eq!(witness.write_effects("h1", effects.iter()).unwrap(), 50);
    let (mut seen, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let (page, more) = witness.effects("h1", after.as_ref(), 500).unwrap();
        after = page.last().map(|effect| effect.path.clone());
        seen.extend(page);
        pages += 1;
        if !more {
            break;
        }
    }
    assert_eq!(seen, effects);
    assert!(pages > 5, "{pages}");
}
