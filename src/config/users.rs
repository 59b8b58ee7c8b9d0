//! Names of users and groups to numbers, from the text of `/etc/passwd` and `/etc/group`.
//!
//! Only these two files are read: users that exist in LDAP or another directory alone are not found; they need
//! a line in `/etc/passwd`. Asking the C library would load its modules into a root daemon.

use std::collections::BTreeMap;
use std::path::Path;

/// Larger files are refused, so that a broken one cannot fill the memory.
const BYTES_MAX: u64 = 16 << 20;

/// One user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
}

/// Users and groups of this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Users {
    users: BTreeMap<String, User>,
    groups: BTreeMap<String, (u32, Vec<String>)>,
}

impl Users {
    /// Reads both texts; lines that are not understood are passed over, as the C library does. The first line with a
    /// name wins.
    pub fn parse(passwd: &str, group: &str) -> Self {
        let mut found = Self::default();
        for line in passwd.lines() {
            let mut fields = line.split(':');
            let (Some(name), Some(_), Some(uid), Some(gid)) =
                (fields.next(), fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse()) else {
                continue;
            };
            found.users.entry(name.to_owned()).or_insert_with(|| User {
                name: name.to_owned(),
                uid,
                gid,
            });
        }
        for line in group.lines() {
            let mut fields = line.split(':');
            let (Some(name), Some(_), Some(gid)) = (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let Ok(gid) = gid.parse() else { continue };
            let members = fields.next().unwrap_or_default();
            let members = members
                .split(',')
                .map(|member| member.trim().to_owned())
                .filter(|member| !member.is_empty())
                .collect();
            found
                .groups
                .entry(name.to_owned())
                .or_insert((gid, members));
        }
        found
    }

    /// Reads both files.
    ///
    /// # Errors
    /// When one of them cannot be read or is larger than 16 MiB.
    pub fn read(passwd: &Path, group: &Path) -> std::io::Result<Self> {
        Ok(Self::parse(&read_text(passwd)?, &read_text(group)?))
    }

    /// The user of this name.
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.get(name)
    }

    /// The name of a user, for messages; the first in order of name where several share the number.
    pub fn name_of(&self, uid: u32) -> Option<&str> {
        self.users
            .values()
            .find(|user| user.uid == uid)
            .map(|user| user.name.as_str())
    }

    /// The number of a group.
    pub fn group(&self, name: &str) -> Option<u32> {
        self.groups.get(name).map(|(gid, _)| *gid)
    }

    /// All groups of a user, the primary one first, the others in order.
    pub fn groups_of(&self, name: &str) -> Vec<u32> {
        let Some(user) = self.users.get(name) else {
            return Vec::new();
        };
        let mut more: Vec<u32> = self
            .groups
            .values()
            .filter(|(gid, members)| {
                *gid != user.gid && members.iter().any(|member| member == name)
            })
            .map(|(gid, _)| *gid)
            .collect();
        more.sort_unstable();
        more.dedup();
        more.insert(0, user.gid);
        more
    }

    /// Users whose groups include this one.
    pub fn members_of(&self, gid: u32) -> Vec<u32> {
        self.users
            .values()
            .filter(|user| self.groups_of(&user.name).contains(&gid))
            .map(|user| user.uid)
            .collect()
    }

    /// A name close to one that is not there.
    pub(super) fn like(&self, name: &str) -> Option<&str> {
        super::layers::closest(name, self.users.keys().map(String::as_str))
    }
}

fn read_text(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = Vec::new();
    std::fs::File::open(path)?
        .take(BYTES_MAX + 1)
        .read_to_end(&mut text)?;
    if text.len() as u64 > BYTES_MAX {
        return Err(std::io::Error::other("larger than 16 MiB"));
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_are_found_by_name() {
        let users = Users::parse(
            "root:x:0:0::/root:/bin/sh\nbroken\nshop:x:1001:1001::/srv/shop:/bin/false\nshop:x:0:0::/:\nx:y:z:1::\n",
            "root:x:0:\nshop:x:1001:\nweb:x:33:shop,other\nadm:x:4:other\nempty:x:5\n",
        );
        assert_eq!(
            users.user("shop").map(|user| (user.uid, user.gid)),
            Some((1001, 1001)),
            "the first line wins"
        );
        assert_eq!(users.user("other"), None);
        assert_eq!(users.groups_of("shop"), [1001, 33]);
        assert_eq!(users.group("web"), Some(33));
        assert_eq!(users.group("empty"), Some(5));
        assert_eq!(users.members_of(33), [1001]);
        assert_eq!(users.name_of(1001), Some("shop"));
        assert_eq!(users.like("shopp"), Some("shop"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(passwd in "[a-z:0-9,\n]{0,80}", group in "[a-z:0-9,\n]{0,80}") {
            let users = Users::parse(&passwd, &group);
            let _groups = users.groups_of("a");
        }
    }
}
