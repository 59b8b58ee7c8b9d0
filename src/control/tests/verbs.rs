//! What the verbs answer.

use serde_json::json;

use super::double::{Double, heal, moment};
use super::{ADMIN, APPROVER, OPERATOR, VIEWER, ask, path};
use crate::engine::handle::EventLine;
use crate::model::approval::Person;
use crate::model::heal::{AbortCause, HealState};
use crate::seam::store::AuditRow;

#[tokio::test]
async fn a_heal_answers_202_with_the_promised_fields_and_no_success_yet() {
    let double = Double::new();
    let got = ask(
        &double,
        OPERATOR,
        "POST",
        &path("/applications/shop/heal"),
        r#"{"actionName":"restart_app"}"#,
    )
    .await;
    assert_eq!(got.status, 202, "{}", got.text);
    let found = got.json();
    for (field, want) in [
        ("applicationId", json!("shop")),
        ("actionName", json!("composer_update")),
        ("subdomain", json!(null)),
        ("success", json!(null)),
        ("message", json!("It began.")),
        ("riskLevel", json!("LOW")),
        ("healingMode", json!("FULL_AUTO")), // at admission; the application is in SEMI_AUTO
        ("backupId", json!(null)),
        ("circuitBreakerState", json!("CLOSED")),
        ("healId", json!("00000000000000000000000007")),
        ("state", json!("Admitted")),
    ] {
        assert_eq!(found.get(field), Some(&want), "{field}");
    }
    assert_eq!(found["details"]["person"], "user1002(1002)");
    assert_eq!(double.asked(), ["heal shop restart_app by user1002(1002)"]);
}

#[tokio::test]
async fn a_subdomain_is_healed_under_its_parent_only() {
    let double = Double::new();
    let body = r#"{"actionName":"restart_app","subdomain":"blog"}"#;
    let got = ask(
        &double,
        OPERATOR,
        "POST",
        &path("/applications/shop/heal"),
        body,
    )
    .await;
    assert_eq!(
        (got.status, got.json()["subdomain"].clone()),
        (202, json!("blog"))
    );
    assert_eq!(got.json()["applicationId"], "shop");
    let other = ask(
        &double,
        OPERATOR,
        "POST",
        &path("/applications/blog/heal"),
        &body.replace("blog", "shop"),
    )
    .await;
    assert_eq!(other.status, 404, "{}", other.text);
}

#[tokio::test]
async fn waiting_ends_with_the_heal() {
    let double = Double::new();
    let person = Person {
        uid: OPERATOR,
        name: "ann".to_owned(),
    };
    let cause = AbortCause::BackupFailed("Permission denied".to_owned());
    let mut ended = heal(
        &"shop".parse().unwrap(),
        HealState::Aborted { cause },
        person,
    );
    ended.message = "Backup failed: Permission denied. Healing aborted for safety.".to_owned();
    let id = ended.id;
    *double.heal.lock().unwrap() = Some(ended);
    let teller = std::sync::Arc::clone(&double);
    let telling = tokio::spawn(async move {
        while teller.events.receiver_count() == 0 {
            tokio::task::yield_now().await;
        }
        let line = EventLine {
            at: moment(),
            kind: "heal",
            app: None,
            text: String::new(),
            heal: Some(id),
        };
        teller.events.send(line).unwrap();
    });
    let route = path("/applications/shop/heal?wait=300");
    let got = ask(
        &double,
        OPERATOR,
        "POST",
        &route,
        r#"{"actionName":"restart_app"}"#,
    )
    .await;
    telling.await.unwrap();
    assert_eq!(got.json()["success"], json!(false));
    assert_eq!(got.json()["state"], "Aborted");
    assert_eq!(
        got.json()["message"],
        "Backup failed: Permission denied. Healing aborted for safety."
    );
}

#[tokio::test]
async fn a_high_heal_answers_409_with_the_approval_to_review() {
    let double = Double::new();
    let body = r#"{"actionName":"composer_update"}"#;
    let got = ask(
        &double,
        OPERATOR,
        "POST",
        &path("/applications/shop/heal"),
        body,
    )
    .await;
    assert_eq!(
        (got.status, got.kind.as_str()),
        (409, "application/problem+json")
    );
    let found = got.json();
    assert_eq!(found["code"], "needs_approval");
    assert_eq!(found["type"], "urn:healerd:problem:needs_approval");
    assert_eq!(
        found["approval"]["approvalId"],
        "00000000000000000000000009"
    );
    assert_eq!(found["approval"]["digest"].as_str().unwrap().len(), 64);
    assert_eq!(found["approval"]["requester"], "user1002(1002)");
}

#[tokio::test]
async fn a_dry_run_says_what_would_run_and_starts_nothing() {
    let double = Double::new();
    let body = r#"{"actionName":"restart_app","dryRun":true}"#;
    let got = ask(
        &double,
        OPERATOR,
        "POST",
        &path("/applications/shop/heal"),
        body,
    )
    .await;
    assert_eq!(
        (got.status, got.json()["denials"].clone()),
        (200, json!(["no"]))
    );
    assert!(double.heal.lock().unwrap().is_none());
}

#[tokio::test]
async fn secrets_and_terminal_sequences_never_leave() {
    let double = Double::new();
    double.audit.lock().unwrap().push(AuditRow {
        seq: 1,
        at_wall_ms: 0,
        actor: "healerd".to_owned(),
        verb: "heal_admitted".to_owned(),
        object: "app:shop".to_owned(),
        detail: json!({"password": "canary4711", "note": "DB_PASSWORD=canary4711", "n": 1}),
        hash: "00".to_owned(),
    });
    for route in [
        "/applications",
        "/applications/shop",
        "/applications/shop/checks",
        "/applications/shop/diagnostics",
        "/applications/shop/plan",
        "/audit",
    ] {
        let got = ask(&double, VIEWER, "GET", &path(route), "").await;
        assert_eq!(got.status, 200, "{route}: {}", got.text);
        assert!(!got.text.contains("canary"), "{route}: {}", got.text);
        assert!(!got.text.contains("\\u001b"), "{route}: {}", got.text);
    }
    let checks = ask(
        &double,
        VIEWER,
        "GET",
        &path("/applications/shop/checks"),
        "",
    )
    .await
    .json();
    assert_eq!(checks[0]["checkName"], "env_file");
    assert_eq!(checks[0]["executionTime"], 12);
    let details = &checks[0]["details"]["env"];
    assert_eq!(details["db_host"], "127.0.0.1");
    assert_eq!(details["db_password"], "[redacted]");
    assert_eq!(details["app_key"], json!({"secretLength": 51}));
    assert_eq!(details["mtime"], json!({"unknown": "not seen"}));
    assert_eq!(details["gone"], json!(null));
}

#[tokio::test]
async fn what_no_action_answers_is_shown_as_it_came() {
    let got = ask(
        &Double::new(),
        VIEWER,
        "GET",
        &path("/applications/shop/plan"),
        "",
    )
    .await
    .json();
    assert_eq!(
        got["summary"],
        "Auto-heal (0): none | Require approval (0): none | Cannot heal (1): env_file"
    );
    assert_eq!(got["cannotHeal"][0]["severity"], "HIGH");
    assert_eq!(got["cannotHeal"][0]["reason"], "no action matches");
}

#[tokio::test]
async fn the_breakers_status_is_the_one_of_the_guard() {
    let got = ask(
        &Double::new(),
        VIEWER,
        "GET",
        &path("/applications/shop/circuit-breaker"),
        "",
    )
    .await
    .json();
    assert_eq!(
        got,
        serde_json::to_value(super::double::app("shop").breaker).unwrap()
    );
}

#[tokio::test]
async fn what_is_asked_reaches_the_engine_as_it_was_meant() {
    let double = Double::new();
    let app = "/applications/shop";
    for (uid, verb, route, body, status) in [
        (
            OPERATOR,
            "POST",
            "/hold".to_owned(),
            r#"{"scope":"app:shop","reason":"deploy","for":"20m"}"#,
            200,
        ),
        (
            ADMIN,
            "POST",
            "/resume".to_owned(),
            r#"{"scope":"all","undo":true,"reason":"done"}"#,
            200,
        ),
        (
            ADMIN,
            "POST",
            "/mode".to_owned(),
            r#"{"healingMode":"FULL_AUTO","reason":"night"}"#,
            200,
        ),
        (
            ADMIN,
            "DELETE",
            format!("{app}/mode"),
            r#"{"reason":"morning"}"#,
            200,
        ),
        (
            ADMIN,
            "POST",
            "/mode".to_owned(),
            r#"{"reason":"a mode is never cleared by leaving it away"}"#,
            422,
        ),
        (
            ADMIN,
            "POST",
            format!("{app}/circuit-breaker/force"),
            r#"{"state":"OBSERVE_ONLY","reason":"why","for":"1h"}"#,
            200,
        ),
        (
            OPERATOR,
            "POST",
            format!("{app}/checks/env_file/mute"),
            r#"{"until":"2h","reason":"known"}"#,
            200,
        ),
        (
            OPERATOR,
            "GET",
            format!("{app}/backups/00000000000000000000000001/preview?exact=true&only=a,b&only=c"),
            "",
            409,
        ),
        (
            APPROVER,
            "POST",
            "/heals/00000000000000000000000001/decide".to_owned(),
            r#"{"undo":true,"reason":"y"}"#,
            409,
        ),
    ] {
        let got = ask(&double, uid, verb, &path(&route), body).await;
        assert_eq!(got.status, status, "{route}: {}", got.text);
    }
    assert_eq!(
        double.asked(),
        [
            "hold app:shop Some(1200s)",
            "resume all undo=true",
            "mode None FULL_AUTO",
            "mode Some(AppName(shop)) cleared",
            "force_breaker Some(ObserveOnly) Some(3600s)",
            "mute env_file 7200s",
            "preview exact=true only=[TreePath(a,b), TreePath(c)]",
            "decide undo",
        ]
    );
}

#[tokio::test]
async fn metrics_and_status_answer() {
    let double = Double::new();
    let metrics = ask(&double, VIEWER, "GET", &path("/metrics"), "").await;
    assert_eq!(
        (metrics.kind.as_str(), metrics.text.as_str()),
        (
            "text/plain; version=0.0.4; charset=utf-8",
            "healerd_build_info 1\n"
        )
    );
    let status = ask(&double, VIEWER, "GET", &path("/status"), "")
        .await
        .json();
    assert_eq!(status["health"]["DOWN"], 2);
    assert_eq!(status["health"]["HEALTHY"], 0);
    assert_eq!(status["auditHead"], json!({"seq": 4, "hash": "ab"}));
    assert_eq!(
        status["caller"],
        json!({"uid": VIEWER, "name": "user1001", "role": "viewer"})
    );
}
