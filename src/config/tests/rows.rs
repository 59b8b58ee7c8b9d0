//! Every key with a value that is not its default, and where it arrives.

use crate::config::Settings;
use crate::model::policy::Policy;

/// Key, a value that is not the default, and where it arrives. They stand at the top and below an application.
pub(super) type PolicyRow = (&'static str, &'static str, fn(&Policy) -> String);

pub(super) const POLICY: &[PolicyRow] = &[
    ("mode", "\"SEMI_AUTO\"", |p| p.mode.to_string()),
    ("max_mode", "\"SEMI_AUTO\"", |p| p.max_mode.to_string()),
    ("check.jitter", "\"20%\"", |p| {
        p.timing.jitter_percent.to_string()
    }),
    ("check.look", "\"20s\"", |p| format!("{:?}", p.timing.look)),
    ("check.disabled", "[\"npm_audit\"]", |p| {
        format!("{:?}", p.disabled_checks)
    }),
    ("dwell.time", "\"5m\"", |p| format!("{:?}", p.timing.dwell)),
    ("dwell.looks", "4", |p| p.timing.dwell_looks.to_string()),
    ("dwell.critical_time", "\"90s\"", |p| {
        format!("{:?}", p.timing.dwell_critical)
    }),
    ("dwell.critical_looks", "3", |p| {
        p.timing.dwell_critical_looks.to_string()
    }),
    ("grace.time", "\"1m\"", |p| format!("{:?}", p.timing.grace)),
    ("settle.time", "\"6m\"", |p| {
        format!("{:?}", p.timing.settle)
    }),
    ("settle.restart", "\"31s\"", |p| {
        format!("{:?}", p.timing.settle_restart)
    }),
    ("settle.verdict_deadline", "\"31m\"", |p| {
        format!("{:?}", p.timing.verdict_deadline)
    }),
    ("soak.time", "\"11m\"", |p| format!("{:?}", p.timing.soak)),
    ("soak.recurrence", "\"61m\"", |p| {
        format!("{:?}", p.timing.recurrence)
    }),
    ("breaker.max_failures", "4", |p| {
        p.breaker.max_failures.to_string()
    }),
    ("breaker.max_recurrences", "4", |p| {
        p.breaker.max_recurrences.to_string()
    }),
    ("breaker.recurrence_window", "\"2d\"", |p| {
        format!("{:?}", p.breaker.recurrence_window)
    }),
    ("breaker.cooldown", "\"2h\"", |p| {
        format!("{:?}", p.breaker.cooldown)
    }),
    ("breaker.cooldown_max", "\"2d\"", |p| {
        format!("{:?}", p.breaker.cooldown_max)
    }),
    ("breaker.jitter", "0", |p| {
        p.breaker.jitter_percent.to_string()
    }),
    ("breaker.decay", "\"2d\"", |p| {
        format!("{:?}", p.breaker.decay)
    }),
    ("breaker.half_open_cures", "2", |p| {
        p.breaker.half_open_cures.to_string()
    }),
    ("breaker.trial_deadline", "\"3h\"", |p| {
        format!("{:?}", p.breaker.trial_deadline)
    }),
    ("rate.per_app", "0", |p| p.rate.per_app.to_string()),
    ("rate.per_host", "21", |p| p.rate.per_host.to_string()),
    ("rate.per_daemon", "61", |p| p.rate.per_daemon.to_string()),
    ("rate.window", "\"12h\"", |p| format!("{:?}", p.rate.window)),
    ("timeout.action", "\"6m\"", |p| {
        format!("{:?}", p.timing.action_timeout)
    }),
    ("timeout.round", "\"61s\"", |p| {
        format!("{:?}", p.timing.round_timeout)
    }),
    ("pause.app", "\"6m\"", |p| format!("{:?}", p.timing.pause)),
    ("pause.action", "\"31m\"", |p| {
        format!("{:?}", p.timing.pause_action)
    }),
    ("approval.decide_within", "\"25h\"", |p| {
        format!("{:?}", p.approval.decide_within)
    }),
    ("approval.decide_within_critical", "\"5h\"", |p| {
        format!("{:?}", p.approval.decide_within_critical)
    }),
    ("approval.execute_within", "\"2h\"", |p| {
        format!("{:?}", p.approval.execute_within)
    }),
    ("approval.remember", "\"8d\"", |p| {
        format!("{:?}", p.approval.remember)
    }),
    ("approval.persons", "\"one\"", |p| {
        p.approval.one_person.to_string()
    }),
    ("approval.reason_characters_min", "20", |p| {
        p.approval.reason_characters_min.to_string()
    }),
    ("approval.pending_max", "50", |p| {
        p.approval.pending_max.to_string()
    }),
    ("backup.keep_last", "6", |p| p.backup.keep_last.to_string()),
    ("backup.keep_for", "\"15d\"", |p| {
        format!("{:?}", p.backup.keep_for)
    }),
    ("backup.base_bytes_max", "\"1 GiB\"", |p| {
        p.backup.base_bytes_max.to_string()
    }),
    ("backup.base_files_max", "10", |p| {
        p.backup.base_files_max.to_string()
    }),
    ("backup.room", "\"1 GiB\"", |p| {
        p.backup.room_bytes.to_string()
    }),
    ("backup.vault_bytes_max", "\"40 GiB\"", |p| {
        p.backup.vault_bytes_max.to_string()
    }),
    ("known_good.age", "\"2d\"", |p| {
        format!("{:?}", p.timing.known_good_age)
    }),
    ("unknown.after", "\"20m\"", |p| {
        format!("{:?}", p.timing.unknown_after)
    }),
    ("unknown.rounds", "4", |p| {
        p.timing.unknown_rounds.to_string()
    }),
    ("policy.unattended_matches", "[\"declared\"]", |p| {
        format!("{:?}", p.unattended_matches)
    }),
    ("policy.always_ask", "[\"restart_app\"]", |p| {
        format!("{:?}", p.always_ask)
    }),
    ("policy.raised_risks", "{ restart_app = \"HIGH\" }", |p| {
        format!("{:?}", p.raised_risks)
    }),
    ("policy.shared_resources", "true", |p| {
        p.shared_resources.to_string()
    }),
];

/// The settings that stand at the top only. `SECRET` stands for a file that only its owner can read.
pub(super) type TopRow = (&'static str, &'static str, fn(&Settings) -> String);

pub(super) const TOP: &[TopRow] = &[
    ("check.interval", "\"90s\"", |s| {
        format!("{:?} {:?}", s.schedule, s.apps["shop"].schedule)
    }),
    ("check.every", "{ npm_audit = \"6h\" }", |s| {
        format!("{:?}", s.check_every)
    }),
    ("daemon.state_dir", "\"/srv/healerd\"", |s| {
        format!("{:?}", s.daemon.state_dir)
    }),
    ("daemon.agent_allow", "\"/etc/healerd/other.toml\"", |s| {
        format!("{:?}", s.daemon.agent_allow)
    }),
    ("daemon.zone", "\"Europe/Berlin\"", |s| {
        s.daemon.zone.clone()
    }),
    ("control.socket", "\"/run/other.sock\"", |s| {
        format!("{:?}", s.control.socket)
    }),
    ("control.group", "\"ops\"", |s| {
        format!("{:?}", s.control.group)
    }),
    ("control.roles.viewer.users", "[\"anna\"]", |s| {
        format!("{:?}", s.control.roles)
    }),
    ("control.roles.viewer.groups", "[\"ops\"]", |s| {
        format!("{:?}", s.control.roles)
    }),
    ("control.roles.operator.users", "[\"anna\"]", |s| {
        format!("{:?}", s.control.roles)
    }),
    ("control.roles.operator.groups", "[\"ops\"]", |s| {
        format!("{:?}", s.control.roles)
    }),
    ("control.roles.approver.users", "[\"anna\"]", |s| {
        format!("{:?}", s.control.roles)
    }),
    ("control.roles.approver.groups", "[\"ops\"]", |s| {
        format!("{:?}", s.control.roles)
    }),
    ("control.roles.admin.users", "[\"anna\"]", |s| {
        format!("{:?}", s.control.roles)
    }),
    ("control.roles.admin.groups", "[\"ops\"]", |s| {
        format!("{:?}", s.control.roles)
    }),
    ("metrics.enabled", "false", |s| format!("{:?}", s.metrics)),
    ("metrics.listen", "\"127.0.0.1:9465\"", |s| {
        format!("{:?}", s.metrics)
    }),
    ("notify.repeat", "\"5h\"", |s| {
        format!("{:?}", s.notify.repeat)
    }),
    (
        "notify.webhook.url",
        "\"https://hooks.example.org/x\"",
        |s| {
            s.notify
                .webhook
                .as_ref()
                .map(|hook| hook.url.reveal().to_owned())
                .unwrap_or_default()
        },
    ),
    ("watchdog.interval", "\"4m\"", |s| {
        format!("{:?}", s.watchdog)
    }),
    ("history.keep", "\"30d\"", |s| format!("{:?}", s.history)),
    ("heartbeat.url", "\"https://beat.example.org/x\"", |s| {
        s.heartbeat
            .as_ref()
            .map(|beat| beat.url.reveal().to_owned())
            .unwrap_or_default()
    }),
];

/// What an application says of itself.
pub(super) const APP: &[TopRow] = &[
    ("path", "\"/srv/shop/current\"", |s| {
        s.apps["shop"].target.root.clone()
    }),
    ("roots", "[\"/srv/shared\"]", |s| {
        format!("{:?}", s.apps["shop"].target.roots)
    }),
    ("stack", "\"php\"", |s| s.apps["shop"].stack.to_string()),
    ("user", "\"blog\"", |s| {
        format!("{} {}", s.apps["shop"].user, s.apps["shop"].target.uid)
    }),
    ("url", "\"https://shop.example.org/\"", |s| {
        format!("{:?}", s.apps["shop"].url)
    }),
    ("origin", "\"http://127.0.0.1:8080/\"", |s| {
        format!("{:?}", s.apps["shop"].origin)
    }),
    ("parent", "\"blog\"", |s| format!("{:?}", s.parents)),
    ("vars", "{ port = 8080 }", |s| {
        format!("{:?}", s.apps["shop"].vars)
    }),
    ("every", "\"2m\"", |s| {
        format!("{:?}", s.apps["shop"].schedule)
    }),
    ("schedule", "\"*/5 * * * *\"", |s| {
        format!("{:?}", s.apps["shop"].schedule)
    }),
    ("check.interval", "\"2m\"", |s| {
        format!("{:?}", s.apps["shop"].schedule)
    }),
    ("check.every", "{ npm_audit = \"6h\" }", |s| {
        format!("{:?}", s.check_every)
    }),
];

/// Settings whose effect has a test of its own below.
pub(super) const ELSEWHERE: &[&str] = &[
    "metrics.expose",
    "notify.webhook.secret_file",
    "notify.webhook.timeout",
    "heartbeat.every",
    "host",
    "app",
    "app.shop.host",
    "app.shop.zone",
];
