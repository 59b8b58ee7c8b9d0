//! The agent's way to a host that has nothing, and the hosts on which it cannot live.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use healer_agent::protocol::{Answer, Frame, Refusal, RefusalCode};
use healerd::host::ssh::AgentFiles;
use healerd::model::host::{Become, ROOT_STATE};
use healerd::seam::Host as _;

use super::remote::{Remote, answers, refusal};
use crate::lab::set_mode;
use crate::lab::sshd::{Like, UID};

/// Every program below the agents' directory.
fn pushed(remote: &Remote) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for version in std::fs::read_dir(remote.state().join("agents")).unwrap() {
        for file in std::fs::read_dir(version.unwrap().path()).unwrap() {
            found.push(file.unwrap().path());
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn a_host_with_nothing_gets_the_agent_once_and_privately() {
    let Some(remote) = Remote::open(&Like::default()) else {
        return;
    };
    answers(&remote.host()).await;
    let programs = pushed(&remote);
    assert_eq!(programs.len(), 1, "{programs:?}");
    let directory = &remote.launch.agents.directories[0];
    let name = format!("healer-agent-{}", std::env::consts::ARCH);
    let sent = std::fs::read(directory.join(name)).unwrap();
    assert!(
        std::fs::read(&programs[0]).unwrap() == sent,
        "byte for byte"
    );
    let hash = blake3::hash(&sent).to_hex().to_string();
    assert!(programs[0].ends_with(format!("{hash}/healer-agent")));
    for path in [&programs[0], &remote.state()] {
        let meta = std::fs::metadata(path).unwrap();
        assert_eq!((meta.mode() & 0o777, meta.uid()), (0o700, UID), "{path:?}");
    }
    // Another daemon finds it there.
    let before = std::fs::metadata(&programs[0]).unwrap().ino();
    answers(&remote.host()).await;
    assert_eq!(std::fs::metadata(&programs[0]).unwrap().ino(), before);
}

#[tokio::test]
async fn a_torn_agent_is_replaced_and_old_ones_are_removed() {
    let Some(remote) = Remote::open(&Like::default()) else {
        return;
    };
    let host = remote.host();
    answers(&host).await;
    let program = pushed(&remote).remove(0);
    std::fs::remove_file(&program).unwrap(); // it runs, so it cannot be written
    std::fs::write(&program, b"\x7fELF torn").unwrap();
    let agents = remote.state().join("agents");
    for (old, age) in [("a", 30), ("b", 20), ("c", 10)] {
        let old = agents.join(old.repeat(64));
        std::fs::create_dir(&old).unwrap();
        std::fs::write(old.join("healer-agent"), b"old").unwrap();
        let then = std::time::SystemTime::now() - std::time::Duration::from_secs(age * 86_400);
        std::fs::File::open(&old)
            .unwrap()
            .set_modified(then)
            .unwrap();
        std::os::unix::fs::chown(&old, Some(UID), Some(UID)).unwrap();
    }
    std::fs::write(program.with_file_name("new.0123"), b"cut").unwrap();
    answers(&remote.host()).await;
    assert!(std::fs::metadata(&program).unwrap().len() > 100_000);
    let kept = pushed(&remote);
    assert_eq!(kept.len(), 2, "the newest other one stays: {kept:?}");
    assert!(
        kept.iter()
            .any(|path| path.to_string_lossy().contains(&"c".repeat(64)))
    );
}

#[tokio::test]
async fn an_agent_that_was_removed_meanwhile_is_put_there_again() {
    let Some(remote) = Remote::open(&Like::default()) else {
        return;
    };
    let host = remote.host();
    answers(&host).await;
    host.close().await;
    std::fs::remove_dir_all(remote.state().join("agents")).unwrap();
    answers(&host).await;
    assert_eq!(pushed(&remote).len(), 1);
}

#[tokio::test]
async fn a_home_that_is_full_or_noexec_is_told_in_plain_words() {
    for (mount, words) in [
        ("size=3m", "no room for the agent"),
        ("nr_inodes=3", "no room for the agent"),
        ("noexec", "mounted noexec"),
    ] {
        let like = Like {
            home_mount: Some(mount),
            ..Like::default()
        };
        let Some(remote) = Remote::open(&like) else {
            return;
        };
        let host = remote.host();
        let said = refusal(&host).await;
        assert!(said.contains(words), "{mount}: {said}");
        let again = refusal(&host).await;
        assert!(again.contains("not tried again for"), "{again}");
        assert_eq!(remote.sshd.logins(&remote.lab), 1, "the login was fine");
    }
}

#[tokio::test]
async fn an_account_without_a_home_is_told() {
    let like = Like {
        home: Some("/nonexistent".into()),
        ..Like::default()
    };
    let Some(remote) = Remote::open(&like) else {
        return;
    };
    let said = refusal(&remote.host()).await;
    assert!(said.contains("has no home directory"), "{said}");
}

#[tokio::test]
async fn an_architecture_without_an_agent_is_told() {
    let Some(mut remote) = Remote::open(&Like::default()) else {
        return;
    };
    remote.launch.agents = AgentFiles {
        directories: vec![remote.lab.home()],
    };
    let said = refusal(&remote.host()).await;
    assert!(
        said.contains("there is no agent for its architecture"),
        "{said}"
    );
    assert!(said.contains(std::env::consts::ARCH), "{said}");
}

#[tokio::test]
async fn odd_login_shells_work_or_are_told() {
    for (shell, works) in [
        ("/bin/bash", true),
        ("/bin/dash", true),
        ("/bin/rbash", false),
        ("/usr/sbin/nologin", false),
        ("/bin/false", false),
    ] {
        let like = Like {
            shell: shell.to_owned(),
            ..Like::default()
        };
        let Some(remote) = Remote::open(&like) else {
            return;
        };
        if works {
            answers(&remote.host()).await;
        } else {
            let said = refusal(&remote.host()).await;
            assert!(
                said.contains("forced command") || said.contains("restricted"),
                "{shell}: {said}"
            );
        }
    }
}

#[tokio::test]
async fn start_up_files_that_print_do_not_disturb() {
    let like = Like {
        shell: "/bin/bash".to_owned(),
        ..Like::default()
    };
    let Some(remote) = Remote::open(&like) else {
        return;
    };
    let chatter = "echo 'Welcome!'; printf '\\0\\0\\1 {\"answer\":\"no\"}'; echo warning >&2\n";
    std::fs::write(remote.sshd.home().join(".bashrc"), chatter).unwrap();
    answers(&remote.host()).await;
}

#[tokio::test]
async fn a_forced_command_answers_whatever_is_executed_and_nothing_is_pushed() {
    let Some(mut remote) = Remote::open(&Like::default()) else {
        return;
    };
    let agent = remote.lab.dir().join("healer-agent");
    let name = format!("healer-agent-{}", std::env::consts::ARCH);
    std::fs::copy(remote.launch.agents.directories[0].join(name), &agent).unwrap();
    let state = remote.sshd.home().join("state");
    let options = format!(
        "restrict,command=\"{} --identity app --state {}\"",
        agent.display(),
        state.display()
    );
    remote.authorize(&options);
    let said = refusal(&remote.host()).await;
    assert!(said.contains("forced_command = true"), "{said}");

    remote.settings.forced_command = true;
    remote.launch.agents = AgentFiles {
        directories: Vec::new(),
    };
    answers(&remote.host()).await;
    assert!(!remote.state().exists());
    assert!(state.is_dir());

    // One of another release says so.
    let older = remote.lab.dir().join("older");
    let refused = Answer::Refused(Refusal {
        code: RefusalCode::Version,
        message: "this agent speaks version 0".to_owned(),
    });
    let frame = Frame {
        id: 1,
        header: serde_json::to_vec(&refused).unwrap(),
        body: Vec::new(),
    };
    std::fs::write(remote.lab.dir().join("frame"), frame.encode().unwrap()).unwrap();
    let script = format!(
        "#!/bin/sh\ncat {}/frame\ncat > /dev/null\n",
        remote.lab.dir().display()
    );
    std::fs::write(&older, script).unwrap();
    set_mode(&older, 0o755);
    remote.authorize(&format!("restrict,command=\"{}\"", older.display()));
    let said = refusal(&remote.host()).await;
    assert!(
        said.contains("the agent there refused: this agent speaks version 0"),
        "{said}"
    );
}

#[tokio::test]
async fn an_account_for_file_transfer_alone_is_told() {
    let like = Like {
        config: "ForceCommand internal-sftp".to_owned(),
        ..Like::default()
    };
    let Some(remote) = Remote::open(&like) else {
        return;
    };
    let said = refusal(&remote.host()).await;
    assert!(said.contains("did not run a plain command"), "{said}");
}

#[tokio::test]
async fn root_operations_ask_for_what_they_need() {
    let Some(remote) = Remote::open(&Like::default()) else {
        return;
    };
    let root = healerd::seam::Login {
        identity: healerd::model::action::Identity::Root,
        uid: 0,
        gid: 0,
        user: None,
    };
    let request = healer_agent::protocol::Request::Room {
        path: "/".to_owned(),
    };
    let asked = super::remote::call(root, healerd::seam::Lane::Check, request);
    let host = remote.host();
    let error = healerd::seam::Host::call(&host, asked).await.unwrap_err();
    assert!(error.to_string().contains("become = \"sudo\""), "{error}");
}

/// Root's greeting there, or what is said instead.
async fn greeted_as_root(remote: &Remote) -> Result<healer_agent::protocol::Hello, String> {
    let root = healerd::seam::Login {
        identity: healerd::model::action::Identity::Root,
        uid: 0,
        gid: 0,
        user: None,
    };
    let asked = super::remote::call(root, healerd::seam::Lane::Check, super::remote::hello());
    let host = remote.host();
    let reply = host.call(asked).await;
    host.close().await;
    let answer = reply.map_err(|error| error.to_string())?.answer;
    let healer_agent::protocol::Answer::Hello(hello) = answer else {
        panic!("a greeting is answered by one: {answer:?}");
    };
    Ok(hello)
}

#[tokio::test]
async fn root_operations_go_by_sudo_to_the_root_owned_agent_alone() {
    let Some(mut remote) = Remote::open(&Like {
        allow: "[[restart]]\nunit = \"shop.service\"\n".to_owned(),
        ..Like::default()
    }) else {
        return;
    };
    let program = remote.sshd.root_agent();
    let become_root = Become { program };
    remote.settings.r#become = Some(become_root.clone());
    let hello = greeted_as_root(&remote).await.unwrap();
    assert_eq!(hello.uid, 0);
    assert_eq!(hello.allowed, ["restart shop.service"]);
    assert!(remote.sshd.seen(Path::new(ROOT_STATE)).is_dir());
    assert!(!remote.state().exists(), "nothing was pushed for it");

    // Whatever sudo has against it is told with the line that it lacks.
    let line = become_root.sudoers_line("shop");
    for (case, sudoers, words) in [
        ("no line", String::new(), line.as_str()),
        (
            "with a password",
            line.replace("NOPASSWD: ", ""),
            "a password is required",
        ),
        (
            "something else",
            line.replace("--identity root", "--identity app"),
            "a password is required",
        ),
        (
            "no terminal",
            format!("Defaults requiretty\n{line}"),
            "Defaults:shop !requiretty",
        ),
    ] {
        remote.sshd.tell_sudo(&format!("{sudoers}\n"));
        let said = greeted_as_root(&remote).await.unwrap_err();
        assert!(said.contains(words), "{case}: {said}");
        assert!(said.contains("visudo"), "{case}: {said}");
    }
    remote.sshd.tell_sudo(&format!("{line}\n"));
    greeted_as_root(&remote).await.unwrap();
    let elsewhere = remote.lab.dir().join("not-there");
    remote.settings.r#become = Some(Become { program: elsewhere });
    remote.sshd.tell_sudo("shop ALL=(root) NOPASSWD: ALL\n");
    let said = greeted_as_root(&remote).await.unwrap_err();
    assert!(said.contains("not-there is not there"), "{said}");
}
