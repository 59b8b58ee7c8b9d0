//! The way to a host up to its key, one step after the other, for a person who wonders what is missing.
//!
//! Nobody logs in on the host that is asked about; those on the way are logged in to, as for every scan.

use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};

use super::keys::{Credentials, Offer};
use super::{SshLaunch, scan};
use crate::model::host::{Finding, Found, SshSettings};
use crate::model::host_key::HostKey;
use crate::model::name::HostName;

fn finding(step: &str, found: Found, text: impl Into<String>) -> Finding {
    Finding {
        step: step.to_owned(),
        found,
        text: text.into(),
        lines: String::new(),
    }
}

/// Each step with what was found; it ends with the first one that the others stand on and that is not there.
pub(super) async fn examine(
    name: &HostName,
    settings: &SshSettings,
    launch: &SshLaunch,
) -> Vec<Finding> {
    let mut list = vec![own_keys(settings, launch.clock.now().wall_ms)];
    // Behind other hosts its name means something to the last of them alone.
    let (first, via) = match settings.jumps.first() {
        Some(hop) => (&hop.address, "the first host on the way"),
        None => (&settings.target.address, "its name"),
    };
    let place = format!("{}:{}", first.host, first.port);
    let found = timed(
        settings.connect_within,
        lookup_host((first.host.as_str(), first.port)),
    )
    .await;
    let addresses: Vec<_> = match found {
        Ok(addresses) => addresses.collect(),
        Err(reason) => {
            list.push(finding(
                "name",
                Found::Wrong,
                format!("{via}, {}, does not resolve: {reason}", first.host),
            ));
            return list;
        }
    };
    let shown: Vec<_> = addresses
        .iter()
        .map(|address| address.ip().to_string())
        .collect();
    list.push(finding(
        "name",
        Found::Fine,
        format!("{} is {}", first.host, shown.join(", ")),
    ));
    match timed(settings.connect_within, TcpStream::connect(&addresses[..])).await {
        Ok(_) => list.push(finding(
            "TCP",
            Found::Fine,
            format!("{place} takes connections"),
        )),
        Err(reason) => {
            list.push(finding("TCP", Found::Wrong, format!("{place}: {reason}")));
            return list;
        }
    }
    list.push(host_key(name, settings, launch).await);
    list
}

async fn timed<T>(
    within: Duration,
    work: impl Future<Output = std::io::Result<T>>,
) -> Result<T, String> {
    match tokio::time::timeout(within, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", within.as_secs())),
    }
}

/// What we have to log in with.
fn own_keys(settings: &SshSettings, wall_ms: i64) -> Finding {
    match Credentials::load(settings, wall_ms) {
        Ok(credentials) => {
            let files: Vec<_> = credentials
                .offers
                .iter()
                .map(|offer| match offer {
                    Offer::Key { file, .. } | Offer::Certificate { file, .. } => file.clone(),
                })
                .chain(
                    credentials
                        .agent
                        .iter()
                        .map(|socket| format!("the ssh-agent at {}", socket.display())),
                )
                .collect();
            let mut fine = finding(
                "own keys",
                Found::Fine,
                format!(
                    "{}; authorized_keys there needs this line",
                    files.join(", ")
                ),
            );
            fine.lines = public_keys(settings, wall_ms).join("\n");
            fine
        }
        Err(error) => finding("own keys", Found::Wrong, error.to_string()),
    }
}

/// The public halves of the key files, where they can be read.
pub(super) fn public_keys(settings: &SshSettings, wall_ms: i64) -> Vec<String> {
    let Ok(credentials) = Credentials::load(settings, wall_ms) else {
        return Vec::new();
    };
    credentials
        .offers
        .iter()
        .filter_map(|offer| match offer {
            Offer::Key { key, .. } => key.public_key().to_openssh().ok(),
            Offer::Certificate { .. } => None,
        })
        .collect()
}

async fn host_key(name: &HostName, settings: &SshSettings, launch: &SshLaunch) -> Finding {
    let step = "host key";
    let offered = match scan(settings, launch).await {
        Ok(offered) => offered,
        Err(error) => return finding(step, Found::Wrong, error.to_string()),
    };
    let pins: Vec<HostKey> = settings
        .target
        .host_keys
        .iter()
        .filter_map(|pin| HostKey::parse(pin).ok())
        .collect();
    let trusted = |fingerprint: &str| {
        let same = |pin: &&HostKey| pin.fingerprint == fingerprint;
        let mut found = pins.iter().filter(same).peekable();
        found.peek().is_some() && found.all(|pin| !pin.revoked)
    };
    let shown: Vec<_> = offered
        .iter()
        .map(|key| {
            let kind = key.key.split(' ').next().unwrap_or_default();
            format!("{kind} {}", key.fingerprint)
        })
        .collect();
    let shown = shown.join(", ");
    if let Some(key) = offered.iter().find(|key| trusted(&key.fingerprint)) {
        return finding(
            step,
            Found::Fine,
            format!("{} is the pinned one", key.fingerprint),
        );
    }
    if pins.is_empty() {
        finding(
            step,
            Found::Wrong,
            format!(
                "it offers {shown}, and none is pinned: compare it on the host's own console, then `healerctl host enrol {name}`"
            ),
        )
    } else {
        let pinned: Vec<_> = pins.iter().map(|pin| pin.fingerprint.clone()).collect();
        finding(
            step,
            Found::Wrong,
            format!(
                "it offers {shown}, and {} is pinned: its key was changed, or somebody else is answering",
                pinned.join(", ")
            ),
        )
    }
}
