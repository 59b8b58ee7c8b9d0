//! Runs one probe of a kind over a directory and prints its facts and the time it took, in microseconds.
//!
//! `probe_times ROOT UID KIND PARAMS…`, for example `probe_times /srv/shop 1000 file '{"path": ".env"}'`; further
//! pairs of kind and parameters follow.

#![expect(clippy::print_stdout, reason = "printing is what an example is for")]

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use healer_agent::probe::{Deadline, round};
use healer_agent::protocol::{CheckProbes, Target};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: probe_times ROOT UID KIND PARAMS…";
    let root = arguments.next().ok_or(usage)?;
    let uid = arguments.next().ok_or(usage)?.parse()?;
    let target = Target {
        root,
        roots: Vec::new(),
        uid,
        gid: uid,
        volatile: Vec::new(),
    };
    while let (Some(kind), Some(params)) = (arguments.next(), arguments.next()) {
        let params: serde_json::Value = serde_json::from_str(&params)?;
        let check = CheckProbes {
            check: kind.clone(),
            probes: [("p".to_owned(), serde_json::json!({ kind: params }))].into(),
        };
        let deadline = Deadline::after(Duration::from_secs(30));
        let (_, facts) = round(&target, &[check], deadline, &AtomicBool::new(false))?;
        for facts in facts {
            println!("{} {} µs", facts.check, facts.time_us);
            println!("  {}", serde_json::to_string(&facts.probes)?);
        }
    }
    Ok(())
}
