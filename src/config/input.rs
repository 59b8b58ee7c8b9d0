//! What a file may say, key by key. Unknown keys are refused by every table.
//!
//! Nothing is judged here but the type of a value; everything may be absent. The tables are named after the rows of the
//! safety defaults, and stand both at the top (for all applications) and below `[app.NAME]`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::value::{ByteCount, OneOrMany, Percent, Scalar, TimeSpan};
use crate::model::word::{HealingMode, MatchKind, Risk};

macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),+ $(,)? })+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Default, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub(super) struct $name { $(pub(super) $field: Option<$type>),+ }
    )+};
}

tables! {
    /// `[check]`: when applications are looked at.
    CheckTable {
        interval: TimeSpan, jitter: Percent, look: TimeSpan, every: BTreeMap<String, TimeSpan>, disabled: Vec<String>,
    }
    /// `[dwell]`: how long a symptom must last.
    DwellTable { time: TimeSpan, looks: u32, critical_time: TimeSpan, critical_looks: u32 }
    /// `[grace]`: after a start or a deploy.
    GraceTable { time: TimeSpan }
    /// `[settle]`: time for a cure to show.
    SettleTable { time: TimeSpan, restart: TimeSpan, verdict_deadline: TimeSpan }
    /// `[soak]`: time a cure must last.
    SoakTable { time: TimeSpan, recurrence: TimeSpan }
    /// `[breaker]`
    BreakerTable {
        max_failures: u32, max_recurrences: u32, recurrence_window: TimeSpan, cooldown: TimeSpan,
        cooldown_max: TimeSpan, jitter: Percent, decay: TimeSpan, half_open_cures: u32, trial_deadline: TimeSpan,
    }
    /// `[rate]`: most unattended actions per window.
    RateTable { per_app: u32, per_host: u32, per_daemon: u32, window: TimeSpan }
    /// `[timeout]`
    TimeoutTable { action: TimeSpan, round: TimeSpan }
    /// `[pause]`: after a good heal.
    PauseTable { app: TimeSpan, action: TimeSpan }
    /// `[approval]`
    ApprovalTable {
        decide_within: TimeSpan, decide_within_critical: TimeSpan, execute_within: TimeSpan, remember: TimeSpan,
        persons: Persons, reason_characters_min: u32, pending_max: u32,
    }
    /// `[backup]`
    BackupTable {
        keep_last: u32, keep_for: TimeSpan, base_bytes_max: ByteCount, base_files_max: u64, room: ByteCount,
        vault_bytes_max: ByteCount,
    }
    /// `[known_good]`
    KnownGoodTable { age: TimeSpan }
    /// `[unknown]`: when not knowing is an incident.
    UnknownTable { after: TimeSpan, rounds: u32 }
    /// `[policy]`
    PolicyTable {
        unattended_matches: Vec<MatchKind>, always_ask: Vec<String>, raised_risks: BTreeMap<String, Risk>,
        shared_resources: bool,
    }
    /// `[daemon]`
    DaemonTable { state_dir: String, agent_allow: String, zone: String }
    /// `[control]`
    ControlTable { socket: String, group: String, roles: RolesTable }
    /// `[control.roles]`
    RolesTable { viewer: RoleTable, operator: RoleTable, approver: RoleTable, admin: RoleTable }
    /// `[control.roles.NAME]`
    RoleTable { users: Vec<String>, groups: Vec<String> }
    /// `[metrics]`
    MetricsTable { enabled: bool, listen: String, expose: bool }
    /// `[notify]`
    NotifyTable { repeat: TimeSpan, webhook: WebhookTable }
    /// `[notify.webhook]`
    WebhookTable { url: String, secret_file: String, timeout: TimeSpan }
    /// `[heartbeat]`
    HeartbeatTable { url: String, every: TimeSpan }
    /// `[watchdog]`
    WatchdogTable { interval: TimeSpan }
    /// `[history]`
    HistoryTable { keep: TimeSpan }
    /// `[host.NAME]`
    HostTable {
        ssh: String, host_key: OneOrMany, host_keys: OneOrMany, jump: OneOrMany, key: OneOrMany, keys: OneOrMany,
        certificate: OneOrMany, certificates: OneOrMany, agent: String, r#become: BecomeWord, become_program: String,
        forced_command: bool, connect_within: TimeSpan, idle: TimeSpan,
    }
}

/// `[host.NAME] become`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum BecomeWord {
    /// `sudo -n`, for one root-owned program.
    Sudo,
}

/// `[approval] persons`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Persons {
    /// A sole administrator may approve what he asked for.
    One,
    /// The requester never approves, and CRITICAL needs two.
    Two,
}

macro_rules! scopes {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),+ $(,)? })+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Default, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub(super) struct $name {
            $(pub(super) $field: $type,)+
            pub(super) mode: Option<HealingMode>,
            pub(super) max_mode: Option<HealingMode>,
            pub(super) check: CheckTable,
            pub(super) dwell: DwellTable,
            pub(super) grace: GraceTable,
            pub(super) settle: SettleTable,
            pub(super) soak: SoakTable,
            pub(super) breaker: BreakerTable,
            pub(super) rate: RateTable,
            pub(super) timeout: TimeoutTable,
            pub(super) pause: PauseTable,
            pub(super) approval: ApprovalTable,
            pub(super) backup: BackupTable,
            pub(super) known_good: KnownGoodTable,
            pub(super) unknown: UnknownTable,
            pub(super) policy: PolicyTable,
        }

        impl $name {
            /// The settings that may stand at the top and below an application.
            pub(super) fn scope(&self) -> Scope<'_> {
                Scope {
                    mode: self.mode,
                    max_mode: self.max_mode,
                    check: &self.check,
                    dwell: &self.dwell,
                    grace: &self.grace,
                    settle: &self.settle,
                    soak: &self.soak,
                    breaker: &self.breaker,
                    rate: &self.rate,
                    timeout: &self.timeout,
                    pause: &self.pause,
                    approval: &self.approval,
                    backup: &self.backup,
                    known_good: &self.known_good,
                    unknown: &self.unknown,
                    policy: &self.policy,
                }
            }
        }
    )+};
}

scopes! {
    /// All files together.
    Input {
        daemon: DaemonTable, control: ControlTable, metrics: MetricsTable, notify: NotifyTable,
        heartbeat: HeartbeatTable, watchdog: WatchdogTable, history: HistoryTable,
        host: BTreeMap<String, HostTable>, app: BTreeMap<String, AppInput>,
    }
    /// `[app.NAME]`
    AppInput {
        host: Option<String>, path: Option<String>, roots: Option<Vec<String>>, stack: Option<String>,
        user: Option<String>, url: Option<String>, origin: Option<String>, parent: Option<String>,
        vars: BTreeMap<String, Scalar>, every: Option<TimeSpan>, schedule: Option<String>, zone: Option<String>,
    }
}

/// Settings of one scope, borrowed from where they were read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) mode: Option<HealingMode>,
    pub(super) max_mode: Option<HealingMode>,
    pub(super) check: &'a CheckTable,
    pub(super) dwell: &'a DwellTable,
    pub(super) grace: &'a GraceTable,
    pub(super) settle: &'a SettleTable,
    pub(super) soak: &'a SoakTable,
    pub(super) breaker: &'a BreakerTable,
    pub(super) rate: &'a RateTable,
    pub(super) timeout: &'a TimeoutTable,
    pub(super) pause: &'a PauseTable,
    pub(super) approval: &'a ApprovalTable,
    pub(super) backup: &'a BackupTable,
    pub(super) known_good: &'a KnownGoodTable,
    pub(super) unknown: &'a UnknownTable,
    pub(super) policy: &'a PolicyTable,
}
