//! Announced points between two effects, for tests that kill the process at each one.
//!
//! Without the feature `crash-points` this is nothing at all.

/// The variable that names the two pipes.
pub const PIPE: &str = "HEALERD_CRASH_PIPE";

/// Announces that everything before this point is done and nothing after it has begun.
///
/// With the feature and `HEALERD_CRASH_PIPE=OUT,IN` naming two pipes in the file system, `PID NAME` is written as one line
/// to OUT and one byte is awaited from IN; a test either answers or kills the process here. Whoever announces has both
/// pipes to itself until it was answered or is dead, so the answer is surely for it.
#[inline]
pub fn point(name: &str) {
    #[cfg(feature = "crash-points")]
    announce(name);
    #[cfg(not(feature = "crash-points"))]
    let _: &str = name;
}

#[cfg(feature = "crash-points")]
fn announce(name: &str) {
    use std::fs::File;
    use std::io::{Read as _, Write as _};
    use std::sync::{Mutex, OnceLock};

    use rustix::fs::{FlockOperation, flock};

    static OPENED: OnceLock<Option<Mutex<(File, File)>>> = OnceLock::new();
    let pipe = OPENED.get_or_init(|| {
        let text = std::env::var(PIPE).ok()?;
        let (out, back) = text.split_once(',')?;
        // Named pipes: a supervisor inherits no descriptors, yet must be able to announce.
        let out = std::fs::OpenOptions::new().write(true).open(out).ok()?;
        let back = File::open(back).ok()?;
        Some(Mutex::new((out, back)))
    });
    if let Some(pipe) = pipe {
        let mut pipe = pipe.lock().expect("no holder of this lock panics");
        flock(&pipe.1, FlockOperation::LockExclusive).expect("a pipe can be locked");
        // In one piece.
        let line = format!("{} {name}\n", std::process::id());
        pipe.0.write_all(line.as_bytes()).expect("the test reads");
        let mut byte = [0];
        pipe.1.read_exact(&mut byte).expect("the test answers");
        flock(&pipe.1, FlockOperation::Unlock).expect("a pipe can be unlocked");
    }
}
