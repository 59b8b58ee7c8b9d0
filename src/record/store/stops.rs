//! What keeps automation away from something: leases, holds, mutes, modes set at run time, bars.

use super::job::Job;
use super::script::{conflict, json, text};
use crate::model::id::{HealId, HoldId};
use crate::model::name::{ActionName, AppName, CheckName};
use crate::model::stop::{Hold, ModeOverride, Mute};
use crate::seam::StoreError;
use crate::seam::store::{Bar, Lease};

/// A heal that takes its own lease again keeps it as it is.
pub(super) async fn take_lease(job: &mut Job<'_>, lease: &Lease) -> Result<(), StoreError> {
    job.must_be_audited("take a lease");
    let heal = lease.heal.to_string();
    let holder = job
        .row(
            "lease",
            "SELECT heal FROM lease WHERE key = ?",
            [lease.key.as_str().into()],
        )
        .await?;
    if let Some(row) = holder {
        return if text(&row, 0)? == heal {
            Ok(())
        } else {
            Err(conflict(format!("the lease of {}", lease.key)))
        };
    }
    job.add(
        "lease",
        "INSERT INTO lease (key, heal, body) VALUES (?, ?, ?)",
        [lease.key.as_str().into(), heal.into(), json(lease)?.into()],
    );
    Ok(())
}

/// Nothing happens when another heal holds it, or none: recovery may give back what was given back already.
pub(super) fn release_lease(job: &mut Job<'_>, key: &str, heal: HealId) {
    job.must_be_audited("release a lease");
    job.add(
        "lease",
        "DELETE FROM lease WHERE key = ? AND heal = ?",
        [key.into(), heal.to_string().into()],
    );
}

/// A hold that was ended stays ended.
pub(super) async fn hold(job: &mut Job<'_>, hold: &Hold) -> Result<(), StoreError> {
    job.must_be_audited("write a hold");
    let id = hold.id.to_string();
    let ended = job
        .row(
            "hold",
            "SELECT 1 FROM hold WHERE id = ? AND ended_ms IS NOT NULL",
            [id.as_str().into()],
        )
        .await?;
    if ended.is_some() {
        return Err(conflict(format!("hold {id}")));
    }
    job.add(
        "hold",
        "INSERT INTO hold (id, scope, since_ms, body) VALUES (?, ?, ?, ?)
         ON CONFLICT (id) DO UPDATE SET scope = excluded.scope, since_ms = excluded.since_ms, body = excluded.body",
        [
            id.into(),
            hold.scope.to_text().into(),
            hold.since.wall_ms.into(),
            json(hold)?.into(),
        ],
    );
    Ok(())
}

/// Ending one that is not active is a conflict: somebody else ended it.
pub(super) async fn end_hold(job: &mut Job<'_>, id: HoldId) -> Result<(), StoreError> {
    job.must_be_audited("end a hold");
    let id = id.to_string();
    let active = job
        .row(
            "hold",
            "SELECT 1 FROM hold WHERE id = ? AND ended_ms IS NULL",
            [id.as_str().into()],
        )
        .await?;
    if active.is_none() {
        return Err(conflict(format!("hold {id}")));
    }
    job.add(
        "hold",
        "UPDATE hold SET ended_ms = ? WHERE id = ?",
        [job.at.wall_ms.into(), id.into()],
    );
    Ok(())
}

pub(super) fn mute(job: &mut Job<'_>, mute: &Mute) -> Result<(), StoreError> {
    job.must_be_audited("mute a check");
    job.add(
        "mute",
        "INSERT INTO mute (app, check_name, body) VALUES (?, ?, ?)
         ON CONFLICT (app, check_name) DO UPDATE SET body = excluded.body",
        [
            mute.app.as_str().into(),
            mute.check.as_str().into(),
            json(mute)?.into(),
        ],
    );
    Ok(())
}

pub(super) fn end_mute(job: &mut Job<'_>, app: &AppName, check: &CheckName) {
    job.must_be_audited("end a mute");
    job.add(
        "mute",
        "DELETE FROM mute WHERE app = ? AND check_name = ?",
        [app.as_str().into(), check.as_str().into()],
    );
}

/// Where a mode override applies: `all` or `app:NAME`.
pub(super) fn mode_scope(app: Option<&AppName>) -> String {
    app.map_or_else(|| "all".to_owned(), |app| format!("app:{app}"))
}

pub(super) fn mode(job: &mut Job<'_>, mode: &ModeOverride) -> Result<(), StoreError> {
    job.must_be_audited("set a mode");
    job.add(
        "mode_override",
        "INSERT INTO mode_override (scope, mode, body) VALUES (?, ?, ?)
         ON CONFLICT (scope) DO UPDATE SET mode = excluded.mode, body = excluded.body",
        [
            mode_scope(mode.app.as_ref()).into(),
            mode.mode.as_str().into(),
            json(mode)?.into(),
        ],
    );
    Ok(())
}

pub(super) fn clear_mode(job: &mut Job<'_>, app: Option<&AppName>) {
    job.must_be_audited("clear a mode");
    job.add(
        "mode_override",
        "DELETE FROM mode_override WHERE scope = ?",
        [mode_scope(app).into()],
    );
}

pub(super) fn bar(job: &mut Job<'_>, bar: &Bar) -> Result<(), StoreError> {
    job.must_be_audited("bar an action");
    job.add(
        "bar",
        "INSERT INTO bar (app, action, cause, body) VALUES (?, ?, ?, ?)
         ON CONFLICT (app, action) DO UPDATE SET cause = excluded.cause, body = excluded.body",
        [
            bar.app.as_str().into(),
            bar.action.as_str().into(),
            bar.cause.as_str().into(),
            json(bar)?.into(),
        ],
    );
    Ok(())
}

pub(super) fn lift_bar(job: &mut Job<'_>, app: &AppName, action: &ActionName) {
    job.must_be_audited("lift a bar");
    job.add(
        "bar",
        "DELETE FROM bar WHERE app = ? AND action = ?",
        [app.as_str().into(), action.as_str().into()],
    );
}
