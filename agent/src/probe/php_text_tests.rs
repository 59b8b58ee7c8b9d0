//! What is read out of a PHP text, and what is not guessed.

use proptest::prelude::*;

use super::*;

fn values(text: &str) -> BTreeMap<String, Value> {
    read(text.as_bytes()).values
}

fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}

#[test]
fn plain_definitions_are_values_and_all_else_is_unclear() {
    for (line, want) in [
        ("define( 'A', 'b' );", text("b")),
        ("define(\"A\",\"b\");", text("b")),
        ("DEFINE('A' , 'it\\'s \\\\ \\n');", text("it's \\ \\n")),
        ("define('A', \"line\\n\\$x\");", text("line\n$x")),
        ("define('A', true);", Value::Bool(true)),
        ("define('A', FALSE, true);", Value::Bool(false)),
        ("define('A', -12);", Value::Int(-12)),
        ("define('A', 64);", Value::Int(64)),
        ("define('A', null);", Value::Null),
        ("const A = 'b';", text("b")),
        ("\\define('A', 'b');", text("b")),
        (
            "define('A', 'first'); define('A', 'second');",
            text("first"),
        ),
        ("define('A', \"b$c\");", Value::Unclear),
        ("define('A', \"{$c}\");", Value::Unclear),
        ("define('A', getenv('A'));", Value::Unclear),
        ("define('A', 'b' . 'c');", Value::Unclear),
        ("define('A', __DIR__);", Value::Unclear),
        ("define('A', 017);", Value::Unclear),
        ("define('A', <<<X\nb\nX\n);", Value::Unclear),
        ("if ($x) define('A', 'b');", Value::Unclear),
        (
            "if ($x) { define('A', 'b'); } define('A', 'c');",
            Value::Unclear,
        ),
        ("function f() { define('A', 'b'); }", Value::Unclear),
        ("if ($x) { f(); } define('A', 'c');", text("c")),
    ] {
        assert_eq!(
            values(&format!("<?php\n{line}\n")).get("A"),
            Some(&want),
            "{line}"
        );
    }
}

#[test]
fn what_only_looks_like_a_definition_is_none() {
    for line in [
        "// define('A', 'b');",
        "# define('A', 'b');",
        "/* define('A', 'b'); */",
        "echo \"define('A', 'b');\";",
        "$x->define('A', 'b');",
        "X::define('A', 'b');",
        "undefine('A', 'b');",
        "define($name, 'b');",
        "?> define('A', 'b'); <?php",
        "echo <<<'X'\ndefine('A', 'b');\nX;",
    ] {
        assert_eq!(values(&format!("<?php\n{line}\n")).get("A"), None, "{line}");
    }
    assert_eq!(
        values("define('A', 'b');"),
        BTreeMap::new(),
        "no tag, no PHP"
    );
}

#[test]
fn variables_of_the_outermost_level_are_read_too() {
    let found = values(
        "<?php $table_prefix = 'wp_'; $upgrading = 1700000000; $now = time(); $a == 'b'; f($c = 'd'); ?>",
    );
    assert_eq!(found.get("$table_prefix"), Some(&text("wp_")));
    assert_eq!(found.get("$upgrading"), Some(&Value::Int(1_700_000_000)));
    assert_eq!(found.get("$now"), Some(&Value::Unclear));
    assert_eq!(found.get("$a"), None);
    assert_eq!(found.get("$c"), None);
    assert_eq!(
        values("<?php $upgrading = 5 ?>").get("$upgrading"),
        Some(&Value::Int(5))
    );
}

#[test]
fn includes_tell_their_literal_end() {
    let found = read(b"<?php require_once ABSPATH . 'wp-settings.php'; include( __DIR__ . '/a.php' ); require $x; ");
    let literal = |text: &str| Some(text.to_owned());
    assert_eq!(
        found.includes,
        [literal("wp-settings.php"), literal("/a.php"), None]
    );
}

#[test]
fn a_file_that_breaks_off_is_told_with_its_line() {
    for (given, want) in [
        ("", Some((1, "there is no PHP in it"))),
        ("<?php\n\ndefine('A', 'b", Some((3, "a text does not end"))),
        ("<?php\ndefine('A'", Some((2, "a bracket is not closed"))),
        (
            "<?php\ndefine",
            Some((2, "it ends in the middle of a statement")),
        ),
        ("<?php\n/* x", Some((2, "a comment does not end"))),
        ("<?php\n$a = <<<X\nb", Some((2, "a text does not end"))),
        ("<?php }", Some((1, "a bracket closes that was not opened"))),
        ("<?php\nif (true) {\n", Some((2, "a bracket is not closed"))),
        ("<?php\ndefine('A', 'b');", None),
        ("<?php\n// ends with a comment", None),
        ("<?php if ($a): ?>x<?php endif ?>", None),
        ("<?php\n$a = 1 << 2;", None),
        ("<p>\n<?= $a ?>\n</p>", None),
    ] {
        let broken = read(given.as_bytes()).broken;
        assert_eq!(
            broken.map(|broken| (broken.line, broken.what)),
            want,
            "{given:?}"
        );
    }
}

const CONFIG: &str = include_str!("../../../tests/fixtures/wordpress/wp-config.php");

#[test]
fn the_configuration_of_a_real_site_is_read_whole() {
    let found = read(CONFIG.as_bytes());
    assert_eq!(found.broken, None);
    assert_eq!(found.values.get("DB_NAME"), Some(&text("wordpress")));
    assert_eq!(found.values.get("WP_DEBUG"), Some(&Value::Bool(false)));
    assert_eq!(found.values.get("$table_prefix"), Some(&text("wp_")));
    // Only where nobody defined it before.
    assert_eq!(found.values.get("ABSPATH"), Some(&Value::Unclear));
    assert_eq!(found.values.len(), 22, "{:?}", found.values.keys());
    assert_eq!(found.includes, [Some("wp-settings.php".to_owned())]);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut text = b"<?php ".to_vec();
        text.extend(bytes);
        read(&text);
    }

    #[test]
    fn no_scraps_of_php_make_it_panic(
        scraps in prop::collection::vec(
            prop::sample::select(vec![
                "define", "(", ")", "'A'", ",", "\"", "'", ";", "{", "}", "<<<X\n", "\nX", "?>", "<?php ", "$a", "=",
                "\\", "//", "/*", "*/", "#", "\n", "const ", "A", "-", "1", "require ", "if", "é",
            ]),
            0..60,
        ),
    ) {
        read(format!("<?php {}", scraps.concat()).as_bytes());
    }

    /// A cut anywhere before the last statement is noticed: either it breaks off, or what it loads is missing.
    #[test]
    fn a_cut_configuration_is_never_taken_for_whole(at in 0_usize..CONFIG.len() - 3) {
        let at = (0..=at).rev().find(|at| CONFIG.is_char_boundary(*at)).unwrap_or(0);
        let found = read(&CONFIG.as_bytes()[..at]);
        prop_assert!(found.broken.is_some() || found.includes.is_empty(), "{}", &CONFIG[..at]);
    }

    /// What was read of a cut file is also in the whole one, except for what the cut itself made unclear.
    #[test]
    fn a_cut_invents_nothing(at in 0_usize..CONFIG.len()) {
        let at = (0..=at).rev().find(|at| CONFIG.is_char_boundary(*at)).unwrap_or(0);
        let whole = read(CONFIG.as_bytes()).values;
        for (name, value) in read(&CONFIG.as_bytes()[..at]).values {
            prop_assert!(value == Value::Unclear || whole.get(&name) == Some(&value), "{name}");
        }
    }
}
