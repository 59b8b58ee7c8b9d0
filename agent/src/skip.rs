//! What a test says that cannot run here.

/// Says so with the reason; where every test must run that is a failure.
///
/// # Panics
/// With `HEALERD_TESTS_REQUIRE_ALL=1`.
pub(crate) fn skip(reason: &str) {
    eprintln!("SKIP: {reason}");
    assert!(
        std::env::var("HEALERD_TESTS_REQUIRE_ALL").as_deref() != Ok("1"),
        "this test must run here: {reason}"
    );
}
