//! What is refused, and in which words.

use super::*;

#[test]
fn all_problems_are_told_at_once_with_file_line_key_reason_and_remedy() {
    let text = "mode = \"SEMI_AUTOMATIC\"\n[breaker]\ncooldwon = \"1h\"\nmax_failures = \"three\"\n[dwell]\ntime = 180\n[app.shop]\npath = \"/home\"\nuser = \"shoop\"\nstack = \"laravle\"\nhost = \"web1\"\n";
    println!("{}", refusal_of(text));
    assert_eq!(refusal_of(text), "");
}
