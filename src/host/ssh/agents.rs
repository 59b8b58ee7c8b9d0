//! The static agents that can be pushed: one file per architecture, named by its content.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

/// No agent is bigger; a file that is must be something else.
const AGENT_BYTES_MAX: u64 = 64 << 20;

/// Read at a time. A whole agent in memory for each login would leave the heap in pieces for as long as the daemon runs.
const PIECE_BYTES: u64 = 128 << 10;

/// Directories that hold `healer-agent-ARCHITECTURE` files; the first that has one counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentFiles {
    pub directories: Vec<PathBuf>,
}

impl Default for AgentFiles {
    /// Where the package puts them.
    fn default() -> Self {
        Self {
            directories: vec![PathBuf::from("/usr/lib/healerd/agents")],
        }
    }
}

/// One agent, as it was found. An upgrade puts another file in its place and leaves this one as it is.
#[derive(Debug)]
pub(super) struct AgentFile {
    file: Arc<File>,
    pub(super) bytes: u64,
    /// BLAKE3 of its content, in hexadecimal.
    pub(super) hash: String,
}

impl AgentFile {
    /// Reads it once, for its hash. `None`: it is no program.
    fn read(file: File) -> io::Result<Option<Self>> {
        let bytes = file.metadata()?.len().min(AGENT_BYTES_MAX);
        let mut hasher = blake3::Hasher::new();
        let mut offset = 0;
        while offset < bytes {
            let piece = piece(&file, offset, bytes)?;
            if offset == 0 && !piece.starts_with(b"\x7fELF") {
                return Ok(None);
            }
            hasher.update(&piece);
            offset += piece.len() as u64;
        }
        let hash = hasher.finalize().to_hex().to_string();
        let file = Arc::new(file);
        Ok((bytes > 0).then_some(Self { file, bytes, hash }))
    }

    /// What follows `offset`, a piece of it; empty at its end.
    pub(super) async fn piece(&self, offset: u64) -> io::Result<Vec<u8>> {
        let (file, bytes) = (Arc::clone(&self.file), self.bytes);
        tokio::task::spawn_blocking(move || piece(&file, offset, bytes))
            .await
            .map_err(io::Error::other)?
    }
}

fn piece(file: &File, offset: u64, bytes: u64) -> io::Result<Vec<u8>> {
    let length = bytes.saturating_sub(offset).min(PIECE_BYTES);
    let mut piece = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    file.read_exact_at(&mut piece, offset)?;
    Ok(piece)
}

impl AgentFiles {
    /// The agent for a machine, as `uname` names it.
    ///
    /// # Errors
    /// In a sentence, when there is none.
    pub(super) fn find(&self, kernel: &str, machine: &str) -> Result<AgentFile, String> {
        if kernel != "Linux" {
            return Err(format!("it runs {kernel}, and agents are for Linux alone"));
        }
        let architecture = match machine {
            "x86_64" | "amd64" => "x86_64",
            "aarch64" | "arm64" => "aarch64",
            other => other,
        };
        let name = format!("healer-agent-{architecture}");
        for directory in &self.directories {
            let path = directory.join(&name);
            let unreadable = |error| format!("{} cannot be read: {error}", path.display());
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(unreadable(error)),
            };
            let agent = AgentFile::read(file).map_err(unreadable)?;
            return agent.ok_or_else(|| format!("{} is no program", path.display()));
        }
        let places: Vec<String> = self
            .directories
            .iter()
            .map(|directory| directory.display().to_string())
            .collect();
        Err(format!(
            "there is no agent for its architecture {machine}: put {name} into {}, or install one there as a forced command",
            places.join(" or ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "a test makes its own files")]
    async fn an_agent_longer_than_a_piece_is_read_whole() {
        let directory = tempfile::tempdir().unwrap();
        let content: Vec<u8> = [&b"\x7fELF"[..], &vec![7; 300 << 10]].concat();
        std::fs::write(directory.path().join("healer-agent-x86_64"), &content).unwrap();
        let files = AgentFiles {
            directories: vec![directory.path().to_owned()],
        };
        let found = files.find("Linux", "x86_64").unwrap();
        assert_eq!(found.hash, blake3::hash(&content).to_hex().to_string());
        let mut read = Vec::new();
        loop {
            let piece = found.piece(read.len() as u64).await.unwrap();
            if piece.is_empty() {
                break;
            }
            read.extend(piece);
        }
        assert!(read == content);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test makes its own files")]
    fn an_agent_is_found_by_architecture_or_the_lack_of_it_is_told() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("healer-agent-x86_64"), b"\x7fELFx").unwrap();
        std::fs::write(directory.path().join("healer-agent-mips"), b"#!/bin/sh").unwrap();
        let files = AgentFiles {
            directories: vec!["/nonexistent".into(), directory.path().to_owned()],
        };
        let found = files.find("Linux", "x86_64").unwrap();
        assert_eq!(found.hash, blake3::hash(b"\x7fELFx").to_hex().to_string());
        for (kernel, machine, word) in [
            ("Linux", "riscv64", "riscv64"),
            ("FreeBSD", "amd64", "FreeBSD"),
            ("Linux", "mips", "no program"),
        ] {
            let error = files.find(kernel, machine).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
