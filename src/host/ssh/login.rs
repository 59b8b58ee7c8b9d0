//! Logging in on a connection whose host key has been judged: certificates, keys, then an ssh-agent's identities.
//!
//! Never a password, never a question to a person. Tries stay below what an SSH server allows before it hangs up.

use std::path::Path;

use russh::MethodKind;
use russh::client::AuthResult;
use russh::keys::PrivateKeyWithHashAlg;
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;

use super::dial::{Budget, Line};
use super::error::{SshError, Stage};
use super::keys::{Credentials, Offer};

/// One below the default `MaxAuthTries 6`, at whose last failure a server hangs up without a word.
const TRIES_MAX: usize = 5;

/// How one offer ended.
enum Tried {
    In,
    Refused,
    /// No other offer can help.
    Hopeless(String),
}

/// Logs in as `user`.
///
/// # Errors
/// When all offers are refused, or the connection breaks.
pub(super) async fn log_in(
    line: &mut Line,
    user: &str,
    credentials: &Credentials,
    budget: Budget,
) -> Result<(), SshError> {
    let at = line.at().to_owned();
    let refused = |reason: String| SshError::Login {
        at: at.clone(),
        reason,
    };
    let mut offered = Vec::new();
    for offer in credentials.offers.iter().take(TRIES_MAX) {
        let trying = async {
            match offer {
                Offer::Key { file, key } => {
                    offered.push(file.clone());
                    let key = PrivateKeyWithHashAlg::new(key.clone(), None);
                    line.handle.authenticate_publickey(user, key).await
                }
                Offer::Certificate {
                    file,
                    key,
                    certificate,
                } => {
                    offered.push(file.clone());
                    let certificate = certificate.as_ref().clone();
                    line.handle
                        .authenticate_openssh_cert(user, key.clone(), certificate)
                        .await
                }
            }
        };
        let answer = budget.step(&at, Stage::Login, trying).await?;
        match judge(answer.map_err(|error| broken(line, &error))?) {
            Tried::In => return Ok(()),
            Tried::Refused => {}
            // A connection that ends meanwhile is told as a refusal that leaves no way; it is none, and is tried again soon.
            Tried::Hopeless(_) if line.handle.is_closed() => {
                return Err(broken(line, &russh::Error::Disconnect));
            }
            Tried::Hopeless(reason) => return Err(refused(reason)),
        }
    }
    if let Some(socket) = &credentials.agent {
        let left = TRIES_MAX.saturating_sub(offered.len());
        let asking = from_agent(line, user, socket, left, &mut offered);
        match budget.step(&at, Stage::Login, asking).await?? {
            Tried::In => return Ok(()),
            Tried::Refused => {}
            Tried::Hopeless(reason) => return Err(refused(reason)),
        }
    }
    if offered.is_empty() {
        offered.push("nothing, since the ssh-agent holds no key that can be used".to_owned());
    }
    Err(refused(format!(
        "user {user} may not log in there with what was offered ({}); add the public key to its authorized_keys",
        offered.join(", ")
    )))
}

/// Offers what an ssh-agent holds, at most `tries` identities.
async fn from_agent(
    line: &mut Line,
    user: &str,
    socket: &Path,
    tries: usize,
    offered: &mut Vec<String>,
) -> Result<Tried, SshError> {
    let unusable = |error: &dyn std::fmt::Display| SshError::Key {
        file: socket.display().to_string(),
        reason: format!("this ssh-agent cannot be asked: {error}"),
    };
    let mut agent = AgentClient::connect_uds(socket)
        .await
        .map_err(|error| unusable(&error))?;
    // Keys that are bound to a destination need it; an agent that does not know it says no and serves the others.
    if let Some(binding) = line.handle.agent_session_binding().cloned() {
        drop(agent.bind_session(&binding, false).await);
    }
    let identities = agent
        .request_identities()
        .await
        .map_err(|error| unusable(&error))?;
    let usable = identities.into_iter().filter(|identity| match identity {
        AgentIdentity::PublicKey { key, .. } => !key.algorithm().is_rsa(),
        AgentIdentity::Certificate { certificate, .. } => !certificate.algorithm().is_rsa(),
    });
    for identity in usable.take(tries) {
        let answer = match identity {
            AgentIdentity::PublicKey { key, comment } => {
                offered.push(format!(
                    "ssh-agent: {}",
                    super::error::quoted(comment.as_bytes())
                ));
                line.handle
                    .authenticate_publickey_with(user, key, None, &mut agent)
                    .await
            }
            AgentIdentity::Certificate {
                certificate,
                comment,
            } => {
                offered.push(format!(
                    "ssh-agent: {}",
                    super::error::quoted(comment.as_bytes())
                ));
                line.handle
                    .authenticate_certificate_with(user, certificate, None, &mut agent)
                    .await
            }
        };
        let judged = match answer {
            Ok(answer) => judge(answer),
            Err(error) => return Err(unusable(&error)),
        };
        match judged {
            Tried::Refused => {}
            Tried::In | Tried::Hopeless(_) => return Ok(judged),
        }
    }
    Ok(Tried::Refused)
}

fn judge(answer: AuthResult) -> Tried {
    match answer {
        AuthResult::Success => Tried::In,
        AuthResult::Failure {
            partial_success: true,
            ..
        } => Tried::Hopeless(
            "it took the key and wants a second proof, which nobody can give here: exempt this user from it"
                .to_owned(),
        ),
        AuthResult::Failure {
            remaining_methods, ..
        } if remaining_methods.contains(&MethodKind::PublicKey) => Tried::Refused,
        AuthResult::Failure { .. } => {
            Tried::Hopeless("it takes no keys at all (PubkeyAuthentication)".to_owned())
        }
    }
}

fn broken(line: &Line, error: &russh::Error) -> SshError {
    let reason = match line.farewell() {
        Some(said) => format!("it hung up and said \"{said}\""),
        None => format!("it hung up ({error})"),
    };
    SshError::Failed {
        at: line.at().to_owned(),
        stage: Stage::Login,
        reason,
    }
}
