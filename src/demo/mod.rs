//! Breaks small real applications and heals them before your eyes.

/// Not written yet.
pub async fn run() -> std::process::ExitCode {
    std::process::ExitCode::FAILURE
}
