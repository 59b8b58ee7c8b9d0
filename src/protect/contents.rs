//! Contents of a backup's files: which must be pulled, pulling them, and remembering them for the next time.

use std::collections::{HashMap, HashSet, btree_map};
use std::iter::Peekable;
use std::time::Duration;

use healer_agent::tree::{Content, Digest, EntryState, Manifest, StatKey, TreePath};

use super::error::ProtectError;
use super::reach::{PullError, Reach};
use crate::model::app::App;
use crate::model::backup::BackupManifest;
use crate::model::time::Moment;
use crate::seam::vault::WarmIndex;
use crate::seam::{HostError, VaultError, World};

/// How often a file that changed while it was read is tried again.
const CHANGED_RETRIES: u32 = 3;
/// Paths of an app that a warm index remembers.
const WARM_MAX: usize = 200_000;
/// A file changed so shortly before the backup may change again within the same tick of the host's clock, so its key
/// proves nothing; it is read again the next time. As git does for its index.
const RACY: Duration = Duration::from_secs(3);

/// Files up to this size travel together, as long as there are several.
const SMALL_BYTES_MAX: u64 = 64 << 10;
/// Together they have at most so many bytes, and so many paths in the request.
const GROUP_BYTES_MAX: u64 = 128 << 10;
const GROUP_FILES_MAX: usize = 64;
/// Fewer small files are pulled one by one.
const GROUPED_FROM: usize = 32;

/// A file whose content is wanted, under all its names.
pub(super) struct Pull {
    paths: Vec<TreePath>,
    pub(super) state: EntryState,
}

/// What pulling one file gave.
pub(super) struct Pulled {
    paths: Vec<TreePath>,
    /// State with digest; `None`: it went away.
    state: Option<EntryState>,
    pub(super) stored_bytes: u64,
}

/// Size and digest of a file whose content is stored.
pub(super) fn stored(entry: &EntryState) -> Option<(u64, Digest)> {
    match &entry.content {
        Content::File {
            size,
            digest: Some(digest),
        } => Some((*size, *digest)),
        Content::File { digest: None, .. }
        | Content::Directory
        | Content::Link { .. }
        | Content::Other => None,
    }
}

pub(super) fn regular(entry: &EntryState) -> Option<u64> {
    match &entry.content {
        Content::File { size, .. } => Some(*size),
        Content::Directory | Content::Link { .. } | Content::Other => None,
    }
}

/// Looks paths up in a warm index, in path order: beside each other where the index is not much longer than what is
/// looked up.
struct Beside<'a> {
    warm: &'a WarmIndex,
    rest: Option<Peekable<btree_map::Iter<'a, TreePath, (StatKey, Digest)>>>,
}

impl<'a> Beside<'a> {
    fn new(warm: &'a WarmIndex, asked: usize) -> Self {
        let rest = (warm.len() / 8 <= asked).then(|| warm.iter().peekable());
        Self { warm, rest }
    }

    /// `path` comes after those before it.
    fn get(&mut self, path: &TreePath) -> Option<&'a (StatKey, Digest)> {
        let Some(rest) = &mut self.rest else {
            return self.warm.get(path);
        };
        while rest.next_if(|(one, _)| *one < path).is_some() {}
        rest.next_if(|(one, _)| *one == path)
            .map(|(_, known)| known)
    }
}

/// What the warm index knows and the vault still holds.
pub(super) struct Known<'a> {
    warm: &'a WarmIndex,
    /// Those of the entries that were met, each once, in order.
    met: Vec<Digest>,
    missing: HashSet<Digest>,
}

impl Known<'_> {
    /// The contents that need not be pulled.
    pub(super) fn there(&self) -> Vec<Digest> {
        let met = self.met.iter().copied();
        met.filter(|digest| !self.missing.contains(digest))
            .collect()
    }

    fn holds(&self, digest: Digest) -> bool {
        self.missing.is_empty() || !self.missing.contains(&digest)
    }
}

/// Asks the vault about what the warm index knows of these entries.
pub(super) async fn known<'a>(
    world: &World,
    warm: &'a WarmIndex,
    manifests: [&Manifest; 2],
) -> Result<Known<'a>, ProtectError> {
    let mut known = Known {
        warm,
        met: Vec::new(),
        missing: HashSet::new(),
    };
    let mut digests: Vec<Digest> = Vec::new();
    for manifest in manifests {
        let mut beside = Beside::new(warm, manifest.len());
        digests.extend(manifest.iter().filter_map(|(path, entry)| {
            let key = &entry.as_ref()?.key;
            // Of what is no file the index knows nothing.
            let (known, digest) = beside.get(path)?;
            (known == key).then_some(*digest)
        }));
    }
    digests.sort_unstable();
    digests.dedup();
    if !digests.is_empty() {
        known.missing = world.vault.missing(digests.clone()).await?;
    }
    known.met = digests;
    Ok(known)
}

/// Fills in the digests that are known, and lists the files that must be read; one with several names once.
pub(super) fn pulls(
    entries: &mut Manifest,
    known: &Known<'_>,
    wanted: impl Fn(&TreePath) -> bool,
) -> Vec<Pull> {
    let mut beside = Beside::new(known.warm, entries.len());
    let mut pulls: Vec<Pull> = Vec::new();
    let mut linked: HashMap<StatKey, usize> = HashMap::new();
    for (path, entry) in entries {
        let Some(state) = entry else { continue };
        let Content::File { digest, .. } = &mut state.content else {
            continue;
        };
        if !wanted(path) {
            continue;
        }
        // The content of the very file that was met again.
        if let Some((key, found)) = beside.get(path)
            && *key == state.key
            && known.holds(*found)
        {
            *digest = Some(*found);
            continue;
        }
        if state.key.nlink > 1
            && let Some(at) = linked.get(&state.key)
            && let Some(pull) = pulls.get_mut(*at)
        {
            pull.paths.push(path.clone());
            continue;
        }
        linked.insert(state.key, pulls.len());
        pulls.push(Pull {
            paths: vec![path.clone()],
            state: state.clone(),
        });
    }
    pulls
}

/// Files that are pulled with one request: many small ones, or one.
pub(super) fn groups(pulls: Vec<Pull>) -> Vec<Vec<Pull>> {
    let is_small = |pull: &Pull| regular(&pull.state).is_some_and(|bytes| bytes <= SMALL_BYTES_MAX);
    if pulls.iter().filter(|pull| is_small(pull)).count() < GROUPED_FROM {
        return pulls.into_iter().map(|pull| vec![pull]).collect();
    }
    let mut groups = Vec::new();
    let (mut group, mut bytes) = (Vec::new(), 0);
    for pull in pulls {
        if !is_small(&pull) {
            groups.push(vec![pull]);
            continue;
        }
        let size = regular(&pull.state).unwrap_or(0);
        if bytes + size > GROUP_BYTES_MAX || group.len() >= GROUP_FILES_MAX {
            groups.push(std::mem::take(&mut group));
            bytes = 0;
        }
        bytes += size;
        group.push(pull);
    }
    if !group.is_empty() {
        groups.push(group);
    }
    groups
}

/// Pulls a group. What cannot come with the others comes alone.
pub(super) async fn fetch_group(
    world: &World,
    reach: &Reach<'_>,
    group: Vec<Pull>,
) -> Vec<Result<Pulled, (TreePath, PullError)>> {
    let mut done = Vec::with_capacity(group.len());
    let mut left = group;
    while left.len() > 1 {
        let files: Vec<_> = left
            .iter()
            .filter_map(|pull| Some((pull.paths.first()?.clone(), pull.state.key)))
            .collect();
        if files.len() < left.len() {
            break; // every pull has a path
        }
        let contents = match reach.read_many(&files).await {
            Ok(contents) => contents,
            Err(ProtectError::Host(HostError::Refused { .. })) => break, // each alone says why
            Err(error) => {
                done.extend(failed(&left, PullError::Other(error)));
                return done;
            }
        };
        let rest = left.split_off(contents.len());
        let (mut whole, mut bytes) = (Vec::new(), Vec::new());
        for (pull, content) in std::mem::replace(&mut left, rest).into_iter().zip(contents) {
            match content {
                Some(content) => {
                    whole.push(pull);
                    bytes.push(content);
                }
                None => done.push(fetch(world, reach, pull).await),
            }
        }
        match world.vault.store_many(bytes).await {
            Ok(stored) => done.extend(whole.into_iter().zip(stored).map(
                |(Pull { paths, mut state }, (digest, stored_bytes))| {
                    state.content = Content::File {
                        size: state.key.size,
                        digest: Some(digest),
                    };
                    Ok(Pulled {
                        paths,
                        state: Some(state),
                        stored_bytes,
                    })
                },
            )),
            Err(error) => {
                done.extend(failed(&whole, PullError::Other(error.into())));
                return done;
            }
        }
    }
    for pull in left {
        done.push(fetch(world, reach, pull).await);
    }
    done
}

/// One error for all of a group: whoever gets it gives up.
fn failed(pulls: &[Pull], error: PullError) -> Option<Result<Pulled, (TreePath, PullError)>> {
    let path = pulls.first()?.paths.first()?.clone();
    Some(Err((path, error)))
}

/// Pulls one file; one that changes meanwhile is looked at again.
pub(super) async fn fetch(
    world: &World,
    reach: &Reach<'_>,
    pull: Pull,
) -> Result<Pulled, (TreePath, PullError)> {
    let Pull { paths, mut state } = pull;
    let Some(path) = paths.first().cloned() else {
        return Ok(Pulled {
            paths,
            state: None,
            stored_bytes: 0,
        });
    };
    let at = |error| (path.clone(), error);
    let vault = |error: VaultError| (path.clone(), PullError::Other(error.into()));
    for _ in 0..=CHANGED_RETRIES {
        let mut sink = world.vault.begin().await.map_err(vault)?;
        match reach.pull(&path, state.key, &mut sink).await {
            Ok(size) => {
                let (digest, stored_bytes) = sink.finish().await.map_err(vault)?;
                state.content = Content::File {
                    size,
                    digest: Some(digest),
                };
                return Ok(Pulled {
                    paths,
                    state: Some(state),
                    stored_bytes,
                });
            }
            Err(PullError::Changed) => {}
            Err(error) => return Err(at(error)),
        }
        drop(sink);
        match reach.look(&path).await.map_err(at)? {
            Some(now) if regular(&now).is_some() => state = now,
            other => {
                return Ok(Pulled {
                    paths,
                    state: other,
                    stored_bytes: 0,
                });
            }
        }
    }
    Err(at(PullError::Changed))
}

/// Puts what was pulled in its places. One that went away is absent where a member names that very path, and else is
/// no entry at all.
pub(super) fn settle(entries: &mut Manifest, pulled: Pulled, single: impl Fn(&TreePath) -> bool) {
    for path in pulled.paths {
        match &pulled.state {
            Some(state) => {
                entries.insert(path, Some(state.clone()));
            }
            None if single(&path) => {
                entries.insert(path, None);
            }
            None => {
                entries.remove(&path);
            }
        }
    }
}

pub(super) async fn remember(world: &World, app: &App, warm: WarmIndex, manifest: &BackupManifest) {
    let mut index = warm;
    let mut news = Vec::new();
    for entries in [&manifest.members, &manifest.base] {
        let mut beside = Beside::new(&index, entries.len());
        for (path, entry) in entries {
            let known = beside.get(path);
            let Some(entry) = entry else {
                if known.is_some() {
                    news.push((path, None));
                }
                continue;
            };
            if let Some((_, digest)) = stored(entry)
                && !racy(&entry.key, &manifest.taken)
                && known != Some(&(entry.key, digest))
            {
                news.push((path, Some((entry.key, digest))));
            }
        }
    }
    let mut changed = !news.is_empty();
    for (path, value) in news {
        match value {
            Some(value) => index.insert(path.clone(), value),
            None => index.remove(path),
        };
    }
    while index.len() > WARM_MAX {
        changed = true;
        index.pop_first();
    }
    if changed {
        world.vault.keep_warm_index(&app.name, &index).await;
    }
}

pub(super) fn racy(key: &StatKey, taken: &Moment) -> bool {
    let before_ms = taken
        .wall_ms
        .saturating_sub(i64::try_from(RACY.as_millis()).unwrap_or(i64::MAX));
    key.ctime.secs.saturating_mul(1000) >= before_ms
}
