//! Every setting changes what the daemon runs on.

use std::collections::BTreeSet;

use figment::Figment;
use figment::error::Kind;
use figment::providers::{Format as _, Toml};

use super::super::input::Input;
use super::super::settings::Role;
use super::rows::{APP, ELSEWHERE, POLICY, TOP};
use super::*;
use crate::model::app::Schedule;
use crate::model::policy::Policy;

const BLOG: &str = "[app.blog]\npath = \"/srv/blog\"\nstack = \"wordpress\"\nuser = \"blog\"\n";

fn shop(line: &str) -> String {
    let key = line.split(' ').next().unwrap_or_default();
    let own: String = SHOP
        .lines()
        .filter(|known| !known.starts_with(&format!("{key} ")))
        .fold(String::new(), |text, line| text + line + "\n");
    format!("{own}{line}\n{BLOG}")
}

#[test]
fn every_policy_setting_is_effective_for_all_apps_and_for_one() {
    let base = settings_of(&shop(""));
    for (key, value, read) in POLICY {
        let before = read(&base.policy);
        let global = settings_of(&format!("{key} = {value}\n{}", shop("")));
        let changed = read(&global.policy);
        assert_ne!(changed, before, "{key} at the top");
        assert_eq!(
            read(&global.apps["shop"].policy),
            changed,
            "{key} is inherited"
        );

        let one = settings_of(&shop(&format!("{key} = {value}")));
        assert_eq!(read(&one.apps["shop"].policy), changed, "{key} of one app");
        assert_eq!(
            read(&one.apps["blog"].policy),
            before,
            "{key} leaves the others"
        );
        assert_eq!(read(&one.policy), before, "{key} leaves the top");
    }
}

#[test]
fn every_other_setting_is_effective() {
    let base = settings_of(&shop(""));
    for (key, value, read) in TOP {
        let changed = settings_of(&format!("{key} = {value}\n{}", shop("")));
        assert_ne!(read(&changed), read(&base), "{key}");
    }
    for (key, value, read) in APP {
        let changed = settings_of(&shop(&format!("{key} = {value}")));
        assert_ne!(read(&changed), read(&base), "app.shop.{key}");
    }
}

#[test]
fn no_key_of_the_files_is_without_such_a_test() {
    let mut keys = BTreeSet::new();
    collect(&mut Vec::new(), &mut keys);
    collect(&mut vec!["app".to_owned(), "shop".to_owned()], &mut keys);
    // Their effects have tests beside this one.
    let mut of_hosts = BTreeSet::new();
    collect(
        &mut vec!["host".to_owned(), "web1".to_owned()],
        &mut of_hosts,
    );
    let untested = |key: &&String| {
        let last = key.rsplit('.').next().unwrap_or_default();
        !include_str!("hosts.rs").contains(&format!("{last} = "))
    };
    assert_eq!(of_hosts.iter().find(untested), None);
    let mut tested: BTreeSet<String> = ELSEWHERE.iter().map(|key| (*key).to_owned()).collect();
    tested.extend(
        POLICY
            .iter()
            .flat_map(|row| [row.0.to_owned(), format!("app.shop.{}", row.0)]),
    );
    tested.extend(TOP.iter().map(|row| row.0.to_owned()));
    tested.extend(APP.iter().map(|row| format!("app.shop.{}", row.0)));
    assert_eq!(keys, tested);
}

/// Asks the types themselves: a table that refuses an unknown key names the known ones.
fn collect(at: &mut Vec<String>, keys: &mut BTreeSet<String>) {
    let dotted = at.join(".");
    let probe = if at.is_empty() {
        "probe_ = true".to_owned()
    } else {
        format!("{dotted}.probe_ = true")
    };
    let error = Figment::from(Toml::string(&probe)).extract::<Input>().err();
    match error.map(|error| error.kind) {
        Some(Kind::UnknownField(_, known)) => {
            for key in known {
                at.push((*key).to_owned());
                collect(at, keys);
                at.pop();
            }
        }
        Some(_) | None => {
            keys.insert(dotted);
        }
    }
}

#[test]
fn the_least_configuration_has_the_documented_defaults() {
    let settings = settings_of(SHOP);
    let app = &settings.apps["shop"];
    assert_eq!(app.policy, Policy::default());
    assert_eq!((app.target.uid, app.target.gid), (1001, 1001));
    assert_eq!(
        app.schedule,
        Schedule::Every(std::time::Duration::from_mins(1))
    );
    assert_eq!(app.host.as_str(), "local");
    assert_eq!(settings.daemon.state_dir.to_str(), Some("/var/lib/healerd"));
    assert_eq!(
        settings.control.socket.to_str(),
        Some("/run/healerd/control.sock")
    );
    assert_eq!(
        settings.metrics.listen.unwrap().to_string(),
        "127.0.0.1:9464"
    );
    assert_eq!(settings.watchdog.as_secs(), 180);
    assert_eq!(settings.history.as_secs(), 90 * 86_400);
}

#[test]
fn the_sample_shows_every_key_with_its_default() {
    let sample = include_str!("../../../config/healerd.toml");
    // A commented setting is `#key = value`; prose has a space behind the mark.
    let open: String = sample
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with([' ', '#']) => rest,
            Some(_) => "",
            None => line,
        })
        .fold(String::new(), |text, line| text + line + "\n");
    assert_eq!(
        settings_of(&open).apps.len(),
        1,
        "the example itself is valid"
    );
    let (defaults, _example) = open.split_once("[app.shop]").unwrap();
    let settings = settings_of(&format!("{defaults}{SHOP}"));
    let mut bare = settings_of(SHOP);
    bare.policy.mode = settings.policy.mode;
    assert_eq!(settings.policy, bare.policy);
    assert_eq!(settings.daemon, bare.daemon);
    assert_eq!(settings.control.socket, bare.control.socket);
    assert_eq!(settings.metrics, bare.metrics);
    assert_eq!(settings.notify.repeat, bare.notify.repeat);
    assert_eq!(
        (settings.watchdog, settings.history),
        (bare.watchdog, bare.history)
    );
    for key in POLICY
        .iter()
        .map(|row| row.0)
        .chain(TOP.iter().map(|row| row.0))
    {
        let last = key.rsplit('.').next().unwrap_or(key);
        assert!(sample.contains(last), "{key} is not in the sample");
    }
}

#[test]
fn later_files_win_and_the_environment_wins_over_files() {
    let etc = Etc::new()
        .with(
            "healerd.toml",
            &format!("dwell.looks = 4\ngrace.time = \"1m\"\nsoak.time = \"1m\"\n{SHOP}"),
        )
        .with(
            "conf.d/20-b.toml",
            "[dwell]\nlooks = 6\n[app.shop.rate]\nper_app = 2\n",
        )
        .with(
            "conf.d/10-a.toml",
            "[dwell]\nlooks = 5\n[grace]\ntime = \"2m\"\n",
        )
        .with_variable("HEALERD_SOAK__TIME", "3m")
        .with_variable("HEALERD_APP__SHOP__BREAKER__MAX_FAILURES", "7")
        .with_variable("HEALERD_LOG", "debug");
    let policy = &etc.settings().apps["shop"].policy;
    assert_eq!(policy.timing.dwell_looks, 6);
    assert_eq!(policy.timing.grace.as_secs(), 120);
    assert_eq!(policy.timing.soak.as_secs(), 180);
    assert_eq!(policy.rate.per_app, 2);
    assert_eq!(policy.breaker.max_failures, 7);
}

#[test]
fn roles_are_the_highest_of_user_and_groups_and_root_is_admin() {
    let settings = settings_of(&format!(
        "[control.roles]\nviewer = {{ users = [\"anna\"] }}\napprover = {{ groups = [\"ops\"] }}\nadmin.users = [\"bert\"]\n{SHOP}"
    ));
    let roles = &settings.control.roles;
    assert_eq!(roles.of(2001, &[2001]), Some(Role::Viewer));
    assert_eq!(roles.of(2001, &[2001, 3001]), Some(Role::Approver));
    assert_eq!(roles.of(2002, &[3001]), Some(Role::Admin));
    assert_eq!(roles.of(0, &[]), Some(Role::Admin));
    assert_eq!(roles.of(1001, &[1001]), None);
}

#[test]
fn a_cron_schedule_keeps_its_zone() {
    let settings = settings_of(&format!(
        "{SHOP}schedule = \"0 3 * * *\"\nzone = \"Europe/Berlin\"\n"
    ));
    assert_eq!(
        settings.apps["shop"].schedule,
        Schedule::Cron {
            expression: "0 3 * * *".to_owned(),
            zone: "Europe/Berlin".to_owned()
        }
    );
}

#[test]
fn the_webhook_has_its_secret_and_nobody_sees_it() {
    let etc = Etc::new().with_mode("secret", "canary-4711\n", 0o600);
    let text = format!(
        "notify.webhook = {{ url = \"https://hooks.example.org/canary-4712\", secret_file = \"{}\", timeout = \"3s\" }}\n\
         heartbeat = {{ url = \"https://beat.example.org/canary-4713\", every = \"2m\" }}\n{SHOP}host = \"local\"\n",
        etc.path("secret").display()
    );
    let settings = etc.with("healerd.toml", &text).settings();
    let hook = settings.notify.webhook.clone().unwrap();
    assert_eq!(hook.secret.unwrap().reveal(), "canary-4711");
    assert_eq!(hook.timeout.as_secs(), 3);
    assert_eq!(settings.heartbeat.as_ref().unwrap().every.as_secs(), 120);
    assert!(!format!("{settings:?}").contains("canary"));
}

#[test]
fn metrics_leave_this_machine_only_when_that_is_written() {
    let open = settings_of(&format!(
        "metrics = {{ listen = \"0.0.0.0:9464\", expose = true }}\n{SHOP}"
    ));
    assert_eq!(open.metrics.listen.unwrap().to_string(), "0.0.0.0:9464");
}

#[test]
fn folders_of_two_apps_that_overlap_are_shared_unless_one_is_the_others_subdomain() {
    let nested = "[app.blog]\npath = \"/srv/shop/blog\"\nstack = \"php\"\nuser = \"blog\"\n";
    let settings = settings_of(&format!("{SHOP}{nested}"));
    assert!(settings.apps["shop"].policy.shared_resources);
    assert!(settings.apps["blog"].policy.shared_resources);
    let settings = settings_of(&format!("{SHOP}{nested}parent = \"shop\"\n"));
    assert!(!settings.apps["shop"].policy.shared_resources);
    let settings = settings_of(&format!(
        "{SHOP}roots = [\"/srv/shared\"]\n{BLOG}roots = [\"/srv/shared\"]\n"
    ));
    assert!(settings.apps["blog"].policy.shared_resources);
    let settings = settings_of(&format!("{SHOP}{BLOG}"));
    assert!(!settings.apps["shop"].policy.shared_resources);
}

#[test]
fn a_mode_never_rises_above_the_highest_one() {
    let settings = settings_of(&format!(
        "mode = \"FULL_AUTO\"\n{SHOP}max_mode = \"SEMI_AUTO\"\n"
    ));
    assert_eq!(settings.apps["shop"].policy.mode.as_str(), "SEMI_AUTO");
    assert_eq!(settings.policy.mode.as_str(), "FULL_AUTO");
}

#[test]
fn a_reload_names_what_it_cannot_change() {
    let old = settings_of(SHOP);
    assert!(
        old.needs_restart(&settings_of(&format!("{SHOP}mode = \"SEMI_AUTO\"\n")))
            .is_empty()
    );
    let new = settings_of(&format!(
        "daemon.state_dir = \"/srv/healerd\"\nmetrics.enabled = false\n{SHOP}"
    ));
    assert_eq!(
        old.needs_restart(&new),
        ["daemon.state_dir", "metrics.listen"]
    );
}

#[test]
fn advice_says_who_cannot_approve_and_which_lines_root_operations_need() {
    use super::super::advice::Weight;
    use crate::catalogue::RootNeeds;
    let files = |_: &crate::model::app::App| RootNeeds {
        files: true,
        units: vec!["shop.service".to_owned()],
    };
    let check = |settings: &_, uid| super::super::advice::check(settings, uid, &files);
    let settings = settings_of(SHOP);
    let said = check(&settings, 0);
    assert!(said.iter().any(|advice| advice.weight == Weight::Warning
        && advice.text.contains("nobody but root may approve")));
    let lines = &said
        .iter()
        .find(|advice| !advice.lines.is_empty())
        .unwrap()
        .lines;
    assert_eq!(
        lines,
        "[[chown]]\nbelow = \"/srv/shop\"\nto = [\"shop\"]\n\n[[modes]]\nbelow = \"/srv/shop\"\n\n[[restart]]\nunit = \"shop.service\"\n\n"
    );
    let none = |_: &crate::model::app::App| RootNeeds::default();
    assert!(
        super::super::advice::check(&settings, 0, &none)
            .iter()
            .all(|advice| advice.lines.is_empty()),
        "a stack without root operations needs no lines"
    );
    assert!(
        check(&settings, 1234)
            .iter()
            .any(|advice| advice.weight == Weight::Refusal)
    );
    assert!(
        check(&settings, 1001)
            .iter()
            .all(|advice| advice.weight != Weight::Refusal)
    );
    let two = settings_of(&format!(
        "control.roles.approver.users = [\"anna\"]\n{SHOP}"
    ));
    assert!(
        !check(&two, 0)
            .iter()
            .any(|advice| advice.text.contains("nobody but root"))
    );
    let one = settings_of(&format!("approval.persons = \"one\"\n{SHOP}"));
    assert!(
        !check(&one, 0)
            .iter()
            .any(|advice| advice.text.contains("nobody but root"))
    );
}

#[test]
fn ten_thousand_applications_are_read_in_one_go() {
    let text = (0..10_000).fold(String::new(), |text, index| {
        text + &format!(
            "[app.a{index}]\npath = \"/srv/a/{index}\"\nroots = [\"/srv/s/{index}\"]\nstack = \"php\"\nuser = \"shop\"\n"
        )
    });
    assert_eq!(settings_of(&text).apps.len(), 10_000);
}
