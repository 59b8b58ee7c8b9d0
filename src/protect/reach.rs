//! Asking one host about one application within one deadline.
//!
//! Pages, pulls and time limits are settled here, so that what is done with the answers reads as if they were local.
//! Nothing is written on the host.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use healer_agent::protocol::{Answer, BODY_BYTES_MAX, Refusal, RefusalCode, Request, Target};
use healer_agent::tree::{EntryState, Manifest, Pattern, StatKey, TreePath};

use super::error::ProtectError;
use crate::model::app::App;
use crate::seam::vault::BlobSink;
use crate::seam::{Call, Host, HostError, Lane, Login, Reply, World};

/// Entries asked for in one page; the agent cuts it shorter where a frame is full.
const PAGE_ENTRIES: u32 = 4096;
/// Longest wait for one answer.
const CALL: Duration = Duration::from_mins(1);

/// What was found below a set of members.
#[derive(Debug, Clone, Default)]
pub(super) struct Listing {
    /// The real directories.
    pub(super) roots: Vec<String>,
    pub(super) entries: Manifest,
    pub(super) unreadable: BTreeMap<TreePath, String>,
}

/// How reading one file ended early.
#[derive(Debug)]
pub(super) enum PullError {
    /// It is no longer the file that was listed, or not there any more.
    Changed,
    /// It cannot be read.
    Refused(String),
    Other(ProtectError),
}

/// One application on one host, through one login.
pub(super) struct Reach<'a> {
    world: &'a World,
    host: Arc<dyn Host>,
    target: &'a Target,
    login: Login,
    began_ms: i64,
    time: Duration,
}

impl<'a> Reach<'a> {
    pub(super) fn new(
        world: &'a World,
        app: &'a App,
        login: Login,
        time: Duration,
    ) -> Result<Self, ProtectError> {
        let host = world
            .hosts
            .get(&app.host)
            .ok_or_else(|| ProtectError::NoHost(app.host.clone()))?;
        Ok(Self {
            world,
            host,
            target: &app.target,
            login,
            began_ms: world.clock.now().boot_ms,
            time,
        })
    }

    pub(super) fn target(&self) -> &Target {
        self.target
    }

    fn left(&self) -> Result<Duration, ProtectError> {
        let now_ms = self.world.clock.now().boot_ms;
        let gone = u64::try_from(now_ms.saturating_sub(self.began_ms)).unwrap_or(0);
        let left = self.time.saturating_sub(Duration::from_millis(gone));
        if left.is_zero() {
            return Err(ProtectError::Late);
        }
        Ok(left.min(CALL))
    }

    /// One request on the lane for bulk data.
    pub(super) async fn ask(
        &self,
        request: impl FnOnce(u64) -> Request,
        body: Vec<u8>,
    ) -> Result<Reply, ProtectError> {
        let timeout = self.left()?;
        let request = request(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        let call = Call {
            login: self.login,
            lane: Lane::Bulk,
            request,
            body,
            timeout,
        };
        Ok(self.host.call(call).await?)
    }

    /// The answer was not one that its request can have.
    pub(super) fn strange(&self) -> ProtectError {
        ProtectError::Host(HostError::Protocol {
            host: self.host.name().clone(),
        })
    }

    /// Everything that the members take in, without contents.
    pub(super) async fn list(
        &self,
        members: &[Pattern],
        entries_max: u64,
    ) -> Result<Listing, ProtectError> {
        self.list_with(members, entries_max, false).await
    }

    /// Everything that the members take in; with `digests`, those of contents too.
    pub(super) async fn list_with(
        &self,
        members: &[Pattern],
        entries_max: u64,
        digests: bool,
    ) -> Result<Listing, ProtectError> {
        let mut listing = Listing::default();
        if members.is_empty() {
            return Ok(listing); // an empty selection is never sent: it must not be read as everything
        }
        let mut after: Option<TreePath> = None;
        let mut found = Vec::new();
        loop {
            let request = |deadline_ms| Request::List {
                target: self.target.clone(),
                members: members.to_vec(),
                after: after.clone(),
                digests,
                entries_max: PAGE_ENTRIES,
                deadline_ms,
            };
            let Answer::List {
                roots,
                entries,
                unreadable,
                more,
            } = self.ask(request, Vec::new()).await?.answer
            else {
                return Err(self.strange());
            };
            if after.is_some() && roots != listing.roots {
                return Err(ProtectError::Moved);
            }
            listing.roots = roots;
            let last = entries
                .last()
                .map(|(path, _)| path)
                .max(unreadable.last().map(|(path, _)| path))
                .cloned();
            if found.is_empty() {
                found = entries;
            } else {
                found.extend(entries);
            }
            listing.unreadable.extend(unreadable);
            if (found.len() + listing.unreadable.len()) as u64 > entries_max {
                return Err(ProtectError::TooLarge {
                    limit: format!("{entries_max} entries"),
                });
            }
            match (more, last) {
                (false, _) => {
                    // At once, because they come in order.
                    listing.entries = found.into_iter().collect();
                    return Ok(listing);
                }
                // A page that does not go on would never end.
                (true, Some(last)) if after.as_ref().is_none_or(|after| last > *after) => {
                    after = Some(last);
                }
                (true, _) => return Err(self.strange()),
            }
        }
    }

    /// Looks at one path again.
    pub(super) async fn look(&self, path: &TreePath) -> Result<Option<EntryState>, PullError> {
        let member = Pattern::parse(&path.to_string())
            .map_err(|error| PullError::Refused(error.to_string()))?;
        // A name that holds a star is a pattern for others as well; the path itself is picked out below.
        let mut listing = self
            .list(&[member], 1 << 16)
            .await
            .map_err(PullError::Other)?;
        if let Some(reason) = listing.unreadable.remove(path) {
            return Err(PullError::Refused(reason));
        }
        Ok(listing.entries.remove(path).flatten())
    }

    /// Pulls one file into the vault's sink, piece by piece.
    pub(super) async fn pull(
        &self,
        path: &TreePath,
        expect: StatKey,
        sink: &mut Box<dyn BlobSink>,
    ) -> Result<u64, PullError> {
        let budget = u32::try_from(BODY_BYTES_MAX).unwrap_or(u32::MAX);
        let mut offset = 0_u64;
        loop {
            let request = |_| Request::Read {
                target: self.target.clone(),
                path: path.clone(),
                expect,
                offset,
                budget,
            };
            let reply = self.ask(request, Vec::new()).await.map_err(|error| {
                if let ProtectError::Host(HostError::Refused { refusal, .. }) = error {
                    refused(refusal)
                } else {
                    PullError::Other(error)
                }
            })?;
            let Answer::Read { end } = reply.answer else {
                return Err(PullError::Other(self.strange()));
            };
            if reply.body.is_empty() && !end {
                return Err(PullError::Other(self.strange()));
            }
            sink.write(&reply.body)
                .await
                .map_err(|error| PullError::Other(error.into()))?;
            offset = offset.saturating_add(reply.body.len() as u64);
            if end && offset == expect.size {
                return Ok(offset);
            }
            if end || offset > expect.size {
                return Err(PullError::Changed);
            }
        }
    }

    /// Whole small files, in order, as far as one answer goes. `None`: this one must be pulled alone.
    pub(super) async fn read_many(
        &self,
        files: &[(TreePath, StatKey)],
    ) -> Result<Vec<Option<Vec<u8>>>, ProtectError> {
        let request = |_| Request::ReadMany {
            target: self.target.clone(),
            files: files.to_vec(),
            budget: u32::try_from(BODY_BYTES_MAX).unwrap_or(u32::MAX),
        };
        let reply = self.ask(request, Vec::new()).await?;
        let Answer::ReadMany { lengths } = reply.answer else {
            return Err(self.strange());
        };
        if lengths.is_empty() || lengths.len() > files.len() {
            return Err(self.strange());
        }
        let mut rest = reply.body.as_slice();
        let mut contents = Vec::with_capacity(lengths.len());
        for (length, (_, expect)) in lengths.into_iter().zip(files) {
            let Some(length) = length else {
                contents.push(None);
                continue;
            };
            let (content, left) = usize::try_from(length)
                .ok()
                .filter(|_| u64::from(length) == expect.size)
                .and_then(|length| rest.split_at_checked(length))
                .ok_or_else(|| self.strange())?;
            contents.push(Some(content.to_vec()));
            rest = left;
        }
        if rest.is_empty() {
            Ok(contents)
        } else {
            Err(self.strange())
        }
    }

    /// A small file's whole content.
    pub(super) async fn read(
        &self,
        path: &TreePath,
        expect: StatKey,
    ) -> Result<Vec<u8>, PullError> {
        let budget = u32::try_from(BODY_BYTES_MAX).unwrap_or(u32::MAX);
        let mut content = Vec::new();
        loop {
            let offset = content.len() as u64;
            let request = |_| Request::Read {
                target: self.target.clone(),
                path: path.clone(),
                expect,
                offset,
                budget,
            };
            let reply = self.ask(request, Vec::new()).await.map_err(pull_error)?;
            let Answer::Read { end } = reply.answer else {
                return Err(PullError::Other(self.strange()));
            };
            if reply.body.is_empty() && !end {
                return Err(PullError::Other(self.strange()));
            }
            content.extend(reply.body);
            if end || content.len() as u64 > expect.size {
                return Ok(content);
            }
        }
    }

    /// Bytes free where the application lies.
    pub(super) async fn room(&self) -> Result<u64, ProtectError> {
        let request = |_| Request::Room {
            path: self.target.root.clone(),
        };
        let answer = self.ask(request, Vec::new()).await?.answer;
        let Answer::Room { free_bytes, .. } = answer else {
            return Err(self.strange());
        };
        Ok(free_bytes)
    }
}

/// A refusal says something about the file; everything else about the way to it.
fn pull_error(error: ProtectError) -> PullError {
    if let ProtectError::Host(HostError::Refused { refusal, .. }) = error {
        refused(refusal)
    } else {
        PullError::Other(error)
    }
}

fn refused(refusal: Refusal) -> PullError {
    match refusal.code {
        RefusalCode::Changed | RefusalCode::Absent => PullError::Changed,
        RefusalCode::Denied => PullError::Refused("Permission denied".to_owned()),
        RefusalCode::Version
        | RefusalCode::Malformed
        | RefusalCode::Root
        | RefusalCode::AlreadyStarted
        | RefusalCode::Fence
        | RefusalCode::Owner
        | RefusalCode::NotAllowed
        | RefusalCode::Limit
        | RefusalCode::NoRoom
        | RefusalCode::System => PullError::Refused(refusal.message),
    }
}
