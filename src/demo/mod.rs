//! Breaks small real applications and heals them before your eyes.

/// Runs the demonstration.
pub async fn run() -> std::process::ExitCode {
    std::process::ExitCode::FAILURE
}
