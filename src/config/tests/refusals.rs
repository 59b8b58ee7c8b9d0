//! What is refused, and in which words.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

#[test]
fn all_problems_are_told_at_once_with_file_line_key_reason_and_remedy() {
    let text = "mode = \"SEMI_AUTOMATIC\"\n[breaker]\ncooldwon = \"1h\"\nmax_failures = \"three\"\n[dwell]\ntime = 180\n[app.shop]\npath = \"/home\"\nuser = \"shoop\"\nstack = \"laravle\"\nhost = \"web1\"\n";
    assert_eq!(
        refusal_of(text),
        "healerd.toml:1:1: `mode` `SEMI_AUTOMATIC` is not a known word\n  hint: did you mean `SEMI_AUTO`? Known are MANUAL, SEMI_AUTO, FULL_AUTO\n\
         healerd.toml:3:1: `breaker.cooldwon` is not a known key\n  hint: did you mean `cooldown`?\n\
         healerd.toml:4:1: `breaker.max_failures` `\"three\"` is not a whole number, 0 or more\n  hint: write a whole number, 0 or more\n\
         healerd.toml:6:1: `dwell.time` `180` is not a time with its unit, as in \"90s\" or \"1h 30m\"\n  hint: write a time with its unit, as in \"90s\" or \"1h 30m\"\n\
         healerd.toml:8:1: `app.shop.path` `/home` is a folder of the machine, not of one application\n  hint: name the application's own folder\n\
         healerd.toml:9:1: `app.shop.user` names the user `shoop`, who is not in /etc/passwd\n  hint: did you mean `shop`?\n\
         healerd.toml:10:1: `app.shop.stack` names the stack `laravle`, which does not exist\n  hint: did you mean `laravel`?\n\
         healerd.toml:11:1: `app.shop.host` names the host `web1`, which is not configured\n  hint: add [host.web1], or leave `host` away for this machine"
    );
}

#[test]
fn each_mistake_is_named_where_it_stands() {
    for (case, text, want) in [
        (
            "no user",
            "[app.shop]\npath = \"/srv/shop\"\nstack = \"php\"\n",
            "healerd.toml:1:1: `app.shop` has no `user`, and without one nothing may be done to it",
        ),
        (
            "root as user",
            "[app.shop]\npath = \"/srv/shop\"\nstack = \"php\"\nuser = \"root\"\n",
            "healerd.toml:4:1: `app.shop.user` is root",
        ),
        (
            "no path",
            "[app.shop]\nstack = \"php\"\nuser = \"shop\"\n",
            "healerd.toml:1:1: `app.shop` has no `path`",
        ),
        (
            "the whole machine",
            "[app.shop]\npath = \"/\"\nstack = \"php\"\nuser = \"shop\"\n",
            "healerd.toml:2:1: `app.shop.path` `/` is a folder of the machine",
        ),
        (
            "a path with tricks",
            "[app.shop]\npath = \"/srv/../etc\"\nstack = \"php\"\nuser = \"shop\"\n",
            "healerd.toml:2:1: `app.shop.path` `/srv/../etc` is not a plain absolute path",
        ),
        (
            "a path below /etc",
            "[app.shop]\npath = \"/etc/shop\"\nstack = \"php\"\nuser = \"shop\"\n",
            "`app.shop.path` `/etc/shop` lies below /etc",
        ),
        (
            "the daemon's own state",
            "[app.shop]\npath = \"/var/lib/healerd/shop\"\nstack = \"php\"\nuser = \"shop\"\n",
            "`app.shop.path` `/var/lib/healerd/shop` and the daemon's state_dir",
        ),
        (
            "a declared root",
            "[app.shop]\npath = \"/srv/shop\"\nroots = [\"/srv/a\", \"/usr\"]\nstack = \"php\"\nuser = \"shop\"\n",
            "healerd.toml:3:20: `app.shop.roots.1` `/usr` is a folder of the machine",
        ),
        (
            "one path twice",
            "[app.a]\npath = \"/srv/x\"\nstack = \"php\"\nuser = \"shop\"\n[app.b]\npath = \"/srv/x\"\nstack = \"php\"\nuser = \"blog\"\n",
            "healerd.toml:6:1: `app.b.path` `/srv/x` is the path of app `a` already",
        ),
        (
            "mode above the highest",
            "mode = \"FULL_AUTO\"\nmax_mode = \"SEMI_AUTO\"\n",
            "healerd.toml:1:1: `mode` `FULL_AUTO` is above max_mode `SEMI_AUTO`",
        ),
        (
            "an app's highest mode above all",
            "max_mode = \"SEMI_AUTO\"\n[app.shop]\nmax_mode = \"FULL_AUTO\"\npath = \"/srv/shop\"\nstack = \"php\"\nuser = \"shop\"\n",
            "healerd.toml:3:1: `app.shop.max_mode` `FULL_AUTO` is above the global max_mode `SEMI_AUTO`",
        ),
        (
            "a bad time",
            "dwell.time = \"3 moons\"\n",
            "healerd.toml:1:7: `dwell.time` `3 moons` is not a time",
        ),
        (
            "a bad size",
            "backup.room = \"1 GB\"\n",
            "`backup.room` `1 GB` is not a size",
        ),
        (
            "a share too large",
            "check.jitter = \"80%\"\n",
            "`check.jitter` `80` is not a share from 0 to 50 %",
        ),
        (
            "a zero count",
            "breaker.max_failures = 0\n",
            "healerd.toml:1:9: `breaker.max_failures` is 0",
        ),
        (
            "cooldowns the wrong way round",
            "breaker.cooldown_max = \"1m\"\n",
            "`breaker.cooldown_max` makes the longest cooldown shorter than the first",
        ),
        (
            "a bad cron",
            "[app.shop]\npath = \"/srv/shop\"\nstack = \"php\"\nuser = \"shop\"\nschedule = \"daily\"\n",
            "healerd.toml:5:1: `app.shop.schedule` is wrong: `daily` is not a cron expression",
        ),
        (
            "a bad zone",
            "[app.shop]\npath = \"/srv/shop\"\nstack = \"php\"\nuser = \"shop\"\nschedule = \"0 3 * * *\"\nzone = \"Mars\"\n",
            "healerd.toml:6:1: `app.shop.zone` is wrong: `Mars` is not a time zone",
        ),
        (
            "two schedules",
            "[app.shop]\npath = \"/srv/shop\"\nstack = \"php\"\nuser = \"shop\"\nschedule = \"0 3 * * *\"\nevery = \"1m\"\n",
            "`app.shop.every` says when to look in more than one way: every, schedule",
        ),
        (
            "too fast",
            "check.interval = \"500ms\"\n",
            "`check.interval` is shorter than 1s",
        ),
        (
            "an unknown role holder",
            "[control.roles]\nadmin.users = [\"carl\"]\n",
            "`control.roles.admin.users.0` names the user `carl`, who is not in /etc/passwd",
        ),
        (
            "an unknown group",
            "[control.roles]\nadmin.groups = [\"wheel\"]\n",
            "names the group `wheel`, which is not in /etc/group",
        ),
        (
            "an unknown role",
            "[control.roles]\nroot.users = [\"anna\"]\n",
            "`control.roles.root` is not a known key",
        ),
        (
            "open metrics",
            "metrics.listen = \"0.0.0.0:9464\"\n",
            "`metrics.listen` `0.0.0.0:9464` can be reached from other machines",
        ),
        (
            "a watchdog too impatient",
            "watchdog.interval = \"30s\"\n",
            "`watchdog.interval` is shorter than 3m",
        ),
        (
            "state that would be lost",
            "daemon.state_dir = \"/tmp/healerd\"\n",
            "`daemon.state_dir` lies in a temporary folder",
        ),
        (
            "a URL with a password",
            "heartbeat.url = \"https://a:canary@example.org/\"\n",
            "`heartbeat.url` holds a user name or password",
        ),
        (
            "an unknown parent",
            "[app.shop]\npath = \"/srv/shop\"\nstack = \"php\"\nuser = \"shop\"\nparent = \"shops\"\n",
            "`app.shop.parent` names `shops`, which is not configured",
        ),
        (
            "a name that is none",
            "[app.\"a b\"]\npath = \"/srv/shop\"\nstack = \"php\"\nuser = \"shop\"\n",
            "`app.\"a b\"` is wrong",
        ),
        (
            "persons in other words",
            "approval.persons = \"1\"\n",
            "`approval.persons` `1` is not a known word",
        ),
        ("no TOML", "mode = \n", "healerd.toml:1:8: is not TOML: "),
    ] {
        let said = refusal_of(text);
        assert!(said.contains(want), "{case}:\n{said}");
        assert!(!said.contains("canary"), "{case}: a secret is shown");
        for line in said.lines().skip(1).step_by(2) {
            assert!(line.starts_with("  hint: "), "{case}: {said}");
        }
    }
}

#[test]
fn files_that_others_can_change_are_refused() {
    for (case, mode, want) in [
        (
            "group",
            0o664,
            "healerd.toml: has mode 0664, so that others can change it\n  hint: chmod go-w ",
        ),
        (
            "others",
            0o646,
            "healerd.toml: has mode 0646, so that others can change it\n  hint: chmod go-w ",
        ),
    ] {
        let said = Etc::new().with_mode("healerd.toml", SHOP, mode).refusal();
        assert!(said.starts_with(want), "{case}: {said}");
    }
    let said = Etc::new()
        .with("healerd.toml", SHOP)
        .with_mode("conf.d/a.toml", "", 0o666)
        .refusal();
    assert!(said.starts_with("conf.d/a.toml: has mode 0666"), "{said}");

    let etc = Etc::new()
        .with("healerd.toml", SHOP)
        .with("conf.d/a.toml", "");
    let folder = etc.path("conf.d");
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
    let said = etc.refusal();
    assert!(
        said.starts_with("conf.d: can be written by others"),
        "{said}"
    );
}

#[test]
fn files_of_another_user_are_refused() {
    let etc = Etc::new().with("healerd.toml", SHOP);
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(etc.path("healerd.toml"), Some(1001), None).unwrap();
        assert!(
            etc.refusal()
                .starts_with("healerd.toml: belongs to the user 1001")
        );
    }
}

#[test]
fn secrets_that_others_can_read_are_refused() {
    for mode in [0o640, 0o604, 0o644] {
        let etc = Etc::new().with_mode("secret", "canary", mode);
        let text = format!(
            "notify.webhook = {{ url = \"https://hooks.example.org/\", secret_file = \"{}\" }}\n{SHOP}",
            etc.path("secret").display()
        );
        let said = etc.with("healerd.toml", &text).refusal();
        assert!(
            said.contains(&format!(
                "`notify.webhook.secret_file` names secret, which has mode {mode:04o}"
            )),
            "{said}"
        );
    }
}

#[test]
fn the_environment_sets_no_security_key_and_no_unknown_one() {
    for (name, value, want) in [
        (
            "HEALERD_MODE",
            "FULL_AUTO",
            "environment HEALERD_MODE: `mode` cannot be set by the environment",
        ),
        (
            "HEALERD_APPROVAL__PERSONS",
            "one",
            "`approval.persons` cannot be set by the environment",
        ),
        (
            "HEALERD_APP__SHOP__USER",
            "root",
            "`app.shop.user` cannot be set by the environment",
        ),
        (
            "HEALERD_CONTROL__ROLES__ADMIN__USERS",
            "[\"anna\"]",
            "`control.roles.admin.users` cannot be set",
        ),
        (
            "HEALERD_DWELL__LOKS",
            "4",
            "environment HEALERD_DWELL__LOKS: `dwell.loks` is not a known key",
        ),
        (
            "HEALERD_DWELL__TIME",
            "4",
            "environment HEALERD_DWELL__TIME: `dwell.time` `4` is not a time",
        ),
    ] {
        let said = Etc::new()
            .with("healerd.toml", SHOP)
            .with_variable(name, value)
            .refusal();
        assert!(said.contains(want), "{name}: {said}");
    }
}

#[test]
fn what_is_not_read_is_said() {
    let etc = Etc::new()
        .with("conf.d/a.toml", SHOP)
        .with("conf.d/b.toml.bak", "");
    let (_, warnings) = etc.load().unwrap();
    let said: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    assert!(
        said.iter()
            .any(|line| line.contains("b.toml.bak: is not read")),
        "{said:?}"
    );
    assert!(
        said.iter()
            .any(|line| line.contains("healerd.toml: does not exist")),
        "{said:?}"
    );
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn no_text_makes_it_panic(text in "(\\[?[a-z_.]{1,12}\\]?|= ?[\"0-9a-z]{0,5}|\n| |[\u{0}-\u{ff}]){0,30}") {
        let etc = Etc::new().with("healerd.toml", &text);
        drop(etc.load());
    }
}
