use proptest::prelude::*;

use super::*;

const ENV: &[u8] =
    b"APP_NAME=Shop\nAPP_KEY=base64:abcdef\nDB_PASSWORD=\"s3cr#t\"\nMAIL_HOST=mail\n";

#[test]
fn an_emptied_or_unparsable_text_is_ruined() {
    use Dialect::{Opaque, PhpEnv, WpConfig};

    let env = b"APP=1\nDB_PASSWORD=\"x y\"\n";
    for (case, name, text, known, dialect, want) in [
        ("whole", ".env", &env[..], Some(&env[..]), PhpEnv, false),
        ("whole, at adoption", ".env", env, None, PhpEnv, false),
        (
            "no line break at the end",
            ".env",
            b"APP=1",
            None,
            PhpEnv,
            false,
        ),
        (
            "quotes closed at the end",
            ".env",
            b"APP=\"1\"",
            None,
            PhpEnv,
            false,
        ),
        ("emptied", ".env", b"", Some(env), PhpEnv, true),
        ("emptied before adoption", ".env", b"", None, PhpEnv, true),
        ("blanks", ".env", b" \n\n", Some(env), PhpEnv, true),
        (
            "garbage",
            ".env",
            b"\x00\x01garbage",
            Some(env),
            PhpEnv,
            true,
        ),
        (
            "only comments as ever",
            ".env",
            b"# none",
            Some(b"# n"),
            PhpEnv,
            false,
        ),
        (
            "cut off in quotes",
            ".env",
            b"APP=1\nDB_PASSWORD=\"x",
            Some(env),
            PhpEnv,
            true,
        ),
        ("json", "composer.json", b"{\"a\":1}", None, Opaque, false),
        (
            "json cut off",
            "composer.lock",
            b"{\"a\":",
            Some(b"{}"),
            Opaque,
            true,
        ),
        (
            "json that never was",
            "odd.lock",
            b"a: 1",
            Some(b"a: 2"),
            Opaque,
            false,
        ),
        ("php", "index.php", b"<?php run();", None, Opaque, false),
        (
            "php gone",
            "index.php",
            b"error",
            Some(b"<?php run();"),
            Opaque,
            true,
        ),
        (
            "yarn's",
            "yarn.lock",
            b"# yarn\na@1:\n",
            None,
            Opaque,
            false,
        ),
        ("another kind", "x.txt", b"x", Some(b"y"), Opaque, false),
        (
            "wp",
            "wp-config.php",
            b"<?php define('A','b');",
            None,
            WpConfig,
            false,
        ),
        (
            "wp cut off",
            "wp-config.php",
            b"<?php define('A','b",
            None,
            WpConfig,
            true,
        ),
    ] {
        assert_eq!(is_ruined(name, text, known, dialect), want, "{case}");
    }
}

#[test]
fn only_secret_and_database_settings_with_another_value_conflict() {
    for (case, present, want) in [
        ("equal", ENV, &[][..]),
        ("empty file", b"", &[]),
        ("secret absent", b"APP_NAME=Shop\n", &[]),
        ("secret empty", b"APP_KEY=\nDB_PASSWORD=''\n", &[]),
        ("other name", b"APP_NAME=Blog\nMAIL_HOST=x\n", &[]),
        (
            "cut off within a secret",
            b"APP_NAME=Shop\nAPP_KEY=base64:ab",
            &[],
        ),
        ("cut off within quotes", b"DB_PASSWORD=\"s3", &[]),
        (
            "shorter, but the line is whole",
            b"APP_KEY=base64:ab\n",
            &["APP_KEY"],
        ),
        ("rotated key", b"APP_KEY=base64:zzz\n", &["APP_KEY"]),
        (
            "a secret that known-good lacks",
            b"STRIPE_SECRET=1\n",
            &["STRIPE_SECRET"],
        ),
        (
            "the second of two",
            b"DB_PASSWORD='s3cr#t'\nDB_PASSWORD=new\n",
            &["DB_PASSWORD"],
        ),
        ("commented out", b"# APP_KEY=other\n", &[]),
        (
            "exported",
            b"export DB_PASSWORD=other # why\n",
            &["DB_PASSWORD"],
        ),
        ("written together", b"PGPASSWORD=x\n", &["PGPASSWORD"]),
    ] {
        assert_eq!(
            conflicts(ENV, Some(present), Dialect::PhpEnv),
            want,
            "{case}"
        );
    }
    assert!(conflicts(ENV, None, Dialect::PhpEnv).is_empty(), "absent");
}

#[test]
fn wordpress_settings_are_read_from_defines() {
    let known = b"<?php\n// define('DB_NAME', 'old');\ndefine( 'DB_NAME', 'shop' );\ndefine(\"DB_PASSWORD\", 'it\\'s');\n\
        /* define('AUTH_KEY', 'x'); */ define('AUTH_KEY', getenv('K') ?: 'd');\n$table_prefix = 'wp_';\n";
    for (case, present, want) in [
        ("equal", &known[..], &[][..]),
        ("cut off", &known[..known.len() - 60], &[]),
        (
            "cut off within a value",
            b"<?php define('DB_NAME', 'sh",
            &[],
        ),
        ("torn word", b"<?php\ndefi", &[]),
        (
            "other database",
            b"<?php define('DB_NAME', 'live');",
            &["DB_NAME"],
        ),
        (
            "other prefix",
            b"<?php $table_prefix='live_';",
            &["table_prefix"],
        ),
        (
            "another expression",
            b"<?php define('AUTH_KEY', 'plain');",
            &["AUTH_KEY"],
        ),
        ("debug only", b"<?php define('WP_DEBUG', true);", &[]),
        (
            "quoted code",
            b"<?php $a = \"define('DB_NAME', 'q');\";",
            &[],
        ),
    ] {
        assert_eq!(
            conflicts(known, Some(present), Dialect::WpConfig),
            want,
            "{case}"
        );
    }
}

#[test]
fn the_difference_names_keys_and_no_values() {
    let new = b"APP_KEY=other\nNEW=1\nDB_PASSWORD='s3cr#t'\nMAIL_HOST=mail\n";
    assert_eq!(
        difference(ENV, new, Dialect::PhpEnv),
        [
            ("APP_KEY".to_owned(), KeyChange::Changed),
            ("APP_NAME".to_owned(), KeyChange::Removed),
            ("NEW".to_owned(), KeyChange::Added),
        ]
    );
}

proptest! {
    #[test]
    fn a_known_good_text_cut_off_anywhere_never_conflicts(at in 0..ENV.len()) {
        for dialect in [Dialect::PhpEnv, Dialect::NodeEnv] {
            prop_assert_eq!(conflicts(ENV, Some(&ENV[..at]), dialect), Vec::<String>::new());
        }
    }

    #[test]
    fn no_text_makes_a_reader_panic(text: Vec<u8>, head in "(define\\('|KEY=\"|\\$table_prefix=|/\\*)?") {
        let mut all = head.into_bytes();
        all.extend(text);
        for dialect in [Dialect::PhpEnv, Dialect::NodeEnv, Dialect::WpConfig, Dialect::Opaque] {
            let settings = difference(b"", &all, dialect);
            prop_assert!(settings.len() <= all.len());
            prop_assert!(conflicts(&all, Some(&all), dialect).len() <= all.len());
        }
    }
}
