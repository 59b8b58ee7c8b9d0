//! The static agents that can be pushed: one file per architecture, named by its content.

use std::io::Read as _;
use std::path::PathBuf;

/// No agent is bigger; a file that is must be something else.
const AGENT_BYTES_MAX: u64 = 64 << 20;

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

/// One agent, read.
#[derive(Debug)]
pub(super) struct AgentFile {
    pub(super) bytes: Vec<u8>,
    /// BLAKE3 of its content, in hexadecimal.
    pub(super) hash: String,
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
            let file = match std::fs::File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(unreadable(error)),
            };
            let mut bytes = Vec::new();
            file.take(AGENT_BYTES_MAX)
                .read_to_end(&mut bytes)
                .map_err(unreadable)?;
            if !bytes.starts_with(b"\x7fELF") {
                return Err(format!("{} is no program", path.display()));
            }
            let hash = blake3::hash(&bytes).to_hex().to_string();
            return Ok(AgentFile { bytes, hash });
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
