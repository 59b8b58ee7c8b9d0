//! The `bisect` probe: which of many parts keep an application from starting? A program that starts it without some of
//! them is the judge, and every part stays where it is.
//!
//! The search itself changes nothing, so there is nothing to bring back, however it ends; what the parts do when they are
//! started is theirs, and whoever writes the arguments keeps them from what must not happen. It finds a smallest set to
//! leave out, and whom that set clashes with. An answer that did not come within the limits is unknown and never half.
//!
//! What is bad is looked at every few seconds: an answer is remembered, and the next search begins by asking whether it
//! still holds, so that a site that is down is not started over and over. A search that named nobody has nothing to begin
//! with, and its answer stands for a while.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Context;
use super::deadline::boot_now;
use super::found::Found;
use super::program::{self, NotRun, Ran};
use super::spec::{BisectProbe, Fact};
use crate::units::parse_duration;

/// Stands in an argument for the parts left out, joined by commas. With none left out the argument is not given.
pub(super) const LEFT_OUT: &str = "%left_out%";

const ITEMS_MAX: usize = 200;
const ITEM_BYTES_MAX: usize = 200;
const RUNS_MAX: u32 = 100;
const READ_BYTES_MAX: usize = 64 << 10;
const REMEMBERED_MAX: usize = 64;
/// How long a search that named nobody is not made again.
const PAUSE: Duration = Duration::from_mins(10);

/// Culprits that were found, the latest last, by who was asked how.
static REMEMBERED: Mutex<VecDeque<(String, Known)>> = Mutex::new(VecDeque::new());

/// Searches that named nobody, the latest last.
static IN_VAIN: Mutex<VecDeque<InVain>> = Mutex::new(VecDeque::new());

/// A search that named nobody: it was not decided, or it never starts.
#[derive(Debug)]
struct InVain {
    /// Who was asked how.
    key: String,
    /// Among which parts, and within which limits.
    question: String,
    /// When it ended, on the boot clock.
    ended: Duration,
    answer: Result<Answer, Undecided>,
}

/// An earlier answer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    leave_out: Vec<String>,
    clash: Vec<String>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Undecided(String);

/// What a search gave.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    /// It starts with everything in place.
    Starts,
    /// It does not even start with everything left out.
    NeverStarts,
    Culprits {
        /// The smallest set found without which it starts.
        leave_out: Vec<String>,
        /// The smallest set found that does not start together, `leave_out` in front.
        clash: Vec<String>,
    },
}

pub(super) fn probe(context: &Context, asked: &BisectProbe) -> Found {
    let unknown = |why: &str| Found::unknown("bisect", why);
    let times = (
        parse_duration(&asked.timeout),
        parse_duration(&asked.within),
    );
    let (Ok(timeout), Ok(within)) = times else {
        return unknown("not a length of time");
    };
    if let Err(why) = fit(&asked.items) {
        return unknown(&why);
    }
    let Some((name, arguments)) = asked.argv.split_first() else {
        return unknown("`argv` is empty");
    };
    let Some(program) = program::find(context.place.root(), name) else {
        return unknown(&format!("`{name}` is not installed"));
    };
    let key = format!("{} {:?}", context.target.root, asked.argv);
    let question = question(asked);
    match in_vain(&key, &question, boot_now()) {
        Some(Err(Undecided(why))) => return unknown(&why),
        Some(Ok(answer)) => return facts(answer, 0),
        None => {}
    }
    let end = context.within(within);
    let mut runs = 0;
    let known = recall(&key);
    let mut starts = |left_out: &[String]| {
        if runs >= asked.runs_max.min(RUNS_MAX) {
            return Err(Undecided(format!("not found within {runs} runs")));
        }
        runs += 1;
        let arguments: Vec<String> = arguments
            .iter()
            .filter(|argument| !left_out.is_empty() || !argument.contains(LEFT_OUT))
            .map(|argument| argument.replace(LEFT_OUT, &left_out.join(",")))
            .collect();
        let ran = program::run(
            context,
            &program,
            &arguments,
            &BTreeMap::new(),
            end.min(context.within(timeout)),
            READ_BYTES_MAX,
        );
        if end.passed() || context.stopped() {
            return Err(Undecided(format!("not found within {}", asked.within)));
        }
        started(ran, &asked.expect)
    };
    let answer = search(&asked.items, &asked.suspects, known.as_ref(), &mut starts);
    // Of a round that was called off before its time the answer says nothing about the application.
    if !context.cancelled.load(Ordering::Relaxed) || context.deadline.passed() {
        pause(&key, &question, boot_now(), &answer);
    }
    match answer {
        Err(Undecided(why)) => unknown(&why),
        Ok(answer) => {
            remember(key, &answer);
            facts(answer, runs)
        }
    }
}

/// What took too long or was killed says nothing: that may be the host's fault.
fn started(ran: Result<Ran, NotRun>, expect: &str) -> Result<bool, Undecided> {
    match ran {
        Err(NotRun::NotFound) => Err(Undecided("the program is gone".to_owned())),
        Err(NotRun::Other(why)) => Err(Undecided(why)),
        Ok(Ran { exit: None, .. }) => Err(Undecided("a start did not come to its end".to_owned())),
        Ok(ran) => Ok(ran.exit == Some(0) && String::from_utf8_lossy(&ran.stdout).contains(expect)),
    }
}

fn recall(key: &str) -> Option<Known> {
    let remembered = REMEMBERED.lock().ok()?;
    let (_, known) = remembered.iter().find(|(known, _)| known == key)?;
    Some(known.clone())
}

/// Keeps what is worth asking again; a search that ended otherwise is forgotten.
fn remember(key: String, answer: &Answer) {
    let Ok(mut remembered) = REMEMBERED.lock() else {
        return;
    };
    remembered.retain(|(known, _)| *known != key);
    if let Answer::Culprits { leave_out, clash } = answer {
        let known = Known {
            leave_out: leave_out.clone(),
            clash: clash.clone(),
        };
        remembered.push_back((key, known));
        if remembered.len() > REMEMBERED_MAX {
            remembered.pop_front();
        }
    }
}

/// What else an answer depends on. The order of the parts and the suspects only say where to begin.
fn question(asked: &BisectProbe) -> String {
    let mut items = asked.items.clone();
    items.sort();
    format!(
        "{items:?} {:?} {} {} {}",
        asked.expect, asked.runs_max, asked.within, asked.timeout
    )
}

/// What the same search said a short while ago, if it named nobody.
fn in_vain(key: &str, question: &str, now: Duration) -> Option<Result<Answer, Undecided>> {
    let searches = IN_VAIN.lock().ok()?;
    let search = searches
        .iter()
        .find(|search| search.key == key && search.question == question)?;
    (now.saturating_sub(search.ended) < PAUSE).then(|| search.answer.clone())
}

/// Keeps a search that named nobody; any other answer ends the pause.
fn pause(key: &str, question: &str, now: Duration, answer: &Result<Answer, Undecided>) {
    let Ok(mut searches) = IN_VAIN.lock() else {
        return;
    };
    let named_nobody = matches!(answer, Err(_) | Ok(Answer::NeverStarts));
    searches.retain(|search| search.key != key || (named_nobody && search.question != question));
    if named_nobody {
        searches.push_back(InVain {
            key: key.to_owned(),
            question: question.to_owned(),
            ended: now,
            answer: answer.clone(),
        });
        if searches.len() > REMEMBERED_MAX {
            searches.pop_front();
        }
    }
}

fn facts(answer: Answer, runs: u32) -> Found {
    let found = Found::absent("bisect").with("runs", runs);
    match answer {
        Answer::Starts => found.with("starts", true),
        Answer::NeverStarts => found.with("starts", false).with("starts_bare", false),
        Answer::Culprits { leave_out, clash } => {
            let one = match leave_out.as_slice() {
                [one] => Fact::Text(one.clone()),
                _ => Fact::Absent,
            };
            found
                .with("starts", false)
                .with("starts_bare", true)
                .with("one", one)
                .with("leave_out", leave_out)
                .with("clash", clash)
        }
    }
}

/// Can these names stand in one argument, joined by commas, and be told apart there?
fn fit(items: &[String]) -> Result<(), String> {
    if items.len() > ITEMS_MAX {
        return Err(format!("more than {ITEMS_MAX} parts"));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match items.iter().find(|item| {
        item.is_empty()
            || item.len() > ITEM_BYTES_MAX
            || item.starts_with(['-', '.'])
            || !item.chars().all(plain)
    }) {
        Some(_) => Err("a part has a name that cannot be passed on".to_owned()),
        None => Ok(()),
    }
}

/// Looks for a smallest set to leave out, beginning with what was known before, then the suspects. `starts` says whether
/// it starts without these. Nobody is named on one look: a start that failed by chance contradicts itself at the second.
fn search(
    items: &[String],
    suspects: &[String],
    known: Option<&Known>,
    starts: &mut dyn FnMut(&[String]) -> Result<bool, Undecided>,
) -> Result<Answer, Undecided> {
    if starts(&[])? {
        return Ok(Answer::Starts);
    }
    if let Some(known) = known
        && known.clash.iter().all(|part| items.contains(part))
        && is_still_so(&known.leave_out, starts)?
    {
        return Ok(Answer::Culprits {
            leave_out: known.leave_out.clone(),
            clash: known.clash.clone(),
        });
    }
    if items.is_empty() {
        return again(starts, &[], false).map(|()| Answer::NeverStarts);
    }
    if !starts(items)? {
        return again(starts, items, false).map(|()| Answer::NeverStarts);
    }
    // The latest suspect first, then all of them, then everybody.
    let named: Vec<String> = suspects
        .iter()
        .filter(|suspect| items.contains(suspect))
        .cloned()
        .collect();
    let mut from = items.to_vec();
    for set in [named.get(..1).unwrap_or_default(), named.as_slice()] {
        if !set.is_empty() && set.len() < from.len() && starts(set)? {
            from = set.to_vec();
            break;
        }
    }
    let leave_out = smallest(from, starts)?;
    let mut clash = leave_out.clone();
    if let [one] = leave_out.as_slice() {
        let others = without(items, &[one]);
        // Alone with nobody it could clash with?
        if !others.is_empty() && starts(&others)? {
            let partners = smallest(others.clone(), &mut |with: &[String]| {
                let with: Vec<&String> = with.iter().collect();
                starts(&without(&others, &with)).map(|starts| !starts)
            })?;
            clash.extend(partners);
        }
    }
    confirm(items, &leave_out, &clash, starts)?;
    Ok(Answer::Culprits { leave_out, clash })
}

/// Does it start without these, and of several still not with any one of them?
fn is_still_so(
    leave_out: &[String],
    starts: &mut dyn FnMut(&[String]) -> Result<bool, Undecided>,
) -> Result<bool, Undecided> {
    if !starts(leave_out)? {
        return Ok(false);
    }
    for spared in leave_out.iter().filter(|_| leave_out.len() > 1) {
        if starts(&without(leave_out, &[spared]))? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The second look: with it, it fails; without it, it starts; no member of it can be spared, and whoever is named beside
/// it is needed for the clash.
fn confirm(
    items: &[String],
    leave_out: &[String],
    clash: &[String],
    starts: &mut dyn FnMut(&[String]) -> Result<bool, Undecided>,
) -> Result<(), Undecided> {
    again(starts, &[], false)?;
    again(starts, leave_out, true)?;
    if leave_out.len() > 1 {
        for spared in leave_out {
            again(starts, &without(leave_out, &[spared]), false)?;
        }
        return Ok(());
    }
    // A partner is one without which the other starts.
    if clash.len() < items.len() {
        let together: Vec<&String> = clash.iter().collect();
        again(starts, &without(items, &together), false)?;
    }
    for partner in clash.iter().filter(|part| !leave_out.contains(part)) {
        let others: Vec<&String> = clash.iter().filter(|part| *part != partner).collect();
        again(starts, &without(items, &others), true)?;
    }
    Ok(())
}

fn without(items: &[String], others: &[&String]) -> Vec<String> {
    let left = items.iter().filter(|item| !others.contains(item));
    left.cloned().collect()
}

/// Asks what was asked before, and takes no other answer.
fn again(
    starts: &mut dyn FnMut(&[String]) -> Result<bool, Undecided>,
    left_out: &[String],
    want: bool,
) -> Result<(), Undecided> {
    if starts(left_out)? == want {
        return Ok(());
    }
    let why = "what keeps it from starting comes and goes: it did not do the same twice";
    Err(Undecided(why.to_owned()))
}

/// A set for which `holds`, from which no single member can be spared. It holds for `set` to begin with.
///
/// Source: Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input" (ddmin).
fn smallest(
    mut set: Vec<String>,
    holds: &mut dyn FnMut(&[String]) -> Result<bool, Undecided>,
) -> Result<Vec<String>, Undecided> {
    let mut parts = 2;
    while set.len() >= 2 {
        let size = set.len().div_ceil(parts);
        let mut next = None;
        for part in set.chunks(size) {
            if holds(part)? {
                next = Some((part.to_vec(), 2));
                break;
            }
        }
        if next.is_none() && parts > 2 {
            for at in 0..set.len().div_ceil(size) {
                let rest: Vec<String> = set
                    .chunks(size)
                    .enumerate()
                    .filter(|(other, _)| *other != at)
                    .flat_map(|(_, part)| part.to_vec())
                    .collect();
                if holds(&rest)? {
                    next = Some((rest, parts - 1));
                    break;
                }
            }
        }
        match next {
            Some((smaller, then)) => {
                parts = then.max(2).min(smaller.len().max(2));
                set = smaller;
            }
            None if parts >= set.len() => break,
            None => parts = (parts * 2).min(set.len()),
        }
    }
    Ok(set)
}

#[cfg(test)]
#[path = "bisect_tests.rs"]
mod tests;
