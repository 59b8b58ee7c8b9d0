//! `healerctl breaker`: the circuit breaker of one application.

use super::args::{BreakerCommand, Force};
use super::client::Client;
use super::output::{CliError, Output};
use super::{ask, ids, table};
use crate::control::wire::{
    BreakerStatus, BreakerTransition, ForceRequest, ForceState, ReasonRequest,
};
use crate::model::counted;
use crate::model::name::AppName;

/// Shows it, or does something to it.
pub(super) async fn run(
    client: &Client,
    json: bool,
    app: &str,
    command: Option<&BreakerCommand>,
) -> Result<Output, CliError> {
    let app: AppName = ids::name(app)?;
    let path = format!("/applications/{app}/circuit-breaker");
    match command {
        None => {
            let status: BreakerStatus = client.get(&path, &[]).await?;
            Ok(Output::of(json, &status, || status_text(&status)))
        }
        Some(BreakerCommand::History) => {
            let rows: Vec<BreakerTransition> = client.get(&format!("{path}/history"), &[]).await?;
            Ok(Output::of(json, &rows, || history_text(&rows)))
        }
        Some(BreakerCommand::Reset { why }) => {
            let request = ReasonRequest {
                reason: ask::reason(why)?,
            };
            let status: BreakerStatus = client.post(&format!("{path}/reset"), &request).await?;
            Ok(Output::of(json, &status, || status_text(&status)))
        }
        Some(BreakerCommand::Force { state, why, length }) => {
            let request = ForceRequest {
                state: match state {
                    Force::Open => ForceState::Open,
                    Force::ObserveOnly => ForceState::ObserveOnly,
                    Force::None => ForceState::None,
                },
                reason: ask::reason(why)?,
                length: length.clone(),
            };
            let status: BreakerStatus = client.post(&format!("{path}/force"), &request).await?;
            Ok(Output::of(json, &status, || status_text(&status)))
        }
    }
}

fn status_text(status: &BreakerStatus) -> String {
    table::fields([
        ("state", Some(status.circuit_breaker_state.to_string())),
        (
            "failures",
            Some(format!(
                "{} of {}",
                status.consecutive_failures, status.max_retries
            )),
        ),
        ("opened last", status.last_circuit_breaker_open.clone()),
        ("resets at", status.circuit_breaker_reset_at.clone()),
        (
            "remaining",
            (status.remaining_minutes > 0).then(|| counted(status.remaining_minutes, "minute")),
        ),
        (
            "can heal",
            Some(if status.can_heal { "yes" } else { "no" }.to_owned()),
        ),
        ("reason", table::some(&status.reason)),
    ])
}

fn history_text(rows: &[BreakerTransition]) -> String {
    table::rows(
        ["AT", "FROM", "TO", "BY", "CAUSE", "HEAL"],
        rows.iter().map(|row| {
            [
                row.at.clone(),
                row.from.to_string(),
                row.to.to_string(),
                row.actor.clone(),
                row.cause.clone(),
                row.heal_id.clone().unwrap_or_default(),
            ]
        }),
        "It never changed its state.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::breaker::BreakerState;

    #[test]
    fn an_open_breaker_says_until_when() {
        insta::assert_snapshot!(status_text(&BreakerStatus {
            circuit_breaker_state: BreakerState::Open,
            consecutive_failures: 3,
            max_retries: 3,
            last_circuit_breaker_open: Some("2026-11-24T03:00:00Z".to_owned()),
            circuit_breaker_reset_at: Some("2026-11-24T04:00:00Z".to_owned()),
            remaining_minutes: 45,
            can_heal: false,
            reason: "Circuit breaker is open. Too many consecutive failures (3). Healing will be available in 45 minutes.".to_owned(),
        }));
    }

    #[test]
    fn transitions_say_who_and_why() {
        insta::assert_snapshot!(history_text(&[BreakerTransition {
            at: "2026-11-24T03:00:00Z".to_owned(),
            from: BreakerState::Closed,
            to: BreakerState::Open,
            cause: "3 failures".to_owned(),
            heal_id: Some("01jd8a000000000000000000ab".to_owned()),
            actor: "healerd".to_owned(),
        }]));
    }
}
