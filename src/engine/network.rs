//! Hosts that are reached over a network: opened, changed and closed with the configuration, their keys enrolled by
//! persons.
//!
//! A key that was enrolled lies in the store, and its audit row is written in the same transaction. What the
//! configuration names wins over it, and the conflict is told. No key is ever taken without a person who named its
//! fingerprint.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;

use super::handle::{Handle, OpError, OpErrorKind, store_error, unknown};
use crate::decide::incident::{IN_DOUBT, NOT_OURS};
use crate::model::approval::Person;
use crate::model::host::{OfferedKey, RemoteHost, SshSettings};
use crate::model::host_key::HostKey;
use crate::model::incident::IncidentState;
use crate::model::name::{AppName, HostName};
use crate::seam::{Changes, HostError, Remotes, Write};

/// Whoever makes hosts, and what the configuration says of them.
#[derive(Default)]
pub(super) struct Network {
    remotes: Option<Arc<dyn Remotes>>,
    known: Mutex<BTreeMap<HostName, Known>>,
}

/// One configured host.
#[derive(Debug, Clone)]
struct Known {
    configured: RemoteHost,
    /// As it was opened, enrolled keys included.
    open: Option<SshSettings>,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network")
            .field("known", &self.known)
            .finish_non_exhaustive()
    }
}

impl Network {
    pub(super) fn new(remotes: Option<Arc<dyn Remotes>>) -> Self {
        Self {
            remotes,
            known: Mutex::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<HostName, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostState {
    /// This machine.
    Local,
    /// Its key is not known: nothing is tried there.
    NotEnrolled,
    /// It does not prove to be the one that it should be: nothing is tried there.
    InDoubt,
    /// Its records belong to another daemon, for every one of its apps: nothing is tried there.
    NotOurs,
    /// It could not be reached when it was last tried.
    Unseen,
    /// It is another machine than the one that was adopted.
    OtherMachine,
    /// It answers.
    Seen,
    /// Nobody has looked yet.
    NotLooked,
}

impl HostState {
    /// The word people read.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "LOCAL",
            Self::NotEnrolled => "NOT_ENROLLED",
            Self::InDoubt => "IN_DOUBT",
            Self::NotOurs => "NOT_OURS",
            Self::Unseen => "UNSEEN",
            Self::OtherMachine => "OTHER_MACHINE",
            Self::Seen => "SEEN",
            Self::NotLooked => "NOT_LOOKED",
        }
    }
}

/// One host as the engine sees it now.
#[derive(Debug, Clone)]
pub struct HostView {
    pub name: HostName,
    pub state: HostState,
    /// `user@name:port`; `None`: this machine.
    pub address: Option<String>,
    /// Hosts on the way, the nearest first.
    pub jumps: Vec<HostName>,
    /// Fingerprints of the keys that prove that it is the one.
    pub fingerprints: Vec<String>,
    /// Do they stand in the configuration, as opposed to having been enrolled?
    pub configured: bool,
    pub apps: Vec<AppName>,
    /// Why it could not be seen, or what is to be done about it.
    pub note: Option<String>,
    pub machine_id: Option<String>,
}

/// A key that a host offered, before anybody trusts it.
#[derive(Debug, Clone)]
pub struct Offer {
    pub host: HostName,
    pub address: String,
    pub key: OfferedKey,
    /// Keys that are pinned now, as fingerprints.
    pub pinned: Vec<String>,
    /// Is the offered key one of them?
    pub is_pinned: bool,
}

/// Key of a host's enrolled keys among the store's settings.
fn pins_key(host: &HostName) -> String {
    format!("host_keys:{host}")
}

/// A stored key and its value, when they are about enrolled host keys.
pub(super) fn read_pins(key: &str, value: &str) -> Option<(HostName, Vec<String>)> {
    let host = key.strip_prefix("host_keys:")?.parse().ok()?;
    let keys: Vec<String> = serde_json::from_str(value).ok()?;
    (!keys.is_empty()).then_some((host, keys))
}

fn fingerprints(keys: &[String]) -> Vec<String> {
    keys.iter()
        .filter_map(|key| HostKey::parse(key).ok())
        .filter(|key| !key.revoked)
        .map(|key| key.fingerprint)
        .collect()
}

/// Does an open incident of this app begin with these words?
fn says(app: &super::AppView, words: &str) -> bool {
    app.incidents.iter().any(|incident| {
        incident.state != IncidentState::Closed && incident.message.starts_with(words)
    })
}

/// Why a host did not show its key, for whoever asked.
fn unseen(host: &HostName, error: &HostError) -> OpError {
    OpError::new(
        OpErrorKind::Unavailable,
        "host_unseen",
        error.to_string(),
        format!("`healerctl host doctor {host}` goes there step by step."),
    )
}

impl Handle {
    /// Opens, changes and closes hosts as the configuration says. One that stays as it is keeps its connections.
    pub(super) async fn configure_hosts(&self, hosts: &BTreeMap<HostName, RemoteHost>) {
        let gone: Vec<HostName> = self
            .network
            .known()
            .keys()
            .filter(|name| !hosts.contains_key(*name))
            .cloned()
            .collect();
        for name in gone {
            self.network.known().remove(&name);
            if let Some(host) = self.world.hosts.take(&name) {
                host.close().await;
            }
        }
        for (name, configured) in hosts {
            {
                let mut known = self.network.known();
                let place = known.entry(name.clone()).or_insert_with(|| Known {
                    configured: configured.clone(),
                    open: None,
                });
                place.configured.clone_from(configured);
            }
            self.open_host(name).await;
            let enrolled = self.shared.enrolled().remove(name).unwrap_or_default();
            let configured = &configured.ssh.target.host_keys;
            if !configured.is_empty() && enrolled.iter().any(|key| !configured.contains(key)) {
                tracing::warn!(host = %name, "the configuration names another key than the enrolled one, and wins");
            }
        }
    }

    /// Opens a host anew, when what is known of it is another than what it was opened with.
    async fn open_host(&self, name: &HostName) {
        let Some(remotes) = &self.network.remotes else {
            return;
        };
        let enrolled = self.shared.enrolled();
        let before = {
            let mut known = self.network.known();
            let Some(place) = known.get_mut(name) else {
                return;
            };
            let settings = place.configured.with_enrolled(name, &enrolled);
            if place.open.as_ref() == Some(&settings) {
                return;
            }
            let before = self.world.hosts.put(remotes.open(name, &settings));
            place.open = Some(settings);
            before
        };
        if let Some(before) = before {
            before.close().await;
        }
    }

    /// Opens a host anew, so that nothing waits any longer for what failed before.
    pub(super) async fn try_again(&self, name: &HostName) {
        if let Some(known) = self.network.known().get_mut(name) {
            known.open = None;
        }
        self.open_host(name).await;
        self.nudge_all();
    }

    /// Opens every host anew whose way or key has changed by an enrolment.
    async fn open_hosts(&self) {
        let names: Vec<HostName> = self.network.known().keys().cloned().collect();
        for name in names {
            self.open_host(&name).await;
        }
    }

    /// How a configured host is reached, and by whom.
    pub(super) fn remote(
        &self,
        name: &HostName,
    ) -> Result<(Arc<dyn Remotes>, RemoteHost, SshSettings), OpError> {
        let configured = self
            .network
            .known()
            .get(name)
            .map(|known| known.configured.clone());
        let (Some(configured), Some(remotes)) = (configured, self.network.remotes.clone()) else {
            if *name == HostName::local() {
                return Err(OpError::new(
                    OpErrorKind::Invalid,
                    "local_host",
                    "`local` is this machine: it has no key, and needs none.",
                    "Name a host of the configuration, [host.NAME].",
                ));
            }
            return Err(unknown("host", name.as_str(), "healerctl host"));
        };
        let settings = configured.with_enrolled(name, &self.shared.enrolled());
        Ok((remotes, configured, settings))
    }

    /// All hosts, this machine first.
    pub fn hosts(&self) -> Vec<HostView> {
        let apps = self.apps();
        let on = |name: &HostName| apps.iter().filter(move |app| app.host == *name).collect();
        let local = HostName::local();
        let mut views = vec![self.host_view(&local, None, &on(&local))];
        let known = self.network.known().clone();
        for (name, known) in &known {
            views.push(self.host_view(name, Some(&known.configured), &on(name)));
        }
        views
    }

    fn host_view(
        &self,
        name: &HostName,
        remote: Option<&RemoteHost>,
        apps: &Vec<&super::AppView>,
    ) -> HostView {
        let (adopted, machine_id) = self.shared.machine(name);
        let enrolled = self.shared.enrolled().remove(name).unwrap_or_default();
        let configured = remote.map_or(&[][..], |remote| &remote.ssh.target.host_keys);
        let pins = if configured.is_empty() {
            &enrolled[..]
        } else {
            configured
        };
        // Whose the records are is another matter for each login user: it says nothing of the host for the other apps.
        let (not_ours, ours): (Vec<&super::AppView>, Vec<&super::AppView>) = apps
            .iter()
            .copied()
            .partition(|app| app.unseen.is_some() && says(app, NOT_OURS));
        let none_is_ours = ours.is_empty() && !not_ours.is_empty();
        let unseen = ours.iter().find_map(|app| app.unseen.clone());
        let in_doubt = ours.iter().any(|app| says(app, IN_DOUBT));
        let looked = ours.iter().any(|app| app.looked.is_some());
        let state = if remote.is_some() && pins.is_empty() {
            HostState::NotEnrolled
        } else if machine_id.is_some() && adopted.is_some() && machine_id != adopted {
            HostState::OtherMachine
        } else if unseen.is_some() && in_doubt {
            HostState::InDoubt
        } else if none_is_ours {
            HostState::NotOurs
        } else if unseen.is_some() {
            HostState::Unseen
        } else if remote.is_none() {
            HostState::Local
        } else if looked {
            HostState::Seen
        } else {
            HostState::NotLooked
        };
        let note = match state {
            HostState::NotEnrolled => Some(format!(
                "its key is not known; `healerctl host enrol {name}`"
            )),
            HostState::OtherMachine => Some(format!(
                "another machine than the one that was adopted; `healerctl adopt {name}`"
            )),
            HostState::Local
            | HostState::InDoubt
            | HostState::NotOurs
            | HostState::Unseen
            | HostState::Seen
            | HostState::NotLooked => unseen.or_else(|| {
                let app = not_ours.first()?;
                let reason = app.unseen.as_ref()?;
                Some(if none_is_ours {
                    reason.clone()
                } else {
                    format!("{}: {reason}", app.name)
                })
            }),
        };
        HostView {
            name: name.clone(),
            state,
            address: remote.map(|remote| remote.ssh.target.address.to_string()),
            jumps: remote
                .map(|remote| remote.jumps.clone())
                .unwrap_or_default(),
            fingerprints: fingerprints(pins),
            configured: !configured.is_empty(),
            apps: apps.iter().map(|app| app.name.clone()).collect(),
            note,
            machine_id: machine_id.or(adopted),
        }
    }

    /// The key that a host shows now. Nothing is trusted, and nobody logs in on it.
    ///
    /// # Errors
    /// Unknown host, or it does not show one.
    pub async fn scan_host(&self, host: &HostName) -> Result<Offer, OpError> {
        let (remotes, _, settings) = self.remote(host)?;
        let key = remotes
            .scan(host, &settings)
            .await
            .map_err(|error| unseen(host, &error))?;
        let pinned = fingerprints(&settings.target.host_keys);
        Ok(Offer {
            host: host.clone(),
            address: settings.target.address.to_string(),
            is_pinned: pinned.contains(&key.fingerprint),
            pinned,
            key,
        })
    }

    /// Takes the key whose fingerprint a person has compared, if that is the one that the host shows. With `keep` the
    /// keys that were enrolled before stay, for a change of keys; else they are forgotten.
    ///
    /// # Errors
    /// Unknown host, it shows another key or none, or the configuration names its key.
    pub async fn enrol_host(
        &self,
        host: &HostName,
        fingerprint: &str,
        keep: bool,
        why: Option<String>,
        person: &Person,
    ) -> Result<(), OpError> {
        let (_, configured, _) = self.remote(host)?;
        if !configured.ssh.target.host_keys.is_empty() {
            return Err(OpError::new(
                OpErrorKind::Conflict,
                "key_configured",
                format!("The configuration names the key of {host}, and wins over any enrolment."),
                format!("Change `host_key` in [host.{host}], or remove it there."),
            ));
        }
        let offer = self.scan_host(host).await?;
        if offer.key.fingerprint != fingerprint {
            return Err(OpError::new(
                OpErrorKind::Conflict,
                "other_key",
                format!(
                    "{host} shows {}, not {fingerprint}. Nothing was stored.",
                    offer.key.fingerprint
                ),
                "Compare it with what the host's own console says: `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`.",
            ));
        }
        let key = HostKey::parse(&offer.key.key).map_err(|reason| {
            OpError::new(
                OpErrorKind::Conflict,
                "unusable_key",
                format!("The key of {host} {reason}."),
                "Give the host an ed25519 key: `ssh-keygen -A` there.",
            )
        })?;
        let before = self.shared.enrolled().remove(host).unwrap_or_default();
        let mut keys = vec![key.text];
        if keep {
            // Two slots: the one that comes, and the one that goes.
            keys.extend(before.iter().find(|old| **old != keys[0]).cloned());
        }
        let detail = json!({
            "fingerprint": offer.key.fingerprint,
            "address": offer.address,
            "before": fingerprints(&before),
            "kept": keep,
            "reason": why,
        });
        self.store_pins(host, keys, "host_enrolled", detail, person)
            .await
    }

    /// Forgets the keys that were enrolled for a host: nothing is tried there any more.
    ///
    /// # Errors
    /// Unknown host, or none was enrolled.
    pub async fn forget_host(
        &self,
        host: &HostName,
        why: String,
        person: &Person,
    ) -> Result<(), OpError> {
        let before = self.shared.enrolled().remove(host).unwrap_or_default();
        if before.is_empty() {
            let (_, configured, _) = self.remote(host)?;
            let remedy = if configured.ssh.target.host_keys.is_empty() {
                "There is nothing to forget.".to_owned()
            } else {
                format!("Its key stands in the configuration, [host.{host}].")
            };
            return Err(OpError::new(
                OpErrorKind::NotFound,
                "not_enrolled",
                format!("No key was enrolled for {host}."),
                remedy,
            ));
        }
        let detail = json!({"before": fingerprints(&before), "reason": why});
        self.store_pins(host, Vec::new(), "host_forgotten", detail, person)
            .await
    }

    async fn store_pins(
        &self,
        host: &HostName,
        keys: Vec<String>,
        verb: &str,
        detail: serde_json::Value,
        person: &Person,
    ) -> Result<(), OpError> {
        let changes = Changes::new(self.world.clock.now(), &person.to_text())
            .write(Write::Setting {
                key: pins_key(host),
                value: json!(keys).to_string(),
            })
            .audit(verb, &format!("host:{host}"), detail);
        self.world
            .store
            .apply(changes)
            .await
            .map_err(|error| store_error(&error))?;
        let (text, why) = if keys.is_empty() {
            (
                "its enrolled key was forgotten",
                "nothing is tried there any more",
            )
        } else {
            (
                "its key was enrolled",
                "it is looked at for the first time now",
            )
        };
        self.tell(
            "host",
            None,
            format!("{host}: {text} by {}", person.to_text()),
        );
        self.shared.remember_enrolled(host, keys);
        self.open_hosts().await;
        self.nudge_all();
        self.look_again(host, &format!("{text} just now; {why}"));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enrolled_keys_are_read_back_and_forgotten_ones_are_not() {
        let host: HostName = "web1".parse().unwrap();
        let key = pins_key(&host);
        assert_eq!(
            read_pins(&key, r#"["ssh-ed25519 AAAA"]"#),
            Some((host, vec!["ssh-ed25519 AAAA".to_owned()]))
        );
        assert_eq!(read_pins(&key, "[]"), None);
        assert_eq!(read_pins(&key, "damaged"), None);
        assert_eq!(read_pins("machine:web1", "[]"), None);
    }
}
