//! A person's rollback: the preview that is confirmed, the heal that carries it out, and the way back from it.

use std::collections::BTreeSet;

use healer_agent::protocol::{WriteKind, WriteMember};
use healer_agent::tree::{Effect, Manifest};

use super::desk::{Desk, EngineError};
use super::handle::{OpError, OpErrorKind, RollbackRequest, store_error, unknown};
use crate::act;
use crate::model::action::{Identity, ResolvedAction};
use crate::model::backup::BackupManifest;
use crate::model::heal::{Heal, Origin};
use crate::model::id::{BackupId, HealId};
use crate::model::plan::Params;
use crate::model::word::Risk;
use crate::model::{Pattern, TreePath};
use crate::protect;
use crate::seam::Login;
use crate::undo::{self, Rollback, UndoPlan};

/// The name that a rollback bears among heals.
pub(super) const ROLLBACK: &str = "rollback";

/// What a rollback to this backup would do now.
pub(super) async fn preview(
    desk: &Desk,
    backup: BackupId,
    exact: bool,
    only: &[TreePath],
) -> Result<(Rollback, Vec<WriteMember>, Identity), OpError> {
    let rows = desk
        .world
        .store
        .backups(crate::seam::store::Query {
            app: Some(desk.app.name.clone()),
            open_only: false,
            limit: 10_000,
        })
        .await
        .map_err(|error| store_error(&error))?;
    let row = rows
        .into_iter()
        .find(|row| row.id == backup)
        .ok_or_else(|| {
            unknown(
                "backup",
                &backup.to_string(),
                &format!("healerctl backups {}", desk.app.name),
            )
        })?;
    if let Some(damage) = row.damaged {
        return Err(OpError::new(
            OpErrorKind::Conflict,
            "backup_damaged",
            format!("Backup {backup} is damaged: {damage}. Nothing was written."),
            "Choose another backup.",
        ));
    }
    let manifest = desk.world.vault.manifest(backup).await.map_err(|error| {
        OpError::new(
            OpErrorKind::Conflict,
            "backup_damaged",
            error.to_string(),
            "Choose another backup.",
        )
    })?;
    let heal = match manifest.heal {
        Some(id) => desk
            .world
            .store
            .heal(id)
            .await
            .map_err(|error| store_error(&error))?,
        None => None,
    };
    is_held(&manifest, heal.as_ref(), only)?;
    let (writes, identity) = members_of(&manifest, heal, only);
    let present = protect::present(
        &desk.world,
        &desk.app,
        login(desk, identity),
        &patterns(&writes),
    )
    .await
    .map_err(|error| {
        OpError::new(
            OpErrorKind::Unavailable,
            "host_unseen",
            error.to_string(),
            error.advice().to_owned(),
        )
    })?;
    let mut rollback = undo::rollback_plan(&manifest, &present, &writes, exact, only);
    if identity == Identity::Root {
        let (_, effects) = record_of(desk, manifest).await.map_err(|reason| {
            OpError::new(
                OpErrorKind::Conflict,
                "no_record",
                format!("What root changed is taken back by its own record: {reason}."),
                "Change the paths by hand.",
            )
        })?;
        rollback = undo::rollback_recorded(rollback, &effects);
    }
    Ok((rollback, writes, identity))
}

/// Refuses what a backup cannot answer. A path that it does not hold is not one that was absent: taking it away would
/// lose what was never looked at.
fn is_held(
    manifest: &BackupManifest,
    heal: Option<&Heal>,
    only: &[TreePath],
) -> Result<(), OpError> {
    let refused = |message: String, hint: &str| {
        OpError::new(OpErrorKind::Invalid, "not_in_backup", message, hint)
    };
    let id = manifest.id;
    if only.is_empty() {
        if manifest.members.is_empty() && !manifest.base.is_empty() {
            return Err(refused(
                format!(
                    "Backup {id} was not taken for an action; it holds {} paths of the application.",
                    manifest.base.len()
                ),
                "Name the files to put back: --only PATH, as often as needed.",
            ));
        }
        return Ok(());
    }
    let taken_in = |path: &TreePath| {
        heal.iter()
            .flat_map(|heal| &heal.action.writes)
            .any(|member| member.what == WriteKind::Content && member.pattern.matches(path))
    };
    for path in only {
        let entries = || manifest.members.iter().chain(&manifest.base);
        if path.is_root() || entries().any(|(held, _)| held != path && held.is_below(path)) {
            return Err(refused(
                format!(
                    "`{path}` is a folder in backup {id}, and a folder is not put back as a whole."
                ),
                "Name its files: --only PATH, as often as needed.",
            ));
        }
        if !entries().any(|(held, _)| held == path) && !taken_in(path) {
            return Err(refused(
                format!("Backup {id} does not hold `{path}`; what it was then is not known."),
                "`healerctl backups APP` shows what there is.",
            ));
        }
    }
    Ok(())
}

/// How many rollbacks of rollbacks are gone back through.
const ROLLBACKS_MAX: usize = 32;

/// The record that root goes by: of the action that a backup was taken for, or that a rollback took back.
async fn record_of(
    desk: &Desk,
    mut manifest: BackupManifest,
) -> Result<(HealId, Vec<Effect>), String> {
    for _ in 0..ROLLBACKS_MAX {
        let id = manifest.heal.ok_or("the backup was taken for no action")?;
        let heal = desk
            .world
            .store
            .heal(id)
            .await
            .map_err(|error| error.to_string())?
            .ok_or("the action is too long ago")?;
        let Origin::Rollback { backup, .. } = heal.origin else {
            let login = login(desk, Identity::Root);
            let effects = act::effects_so_far(&desk.world, id, &desk.app, login).await;
            return Ok((id, effects.map_err(|error| error.to_string())?));
        };
        manifest = self::manifest(desk, backup).await?;
    }
    Err("too many rollbacks lie between".to_owned())
}

/// A plan as whoever carries it out may do it, and the heal in whose name: what root changed it takes back as the heal
/// whose record it is.
async fn carried_out_by(
    desk: &Desk,
    heal: &Heal,
    target: BackupManifest,
    plan: UndoPlan,
) -> Result<(HealId, UndoPlan), String> {
    match heal.action.identity {
        Identity::App => Ok((heal.id, plan)),
        Identity::Root => {
            let (record, effects) = record_of(desk, target).await?;
            Ok((record, undo::only_recorded(plan, &effects)))
        }
    }
}

/// The write set of the heal that the backup was taken for; without one, exactly its paths.
fn members_of(
    manifest: &BackupManifest,
    heal: Option<Heal>,
    only: &[TreePath],
) -> (Vec<WriteMember>, Identity) {
    let exact = |path: &TreePath| {
        Pattern::parse(&path.to_string())
            .ok()
            .map(|pattern| WriteMember {
                pattern,
                what: WriteKind::Content,
                shared: false,
            })
    };
    match heal {
        Some(heal) if heal.action.identity == Identity::Root => {
            (heal.action.writes, Identity::Root)
        }
        _ if !only.is_empty() => (only.iter().filter_map(exact).collect(), Identity::App),
        Some(heal) if !heal.action.writes.is_empty() => (heal.action.writes, heal.action.identity),
        _ => (
            manifest.members.keys().filter_map(exact).collect(),
            Identity::App,
        ),
    }
}

fn patterns(writes: &[WriteMember]) -> Vec<Pattern> {
    writes.iter().map(|member| member.pattern.clone()).collect()
}

fn login(desk: &Desk, identity: Identity) -> Login {
    Login::of_action(&desk.app, identity)
}

/// The action that a rollback is, so that it is guarded, protected and judged as every heal.
pub(super) fn action(
    desk: &Desk,
    request: &RollbackRequest,
    writes: Vec<WriteMember>,
    identity: Identity,
) -> ResolvedAction {
    let proves = desk.look.as_ref().map(|look| {
        look.round
            .results
            .iter()
            .filter(|result| result.availability)
            .map(|result| result.check.clone())
            .collect()
    });
    ResolvedAction {
        name: ROLLBACK
            .parse()
            .unwrap_or_else(|_| unreachable!("a constant that is a name")),
        version: request.backup.to_string(),
        params: Params::new(),
        risk: Risk::Low,
        identity,
        steps: Vec::new(),
        finally: Vec::new(),
        writes,
        restarts: false,
        scratch: Vec::new(),
        timeout: desk.app.policy.timing.action_timeout,
        settle: desk.app.policy.timing.settle_restart,
        proves: proves.unwrap_or_default(),
        known_good: Vec::new(),
        raises: Vec::new(),
        estimate_bytes: 0,
        estimate: std::time::Duration::from_secs(10),
    }
}

/// The plan of a rollback whose present was backed up just before: the same after a crash.
///
/// With it the heal in whose name the host is asked.
pub(super) async fn plan_of(desk: &Desk, heal: &Heal) -> Result<(HealId, UndoPlan), String> {
    let Origin::Rollback {
        backup,
        exact,
        only,
        ..
    } = &heal.origin
    else {
        return Err("not a rollback".to_owned());
    };
    let target = manifest(desk, *backup).await?;
    let present = before(desk, heal).await?;
    let plan = undo::rollback_plan(&target, &present, &heal.action.writes, *exact, only).plan;
    carried_out_by(desk, heal, target, plan).await
}

/// The way back from a rollback: from what it put in place to the present that was backed up before.
pub(super) async fn way_back(desk: &Desk, heal: &Heal) -> Result<(HealId, UndoPlan), String> {
    let Origin::Rollback { backup, only, .. } = &heal.origin else {
        return Err("not a rollback".to_owned());
    };
    let (_, done) = plan_of(desk, heal).await?;
    let target = manifest(desk, *backup).await?;
    let saved = heal
        .state
        .backup()
        .ok_or("there is no backup of the present")?;
    let saved = manifest(desk, saved).await?;
    // What the rollback left is, for each path that it touched, what the target backup holds.
    let touched: Vec<TreePath> = done.items.iter().map(|item| item.path.clone()).collect();
    let after: Manifest = touched
        .iter()
        .map(|path| (path.clone(), target.members.get(path).cloned().flatten()))
        .collect();
    let wanted = if only.is_empty() {
        touched
    } else {
        only.clone()
    };
    let plan = undo::rollback_plan(&saved, &after, &[], true, &wanted).plan;
    carried_out_by(desk, heal, target, plan).await
}

/// The cures that a rollback which is done went back behind: that of the heal whose backup it was, and those since then
/// of the same checks, or that wrote what was put back.
pub(super) async fn cures_behind(
    desk: &Desk,
    rollback: &Heal,
    done: &UndoPlan,
) -> Result<BTreeSet<HealId>, EngineError> {
    let Origin::Rollback { backup, .. } = &rollback.origin else {
        return Ok(BTreeSet::new());
    };
    let store = &desk.world.store;
    // A manifest that cannot be read now names no heal; its paths still count.
    let of = manifest(desk, *backup).await.ok().and_then(|of| of.heal);
    let checks = match of {
        Some(id) => store.heal(id).await?.map(|heal| heal.checks),
        None => None,
    }
    .unwrap_or_default();
    let mut behind = BTreeSet::new();
    for cure in &desk.breaker.cures {
        if cure.at.wall_ms < backup.wall_ms() {
            continue;
        }
        let Some(heal) = store.heal(cure.heal).await? else {
            continue;
        };
        let is_same = heal.checks.iter().any(|check| checks.contains(check));
        let wrote = |path: &TreePath| {
            let mut members = heal.action.writes.iter();
            members.any(|member| member.pattern.matches(path))
        };
        if Some(heal.id) == of || is_same || done.items.iter().any(|item| wrote(&item.path)) {
            behind.insert(heal.id);
        }
    }
    Ok(behind)
}

async fn manifest(desk: &Desk, id: BackupId) -> Result<BackupManifest, String> {
    desk.world
        .vault
        .manifest(id)
        .await
        .map_err(|error| error.to_string())
}

async fn before(desk: &Desk, heal: &Heal) -> Result<Manifest, String> {
    let id = heal.state.backup();
    Ok(
        manifest(desk, id.ok_or("there is no backup of the present")?)
            .await?
            .members,
    )
}
