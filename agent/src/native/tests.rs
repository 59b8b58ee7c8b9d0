use std::fs;
use std::io::{Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::protocol::{Target, UndoItem, UndoResult};
use crate::step::{Bits, Owner, Step};
use crate::tree::{Content, Digest};

struct House {
    dir: tempfile::TempDir,
    roots: Roots,
}

impl House {
    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join("app").join(path)
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap()
    }
}

fn house_in(base: &Path) -> House {
    let dir = tempfile::tempdir_in(base).unwrap();
    for name in ["app/storage/logs", "app/new/sub", "app/old", "shared/cache"] {
        fs::create_dir_all(dir.path().join(name)).unwrap();
    }
    for name in [
        "app/.env",
        "app/storage/logs/l",
        "app/new/sub/n",
        "app/old/o",
        "shared/.env",
        "shared/cache/c",
    ] {
        fs::write(dir.path().join(name), format!("NAME={name}\n")).unwrap();
    }
    symlink("../shared/cache", dir.path().join("app/cache")).unwrap();
    symlink("../shared/.env", dir.path().join("app/.env.shared")).unwrap();
    symlink("/etc/passwd", dir.path().join("app/foreign")).unwrap();
    let text = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let target = Target {
        root: text("app"),
        roots: vec![text("shared")],
        uid: 0,
        gid: 0,
        volatile: vec![],
    };
    let roots = Roots::open(&target).unwrap();
    House { dir, roots }
}

fn like(mode: u32) -> Like<'static> {
    Like { mode, owner: None }
}

fn house() -> House {
    house_in(&std::env::temp_dir())
}

fn path(text: &str) -> TreePath {
    TreePath::parse(text).unwrap()
}

fn paths(texts: &[&str]) -> Vec<TreePath> {
    texts.iter().map(|text| path(text)).collect()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_mins(1)
}

fn names(done: &Done) -> Vec<String> {
    assert!(done.1.is_none(), "{:?}", done.1);
    done.0
        .iter()
        .map(|effect| effect.path.to_string())
        .collect()
}

fn content(text: &str) -> (fs::File, Digest) {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.rewind().unwrap();
    (file, Digest::of(text.as_bytes()))
}

/// Takes a step back and says what became of its paths.
fn undo(house: &House, done: &Done, content: &[&str]) -> Vec<UndoResult> {
    let items: Vec<UndoItem> = done
        .0
        .iter()
        .map(|effect| UndoItem {
            path: effect.path.clone(),
            before: effect.before.clone(),
            after: effect.after.clone(),
            in_place: false,
        })
        .collect();
    let stage = |digest: &Digest| {
        let text = content
            .iter()
            .find(|text| Digest::of(text.as_bytes()) == *digest);
        Ok(self::content(text.ok_or(io::ErrorKind::NotFound)?).0)
    };
    let outcomes = crate::restore::undo(&house.roots, &stage, "heal", &items, soon());
    outcomes.into_iter().map(|outcome| outcome.result).collect()
}

#[test]
fn only_the_named_bits_change_and_links_lead_nowhere() {
    let house = house();
    fs::set_permissions(
        house.at("storage/logs/l"),
        fs::Permissions::from_mode(0o440),
    )
    .unwrap();
    fs::set_permissions(house.at("storage"), fs::Permissions::from_mode(0o500)).unwrap();
    symlink("/etc", house.at("storage/logs/etc")).unwrap();
    let add = Bits::parse("u+rwX").unwrap();
    let done = set_bits(
        &house.roots,
        &paths(&["storage"]),
        add,
        Bits::default(),
        true,
        soon(),
    );
    assert_eq!(names(&done), ["storage", "storage/logs/l"]);
    let mode = |path: &str| fs::metadata(house.at(path)).unwrap().mode() & 0o7777;
    assert_eq!((mode("storage"), mode("storage/logs/l")), (0o700, 0o640));
    let again = set_bits(
        &house.roots,
        &paths(&["storage"]),
        add,
        Bits::default(),
        true,
        soon(),
    );
    assert_eq!(names(&again), [""; 0]);
    assert_eq!(undo(&house, &done, &[]), [UndoResult::Restored; 2]);
    assert_eq!((mode("storage"), mode("storage/logs/l")), (0o500, 0o440));
}

#[test]
fn a_named_hop_is_worked_on_where_it_leads() {
    let house = house();
    let add = Bits::parse("o+w").unwrap();
    let done = set_bits(
        &house.roots,
        &paths(&["cache"]),
        add,
        Bits::default(),
        true,
        soon(),
    );
    assert_eq!(names(&done), ["cache", "cache/c"]);
    let shared = house.dir.path().join("shared/cache");
    assert_eq!(fs::metadata(&shared).unwrap().mode() & 0o002, 0o002);
    assert_eq!(undo(&house, &done, &[]), [UndoResult::Restored; 2]);
    assert_eq!(fs::metadata(&shared).unwrap().mode() & 0o002, 0);
}

#[test]
fn an_owner_is_given_and_taken_back_with_setuid() {
    if !rustix::process::geteuid().is_root() {
        return crate::skip::skip("only root gives files away");
    }
    let house = house();
    fs::set_permissions(house.at("old/o"), fs::Permissions::from_mode(0o4755)).unwrap();
    let done = chown(&house.roots, &paths(&["old"]), 33, 34, true, soon());
    assert_eq!(names(&done), ["old", "old/o"]);
    let meta = fs::metadata(house.at("old/o")).unwrap();
    assert_eq!(
        (meta.uid(), meta.gid(), meta.mode() & 0o7777),
        (33, 34, 0o4755)
    );
    assert_eq!(undo(&house, &done, &[]), [UndoResult::Restored; 2]);
    let meta = fs::metadata(house.at("old/o")).unwrap();
    assert_eq!(
        (meta.uid(), meta.gid(), meta.mode() & 0o7777),
        (0, 0, 0o4755)
    );
}

#[test]
fn neither_an_owner_nor_setuid_goes_back_to_a_content_that_may_be_another_one() {
    if !rustix::process::geteuid().is_root() {
        return crate::skip::skip("only root gives files away");
    }
    for (case, touch) in [
        ("nobody touched it", false),
        ("rewritten, with size and time set back", true),
    ] {
        let house = house();
        let file = house.at("old/o");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o4755)).unwrap();
        let done = chown(&house.roots, &paths(&["old/o"]), 33, 34, false, soon());
        assert_eq!(names(&done), ["old/o"]);
        if touch {
            let modified = fs::metadata(&file).unwrap().modified().unwrap();
            let length = fs::read(&file).unwrap().len();
            fs::write(&file, "x".repeat(length)).unwrap();
            fs::File::options()
                .write(true)
                .open(&file)
                .unwrap()
                .set_modified(modified)
                .unwrap();
        }
        let result = undo(&house, &done, &[]);
        let meta = fs::metadata(&file).unwrap();
        if touch {
            assert_eq!(result, [UndoResult::Kept], "{case}");
            assert_eq!((meta.uid(), meta.gid()), (33, 34), "{case}");
        } else {
            assert_eq!(result, [UndoResult::Restored], "{case}");
            let now = (meta.uid(), meta.gid(), meta.mode() & 0o7777);
            assert_eq!(now, (0, 0, 0o4755), "{case}");
        }
    }
}

/// The file system's own clock, when it has moved on since this was asked.
fn later_than_now(directory: &Path) -> crate::tree::Stamp {
    let stamp = || {
        let marker = tempfile::NamedTempFile::new_in(directory).unwrap();
        let meta = marker.as_file().metadata().unwrap();
        crate::tree::Stamp {
            secs: meta.mtime(),
            nanos: u32::try_from(meta.mtime_nsec()).unwrap(),
        }
    };
    let first = stamp();
    loop {
        let now = stamp();
        if now > first {
            return now;
        }
    }
}

#[test]
fn what_a_killed_put_left_is_cleared_unless_it_may_be_somebodys() {
    /// Made before the action began, or after it; with a time of its own, or with one that was brought along.
    #[derive(PartialEq)]
    enum Made {
        Before,
        After,
        AfterWithAnOldTime,
    }
    use Made::{After, AfterWithAnOldTime, Before};
    for (case, left, left_made, name, name_made, stays) in [
        ("not exchanged yet", "new", After, "old", Before, false),
        ("exchanged", "old", Before, "new", After, false),
        (
            "ours, and the path was written",
            "new",
            After,
            "theirs",
            After,
            false,
        ),
        ("theirs came out", "theirs", After, "new", After, true),
        (
            "theirs came out, copied with its times",
            "theirs",
            AfterWithAnOldTime,
            "new",
            After,
            true,
        ),
    ] {
        let house = house();
        let (directory, file) = house.roots.place(&path("old/o")).unwrap();
        let place = crate::restore::place::Place::new(directory, file, LABEL, &path("old/o"));
        let beside = |name: &[u8]| house.at("old").join(std::str::from_utf8(name).unwrap());
        let (ready, own) = (beside(&place.ready), house.at("old/o"));
        let files = [(&ready, left, &left_made), (&own, name, &name_made)];
        fs::remove_file(&own).unwrap();
        let old = std::time::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
        let made = |path: &Path, text: &str, time: Option<std::time::SystemTime>| {
            fs::write(path, text).unwrap();
            if let Some(time) = time {
                let file = fs::File::options().write(true).open(path).unwrap();
                file.set_modified(time).unwrap();
            }
        };
        for (path, text, _) in files.iter().filter(|(_, _, when)| **when == Before) {
            made(path, text, Some(old));
        }
        let began = later_than_now(house.dir.path());
        for (path, text, when) in files.iter().filter(|(_, _, when)| **when != Before) {
            made(path, text, (**when == AfterWithAnOldTime).then_some(old));
        }
        fs::write(beside(&place.making), "half").unwrap();
        let step = Step::Put {
            path: path("old/o"),
            digest: Digest::of(b"new"),
            mode: 0o600,
            owner: None,
        };
        for _ in 0..2 {
            let cleared = clear(&house.roots, std::iter::once(&step), began);
            assert_eq!(cleared.is_err(), stays, "{case}");
        }
        assert!(!beside(&place.making).exists(), "{case}");
        assert_eq!(beside(&place.ready).exists(), stays, "{case}");
        assert_eq!(house.text("old/o"), name, "{case}");
    }
}

#[test]
fn a_put_file_is_as_open_as_it_was_and_the_ruin_comes_back_as_it_was() {
    let house = house();
    fs::set_permissions(house.at(".env"), fs::Permissions::from_mode(0o644)).unwrap();
    let before = fs::metadata(house.dir.path().join("app")).unwrap();
    let (file, digest) = content("A=1\n");
    let done = put(
        &house.roots,
        &path(".env"),
        &file,
        digest,
        like(0o600),
        soon(),
    );
    assert_eq!(names(&done), [".", ".env"]);
    assert_eq!(house.text(".env"), "A=1\n");
    assert_eq!(
        fs::metadata(house.at(".env")).unwrap().mode() & 0o7777,
        0o600
    );
    let again = put(
        &house.roots,
        &path(".env"),
        &file,
        digest,
        like(0o600),
        soon(),
    );
    assert_eq!(names(&again), [""; 0]);
    assert_eq!(
        undo(&house, &done, &["NAME=app/.env\n"]),
        [UndoResult::Restored; 2]
    );
    assert_eq!(house.text(".env"), "NAME=app/.env\n");
    assert_eq!(
        fs::metadata(house.at(".env")).unwrap().mode() & 0o7777,
        0o644
    );
    let after = fs::metadata(house.dir.path().join("app")).unwrap();
    assert_eq!(
        (after.mtime(), after.mtime_nsec()),
        (before.mtime(), before.mtime_nsec())
    );
}

/// The tests may run as root, who can give any group.
#[test]
fn a_put_file_gets_the_group_and_the_access_list_that_it_had() {
    let house = house();
    let (file, digest) = content("A=1\n");
    let meta = fs::metadata(house.at(".env")).unwrap();
    let owner = |gid| Owner {
        uid: meta.uid(),
        gid,
        acl: None,
    };
    for (place, text) in [("there", ".env"), ("absent", "old/new")] {
        let as_it_was = owner(meta.gid());
        let wanted = Like {
            mode: 0o640,
            owner: Some(&as_it_was),
        };
        let (_, error) = put(&house.roots, &path(text), &file, digest, wanted, soon());
        assert!(error.is_none(), "{place}: {error:?}");
        let found = fs::metadata(house.at(text)).unwrap();
        let found = (found.mode() & 0o7777, found.uid(), found.gid());
        assert_eq!(found, (0o640, meta.uid(), meta.gid()), "{place}");
    }
    // Whose group it cannot be, his bits are nobody's.
    let foreign = owner(meta.gid() + 1);
    let wanted = Like {
        mode: 0o640,
        owner: Some(&foreign),
    };
    let own = crate::tree::Meta {
        mode: 0o600,
        uid: meta.uid(),
        gid: meta.gid(),
        mtime: crate::tree::Stamp { secs: 0, nanos: 0 },
        xattrs: std::iter::once((crate::tree::diff::ACL.to_owned(), "02".to_owned())).collect(),
    };
    let got = super::content::wanted(wanted, &own, &own);
    let may_give = rustix::process::geteuid().is_root();
    assert_eq!(got.mode, if may_give { 0o640 } else { 0o600 });
    assert_eq!(got.gid, meta.gid() + u32::from(may_give));
    assert!(got.xattrs.is_empty(), "an access list that it had not");
}

#[test]
fn a_put_file_that_was_absent_gets_its_mode_and_goes_again() {
    let house = house();
    let (file, digest) = content("x");
    let done = put(
        &house.roots,
        &path("old/new"),
        &file,
        digest,
        like(0o640),
        soon(),
    );
    assert_eq!(names(&done), ["old", "old/new"]);
    assert_eq!(
        fs::metadata(house.at("old/new")).unwrap().mode() & 0o7777,
        0o640
    );
    assert_eq!(undo(&house, &done, &[]), [UndoResult::Restored; 2]);
    assert!(!house.at("old/new").exists());
}

#[test]
fn what_is_no_file_of_the_application_is_not_put() {
    let house = house();
    let (file, digest) = content("x");
    for text in ["foreign", "storage", "foreign/x"] {
        let (effects, error) = put(
            &house.roots,
            &path(text),
            &file,
            digest,
            like(0o600),
            soon(),
        );
        assert_eq!(effects, [], "{text}");
        assert!(error.is_some(), "{text}");
    }
    let wrong = put(
        &house.roots,
        &path(".env"),
        &file,
        Digest::of(b"y"),
        like(0o600),
        soon(),
    );
    assert!(wrong.1.is_some());
    assert_eq!(house.text(".env"), "NAME=app/.env\n");
    let left: Vec<_> = fs::read_dir(house.at("")).unwrap().collect();
    assert_eq!(left.len(), 7, "no temporary file stays");
}

#[test]
fn a_key_is_edited_in_the_shared_file() {
    let house = house();
    let done = edit_key(
        &house.roots,
        &path(".env.shared"),
        "APP_DEBUG",
        "false",
        soon(),
    );
    assert_eq!(names(&done), [".env.shared"]);
    assert!(house.at(".env.shared").is_symlink());
    let shared = house.dir.path().join("shared/.env");
    let text = "NAME=shared/.env\n";
    assert_eq!(
        fs::read_to_string(&shared).unwrap(),
        format!("{text}APP_DEBUG=false\n")
    );
    assert_eq!(undo(&house, &done, &[text]), [UndoResult::Restored]);
    assert_eq!(fs::read_to_string(&shared).unwrap(), text);
    assert!(house.at(".env.shared").is_symlink());
}

#[test]
fn a_removed_directory_comes_back_whole() {
    let house = house();
    let single = remove(&house.roots, &paths(&["new"]), false, soon());
    assert!(single.1.is_some(), "it is not empty");
    let done = remove(
        &house.roots,
        &paths(&["new", "foreign", "none"]),
        true,
        soon(),
    );
    assert_eq!(
        names(&done),
        [".", "foreign", "new", "new/sub", "new/sub/n"]
    );
    assert!(!house.at("new").exists() && Path::new("/etc/passwd").exists());
    assert_eq!(
        undo(&house, &done, &["NAME=app/new/sub/n\n"]),
        [UndoResult::Restored; 5]
    );
    assert_eq!(house.text("new/sub/n"), "NAME=app/new/sub/n\n");
    let link = remove(&house.roots, &paths(&["cache"]), true, soon());
    assert_eq!(names(&link), [".", "cache"]);
    assert!(
        house.dir.path().join("shared/cache/c").exists(),
        "the link went, not what it led to"
    );
}

#[test]
fn swapped_directories_are_reported_whole_and_swap_back() {
    let house = house();
    let done = swap_directory(&house.roots, &path("new"), &path("old"), soon());
    let moved = names(&done);
    for path in ["new/o", "new/sub", "new/sub/n", "old/o", "old/sub/n"] {
        assert!(
            moved.iter().any(|moved| moved == path),
            "{path} in {moved:?}"
        );
    }
    assert_eq!(house.text("new/o"), "NAME=app/old/o\n");
    let results = undo(&house, &done, &["NAME=app/new/sub/n\n", "NAME=app/old/o\n"]);
    assert!(
        results.iter().all(|result| *result == UndoResult::Restored),
        "{results:?}"
    );
    assert_eq!(house.text("old/o"), "NAME=app/old/o\n");
    assert_eq!(house.text("new/sub/n"), "NAME=app/new/sub/n\n");
    let inside = swap_directory(&house.roots, &path("new"), &path("new/sub"), soon());
    assert!(inside.1.is_some());
}

#[test]
fn a_trimmed_log_keeps_its_inode_its_writers_and_whole_lines() {
    let shm = Path::new("/dev/shm");
    let memory = if shm.is_dir() {
        shm.to_owned()
    } else {
        std::env::temp_dir()
    };
    for base in [std::env::temp_dir(), memory] {
        let house = house_in(&base);
        let log = house.at("storage/logs/l");
        let lines: Vec<String> = (0..3000).map(|line| format!("line {line}\n")).collect();
        fs::write(&log, lines.concat()).unwrap();
        let inode = fs::metadata(&log).unwrap().ino();
        let mut writer = fs::OpenOptions::new().append(true).open(&log).unwrap();
        let done = trim_log(&house.roots, &path("storage/logs/l"), 1000, soon());
        writer.write_all(b"last\n").unwrap();
        let text = fs::read_to_string(&log).unwrap();
        let kept: Vec<&str> = text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect();
        assert_eq!(kept.last(), Some(&"last"));
        let first: usize = kept[0].strip_prefix("line ").unwrap().parse().unwrap();
        let want: Vec<&str> = lines[first..].iter().map(|line| line.trim_end()).collect();
        assert_eq!(kept[..kept.len() - 1], want);
        assert!(text.len() < 1000 + 4096 + 10 && kept.len() > 80);
        assert_eq!(fs::metadata(&log).unwrap().ino(), inode);
        assert_eq!(names(&done), ["storage/logs/l"]);
        let after = done.0[0].after.as_ref().unwrap();
        assert!(matches!(
            after.content,
            Content::File {
                digest: Some(_),
                ..
            }
        ));
        let short = trim_log(&house.roots, &path("storage/logs/l"), 100_000, soon());
        assert_eq!(names(&short), [""; 0]);
    }
}

#[test]
fn lines_appended_while_a_log_is_trimmed_are_not_lost_on_a_disk() {
    let house = house();
    let log = house.at("storage/logs/l");
    fs::write(&log, "old line\n".repeat(40_000)).unwrap();
    let start = std::sync::Arc::new(std::sync::Barrier::new(2));
    let writer = {
        let (log, start) = (log.clone(), start.clone());
        std::thread::spawn(move || {
            let mut log = fs::OpenOptions::new().append(true).open(log).unwrap();
            start.wait();
            for number in 0..3000 {
                log.write_all(format!("new {number}\n").as_bytes()).unwrap();
            }
        })
    };
    start.wait();
    let (_, error) = trim_log(&house.roots, &path("storage/logs/l"), 200_000, soon());
    writer.join().unwrap();
    assert!(error.is_none(), "{error:?}");
    let text = house.text("storage/logs/l");
    let new: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("new "))
        .collect();
    assert_eq!(new.len(), 3000);
}

#[test]
fn a_step_that_has_no_time_left_does_nothing() {
    let house = house();
    let late = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
    let (effects, error) = remove(&house.roots, &paths(&["new"]), true, late);
    assert_eq!(effects, []);
    assert_eq!(error.unwrap().source.kind(), io::ErrorKind::TimedOut);
    assert!(house.at("new").exists());
}
