//! Hosts over SSH beside their yardsticks: checks, backups, and memory for each connection.
//!
//! The server is the bench's own, on loopback, with default limits and a key made for it; pool, agent, round and backup
//! are the daemon's. Prints medians and ratios; asserts nothing about speed. Needs root (users of its own) and the
//! static agent of `packaging/build-agent`.
//!
//! `cargo bench --bench ssh` measures everything; `-- checks`, `crowd`, `memory` and `backup` measure one part.
//! `ANSIBLE` names an ansible; without it one is installed with pip for the time of the bench.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a bench measures with the real clock, on files of its own, and prints what it found"
)]

mod backups;
mod checks;
#[path = "../fresh/mod.rs"]
mod fresh;
mod memory;
mod report;
mod server;
mod site;
mod yardsticks;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use server::Server;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A directory that only we can read, as the daemon's state is.
///
/// # Errors
/// The system's.
fn private(folder: &Path, name: &str) -> Result<PathBuf, Failure> {
    let path = folder.join(name);
    fs::create_dir(&path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o700))?;
    Ok(path)
}

fn agents() -> Option<PathBuf> {
    let folder = std::env::var_os("HEALERD_TESTS_AGENTS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/agents"),
        PathBuf::from,
    );
    let name = format!("healer-agent-{}", std::env::consts::ARCH);
    folder.join(name).is_file().then_some(folder)
}

async fn measure(parts: &[String]) -> Result<(), Failure> {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: the server's users need root");
        return Ok(());
    }
    let Some(agents) = agents() else {
        println!("skipped: there is no static agent; packaging/build-agent makes it");
        return Ok(());
    };
    let folder = fresh::folder()?;
    let server = Server::start(folder.path(), &agents)?;
    let root = server.home().join("shop");
    site::plant_small(&root)?;
    let asked = |part: &str| parts.is_empty() || parts.iter().any(|asked| asked == part);
    if asked("checks") {
        checks::measure(&server, folder.path(), &root).await?;
    }
    if asked("crowd") {
        checks::crowd(&server, folder.path(), &root).await?;
    }
    if asked("memory") {
        memory::measure(&server, folder.path(), &root)?;
    }
    if asked("backup") {
        backups::measure(&server, folder.path()).await?;
    }
    Ok(())
}

fn main() -> Result<(), Failure> {
    // As in the daemon.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    match arguments.split_first() {
        Some((word, rest)) if word == memory::HOLD => runtime.block_on(memory::hold(rest)),
        _ if fresh::goes_on_inside()? => Ok(()),
        _ => runtime.block_on(measure(&arguments)),
    }
}
