//! The `php_log` probe: which part of an application do PHP's fatal errors in a log's tail name?
//!
//! A log says what went wrong once, and part of a line may be what a visitor typed. Its names are a hint for where to
//! look, never a proof.

use std::os::fd::OwnedFd;

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use super::Context;
use super::deadline::wall_now_ms;
use super::file::mtime_ms;
use super::found::Found;
use super::log::tail_of;
use super::place::{is_absent, reason, stat};
use super::spec::Fact;
use crate::tree::TreePath;
use crate::units::parse_bytes;

const TAIL_BYTES_MAX: u64 = 1 << 20;
const NAMES_MAX: usize = 10;
const NAME_BYTES_MAX: usize = 100;

pub(super) fn probe(context: &Context, path: &str, tail: &str, below: &str) -> Found {
    let unknown = |why: &str| Found::unknown("php_log", why);
    let (path, tail) = match (TreePath::parse(path), parse_bytes(tail)) {
        (Ok(path), Ok(tail)) => (path, tail.min(TAIL_BYTES_MAX)),
        (Err(error), _) => return unknown(&error.to_string()),
        (_, Err(error)) => return unknown(&error.to_string()),
    };
    let handle = match context.place.open_at(&path, OFlags::PATH) {
        Ok(handle) => handle,
        Err(errno) if is_absent(errno) => {
            return Found::absent("php_log")
                .with("exists", false)
                .with("suspects", Vec::<String>::new());
        }
        Err(errno) => return unknown(&reason(errno)),
    };
    let stat = match stat(&handle) {
        Ok(stat) if FileType::from_raw_mode(stat.stx_mode.into()) == FileType::RegularFile => stat,
        Ok(_) => return unknown("no regular file").with("exists", true),
        Err(errno) => return unknown(&reason(errno)).with("exists", true),
    };
    let age = wall_now_ms().saturating_sub(mtime_ms(&stat)).max(0);
    let text = context
        .place
        .open_at(&path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
        .and_then(|file: OwnedFd| {
            tail_of(std::fs::File::from(file), stat.stx_size, tail).map_err(|error| {
                error
                    .raw_os_error()
                    .map_or(Errno::IO, Errno::from_raw_os_error)
            })
        });
    let found = match text {
        // A hint that nobody may read is no hint.
        Err(Errno::ACCESS | Errno::PERM) => Found::absent("php_log")
            .with("readable", false)
            .with("suspects", Vec::<String>::new()),
        Err(errno) => unknown(&reason(errno)),
        Ok(text) => {
            let names = names(&String::from_utf8_lossy(&text), below);
            Found::absent("php_log")
                .with(
                    "suspect",
                    names.first().cloned().map_or(Fact::Absent, Fact::Text),
                )
                .with("suspects", names)
        }
    };
    found.with("exists", true).with("age", age)
}

/// Names directly below a folder in the lines of fatal errors, the latest first, each once. Of a line with several the
/// last is where it happened.
fn names(text: &str, below: &str) -> Vec<String> {
    let mark = format!("/{}/", below.trim_matches('/'));
    let mut found: Vec<String> = Vec::new();
    for line in text.lines().rev() {
        if !["PHP Fatal error", "PHP Parse error", "PHP Compile error"]
            .iter()
            .any(|kind| line.contains(kind))
        {
            continue;
        }
        for (at, _) in line.rmatch_indices(&mark) {
            let rest = &line[at + mark.len()..];
            let end = rest
                .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')))
                .unwrap_or(rest.len());
            let (name, then) = rest.split_at(end);
            // A file of its own is known by its name without the ending.
            let name = if then.starts_with('/') {
                name
            } else {
                name.strip_suffix(".php").unwrap_or_default()
            };
            let fits = !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.starts_with('.');
            if fits && !found.iter().any(|seen| seen == name) {
                found.push(name.to_owned());
            }
            if found.len() >= NAMES_MAX {
                return found;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_fatal_error_comes_first_and_warnings_say_nothing() {
        let log = "\
[24-Nov-2026 09:00:00 UTC] PHP Fatal error:  Uncaught Error: x in /srv/wp-content/plugins/old/a.php:3
Stack trace:
#0 /srv/wp-content/plugins/unrelated/b.php(7): f()
  thrown in /srv/wp-content/plugins/old/a.php on line 3
[24-Nov-2026 09:01:00 UTC] PHP Warning:  y in /srv/wp-content/plugins/warns/a.php on line 3
[24-Nov-2026 09:02:00 UTC] PHP Fatal error:  Cannot redeclare f() (previously declared in /srv/wp-content/plugins/one/one.php:7) in /srv/wp-content/plugins/two/two.php on line 7
[24-Nov-2026 09:03:00 UTC] PHP Parse error:  syntax error in /srv/wp-content/plugins/hello.php on line 7
[24-Nov-2026 09:04:00 UTC] PHP Fatal error:  z in /srv/wp-content/themes/t/functions.php on line 7
";
        assert_eq!(
            names(log, "wp-content/plugins"),
            ["hello", "two", "one", "old"]
        );
        assert_eq!(names(log, "wp-content/themes"), ["t"]);
    }

    #[test]
    fn odd_names_are_no_names() {
        for line in [
            "PHP Fatal error: in /p/plugins/../x.php",
            "PHP Fatal error: in /p/plugins/",
            "PHP Fatal error: in /p/plugins/readme.txt",
            "PHP Fatal error: in /p/plugins/é/x.php",
        ] {
            assert_eq!(names(line, "p/plugins"), Vec::<String>::new(), "{line}");
        }
    }
}
