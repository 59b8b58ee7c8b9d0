use proptest::prelude::*;

use super::*;

type Want<'a> = Option<&'a [(&'a str, &'a str)]>;

fn check(dialect: Dialect, rows: &[(&[u8], Want<'_>)]) {
    for (text, want) in rows {
        let got = parse(text, dialect).ok();
        let want = want.map(|pairs| {
            pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect::<BTreeMap<_, _>>()
        });
        assert_eq!(got, want, "{}", String::from_utf8_lossy(text));
    }
}

/// What vlucas/phpdotenv 5 answered for the same texts; the open quote at the end is the one exception.
#[test]
fn php_files_are_read_as_phpdotenv_reads_them() {
    check(
        Dialect::Php,
        &[
            (b"A=1", Some(&[("A", "1")])),
            (b"export A=1", None),
            (b"export AB=1", Some(&[("AB", "1")])),
            (b"exportA=1", Some(&[("exportA", "1")])),
            (b"A = b", Some(&[("A", "b")])),
            (b"A=b c", None),
            (b"A=b # c", Some(&[("A", "b")])),
            (b"A=b\t#c", Some(&[("A", "b")])),
            (b"A=b#c", Some(&[("A", "b")])),
            (b"A=#x", Some(&[("A", "")])),
            (b"A='x\\'y'", None),
            (b"A='a' b", None),
            (b"A=\"x\\\"y\"", Some(&[("A", "x\"y")])),
            (b"A=\"x\\ny\"", Some(&[("A", "x\ny")])),
            (b"A=\"x\\qy\"", None),
            (b"\xEF\xBB\xBFA=1", Some(&[("A", "1")])),
            (
                b"A=\"l1\nl2\" # c\nB=2",
                Some(&[("A", "l1\nl2"), ("B", "2")]),
            ),
            (b"A='l1\nl2'", None),
            (b"A=x\"y\nB=2", Some(&[("A", "x\"y"), ("B", "2")])),
            (b"A=\"x\ny=\"z\"", None),
            (b"A=\"\"\"", None),
            (b"A", Some(&[("A", "")])),
            (b"A=", Some(&[("A", "")])),
            (b"=x", None),
            (b"A-B=1", None),
            ("A\u{d6}=1".as_bytes(), None),
            (b"'A'=1", Some(&[("A", "1")])),
            (b"A=${B}x", Some(&[("A", "${B}x")])),
            (b"A=\"\\${B}\"", Some(&[("A", "${B}")])),
            (
                b"A=1\rB=2\r\n\r\n#C=3\n D=4",
                Some(&[("A", "1"), ("B", "2"), ("D", "4")]),
            ),
            (b"A=1\nA=2", Some(&[("A", "2")])),
            (b"A=a=b", Some(&[("A", "a=b")])),
            (b"B=1\nA=\"torn", None),
            (b"", Some(&[])),
        ],
    );
}

#[test]
fn node_files_are_read_as_dotenv_reads_them() {
    check(
        Dialect::Node,
        &[
            (b"A=1", Some(&[("A", "1")])),
            (b"export A=1", Some(&[("A", "1")])),
            (b"A: 1", Some(&[("A", "1")])),
            (b"A:1", Some(&[])),
            (b"A = b c ", Some(&[("A", "b c")])),
            (b"A=b#c", Some(&[("A", "b")])),
            (b"A=\"b # c\" # d", Some(&[("A", "b # c")])),
            (b"A='x\\ny'", Some(&[("A", "x\\ny")])),
            (b"A=\"x\\ny\"", Some(&[("A", "x\ny")])),
            (b"A=\"l1\nl2\"\nB=2", Some(&[("A", "l1\nl2"), ("B", "2")])),
            (b"A=`x 'y' \"z\"`", Some(&[("A", "x 'y' \"z\"")])),
            (b"A=\"torn\nB=2", Some(&[("A", "\"torn"), ("B", "2")])),
            (b"A='a' b", Some(&[("A", "'a' b")])),
            (b"A='a' b'", Some(&[("A", "a' b")])),
            (b"A=\"a\\\"", Some(&[("A", "a\\")])),
            (b"A=", Some(&[("A", "")])),
            (b"A=\nB=2", Some(&[("A", ""), ("B", "2")])),
            (
                b"\xEF\xBB\xBFA=1\r\nB=2\r\nA=3",
                Some(&[("A", "3"), ("B", "2")]),
            ),
            (b"just words\nA-B.c=1", Some(&[("A-B.c", "1")])),
            (b"#A=1\n=x\nB=${A}", Some(&[("B", "${A}")])),
        ],
    );
}

#[test]
fn an_error_names_the_line_and_never_the_value() {
    let error = parse(b"A=1\nB=canary secret\n", Dialect::Php).unwrap_err();
    assert_eq!(error.line, 2);
    assert!(!error.to_string().contains("canary"));
}

proptest! {
    #[test]
    fn no_bytes_make_a_parser_panic(bytes in proptest::collection::vec(0_u8.., 0..200)) {
        for dialect in [Dialect::Php, Dialect::Node] {
            prop_assert_eq!(parse(&bytes, dialect), parse(&bytes, dialect));
        }
    }

    #[test]
    fn likely_texts_make_no_parser_panic(text in "([A-C]|export |=|\"|'|`|\\\\|\n|\r|#|\\$|\\{|:| |x){0,40}") {
        for dialect in [Dialect::Php, Dialect::Node] {
            prop_assert_eq!(parse(text.as_bytes(), dialect), parse(text.as_bytes(), dialect));
        }
    }

    #[test]
    fn written_files_come_back(
        entries in proptest::collection::btree_map("[A-Z_][A-Z0-9_]{0,8}", "[ -~\n]{0,20}", 0..8)
    ) {
        let text: String = entries
            .iter()
            .map(|(key, value)| {
                let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
                [key.as_str(), "=\"", &value, "\"\n"].concat()
            })
            .collect();
        prop_assert_eq!(parse(text.as_bytes(), Dialect::Php), Ok(entries));
    }

    #[test]
    fn written_node_files_come_back(
        entries in proptest::collection::btree_map("[A-Z_][A-Z0-9_]{0,8}", "[ -&(-~\n]{0,20}", 0..8)
    ) {
        // Node's dialect cannot say a backslash before the closing quote.
        let entries: BTreeMap<String, String> = entries
            .into_iter()
            .map(|(key, value)| (key, value.replace('\\', "/")))
            .collect();
        let text: String = entries
            .iter()
            .map(|(key, value)| [key.as_str(), "='", value, "'\n"].concat())
            .collect();
        prop_assert_eq!(parse(text.as_bytes(), Dialect::Node), Ok(entries));
    }
}
