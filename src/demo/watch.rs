//! Looks at the daemon from outside, over its control socket, and waits for what must come.

use std::time::Duration;

use anyhow::{anyhow, bail};
use serde::de::DeserializeOwned;

use crate::cli::client::Client;
use crate::cli::output::CliError;
use crate::control::wire::{Application, ApplicationSummary, Approval, Backup, Heal};

/// Longest wait for one thing.
const WAIT_MAX: Duration = Duration::from_secs(45);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(150);

/// What is seen of the daemon.
#[derive(Debug, Clone)]
pub(super) struct Watch {
    pub(super) client: Client,
}

impl Watch {
    async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.client
            .get(path, &[])
            .await
            .map_err(|error| told(&error))
    }

    /// One application.
    pub(super) async fn app(&self, app: &str) -> anyhow::Result<Application> {
        self.get(&format!("/applications/{app}")).await
    }

    /// Heals of an application, oldest first.
    pub(super) async fn heals(&self, app: &str) -> anyhow::Result<Vec<Heal>> {
        let query = [("application", app.to_owned())];
        let mut heals: Vec<Heal> = self
            .client
            .get("/heals", &query)
            .await
            .map_err(|error| told(&error))?;
        heals.sort_by(|left, right| left.heal_id.cmp(&right.heal_id));
        Ok(heals)
    }

    /// Backups of an application.
    pub(super) async fn backups(&self, app: &str) -> anyhow::Result<Vec<Backup>> {
        self.get(&format!("/applications/{app}/backups")).await
    }

    /// Waits until an application has been looked at and is well.
    pub(super) async fn until_well(&self, app: &str) -> anyhow::Result<()> {
        self.until(&format!("{app} to be seen healthy"), || async {
            // Before its first round an application is not in the list.
            let apps: Vec<ApplicationSummary> = self.get("/applications").await?;
            let is_well = apps
                .iter()
                .any(|row| row.application_id == app && row.health == "HEALTHY");
            Ok(is_well.then_some(()))
        })
        .await
    }

    /// Waits until as many heals of an application are over.
    pub(super) async fn until_ended(&self, app: &str, count: usize) -> anyhow::Result<Vec<Heal>> {
        self.until(&format!("{count} heals of {app} to end"), || async {
            let heals = self.heals(app).await?;
            let ended = heals.iter().filter(|heal| heal.details.ended).count();
            Ok((ended >= count).then_some(heals))
        })
        .await
    }

    /// Waits until a proposal for an application waits for a person.
    pub(super) async fn until_asked(&self, app: &str) -> anyhow::Result<Approval> {
        let query = [("application", app.to_owned()), ("open", "true".to_owned())];
        self.until(&format!("{app} to ask for approval"), || async {
            let found: Vec<Approval> = self
                .client
                .get("/approvals", &query)
                .await
                .map_err(|error| told(&error))?;
            Ok(found
                .into_iter()
                .find(|approval| approval.application_id == app))
        })
        .await
    }

    /// Looks until there is an answer.
    pub(super) async fn until<T, F>(
        &self,
        what: &str,
        mut look: impl FnMut() -> F,
    ) -> anyhow::Result<T>
    where
        F: Future<Output = anyhow::Result<Option<T>>>,
    {
        let mut waited = Duration::ZERO;
        loop {
            if let Some(found) = look().await? {
                return Ok(found);
            }
            if waited >= WAIT_MAX {
                bail!("waited {} seconds in vain for {what}", WAIT_MAX.as_secs());
            }
            tokio::time::sleep(LOOK).await;
            waited += LOOK;
        }
    }
}

/// An error of the client as one of ours.
pub(super) fn told(error: &CliError) -> anyhow::Error {
    anyhow!("{} ({})", error.message, error.code)
}
