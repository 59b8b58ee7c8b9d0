//! Who is at the other end of a connection, by what the kernel says.
//!
//! The kernel records uid and process at `connect`; names and groups come from `/etc/passwd` and `/etc/group`. Groups of the
//! process itself are not asked for: the way through its number would trust whoever has that number later. Only the login
//! uid is read that way; it is a note beside root's name and decides nothing.

use std::io::Read as _;
use std::path::Path;

use tokio::net::unix::UCred;

use super::Access;
use crate::config::{Role, Users};
use crate::model::approval::Person;

/// The kernel's word for "no login".
const NO_LOGIN: u32 = u32::MAX;

/// One connection's other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) person: Person,
    pub(super) gids: Vec<u32>,
}

impl Peer {
    /// Asks the user database about what the kernel said.
    pub(super) async fn of(credentials: UCred) -> std::io::Result<Self> {
        let (uid, gid, pid) = (credentials.uid(), credentials.gid(), credentials.pid());
        tokio::task::spawn_blocking(move || {
            // Without the files a caller still has a number, and root is still root.
            let users =
                Users::read(Path::new("/etc/passwd"), Path::new("/etc/group")).unwrap_or_default();
            let login = if uid == 0 {
                pid.and_then(login_of)
            } else {
                None
            };
            Self::new(uid, gid, login, &users)
        })
        .await
        .map_err(std::io::Error::other)
    }

    /// From what is known of it.
    pub(super) fn new(uid: u32, gid: u32, login: Option<u32>, users: &Users) -> Self {
        let own = users.name_of(uid);
        let mut gids = own.map(|name| users.groups_of(name)).unwrap_or_default();
        if !gids.contains(&gid) {
            gids.push(gid);
        }
        let name = |uid: u32| {
            users
                .name_of(uid)
                .map_or_else(|| format!("uid{uid}"), str::to_owned)
        };
        let shown = match login {
            Some(login) if login != NO_LOGIN && login != uid => {
                format!("{}/{}", name(uid), name(login))
            }
            Some(_) | None => name(uid),
        };
        Self {
            person: Person { uid, name: shown },
            gids,
        }
    }

    /// The role it has now.
    pub(super) fn role(&self, access: &Access) -> Option<Role> {
        access.roles.of(self.person.uid, &self.gids)
    }
}

fn login_of(pid: i32) -> Option<u32> {
    let mut text = String::new();
    std::fs::File::open(format!("/proc/{pid}/loginuid"))
        .ok()?
        .take(16)
        .read_to_string(&mut text)
        .ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Roles;

    fn users() -> Users {
        Users::parse(
            "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/:/bin/sh\n",
            "root:x:0:\nann:x:1000:\nwww:x:33:ann\n",
        )
    }

    #[test]
    fn the_login_behind_root_is_named_and_the_number_stays_the_kernels() {
        for (case, uid, login, want) in [
            ("root by sudo", 0, Some(1000), "root/ann(0)"),
            ("root by an unknown login", 0, Some(77), "root/uid77(0)"),
            ("root from a service", 0, Some(NO_LOGIN), "root(0)"),
            ("root logged in as root", 0, Some(0), "root(0)"),
            ("nothing known of the login", 0, None, "root(0)"),
            ("a user", 1000, None, "ann(1000)"),
            ("a user without a name", 4711, None, "uid4711(4711)"),
        ] {
            let peer = Peer::new(uid, uid, login, &users());
            assert_eq!(peer.person.to_text(), want, "{case}");
        }
    }

    #[test]
    fn roles_come_from_the_user_and_from_every_group() {
        let roles = Roles {
            users: [(1000, Role::Viewer)].into(),
            groups: [(33, Role::Approver), (50, Role::Admin)].into(),
        };
        let access = Access {
            roles,
            ..Access::default()
        };
        let role = |uid, gid| Peer::new(uid, gid, None, &users()).role(&access);
        assert_eq!(
            role(1000, 1000),
            Some(Role::Approver),
            "by a supplementary group"
        );
        assert_eq!(
            role(1000, 50),
            Some(Role::Admin),
            "by the group it connected with"
        );
        assert_eq!(role(4711, 4711), None);
        assert_eq!(role(0, 0), Some(Role::Admin));
    }
}
