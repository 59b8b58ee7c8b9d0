//! Takes secrets out of foreign text, and makes it safe to print. Pure.
//!
//! One redactor stands in front of every sink: logs, journal, notices, messages of heals. It works on words around a
//! value (`password=…`, `Bearer …`, `scheme://user:…@`), on values that show what they are (`base64:…`, private keys,
//! tokens with a known beginning), and it hides too much rather than too little. It cannot know a secret that stands
//! alone and looks like a word: such values are kept from leaving the host at all, by facts that are marked secret.

/// What stands where a secret was.
pub const HIDDEN: &str = "[redacted]";

/// A word that ends with or contains one of these names a secret.
const SECRET_WORDS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "api_key",
    "apikey",
    "api-key",
    "app_key",
    "auth_key",
    "private_key",
    "privatekey",
    "access_key",
    "accesskey",
    "credential",
    "_salt",
    "authorization",
    "cookie",
    "session_id",
    "sessionid",
    "_pass",
    "dbpass",
    "encryption_key",
    "signing_key",
    "_nonce",
    "auth_pass",
];

/// Words that name a secret only when they stand alone.
const SECRET_WHOLE_WORDS: &[&str] = &[
    "pass",
    "key",
    "auth",
    "sig",
    "signature",
    "salt",
    "nonce",
    "iv",
    "dsn",
];

/// In a line for sudoers: it asks for no password, and what follows is the path of a program.
const SUDOERS_TAG: (&str, &str) = ("NOPASSWD", ": /");

/// Words whose value is the rest of the line.
const LINE_WORDS: &[&str] = &["authorization", "cookie"];

/// Beginnings that show a token.
const TOKEN_BEGINNINGS: &[&str] = &[
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "sk_live_",
    "sk_test_",
    "rk_live_",
    "xoxb-",
    "xoxp-",
    "xoxa-",
    "npm_",
    "AKIA",
    "ASIA",
    "AIza",
    "eyJhbGciOi",
    "$2y$",
    "$2b$",
    "$argon2",
];

/// Hides secrets, then escapes what could move a terminal or forge a line. At most `bytes_max` bytes of the input are
/// looked at; what was left away is said.
pub fn clean(text: &str, bytes_max: usize) -> String {
    let mut end = bytes_max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let (kept, rest) = text.split_at(end);
    // A cut through a key and its value, or through a quoted value, leaves nothing of the value: it is hidden to the end.
    let mut out = escape(&hide(kept));
    if !rest.is_empty() {
        out += "… (";
        out += &rest.len().to_string();
        out += " bytes more)";
    }
    out
}

/// Hides secrets; line breaks stay, for text that is kept as lines.
pub fn hide(text: &str) -> String {
    let text = hide_key_blocks(text);
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    // What has been passed of the present word, so that a key is seen whole.
    let mut word_start = 0;
    let mut at = 0;
    // Up to here no URL has a password; without it, text full of `://` would be searched once for each.
    let mut searched_to = 0;
    while let Some(letter) = rest.get(at..).and_then(|tail| tail.chars().next()) {
        let tail = &rest[at..];
        let begins_word = at == word_start;
        if begins_word && let Some(length) = token_length(tail) {
            out.push_str(&rest[..at]);
            out.push_str(HIDDEN);
            rest = &tail[length..];
            (at, word_start, searched_to) = (0, 0, 0);
            continue;
        }
        if tail.starts_with("://") && at >= searched_to {
            match url_password(&tail[3..]) {
                Ok((user, length)) => {
                    out.push_str(&rest[..at + 3 + user]);
                    out.push_str(HIDDEN);
                    rest = &tail[3 + length..];
                    (at, word_start, searched_to) = (0, 0, 0);
                    continue;
                }
                Err(length) => searched_to = at + 3 + length,
            }
        }
        if is_word(letter) {
            at += letter.len_utf8();
            continue;
        }
        if let Some((shown, hidden)) = secret_after(&rest[word_start..at], tail) {
            out.push_str(&rest[..at + shown]);
            out.push_str(HIDDEN);
            rest = &tail[shown + hidden..];
            (at, word_start, searched_to) = (0, 0, 0);
            continue;
        }
        at += letter.len_utf8();
        word_start = at;
    }
    out.push_str(rest);
    out
}

/// Escapes control characters, line breaks, terminal sequences and letters that turn the direction of text.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            letter if letter.is_control() || is_invisible(letter) => {
                out.extend(letter.escape_unicode());
            }
            letter => out.push(letter),
        }
    }
    out
}

/// Letters that are not seen, or that change how others are seen.
const fn is_invisible(letter: char) -> bool {
    matches!(letter,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' | '\u{ad}' | '\u{61c}' | '\u{180e}')
}

const fn is_word(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '$')
}

/// Private keys in PEM, to their end mark or to the end of the text.
fn hide_key_blocks(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(begin) = rest.find("-----BEGIN ") {
        let (before, block) = rest.split_at(begin);
        out.push_str(before);
        let label_end = block[11..].find("-----").map_or(block.len(), |at| 11 + at);
        if !block[..label_end].contains("PRIVATE KEY") {
            out.push_str(&block[..11]);
            rest = &block[11..];
            continue;
        }
        out.push_str(HIDDEN);
        rest = block.find("-----END ").map_or("", |end| {
            let after = &block[end + 9..];
            after.find("-----").map_or("", |at| &after[at + 5..])
        });
    }
    out.push_str(rest);
    out
}

/// Length of a value that shows by its beginning that it is a secret.
fn token_length(tail: &str) -> Option<usize> {
    if let Some(value) = tail.strip_prefix("base64:") {
        let length = value
            .bytes()
            .take_while(|byte| byte.is_ascii_alphanumeric() || b"+/=_-".contains(byte))
            .count();
        return (length >= 8).then_some("base64:".len() + length);
    }
    for scheme in [
        "Bearer ", "bearer ", "BEARER ", "Basic ", "basic ", "Digest ",
    ] {
        if let Some(value) = tail.strip_prefix(scheme) {
            let length = value.find(char::is_whitespace).unwrap_or(value.len());
            return (length > 0).then_some(scheme.len() + length);
        }
    }
    TOKEN_BEGINNINGS
        .iter()
        .find(|beginning| tail.starts_with(**beginning))?;
    let length = tail
        .find(|letter: char| !(is_word(letter) || matches!(letter, '.' | '/' | '+' | '=')))
        .unwrap_or(tail.len());
    (length >= 12).then_some(length)
}

/// In `user:password@host`, the bytes before the password, and all bytes up to the `@`; without one, the bytes searched.
fn url_password(tail: &str) -> Result<(usize, usize), usize> {
    let authority_end = tail
        .find(|letter: char| letter.is_whitespace() || matches!(letter, '"' | '\'' | '<' | '>'))
        .unwrap_or(tail.len());
    // A password may hold a slash that nobody escaped, so the last `@` of the word ends it.
    let at = tail[..authority_end].rfind('@').ok_or(authority_end)?;
    let colon = tail[..at].find(':').ok_or(0_usize)?;
    Ok((colon + 1, at))
}

/// If `word` names a secret and `tail` gives it a value: bytes up to the value, and of the value.
fn secret_after(word: &str, tail: &str) -> Option<(usize, usize)> {
    if word == SUDOERS_TAG.0 && tail.starts_with(SUDOERS_TAG.1) {
        return None;
    }
    let lower = word.trim_start_matches('-').to_ascii_lowercase();
    let names_one = SECRET_WORDS.iter().any(|secret| lower.contains(secret))
        || SECRET_WHOLE_WORDS.contains(&lower.as_str());
    if !names_one {
        return None;
    }
    let mut at = skip(tail, 0, |letter| {
        matches!(letter, '"' | '\'' | '`' | '\\' | ']')
    });
    let quoted_key = at > 0;
    at = skip(tail, at, |letter| matches!(letter, ' ' | '\t'));
    let after = &tail[at..];
    let separator = if after.starts_with("=>") || after.starts_with(":=") {
        2
    } else if after.starts_with(['=', ':']) || (quoted_key && after.starts_with(',')) {
        1
    } else {
        return None;
    };
    at += separator;
    at = skip(tail, at, |letter| matches!(letter, ' ' | '\t'));
    if LINE_WORDS.iter().any(|line| lower.contains(line)) {
        let value = &tail[at..];
        let length = value.find(['\n', '\r']).unwrap_or(value.len());
        return (length > 0).then_some((at, length));
    }
    let escaped = tail[at..].starts_with('\\');
    at = skip(tail, at, |letter| letter == '\\');
    let value = &tail[at..];
    let length = match value.chars().next() {
        None => return None,
        Some(quote @ ('"' | '\'' | '`')) => {
            return Some((at + 1, quoted_length(&value[1..], quote, escaped)));
        }
        Some(_) => value.find(char::is_whitespace).unwrap_or(value.len()),
    };
    (length > 0).then_some((at, length))
}

/// Bytes up to the closing quote; without one, everything: a torn line hides its rest.
fn quoted_length(value: &str, quote: char, escaped: bool) -> usize {
    let mut backslashes = 0;
    for (at, letter) in value.char_indices() {
        if letter == quote {
            let closes = if escaped {
                backslashes == 1
            } else {
                backslashes % 2 == 0
            };
            if closes {
                return if escaped { at - 1 } else { at };
            }
        }
        backslashes = if letter == '\\' { backslashes + 1 } else { 0 };
    }
    value.len()
}

fn skip(text: &str, from: usize, fits: impl Fn(char) -> bool) -> usize {
    text[from..]
        .find(|letter: char| !fits(letter))
        .map_or(text.len(), |length| from + length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn secrets_are_hidden_and_their_surroundings_stay() {
        for (case, text, want) in [
            (
                ".env",
                "DB_HOST=127.0.0.1\nDB_PASSWORD=canary\nX=1",
                "DB_HOST=127.0.0.1\nDB_PASSWORD=[redacted]\nX=1",
            ),
            (
                "quoted .env",
                "DB_PASSWORD=\"can ary\" X=1",
                "DB_PASSWORD=\"[redacted]\" X=1",
            ),
            (
                "json",
                r#"{"user":"a","password":"canary","b":1}"#,
                r#"{"user":"a","password":"[redacted]","b":1}"#,
            ),
            (
                "json in json",
                r#""{\"token\":\"canary\",\"b\":1}""#,
                r#""{\"token\":\"[redacted]\",\"b\":1}""#,
            ),
            (
                "escaped quote",
                r#"password="can\"ary" ok"#,
                r#"password="[redacted]" ok"#,
            ),
            (
                "wp-config",
                "define('DB_PASSWORD', 'canary');",
                "define('DB_PASSWORD', '[redacted]');",
            ),
            (
                "wp salt",
                "define( 'AUTH_KEY',  'canary' );",
                "define( 'AUTH_KEY',  '[redacted]' );",
            ),
            (
                "php array",
                "'password' => 'canary',",
                "'password' => '[redacted]',",
            ),
            (
                "laravel key",
                "APP_KEY=base64:canary4711canary4711=",
                "APP_KEY=[redacted]",
            ),
            (
                "key alone",
                "found base64:canary4711canary4711= there",
                "found [redacted] there",
            ),
            (
                "bearer",
                "sent Bearer canary.4711 to it",
                "sent [redacted] to it",
            ),
            (
                "header",
                "Authorization: Basic canary x\nHost: a",
                "Authorization: [redacted]\nHost: a",
            ),
            (
                "cookie",
                "Set-Cookie: sid=canary; Path=/",
                "Set-Cookie: [redacted]",
            ),
            (
                "url",
                "mysql://shop:canary@db/shop failed",
                "mysql://shop:[redacted]@db/shop failed",
            ),
            (
                "url without user",
                "redis://:can/ary@db:6379",
                "redis://:[redacted]@db:6379",
            ),
            (
                "query",
                "GET /?a=1&token=canary HTTP",
                "GET /?a=1&token=[redacted] HTTP",
            ),
            (
                "option",
                "mysql --password=canary shop",
                "mysql --password=[redacted] shop",
            ),
            (
                "yaml",
                "secret_key_base: canary",
                "secret_key_base: [redacted]",
            ),
            (
                "github",
                "clone with ghp_canary4711canary",
                "clone with [redacted]",
            ),
            (
                "torn",
                "password=\"canary and no end",
                "password=\"[redacted]",
            ),
            (
                "pem",
                "a -----BEGIN RSA PRIVATE KEY-----\ncanary\n-----END RSA PRIVATE KEY----- b",
                "a [redacted] b",
            ),
            (
                "sudoers",
                "shop ALL=(root) NOPASSWD: /usr/libexec/agent --identity root NOPASSWD: canary",
                "shop ALL=(root) NOPASSWD: /usr/libexec/agent --identity root NOPASSWD: [redacted]",
            ),
            (
                "no sudoers",
                "NOPASSWD=canary X_NOPASSWD: /canary",
                "NOPASSWD=[redacted] X_NOPASSWD: [redacted]",
            ),
            (
                "torn pem",
                "a -----BEGIN PRIVATE KEY-----\ncanary",
                "a [redacted]",
            ),
            (
                "certificate",
                "-----BEGIN CERTIFICATE-----\nabc",
                "-----BEGIN CERTIFICATE-----\nabc",
            ),
            ("no value", "the password is wrong", "the password is wrong"),
            ("plain", "npm ERR! code E404", "npm ERR! code E404"),
            (
                "url without password",
                "http://127.0.0.1:8080/a@b",
                "http://127.0.0.1:[redacted]@b",
            ),
        ] {
            assert_eq!(hide(text), want, "{case}");
        }
    }

    #[test]
    fn text_cannot_move_a_terminal_or_forge_a_line() {
        assert_eq!(
            escape("a\u{1b}[2Jb\nc\td\r\u{0}\u{202e}e\u{9b}ü"),
            "a\\u{1b}[2Jb\\nc\\td\\r\\u{0}\\u{202e}e\\u{9b}ü"
        );
    }

    #[test]
    fn long_text_is_cut_and_says_so() {
        assert_eq!(clean("abcdef", 3), "abc… (3 bytes more)");
        assert_eq!(clean("üü", 3), "ü… (2 bytes more)");
        assert_eq!(
            clean("password=canary", 12),
            "password=[redacted]… (3 bytes more)"
        );
    }

    proptest! {
        #[test]
        fn a_planted_secret_never_survives(
            before in "[ -~\n]{0,30}[ \n;,({]",
            form in 0_usize..14,
            canary in "CANARY[A-Za-z0-9+/_.-]{4,30}",
            after in "([ \n,;)}][ -~\n]{0,30})?",
        ) {
            let planted = match form {
                0 => format!("DB_PASSWORD={canary}"),
                1 => format!("DB_PASSWORD=\"{canary}\""),
                2 => format!("\"api_key\": \"{canary}\""),
                3 => format!("{{\\\"secret\\\":\\\"{canary}\\\"}}"),
                4 => format!("define('DB_PASSWORD', '{canary}');"),
                5 => format!("'password' => '{canary}'"),
                6 => format!("Authorization: Bearer {canary}"),
                7 => format!("Bearer {canary}"),
                8 => format!("mysql://user:{canary}@host/db"),
                9 => format!("--token={canary}"),
                10 => format!("?access_token={canary}"),
                11 => format!("-----BEGIN PRIVATE KEY-----\n{canary}\n-----END PRIVATE KEY-----"),
                12 => format!("Cookie: sid={canary}"),
                _ => format!("secret: {canary}"),
            };
            let out = clean(&format!("{before}{planted}{after}"), 4096);
            prop_assert!(!out.contains(&canary), "{out}");
        }

        #[test]
        fn nothing_makes_it_panic_and_no_control_character_comes_out(text in ".{0,200}", cut in 0_usize..220) {
            let out = clean(&text, cut);
            prop_assert!(!out.chars().any(|letter| letter.is_control() || is_invisible(letter)), "{out:?}");
        }

        #[test]
        fn hostile_text_is_passed_in_one_go(part in "://|@|:|=|password|\"|\\\\|-----BEGIN ", times in 1000_usize..4000) {
            drop(clean(&part.repeat(times), 1 << 16));
        }

        #[test]
        fn any_bytes_pass(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let out = clean(&String::from_utf8_lossy(&bytes), 100);
            prop_assert!(!out.chars().any(char::is_control));
        }
    }
}
