//! Hosts that are reached by SSH.

use super::super::advice::{Weight, check};
use super::{Etc, SHOP};
use crate::catalogue::RootNeeds;
use crate::config::Settings;
use crate::model::app::App;
use crate::model::host::UNKNOWN_ID;

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";
const OTHER: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPKSUTyz1HwHReFVvD5obVsALAgJRNarH4TRpNePnAS";

/// A folder with a key file in it, and the text with its path put in.
fn etc(text: &str) -> Etc {
    let etc = Etc::new()
        .with_mode("key", "a key", 0o600)
        .with_mode("loose", "a key", 0o640);
    let etc = etc.with("cert.pub", "a certificate");
    let text = text.replace("ETC", &etc.folder.path().display().to_string());
    etc.with("healerd.toml", &text)
}

fn settings(text: &str) -> Settings {
    etc(text).settings()
}

fn web1(line: &str) -> String {
    format!("[host.web1]\nssh = \"shop@web1.example.org\"\n{line}\n{SHOP}")
}

#[test]
fn a_host_and_an_app_on_it_are_taken_with_their_defaults() {
    let settings = settings(&format!(
        "[host.web1]\nssh = \"shop@web1.example.org\"\nhost_key = \"{KEY} root@web1\"\nkey = \"ETC/key\"\n{SHOP}host = \"web1\"\n"
    ));
    let host = &settings.hosts["web1"];
    assert_eq!(
        host.ssh.target.address.to_string(),
        "shop@web1.example.org:22"
    );
    assert_eq!(host.ssh.target.host_keys, [KEY]);
    assert_eq!(host.ssh.keys.len(), 1);
    assert_eq!(host.ssh.r#become, None);
    assert!(!host.ssh.forced_command);
    assert_eq!(host.ssh.connect_within.as_secs(), 15);
    assert_eq!(host.ssh.idle.as_secs(), 600);
    let app = &settings.apps["shop"];
    assert_eq!(app.host.as_str(), "web1");
    assert_eq!(
        (app.user.as_str(), app.target.uid, app.target.gid),
        ("shop", UNKNOWN_ID, UNKNOWN_ID),
        "the numbers of this machine's user say nothing about another machine"
    );
}

#[test]
fn every_key_of_a_host_is_effective() {
    let base = settings(&web1(""));
    for line in [
        format!("host_key = \"{KEY}\""),
        format!("host_keys = [\"{KEY}\", \"@revoked {OTHER}\"]"),
        "key = \"ETC/key\"".to_owned(),
        "keys = [\"ETC/key\"]".to_owned(),
        "certificate = \"ETC/cert.pub\"".to_owned(),
        "certificates = [\"ETC/cert.pub\"]".to_owned(),
        "agent = \"/run/healerd/agent.sock\"".to_owned(),
        "become = \"sudo\"".to_owned(),
        "become = \"sudo\"\nbecome_program = \"/usr/libexec/healer-agent\"".to_owned(),
        "forced_command = true".to_owned(),
        "connect_within = \"20s\"".to_owned(),
        "idle = \"1m\"".to_owned(),
    ] {
        let changed = settings(&web1(&line));
        assert_ne!(changed.hosts["web1"], base.hosts["web1"], "{line}");
    }
}

#[test]
fn jumps_are_followed_to_the_nearest_host() {
    let settings = settings(&format!(
        "[host.edge]\nssh = \"hop@edge:2200\"\nhost_key = \"{KEY}\"\n\
         [host.inner]\nssh = \"hop@inner\"\njump = \"edge\"\n\
         [host.web1]\nssh = \"shop@web1\"\njump = [\"inner\", \"last\"]\n\
         [host.last]\nssh = \"hop@last\"\n{SHOP}"
    ));
    let host = &settings.hosts["web1"];
    let names: Vec<_> = host.jumps.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["edge", "inner", "last"]);
    let hops: Vec<_> = host
        .ssh
        .jumps
        .iter()
        .map(|hop| hop.address.to_string())
        .collect();
    assert_eq!(hops, ["hop@edge:2200", "hop@inner:22", "hop@last:22"]);
    assert_eq!(host.ssh.jumps[0].host_keys, [KEY]);

    let enrolled = [
        ("edge".parse().unwrap(), vec![OTHER.to_owned()]),
        ("inner".parse().unwrap(), vec![OTHER.to_owned()]),
        ("web1".parse().unwrap(), vec![OTHER.to_owned()]),
    ];
    let ssh = host.with_enrolled(&"web1".parse().unwrap(), &enrolled.into());
    let pins: Vec<_> = ssh
        .jumps
        .iter()
        .chain([&ssh.target])
        .map(|hop| hop.host_keys.join(" "))
        .collect();
    assert_eq!(pins, [KEY, OTHER, "", OTHER], "the configuration wins");
}

#[test]
fn wrong_hosts_are_refused_with_their_place_reason_and_remedy() {
    for (case, text, want) in [
        (
            "no address",
            "[host.web1]\n".to_owned(),
            "healerd.toml:1:1: `host.web1` has no `ssh`",
        ),
        (
            "no user",
            "[host.web1]\nssh = \"web1\"\n".to_owned(),
            "healerd.toml:2:1: `host.web1.ssh` `web1` names no user",
        ),
        (
            "root",
            "[host.web1]\nssh = \"root@web1\"\n".to_owned(),
            "`host.web1.ssh` logs in as root",
        ),
        (
            "an option for an address",
            "[host.web1]\nssh = \"shop@-oProxyCommand=x\"\n".to_owned(),
            "`host.web1.ssh` `shop@-oProxyCommand=x` has no name or address",
        ),
        (
            "this machine",
            "[host.local]\nssh = \"shop@localhost\"\n".to_owned(),
            "`host.local` names this machine",
        ),
        (
            "a key that is none",
            web1("host_key = \"ssh-ed25519 AAAA\""),
            "healerd.toml:3:1: `host.web1.host_key` is not a public key",
        ),
        (
            "the second key",
            web1(&format!("host_keys = [\"{KEY}\", \"x\"]")),
            "`host.web1.host_keys.1` is not a public key",
        ),
        (
            "revoked keys alone",
            web1(&format!("host_key = \"@revoked {KEY}\"")),
            "`host.web1.host_key` names revoked keys alone",
        ),
        (
            "both words",
            web1(&format!("host_key = \"{KEY}\"\nhost_keys = [\"{KEY}\"]")),
            "`host.web1.host_key` and `host_keys` say the same",
        ),
        (
            "a key file that others read",
            web1("key = \"ETC/loose\""),
            "`host.web1.key` names the key loose, which has mode 0640",
        ),
        (
            "no key file",
            web1("key = \"ETC/absent\""),
            "`host.web1.key` names the key absent, which cannot be read",
        ),
        (
            "a relative key file",
            web1("key = \"id_ed25519\""),
            "`host.web1.key` `id_ed25519` is not a plain absolute path",
        ),
        (
            "no certificate",
            web1("certificate = \"ETC/absent\""),
            "`host.web1.certificate` names absent, which is not a file",
        ),
        (
            "an unknown way to root",
            web1("become = \"su\""),
            "`host.web1.become` `su` is not a known word",
        ),
        (
            "a program without the way",
            web1("become_program = \"/usr/libexec/healer-agent\""),
            "`host.web1.become_program` has no `become` beside it",
        ),
        (
            "a program that others can put there",
            web1("become = \"sudo\"\nbecome_program = \"/home/shop/healer-agent\""),
            "`host.web1.become_program` lies below /home",
        ),
        (
            "an unknown jump",
            "[host.bastion]\nssh = \"hop@bastion\"\n[host.web1]\nssh = \"shop@web1\"\njump = \"bastoin\"\n".to_owned(),
            "healerd.toml:5:1: `host.web1.jump` names the host `bastoin`, which is itself or not configured\n  hint: did you mean `bastion`?",
        ),
        (
            "a circle",
            "[host.a]\nssh = \"x@a\"\njump = \"b\"\n[host.b]\nssh = \"x@b\"\njump = \"a\"\n".to_owned(),
            "`host.a.jump` leads through `a` twice",
        ),
        (
            "impatience",
            web1("connect_within = \"10ms\""),
            "`host.web1.connect_within` is not between 1s and 2m",
        ),
        (
            "no time to use it",
            web1("idle = \"1s\""),
            "`host.web1.idle` is shorter than 5s",
        ),
        (
            "a number for a jump",
            web1("jump = 7"),
            "`host.web1.jump` `7` is not a text or a list of texts",
        ),
        (
            "an unknown key",
            web1("hots_key = \"x\""),
            "`host.web1.hots_key` is not a known key\n  hint: did you mean `host_key`?",
        ),
        (
            "a user that is none",
            format!("[host.web1]\nssh = \"shop@web1\"\n{}", SHOP.replace("\"shop\"", "\"a b\"")) + "host = \"web1\"\n",
            "`app.shop.user` `a b` cannot be a user's name",
        ),
        (
            "root there",
            format!("[host.web1]\nssh = \"shop@web1\"\n{}", SHOP.replace("\"shop\"", "\"root\"")) + "host = \"web1\"\n",
            "`app.shop.user` is root",
        ),
    ] {
        let said = etc(&text).refusal();
        assert!(said.contains(want), "{case}:\n{said}");
    }
}

#[test]
fn a_folder_of_the_daemons_state_is_forbidden_on_its_own_machine_only() {
    let text = format!(
        "[host.web1]\nssh = \"shop@web1\"\n{}host = \"web1\"\n",
        SHOP.replace("/srv/shop", "/var/lib/healerd/shop")
    );
    assert_eq!(settings(&text).apps.len(), 1);
}

#[test]
fn one_path_on_two_machines_is_two_applications_folders() {
    let text = format!(
        "[host.web1]\nssh = \"shop@web1\"\n{SHOP}{}host = \"web1\"\n",
        SHOP.replace("app.shop", "app.other")
    );
    assert_eq!(settings(&text).apps.len(), 2);
}

#[test]
fn advice_says_what_is_missing_for_an_app_on_another_machine() {
    let files = |_: &App| RootNeeds {
        files: true,
        units: Vec::new(),
    };
    let text = format!("[host.web1]\nssh = \"shop@web1\"\n{SHOP}host = \"web1\"\n");
    let said = check(&settings(&text), 1234, &files);
    let find = |weight: Weight, words: &str| {
        said.iter()
            .find(|advice| advice.weight == weight && advice.text.contains(words))
    };
    assert!(
        find(Weight::Warning, "healerctl host enrol web1").is_some(),
        "{said:#?}"
    );
    assert!(
        find(Weight::Refusal, "nothing to log in with").is_some(),
        "{said:#?}"
    );
    assert!(
        find(Weight::Refusal, "cannot become that user").is_none(),
        "a login needs no root here: {said:#?}"
    );
    assert!(
        find(Weight::Note, "root operations for app `shop` are off").is_some(),
        "{said:#?}"
    );

    let text = format!(
        "[host.web1]\nssh = \"shop@web1\"\nhost_key = \"{KEY}\"\nkey = \"ETC/key\"\nbecome = \"sudo\"\n{SHOP}host = \"web1\"\n"
    );
    let said = check(&settings(&text), 0, &files);
    assert!(
        said.iter().all(|advice| advice.weight != Weight::Refusal),
        "{said:#?}"
    );
    let sudo = said
        .iter()
        .find(|advice| advice.lines.contains("NOPASSWD"))
        .unwrap();
    assert!(
        sudo.lines
            .contains("shop ALL=(root) NOPASSWD: /usr/local/libexec/healer-agent --identity root --state /var/lib/healerd-agent"),
        "{}",
        sudo.lines
    );
}
