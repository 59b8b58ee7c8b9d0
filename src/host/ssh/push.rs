//! Putting the agent on a host that has nothing: by content hash, verified, and only into the login user's own state.
//!
//! The file gets its name only after it was read back and found to be what was sent, so that a name never stands for a
//! torn file. Nothing is ever written to /tmp or into a web root, and no shell sees a byte of it.

use std::time::Duration;

use russh_sftp::client::SftpSession;
use russh_sftp::client::error::Error as SftpError;
use russh_sftp::client::fs::Metadata;
use russh_sftp::protocol::{FileAttributes, OpenFlags, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::agents::{AgentFile, AgentFiles};
use super::command;
use super::error::{SshError, Stage, quoted};
use super::session::{Printed, Session};

/// Below the home: where agents and their records live.
const STATE: [&str; 3] = [".local", "state", "healerd"];

/// For the whole of a copy, over the slowest line that is worth having.
const COPY: Duration = Duration::from_mins(15);

/// Read back at a time.
const PIECE_BYTES: usize = 128 << 10;

/// Left free beside the agent, for its own records.
const ROOM_BYTES: u64 = 1 << 20;

/// Where an agent lies on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) program: String,
    pub(super) state: String,
}

/// Makes sure that the right agent lies on the host.
///
/// # Errors
/// In plain words: what is missing there.
pub(super) async fn place(
    session: &Session,
    files: &AgentFiles,
    unique: u64,
) -> Result<Placed, SshError> {
    let sorry = |reason: String| SshError::Agent {
        at: session.at().to_owned(),
        reason,
    };
    let printed = session.run(command::FACTS).await?;
    let (kernel, machine) = command::facts(&String::from_utf8_lossy(&printed.stdout))
        .ok_or_else(|| sorry(mute(&printed)))?;
    let files = files.clone();
    let reading = tokio::task::spawn_blocking(move || files.find(&kernel, &machine));
    let agent = reading
        .await
        .map_err(|error| sorry(error.to_string()))?
        .map_err(sorry)?;
    let (sftp, _place) = session.sftp().await?;
    let copying = copy(&sftp, &agent, unique);
    let copied = tokio::time::timeout(COPY, copying).await;
    drop(sftp.close().await);
    copied
        .map_err(|_| SshError::Late {
            at: session.at().to_owned(),
            stage: Stage::Upload,
            within: COPY,
        })?
        .map_err(sorry)
}

/// What to say of a login shell that did not run a constant command.
fn mute(printed: &Printed) -> String {
    let mut said = printed.ending.stderr.clone();
    said.extend_from_slice(&printed.stdout);
    let said = quoted(&said);
    let said = if said.is_empty() {
        "it said nothing".to_owned()
    } else {
        format!("it said \"{said}\"")
    };
    let exit = printed
        .ending
        .exit
        .map(|exit| format!(" and ended with {exit}"))
        .unwrap_or_default();
    format!(
        "the login shell did not run a plain command ({said}{exit}): give the user a usual shell, or install the agent as a forced command and say forced_command = true"
    )
}

/// The whole of it; errors are sentences.
async fn copy(sftp: &SftpSession, agent: &AgentFile, unique: u64) -> Result<Placed, String> {
    let home = sftp
        .canonicalize(".")
        .await
        .map_err(|error| format!("its home cannot be found: {error}"))?;
    if !home.starts_with('/') || home == "/" {
        return Err(format!(
            "the login user has no home directory (it lands in {}): make one, it holds the agent and its records",
            quoted(home.as_bytes())
        ));
    }
    let mut state = home.clone();
    for name in STATE {
        state = format!("{state}/{name}");
        directory(sftp, &state).await?;
    }
    let agents = format!("{state}/agents");
    directory(sftp, &agents).await?;
    let own = format!("{agents}/{}", agent.hash);
    directory(sftp, &own).await?;
    let program = format!("{own}/healer-agent");
    if !is_there(sftp, &program, agent).await? {
        let temporary = format!("{own}/new.{unique:016x}");
        let written = write(sftp, &temporary, agent).await;
        if let Err(reason) = written {
            drop(sftp.remove_file(temporary).await);
            // Who was faster with the same content has tidied up, and perhaps taken our file for a left one.
            if !is_there(sftp, &program, agent).await? {
                return Err(match full(sftp, &own, agent).await {
                    Some(room) => room,
                    None => format!("{own} cannot be written: {reason}"),
                });
            }
        } else if let Err(error) = sftp.rename(temporary.as_str(), program.as_str()).await {
            drop(sftp.remove_file(temporary).await);
            // Somebody else may have been faster with the same content.
            if !is_there(sftp, &program, agent).await? {
                return Err(format!("{program} cannot be put in place: {error}"));
            }
        }
    }
    tidy(sftp, &agents, &agent.hash).await;
    Ok(Placed { program, state })
}

/// Makes a private directory unless there is one.
async fn directory(sftp: &SftpSession, path: &str) -> Result<(), String> {
    let cannot = |error: &SftpError| format!("{path} cannot be made: {error}");
    match sftp.metadata(path).await {
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(_) => return Err(format!("{path} is no directory")),
        Err(SftpError::Status(status)) if status.status_code == StatusCode::NoSuchFile => {}
        Err(error) => return Err(cannot(&error)),
    }
    if let Err(error) = sftp.create_dir(path).await {
        // Another agent of the same user may have made it just now.
        if !sftp.metadata(path).await.is_ok_and(|found| found.is_dir()) {
            return Err(match no_room(sftp, path).await {
                Some(words) => words,
                None => cannot(&error),
            });
        }
        return Ok(());
    }
    sftp.set_metadata(path, mode(0o700))
        .await
        .map_err(|error| cannot(&error))
}

fn mode(bits: u32) -> Metadata {
    Metadata {
        permissions: Some(bits),
        ..FileAttributes::empty()
    }
}

/// Does the right file bear the name? It only ever does after it was verified.
async fn is_there(sftp: &SftpSession, program: &str, agent: &AgentFile) -> Result<bool, String> {
    match sftp.symlink_metadata(program).await {
        Ok(found) => {
            let right = found.is_regular()
                && found.size == Some(agent.bytes)
                && found.permissions.is_some_and(|mode| mode & 0o777 == 0o700);
            if right {
                return Ok(true);
            }
            sftp.remove_file(program).await.map_err(|error| {
                format!("{program} is not what was put there, and cannot be removed: {error}")
            })?;
            Ok(false)
        }
        Err(SftpError::Status(status)) if status.status_code == StatusCode::NoSuchFile => Ok(false),
        Err(error) => Err(format!("{program} cannot be looked at: {error}")),
    }
}

async fn write(sftp: &SftpSession, path: &str, agent: &AgentFile) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let mut file = sftp
        .open_with_flags_and_attributes(
            path,
            OpenFlags::CREATE | OpenFlags::EXCLUDE | OpenFlags::WRITE,
            mode(0o700),
        )
        .await
        .map_err(|error| text(&error))?;
    let mut offset = 0;
    loop {
        let piece = agent.piece(offset).await.map_err(|error| text(&error))?;
        if piece.is_empty() {
            break;
        }
        file.write_all(&piece).await.map_err(|error| text(&error))?;
        offset += piece.len() as u64;
    }
    file.flush().await.map_err(|error| text(&error))?;
    // The server's umask may have taken bits away.
    file.set_metadata(mode(0o700))
        .await
        .map_err(|error| text(&error))?;
    file.sync_all().await.map_err(|error| text(&error))?;
    file.close().await.map_err(|error| text(&error))?;
    verify(sftp, path, agent).await
}

/// Reads it back.
async fn verify(sftp: &SftpSession, path: &str, agent: &AgentFile) -> Result<(), String> {
    let mut file = sftp.open(path).await.map_err(|error| error.to_string())?;
    let mut hasher = blake3::Hasher::new();
    let mut piece = vec![0; PIECE_BYTES];
    let mut left = agent.bytes;
    loop {
        let count = file
            .read(&mut piece)
            .await
            .map_err(|error| error.to_string())?;
        if count == 0 {
            break;
        }
        left = left
            .checked_sub(count as u64)
            .ok_or("it became longer than what was sent")?;
        hasher.update(piece.get(..count).unwrap_or_default());
    }
    if hasher.finalize().to_hex().as_str() == agent.hash {
        Ok(())
    } else {
        Err("what was read back is not what was sent".to_owned())
    }
}

/// Says that there is no room, when that is what is wrong.
async fn full(sftp: &SftpSession, path: &str, agent: &AgentFile) -> Option<String> {
    let room = sftp.fs_info(path).await.ok().flatten()?;
    let free = room.blocks_avail.saturating_mul(room.fragment_size);
    let needed = agent.bytes + ROOM_BYTES;
    if room.inodes > 0 && room.inodes_avail == 0 {
        return Some(format!("no room for the agent: {path} has no free inodes"));
    }
    (free < needed).then(|| {
        format!("no room for the agent: {path} has {free} bytes free, {needed} are needed")
    })
}

/// The same for a directory that could not even be made.
async fn no_room(sftp: &SftpSession, path: &str) -> Option<String> {
    let (parent, _) = path.rsplit_once('/')?;
    let room = sftp.fs_info(parent).await.ok().flatten()?;
    let full = room.blocks_avail == 0 || (room.inodes > 0 && room.inodes_avail == 0);
    full.then(|| format!("no room for the agent: the file system of {parent} is full"))
}

/// Removes what earlier releases and broken copies left; the newest other one stays, for a daemon that goes back.
async fn tidy(sftp: &SftpSession, agents: &str, current: &str) {
    let Ok(list) = sftp.read_dir(agents).await else {
        return;
    };
    let is_agent = |name: &str| name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit());
    let mut others: Vec<(u32, String)> = list
        .filter(|entry| is_agent(&entry.file_name()) && entry.file_name() != current)
        .map(|entry| (entry.metadata().mtime.unwrap_or(0), entry.file_name()))
        .collect();
    others.sort();
    others.pop();
    for (_, name) in others {
        empty(sftp, &format!("{agents}/{name}"), |_| true).await;
        drop(sftp.remove_dir(format!("{agents}/{name}")).await);
    }
    empty(sftp, &format!("{agents}/{current}"), |name| {
        name.starts_with("new.")
    })
    .await;
}

async fn empty(sftp: &SftpSession, directory: &str, which: impl Fn(&str) -> bool) {
    let Ok(list) = sftp.read_dir(directory).await else {
        return;
    };
    for entry in list.filter(|entry| which(&entry.file_name())) {
        drop(
            sftp.remove_file(format!("{directory}/{}", entry.file_name()))
                .await,
        );
    }
}
