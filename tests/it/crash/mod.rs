//! Crash enumeration: the daemon's parts are killed at every announced point between two effects, one point per run.
//!
//! Built with the feature `crash-points`, daemon, agents and supervisor announce each such point and wait. A story is
//! first played through to learn its points; then once for each of them, where whoever announced it is killed, or
//! everybody at once. Each time the daemon is started again if it died, and must come to rest in bounded time: every heal
//! in a legal end, the action started at most once as a record outside the daemon says, and the application cured,
//! exactly as before, or waiting for a person who was told.

mod play;
mod points;
mod power;
mod processes;
mod record;
mod replaced;
mod site;
mod stage;

use play::{Ends, Kills, Story, sweep};
use stage::Plot;

const CURE: Plot = Plot {
    mode: "FULL_AUTO",
    risk: "LOW",
    last_step: "closed.sign",
    timeout: "20s",
    as_root: false,
};

/// Time enough for what happens around an action that stands still.
const LONG: &str = "5m";

/// Writes as much, and the door stays closed.
const NO_CURE: Plot = Plot {
    last_step: "attic/old.txt",
    ..CURE
};

const ENGINE: &[&str] = &[
    "engine.before.admitted",
    "engine.after.admitted",
    "engine.protect",
    "engine.after.BackupVerified",
    "engine.before.intent",
    "engine.after.intent",
    "engine.after.start",
    "engine.before.Ended",
    "engine.after.Ended",
];

const VAULT: &[&str] = &[
    "vault.object.written",
    "vault.manifest.written",
    "vault.objects.synced",
    "vault.objects.named",
    "vault.manifest.named",
    "vault.manifest.durable",
];

const RUN: &[&str] = &[
    "run.witness.locked",
    "run.witness.intent_durable",
    "run.begun",
    "run.supervisor.spawned",
    "run.started",
    "run.step.announced",
    "run.step.recorded",
    "run.walked_before",
    "run.program.spawned",
    "run.program.ended",
    "run.walked_after",
    "put.made",
    "put.exchanged",
    "put.flipped",
    "remove.taken",
    "remove.done",
    "run.steps.ended",
    "run.effects.durable",
    "run.finished",
];

const UNDO: &[&str] = &[
    "engine.before.undo",
    "undo.exchanged",
    "undo.created",
    "undo.removed",
    "undo.settled",
    "engine.after.undo",
    "engine.after.UndoEnded",
    "engine.after.Rechecked",
];

/// Was this built with points to die at? Says so when not.
fn announces() -> bool {
    if !cfg!(feature = "crash-points") {
        crate::lab::skip("needs a build with the feature `crash-points`");
    }
    cfg!(feature = "crash-points")
}

#[test]
fn an_action_that_helps_survives_a_kill_at_every_point() {
    sweep(&Story {
        plot: CURE,
        persons: play::Persons::None,
        end: Ends::Cured,
        kills: Kills::Announcer,
        is_far: false,
        kills_at: &[""],
        must_pass: &[ENGINE, VAULT, RUN],
    });
}

#[test]
fn an_action_that_does_not_help_is_taken_back_after_a_kill_at_every_point() {
    sweep(&Story {
        plot: NO_CURE,
        persons: play::Persons::None,
        end: Ends::Undone,
        kills: Kills::Announcer,
        is_far: false,
        kills_at: &[""],
        must_pass: &[ENGINE, VAULT, RUN, UNDO],
    });
}

#[test]
fn everybody_killed_at_once_at_every_point_leaves_nothing_half_done() {
    sweep(&Story {
        plot: NO_CURE,
        persons: play::Persons::None,
        end: Ends::Undone,
        kills: Kills::Everybody,
        is_far: false,
        kills_at: &["engine.", "vault.", "run.", "undo."],
        must_pass: &[ENGINE, VAULT, RUN, UNDO],
    });
}

#[test]
fn what_a_person_approved_survives_a_kill_at_every_point() {
    sweep(&Story {
        plot: Plot {
            mode: "SEMI_AUTO",
            risk: "HIGH",
            ..CURE
        },
        persons: play::Persons::Approve,
        end: Ends::Cured,
        kills: Kills::Announcer,
        is_far: false,
        kills_at: &["engine."],
        must_pass: &[ENGINE],
    });
}

#[test]
fn a_rollback_that_a_person_wants_survives_a_kill_at_every_point() {
    sweep(&Story {
        plot: Plot {
            mode: "MANUAL",
            ..CURE
        },
        persons: play::Persons::RollBack,
        end: Ends::RolledBack,
        kills: Kills::Announcer,
        is_far: false,
        kills_at: &[""],
        must_pass: &[
            VAULT,
            &["undo.exchanged", "undo.removed", "engine.after.Ended"],
        ],
    });
}

#[test]
fn what_root_gave_away_is_taken_back_after_a_kill_at_every_point() {
    sweep(&Story {
        plot: Plot {
            as_root: true,
            ..NO_CURE
        },
        persons: play::Persons::None,
        end: Ends::Undone,
        kills: Kills::Announcer,
        is_far: false,
        kills_at: &["engine.", "run.", "undo."],
        must_pass: &[ENGINE, &["undo.attributes-set", "engine.after.Rechecked"]],
    });
}

#[test]
fn behind_ssh_a_cut_anywhere_between_daemon_and_action_starts_nothing_twice() {
    sweep(&Story {
        plot: NO_CURE,
        persons: play::Persons::None,
        end: Ends::Undone,
        // Between intent, start and end of the action whatever can die does.
        kills: Kills::Parts(&[
            "engine.after.intent",
            "engine.after.start",
            "run.witness.intent_",
            "run.begun",
            "run.supervisor.spawned",
            "run.started",
            "run.program.",
            "put.exchanged",
            "remove.taken",
            "run.effects.durable",
            "run.finished",
        ]),
        is_far: true,
        // What lies between two of the vault's own effects is the same for every host.
        kills_at: &[
            "engine.",
            "vault.manifest.",
            "run.",
            "put.",
            "remove.",
            "undo.",
        ],
        must_pass: &[ENGINE, VAULT, RUN, UNDO],
    });
}
