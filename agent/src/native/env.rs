//! Setting a key in the text of an env file. Pure.
//!
//! The two dialects that matter, PHP's and Node's, are read as far as they agree: comments, `export`, quotes that
//! may span lines, trailing comments. Values are written in a form that both read back as the same text.

/// The file with `key` set to `value`; every byte that is not part of the key's values is kept.
///
/// # Errors
/// When the key is no name, or no quoting makes the value the same for all readers.
pub(super) fn edited(text: &[u8], key: &str, value: &str) -> Result<Vec<u8>, &'static str> {
    let name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.';
    if key.is_empty() || !key.bytes().all(name) || key.as_bytes()[0].is_ascii_digit() {
        return Err("the key is no name");
    }
    let value = quoted(value)?;
    let mut new = Vec::with_capacity(text.len() + key.len() + value.len() + 2);
    let mut kept = 0;
    let mut at = if text.starts_with(b"\xef\xbb\xbf") {
        3
    } else {
        0
    };
    let mut found = false;
    while at < text.len() {
        let (definition, next) = line(text, at);
        if let Some(Definition { name, from, to }) = definition
            && name == key.as_bytes()
        {
            new.extend_from_slice(&text[kept..from]);
            new.extend_from_slice(value.as_bytes());
            kept = to;
            found = true;
        }
        at = next;
    }
    new.extend_from_slice(&text[kept..]);
    if !found {
        let end: &[u8] = if text.windows(2).any(|pair| pair == b"\r\n") {
            b"\r\n"
        } else {
            b"\n"
        };
        if !new.is_empty() && !new.ends_with(b"\n") {
            new.extend_from_slice(end);
        }
        new.extend_from_slice(format!("{key}={value}").as_bytes());
        new.extend_from_slice(end);
    }
    Ok(new)
}

/// One `KEY=value`, with the range of the value as it is written.
struct Definition<'a> {
    name: &'a [u8],
    from: usize,
    to: usize,
}

/// The definition that a line holds, and where the next line begins (behind a quoted value that spans lines).
fn line(text: &[u8], start: usize) -> (Option<Definition<'_>>, usize) {
    let line_end = |from: usize| {
        text[from..]
            .iter()
            .position(|byte| *byte == b'\n')
            .map_or(text.len(), |at| from + at)
    };
    let blank = |mut at: usize| {
        while text
            .get(at)
            .is_some_and(|byte| matches!(byte, b' ' | b'\t'))
        {
            at += 1;
        }
        at
    };
    let end = line_end(start);
    let nothing = (None, end + 1);
    let mut at = blank(start);
    if text[at..].starts_with(b"export") && matches!(text.get(at + 6), Some(b' ' | b'\t')) {
        at = blank(at + 6);
    }
    let name_end = text[at..end]
        .iter()
        .position(|byte| !(byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')));
    let Some(name_end) = name_end
        .map(|length| at + length)
        .filter(|name_end| *name_end > at)
    else {
        return nothing;
    };
    let name = &text[at..name_end];
    let equals = blank(name_end);
    if text.get(equals) != Some(&b'=') {
        return nothing;
    }
    let from = blank(equals + 1);
    let (to, next) = match text.get(from) {
        Some(quote @ (b'"' | b'\'' | b'`')) => match closing(text, from, *quote) {
            Some(close) => (close + 1, line_end(close) + 1),
            None => (bare_end(text, from, end), end + 1),
        },
        _ => (bare_end(text, from, end), end + 1),
    };
    (Some(Definition { name, from, to }), next)
}

/// The quote that closes the one at `from`. A backslash hides the next byte between double quotes only.
fn closing(text: &[u8], from: usize, quote: u8) -> Option<usize> {
    let mut at = from + 1;
    while let Some(byte) = text.get(at) {
        if *byte == quote {
            return Some(at);
        }
        at += if *byte == b'\\' && quote == b'"' {
            2
        } else {
            1
        };
    }
    None
}

/// Where a value without quotes ends: before a comment, blanks and the line's end.
fn bare_end(text: &[u8], from: usize, end: usize) -> usize {
    let from = from.min(end);
    let value = &text[from..end];
    let comment = value
        .iter()
        .enumerate()
        .position(|(at, byte)| *byte == b'#' && (at == 0 || value[at - 1].is_ascii_whitespace()));
    let value = &value[..comment.unwrap_or(value.len())];
    from + value.trim_ascii_end().len()
}

/// The value as both dialects read it back.
fn quoted(value: &str) -> Result<String, &'static str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_./:@%+,=-".contains(&byte);
    let has = |bytes: &[u8]| value.bytes().any(|byte| bytes.contains(&byte));
    if value.bytes().all(plain) {
        Ok(value.to_owned())
    } else if has(b"\0\r") {
        Err("the value holds a NUL or a carriage return")
    } else if !has(b"'\n") {
        Ok(format!("'{value}'"))
    } else if !has(b"\"$\\`") {
        Ok(format!("\"{}\"", value.replace('\n', "\\n")))
    } else {
        Err("the value mixes quotes and line ends so that readers would differ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_value_of_the_key_changes() {
        for (text, key, value, want) in [
            ("A=1\nB=2\n", "A", "3", "A=3\nB=2\n"),
            ("A=1", "B", "x y", "A=1\nB='x y'\n"),
            ("A=1\r\nB=2\r\n", "B", "3", "A=1\r\nB=3\r\n"),
            ("A=1\r\n", "C", "3", "A=1\r\nC=3\r\n"),
            (
                "#A=0\nexport A = 'old' # why\n",
                "A",
                "n",
                "#A=0\nexport A = n # why\n",
            ),
            ("A=one two # c\n", "A", "", "A= # c\n"),
            (
                "T=\"x\nA=inside\n\"\nA=1\n",
                "A",
                "2",
                "T=\"x\nA=inside\n\"\nA=2\n",
            ),
            ("A=\"a\\\"b\"\nAB=1\n", "A", "x", "A=x\nAB=1\n"),
            ("A=1\nA=2\n", "A", "3", "A=3\nA=3\n"),
            ("A=\"open\nB=1\n", "B", "2", "A=\"open\nB=2\n"),
            ("\u{feff}A=1\n", "A", "2", "\u{feff}A=2\n"),
            ("", "A", "it's", "A=\"it's\"\n"),
            ("A=\n", "A", "a$b\\c\"d", "A='a$b\\c\"d'\n"),
            ("A\n=1\nA=\n", "A", "l\nm", "A\n=1\nA=\"l\\nm\"\n"),
        ] {
            let got = edited(text.as_bytes(), key, value).unwrap();
            assert_eq!(
                String::from_utf8(got).unwrap(),
                want,
                "{text:?} {key}={value:?}"
            );
        }
    }

    #[test]
    fn what_readers_would_read_differently_is_refused() {
        for (key, value) in [
            ("A", "it's $HOME"),
            ("A", "a\0b"),
            ("A B", "x"),
            ("", "x"),
            ("1A", "x"),
        ] {
            assert!(edited(b"", key, value).is_err(), "{key}={value:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_edited_without_losing_other_bytes(text in "[A-C=\"'#\\\\ \n]{0,40}") {
            let new = edited(text.as_bytes(), "KEY", "v").unwrap();
            proptest::prop_assert!(new.starts_with(text.as_bytes()));
            let again = edited(&new, "KEY", "v").unwrap();
            let twice = new.len() + "KEY=v\n".len();
            // An open quote above may swallow the line; otherwise setting it again changes nothing.
            proptest::prop_assert!(again == new || again.len() == twice);
        }
    }
}
