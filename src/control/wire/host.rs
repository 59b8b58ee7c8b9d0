//! Hosts on the wire.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Host {
    pub host: String,
    /// `LOCAL`, `SEEN`, `UNSEEN`, `NOT_ENROLLED`, `IN_DOUBT`, `NOT_OURS`, `OTHER_MACHINE` or `NOT_LOOKED`.
    pub state: String,
    /// `user@name:port`; null for this machine.
    pub address: Option<String>,
    /// Hosts on the way, the nearest first.
    pub jumps: Vec<String>,
    /// Fingerprints of the keys that prove that it is the one.
    pub fingerprints: Vec<String>,
    /// Do they stand in the configuration, as opposed to having been enrolled?
    pub configured: bool,
    /// Version of the protocol that its agent spoke, where it was seen.
    pub agent_version: Option<u32>,
    pub applications: Vec<String>,
    pub machine_id: Option<String>,
    /// Why it could not be seen, or what is to be done about it.
    pub note: Option<String>,
}

/// A key that a host shows, before anybody trusts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostKeyOffer {
    pub host: String,
    pub address: String,
    /// `ssh-ed25519`
    pub kind: String,
    /// `SHA256:…`
    pub fingerprint: String,
    /// `ssh-ed25519 AAAA…`, for the configuration.
    pub key: String,
    /// Keys that are pinned now, as fingerprints.
    pub pinned: Vec<String>,
    /// Is the offered key one of them?
    pub is_pinned: bool,
}

/// Trust the key whose fingerprint was compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnrolRequest {
    /// `SHA256:…`, as the host's own console says it.
    pub fingerprint: String,
    /// Keep the key that was enrolled before, while the host changes its key.
    #[serde(default)]
    pub keep: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What one step of an examination found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HostFinding {
    pub step: String,
    /// `fine`, `wrong` or `skipped`.
    pub found: String,
    pub text: String,
    /// Lines to add to a file there, ready to copy; empty where there are none.
    pub lines: String,
}
