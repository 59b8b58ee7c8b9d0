//! One round of checks for one app: one request to its agent, facts back, results by the stack's rules.
//!
//! It decides nothing and stores nothing. A host that cannot be seen is told as such; it never makes a check bad.

use std::time::Duration;

use healer_agent::protocol::{Answer, Request};

use crate::catalogue::{Check, Stack};
use crate::model::app::App;
use crate::model::check::Round;
use crate::seam::{Call, HostError, Lane, Login, World};

/// Why there is no round.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ObserveError {
    #[error("host `{0}` is not in the configuration")]
    NoHost(String),
    #[error(transparent)]
    Host(#[from] HostError),
}

/// Makes one round.
///
/// # Errors
/// When the host cannot be seen or answers nonsense.
pub async fn round(
    world: &World,
    app: &App,
    stack: &Stack,
    which: &(dyn Fn(&Check) -> bool + Sync),
    timeout: Duration,
) -> Result<Round, ObserveError> {
    let host = world
        .hosts
        .get(&app.host)
        .ok_or_else(|| ObserveError::NoHost(app.host.to_string()))?;
    let checks = stack.probes(app, which);
    // The agent gives up a little before we do, so that what it has found arrives.
    let deadline_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
    let call = Call {
        login: Login::of_app(app),
        lane: Lane::Check,
        request: Request::Round {
            target: app.target.clone(),
            checks,
            deadline_ms,
        },
        body: Vec::new(),
        timeout: timeout + Duration::from_secs(5),
    };
    let Answer::Round { roots, checks } = host.call(call).await?.answer else {
        return Err(HostError::Protocol {
            host: app.host.clone(),
        }
        .into());
    };
    let results = stack.evaluate(app, which, &checks);
    Ok(Round { results, roots })
}
