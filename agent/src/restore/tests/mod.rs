//! Undo against random trees, random actions and random third parties, judged by a comparer of its own.

mod random;
mod seen;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Seek as _, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use random::{Deed, Random, act, grow, meddle};
use seen::{Tree, look};

use super::*;
use crate::protocol::Target;
use crate::tree::Pattern;
use crate::tree::diff::changes;
use crate::walk::{Limits, snapshot};

type Hook = Box<dyn FnMut(&str)>;

thread_local! {
    static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
}

/// Called by the code under test between two effects.
pub(super) fn hook(point: &str) {
    let taken = HOOK.with(|slot| slot.borrow_mut().take());
    if let Some(mut hook) = taken {
        hook(point);
        HOOK.with(|slot| *slot.borrow_mut() = Some(hook));
    }
}

/// Thrown at the point at which an undo is abandoned.
struct Crash;

/// Who else is there in a case.
#[derive(Clone, Copy, PartialEq)]
enum Others {
    Nobody,
    Before,
    During,
}

struct Case {
    _dir: tempfile::TempDir,
    root: PathBuf,
    roots: Roots,
    before: Tree,
    after: Tree,
    items: Vec<UndoItem>,
    content: BTreeMap<Digest, Vec<u8>>,
}

fn soon() -> Instant {
    Instant::now() + Duration::from_mins(5)
}

/// A tree, and what an action made of it. The same seed gives the same case.
fn case(random: &mut Random, base: &Path) -> Case {
    let dir = tempfile::tempdir_in(base).unwrap();
    let root = dir.path().join("app");
    std::fs::create_dir(&root).unwrap();
    grow(random, &root);
    let roots = Roots::open(&Target {
        root: root.to_str().unwrap().to_owned(),
        roots: vec![],
        uid: 0,
        gid: 0,
        volatile: vec![],
    })
    .unwrap();
    let members = [Pattern::parse("**").unwrap()];
    let limits = Limits {
        entries_max: 10_000,
        deadline: soon(),
    };
    let before = look(&root);
    let content = before
        .entries
        .values()
        .map(|seen| (Digest::of(&seen.bytes), seen.bytes.clone()));
    let content = content.collect();
    let (first, unreadable) = snapshot(&roots, &members, true, limits).unwrap();
    assert_eq!(unreadable, []);
    for _ in 0..=random.below(5) {
        act(random, &root);
    }
    let (second, unreadable) = snapshot(&roots, &members, true, limits).unwrap();
    assert_eq!(unreadable, []);
    let items = changes(&first, &second)
        .into_iter()
        .map(|change| UndoItem {
            path: change.path,
            before: change.before,
            after: change.after,
            in_place: random.below(4) == 0,
        })
        .collect();
    Case {
        after: look(&root),
        _dir: dir,
        root,
        roots,
        before,
        items,
        content,
    }
}

impl Case {
    fn undo(&self) -> Vec<UndoOutcome> {
        let stage = |digest: &Digest| -> io::Result<File> {
            let bytes = self.content.get(digest).ok_or(io::ErrorKind::NotFound)?;
            let mut file = tempfile::tempfile_in(memory())?;
            file.write_all(bytes)?;
            file.rewind()?;
            Ok(file)
        };
        undo(&self.roots, &stage, "01H-case", &self.items, soon())
    }
}

/// A directory in memory where there is one.
fn memory() -> PathBuf {
    let shm = Path::new("/dev/shm");
    if shm.is_dir() {
        shm.to_owned()
    } else {
        std::env::temp_dir()
    }
}

/// Runs one case; an undo is abandoned at the `crash`-th point and called again. True if that point was reached.
fn run(seed: u64, base: &Path, others: Others, crash: Option<usize>) -> bool {
    let mut random = Random(seed);
    let case = case(&mut random, base);
    let deeds: Rc<RefCell<BTreeMap<PathBuf, Deed>>> = Rc::default();
    let touched: Rc<RefCell<BTreeSet<PathBuf>>> = Rc::default();
    let other = {
        let (deeds, touched, root) = (deeds.clone(), touched.clone(), case.root.clone());
        move |random: &mut Random, calm: bool| {
            let links = look(&root).links;
            let free = |at: &Path| {
                let at = at.strip_prefix(&root).unwrap();
                let near = |one: &PathBuf| at.starts_with(one) || one.starts_with(at);
                !touched.borrow().iter().any(near)
            };
            let done = meddle(random, &root, calm, free);
            if let Some((at, deed)) = done {
                let path = at.strip_prefix(&root).unwrap().to_owned();
                let mut touched = touched.borrow_mut();
                touched.extend(links.get(&path).cloned().unwrap_or_default());
                touched.insert(path.clone());
                deeds.borrow_mut().insert(path, deed);
            }
        }
    };
    if others != Others::Nobody {
        for _ in 0..random.below(3) {
            other(&mut random, true);
        }
    }
    let count = Rc::new(Cell::new(0_usize));
    let crashed = Rc::new(Cell::new(false));
    {
        let (count, crashed) = (count.clone(), crashed.clone());
        let mut random = Random(seed ^ 0xD0);
        let chance = 3 + random.below(20);
        HOOK.with(|slot| {
            *slot.borrow_mut() = Some(Box::new(move |_| {
                let now = count.get();
                count.set(now + 1);
                if crash == Some(now) {
                    crashed.set(true);
                    resume_unwind(Box::new(Crash));
                }
                if others == Others::During && random.below(chance) == 0 {
                    other(&mut random, false);
                }
            }));
        });
    }
    let first = catch_unwind(AssertUnwindSafe(|| case.undo()));
    HOOK.with(|slot| *slot.borrow_mut() = None);
    let outcomes = match first {
        Ok(outcomes) => outcomes,
        Err(payload) if payload.is::<Crash>() => case.undo(),
        Err(payload) => resume_unwind(payload),
    };
    let label = format!("seed {seed:#x} in {} crash {crash:?}", base.display());
    judge(&case, &deeds.borrow(), &touched.borrow(), &outcomes, &label);
    if others == Others::Nobody {
        let again = case.undo();
        let done = |outcome: &UndoOutcome| outcome.result == UndoResult::Already;
        assert!(again.iter().all(done), "{label}\n{}", story(&case, &again));
        judge(&case, &BTreeMap::new(), &BTreeSet::new(), &again, &label);
    }
    crashed.get()
}

/// What nobody else touched is as before, exactly; what somebody did is still there; nothing else is.
fn judge(
    case: &Case,
    deeds: &BTreeMap<PathBuf, Deed>,
    touched: &BTreeSet<PathBuf>,
    outcomes: &[UndoOutcome],
    label: &str,
) {
    let now = look(&case.root);
    let mut touched = touched.clone();
    for group in [&case.before, &case.after, &now]
        .iter()
        .flat_map(|tree| tree.links.values())
    {
        if !group.is_disjoint(&touched) {
            touched.extend(group.iter().cloned());
        }
    }
    let story = || format!("{label}\n{deeds:?}\n{}", story(case, outcomes));
    assert!(
        outcomes
            .iter()
            .all(|outcome| outcome.result != UndoResult::Failed),
        "{}",
        story()
    );
    for (path, deed) in deeds {
        let seen = now.entries.get(path);
        let there = match deed {
            Deed::Content(bytes) => seen.is_some_and(|seen| seen.bytes == *bytes),
            Deed::Appended(bytes) => seen.is_some_and(|seen| seen.bytes.ends_with(bytes)),
            Deed::Mode(mode) => seen.is_some_and(|seen| seen.mode & 0o7777 == *mode),
            Deed::Gone => seen.is_none(),
        };
        assert!(
            there,
            "{path:?} {deed:?}: {:?}\n{}",
            seen.map(|seen| &seen.bytes),
            story()
        );
    }
    let all: BTreeSet<&PathBuf> = [&case.before, &case.after, &now]
        .iter()
        .flat_map(|tree| tree.entries.keys())
        .collect();
    for path in all {
        let above = touched.iter().any(|touched| touched.starts_with(path));
        let below = touched.iter().any(|touched| path.starts_with(touched));
        if touched.contains(path) || below {
            continue;
        }
        let (mut want, mut got) = (
            case.before.entries.get(path).cloned(),
            now.entries.get(path).cloned(),
        );
        if above {
            match (&mut want, &mut got) {
                // What somebody wrote below it keeps a directory alive, and is what its time tells of.
                (Some(want), Some(got)) if want.kind == 'd' && got.kind == 'd' => {
                    want.mtime = got.mtime;
                }
                _ => continue,
            }
        }
        assert!(
            got == want,
            "{}\ngot {got:?}\nnot {want:?}\n{}",
            path.display(),
            story()
        );
        let group = now.links.get(path);
        let expected = case.before.links.get(path);
        let free = |group: Option<&BTreeSet<PathBuf>>| {
            let near = |path: &PathBuf| {
                touched
                    .iter()
                    .any(|touched| touched.starts_with(path) || path.starts_with(touched))
            };
            group.is_none_or(|group| !group.iter().any(near))
        };
        if free(group) && free(expected) {
            assert_eq!(group, expected, "links of {}\n{}", path.display(), story());
        }
    }
}

/// What became of each path, a line each.
fn story(case: &Case, outcomes: &[UndoOutcome]) -> String {
    let line = |(item, outcome): (&UndoItem, &UndoOutcome)| {
        let (before, after) = (short(item.before.as_ref()), short(item.after.as_ref()));
        let way = if item.in_place { " in place" } else { "" };
        let UndoOutcome {
            path,
            result,
            detail,
        } = outcome;
        format!("{path}{way}: {before} -> {after}: {result:?} {detail}\n")
    };
    case.items.iter().zip(outcomes).map(line).collect()
}

/// A state in few words, for the story of a failure.
fn short(state: Option<&crate::tree::EntryState>) -> String {
    let Some(state) = state else {
        return "absent".to_owned();
    };
    let content = match &state.content {
        Content::File {
            digest: Some(digest),
            ..
        } => format!("file {}", &digest.to_string()[..6]),
        Content::File { .. } | Content::Directory | Content::Link { .. } | Content::Other => {
            format!("{:?}", state.content)
        }
    };
    let (meta, key) = (&state.meta, &state.key);
    format!(
        "[{content} {:o} {}:{} {}.{} x{} ino {} n{}]",
        meta.mode,
        meta.uid,
        meta.gid,
        meta.mtime.secs,
        meta.mtime.nanos,
        meta.xattrs.len(),
        key.ino,
        key.nlink
    )
}

/// Cases with all seeds of a range, on two threads.
fn all(seeds: std::ops::Range<u64>, base: &Path, others: Others) {
    let half = seeds.start.midpoint(seeds.end);
    std::thread::scope(|scope| {
        let work = [seeds.start..half, half..seeds.end].map(|seeds| {
            scope.spawn(move || {
                for seed in seeds {
                    run(seed, base, others, None);
                }
            })
        });
        for work in work {
            if let Err(payload) = work.join() {
                resume_unwind(payload);
            }
        }
    });
}

#[test]
fn what_nobody_else_touched_is_as_before() {
    all(0..4000, &memory(), Others::Nobody);
}

#[test]
fn what_others_wrote_before_the_undo_is_kept() {
    all(10_000..13_000, &memory(), Others::Before);
}

#[test]
fn what_others_write_during_the_undo_is_kept() {
    all(20_000..23_000, &memory(), Others::During);
}

#[test]
fn it_holds_on_the_disk_too() {
    all(30_000..30_100, &std::env::temp_dir(), Others::Nobody);
    all(31_000..31_100, &std::env::temp_dir(), Others::During);
}

#[test]
fn abandoned_at_any_point_and_called_again_it_ends_exact() {
    let mut points = 0;
    for seed in 40_000..40_150 {
        for others in [Others::Nobody, Others::Before] {
            let mut point = 0;
            while run(seed, &memory(), others, Some(point)) {
                point += 1;
            }
            points += point;
        }
    }
    assert!(points > 1000, "only {points} points were met");
}
