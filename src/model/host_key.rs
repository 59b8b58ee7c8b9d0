//! One pinned host key as text: what it may be, and its fingerprint.
//!
//! Pure. Nothing is trusted here: whether a key proves a host is judged where the host is reached.

use russh::keys::{Algorithm, HashAlg, PublicKey};

/// A key that a person may pin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostKey {
    /// `ssh-ed25519 AAAA…`, without a comment; `@revoked ` before one that must never be accepted again.
    pub text: String,
    /// `SHA256:…`, as `ssh-keygen -l` prints it.
    pub fingerprint: String,
    pub revoked: bool,
}

impl HostKey {
    /// Reads the second and third field of a line of `known_hosts`.
    ///
    /// # Errors
    /// A sentence about what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (revoked, key) = match text.strip_prefix("@revoked") {
            Some(rest) => (true, rest.trim_start()),
            None => (false, text),
        };
        if key.contains("PRIVATE KEY") {
            return Err("is a private key; a host key is the public one".to_owned());
        }
        let parsed = PublicKey::from_openssh(key)
            .map_err(|_| "is not a public key as `ssh-ed25519 AAAA…`".to_owned())?;
        let usable = matches!(
            parsed.algorithm(),
            Algorithm::Ed25519 | Algorithm::Ecdsa { .. }
        );
        if !usable && !revoked {
            return Err(format!(
                "is of the kind {}, which is not accepted",
                parsed.algorithm()
            ));
        }
        let mut fields = key.split_ascii_whitespace();
        let (kind, blob) = (
            fields.next().unwrap_or_default(),
            fields.next().unwrap_or_default(),
        );
        let mark = if revoked { "@revoked " } else { "" };
        Ok(Self {
            text: format!("{mark}{kind} {blob}"),
            fingerprint: parsed.fingerprint(HashAlg::Sha256).to_string(),
            revoked,
        })
    }

    /// Kind of the key, `ssh-ed25519`.
    pub fn kind(&self) -> &str {
        self.text
            .trim_start_matches("@revoked ")
            .split(' ')
            .next()
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

    #[test]
    fn a_pin_is_a_plain_key_with_the_fingerprint_that_others_print() {
        let key = HostKey::parse(&format!("  {KEY} root@web1\n")).unwrap();
        assert_eq!(
            (key.text.as_str(), key.kind(), key.revoked),
            (KEY, "ssh-ed25519", false)
        );
        assert_eq!(
            key.fingerprint,
            "SHA256:UCUiLr7Pjs9wFFJMDByLgc3NrtdU344OgUM45wZPcIQ"
        );
        let gone = HostKey::parse(&format!("@revoked {KEY}")).unwrap();
        assert!(gone.revoked);
        assert_eq!(gone.text, format!("@revoked {KEY}"));
        assert_eq!(gone.kind(), "ssh-ed25519");
    }

    #[test]
    fn what_is_no_usable_key_is_refused_in_words() {
        for (text, want) in [
            ("", "is not a public key"),
            ("web1 ssh-ed25519 AAAA", "is not a public key"),
            ("ssh-ed25519 AAAA", "is not a public key"),
            (
                "-----BEGIN OPENSSH PRIVATE KEY-----",
                "is a private key; a host key is the public one",
            ),
        ] {
            let error = HostKey::parse(text).unwrap_err();
            assert!(error.starts_with(want), "{text}: {error}");
        }
    }
}
