//! Which role may do what: every route of the document stands in the table, and the table is DESIGN's.

use std::collections::BTreeSet;

use super::double::Double;
use super::{ADMIN, APPROVER, NOBODY, OPERATOR, VIEWER, ask, path};
use crate::control::wire::BASE;

const REASON: &str = r#"{"reason":"because of this"}"#;
const ID: &str = "00000000000000000000000001";
const DIGEST: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The least user, verb, route, and a body that it takes.
fn table() -> Vec<(u32, &'static str, &'static str, String)> {
    let none = String::new;
    let reason = || REASON.to_owned();
    let mode = || r#"{"healingMode":"MANUAL","reason":"because"}"#.to_owned();
    let digest = || format!(r#"{{"digest":"{DIGEST}","reason":"because"}}"#);
    let keep = |more: &str| format!(r#"{{{more}"keep":true,"reason":"because"}}"#);
    vec![
        (VIEWER, "GET", "/status", none()),
        (VIEWER, "GET", "/applications", none()),
        (VIEWER, "GET", "/applications/{app}", none()),
        (VIEWER, "GET", "/applications/{app}/checks", none()),
        (VIEWER, "GET", "/applications/{app}/actions", none()),
        (VIEWER, "GET", "/applications/{app}/diagnostics", none()),
        (VIEWER, "GET", "/applications/{app}/plan", none()),
        (VIEWER, "GET", "/applications/{app}/circuit-breaker", none()),
        (
            VIEWER,
            "GET",
            "/applications/{app}/circuit-breaker/history",
            none(),
        ),
        (VIEWER, "GET", "/applications/{app}/backups", none()),
        (VIEWER, "GET", "/approvals", none()),
        (VIEWER, "GET", "/approvals/{id}", none()),
        (VIEWER, "GET", "/heals", none()),
        (VIEWER, "GET", "/heals/{id}", none()),
        (VIEWER, "GET", "/incidents", none()),
        (VIEWER, "GET", "/audit", none()),
        (VIEWER, "GET", "/events", none()),
        (VIEWER, "GET", "/metrics", none()),
        (OPERATOR, "POST", "/applications/{app}/diagnose", none()),
        (
            OPERATOR,
            "POST",
            "/applications/{app}/heal",
            r#"{"actionName":"restart_app"}"#.to_owned(),
        ),
        (
            OPERATOR,
            "POST",
            "/hold",
            r#"{"scope":"all","reason":"because"}"#.to_owned(),
        ),
        (
            OPERATOR,
            "POST",
            "/applications/{app}/checks/{check}/mute",
            r#"{"until":"1h","reason":"because"}"#.to_owned(),
        ),
        (
            OPERATOR,
            "DELETE",
            "/applications/{app}/checks/{check}/mute",
            none(),
        ),
        (OPERATOR, "POST", "/applications/{app}/backups", none()),
        (
            OPERATOR,
            "POST",
            "/applications/{app}/backups/{id}/verify",
            none(),
        ),
        (
            OPERATOR,
            "GET",
            "/applications/{app}/backups/{id}/preview",
            none(),
        ),
        (
            APPROVER,
            "POST",
            "/applications/{app}/backups/{id}/rollback",
            digest(),
        ),
        (APPROVER, "POST", "/approvals/{id}/approve", digest()),
        (APPROVER, "POST", "/approvals/{id}/reject", reason()),
        (APPROVER, "POST", "/heals/{id}/decide", keep("")),
        (APPROVER, "POST", "/incidents/{id}/close", reason()),
        (
            ADMIN,
            "POST",
            "/applications/{app}/circuit-breaker/reset",
            reason(),
        ),
        (
            ADMIN,
            "POST",
            "/applications/{app}/circuit-breaker/force",
            r#"{"state":"OPEN","reason":"because"}"#.to_owned(),
        ),
        (ADMIN, "POST", "/mode", mode()),
        (ADMIN, "POST", "/applications/{app}/mode", mode()),
        (ADMIN, "DELETE", "/mode", reason()),
        (ADMIN, "DELETE", "/applications/{app}/mode", reason()),
        (ADMIN, "POST", "/resume", keep(r#""scope":"all","#)),
        (
            ADMIN,
            "DELETE",
            "/applications/{app}/backups/{id}",
            reason(),
        ),
        (VIEWER, "GET", "/hosts", none()),
        (OPERATOR, "POST", "/hosts/{host}/doctor", none()),
        (ADMIN, "GET", "/hosts/{host}/key", none()),
        (ADMIN, "DELETE", "/hosts/{host}/key", reason()),
        (
            ADMIN,
            "POST",
            "/hosts/{host}/enrol",
            r#"{"fingerprint":"SHA256:new"}"#.to_owned(),
        ),
        (ADMIN, "POST", "/hosts/{host}/adopt", reason()),
        (ADMIN, "POST", "/notify/test", none()),
    ]
}

#[test]
fn every_route_stands_in_the_table_of_roles() {
    let document = serde_json::to_value(crate::control::document()).unwrap();
    let mut found = BTreeSet::new();
    for (route, item) in document["paths"].as_object().unwrap() {
        let route = route.strip_prefix(BASE).unwrap_or(route);
        let verbs = ["get", "post", "delete", "put", "patch"]
            .into_iter()
            .filter(|verb| item.get(verb).is_some());
        found.extend(verbs.map(|verb| format!("{} {route}", verb.to_uppercase())));
    }
    let named: BTreeSet<_> = table()
        .into_iter()
        .map(|(_, verb, route, _)| format!("{verb} {route}"))
        .collect();
    assert_eq!(found, named);
    let ids: Vec<_> = document["paths"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|item| item.as_object().unwrap().values())
        .map(|operation| operation["operationId"].as_str().unwrap())
        .collect();
    assert_eq!(
        ids.iter().collect::<BTreeSet<_>>().len(),
        ids.len(),
        "names of operations are unique: {ids:?}"
    );
}

#[tokio::test]
async fn a_lower_role_is_refused_and_the_engine_hears_nothing() {
    for (least, verb, route, body) in table() {
        let real = path(
            &route
                .replace("{app}", "shop")
                .replace("{check}", "env_file")
                .replace("{host}", "local"),
        )
        .replace("{id}", ID);
        for uid in [NOBODY, VIEWER, OPERATOR, APPROVER, ADMIN, 0] {
            let double = Double::new();
            let got = ask(&double, uid, verb, &real, &body).await;
            let may = uid == 0 || (uid >= least && uid != NOBODY);
            assert_eq!(
                got.status == 403,
                !may,
                "{verb} {route} as {uid}: {} {}",
                got.status,
                got.text
            );
            if may {
                assert_ne!(got.status, 422, "{verb} {route}: {}", got.text);
            } else {
                assert_eq!(got.json()["code"], "role");
                assert_eq!(
                    double.asked(),
                    Vec::<String>::new(),
                    "{verb} {route} as {uid}"
                );
            }
        }
    }
}
