//! A world around real files: the agent's own code on a temporary directory, with a hook before each request.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a hook looks at one kind of request and lets the others pass"
)]

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use healer_agent::protocol::{
    Answer, Refusal, RefusalCode, Request, Target, WriteKind, WriteMember,
};
use healer_agent::roots::Roots;
use healer_agent::tree::{Digest, Pattern};
use healer_agent::{restore, walk};

use crate::model::app::{App, Schedule};
use crate::model::approval::Approval;
use crate::model::backup::{BackupKind, BackupRow};
use crate::model::breaker::BreakerTransition;
use crate::model::heal::{Event, Heal};
use crate::model::id::{ApprovalId, IncidentId};
use crate::model::id::{BackupId, HealId, IdMaker};
use crate::model::incident::Incident;
use crate::model::name::{AppName, HostName};
use crate::model::policy::Policy;
use crate::model::time::Moment;
use crate::protect::vault::{DirVault, Place};
use crate::protect::{Limits, Protect};
use crate::seam::store::{AuditRow, GuardRows, OutboxRow, Query, Restart};
use crate::seam::{
    BoxFuture, Call, Changes, Clock, Host, HostError, Login, Randomness, Reply, Store, StoreError,
    World,
};

/// What a hook does with a request: `Some` is the answer instead of the agent's.
type Hook = Box<dyn FnMut(&Request) -> Option<Result<Reply, HostError>> + Send>;

/// This directory as a host.
pub(super) struct Disk {
    name: HostName,
    staged: tempfile::TempDir,
    hook: Mutex<Hook>,
    pub(super) calls: Mutex<HashMap<&'static str, u32>>,
    pub(super) free_bytes: AtomicU64,
}

fn verb(request: &Request) -> &'static str {
    match request {
        Request::List { .. } => "list",
        Request::Read { .. } => "read",
        Request::ReadMany { .. } => "read many",
        Request::Stage { .. } => "stage",
        Request::Undo { .. } => "undo",
        Request::Forget { .. } => "forget",
        Request::Room { .. } => "room",
        _ => "other",
    }
}

impl Disk {
    fn answer(&self, call: Call) -> Result<(Answer, Vec<u8>), Refusal> {
        let deadline = Instant::now() + Duration::from_mins(1);
        match call.request {
            Request::List {
                target,
                members,
                after,
                digests,
                ..
            } => {
                let roots = Roots::open(&target)?;
                // Small pages, so that every test turns them.
                let page = walk::list(&roots, &members, after.as_ref(), digests, 3, deadline)?;
                let answer = Answer::List {
                    roots: roots.real(),
                    entries: page.entries,
                    unreadable: page.unreadable,
                    more: page.more,
                };
                Ok((answer, Vec::new()))
            }
            Request::Read {
                target,
                path,
                expect,
                offset,
                budget,
            } => {
                let roots = Roots::open(&target)?;
                let budget = usize::try_from(budget).unwrap().min(100_000);
                let (bytes, end) = walk::read(&roots, &path, expect, offset, budget)?;
                Ok((Answer::Read { end }, bytes))
            }
            Request::ReadMany { target, files, .. } => {
                let roots = Roots::open(&target)?;
                let (mut body, mut lengths) = (Vec::new(), Vec::new());
                // Not all at once, so that the rest is asked for again.
                for (path, expect) in files.into_iter().take(20) {
                    let read = walk::read(&roots, &path, expect, 0, 1 << 20).ok();
                    lengths.push(read.map(|(bytes, _)| {
                        body.extend_from_slice(&bytes);
                        u32::try_from(bytes.len()).unwrap()
                    }));
                }
                Ok((Answer::ReadMany { lengths }, body))
            }
            Request::Room { .. } => Ok((
                Answer::Room {
                    free_bytes: self.free_bytes.load(Ordering::SeqCst),
                    free_inodes: 1 << 20,
                },
                Vec::new(),
            )),
            Request::Stage { digest, offset, .. } => {
                use std::os::unix::fs::FileExt as _;
                let path = self.staged.path().join(digest.to_string());
                let file = File::options()
                    .create(true)
                    .write(true)
                    .truncate(false)
                    .open(path);
                file.unwrap().write_all_at(&call.body, offset).unwrap();
                Ok((Answer::Staged, Vec::new()))
            }
            Request::Undo {
                heal,
                target,
                items,
                ..
            } => {
                let roots = Roots::open(&target)?;
                let stage =
                    |digest: &Digest| File::open(self.staged.path().join(digest.to_string()));
                let outcomes = restore::undo(&roots, &stage, &heal, &items, deadline);
                Ok((Answer::Undone { outcomes }, Vec::new()))
            }
            Request::Forget { .. } => Ok((Answer::Forgotten, Vec::new())),
            other => Err(Refusal {
                code: RefusalCode::NotAllowed,
                message: format!("{other:?}"),
            }),
        }
    }
}

impl Host for Disk {
    fn name(&self) -> &HostName {
        &self.name
    }

    fn call(&self, call: Call) -> BoxFuture<'_, Result<Reply, HostError>> {
        let verb = verb(&call.request);
        *self.calls.lock().unwrap().entry(verb).or_default() += 1;
        let hooked = (self.hook.lock().unwrap())(&call.request);
        let reply = hooked.unwrap_or_else(|| match self.answer(call) {
            Ok((answer, body)) => Ok(Reply { answer, body }),
            Err(refusal) => Err(HostError::Refused {
                host: self.name.clone(),
                refusal,
            }),
        });
        Box::pin(std::future::ready(reply))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

struct Still(AtomicI64);

impl Clock for Still {
    fn now(&self) -> Moment {
        Moment {
            boot_id: "boot".to_owned(),
            boot_ms: self.0.fetch_add(1, Ordering::SeqCst),
            // Far ahead of every file here, so that none was changed just now.
            wall_ms: 9_000_000_000_000,
        }
    }

    fn sleep_until(&self, _boot_ms: i64) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

struct Count(AtomicU64);

impl Randomness for Count {
    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

/// Protecting stores no rows; that is the engine's.
struct NoStore;

fn closed<T: Send + 'static>() -> BoxFuture<'static, Result<T, StoreError>> {
    Box::pin(std::future::ready(Err(StoreError::Closed)))
}

impl Store for NoStore {
    fn apply(&self, _: Changes) -> BoxFuture<'_, Result<(), StoreError>> {
        closed()
    }
    fn restart(&self) -> BoxFuture<'_, Result<Restart, StoreError>> {
        closed()
    }
    fn guard_rows<'a>(
        &'a self,
        _: &'a AppName,
        _: &'a HostName,
    ) -> BoxFuture<'a, Result<GuardRows, StoreError>> {
        closed()
    }
    fn heal(&self, _: HealId) -> BoxFuture<'_, Result<Option<Heal>, StoreError>> {
        closed()
    }
    fn heal_events(&self, _: HealId) -> BoxFuture<'_, Result<Vec<(Moment, Event)>, StoreError>> {
        closed()
    }
    fn heals(&self, _: Query) -> BoxFuture<'_, Result<Vec<Heal>, StoreError>> {
        closed()
    }
    fn incident(&self, _: IncidentId) -> BoxFuture<'_, Result<Option<Incident>, StoreError>> {
        closed()
    }
    fn incidents(&self, _: Query) -> BoxFuture<'_, Result<Vec<Incident>, StoreError>> {
        closed()
    }
    fn approval(&self, _: ApprovalId) -> BoxFuture<'_, Result<Option<Approval>, StoreError>> {
        closed()
    }
    fn approvals(&self, _: Query) -> BoxFuture<'_, Result<Vec<Approval>, StoreError>> {
        closed()
    }
    fn backups(&self, _: Query) -> BoxFuture<'_, Result<Vec<BackupRow>, StoreError>> {
        closed()
    }
    fn breaker_history<'a>(
        &'a self,
        _: &'a AppName,
        _: u32,
    ) -> BoxFuture<'a, Result<Vec<BreakerTransition>, StoreError>> {
        closed()
    }
    fn audit(&self, _: i64, _: u32) -> BoxFuture<'_, Result<Vec<AuditRow>, StoreError>> {
        closed()
    }
    fn audit_head(&self) -> BoxFuture<'_, Result<Option<(i64, String)>, StoreError>> {
        closed()
    }
    fn outbox<'a>(&'a self, _: &'a Moment) -> BoxFuture<'a, Result<Vec<OutboxRow>, StoreError>> {
        closed()
    }
    fn touch(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        closed()
    }
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// An application in a directory, with a vault beside it.
pub(super) struct Scene {
    folder: tempfile::TempDir,
    pub(super) disk: Arc<Disk>,
    pub(super) world: World,
    pub(super) app: App,
}

impl Scene {
    pub(super) fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::Builder::new()
            .permissions(Permissions::from_mode(0o700))
            .tempdir()
            .unwrap();
        let root = folder.path().join("app");
        fs::create_dir(&root).unwrap();
        let disk = Arc::new(Disk {
            name: HostName::local(),
            staged: tempfile::tempdir().unwrap(),
            hook: Mutex::new(Box::new(|_| None)),
            calls: Mutex::default(),
            free_bytes: AtomicU64::new(1 << 40),
        });
        let place = Place {
            owner: rustix::process::getuid().as_raw(),
            web_roots: vec![root.clone()],
            allow_temp: true,
        };
        let host: Arc<dyn Host> = disk.clone();
        let world = World {
            clock: Arc::new(Still(AtomicI64::new(0))),
            random: Arc::new(Count(AtomicU64::new(0))),
            hosts: [(HostName::local(), host)].into(),
            store: Arc::new(NoStore),
            vault: Arc::new(DirVault::open(&folder.path().join("vault"), &place).unwrap()),
            owner: "test".to_owned(),
            ids: Mutex::new(IdMaker::default()),
        };
        let app = App {
            name: "shop".parse().unwrap(),
            host: HostName::local(),
            stack: "laravel".parse().unwrap(),
            target: Target {
                root: root.display().to_string(),
                roots: Vec::new(),
                uid: rustix::process::getuid().as_raw(),
                gid: rustix::process::getgid().as_raw(),
                volatile: Vec::new(),
            },
            user: "shop".to_owned(),
            url: None,
            origin: None,
            vars: BTreeMap::new(),
            schedule: Schedule::Every(Duration::from_mins(1)),
            policy: Policy::default(),
        };
        let scene = Self {
            folder,
            disk,
            world,
            app,
        };
        for (path, text) in files {
            scene.write(path, text);
        }
        scene
    }

    pub(super) fn path(&self, path: &str) -> PathBuf {
        Path::new(&self.app.target.root).join(path)
    }

    pub(super) fn vault(&self) -> PathBuf {
        self.folder.path().join("vault")
    }

    pub(super) fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(super) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    pub(super) fn hook(
        &self,
        hook: impl FnMut(&Request) -> Option<Result<Reply, HostError>> + Send + 'static,
    ) {
        *self.disk.hook.lock().unwrap() = Box::new(hook);
    }

    pub(super) fn calls(&self, verb: &str) -> u32 {
        self.disk
            .calls
            .lock()
            .unwrap()
            .get(verb)
            .copied()
            .unwrap_or(0)
    }

    pub(super) fn login(&self) -> Login {
        crate::protect::capture::app_login(&self.app)
    }

    pub(super) fn heal(&self) -> HealId {
        HealId::from_raw(self.world.new_id())
    }

    pub(super) fn request(&self, members: Vec<WriteMember>, base: &[&str]) -> Protect<'_> {
        Protect {
            id: BackupId::from_raw(self.world.new_id()),
            kind: BackupKind::Heal,
            app: &self.app,
            login: self.login(),
            heal: None,
            action: Some("fix".parse().unwrap()),
            members,
            base: base
                .iter()
                .map(|text| Pattern::parse(text).unwrap())
                .collect(),
            limits: Limits::new(&self.app.policy.backup, 1 << 20),
        }
    }
}

pub(super) fn content(pattern: &str) -> WriteMember {
    WriteMember {
        pattern: Pattern::parse(pattern).unwrap(),
        what: WriteKind::Content,
        shared: false,
    }
}

pub(super) fn shared(pattern: &str) -> WriteMember {
    WriteMember {
        shared: true,
        ..content(pattern)
    }
}

pub(super) fn metadata(pattern: &str) -> WriteMember {
    WriteMember {
        what: WriteKind::Metadata,
        ..content(pattern)
    }
}
