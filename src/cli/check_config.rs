//! check-config.
use std::process::ExitCode;
/// Run.
pub fn run(paths: &crate::config::Paths) -> ExitCode {
    match crate::service::load(paths) {
        Ok(_) => ExitCode::SUCCESS,
        Err(e) => super::output::fail(&e, ""),
    }
}
