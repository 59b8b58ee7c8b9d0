//! The first two steps on the way to a host, for a person who wonders what is missing: its name, and TCP.
//!
//! Both are done again by every connect, where they are one error among many; here each is told by itself.

use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};

use crate::model::host::{Finding, Found, SshSettings};

/// Name and TCP of the first machine on the way; ends with the first step that is wrong.
pub(super) async fn way(settings: &SshSettings) -> Vec<Finding> {
    // Behind other hosts its name means something to the last of them alone.
    let (first, whose) = match settings.jumps.first() {
        Some(hop) => (&hop.address, "the first host on the way"),
        None => (&settings.target.address, "its name"),
    };
    let finding = |step: &str, found, text: String| Finding {
        step: step.to_owned(),
        found,
        text,
        lines: String::new(),
    };
    let within = settings.connect_within;
    let found = timed(within, lookup_host((first.host.as_str(), first.port))).await;
    let addresses: Vec<_> = match found {
        Ok(addresses) => addresses.collect(),
        Err(reason) => {
            let text = format!("{whose}, {}, does not resolve: {reason}", first.host);
            return vec![finding("name", Found::Wrong, text)];
        }
    };
    let shown: Vec<_> = addresses
        .iter()
        .map(|address| address.ip().to_string())
        .collect();
    let text = format!("{} is {}", first.host, shown.join(", "));
    let name = finding("name", Found::Fine, text);
    let place = format!("{}:{}", first.host, first.port);
    let tcp = match timed(within, TcpStream::connect(&addresses[..])).await {
        Ok(_) => finding("TCP", Found::Fine, format!("{place} takes connections")),
        Err(reason) => finding("TCP", Found::Wrong, format!("{place}: {reason}")),
    };
    vec![name, tcp]
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
