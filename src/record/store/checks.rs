//! Due times and check results.
//!
//! The last result of every check is kept; history grows only when status, rule or message changes. All results of a
//! round travel as one JSON array, which stores several times faster than a statement for each.

use serde::Serialize;

use super::job::Job;
use super::script::json;
use crate::model::check::CheckResult;
use crate::model::name::AppName;
use crate::model::time::Moment;
use crate::seam::StoreError;

pub(super) fn due(job: &mut Job<'_>, app: &AppName, due: &Moment) -> Result<(), StoreError> {
    job.add(
        "due",
        "INSERT INTO due (app, due_ms, body) VALUES (?, ?, ?)
         ON CONFLICT (app) DO UPDATE SET due_ms = excluded.due_ms, body = excluded.body",
        [app.as_str().into(), due.wall_ms.into(), json(due)?.into()],
    );
    Ok(())
}

/// One element of the array; `body` is JSON within JSON, so that it is stored byte for byte.
#[derive(Serialize)]
struct Element<'a> {
    check: &'a str,
    status: &'a str,
    rule: Option<u32>,
    message: &'a str,
    body: String,
}

pub(super) fn results(
    job: &mut Job<'_>,
    app: &AppName,
    results: &[CheckResult],
) -> Result<(), StoreError> {
    let elements = results
        .iter()
        .map(|result| {
            Ok(Element {
                check: result.check.as_str(),
                status: result.status.as_str(),
                rule: result.rule,
                message: &result.message,
                body: json(result)?,
            })
        })
        .collect::<Result<Vec<_>, StoreError>>()?;
    let array = json(&elements)?;
    job.add(
        "check_change",
        "INSERT INTO check_change (app, check_name, status, rule, message, at_ms, body)
         SELECT last.app, new.check_name, new.status, new.rule, new.message, last.at_ms, new.body
         FROM (SELECT ? AS app, ? AS at_ms) AS last,
              (SELECT value ->> 'check' AS check_name, value ->> 'status' AS status, value ->> 'rule' AS rule,
                      value ->> 'message' AS message, value ->> 'body' AS body FROM json_each(?)) AS new
         LEFT JOIN check_last AS old ON old.app = last.app AND old.check_name = new.check_name
         WHERE old.app IS NULL OR old.status <> new.status OR old.rule IS NOT new.rule OR old.message <> new.message",
        [
            app.as_str().into(),
            job.at.wall_ms.into(),
            array.as_str().into(),
        ],
    );
    job.add(
        "check_last",
        "INSERT INTO check_last (app, check_name, status, rule, message, at_ms, body)
         SELECT ?, value ->> 'check', value ->> 'status', value ->> 'rule', value ->> 'message', ?, value ->> 'body'
         FROM json_each(?) WHERE true
         ON CONFLICT (app, check_name) DO UPDATE SET status = excluded.status, rule = excluded.rule,
            message = excluded.message, at_ms = excluded.at_ms, body = excluded.body",
        [app.as_str().into(), job.at.wall_ms.into(), array.into()],
    );
    Ok(())
}
