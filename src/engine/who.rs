//! Who an app's user is on a host that is not this machine.
//!
//! The configuration names him; his numbers are learned from the agent that his login starts, once, and kept in the
//! store with an audit row. From then on every host compares them with what an agent says of itself, so that a name
//! which stands for somebody else one day is refused, until a person adopts the host as it is.

use std::sync::Arc;
use std::time::Duration;

use healer_agent::protocol::{Answer, Request, VERSION};
use serde_json::json;

use super::desk::Desk;
use crate::model::app::App;
use crate::model::host::{UNKNOWN_ID, UserIds, UserName};
use crate::model::name::HostName;
use crate::seam::{Call, Changes, Host, HostError, Lane, Login, StoreError, Write};

/// A first login on a host may push an agent before it is answered.
const ANSWER: Duration = Duration::from_mins(2);

/// Key of a user's numbers among the store's settings.
pub(super) fn user_key(host: &HostName, user: UserName) -> String {
    format!("user:{host}:{user}")
}

/// A stored key and its value, when they are about a user whose numbers are known.
pub(super) fn read_user(key: &str, value: &str) -> Option<((HostName, UserName), UserIds)> {
    let (host, user) = key.strip_prefix("user:")?.rsplit_once(':')?;
    let ids = serde_json::from_str(value).ok()?;
    Some(((host.parse().ok()?, UserName::parse(user)?), ids))
}

/// Why the numbers are not known.
#[derive(Debug, thiserror::Error)]
pub(super) enum WhoError {
    #[error(transparent)]
    Host(#[from] HostError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Sees to it that the desk's app bears its user's numbers. Where nobody knows them yet, the host is asked if it `may`
/// be: when there is something to do there.
///
/// # Errors
/// When they cannot be learned: then nothing may be asked or done in that user's name.
pub(super) async fn learn(desk: &mut Desk, may: bool) -> Result<(), WhoError> {
    if desk.app.host == HostName::local() {
        return Ok(());
    }
    let Some(user) = UserName::parse(&desk.app.user) else {
        return Ok(()); // refused when the configuration was read; every host refuses a login without numbers
    };
    let known = desk.shared.user(&desk.app.host, user);
    let learned = match known {
        Some(ids) => Ok(ids),
        None if may => ask(desk, user).await,
        None => Err(WhoError::Host(HostError::Unreachable {
            host: desk.app.host.clone(),
            reason: "nobody has asked yet".to_owned(),
        })),
    };
    // What was known before and is not any more is forgotten on the desk too.
    let (uid, gid) = learned
        .as_ref()
        .map_or((UNKNOWN_ID, UNKNOWN_ID), |ids| (ids.uid, ids.gid));
    if (uid, gid) != (desk.app.target.uid, desk.app.target.gid) {
        let mut app = App::clone(&desk.app);
        (app.target.uid, app.target.gid) = (uid, gid);
        desk.app = Arc::new(app);
    }
    learned.map(|_| ())
}

async fn ask(desk: &Desk, user: UserName) -> Result<UserIds, WhoError> {
    let host = &desk.app.host;
    let there = desk
        .world
        .hosts
        .get(host)
        .ok_or_else(|| HostError::Unreachable {
            host: host.clone(),
            reason: "it is not configured".to_owned(),
        })?;
    let ids = identify(there.as_ref(), &desk.world.owner, user).await?;
    let detail = json!({"user": user.as_str(), "uid": ids.uid, "gid": ids.gid});
    let value = json!({"uid": ids.uid, "gid": ids.gid}).to_string();
    let changes = Changes::new(desk.now(), "healerd")
        .write(Write::Setting {
            key: user_key(host, user),
            value,
        })
        .audit("user_learned", &format!("host:{host}"), detail);
    desk.world.store.apply(changes).await?;
    desk.shared.remember_user(host, user, ids);
    tracing::info!(%host, app = %desk.app.name, user = user.as_str(), uid = ids.uid, "user learned");
    Ok(ids)
}

/// Asks a host for the numbers of a user. Root and nobody in particular are refused.
pub(super) async fn identify(
    there: &dyn Host,
    owner: &str,
    user: UserName,
) -> Result<UserIds, HostError> {
    let host = there.name();
    let unreachable = |reason: String| HostError::Unreachable {
        host: host.clone(),
        reason,
    };
    let call = Call {
        login: Login::unknown(Some(user)),
        lane: Lane::Check,
        request: Request::Hello {
            version: VERSION,
            owner: owner.to_owned(),
        },
        body: Vec::new(),
        timeout: ANSWER,
    };
    let Answer::Hello(hello) = there.call(call).await?.answer else {
        return Err(HostError::Protocol { host: host.clone() });
    };
    if hello.uid == 0 || hello.gid == 0 {
        return Err(unreachable(format!(
            "`{user}` is root there (uid {}, gid {}), as whom no step of an application ever runs",
            hello.uid, hello.gid
        )));
    }
    if hello.uid == UNKNOWN_ID || hello.gid == UNKNOWN_ID {
        return Err(unreachable(format!(
            "its agent does not say who `{user}` is"
        )));
    }
    Ok(UserIds {
        uid: hello.uid,
        gid: hello.gid,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_users_are_read_back_and_forgotten_ones_are_not() {
        let host: HostName = "web1.a".parse().unwrap();
        let user = UserName::parse("shop").unwrap();
        let key = user_key(&host, user);
        assert_eq!(
            read_user(&key, r#"{"uid":1001,"gid":1002}"#),
            Some((
                (host, user),
                UserIds {
                    uid: 1001,
                    gid: 1002
                }
            ))
        );
        assert_eq!(read_user(&key, ""), None);
        assert_eq!(read_user("machine:web1", "x"), None);
    }
}
