//! The symptom must have persisted.

use std::time::Duration;

use super::{GuardInput, deny};
use crate::model::reason::{Denial, GuardName};
use crate::model::time::duration_text;
use crate::model::word::Severity;

pub(super) fn admits(input: &GuardInput<'_>) -> Result<(), Denial> {
    let timing = &input.app.policy.timing;
    let (wanted, looks_wanted) = match input.incident.severity {
        Severity::Critical => (timing.dwell_critical, timing.dwell_critical_looks),
        Severity::Low | Severity::Medium | Severity::High => (timing.dwell, timing.dwell_looks),
    };
    let persisted = Duration::from_millis(input.incident.persisted_ms);
    if persisted >= wanted && input.incident.looks >= looks_wanted {
        return Ok(());
    }
    let missing = wanted.saturating_sub(persisted).max(timing.look);
    Err(deny(
        GuardName::Dwell,
        format!(
            "The symptom has lasted {} in {} looks; it must last {} in {looks_wanted} before anything runs alone.",
            duration_text(persisted),
            input.incident.looks,
            duration_text(wanted)
        ),
        &[
            ("persisted_ms", input.incident.persisted_ms.to_string()),
            ("looks", input.incident.looks.to_string()),
        ],
        Some(input.now.plus(missing)),
    ))
}
