//! A backup against its yardsticks, side by side: a bare stat walk of the same tree, and `tar` with zstd.
//!
//! Prints medians and ratios; asserts nothing about speed. The host is the agent's own code in this process, with
//! every request and answer carried as the frames carry them, so that only pipes and process switches are missing.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "a bench measures with the real clock, on files of its own, and prints what it found"
)]

#[path = "fresh/mod.rs"]
mod fresh;

use std::collections::BTreeMap;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use healer_agent::protocol::{
    Answer, Refusal, RefusalCode, Request, Target, WriteKind, WriteMember,
};
use healer_agent::roots::Roots;
use healer_agent::tree::Pattern;
use healer_agent::walk;
use healerd::model::app::{App, Schedule};
use healerd::model::approval::Approval;
use healerd::model::backup::{BackupKind, BackupRow};
use healerd::model::breaker::BreakerTransition;
use healerd::model::heal::{Event, Heal};
use healerd::model::id::{ApprovalId, BackupId, HealId, IdMaker, IncidentId};
use healerd::model::incident::Incident;
use healerd::model::name::{AppName, HostName};
use healerd::model::policy::Policy;
use healerd::model::time::Moment;
use healerd::protect::vault::{DirVault, Place};
use healerd::protect::{Limits, Protect, VerifiedBackup, protect};
use healerd::seam::store::{AuditRow, GuardRows, OutboxRow, Query, Restart};
use healerd::seam::{
    BoxFuture, Call, Changes, Clock, Host, HostError, Login, Randomness, Reply, Store, StoreError,
    World,
};

const FILES: usize = 6000;
const ROUNDS: usize = 9;

struct InProcess(HostName);

fn answer(request: Request) -> Result<(Answer, Vec<u8>), Refusal> {
    let deadline = Instant::now() + Duration::from_mins(1);
    match request {
        Request::List {
            target,
            members,
            after,
            ..
        } => {
            let roots = Roots::open(&target)?;
            let page = walk::list(&roots, &members, after.as_ref(), false, 1500, deadline)?;
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
            let (bytes, end) = walk::read(&roots, &path, expect, offset, budget as usize)?;
            Ok((Answer::Read { end }, bytes))
        }
        Request::ReadMany { target, files, .. } => {
            let roots = Roots::open(&target)?;
            let (mut body, mut lengths) = (Vec::new(), Vec::new());
            for (path, expect) in files {
                let read = walk::read(&roots, &path, expect, 0, 1 << 20).ok();
                lengths.push(read.map(|(bytes, _)| {
                    body.extend_from_slice(&bytes);
                    u32::try_from(bytes.len()).expect("it is small")
                }));
            }
            Ok((Answer::ReadMany { lengths }, body))
        }
        Request::Room { .. } => Ok((
            Answer::Room {
                free_bytes: u64::MAX,
                free_inodes: u64::MAX,
            },
            Vec::new(),
        )),
        other => Err(Refusal {
            code: RefusalCode::NotAllowed,
            message: format!("{other:?}"),
        }),
    }
}

impl Host for InProcess {
    fn name(&self) -> &HostName {
        &self.0
    }

    fn call(&self, call: Call) -> BoxFuture<'_, Result<Reply, HostError>> {
        let host = self.0.clone();
        let carried = call.request.header().expect("a request is JSON");
        Box::pin(async move {
            let task = tokio::task::spawn_blocking(move || {
                let request = Request::of_header(&carried).expect("it was written so");
                answer(request).map(|(answer, body)| {
                    let (answer, packed) = answer.packed();
                    let body = if packed.is_empty() { body } else { packed };
                    (answer.header().expect("an answer is JSON"), body)
                })
            });
            match task.await.expect("the agent does not panic") {
                Ok((answer, body)) => {
                    let answer = Answer::of_header(&answer).expect("it was written so");
                    let (answer, body) = answer.unpacked(body).expect("it was packed so");
                    Ok(Reply { answer, body })
                }
                Err(refusal) => Err(HostError::Refused { host, refusal }),
            }
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

struct RealClock(Instant);

impl Clock for RealClock {
    fn now(&self) -> Moment {
        let wall = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Moment {
            boot_id: "bench".to_owned(),
            boot_ms: i64::try_from(self.0.elapsed().as_millis()).unwrap_or(0),
            // Later than it is, so that files made just now count as settled.
            wall_ms: i64::try_from(wall.as_millis()).unwrap_or(0) + 60_000,
        }
    }

    fn sleep_until(&self, _: i64) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

struct Count(AtomicU64);

impl Randomness for Count {
    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

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

/// Source-like text of 1 to 12 KiB in folders of thirty.
fn plant(root: &Path) {
    for number in 0..FILES {
        let folder = root.join(format!("lib{}/part{}", number / 300, number / 30));
        fs::create_dir_all(&folder).expect("the folder is ours");
        let line =
            format!("public function f{number}(array $values): int {{ return {number}; }}\n");
        let noise = blake3::hash(&number.to_le_bytes()).to_hex();
        let text = format!("{}{noise}", line.repeat(16 + number % 170));
        fs::write(folder.join(format!("File{number}.php")), text).expect("the folder is ours");
    }
}

fn stat_walk(folder: &Path) -> u64 {
    let mut bytes = 0;
    for entry in fs::read_dir(folder).expect("readable").flatten() {
        let meta = entry.path().symlink_metadata().expect("readable");
        bytes += meta.len();
        if meta.is_dir() {
            bytes += stat_walk(&entry.path());
        }
    }
    bytes
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let begin = Instant::now();
    black_box(work());
    begin.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64()
}

async fn back_up(world: &World, app: &App) -> VerifiedBackup {
    let request = Protect {
        id: BackupId::from_raw(world.new_id()),
        kind: BackupKind::Heal,
        app,
        login: Login::of_app(app),
        heal: None,
        action: None,
        members: vec![WriteMember {
            pattern: Pattern::parse("**").expect("a pattern"),
            what: WriteKind::Content,
            shared: false,
        }],
        base: Vec::new(),
        limits: Limits::new(&app.policy.backup, 0),
    };
    protect(world, &request).await.expect("the backup is taken")
}

fn world(vault: &Path) -> World {
    let place = Place {
        owner: rustix::process::getuid().as_raw(),
        web_roots: Vec::new(),
        allow_temp: true,
    };
    let host: Arc<dyn Host> = Arc::new(InProcess(HostName::local()));
    World {
        clock: Arc::new(RealClock(Instant::now())),
        random: Arc::new(Count(AtomicU64::new(0))),
        hosts: [(HostName::local(), host)].into(),
        store: Arc::new(NoStore),
        vault: Arc::new(DirVault::open(vault, &place).expect("the vault opens")),
        owner: "bench".to_owned(),
        ids: Mutex::new(IdMaker::default()),
    }
}

fn main() {
    if fresh::goes_on_inside().expect("the bench starts again") {
        return;
    }
    let folder = fresh::folder().expect("a place for the bench");
    let root = folder.path().join("app");
    plant(&root);
    let app = App {
        name: "shop".parse().expect("a name"),
        host: HostName::local(),
        stack: "php".parse().expect("a name"),
        target: Target {
            root: root.display().to_string(),
            roots: Vec::new(),
            uid: 0,
            gid: 0,
            volatile: Vec::new(),
        },
        user: "shop".to_owned(),
        url: None,
        origin: None,
        vars: BTreeMap::new(),
        schedule: Schedule::Every(Duration::from_mins(1)),
        policy: Policy::default(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");

    let (mut first, mut tar) = (Vec::new(), Vec::new());
    for round in 0..5 {
        let world = world(&folder.path().join(format!("vault{round}")));
        first.push(timed(|| runtime.block_on(back_up(&world, &app))));
        let archive = folder.path().join(format!("{round}.tar.zst"));
        tar.push(timed(|| {
            std::process::Command::new("tar")
                .args(["--zstd", "-cf"])
                .arg(&archive)
                .arg("-C")
                .arg(&root)
                .arg(".")
                .status()
        }));
    }
    let (first, tar) = (median(first), median(tar));
    println!(
        "first backup, durable and read back: {first:?}; tar --zstd: {tar:?}; {:.2} x",
        ratio(first, tar)
    );

    let world = world(&folder.path().join("vault"));
    drop(runtime.block_on(back_up(&world, &app)));
    let (mut unchanged, mut walks) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        walks.push(timed(|| stat_walk(&root)));
        unchanged.push(timed(|| runtime.block_on(back_up(&world, &app))));
    }
    let (unchanged, walk) = (median(unchanged), median(walks));
    println!(
        "unchanged backup of {FILES} files: {unchanged:?}; stat walk: {walk:?}; {:.2} x",
        ratio(unchanged, walk)
    );
}
