//! The rules: who may use what, and the judgement on one file's text.

use super::source::{Named, Source};

/// Modules that are functions of their arguments.
const PURE: &[&str] = &["model", "catalogue", "decide", "guard", "verify", "undo"];

/// Who may use what, beside itself. A module of `src/` that has no row here fails the test.
const MAY_USE: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("catalogue", &["model"]),
    ("decide", PURE),
    ("guard", PURE),
    ("verify", PURE),
    ("undo", PURE),
    ("seam", &["model"]),
    ("observe", STAGE),
    ("protect", STAGE),
    ("act", STAGE),
    ("record", STAGE),
    ("system", &["model", "seam"]),
    ("host", &["model", "seam"]),
    ("telemetry", &["model", "seam"]),
    ("config", PURE),
    (
        "engine",
        &[
            "model",
            "catalogue",
            "decide",
            "guard",
            "verify",
            "undo",
            "seam",
            "observe",
            "protect",
            "act",
            "record",
            "system",
            "host",
            "telemetry",
            "config",
        ],
    ),
    (
        "control",
        &[
            "model",
            "catalogue",
            "decide",
            "guard",
            "verify",
            "undo",
            "seam",
            "config",
            "engine",
            "telemetry",
        ],
    ),
    (
        "cli",
        &[
            "model",
            "catalogue",
            "decide",
            "guard",
            "verify",
            "undo",
            "config",
            "control",
            "telemetry",
        ],
    ),
    ("service", ANYTHING),
    ("demo", ANYTHING),
    ("bin", ANYTHING),
];

const STAGE: &[&str] = &[
    "model",
    "catalogue",
    "decide",
    "guard",
    "verify",
    "undo",
    "seam",
];

const ANYTHING: &[&str] = &["*"];

/// What a stage hands to the next one: proofs that only their own stage can make.
const PROOFS: &[&str] = &[
    "crate::protect::VerifiedBackup",
    "crate::record::Intent",
    "crate::act::Unsettled",
];

/// Single values that one module may take from where it may not look otherwise.
const EXCEPTIONS: &[(&str, &[&str])] = &[
    (
        // A schedule is judged where it is read; it is a pure value of the one home that names the cron crate.
        "config",
        &["crate::system::CronSchedule", "crate::system::CronError"],
    ),
    (
        // `audit verify` recomputes the very chain that the store appends to; `check-config` reads what a start reads.
        "cli",
        &["crate::record::audit", "crate::service"],
    ),
];

/// The agent's modules that do nothing to a host, and single functions of that kind elsewhere; the daemon's pure modules
/// may use them too.
const AGENT_PURE: &[&str] = &[
    "protocol",
    "tree",
    "step",
    "units",
    "probe::spec",
    "probe::known",
    "probe::params",
    "probe::php_text",
    "probe::reference",
    "probe::validate",
    "probe::http_url",
    "probe::unit::is_unit_name",
];

/// Nothing pure names these: effects, clocks, randomness, and crates that bring them.
const IMPURE: &[&str] = &[
    "std::env",
    "std::fs",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
    "std::io::stdin",
    "std::io::stdout",
    "std::io::stderr",
    "std::time::Instant",
    "std::time::SystemTime",
    "axum",
    "landlock",
    "procfs",
    "rand",
    "reqwest",
    "rustix",
    "sqlx",
    "tempfile",
    "tokio",
    "tracing",
];

/// Of those, what is a mere value.
const VALUES: &[&str] = &[
    "std::net::AddrParseError",
    "std::net::IpAddr",
    "std::net::Ipv4Addr",
    "std::net::Ipv6Addr",
    "std::net::SocketAddr",
    "std::net::SocketAddrV4",
    "std::net::SocketAddrV6",
];

/// The agent stays small and static.
pub(super) const NOT_IN_THE_AGENT: &[&str] = &[
    "axum", "healerd", "hyper", "reqwest", "russh", "sqlx", "tokio",
];

/// One broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offence {
    pub(super) file: String,
    pub(super) line: usize,
    pub(super) what: String,
}

fn within(path: &Named, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| path.is_below(prefix))
}

fn has_effects(path: &Named) -> bool {
    within(path, IMPURE) && !within(path, VALUES)
}

/// A path from the crate's root, whichever way it was written: `super::` chains are resolved by the file's place.
fn absolute(module: &[String], path: &Named) -> Option<Named> {
    let first = path.segments.first()?.as_str();
    let (mut from, rest): (Vec<String>, &[String]) = match first {
        "crate" => (Vec::new(), &path.segments[1..]),
        "self" => (module.to_vec(), &path.segments[1..]),
        "super" => {
            let up = path.segments.iter().take_while(|s| *s == "super").count();
            let keep = module.len().checked_sub(up)?;
            (module[..keep].to_vec(), &path.segments[up..])
        }
        _ => return None,
    };
    from.extend_from_slice(rest);
    from.insert(0, "crate".to_owned());
    Some(Named {
        line: path.line,
        segments: from,
    })
}

/// Where a file stands: `src/act/settle.rs` is `act::settle`.
fn module_of(file: &str) -> Vec<String> {
    let mut parts: Vec<String> = file
        .trim_end_matches(".rs")
        .split('/')
        .map(str::to_owned)
        .collect();
    if parts
        .last()
        .is_some_and(|last| last == "mod" || last == "lib")
    {
        parts.pop();
    }
    parts
}

/// Judges one file of the daemon; `file` is its path below `src/`.
pub(super) fn judge(file: &str, text: &str) -> Vec<Offence> {
    let module = module_of(file);
    let Some(home) = module.first() else {
        return Vec::new();
    };
    let told = |line: usize, what: String| Offence {
        file: format!("src/{file}"),
        line,
        what,
    };
    let Some((_, may_use)) = MAY_USE.iter().find(|(name, _)| name == home) else {
        return vec![told(
            1,
            format!("`{home}` has no row in the table of who may use what"),
        )];
    };
    let source = Source::read(text);
    let pure = PURE.contains(&home.as_str());
    let mut offences = Vec::new();
    for path in &source.paths {
        if let Some(path) = absolute(&module, path) {
            let Some(used) = path.segments.get(1) else {
                continue;
            };
            let allowed = used == home
                || *may_use == ANYTHING
                || may_use.contains(&used.as_str())
                || (STAGE == *may_use && within(&path, PROOFS))
                || EXCEPTIONS
                    .iter()
                    .any(|(name, values)| name == home && within(&path, values));
            if !allowed {
                offences.push(told(
                    path.line,
                    format!("`{home}` must not use `{}`", path.text()),
                ));
            }
        } else if pure && has_effects(path) {
            offences.push(told(
                path.line,
                format!("`{home}` is pure and must not use `{}`", path.text()),
            ));
        } else if path.is_below("healer_agent") && pure {
            let of_agent = Named {
                line: path.line,
                segments: path.segments[1..].to_vec(),
            };
            if !within(&of_agent, AGENT_PURE) {
                offences.push(told(
                    path.line,
                    format!("`{home}` is pure and `{}` is not", path.text()),
                ));
            }
        }
    }
    if pure {
        offences.extend(
            source
                .async_lines
                .into_iter()
                .map(|line| told(line, format!("`{home}` is pure and must not be async"))),
        );
    }
    offences
}

/// Judges one file of the agent; `file` is its path below `agent/src/`.
pub(super) fn judge_agent(file: &str, text: &str) -> Vec<Offence> {
    let module = module_of(file);
    let here = module.join("::");
    let is_pure = |name: &str| {
        AGENT_PURE
            .iter()
            .any(|pure| name == *pure || name.starts_with(&format!("{pure}::")))
    };
    let source = Source::read(text);
    let mut offences = Vec::new();
    let mut tell = |line: usize, what: String| {
        offences.push(Offence {
            file: format!("agent/src/{file}"),
            line,
            what,
        });
    };
    for path in &source.paths {
        if within(path, NOT_IN_THE_AGENT) {
            tell(
                path.line,
                format!("the agent must not use `{}`", path.text()),
            );
        }
        if !is_pure(&here) {
            continue;
        }
        if has_effects(path) {
            tell(
                path.line,
                format!("`{here}` is pure and must not use `{}`", path.text()),
            );
        }
        if let Some(path) = absolute(&module, path)
            && !is_pure(&path.segments[1..].join("::"))
        {
            tell(
                path.line,
                format!("`{here}` is pure and `{}` is not", path.text()),
            );
        }
    }
    if is_pure(&here) {
        for line in &source.async_lines {
            tell(*line, format!("`{here}` is pure and must not be async"));
        }
    }
    offences
}
