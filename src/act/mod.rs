//! From intent to outcome.
//!
//! [`start`] takes an [`Intent`], so nothing starts that is not durable. From then on only the target's witness says
//! what happened: [`look`] asks it, and [`settle`] asks it so that what never began never will. Nothing is run twice.

use std::time::Duration;

use healer_agent::protocol::{Answer, Finished, How, RefusalCode, Request, Start, WitnessState};
use healer_agent::tree::{Effect, TreePath};

use crate::model::app::App;
use crate::model::heal::{Heal, Outcome, Unsettled};
use crate::model::id::HealId;
use crate::record::Intent;
use crate::seam::{Call, HostError, Lane, Login, Reply, World};

/// An answer to anything but a long wait comes within this.
const ANSWER: Duration = Duration::from_secs(30);

/// Most effects that are read; an action that changes more is not one that undo should trust.
const EFFECTS_MAX: usize = 2_000_000;

/// Why the stage could not do it.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    #[error(transparent)]
    Host(#[from] HostError),
    #[error("host `{0}` is not in the configuration")]
    NoHost(String),
    #[error("the action changed more than {EFFECTS_MAX} paths")]
    TooMany,
}

/// What a start gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Started {
    /// The supervisor has it.
    Running,
    /// The agent refused before anything ran, and says why.
    NeverRan(String),
    /// No answer: settle by the witness.
    Unknown(String),
}

/// What the witness says now.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    Running {
        step: u32,
    },
    Finished(Finished),
    /// The supervisor died without an end.
    Interrupted,
    /// It never ran and never will.
    NeverRan(String),
    /// The record cannot be read: a person decides.
    Unreadable(String),
    /// The host cannot be seen.
    Unseen(String),
}

/// Starts an action whose intent is durable.
pub async fn start(world: &World, intent: Intent, app: &App, heal: &Heal) -> Started {
    let login = Login::of_action(app, heal.action.identity);
    let start = Start {
        heal: intent.heal().to_string(),
        fence: intent.fence().0,
        owner: world.owner.clone(),
        action: heal.action.name.to_string(),
        target: app.target.clone(),
        steps: heal.action.steps.clone(),
        finally: heal.action.finally.clone(),
        writes: heal.action.writes.clone(),
        scratch: heal.action.scratch.clone(),
        timeout_ms: u64::try_from(heal.action.timeout.as_millis()).unwrap_or(u64::MAX),
    };
    match call(
        world,
        app,
        login,
        Lane::Check,
        Request::Start(Box::new(start)),
        Vec::new(),
        ANSWER,
    )
    .await
    {
        Ok(Reply {
            answer: Answer::Started,
            ..
        }) => Started::Running,
        Ok(_) => Started::Unknown("the agent answered something else".to_owned()),
        // A refusal is certain, but one that says "already" is not ours to read as "never".
        Err(ActError::Host(HostError::Refused { refusal, .. }))
            if refusal.code != RefusalCode::AlreadyStarted =>
        {
            Started::NeverRan(refusal.message)
        }
        Err(error) => Started::Unknown(error.to_string()),
    }
}

/// Asks the witness, waiting up to `wait` for the end.
pub async fn look(
    world: &World,
    unsettled: &Unsettled,
    app: &App,
    login: Login,
    wait: Duration,
) -> Progress {
    let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(0);
    let request = Request::Look {
        heal: unsettled.heal.to_string(),
        wait_ms,
    };
    let reply = call(
        world,
        app,
        login,
        Lane::Check,
        request,
        Vec::new(),
        ANSWER + wait,
    )
    .await;
    progress(reply, false)
}

/// Asks the witness so that an absent record becomes a tombstone first: a start still in flight will refuse.
pub async fn settle(world: &World, unsettled: &Unsettled, app: &App, login: Login) -> Progress {
    let request = Request::Settle {
        heal: unsettled.heal.to_string(),
        fence: unsettled.fence.0,
    };
    let reply = call(world, app, login, Lane::Check, request, Vec::new(), ANSWER).await;
    progress(reply, true)
}

fn progress(reply: Result<Reply, ActError>, settled: bool) -> Progress {
    let state = match reply {
        Ok(Reply {
            answer: Answer::Witness(state),
            ..
        }) => state,
        Ok(_) => return Progress::Unseen("the agent answered something else".to_owned()),
        Err(error) => return Progress::Unseen(error.to_string()),
    };
    match state {
        WitnessState::Running { step } => Progress::Running { step },
        WitnessState::Finished(finished) => Progress::Finished(finished),
        WitnessState::Interrupted { .. } => Progress::Interrupted,
        WitnessState::Cancelled => {
            Progress::NeverRan("it was cancelled before it began".to_owned())
        }
        WitnessState::Absent if settled => {
            Progress::Unseen("the target has not settled it".to_owned())
        }
        WitnessState::Absent => Progress::Unseen("the target has no record of it yet".to_owned()),
        WitnessState::Unreadable { reason } => Progress::Unreadable(reason),
    }
}

/// What the end of a step sequence means. Never success unless the target said `Done`.
pub fn outcome(finished: &Finished) -> Outcome {
    match finished.how {
        How::Done => Outcome::Done,
        How::TimedOut => Outcome::TimedOut,
        How::Cancelled => Outcome::Cancelled,
        How::Failed => {
            let step = finished.steps.get(finished.step as usize);
            let text = step.map_or_else(
                || format!("step {} failed", finished.step + 1),
                |step| {
                    format!(
                        "step {} ({}) failed: {}",
                        finished.step + 1,
                        step.step,
                        step.message
                    )
                },
            );
            Outcome::Failed(text)
        }
    }
}

/// Everything the action changed, as the target recorded it.
///
/// # Errors
/// When the target cannot be asked.
pub async fn effects(
    world: &World,
    heal: HealId,
    app: &App,
    login: Login,
) -> Result<Vec<Effect>, ActError> {
    let mut all = Vec::new();
    let mut after: Option<TreePath> = None;
    loop {
        let request = Request::Effects {
            heal: heal.to_string(),
            after: after.clone(),
        };
        let reply = call(world, app, login, Lane::Bulk, request, Vec::new(), ANSWER).await?;
        let Answer::Effects { effects, more } = reply.answer else {
            return Err(strange(app));
        };
        after = effects.last().map(|effect| effect.path.clone());
        let stuck = more && effects.is_empty();
        all.extend(effects);
        if stuck {
            return Err(strange(app));
        }
        if !more {
            return Ok(all);
        }
        if all.len() > EFFECTS_MAX {
            return Err(ActError::TooMany);
        }
    }
}

/// What a supervisor had recorded before it died; it may be nothing.
///
/// # Errors
/// When the target cannot be asked.
pub async fn effects_so_far(
    world: &World,
    heal: HealId,
    app: &App,
    login: Login,
) -> Result<Vec<Effect>, ActError> {
    match effects(world, heal, app, login).await {
        Err(ActError::Host(HostError::Refused { refusal, .. }))
            if refusal.code == RefusalCode::Absent =>
        {
            Ok(Vec::new())
        }
        other => other,
    }
}

/// Drops what was staged for a heal; with `witness` its whole record, once nothing can ask for it any more. True when
/// the target said that it is gone.
pub async fn forget(world: &World, heal: HealId, app: &App, login: Login, witness: bool) -> bool {
    let request = Request::Forget {
        heal: heal.to_string(),
        witness,
    };
    match call(world, app, login, Lane::Bulk, request, Vec::new(), ANSWER).await {
        Ok(_) => true,
        Err(error) => {
            tracing::debug!(heal_id = %heal, reason = %error, "what the target keeps of a heal was not removed");
            false
        }
    }
}

/// Free bytes where the app lies.
///
/// # Errors
/// When the target cannot be asked.
pub async fn free_bytes(world: &World, app: &App, login: Login) -> Result<u64, ActError> {
    let request = Request::Room {
        path: app.target.root.clone(),
    };
    let reply = call(world, app, login, Lane::Check, request, Vec::new(), ANSWER).await?;
    let Answer::Room { free_bytes, .. } = reply.answer else {
        return Err(strange(app));
    };
    Ok(free_bytes)
}

/// The answer was not one that its request can have.
fn strange(app: &App) -> ActError {
    HostError::Protocol {
        host: app.host.clone(),
    }
    .into()
}

async fn call(
    world: &World,
    app: &App,
    login: Login,
    lane: Lane,
    request: Request,
    body: Vec<u8>,
    timeout: Duration,
) -> Result<Reply, ActError> {
    let host = world
        .hosts
        .get(&app.host)
        .ok_or_else(|| ActError::NoHost(app.host.to_string()))?;
    Ok(host
        .call(Call {
            login,
            lane,
            request,
            body,
            timeout,
        })
        .await?)
}
