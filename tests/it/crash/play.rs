//! Plays a story again and again, killing at another point each time, and judges what every run came to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use healerd::model::heal::{HealState, Origin};

use super::points::{Points, Target, Victim};
use super::processes::{self, Part};
use super::record::{self, Record};
use super::site::{Programs, Site};
use super::stage::{APP, Plot, Stage};
use crate::lab::{Lab, wait_for};

/// A run that did not come to rest by then never will: every deadline of its configuration has passed.
const REST_WITHIN: Duration = Duration::from_mins(1);

/// Between two looks at the record.
const LOOK: Duration = Duration::from_millis(100);

/// Runs at once in one story. They wait more than they work.
const WORKERS: usize = 5;

/// The same when there are servers to wait for, too.
const WORKERS_FAR: usize = 8;

/// What persons do in a story.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Persons {
    None,
    /// Somebody approves what is proposed.
    Approve,
    /// Somebody asks for the action, and then wants everything back.
    RollBack,
}

/// How a story ends when nobody is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ends {
    Cured,
    Undone,
    RolledBack,
}

/// Who is killed at a point: one run for each.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kills {
    /// Whoever announced it.
    Announcer,
    Everybody,
    /// Each part in turn, from point to point; where a point begins like one of these: every part.
    Parts(&'static [&'static str]),
}

impl Kills {
    /// Which times of a point: everybody is as likely to be at the first as at the last.
    fn times(self, count: usize) -> BTreeSet<usize> {
        match self {
            Self::Announcer | Self::Everybody => BTreeSet::from([1, count]),
            Self::Parts(_) => BTreeSet::from([1]),
        }
    }

    fn at(self, name: &str, turn: usize) -> Vec<Victim> {
        match self {
            Self::Announcer => vec![Victim::Announcer],
            Self::Everybody => vec![Victim::Everybody],
            Self::Parts(all_at) => {
                let mut parts = Part::ALL.to_vec();
                if !has_supervisor(name) {
                    parts.retain(|part| *part != Part::Supervisor);
                }
                if !begins(name, all_at) {
                    parts = vec![parts[turn % parts.len()]];
                }
                parts.into_iter().map(Victim::Part).collect()
            }
        }
    }
}

/// Is one alive whenever this point is passed?
fn has_supervisor(name: &str) -> bool {
    let before = begins(name, &["run.witness.", "run.begun"]);
    !before && begins(name, &["run.", "put.", "remove."])
}

fn begins(name: &str, with: &[&str]) -> bool {
    with.iter().any(|start| name.starts_with(start))
}

/// One story.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Story {
    pub(crate) plot: Plot,
    pub(crate) persons: Persons,
    pub(crate) end: Ends,
    pub(crate) kills: Kills,
    /// Is the application behind an SSH server?
    pub(crate) is_far: bool,
    /// Beginnings of the points to die at; empty text: all.
    pub(crate) kills_at: &'static [&'static str],
    /// Points that must be among those that were found: one that is lost would silently not be tested.
    pub(crate) must_pass: &'static [&'static [&'static str]],
}

/// What one run came to.
struct Played {
    counts: BTreeMap<String, usize>,
    /// The target was reached.
    reached: bool,
    /// And somebody died there.
    killed: bool,
    end: &'static str,
    message: String,
}

/// Plays it once whole, then once for the first and the last time of each point.
///
/// # Panics
/// With every run that ended badly, or when a point is not passed any more.
pub(crate) fn sweep(story: &Story) {
    if !super::announces() {
        return;
    }
    let programs = if story.is_far {
        match Programs::open(&[]) {
            Some(programs) => Some(programs),
            None => return, // the lab said why
        }
    } else {
        None
    };
    let programs = programs.as_ref();
    let played = match play(story, programs, None) {
        Some(Ok(played)) => played,
        Some(Err(why)) => panic!("nobody was killed, and yet: {why}"),
        None => return, // the lab said why
    };
    let names: BTreeSet<&str> = played.counts.keys().map(String::as_str).collect();
    let lost: Vec<_> = story
        .must_pass
        .iter()
        .copied()
        .flatten()
        .filter(|name| !names.contains(*name))
        .collect();
    assert!(lost.is_empty(), "never announced: {lost:?} in {names:?}");
    let chosen = played.counts.iter();
    let chosen = chosen.filter(|(name, _)| begins(name, story.kills_at));
    let targets = chosen.flat_map(|(name, count)| {
        let times = story.kills.times(*count).into_iter();
        times.map(|nth| (name.clone(), nth))
    });
    let targets = targets.enumerate().flat_map(|(turn, (name, nth))| {
        let victims = story.kills.at(&name, turn).into_iter();
        victims.map(move |victim| {
            let name = name.clone();
            (Target { name, nth }, victim)
        })
    });
    let workers = if story.is_far { WORKERS_FAR } else { WORKERS };
    let targets = Mutex::new(targets.collect::<Vec<_>>());
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let next = locked(&targets).pop();
                    let Some(target) = next else { return };
                    let run = play(story, programs, Some(target.clone()));
                    locked(&results).push((target, run));
                }
            });
        }
    });
    let mut bad = Vec::new();
    for ((Target { name, nth }, victim), run) in locked(&results).drain(..) {
        let name = format!("{name} {nth} {victim:?}");
        match run {
            Some(Ok(Played {
                killed: true,
                end,
                message,
                ..
            })) => {
                println!("{name}: {end}: {message}");
            }
            Some(Ok(Played { reached: true, .. })) => bad.push(format!("{name}: nobody there")),
            // Later times of a point may depend on how fast things went; the first may not.
            Some(Ok(_)) if nth > 1 => println!("{name}: not reached"),
            Some(Ok(_)) => bad.push(format!("{name}: not reached")),
            Some(Err(why)) => bad.push(format!("{name}: {why}")),
            None => bad.push(format!("{name}: no lab")),
        }
    }
    assert!(
        bad.is_empty(),
        "{} bad runs:\n{}",
        bad.len(),
        bad.join("\n")
    );
}

/// One run. None where the lab cannot be had.
#[expect(
    clippy::needless_pass_by_value,
    reason = "one run owns what it aims at"
)]
fn play(
    story: &Story,
    programs: Option<&Programs>,
    target: Option<(Target, Victim)>,
) -> Option<Result<Played, String>> {
    let lab = Lab::open(&[])?;
    let site = match programs {
        Some(programs) => Site::by_ssh(&lab, programs),
        None => Site::here(&lab),
    };
    if let (Some(programs), Some(_)) = (programs, &target) {
        programs.place(&lab.dir().join("server/home"), &site.user);
    }
    let stage = Stage::build(lab, &story.plot, &site);
    let points = Points::listen(stage.lab.dir(), target.clone());
    if story.persons != Persons::RollBack {
        points.count();
    }
    let mut daemon = stage.start(points.variable());
    let end = Instant::now() + REST_WITHIN;
    let mut rested_since = None;
    let mut starts = 1;
    loop {
        let record = record::read(&stage.state_dir).unwrap_or_default();
        if Instant::now() > end {
            return Some(Err(told(&stage, &record, "it never came to rest")));
        }
        if !stage.lab.runs(daemon) {
            if !points.has_killed() || starts > 1 {
                return Some(Err(told(&stage, &record, "the daemon ended by itself")));
            }
            starts += 1;
            daemon = stage.start(points.variable());
        }
        if story.is_over(&record) {
            // What comes after the last arrow is waited for a little, where it is the target.
            let since = *rested_since.get_or_insert_with(Instant::now);
            let is_done = points.has_killed() || since.elapsed() > LOOK * 6;
            if is_done && stage.vault_is_tidy() && stage.lab.runs(daemon) && stage.listens() {
                break;
            }
        } else {
            rested_since = None;
            story.act(&stage, &points, &record);
        }
        std::thread::sleep(LOOK);
    }
    let counts = points.counts();
    stage.lab.stop(daemon);
    Some(
        judge(story.end, &stage, target.is_some()).map(|(end, message)| Played {
            counts,
            reached: points.has_killed(),
            killed: points.has_victims(),
            end,
            message,
        }),
    )
}

impl Story {
    /// Is there nothing more to come?
    fn is_over(&self, record: &Record) -> bool {
        let Some(last) = record.heals.last() else {
            return false;
        };
        if !record.rests() {
            return false;
        }
        match self.persons {
            Persons::RollBack => matches!(last.heal.origin, Origin::Rollback { .. }),
            // One that ended before it began is followed by another.
            Persons::None | Persons::Approve => {
                !matches!(last.heal.state, HealState::Aborted { .. })
            }
        }
    }

    /// What persons do next. A daemon that is dying while it is asked is asked again.
    fn act(&self, stage: &Stage, points: &Points, record: &Record) {
        let reason = ["--reason", "the story wants it so"];
        match self.persons {
            Persons::None => {}
            Persons::Approve => {
                if let Some(id) = record.pending_approvals.first() {
                    stage.ctl(&[&["approve", id.as_str(), "--yes"][..], &reason].concat());
                }
            }
            Persons::RollBack => match record.heals.last() {
                None => {
                    stage.ctl(&[&["heal", APP, "open_door"][..], &reason].concat());
                }
                Some(last) => {
                    if let (HealState::Cured { .. }, Some(backup)) =
                        (&last.heal.state, last.heal.state.backup())
                    {
                        points.count();
                        let backup = backup.to_string();
                        let words = ["backups", APP, "rollback", backup.as_str(), "--yes"];
                        stage.ctl(&[&words[..], &reason].concat());
                    }
                }
            },
        }
    }
}

/// What a story's application holds once it is cured.
const OPEN: &[(&str, &str)] = &[
    (".env", "DOOR=open\nNAME=house\n"),
    ("made/plan", "plan of the house\n"),
    ("closed.sign", ""),
];

/// The end of one run, in a word.
///
/// # Errors
/// Everything that is wrong with it.
pub(crate) fn judge(
    undisturbed: Ends,
    stage: &Stage,
    disturbed: bool,
) -> Result<(&'static str, String), String> {
    let record = record::read(&stage.state_dir).unwrap_or_default();
    let mut faults = record.faults();
    if stage.starts() > 1 {
        faults.push(format!("the action was started {} times", stage.starts()));
    }
    wait_for("the last process of the run ends", || {
        processes::of(stage.lab.dir()).is_empty()
    });
    faults.extend(stage.litter().iter().map(|path| format!("left: {path}")));
    let state_file = stage.state_dir.join("state.db");
    let verified = stage.ctl(&["audit", "verify", &state_file.display().to_string()]);
    if verified.code != Some(0) {
        faults.push(format!("audit: {}{}", verified.stdout, verified.stderr));
    }
    let last = record.heals.last().map(|healed| &healed.heal.state);
    let end = match last {
        Some(HealState::Cured { .. }) if undisturbed == Ends::RolledBack => "rolled back",
        Some(HealState::Cured { .. }) => "cured",
        Some(HealState::Undone { .. }) => "undone",
        Some(HealState::NotCured { .. }) => "not cured",
        Some(HealState::Aborted { .. }) => "aborted",
        Some(HealState::Kept { .. }) => "kept",
        Some(HealState::UndoBlocked { .. }) => "undo blocked",
        Some(HealState::UndoFailed { .. }) => "undo failed",
        _ => "unfinished",
    };
    match end {
        "cured" => faults.extend(stage.lacks(OPEN)),
        // These wait for a person, which the record was asked about.
        "kept" | "undo blocked" | "undo failed" if disturbed => {}
        "rolled back" | "undone" => {
            // The times of directories around the write set are no part of a backup: where that is all that is known,
            // they stay. Nobody saw what else happened there.
            let from_backup = undisturbed == Ends::RolledBack || record.was_interrupted();
            let is_time_around = |line: &str| {
                let (path, change) = line.split_once(": ").unwrap_or_default();
                let only_time = change.starts_with("modified ") && !change.contains(", ");
                only_time && stage.app.join(path).is_dir()
            };
            let changes = stage.changes();
            let changes = changes
                .iter()
                .filter(|line| !(from_backup && is_time_around(line)));
            faults.extend(changes.map(|line| format!("not as before: {line}")));
        }
        _ => faults.push(format!("it ended {end}")),
    }
    let undisturbed = match undisturbed {
        Ends::Cured => "cured",
        Ends::Undone => "undone",
        Ends::RolledBack => "rolled back",
    };
    if !disturbed && end != undisturbed {
        faults.push(format!("it ended {end}"));
    }
    if faults.is_empty() {
        let message = record.heals.last().map(|healed| &healed.heal.message);
        Ok((end, message.cloned().unwrap_or_default()))
    } else {
        Err(told(stage, &record, &faults.join("\n  ")))
    }
}

fn told(stage: &Stage, record: &Record, what: &str) -> String {
    let log = stage.lab.log("healerd");
    let lines: Vec<&str> = log.lines().collect();
    let tail = lines[lines.len().saturating_sub(25)..].join("\n    ");
    format!("{what}\n{}    {tail}", record.shown())
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
