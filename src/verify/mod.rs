//! Did it help? One fresh round against what was before.
//!
//! Pure. It judges one round at a time; deadlines, soak and undo are the engine's. Positive evidence alone convicts:
//! what could not be determined, and what belongs to the host, a registry or the calendar, never makes a heal Worse.

use crate::model::check::Round;
use crate::model::heal::Looks;
use crate::model::name::CheckName;
use crate::model::word::{About, Status};

/// The proving checks must be PASS so many times in a row before a heal may end its settle time early.
pub const WELL_LOOKS: u32 = 2;

/// An availability check that had passed must be FAIL so many times in a row to end the settle time at once.
pub const DOWN_LOOKS: u32 = 3;

/// What a round says about a heal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The symptom is gone and nothing of the application got worse.
    Cured,
    /// The symptom is still there.
    NotCured(String),
    /// Something else of the application is worse than before.
    Worse(String),
    /// A proving or availability check could not be determined; nobody can tell yet.
    Inconclusive(String),
}

/// Judges a full round.
///
/// `before` is the status of every check when the heal was admitted. Worse comes first, because an application that
/// lost something must get it back even when its old symptom is gone.
pub fn judge(before: &[(CheckName, Status)], proves: &[CheckName], round: &Round) -> Verdict {
    if let Some(text) = first_worse(before, proves, round) {
        return Verdict::Worse(text);
    }
    let bad = proves
        .iter()
        .filter_map(|check| round.result(check))
        .find(|result| result.status.is_bad());
    if let Some(result) = bad {
        return Verdict::NotCured(format!(
            "{} is still {}: {}",
            result.check, result.status, result.message
        ));
    }
    if proves.is_empty() {
        return Verdict::Inconclusive("no check proves this action".to_owned());
    }
    let undetermined = proves
        .iter()
        .find(|check| round.status(check) == Status::Error);
    if let Some(check) = undetermined {
        return Verdict::Inconclusive(undetermined_text(check, round));
    }
    let unseen = round.results.iter().find(|result| {
        is_availability(result.about, result.availability) && result.status == Status::Error
    });
    match unseen {
        Some(result) => Verdict::Inconclusive(undetermined_text(&result.check, round)),
        None => Verdict::Cured,
    }
}

/// Takes in one look while a heal settles; the verdict, when one is due before the settle time is over.
///
/// ERROR neither counts nor resets. A look need not hold every check: those it lacks are not counted either.
pub fn look(
    looks: &Looks,
    before: &[(CheckName, Status)],
    proves: &[CheckName],
    round: &Round,
) -> (Looks, Option<Verdict>) {
    let mut next = looks.clone();
    next.made = next.made.saturating_add(1);

    let proving: Vec<_> = proves.iter().map(|check| round.status(check)).collect();
    if proving.iter().any(|status| status.is_bad()) {
        next.well = 0;
    } else if !proving.is_empty() && proving.iter().all(|status| *status == Status::Pass) {
        next.well = next.well.saturating_add(1);
    }

    let mut down = None;
    let mut all_seen = true;
    for (check, was) in before {
        let Some(result) = round.result(check) else {
            continue;
        };
        if *was != Status::Pass
            || !is_availability(result.about, result.availability)
            || proves.contains(check)
        {
            continue;
        }
        match result.status {
            Status::Fail => down = down.or(Some(result)),
            Status::Error => all_seen = false,
            Status::Pass | Status::Warn => {}
        }
    }
    match down {
        Some(_) => next.down = next.down.saturating_add(1),
        None if all_seen => next.down = 0,
        None => {}
    }

    let verdict = match down {
        Some(result) if next.down >= DOWN_LOOKS => Some(Verdict::Worse(format!(
            "{} was PASS and is FAIL {} times in a row: {}",
            result.check, next.down, result.message
        ))),
        Some(_) | None if next.well >= WELL_LOOKS => match judge(before, proves, round) {
            // Only a cure ends it early here; everything else may still come right.
            Verdict::Cured => Some(Verdict::Cured),
            Verdict::NotCured(_) | Verdict::Worse(_) | Verdict::Inconclusive(_) => None,
        },
        Some(_) | None => None,
    };
    (next, verdict)
}

const fn is_availability(about: About, availability: bool) -> bool {
    availability && matches!(about, About::App)
}

/// A check of the application itself, not a proving one, that is surely worse than before.
fn first_worse(
    before: &[(CheckName, Status)],
    proves: &[CheckName],
    round: &Round,
) -> Option<String> {
    before.iter().find_map(|(check, was)| {
        let result = round.result(check)?;
        let counts = matches!(result.about, About::App) && !proves.contains(check);
        (counts && got_worse(*was, result.status)).then(|| {
            format!(
                "{check} was {was} and is {}: {}",
                result.status, result.message
            )
        })
    })
}

/// What failed before may still fail; what was unknown before, or is unknown now, proves nothing.
const fn got_worse(was: Status, is: Status) -> bool {
    match (was, is) {
        (Status::Pass, Status::Warn | Status::Fail) | (Status::Warn, Status::Fail) => true,
        (Status::Pass, Status::Pass | Status::Error)
        | (Status::Warn, Status::Pass | Status::Warn | Status::Error)
        | (Status::Fail | Status::Error, _) => false,
    }
}

fn undetermined_text(check: &CheckName, round: &Round) -> String {
    round.result(check).map_or_else(
        || format!("{check} gave no result"),
        |result| format!("{check}: {}", result.message),
    )
}

#[cfg(test)]
mod tests;
