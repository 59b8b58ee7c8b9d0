//! Users and homes from the text of `/etc/passwd`.
//!
//! Not the name service: a static program cannot load its modules, and a directory server that hangs must not hang a
//! heal. Users who exist only there are given by number.

use std::io::{self, Read as _};

/// The file is small everywhere; a longer one is not read on.
const BYTES_MAX: u64 = 4 << 20;

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub home: String,
}

/// The text of `/etc/passwd`.
///
/// # Errors
/// When it cannot be read.
pub fn text() -> io::Result<String> {
    let mut bytes = Vec::new();
    std::fs::File::open("/etc/passwd")?
        .take(BYTES_MAX)
        .read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The entry that `fits`, the first of them.
pub fn find(text: &str, fits: impl Fn(&Entry) -> bool) -> Option<Entry> {
    text.lines().filter_map(parse_line).find(fits)
}

fn parse_line(line: &str) -> Option<Entry> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let _password = fields.next()?;
    let uid = fields.next()?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    let _comment = fields.next()?;
    let home = fields.next()?;
    Some(Entry {
        name: name.to_owned(),
        uid,
        gid,
        home: home.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_none_are_passed_over() {
        let text =
            "# a comment\n+::::::\nshop:x:1001:1002:Shop,,,:/srv/shop:/bin/sh\nbad:x:y:z::/\n";
        let shop = find(text, |entry| entry.name == "shop").unwrap();
        assert_eq!(
            (shop.uid, shop.gid, shop.home.as_str()),
            (1001, 1002, "/srv/shop")
        );
        assert_eq!(find(text, |entry| entry.name == "bad"), None);
    }
}
