use std::fs;

use serde_json::json;

use super::*;

/// Runs on a results file with this text.
fn run(change: impl FnOnce(&mut EvalArgs), results: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results.json");
    fs::write(&path, results).unwrap();
    let mut args = EvalArgs {
        stack: "laravel".to_owned(),
        mode: "FULL_AUTO".to_owned(),
        results: path,
        json: true,
        ..EvalArgs::default()
    };
    change(&mut args);
    eval(&args)
}

fn json_of(output: &Output) -> Value {
    serde_json::from_str(&output.stdout).unwrap()
}

const RESULTS: &str = r#"[
  {"checkName": "laravel_storage_permissions", "status": "FAIL", "severity": "HIGH", "category": "SECURITY", "executionTime": 12.5},
  {"checkName": "laravel_app_key", "status": "FAIL"},
  {"checkName": "disk_space", "status": "WARN", "message": "81 %", "extra": {"a": [1]}},
  {"checkName": "fine", "status": "PASS"},
  {"checkName": "dark", "status": "ERROR", "suggestedFix": null}
]"#;

#[test]
fn the_plan_has_the_promised_shape() {
    let output = run(|_| {}, RESULTS);
    assert_eq!((output.code, output.stderr.as_str()), (0, ""));
    let plan = json_of(&output);
    let item = &plan["autoHeal"][1];
    assert_eq!(item["actionName"], "fix_storage_permissions");
    assert_eq!(
        item["params"],
        json!({"paths": null}),
        "what the results do not give is unknown"
    );
    assert_eq!(item["riskLevel"], "MEDIUM");
    assert_eq!(item["match"], "declared");
    assert_eq!(item["checks"], json!(["laravel_storage_permissions"]));
    assert_eq!(plan["autoHeal"][0]["actionName"], "restore_env");
    let cannot = &plan["cannotHeal"][0];
    assert_eq!(cannot["extra"], json!({"a": [1]}), "the result as it came");
    assert!(cannot["reason"].as_str().unwrap().contains("no action"));
    assert_eq!(plan["cannotHeal"].as_array().unwrap().len(), 1);
    assert_eq!(
        plan["summary"],
        "Auto-heal (2): restore_env, fix_storage_permissions | Require approval (0): none | Cannot heal (1): disk_space"
    );
}

#[test]
fn the_order_of_results_changes_no_byte() {
    let mut rows: Vec<Value> = serde_json::from_str(RESULTS).unwrap();
    let first = run(|_| {}, RESULTS);
    for _ in 0..rows.len() {
        rows.rotate_left(1);
        assert_eq!(run(|_| {}, &Value::from(rows.clone()).to_string()), first);
    }
}

#[test]
fn errors_name_what_is_wrong_on_both_streams() {
    for (case, stack, mode, results, exit, code, words) in [
        (
            "mode",
            "laravel",
            "AUTO",
            "[]",
            2,
            "unknown_mode",
            "`AUTO` is not a healing mode",
        ),
        (
            "stack",
            "larvel",
            "MANUAL",
            "[]",
            2,
            "unknown_stack",
            "there is no stack `larvel`",
        ),
        (
            "base stack",
            "web",
            "MANUAL",
            "[]",
            2,
            "unknown_stack",
            "there is no stack `web`",
        ),
        (
            "json",
            "php",
            "MANUAL",
            "[",
            1,
            "malformed_results",
            "is not JSON",
        ),
        (
            "no array",
            "php",
            "MANUAL",
            "{}",
            1,
            "malformed_results",
            "is not a JSON array",
        ),
        (
            "no object",
            "php",
            "MANUAL",
            "[1]",
            1,
            "malformed_result",
            "result 1 in",
        ),
        (
            "no name",
            "php",
            "MANUAL",
            r#"[{"status":"FAIL"}]"#,
            1,
            "malformed_result",
            "`checkName` is missing",
        ),
        (
            "name of a number",
            "php",
            "MANUAL",
            r#"[{"checkName":1,"status":"FAIL"}]"#,
            1,
            "malformed_result",
            "`checkName` is not a text",
        ),
        (
            "bad name",
            "php",
            "MANUAL",
            r#"[{"checkName":"a b","status":"FAIL"}]"#,
            1,
            "malformed_result",
            "cannot be a check's name",
        ),
        (
            "no status",
            "php",
            "MANUAL",
            r#"[{"checkName":"a"}]"#,
            1,
            "malformed_result",
            "(`a`)",
        ),
        (
            "status",
            "php",
            "MANUAL",
            r#"[{"checkName":"a","status":"PASS"},{"checkName":"b","status":"BAD"}]"#,
            1,
            "malformed_result",
            "result 2 (`b`)",
        ),
        (
            "status word",
            "php",
            "MANUAL",
            r#"[{"checkName":"b","status":"BAD"}]"#,
            1,
            "malformed_result",
            "`BAD` is not a status",
        ),
        (
            "severity",
            "php",
            "MANUAL",
            r#"[{"checkName":"b","status":"FAIL","severity":"bad"}]"#,
            1,
            "malformed_result",
            "`bad` is not a severity",
        ),
        (
            "time",
            "php",
            "MANUAL",
            r#"[{"checkName":"b","status":"FAIL","executionTime":"1"}]"#,
            1,
            "malformed_result",
            "executionTime",
        ),
    ] {
        let output = run(
            |args| (args.stack, args.mode) = (stack.to_owned(), mode.to_owned()),
            results,
        );
        assert_eq!(output.code, exit, "{case}");
        assert!(
            output.stderr.starts_with("error: ") && output.stderr.contains(words),
            "{case}: {}",
            output.stderr
        );
        assert_eq!(json_of(&output)["error"]["code"], code, "{case}");
        assert!(
            json_of(&output)["error"]["message"]
                .as_str()
                .unwrap()
                .contains(words),
            "{case}"
        );
    }
    let output = run(|args| args.results = "/nonexistent/r.json".into(), "[]");
    assert_eq!(
        (output.code, json_of(&output)["error"]["code"].as_str()),
        (1, Some("unreadable"))
    );
    let plain = run(
        |args| (args.json, args.mode) = (false, "X".to_owned()),
        "[]",
    );
    assert_eq!((plain.code, plain.stdout.as_str()), (2, ""));
    assert!(
        plain
            .stderr
            .contains("hint: use one of MANUAL, SEMI_AUTO, FULL_AUTO")
    );
}

#[test]
fn people_get_a_table_that_ends_with_the_summary() {
    let output = run(|args| args.json = false, RESULTS);
    let lines: Vec<_> = output.stdout.lines().collect();
    assert!(lines[0].contains("ACTION") && lines[0].contains("REASON"));
    assert!(lines[1].contains("restore_env"), "{lines:?}");
    assert!(lines.last().unwrap().starts_with("Auto-heal (2): "));
    assert_eq!(
        run(|args| args.json = false, "[]").stdout,
        "Auto-heal (0): none | Require approval (0): none | Cannot heal (0): none\n"
    );
}

#[test]
fn further_stacks_come_from_a_folder_and_their_mistakes_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let add = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    add(
        "mine.toml",
        "extends = \"laravel\"\n[action.fix_storage_permissions]\nrisk = \"HIGH\"\n",
    );
    add("README", "not a stack");
    let with = |args: &mut EvalArgs| {
        args.stacks_dir = Some(folder.path().to_owned());
        "mine".clone_into(&mut args.stack);
    };
    assert_eq!(
        json_of(&run(with, RESULTS))["requireApproval"][0]["riskLevel"],
        "HIGH"
    );
    add("bad.toml", "titel = \"x\"\ncheck = 1\n");
    let output = run(with, RESULTS);
    assert_eq!(output.code, 1);
    assert!(
        output.stderr.contains("bad.toml:1: `titel`: unknown key"),
        "{}",
        output.stderr
    );
    assert!(
        output.stderr.contains("bad.toml:2: `check`"),
        "{}",
        output.stderr
    );
    let output = run(
        |args| args.stacks_dir = Some("/nonexistent".into()),
        RESULTS,
    );
    assert_eq!(json_of(&output)["error"]["code"], "unreadable");
}

#[test]
fn the_policy_of_a_configuration_counts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("healerd.toml");
    let with = |text: &str| {
        fs::write(&path, text).unwrap();
        let path = path.clone();
        json_of(&run(move |args| args.config = Some(path), RESULTS))
    };
    assert_eq!(
        with("mode = \"MANUAL\"\n[app.shop]\npath = \"/x\"\n")["autoHeal"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(
        with("max_mode = \"SEMI_AUTO\"")["autoHeal"]
            .as_array()
            .unwrap()
            .len(),
        0
    );
    assert_eq!(
        with("[policy]\nalways_ask = [\"restore_env\"]")["requireApproval"][0]["actionName"],
        "restore_env"
    );
    assert_eq!(
        with("[policy]\nraised_risks = { restore_env = \"CRITICAL\" }")["requireApproval"][0]["riskLevel"],
        "CRITICAL"
    );
    assert!(
        with("[policy]\nalways_aks = []")["error"]["message"]
            .as_str()
            .unwrap()
            .contains("did you mean `always_ask`?")
    );
}
