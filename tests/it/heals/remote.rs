//! The loop on a machine that is reached by SSH and has nothing installed.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::process::Signal;

use super::scene::Scene;
use crate::lab::faults::loose_mode;
use crate::lab::process::signal;
use crate::lab::sshd::{self, Like, Sshd, UID};
use crate::lab::tree::hash_tree;
use crate::lab::{Lab, fixture, set_mode, store, wait_for};

/// Gives a whole tree to the server's user.
fn give(path: &Path) {
    std::os::unix::fs::lchown(path, Some(UID), Some(UID)).expect("root can give it away");
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("root can read") {
            give(&entry.expect("root can read").path());
        }
    }
}

/// The state of `web1`, as `healerctl host` shows it.
fn state(scene: &Scene) -> String {
    let (_, hosts) = scene.daemon.ctl(&scene.lab, &["host"]);
    let hosts = hosts["items"].as_array().cloned().unwrap_or_default();
    hosts
        .iter()
        .find(|host| host["host"] == "web1")
        .and_then(|host| host["state"].as_str())
        .unwrap_or("none")
        .to_owned()
}

/// Connections on which somebody tried to log in.
fn tries(sshd: &Sshd, lab: &Lab) -> usize {
    let log = sshd.log(lab);
    log.matches("publickey").count() + log.matches("Invalid user").count()
}

#[test]
fn plain_php_on_an_enrolled_host_is_healed_as_it_would_be_here() {
    if sshd::agent().is_none() {
        return;
    }
    let Some(lab) = Lab::open(sshd::PROGRAMS) else {
        return;
    };
    let sshd = lab.sshd("sshd", &Like::default());
    let key = lab.dir().join("id");
    lab.ssh_key(&key, "ed25519", "");
    sshd.authorize("", &lab.dir().join("id.pub"));
    let site = lab.dir().join("site");
    store::copy_tree(&fixture("php"), &site);
    give(&site);
    set_mode(&site.join("config.php"), 0o640);
    let tables = format!(
        "[host.web1]\nssh = \"shop@127.0.0.1:{}\"\nkey = \"{}\"\n\
         [app.php]\nhost = \"web1\"\npath = \"{}\"\nstack = \"php\"\nuser = \"shop\"\n",
        sshd.port,
        key.display(),
        site.display(),
    );
    // The host and its app come with a reload, and go with one.
    let scene = Scene::start(lab, "mode = \"FULL_AUTO\"", "", "");
    let ctl = |line: &[&str]| scene.daemon.ctl(&scene.lab, line);
    let file = scene.lab.dir().join("healerd.toml");
    let without = fs::read_to_string(&file).expect("the lab wrote it");
    let reload = |text: &str| {
        fs::write(&file, text).expect("root can write");
        signal(scene.daemon.pid, Signal::HUP);
    };
    assert_eq!(state(&scene), "none");
    reload(&format!("{without}\n{tables}"));

    // Nobody trusts it yet: it is told, and no login is tried.
    wait_for("it is told that the host is not enrolled", || {
        let (_, incidents) = ctl(&["incidents"]);
        incidents.to_string().contains("its identity is in doubt")
    });
    assert_eq!(state(&scene), "NOT_ENROLLED");
    let (code, found) = ctl(&["host", "doctor", "web1"]);
    assert_eq!(code, Some(3), "{found:#}");
    assert_eq!(tries(&sshd, &scene.lab), 0, "{}", sshd.log(&scene.lab));

    // A person compares the key; another fingerprint than its own is refused.
    let pinned = sshd.host_key("ed25519");
    let fingerprint = healerd::model::host_key::HostKey::parse(&pinned)
        .expect("the server has a key")
        .fingerprint;
    let (code, said) = ctl(&["host", "enrol", "web1", "--fingerprint", "SHA256:wrong"]);
    assert_ne!(code, Some(0), "{said:#}");
    assert_eq!(state(&scene), "NOT_ENROLLED");
    let (code, said) = ctl(&["host", "enrol", "web1", "--fingerprint", &fingerprint]);
    assert_eq!(code, Some(0), "{said:#}");
    let told = said["message"].as_str().unwrap_or_default();
    assert!(told.contains("looked at now (php"), "{said:#}");
    wait_for(
        "what was said before it was enrolled is said no more",
        || {
            let (_, apps) = ctl(&["apps"]);
            !apps.to_string().contains("no host key is pinned")
        },
    );

    scene.adopted("php");
    assert_eq!(state(&scene), "SEEN");
    let (code, found) = ctl(&["host", "doctor", "web1"]);
    assert_eq!(code, Some(0), "{found:#}");
    let steps = found.to_string();
    for step in ["own keys", "host key", "login", "app php: folder"] {
        assert!(steps.contains(step), "{step}: {found:#}");
    }
    let (_, audit) = ctl(&["audit"]);
    for verb in ["host_enrolled", "user_learned", "host_adopted"] {
        assert!(audit.to_string().contains(verb), "{verb}: {audit:#}");
    }

    // The heal of the plain PHP stack, as on this machine.
    let before = hash_tree(&site, &[]);
    loose_mode(&site.join("config.php"), 0o666);
    scene.heals_alone("php", "fix_permissions");
    let healed = fs::metadata(site.join("config.php")).expect("it is there");
    assert_eq!((healed.mode() & 0o7777, healed.uid()), (0o664, UID));
    loose_mode(&site.join("config.php"), 0o640);
    before.assert_same(&hash_tree(&site, &[]));

    // Forgotten: nothing is tried there any more.
    let (code, said) = ctl(&["host", "forget", "web1"]);
    assert_eq!(
        code,
        Some(2),
        "whoever takes something away says why: {said:#}"
    );
    let why = "the machine goes out of service";
    let (code, said) = ctl(&["host", "forget", "web1", "--reason", why]);
    assert_eq!(code, Some(0), "{said:#}");
    wait_for("it is in doubt again", || {
        let (_, incidents) = ctl(&["incidents"]);
        incidents.to_string().contains("its identity is in doubt")
    });
    let tried = tries(&sshd, &scene.lab);
    loose_mode(&site.join("config.php"), 0o666);
    scene.rounds("php", 3);
    assert_eq!(tries(&sshd, &scene.lab), tried);
    assert_eq!(
        fs::metadata(site.join("config.php"))
            .expect("it is there")
            .mode()
            & 0o7777,
        0o666
    );
    scene.nothing_else_began("php");

    reload(&without);
    wait_for("the host is gone", || state(&scene) == "none");
    assert_eq!(tries(&sshd, &scene.lab), tried);
}
