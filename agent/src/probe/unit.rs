//! The `unit` probe: a unit of the system's service manager, as `systemctl show` tells it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::Context;
use super::found::Found;
use super::program::{NotRun, find, run};
use super::spec::Fact;

const TIME: Duration = Duration::from_secs(10);
const OUTPUT_BYTES_MAX: usize = 16 << 10;

/// May this stand as an operand? Unit names hold no blanks and do not look like an option.
pub(super) fn is_unit_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && !name.starts_with(['-', '.'])
        && name.bytes().all(|byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'-' | b'_' | b'.' | b'\\' | b'@')
        })
}

pub(super) fn probe(context: &Context, name: &str) -> Found {
    let unknown = |why: &str| Found::unknown("unit", why);
    if !is_unit_name(name) {
        return unknown("not the name of a unit");
    }
    if !Path::new("/run/systemd/system").is_dir() {
        return unknown("no systemd runs on this host").with("manager", false);
    }
    let Some(program) = find(Path::new("/"), "systemctl") else {
        return unknown("systemctl is not there").with("manager", true);
    };
    let arguments = [
        "show",
        "--no-pager",
        "--property=LoadState,ActiveState,SubState,MainPID,NRestarts",
        "--",
        name,
    ]
    .map(str::to_owned);
    let deadline = context.within(TIME);
    match run(
        context,
        &program,
        &arguments,
        &BTreeMap::new(),
        deadline,
        OUTPUT_BYTES_MAX,
    ) {
        Err(NotRun::NotFound) => unknown("systemctl is not there").with("manager", true),
        Err(NotRun::Other(why)) => unknown(&why).with("manager", true),
        Ok(ran) if ran.timed_out => {
            unknown("systemctl gave no answer in time").with("manager", true)
        }
        Ok(ran) if ran.exit != Some(0) => unknown("systemctl failed").with("manager", true),
        Ok(ran) => facts(&String::from_utf8_lossy(&ran.stdout)),
    }
}

fn facts(text: &str) -> Found {
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            .filter(|value| !value.is_empty())
    };
    let told = |fact: Option<Fact>| {
        fact.unwrap_or_else(|| Fact::Unknown("systemctl does not say".to_owned()))
    };
    let number = |name| field(name).and_then(|value| value.parse::<i64>().ok());
    let (active, sub) = (field("ActiveState"), field("SubState"));
    let restarting = active
        .zip(sub)
        .map(|(active, sub)| Fact::Bool(active == "activating" && sub.starts_with("auto-restart")));
    Found::absent("unit")
        .with("manager", true)
        .with(
            "loaded",
            told(field("LoadState").map(|state| Fact::Bool(state == "loaded"))),
        )
        .with("active", told(active.map(Fact::from)))
        .with("sub", told(sub.map(Fact::from)))
        // Units that are no services have neither.
        .with("main_pid", number("MainPID").filter(|pid| *pid > 0))
        .with("restarts", number("NRestarts"))
        .with("restarting", told(restarting))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_be_options_are_none() {
        for (name, want) in [
            ("php8.2-fpm.service", true),
            ("app@1.service", true),
            ("--root=/", false),
            ("a b", false),
            ("a;b", false),
            ("", false),
        ] {
            assert_eq!(is_unit_name(name), want, "{name}");
        }
    }

    #[test]
    fn properties_become_facts() {
        let found = facts(
            "LoadState=loaded\nActiveState=activating\nSubState=auto-restart\nMainPID=0\nNRestarts=7\n",
        );
        assert_eq!(found.facts["restarting"], Fact::Bool(true));
        assert_eq!(found.facts["restarts"], Fact::Int(7));
        assert_eq!(found.facts["main_pid"], Fact::Absent);
        let found = facts("");
        assert!(matches!(found.facts["active"], Fact::Unknown(_)));
        assert!(matches!(found.facts["restarting"], Fact::Unknown(_)));
    }
}
