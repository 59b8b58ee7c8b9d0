//! Reading an HTTP/1.1 response from a stream, with a bound on everything.
//!
//! Strict where laxness would guess (two lengths that differ, a chunk size that is no number), lax where servers are
//! (a bare newline ends a line).

use std::io::{self, Read};

/// Headers together.
const HEADER_BYTES_MAX: usize = 64 << 10;
/// The body is read up to here and then left.
pub(super) const BODY_BYTES_MAX: u64 = 1 << 20;
/// So much of the body is kept for looking into.
pub(super) const KEPT_BYTES_MAX: usize = 256 << 10;
/// Interim (1xx) responses before the real one.
const INTERIM_MAX: usize = 8;

/// Why there is no whole response.
#[derive(Debug)]
#[expect(
    dead_code,
    reason = "the words are for whoever debugs it; the fact is one word"
)]
pub(super) enum Broken {
    /// The other side does not speak HTTP as we know it, or hung up in the middle.
    Protocol(&'static str),
    Io(io::Error),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Protocol("ended in the middle"),
            _ => Self::Io(error),
        }
    }
}

/// Status line and the headers that matter.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) location: Option<String>,
    length: Option<u64>,
    chunked: bool,
}

/// What came of a body.
#[derive(Debug, Default)]
pub(super) struct Body {
    /// Decoded bytes read, at most [`BODY_BYTES_MAX`].
    pub(super) bytes: u64,
    /// The first of them.
    pub(super) kept: Vec<u8>,
}

impl Body {
    fn take(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        let room = KEPT_BYTES_MAX
            .saturating_sub(self.kept.len())
            .min(bytes.len());
        self.kept.extend_from_slice(&bytes[..room]);
    }

    fn room(&self) -> u64 {
        BODY_BYTES_MAX.saturating_sub(self.bytes)
    }
}

/// A stream with what was read too far.
#[derive(Debug)]
pub(super) struct Reader<S> {
    stream: S,
    buffer: Vec<u8>,
    at: usize,
}

impl<S: Read> Reader<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            at: 0,
        }
    }

    /// Reads more; 0 at the end. A TLS peer that hangs up without saying so counts as the end too, because lengths
    /// say whether something is missing.
    fn fill(&mut self) -> io::Result<usize> {
        self.buffer.resize(16 << 10, 0);
        self.at = 0;
        let read = match self.stream.read(&mut self.buffer) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            other => other,
        };
        self.buffer.truncate(*read.as_ref().unwrap_or(&0));
        read
    }

    fn rest(&self) -> &[u8] {
        self.buffer.get(self.at..).unwrap_or(&[])
    }

    /// One line without its end; `budget` shrinks by what was read.
    fn line(&mut self, budget: &mut usize) -> Result<Vec<u8>, Broken> {
        let mut line = Vec::new();
        loop {
            let rest = self.rest();
            let (taken, done) = match rest.iter().position(|byte| *byte == b'\n') {
                Some(at) => (at + 1, true),
                None => (rest.len(), false),
            };
            *budget = budget
                .checked_sub(taken)
                .ok_or(Broken::Protocol("headers or chunk lines too long"))?;
            line.extend_from_slice(&rest[..taken]);
            self.at += taken;
            if done {
                while matches!(line.last(), Some(b'\n' | b'\r')) {
                    line.pop();
                }
                return Ok(line);
            }
            if self.fill()? == 0 {
                return Err(Broken::Protocol("ended in the middle"));
            }
        }
    }

    /// Status line and headers of the final response.
    pub(super) fn head(&mut self) -> Result<Head, Broken> {
        let mut budget = HEADER_BYTES_MAX;
        for _ in 0..INTERIM_MAX {
            let mut head = Head {
                status: status(&self.line(&mut budget)?)?,
                ..Head::default()
            };
            loop {
                let line = self.line(&mut budget)?;
                if line.is_empty() {
                    break;
                }
                header(&mut head, &line)?;
            }
            if !(100..200).contains(&head.status) {
                return Ok(head);
            }
        }
        Err(Broken::Protocol("too many interim responses"))
    }

    /// The body, as far as the limits go. What was read stands in `body` also when it breaks off.
    pub(super) fn body(&mut self, head: &Head, body: &mut Body) -> Result<(), Broken> {
        if matches!(head.status, 204 | 304) {
            Ok(())
        } else if head.chunked {
            self.chunks(body)
        } else if let Some(length) = head.length {
            self.exactly(length, body)
        } else {
            while body.room() > 0 && !self.some(u64::MAX, body)?.is_end {}
            Ok(())
        }
    }

    /// Takes what is at hand, at most `most` and what the body has room for.
    fn some(&mut self, most: u64, body: &mut Body) -> Result<Taken, Broken> {
        if self.rest().is_empty() && self.fill()? == 0 {
            return Ok(Taken {
                bytes: 0,
                is_end: true,
            });
        }
        let most = usize::try_from(most.min(body.room())).unwrap_or(usize::MAX);
        let taken = self.rest().len().min(most);
        body.take(&self.buffer[self.at..self.at + taken]);
        self.at += taken;
        Ok(Taken {
            bytes: taken as u64,
            is_end: false,
        })
    }

    fn exactly(&mut self, length: u64, body: &mut Body) -> Result<(), Broken> {
        let mut left = length;
        while left > 0 && body.room() > 0 {
            let taken = self.some(left, body)?;
            if taken.is_end {
                return Err(Broken::Protocol("ended in the middle"));
            }
            left -= taken.bytes;
        }
        Ok(())
    }

    fn chunks(&mut self, body: &mut Body) -> Result<(), Broken> {
        loop {
            // Extensions may follow the size; a budget per line keeps them short.
            let line = self.line(&mut 1_024)?;
            let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
            let size = std::str::from_utf8(digits)
                .ok()
                .map(str::trim)
                .filter(|text| {
                    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
                })
                .and_then(|text| u64::from_str_radix(text, 16).ok())
                .ok_or(Broken::Protocol("a chunk without a size"))?;
            if size == 0 || body.room() == 0 {
                return Ok(()); // trailers say nothing that is asked for
            }
            self.exactly(size, body)?;
            if body.room() == 0 {
                return Ok(());
            }
            if !self.line(&mut 2)?.is_empty() {
                return Err(Broken::Protocol("a chunk longer than its size"));
            }
        }
    }
}

struct Taken {
    bytes: u64,
    is_end: bool,
}

fn status(line: &[u8]) -> Result<u16, Broken> {
    let bad = Broken::Protocol("no HTTP status line");
    let Some(rest) = line
        .strip_prefix(b"HTTP/1.1 ")
        .or_else(|| line.strip_prefix(b"HTTP/1.0 "))
    else {
        return Err(bad);
    };
    match rest {
        [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', tail @ ..]
            if tail.first().is_none_or(|byte| *byte == b' ') =>
        {
            let digit = |byte: u8| u16::from(byte - b'0');
            Ok(digit(*a) * 100 + digit(*b) * 10 + digit(*c))
        }
        _ => Err(bad),
    }
}

fn header(head: &mut Head, line: &[u8]) -> Result<(), Broken> {
    let Some(at) = line.iter().position(|byte| *byte == b':') else {
        return Err(Broken::Protocol("a header without a colon"));
    };
    let value = String::from_utf8_lossy(&line[at + 1..]);
    let value = value.trim();
    let name = &line[..at];
    if name.eq_ignore_ascii_case(b"content-length") {
        let length: u64 = value
            .parse()
            .map_err(|_| Broken::Protocol("a length that is no number"))?;
        if head.length.is_some_and(|other| other != length) {
            return Err(Broken::Protocol("two lengths that differ"));
        }
        head.length = Some(length);
    } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
        head.chunked = value
            .rsplit(',')
            .next()
            .is_some_and(|last| last.trim().eq_ignore_ascii_case("chunked"));
    } else if name.eq_ignore_ascii_case(b"location") && head.location.is_none() {
        head.location = Some(
            value
                .chars()
                .filter(|c| !c.is_control())
                .take(2_048)
                .collect(),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One byte per read, as the slowest peer would send.
    struct Slow<'a>(&'a [u8]);
    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let taken = self.0.len().min(1).min(buffer.len());
            buffer[..taken].copy_from_slice(&self.0[..taken]);
            self.0 = &self.0[taken..];
            Ok(taken)
        }
    }

    fn read(stream: impl Read) -> Result<(Head, Body), Broken> {
        let mut reader = Reader::new(stream);
        let head = reader.head()?;
        let mut body = Body::default();
        reader.body(&head, &mut body)?;
        Ok((head, body))
    }

    #[test]
    fn responses_are_read_alike_in_one_piece_and_byte_by_byte() {
        for (text, want) in [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello world",
                Some((200, "hello")),
            ),
            ("HTTP/1.0 404 Not Found\n\ngone", Some((404, "gone"))),
            ("HTTP/1.1 500\r\n\r\n", Some((500, ""))),
            ("HTTP/1.1 204 No Content\r\n\r\nignored", Some((204, ""))),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nx",
                Some((200, "x")),
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
                Some((200, "abcde")),
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
                None,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
                None,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n",
                None,
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", None),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
                None,
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", None),
            ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", None),
            ("HTTP/1.1 2000 OK\r\n\r\n", None),
            ("SSH-2.0-OpenSSH_9.2\r\n", None),
            ("", None),
        ] {
            for answer in [read(text.as_bytes()), read(Slow(text.as_bytes()))] {
                let got = answer
                    .ok()
                    .map(|(head, body)| (head.status, String::from_utf8(body.kept).unwrap()));
                assert_eq!(
                    got,
                    want.map(|(status, body)| (status, body.to_owned())),
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn nothing_endless_is_read_to_its_end() {
        let endless_header = b"HTTP/1.1 200 OK\r\n".chain(io::repeat(b'x'));
        assert!(matches!(read(endless_header), Err(Broken::Protocol(_))));
        let endless_headers = "a: b\r\n".repeat(20_000);
        let text = format!("HTTP/1.1 200 OK\r\n{endless_headers}");
        assert!(matches!(read(text.as_bytes()), Err(Broken::Protocol(_))));
        let endless_body = b"HTTP/1.1 200 OK\r\n\r\n".chain(io::repeat(b'x'));
        let (_, body) = read(endless_body).unwrap();
        assert_eq!(body.bytes, BODY_BYTES_MAX);
        assert_eq!(body.kept.len(), KEPT_BYTES_MAX);
        let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(100);
        assert!(matches!(read(interim.as_bytes()), Err(Broken::Protocol(_))));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(0_u8.., 0..300)) {
            let mut text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            let whole = read(&bytes[..]).is_ok();
            assert_eq!(whole, read(Slow(&bytes)).is_ok());
            text.extend_from_slice(&bytes);
            assert_eq!(read(&text[..]).is_ok(), read(Slow(&text)).is_ok());
        }
    }
}
