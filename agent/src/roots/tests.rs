use std::fs;
use std::os::unix::fs::symlink;

use super::*;

fn target(root: &std::path::Path, roots: &[&std::path::Path]) -> Target {
    Target {
        root: root.to_str().unwrap().to_owned(),
        roots: roots
            .iter()
            .map(|root| root.to_str().unwrap().to_owned())
            .collect(),
        uid: 0,
        gid: 0,
        volatile: vec![],
    }
}

fn path(text: &str) -> TreePath {
    TreePath::parse(text).unwrap()
}

struct House {
    _dir: tempfile::TempDir,
    roots: Roots,
    at: std::path::PathBuf,
}

/// release/ with links in all directions, shared/ declared, outside/ not.
fn house() -> House {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().canonicalize().unwrap();
    for name in ["release/app", "shared/storage/logs", "shared2", "outside"] {
        fs::create_dir_all(at.join(name)).unwrap();
    }
    fs::write(at.join("release/app/a"), "a").unwrap();
    fs::write(at.join("shared/storage/logs/l"), "l").unwrap();
    fs::write(at.join("shared/.env"), "e").unwrap();
    fs::write(at.join("outside/secret"), "s").unwrap();
    symlink("../shared/storage", at.join("release/storage")).unwrap();
    symlink(at.join("shared"), at.join("release/all")).unwrap();
    symlink("../shared/.env", at.join("release/.env")).unwrap();
    symlink("../outside", at.join("release/out")).unwrap();
    symlink("app", at.join("release/inner")).unwrap();
    symlink("../../outside", at.join("shared/storage/escape")).unwrap();
    symlink("../shared/storage", at.join("shared/again")).unwrap();
    symlink("../shared2", at.join("release/near")).unwrap();
    symlink("release", at.join("current")).unwrap();
    let roots = Roots::open(&target(&at.join("current"), &[&at.join("shared")])).unwrap();
    House {
        _dir: dir,
        roots,
        at,
    }
}

#[test]
fn a_release_link_is_resolved_once() {
    let house = house();
    assert_eq!(
        house.roots.real(),
        [
            house.at.join("release").to_str().unwrap(),
            house.at.join("shared").to_str().unwrap(),
        ]
    );
}

#[test]
fn only_the_named_hop_is_followed() {
    for without_openat2 in [false, true] {
        WITHOUT_OPENAT2.store(without_openat2, Ordering::Relaxed);
        let house = house();
        for (text, opens) in [
            ("app/a", true),
            ("storage/logs/l", true),
            ("all/storage/logs/l", true),
            (".env", true),
            ("all/again/logs/l", false), // a second link
            ("out/secret", false),
            ("near", false),
            ("inner/a", false),
            ("storage/escape/secret", false),
        ] {
            let result = house.roots.at(&path(text), OFlags::RDONLY);
            assert_eq!(result.is_ok(), opens, "{text}: {result:?}");
        }
        assert!(
            house
                .roots
                .at(&path(".env"), OFlags::RDONLY | OFlags::NOFOLLOW)
                .is_err()
        );
        let missing = house
            .roots
            .at(&path("app/none"), OFlags::RDONLY)
            .unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
    WITHOUT_OPENAT2.store(false, Ordering::Relaxed);
}

#[test]
fn the_place_of_a_shared_file_is_in_the_shared_root() {
    let house = house();
    let (directory, name) = house.roots.place(&path(".env")).unwrap();
    assert_eq!(name, b".env");
    let shared = house.at.join("shared");
    assert_eq!(
        real_path(directory.as_fd()).unwrap(),
        shared.to_str().unwrap().as_bytes()
    );
    let (directory, _) = house.roots.place(&path("out")).unwrap();
    let release = house.at.join("release");
    assert_eq!(
        real_path(directory.as_fd()).unwrap(),
        release.to_str().unwrap().as_bytes()
    );
}

#[test]
fn roots_that_are_no_directories_of_an_application_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    for root in ["/", "relative", "/proc/self/root"] {
        let refusal = Roots::open(&target(std::path::Path::new(root), &[])).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::Root, "{root}");
    }
    let refusal = Roots::open(&target(&dir.path().join("file"), &[])).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Root);
}

#[test]
fn swapping_links_meanwhile_never_leads_outside() {
    let house = house();
    let at = house.at.clone();
    fs::create_dir(at.join("release/flip")).unwrap();
    fs::write(at.join("release/flip/secret"), "inside").unwrap();
    let stop = std::sync::Arc::new(AtomicBool::new(false));
    let swapper = {
        let stop = stop.clone();
        std::thread::spawn(move || {
            let targets = ["../outside", "../shared/storage"];
            for round in 0_usize.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let new = at.join("release/.new");
                symlink(targets[round % 2], &new).unwrap();
                rustix::fs::renameat_with(
                    rustix::fs::CWD,
                    &new,
                    rustix::fs::CWD,
                    at.join("release/flip"),
                    rustix::fs::RenameFlags::EXCHANGE,
                )
                .unwrap();
                if new.is_symlink() {
                    fs::remove_file(&new).unwrap();
                } else {
                    fs::remove_dir_all(&new).unwrap();
                }
            }
        })
    };
    for _ in 0..20_000 {
        if let Ok(handle) = house.roots.at(&path("flip/secret"), OFlags::RDONLY) {
            let text = io::read_to_string(fs::File::from(handle)).unwrap();
            assert_eq!(text, "inside");
        }
    }
    stop.store(true, Ordering::Relaxed);
    swapper.join().unwrap();
}
