//! Only a pinned key is believed, and before it is seen nobody logs in.

use healerd::host::SshRemotes;
use healerd::host::ssh::scan;
use healerd::model::host::Found;
use healerd::seam::{HostError, Remotes as _};

use super::remote::{Remote, answers, room};
use crate::lab::sshd::Like;

/// What is said about a doubted host; and the server has seen no attempt to log in.
async fn doubt(remote: &Remote) -> String {
    let error = room(&remote.host(), "shop").await.unwrap_err();
    let HostError::Untrusted { reason, .. } = &error else {
        panic!("its identity is in doubt: {error:?}");
    };
    let log = remote.sshd.log(&remote.lab);
    for attempt in [
        "Accepted",
        "Failed",
        "userauth",
        "Postponed",
        "Invalid user",
    ] {
        assert!(!log.contains(attempt), "{attempt}: {log}");
    }
    reason.clone()
}

#[tokio::test]
async fn nobody_logs_in_to_a_host_whose_key_is_not_pinned() {
    let Some(mut remote) = Remote::open(&Like::default()) else {
        return;
    };
    remote.settings.target.host_keys.clear();
    let offered = scan(&remote.settings, &remote.launch).await.unwrap();
    assert_eq!(offered[0].key, remote.sshd.host_key("ed25519"));
    let reason = doubt(&remote).await;
    assert!(reason.contains(&offered[0].fingerprint), "{reason}");
    assert!(reason.contains("enrol"), "{reason}");
}

#[tokio::test]
async fn a_changed_or_revoked_key_is_told_with_both_fingerprints() {
    let Some(mut remote) = Remote::open(&Like::default()) else {
        return;
    };
    let offered = scan(&remote.settings, &remote.launch).await.unwrap();
    let right = remote.settings.target.host_keys.clone();
    let other = remote.lab.dir().join("other");
    remote.lab.ssh_key(&other, "ed25519", "");
    let other = std::fs::read_to_string(remote.lab.dir().join("other.pub")).unwrap();
    remote.settings.target.host_keys = vec![other.clone()];
    let reason = doubt(&remote).await;
    assert!(reason.contains(&offered[0].fingerprint), "{reason}");
    assert_eq!(reason.matches("SHA256:").count(), 2, "{reason}");

    remote.settings.target.host_keys = vec![other.clone(), format!("@revoked {}", right[0])];
    let reason = doubt(&remote).await;
    assert!(reason.contains("revoked"), "{reason}");

    remote.settings.target.host_keys = vec!["ssh-ed25519 nonsense".to_owned(), right[0].clone()];
    let reason = doubt(&remote).await;
    assert!(reason.contains("pinned host key 1"), "{reason}");

    remote.settings.target.host_keys = vec![other, right[0].clone()];
    answers(&remote.host()).await;
}

#[tokio::test]
async fn a_pin_of_another_kind_is_a_doubt_and_not_a_failure() {
    let like = Like {
        host_keys: vec!["ecdsa", "rsa"],
        ..Like::default()
    };
    let Some(mut remote) = Remote::open(&like) else {
        return;
    };
    answers(&remote.host()).await;
    let offered = scan(&remote.settings, &remote.launch).await.unwrap();
    assert_eq!(offered.len(), 1);
    assert!(offered[0].key.starts_with("ecdsa-sha2-nistp256 "));

    let other = remote.lab.dir().join("other");
    remote.lab.ssh_key(&other, "ed25519", "");
    let other = std::fs::read_to_string(remote.lab.dir().join("other.pub")).unwrap();
    remote.settings.target.host_keys = vec![other];
    let error = room(&remote.host(), "shop").await.unwrap_err();
    assert!(matches!(&error, HostError::Untrusted { .. }), "{error:?}");
    assert!(error.to_string().contains("ecdsa-sha2-nistp256"), "{error}");
    assert_eq!(remote.sshd.logins(&remote.lab), 1, "only the trusted one");
}

#[tokio::test]
async fn a_host_with_rsa_keys_alone_gets_one_clear_sentence() {
    let like = Like {
        host_keys: vec!["rsa"],
        ..Like::default()
    };
    let Some(mut remote) = Remote::open(&like) else {
        return;
    };
    remote.settings.target.host_keys.clear();
    for error in [
        room(&remote.host(), "shop").await.unwrap_err().to_string(),
        scan(&remote.settings, &remote.launch)
            .await
            .unwrap_err()
            .to_string(),
    ] {
        assert!(error.contains("offers only RSA host keys"), "{error}");
        assert!(error.contains("add an ed25519 host key"), "{error}");
    }
    assert_eq!(remote.sshd.logins(&remote.lab), 0);
}

#[tokio::test]
async fn an_examination_goes_up_to_the_key_and_logs_in_nowhere() {
    let Some(mut remote) = Remote::open(&Like::default()) else {
        return;
    };
    let remotes = SshRemotes::new(remote.launch.clone());
    let name = "web1".parse().unwrap();
    let steps = async |settings: &_| -> Vec<(String, Found)> {
        let found = remotes.examine(&name, settings).await;
        found.into_iter().map(|one| (one.step, one.found)).collect()
    };
    let fine = steps(&remote.settings).await;
    let step = |step: &str, found| (step.to_owned(), found);
    let way = |last| {
        [
            step("own keys", Found::Fine),
            step("name", Found::Fine),
            step("TCP", Found::Fine),
            step("host key", last),
        ]
    };
    assert_eq!(fine, way(Found::Fine));
    let public = std::fs::read_to_string(remote.lab.dir().join("id.pub")).unwrap();
    assert_eq!(remotes.public_keys(&remote.settings), [public.trim()]);
    assert_eq!(
        remotes.scan(&name, &remote.settings).await.unwrap().key,
        remote.sshd.host_key("ed25519")
    );

    let pinned = std::mem::take(&mut remote.settings.target.host_keys);
    let doubted = steps(&remote.settings).await;
    assert_eq!(doubted, way(Found::Wrong));
    remote.settings.target.host_keys = pinned;
    remote.settings.target.address.port = 1;
    let gone = steps(&remote.settings).await;
    assert_eq!(gone.last(), Some(&step("TCP", Found::Wrong)));
    remote.settings.keys = vec![remote.lab.dir().join("absent")];
    let keyless = steps(&remote.settings).await;
    assert_eq!(keyless, [step("own keys", Found::Wrong)]);
    assert_eq!(remote.sshd.logins(&remote.lab), 0);
}
