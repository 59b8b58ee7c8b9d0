//! The four acts: what is broken before your eyes, what the daemon does about it, and what was promised.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use super::promises::{Promises, say};
use super::site::Site;
use super::stage::Stage;
use super::tree::Tree;
use super::watch::{Watch, told};
use crate::control::wire::{Approval, ApproveRequest, BreakerStatus, Heal, HealRequest};
use crate::model::breaker::BreakerState;

/// Everything an act needs.
#[derive(Debug)]
pub(super) struct Theatre<'a> {
    pub(super) stage: &'a Stage,
    pub(super) site: &'a Site,
    pub(super) watch: &'a Watch,
}

/// A reason that is long enough for the audit log.
const REASON: &str = "approved in the demonstration";

impl Theatre<'_> {
    fn tree(&self, app: &str) -> anyhow::Result<Tree> {
        Tree::read(&self.stage.app(app)).with_context(|| format!("cannot read {app}"))
    }

    /// Known, harmless: healed alone, after a backup, and verified.
    pub(super) async fn alone(&self, promises: &mut Promises) -> anyhow::Result<()> {
        say("");
        say("Act 1. A deploy dies half-way and leaves the shop in maintenance.");
        let before = self.tree("shop")?;
        self.stage.put("shop/.maintenance", "deploy of 02:13\n")?;
        let status = self.site.visit().await?;
        promises.claim(
            &format!("visitors get status {status}: the shop is closed"),
            status == 503,
        );
        say(
            "  Nobody is awake. healerd looks, waits until the symptom lasts, and acts alone: LOW risk, mode SEMI_AUTO.",
        );
        let heals = self.watch.until_ended("shop", 1).await?;
        let heal = heals.first().context("the heal is gone")?;
        say(&format!(
            "  It ran {} and says: {}",
            heal.action_name, heal.message
        ));
        promises.claim("nobody was asked", heal.details.origin == "unattended");
        promises.claim_with("the cure was verified and lasted", cured(heal));
        let backups = self.watch.backups("shop").await?;
        let backup = backups
            .iter()
            .find(|backup| Some(&backup.backup_id) == heal.backup_id.as_ref());
        promises.claim(
            "a backup was taken, read back and compared before anything was changed",
            backup.is_some_and(|backup| {
                backup.damaged.is_none() && !backup.verified.is_empty() && backup.files > 0
            }),
        );
        promises.claim(
            "visitors get status 200 again",
            self.site.visit().await? == 200,
        );
        promises.claim_with(
            "nothing but the flag was touched",
            same(&before, &self.tree("shop")?),
        );
        Ok(())
    }

    /// Known, and never without a person.
    pub(super) async fn asked(&self, promises: &mut Promises) -> anyhow::Result<()> {
        say("");
        say("Act 2. An editor crashes and cuts off the blog's settings.");
        let before = self.tree("blog")?;
        self.stage.put("blog/.env", "# written by hand\nAPP_K")?;
        let broken = self.tree("blog")?;
        let approval = self.watch.until_asked("blog").await?;
        say(&format!(
            "  healerd knows what would help ({}), but it is {} risk: it asks, and waits.",
            approval.action_name, approval.risk_level
        ));
        promises.claim_with(
            "nothing was changed while it waits",
            same(&broken, &self.tree("blog")?),
        );
        let refused = self.approve(&approval, &wrong(&approval.digest)).await;
        promises.claim("an approval of something else is refused", refused.is_err());
        say(
            "  We read the proposal and approve exactly that, by its digest, over the control socket.",
        );
        self.approve(&approval, &approval.digest).await?;
        let heals = self.watch.until_ended("blog", 1).await?;
        let heal = heals.first().context("the heal is gone")?;
        say(&format!(
            "  It ran {} and says: {}",
            heal.action_name, heal.message
        ));
        promises.claim(
            "it ran by this approval",
            heal.details.approval_id.as_ref() == Some(&approval.approval_id),
        );
        promises.claim_with("the cure was verified and lasted", cured(heal));
        promises.claim_with(
            "the settings are as they were, byte for byte",
            same(&before, &self.tree("blog")?),
        );
        Ok(())
    }

    async fn approve(&self, approval: &Approval, digest: &str) -> anyhow::Result<Approval> {
        let request = ApproveRequest {
            digest: digest.to_owned(),
            reason: REASON.to_owned(),
        };
        self.watch
            .client
            .post(
                &format!("/approvals/{}/approve", approval.approval_id),
                &request,
            )
            .await
            .map_err(|error| told(&error))
    }

    /// Runs well, cures nothing, is taken back; what others wrote meanwhile stays.
    pub(super) async fn undone(&self, promises: &mut Promises) -> anyhow::Result<()> {
        say("");
        say(
            "Act 3. The wiki loses its search index, and the only known remedy does not bring it back.",
        );
        self.stage.remove("wiki/search.index")?;
        let before = self.tree("wiki")?;
        self.watch
            .until("the action to change the wiki", || async {
                let now = self.tree("wiki")?;
                Ok((!before.differences(&now).is_empty()).then_some(()))
            })
            .await?;
        let changed = before.differences(&self.tree("wiki")?);
        say(&format!(
            "  The action changed {}. While it is judged, a visitor uploads a picture.",
            changed.join(", ")
        ));
        let picture = "not really a picture\n";
        self.stage.put("wiki/uploads/cat.png", picture)?;
        let heals = self.watch.until_ended("wiki", 1).await?;
        let heal = heals.first().context("the heal is gone")?;
        say(&format!("  It says: {}", heal.message));
        promises.claim_with(
            "the action is not called a cure, and was undone",
            is_state(heal, "undone"),
        );
        promises.claim_with(
            "everything it changed is back to the last byte, bit and owner",
            same(&before, &self.tree("wiki")?.without("uploads/cat.png")),
        );
        let kept = std::fs::read_to_string(self.stage.app("wiki/uploads/cat.png"));
        promises.claim(
            "the picture that was uploaded meanwhile survived",
            kept.is_ok_and(|text| text == picture),
        );
        Ok(())
    }

    /// Three failures, and healing stops.
    pub(super) async fn stopped(&self, promises: &mut Promises) -> anyhow::Result<()> {
        say("");
        say("Act 4. The forum sends no mail. Three remedies are known; none will help.");
        self.stage.remove("forum/mail.sent")?;
        let before = self.tree("forum")?;
        let mut told_of = 0;
        let heals = self
            .watch
            .until("three heals of the forum to end", || async {
                let heals = self.watch.heals("forum").await?;
                let ended = heals.iter().filter(|heal| heal.details.ended).count();
                Ok((ended >= 3).then_some(heals))
            })
            .await?;
        for heal in &heals {
            told_of += 1;
            say(&format!(
                "  {told_of}. {}: {}",
                heal.action_name, heal.message
            ));
        }
        promises.claim(
            "each remedy was tried once, and none is called a cure",
            heals.len() == 3 && heals.iter().all(|heal| heal.success == Some(false)),
        );
        promises.claim_with(
            "what they did was taken back",
            same(&before, &self.tree("forum")?),
        );
        let breaker: BreakerStatus = self
            .watch
            .until("the circuit breaker to open", || async {
                let status = self.watch.app("forum").await?.circuit_breaker;
                Ok((status.circuit_breaker_state == BreakerState::Open).then_some(status))
            })
            .await?;
        say(&format!("  {}", breaker.reason));
        promises.claim(
            "the circuit breaker is open after three failures",
            breaker.consecutive_failures == 3 && !breaker.can_heal,
        );
        let request = HealRequest {
            action_name: "mail_by_port_25".to_owned(),
            params: std::collections::BTreeMap::new(),
            subdomain: None,
            reason: Some("one more try in the demonstration".to_owned()),
            dry_run: false,
        };
        let refused = self
            .watch
            .client
            .post::<Value>("/applications/forum/heal", &request)
            .await;
        promises.claim_with(
            "an open breaker refuses everybody, also a person",
            match refused {
                Err(error) if error.exit == crate::cli::output::code::REFUSED => {
                    say(&format!("  Asked once more, it answers: {}", error.message));
                    Ok(())
                }
                Err(error) => Err(error.message),
                Ok(_) => Err("it started".to_owned()),
            },
        );
        tokio::time::sleep(Duration::from_secs(3)).await;
        promises.claim(
            "and it stays quiet",
            self.watch.heals("forum").await?.len() == 3,
        );
        Ok(())
    }
}

fn same(before: &Tree, after: &Tree) -> Result<(), String> {
    let differences = before.differences(after);
    if differences.is_empty() {
        Ok(())
    } else {
        Err(format!("differs: {}", differences.join(", ")))
    }
}

fn cured(heal: &Heal) -> Result<(), String> {
    is_state(heal, "cured").and_then(|()| {
        if heal.success == Some(true) {
            Ok(())
        } else {
            Err("it is not called a success".to_owned())
        }
    })
}

fn is_state(heal: &Heal, state: &str) -> Result<(), String> {
    if heal.state.eq_ignore_ascii_case(state) {
        Ok(())
    } else {
        Err(format!("it is {}: {}", heal.state, heal.message))
    }
}

/// Another digest of the same shape.
fn wrong(digest: &str) -> String {
    digest
        .chars()
        .map(|letter| if letter == '0' { '1' } else { '0' })
        .collect()
}
