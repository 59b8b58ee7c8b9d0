//! The URL of an application and the origin to connect to, as far as a probe needs them.
//!
//! Pure. No names are looked up: an origin is an IP address or a Unix socket. Whatever could break out of a request
//! line (blanks, control characters) is refused.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// Where a URL points and what it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) tls: bool,
    /// Name or address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// Text of the Host header.
    pub(super) authority: String,
    /// Path and query; begins with `/`.
    pub(super) path: String,
}

impl Url {
    /// Reads `http://` and `https://` URLs with a host of ASCII letters (an international name in its `xn--` form).
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let shown: String = text.chars().take(80).collect();
        let (tls, rest) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            _ => return Err(format!("`{shown}` must begin with http:// or https://")),
        };
        let rest = rest.split('#').next().unwrap_or(rest);
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(at);
        if authority.contains('@') {
            return Err("user names and passwords in a URL are not supported".to_owned());
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest
                    .split_once(']')
                    .ok_or_else(|| format!("`{shown}` lacks a `]`"))?;
                if host.parse::<std::net::Ipv6Addr>().is_err() {
                    return Err(format!("`{host}` is not an IPv6 address"));
                }
                match port {
                    "" => (host, None),
                    port => (
                        host,
                        Some(port.strip_prefix(':').ok_or("`:` expected after `]`")?),
                    ),
                }
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let allowed =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
        if host.is_empty() || host.len() > 253 || !host.bytes().all(allowed) {
            return Err(format!("`{shown}` holds no host name of ASCII letters"));
        }
        let port = match port {
            None | Some("") => {
                if tls {
                    443
                } else {
                    80
                }
            }
            Some(port) => super::validate::port(port)?,
        };
        let path = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/{path}")
        };
        Self::check_path(&path)?;
        Ok(Self {
            tls,
            host: host.to_owned(),
            port,
            authority: authority.trim_end_matches(':').to_owned(),
            path,
        })
    }

    /// Can a text stand in a request line as path and query?
    pub(super) fn check_path(path: &str) -> Result<(), String> {
        if !path.starts_with('/') {
            return Err("must begin with `/`".to_owned());
        }
        if path.len() > 8_192 || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("must be ASCII without blanks, other bytes as %XX".to_owned());
        }
        Ok(())
    }
}

/// Where to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Origin {
    /// Reads `127.0.0.1:8080`, `[::1]:80`, `localhost:80` (which is 127.0.0.1) or `unix:/path`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.starts_with('/') && path.len() <= 107 {
                Ok(Self::Unix(PathBuf::from(path)))
            } else {
                Err("the path of a Unix socket is absolute and at most 107 bytes long".to_owned())
            };
        }
        let literal = match text.strip_prefix("localhost:") {
            Some(port) => format!("127.0.0.1:{port}"),
            None => text.to_owned(),
        };
        literal
            .parse()
            .ok()
            .filter(|address: &SocketAddr| address.port() != 0)
            .map(Self::Tcp)
            .ok_or_else(|| {
                let shown: String = text.chars().take(80).collect();
                format!(
                    "`{shown}` is not an address such as 127.0.0.1:8080, [::1]:80 or unix:/path"
                )
            })
    }

    /// This machine, at the URL's port.
    pub(super) fn local(port: u16) -> Self {
        Self::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        for (text, want) in [
            (
                "http://shop.example",
                Some((false, "shop.example", 80, "/")),
            ),
            (
                "HTTPS://shop.example/a?b=c#d",
                Some((true, "shop.example", 443, "/a?b=c")),
            ),
            ("http://[::1]:8080/x", Some((false, "::1", 8080, "/x"))),
            ("http://a:81?q", Some((false, "a", 81, "/?q"))),
            ("http://u:p@a/", None),
            ("http:///x", None),
            ("http://a:0/", None),
            ("http://a/ b", None),
            ("http://a/\r\nX: 1", None),
            ("http://a\r\nX:1/", None),
            ("http://[::1/", None),
            ("a.example/", None),
            ("", None),
        ] {
            let url = Url::parse(text).ok();
            let parts = url
                .as_ref()
                .map(|url| (url.tls, url.host.as_str(), url.port, url.path.as_str()));
            assert_eq!(parts, want, "{text}");
        }
    }

    #[test]
    fn origins_are_addresses_and_never_names() {
        for (text, good) in [
            ("127.0.0.1:8080", true),
            ("[::1]:80", true),
            ("localhost:3000", true),
            ("unix:/run/php.sock", true),
            ("unix:run", false),
            ("shop.example:80", false),
            ("127.0.0.1", false),
            ("127.0.0.1:0", false),
        ] {
            assert_eq!(Origin::parse(text).is_ok(), good, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_url_breaks_out_of_its_request_line(text in "http://\\PC{0,30}[\r\n \t/a:\\[\\]]{0,10}") {
            if let Ok(url) = Url::parse(&text) {
                assert!(url.path.bytes().all(|byte| byte.is_ascii_graphic()));
                assert!(url.authority.bytes().all(|byte| byte.is_ascii_graphic()));
            }
        }
    }
}
