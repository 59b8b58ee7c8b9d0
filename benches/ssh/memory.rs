//! Memory of a process for each connection that it holds, in a process that does nothing else.
//!
//! The bench starts itself once more for it, so that what the other measurements left in memory is not counted.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use healerd::host::SshHost;

use crate::Failure;
use crate::report::load;
use crate::server::{self, Server, address, run};
use crate::site::{self, Which};

/// The word that asks for the measuring process.
pub(crate) const HOLD: &str = "hold";

/// Connections that are counted; one more is made before them.
const CONNECTIONS: usize = 50;

/// Starts the measuring process and prints what it says.
///
/// # Errors
/// When it does not succeed.
pub(crate) fn measure(server: &Server, folder: &Path, root: &Path) -> Result<(), Failure> {
    let said = run(Command::new(std::env::current_exe()?)
        .arg(HOLD)
        .arg(server.port.to_string())
        .arg(server.host_key()?)
        .arg(server.key())
        .arg(server.agents())
        .arg(crate::private(folder, "hold")?)
        .arg(root))?;
    print!("{}", String::from_utf8_lossy(&said));
    Ok(())
}

/// `RSS` and its anonymous part, in KiB.
fn memory() -> Result<(u64, u64), Failure> {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup")?;
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
            .ok_or(format!("no {name} in it"))
    };
    Ok((field("Rss:")?, field("Anonymous:")?))
}

/// The measuring process.
///
/// # Errors
/// When something here does not work.
pub(crate) async fn hold(arguments: &[String]) -> Result<(), Failure> {
    let [port, host_key, key, agents, private, root] = arguments else {
        return Err("the bench calls this itself".into());
    };
    let launch = server::launch(Path::new(agents))?;
    let key = PathBuf::from(key);
    let settings = server::settings(&address(0), port.parse()?, host_key, &key);
    let host = SshHost::new("web0".parse()?, settings, launch);
    let world = site::world(Path::new(private), vec![host]).await?;
    let stack = site::stack()?;
    let mut seen = Vec::new();
    for user in 0..=CONNECTIONS {
        let app = site::app(0, &format!("user{user}"), Path::new(root))?;
        site::round(&world, &app, &stack, Which::Ten).await?;
        if user == 0 || user == CONNECTIONS {
            // What logins needed for a moment goes back first.
            tokio::time::sleep(Duration::from_secs(1)).await;
            seen.push(memory()?);
        }
    }
    let [(rss, anonymous), (rss_all, anonymous_all)] = seen[..] else {
        return Err("two looks were to be taken".into());
    };
    let each = |one: u64, all: u64| all.saturating_sub(one) / CONNECTIONS as u64;
    println!(
        "memory with {CONNECTIONS} more held connections: {} KiB each (RSS {rss} -> {rss_all} KiB; {} KiB each of it \
         anonymous), {}",
        each(rss, rss_all),
        each(anonymous, anonymous_all),
        load()
    );
    Ok(())
}
