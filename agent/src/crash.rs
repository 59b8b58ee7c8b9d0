//! Announced points between two effects, for tests that kill the process at each one.
//!
//! Without the feature `crash-points` this is nothing at all.

/// Announces that everything before this point is done and nothing after it has begun.
///
/// With the feature and `HEALERD_CRASH_PIPE=OUT,IN` naming two pipes in the file system, `PID NAME` is written as one line
/// to OUT and one byte is awaited from IN; a test either answers or kills the process here.
#[inline]
pub fn point(name: &str) {
    #[cfg(feature = "crash-points")]
    announce(name);
    #[cfg(not(feature = "crash-points"))]
    let _: &str = name;
}

#[cfg(feature = "crash-points")]
fn announce(name: &str) {
    use std::io::{Read as _, Write as _};
    use std::sync::{Mutex, OnceLock};

    static PIPE: OnceLock<Option<Mutex<(std::fs::File, std::fs::File)>>> = OnceLock::new();
    let pipe = PIPE.get_or_init(|| {
        let text = std::env::var("HEALERD_CRASH_PIPE").ok()?;
        let (out, back) = text.split_once(',')?;
        // Named pipes: a supervisor inherits no descriptors, yet must be able to announce.
        let out = std::fs::OpenOptions::new().write(true).open(out).ok()?;
        let back = std::fs::File::open(back).ok()?;
        Some(Mutex::new((out, back)))
    });
    if let Some(pipe) = pipe {
        let mut pipe = pipe.lock().expect("no holder of this lock panics");
        writeln!(pipe.0, "{} {name}", std::process::id()).expect("the test reads");
        let mut byte = [0];
        pipe.1.read_exact(&mut byte).expect("the test answers");
    }
}
