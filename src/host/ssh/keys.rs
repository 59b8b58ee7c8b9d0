//! The daemon's own keys and certificates, read and judged before anything is sent.
//!
//! A key file that others could read, that asks for a passphrase or that holds an RSA key is refused with the reason;
//! none is passed over in silence, because then a login would fail for a reason that nobody can see.

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh::keys::ssh_key::certificate::CertType;
use russh::keys::{Certificate, PrivateKey};

use super::error::SshError;
use crate::model::host::SshSettings;

/// No key or certificate is longer.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// One thing that a host can be offered.
#[derive(Debug, Clone)]
pub(super) enum Offer {
    Key {
        file: String,
        key: Arc<PrivateKey>,
    },
    Certificate {
        file: String,
        key: Arc<PrivateKey>,
        certificate: Box<Certificate>,
    },
}

/// Everything a host can be offered, in the order of the offers: certificates, keys, then the ssh-agent's.
#[derive(Debug, Clone, Default)]
pub(super) struct Credentials {
    pub(super) offers: Vec<Offer>,
    pub(super) agent: Option<PathBuf>,
}

impl Credentials {
    /// Reads what the settings name. `wall_ms` judges the time of certificates.
    ///
    /// # Errors
    /// When a file cannot be used, or none is named.
    pub(super) fn load(settings: &SshSettings, wall_ms: i64) -> Result<Self, SshError> {
        let mut keys = Vec::new();
        for path in &settings.keys {
            keys.push((path.display().to_string(), Arc::new(private_key(path)?)));
        }
        let mut offers = Vec::new();
        for path in &settings.certificates {
            let certificate = certificate(path, wall_ms)?;
            let (_, key) = keys
                .iter()
                .find(|(_, key)| key.public_key().key_data() == certificate.public_key())
                .ok_or_else(|| {
                    refuse(
                        path,
                        "this certificate belongs to none of the configured keys",
                    )
                })?;
            offers.push(Offer::Certificate {
                file: path.display().to_string(),
                key: Arc::clone(key),
                certificate: Box::new(certificate),
            });
        }
        offers.extend(keys.into_iter().map(|(file, key)| Offer::Key { file, key }));
        if offers.is_empty() && settings.agent.is_none() {
            return Err(nothing_named());
        }
        Ok(Self {
            offers,
            agent: settings.agent.clone(),
        })
    }
}

fn nothing_named() -> SshError {
    SshError::Key {
        file: "nothing to log in with".to_owned(),
        reason: "name a key file or an ssh-agent's socket for this host".to_owned(),
    }
}

/// The public halves of the key files that can be used, as lines of `authorized_keys`.
pub(super) fn public_halves(settings: &SshSettings) -> Vec<String> {
    settings
        .keys
        .iter()
        .filter_map(|path| private_key(path).ok()?.public_key().to_openssh().ok())
        .collect()
}

fn refuse(path: &Path, reason: impl Into<String>) -> SshError {
    SshError::Key {
        file: path.display().to_string(),
        reason: reason.into(),
    }
}

fn read(path: &Path, private: bool) -> Result<String, SshError> {
    let cannot = |error: std::io::Error| refuse(path, format!("cannot be read: {error}"));
    let file = std::fs::File::open(path).map_err(cannot)?;
    let meta = file.metadata().map_err(cannot)?;
    if !meta.is_file() {
        return Err(refuse(path, "is not a file"));
    }
    if private {
        let own = rustix::process::geteuid().as_raw();
        if meta.uid() != own && meta.uid() != 0 {
            return Err(refuse(
                path,
                format!(
                    "this key file belongs to uid {}; it must belong to uid {own} or root",
                    meta.uid()
                ),
            ));
        }
        // What systemd hands over as a credential belongs to root and bears the service's access list in its group bits.
        let loose = if meta.uid() == own { 0o077 } else { 0o007 };
        if meta.mode() & loose != 0 {
            return Err(refuse(
                path,
                format!(
                    "others could read this key file (mode {:04o}): chmod 600",
                    meta.mode() & 0o7777
                ),
            ));
        }
    }
    let mut text = String::new();
    file.take(FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(cannot)?;
    Ok(text)
}

fn private_key(path: &Path) -> Result<PrivateKey, SshError> {
    let text = read(path, true)?;
    let rsa = "RSA keys (ssh-rsa) cannot be used: make an ed25519 key (ssh-keygen -t ed25519) and add it to authorized_keys on the host";
    let encrypted = "this key file asks for a passphrase, which nobody can type here: use a key without one, or an ssh-agent";
    // Refused by its header, because without RSA support such a file cannot even be taken apart.
    if text.starts_with("-----BEGIN RSA PRIVATE KEY-----") {
        return Err(refuse(path, rsa));
    }
    if text.starts_with("ssh-") || text.starts_with("ecdsa-") {
        return Err(refuse(path, "this is a public key; name the private one"));
    }
    match russh::keys::decode_secret_key(&text, None) {
        Ok(key) if key.algorithm().is_rsa() => Err(refuse(path, rsa)),
        Ok(key) if key.is_encrypted() => Err(refuse(path, encrypted)),
        Ok(key) => Ok(key),
        Err(russh::keys::Error::KeyIsEncrypted) => Err(refuse(path, encrypted)),
        Err(error) => Err(refuse(
            path,
            format!("is not a private key that can be used: {error}"),
        )),
    }
}

fn certificate(path: &Path, wall_ms: i64) -> Result<Certificate, SshError> {
    let text = read(path, false)?;
    let certificate = Certificate::from_openssh(text.trim())
        .map_err(|error| refuse(path, format!("is not an OpenSSH certificate: {error}")))?;
    if certificate.cert_type() != CertType::User {
        return Err(refuse(
            path,
            "this is a host's certificate and not a user's",
        ));
    }
    let now = u64::try_from(wall_ms / 1000).unwrap_or(0);
    if now < certificate.valid_after() {
        return Err(refuse(path, "this certificate is not valid yet"));
    }
    if now >= certificate.valid_before() {
        return Err(refuse(
            path,
            "this certificate has expired: have a new one issued",
        ));
    }
    Ok(certificate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::redact;

    #[test]
    fn what_is_wrong_with_a_key_is_not_taken_for_the_key() {
        let missing = Path::new("/nonexistent/deploy_key");
        let advice = |error: &SshError| {
            let text = error.to_string();
            assert_eq!(redact::hide(&text), text);
            text
        };
        let none = nothing_named();
        assert!(advice(&none).contains("name a key file"), "{none}");
        let unread = private_key(missing).unwrap_err();
        assert!(
            advice(&unread).contains("/nonexistent/deploy_key"),
            "{unread}"
        );
    }
}
