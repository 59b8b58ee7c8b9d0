//! How much room there is where a path lies, or would lie.

use std::path::Path;

use crate::protocol::{Answer, Refusal, RefusalCode};
use crate::witness::{refuse, system};

/// Free bytes and inodes for an ordinary user on the file system of `path`, or of what exists above it.
pub(super) fn room(path: &str) -> Result<Answer, Refusal> {
    let path = Path::new(path);
    if !path.is_absolute() {
        return Err(refuse(
            RefusalCode::Malformed,
            "a path with room must be absolute".to_owned(),
        ));
    }
    for candidate in path.ancestors() {
        match rustix::fs::statvfs(candidate) {
            Ok(room) => {
                return Ok(Answer::Room {
                    free_bytes: room.f_bavail.saturating_mul(room.f_frsize),
                    // Some file systems make inodes as they go and say 0 of 0.
                    free_inodes: if room.f_files == 0 {
                        u64::MAX
                    } else {
                        room.f_favail
                    },
                });
            }
            Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(system("ask for the room", &error.into())),
        }
    }
    Err(refuse(RefusalCode::Absent, "no such path".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_told_for_a_path_that_does_not_exist_yet() {
        assert!(matches!(
            room("/tmp/not/there/yet"),
            Ok(Answer::Room {
                free_bytes: 1..,
                free_inodes: 1..
            })
        ));
        assert!(room("tmp").is_err());
    }
}
