//! A real Prometheus that scrapes one target, and promtool's opinion of an exposition.

use std::path::Path;

use serde_json::Value;

use super::process::{Output, run, run_with_input};
use super::{Lab, PATIENCE, http, wait_for};

/// What a lab with Prometheus needs.
pub(crate) const PROGRAMS: &[&str] = &["prometheus", "promtool"];

/// The running server.
#[derive(Debug)]
pub(crate) struct Prometheus {
    /// Ends in a slash.
    pub(crate) url: String,
}

impl Lab {
    /// Starts it; `target` is `host:port`, and a target without a port means the server itself.
    pub(crate) fn prometheus(&self, target: Option<&str>) -> Prometheus {
        let dir = self.dir().join("prometheus");
        std::fs::create_dir(&dir).expect("one Prometheus per lab");
        self.user.own(&dir);
        let address = format!("127.0.0.1:{}", self.port());
        let config = dir.join("prometheus.yml");
        std::fs::write(
            &config,
            format!(
                "global: {{ scrape_interval: 200ms, scrape_timeout: 200ms }}\n\
                 scrape_configs: [{{ job_name: lab, static_configs: [{{ targets: ['{}'] }}] }}]\n",
                target.unwrap_or(&address)
            ),
        )
        .expect("root can write");
        let option = |name: &str, value: &str| format!("--{name}={value}");
        self.spawn(
            "prometheus",
            self.as_user("prometheus").args([
                option("config.file", &config.display().to_string()),
                option("storage.tsdb.path", &dir.join("data").display().to_string()),
                option("web.listen-address", &address),
                option("log.level", "warn"),
            ]),
        );
        let url = format!("http://{address}/");
        http::wait_for_status(&format!("{url}-/ready"), 200);
        Prometheus { url }
    }
}

impl Prometheus {
    /// The value of the first series that an expression gives now.
    pub(crate) fn query(&self, expression: &str) -> Option<f64> {
        let encoded: String = expression
            .bytes()
            .map(|byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            })
            .collect();
        let answer = http::get(&format!("{}api/v1/query?query={encoded}", self.url)).ok()?;
        let json: Value = serde_json::from_str(&answer.body).ok()?;
        assert_eq!(json["status"], "success", "{expression}: {}", answer.body);
        json["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }

    /// Waits until an expression has a value.
    #[track_caller]
    pub(crate) fn wait_for(&self, expression: &str) -> f64 {
        let mut value = None;
        wait_for(expression, || {
            value = self.query(expression);
            value.is_some()
        });
        value.expect("checked just now")
    }
}

/// `promtool check metrics` on an exposition.
pub(crate) fn check_metrics(lab: &Lab, exposition: &str) -> Output {
    let file = lab.dir().join("exposition.prom");
    std::fs::write(&file, exposition).expect("root can write");
    let input = std::fs::File::open(file).expect("written just now");
    run_with_input(
        lab.as_user("promtool").args(["check", "metrics"]),
        input.into(),
        PATIENCE,
    )
}

/// `promtool check rules` on a rule file.
pub(crate) fn check_rules(lab: &Lab, rules: &Path) -> Output {
    run(
        lab.as_root("promtool").args(["check", "rules"]).arg(rules),
        PATIENCE,
    )
}
