//! Keys, certificates, an ssh-agent and jumps let in; what cannot be used is told before anything is sent.

use std::process::Stdio;

use healerd::host::ssh::fingerprint;
use healerd::model::host::SshHop;

use super::remote::{Remote, answers, hop, refusal};
use crate::lab::sshd::Like;
use crate::lab::{find_program, set_mode, skip, wait_for};

#[tokio::test]
async fn own_keys_that_cannot_be_used_are_told_and_nothing_is_sent() {
    let Some(mut remote) = Remote::open(&Like::default()) else {
        return;
    };
    let dir = remote.lab.dir().to_owned();
    remote.lab.ssh_key(&dir.join("locked"), "ed25519", "secret");
    remote.lab.ssh_key(&dir.join("rsa"), "rsa", "");
    remote.lab.ssh_key(&dir.join("loose"), "ed25519", "");
    set_mode(&dir.join("loose"), 0o640);
    std::fs::write(dir.join("noise"), "no key").unwrap();
    set_mode(&dir.join("noise"), 0o600);
    for (file, words) in [
        ("locked", "asks for a passphrase"),
        ("rsa", "RSA keys (ssh-rsa) cannot be used"),
        ("loose", "others could read this key file (mode 0640)"),
        ("noise", "is not a private key"),
        ("absent", "cannot be read"),
        ("id.pub", "this is a public key"),
    ] {
        set_mode(&dir.join("id.pub"), 0o600);
        remote.settings.keys = vec![dir.join(file)];
        let said = refusal(&remote.host()).await;
        assert!(said.contains(words), "{file}: {said}");
    }
    let log = remote.sshd.log(&remote.lab);
    assert!(!log.contains("Connection from"), "{log}");
}

#[tokio::test]
async fn a_refused_key_is_not_offered_again_before_its_time() {
    let Some(remote) = Remote::open(&Like::default()) else {
        return;
    };
    remote.authorize("from=\"10.9.8.7\"");
    let host = remote.host();
    let said = refusal(&host).await;
    assert!(said.contains("user shop may not log in"), "{said}");
    assert!(said.contains("authorized_keys"), "{said}");
    let connections = || {
        remote
            .sshd
            .log(&remote.lab)
            .matches("Connection from")
            .count()
    };
    assert_eq!(connections(), 1);
    let said = refusal(&host).await;
    assert!(said.contains("not tried again for 900 s"), "{said}");
    assert_eq!(connections(), 1, "nothing was sent");
    remote.authorize("");
    host.forgive();
    answers(&host).await;
}

#[tokio::test]
async fn a_certificate_lets_in_and_an_expired_one_is_told() {
    let Some(mut remote) = Remote::open(&Like::default()) else {
        return;
    };
    let dir = remote.lab.dir().to_owned();
    let authority = dir.join("authority");
    remote.lab.ssh_key(&authority, "ed25519", "");
    remote
        .sshd
        .authorize("cert-authority", &dir.join("authority.pub"));
    let sign = |validity: &str| {
        let output = remote
            .lab
            .as_root("ssh-keygen")
            .args(["-q", "-s"])
            .arg(&authority)
            .args(["-I", "healerd", "-n", "shop", "-V", validity])
            .arg(dir.join("id.pub"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    sign("-1h:+1h");
    remote.settings.certificates = vec![dir.join("id-cert.pub")];
    answers(&remote.host()).await;
    sign("-2h:-1h");
    let said = refusal(&remote.host()).await;
    assert!(said.contains("this certificate has expired"), "{said}");
    remote.lab.ssh_key(&dir.join("other"), "ed25519", "");
    sign("-1h:+1h");
    remote.settings.keys = vec![dir.join("other")];
    let said = refusal(&remote.host()).await;
    assert!(
        said.contains("belongs to none of the configured keys"),
        "{said}"
    );
}

#[tokio::test]
async fn an_ssh_agent_signs_for_a_key_that_no_file_holds() {
    for program in ["ssh-agent", "ssh-add"] {
        if find_program(program).is_none() {
            skip(&format!("needs `{program}`"));
            return;
        }
    }
    let Some(mut remote) = Remote::open(&Like::default()) else {
        return;
    };
    let socket = remote.lab.dir().join("agent.sock");
    remote.lab.spawn(
        "ssh-agent",
        remote
            .lab
            .as_root("ssh-agent")
            .arg("-D")
            .arg("-a")
            .arg(&socket),
    );
    wait_for("the ssh-agent listens", || socket.exists());
    remote.settings.agent = Some(socket.clone());
    let keys = std::mem::take(&mut remote.settings.keys);
    let said = refusal(&remote.host()).await;
    assert!(said.contains("the ssh-agent holds no key"), "{said}");
    let added = remote
        .lab
        .as_root("ssh-add")
        .arg("-q")
        .arg(&keys[0])
        .env("SSH_AUTH_SOCK", &socket)
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(added.success());
    answers(&remote.host()).await;
    remote.settings.agent = Some(remote.lab.dir().join("absent.sock"));
    let said = refusal(&remote.host()).await;
    assert!(said.contains("this ssh-agent cannot be asked"), "{said}");
}

#[tokio::test]
async fn a_jump_leads_to_a_host_and_its_own_key_is_judged_first() {
    let Some(mut remote) = Remote::open(&Like::default()) else {
        return;
    };
    let jump = remote.lab.sshd("jump", &Like::default());
    jump.authorize("", &remote.lab.dir().join("id.pub"));
    let right: SshHop = hop(&jump, vec![jump.host_key("ed25519")]);
    remote.settings.jumps = vec![right.clone()];
    answers(&remote.host()).await;
    assert_eq!(jump.logins(&remote.lab), 1);
    assert_eq!(remote.sshd.logins(&remote.lab), 1);

    let offered = healerd::host::ssh::scan(&remote.settings, &remote.launch)
        .await
        .unwrap();
    assert_eq!(offered[0].key, remote.sshd.host_key("ed25519"));
    let pinned = russh::keys::PublicKey::from_openssh(&offered[0].key).unwrap();
    assert_eq!(offered[0].fingerprint, fingerprint(&pinned));

    // The target's key does not make a jump trusted.
    remote.settings.jumps = vec![SshHop {
        host_keys: remote.settings.target.host_keys.clone(),
        ..right
    }];
    let jumped = jump.logins(&remote.lab);
    let error = super::remote::room(&remote.host(), "shop")
        .await
        .unwrap_err();
    assert!(
        matches!(error, healerd::seam::HostError::Untrusted { .. }),
        "{error:?}"
    );
    assert_eq!(jump.logins(&remote.lab), jumped);
}

#[tokio::test]
async fn a_server_that_wants_more_than_a_key_is_told_apart() {
    let like = Like {
        config: "AuthenticationMethods publickey,password\nPasswordAuthentication yes".to_owned(),
        ..Like::default()
    };
    let Some(remote) = Remote::open(&like) else {
        return;
    };
    let said = refusal(&remote.host()).await;
    assert!(said.contains("wants a second proof"), "{said}");
}
