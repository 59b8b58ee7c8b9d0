//! Pinned host keys: which ones prove that a host is the one.
//!
//! Pure. A pin is an exact key; there is no trust on first use, no certificate authority and no wildcard. A pin that
//! cannot be read makes all of them useless, because nobody knows any more what the operator meant.

use std::borrow::Cow;

use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PublicKey};

use super::error::Doubt;

/// What a host key may be: RSA is missing, since it cannot be verified here.
pub(super) const KINDS: [Algorithm; 4] = [
    Algorithm::Ed25519,
    Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP256,
    },
    Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP384,
    },
    Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP521,
    },
];

/// Marks a pin as one that must never be accepted again.
const REVOKED: &str = "@revoked";

/// The pins of one hop.
#[derive(Debug, Clone, Default)]
pub(super) struct Pins {
    trusted: Vec<PublicKey>,
    revoked: Vec<PublicKey>,
}

/// `SHA256:…`, as every SSH program prints it.
pub fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

impl Pins {
    /// Reads pins as they are configured.
    ///
    /// # Errors
    /// When one of them is no key, or of a kind that cannot be used.
    pub(super) fn parse(lines: &[String]) -> Result<Self, Doubt> {
        let mut pins = Self::default();
        for (index, line) in lines.iter().enumerate() {
            let bad = |reason: String| Doubt::UnreadablePin {
                number: index + 1,
                reason,
            };
            let (list, text) = match line.trim().strip_prefix(REVOKED) {
                Some(rest) => (&mut pins.revoked, rest.trim_start()),
                None => (&mut pins.trusted, line.trim()),
            };
            if text.starts_with('@') {
                return Err(bad("certificate authorities are not believed".to_owned()));
            }
            let key = PublicKey::from_openssh(text).map_err(|error| bad(error.to_string()))?;
            let usable = KINDS.contains(&key.algorithm());
            if !usable && !key.algorithm().is_rsa() {
                return Err(bad(format!("{} cannot be used", key.algorithm())));
            }
            // A revoked RSA key is never offered to us; it does no harm in the list.
            if !usable && !line.trim().starts_with(REVOKED) {
                return Err(bad("ssh-rsa cannot be used, pin an ed25519 key".to_owned()));
            }
            list.push(key);
        }
        // Revoking wins over trusting, whatever the order.
        let revoked = pins.revoked.clone();
        pins.trusted
            .retain(|key| !revoked.iter().any(|gone| gone.key_data() == key.key_data()));
        Ok(pins)
    }

    /// Kinds to ask the host for: those pinned, or all when none is, so that the doubt can tell what it offers.
    pub(super) fn kinds(&self) -> Cow<'static, [Algorithm]> {
        let pinned: Vec<Algorithm> = KINDS
            .iter()
            .filter(|kind| self.trusted.iter().any(|key| key.algorithm() == **kind))
            .cloned()
            .collect();
        if pinned.is_empty() {
            Cow::Borrowed(&KINDS)
        } else {
            Cow::Owned(pinned)
        }
    }

    /// Fingerprints of the trusted keys.
    pub(super) fn fingerprints(&self) -> Vec<String> {
        self.trusted.iter().map(fingerprint).collect()
    }

    /// Does this key prove that the host is the one?
    ///
    /// # Errors
    /// Why not.
    pub(super) fn judge(&self, offered: &PublicKey) -> Result<(), Doubt> {
        let same = |key: &PublicKey| key.key_data() == offered.key_data();
        if self.revoked.iter().any(same) {
            Err(Doubt::Revoked)
        } else if self.trusted.iter().any(same) {
            Ok(())
        } else if self.trusted.is_empty() {
            Err(Doubt::NothingPinned)
        } else {
            Err(Doubt::OtherKey {
                expected: self.fingerprints(),
            })
        }
    }

    /// What is to be said of a host that has no key of our kinds. `None`: it has only RSA keys.
    pub(super) fn without_common_kind(&self, offers: &[String]) -> Option<Doubt> {
        let usable: Vec<String> = offers
            .iter()
            .filter(|name| KINDS.iter().any(|kind| kind.as_str() == name.as_str()))
            .cloned()
            .collect();
        if usable.is_empty() {
            return None;
        }
        Some(Doubt::OtherKind {
            expected: self.fingerprints(),
            offers: usable,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";
    const TWO: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPKSUTyz1HwHReFVvD5obVsALAgJRNarH4TRpNePnAS";

    fn pins(lines: &[&str]) -> Result<Pins, Doubt> {
        let lines: Vec<String> = lines.iter().map(|&line| line.to_owned()).collect();
        Pins::parse(&lines)
    }

    fn key(text: &str) -> PublicKey {
        PublicKey::from_openssh(text).unwrap()
    }

    #[test]
    fn only_an_exact_pinned_key_is_believed() {
        let revoked = format!("@revoked {ONE}");
        for (case, lines, offered, want) in [
            ("pinned", vec![ONE], ONE, Ok(())),
            ("one of two slots", vec![TWO, ONE], ONE, Ok(())),
            (
                "a comment does not count",
                vec![ONE],
                &format!("{ONE} root@web1"),
                Ok(()),
            ),
            ("nothing pinned", vec![], ONE, Err(Doubt::NothingPinned)),
            (
                "another",
                vec![TWO],
                ONE,
                Err(Doubt::OtherKey {
                    expected: vec![fingerprint(&key(TWO))],
                }),
            ),
            ("revoked", vec![TWO, &revoked], ONE, Err(Doubt::Revoked)),
            (
                "revoked and pinned",
                vec![ONE, &revoked],
                ONE,
                Err(Doubt::Revoked),
            ),
        ] {
            assert_eq!(pins(&lines).unwrap().judge(&key(offered)), want, "{case}");
        }
    }

    #[test]
    fn a_pin_that_cannot_be_read_spoils_them_all() {
        for bad in [
            "",
            "web1",
            "ssh-ed25519",
            "ssh-ed25519 AAAA",
            "web1 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti",
            "@cert-authority ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti",
        ] {
            let error = pins(&[ONE, bad]).unwrap_err();
            assert!(
                matches!(error, Doubt::UnreadablePin { number: 2, .. }),
                "{bad}: {error:?}"
            );
        }
    }

    #[test]
    fn the_host_is_asked_for_pinned_kinds_only() {
        assert_eq!(*pins(&[ONE]).unwrap().kinds(), [Algorithm::Ed25519]);
        assert_eq!(*pins(&[]).unwrap().kinds(), KINDS);
    }

    #[test]
    fn a_host_with_rsa_keys_alone_is_told_from_one_with_another_kind() {
        let pins = pins(&[ONE]).unwrap();
        let names = |list: &[&str]| -> Vec<String> { list.iter().map(|&n| n.to_owned()).collect() };
        let rsa = names(&["rsa-sha2-512", "rsa-sha2-256", "ssh-rsa"]);
        assert_eq!(pins.without_common_kind(&rsa), None);
        let other = pins.without_common_kind(&names(&["rsa-sha2-512", "ecdsa-sha2-nistp256"]));
        assert_eq!(
            other,
            Some(Doubt::OtherKind {
                expected: vec![fingerprint(&key(ONE))],
                offers: names(&["ecdsa-sha2-nistp256"]),
            })
        );
    }
}
