//! Programs write where the write set says, and the report never claims more than that.

use healer_agent::protocol::{How, WriteKind, WriteMember};
use healer_agent::tree::Pattern;

use crate::client::{Agent, Place, script};

#[test]
fn a_program_cannot_write_outside_the_write_set() {
    let place = Place::new();
    let mut agent = Agent::new(&place);
    let landlock = agent.hello(crate::client::OWNER).unwrap().landlock;
    let root = place.root.display();
    let text = format!(
        "mkdir -p {root}/cache; touch {root}/cache/in || exit 9; touch {root}/out; touch {}/out; exit 0",
        place.outside.display()
    );
    for (heal, members, confined) in [
        ("h1", vec!["cache/**"], false), // cache/ does not exist yet, so its parent must be writable
        ("h2", vec!["cache/**"], true),
        ("h3", vec!["cache/**", "absent/**"], false),
    ] {
        let mut start = place.start(heal, vec![script(&text, 9000)]);
        start.scratch.clear();
        start.writes = members
            .into_iter()
            .map(|member| WriteMember {
                pattern: Pattern::parse(member).unwrap(),
                what: WriteKind::Content,
                shared: false,
            })
            .collect();
        agent.start(start).unwrap();
        let finished = agent.finished(heal);
        assert_eq!(finished.how, How::Done, "{finished:?}");
        assert_eq!(finished.confined, confined && landlock >= 3, "{heal}");
        if landlock >= 3 {
            assert!(!place.outside.join("out").exists(), "{heal}");
            assert_eq!(place.root.join("out").exists(), !confined, "{heal}");
        }
        drop(std::fs::remove_file(place.root.join("out")));
    }
}
