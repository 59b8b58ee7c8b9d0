//! The daemon as a service: under a real systemd in a host of its own, scraped by a real Prometheus, and given every kind
//! of bad input. It is judged from outside: by its unit, its journal, its answers, and by what lies on the disk.

mod host;
mod metrics;
mod power;
mod refusals;
mod requests;
mod rights;
mod room;
mod unit;
mod watchdog;

/// Times short enough for a test; everything else is as delivered.
const QUICK: &str = "
[check]
interval = \"1s\"
look = \"1s\"
every = { file_permissions = \"1s\" }
[dwell]
time = \"1s\"
looks = 2
critical_time = \"600ms\"
critical_looks = 2
[grace]
time = \"0s\"
[soak]
time = \"1s\"
recurrence = \"1s\"
[pause]
app = \"0s\"
action = \"0s\"
[rate]
per_app = 1000
per_host = 1000
per_daemon = 1000
";

/// The table of an application that nobody serves: without its empty URL.
fn files_only(table: &str) -> String {
    table.replace("url = \"\"\n", "")
}

/// A stack whose one action takes six seconds and then adds a line to a file.
const SLOW_STACK: &str = r#"
title = "Slow"

[check.marker]
title = "the marker is there"
category = "SYSTEM"
probes.marker = { file = { path = "data/marker" } }
rules = [{ when = { "marker.exists" = false }, status = "FAIL", severity = "HIGH", message = "there is no marker" }]
remedies = ["write_marker"]

[action.write_marker]
title = "Write the marker, slowly"
risk = "LOW"
writes = [{ content = "data/**" }]
steps = [{ run = { argv = ["php", "slow.php"] } }]
timeout = "60s"
settle = "3s"
"#;

/// What the slow action runs: it says that it began, works, and writes.
const SLOW_PROGRAM: &str = "<?php
file_put_contents('data/began', getmypid() . \"\\n\", FILE_APPEND);
sleep(6);
file_put_contents('data/marker', getmypid() . \"\\n\", FILE_APPEND);
";
