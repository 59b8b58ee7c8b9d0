//! Backups of a remote tree (G14): the first against a tar stream, an unchanged one against rsync, and the bytes of each.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use healer_agent::protocol::{WriteKind, WriteMember};
use healer_agent::tree::Pattern;
use healerd::model::app::App;
use healerd::model::backup::BackupKind;
use healerd::model::id::BackupId;
use healerd::protect::{Limits, Protect, VerifiedBackup, protect};
use healerd::seam::{Login, World};
use tokio::net::{TcpListener, TcpStream};

use crate::Failure;
use crate::report::{Samples, load};
use crate::server::{Server, address, give_away, run};
use crate::site;

const FILES: usize = 6_000;
const PAIRS: usize = 5;
/// What was changed a moment ago is read again the next time; the tree is to be older than that.
const SETTLED: Duration = Duration::from_secs(4);

/// Source-like text of 1 to 12 KiB in folders of thirty, as in the bench of local backups.
fn plant(root: &Path) -> Result<(), Failure> {
    for number in 0..FILES {
        let folder = root.join(format!("lib{}/part{}", number / 300, number / 30));
        fs::create_dir_all(&folder)?;
        let line =
            format!("public function f{number}(array $values): int {{ return {number}; }}\n");
        let noise = blake3::hash(&number.to_le_bytes()).to_hex();
        let text = format!("{}{noise}", line.repeat(16 + number % 170));
        fs::write(folder.join(format!("File{number}.php")), text)?;
    }
    give_away(root)
}

async fn back_up(world: &World, app: &App) -> Result<VerifiedBackup, Failure> {
    let request = Protect {
        id: BackupId::from_raw(world.new_id()),
        kind: BackupKind::Heal,
        app,
        login: Login::of_app(app),
        heal: None,
        action: None,
        members: vec![WriteMember {
            pattern: Pattern::parse("**")?,
            what: WriteKind::Content,
            shared: false,
        }],
        base: Vec::new(),
        limits: Limits::new(&app.policy.backup, 0),
    };
    let backup = protect(world, &request).await?;
    // Each backup begins with a connection of its own, as each run of the yardsticks does.
    for host in world.hosts.all() {
        host.close().await;
    }
    Ok(backup)
}

async fn timed(world: &World, app: &App) -> Result<f64, Failure> {
    let began = Instant::now();
    let backup = back_up(world, app).await?;
    let time = began.elapsed();
    if backup.row().files != FILES as u64 {
        return Err(format!("{} files were backed up", backup.row().files).into());
    }
    Ok(time.as_secs_f64() * 1e3)
}

/// Bytes that went through a port of our own, both ways.
struct Counter {
    port: u16,
    bytes: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Counter {
    async fn open(server: &Server) -> Result<Self, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let bytes = Arc::new(AtomicU64::new(0));
        let (counted, to) = (Arc::clone(&bytes), (address(0), server.port));
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (counted, to) = (Arc::clone(&counted), to.clone());
                tokio::spawn(async move {
                    let Ok(far) = TcpStream::connect(to).await else {
                        return;
                    };
                    drop(far.set_nodelay(true));
                    drop(near.set_nodelay(true));
                    pass(near, far, &counted).await;
                });
            }
        });
        Ok(Self { port, bytes, task })
    }

    fn take(&self) -> u64 {
        self.bytes.swap(0, Ordering::Relaxed)
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Carries both directions, and counts each piece before it is passed on.
async fn pass(near: TcpStream, far: TcpStream, counted: &AtomicU64) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (mut near_read, mut near_write) = near.into_split();
    let (mut far_read, mut far_write) = far.into_split();
    let up = async {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count @ 1..) = near_read.read(&mut buffer).await {
            counted.fetch_add(count as u64, Ordering::Relaxed);
            if far_write.write_all(&buffer[..count]).await.is_err() {
                break;
            }
        }
        drop(far_write);
    };
    let down = async {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count @ 1..) = far_read.read(&mut buffer).await {
            counted.fetch_add(count as u64, Ordering::Relaxed);
            if near_write.write_all(&buffer[..count]).await.is_err() {
                break;
            }
        }
        drop(near_write);
    };
    tokio::join!(up, down);
}

fn tar(server: &Server, root: &Path, into: &Path, port: Option<u16>) -> Result<f64, Failure> {
    let began = Instant::now();
    let mut ssh = server.ssh();
    if let Some(port) = port {
        ssh.args(["-o", "HostName=127.0.0.1", "-p", &port.to_string()]);
    }
    let status = ssh
        .arg(address(0))
        .arg(format!("cd {} && tar cf - .", root.display()))
        .stdin(Stdio::null())
        .stdout(fs::File::create(into)?)
        .status()?;
    if !status.success() {
        return Err(format!("tar ended with {status}").into());
    }
    Ok(began.elapsed().as_secs_f64() * 1e3)
}

fn rsync(server: &Server, root: &Path, into: &Path, port: Option<u16>) -> Result<f64, Failure> {
    let began = Instant::now();
    let mut line = server.ssh_line();
    if let Some(port) = port {
        line = format!("{line} -o HostName=127.0.0.1 -p {port}");
    }
    run(Command::new("rsync")
        .args(["-aH", "-e", &line])
        .arg(format!("{}:{}/", address(0), root.display()))
        .arg(into))?;
    Ok(began.elapsed().as_secs_f64() * 1e3)
}

fn has_rsync() -> bool {
    let version = Command::new("rsync")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    version.is_ok_and(|status| status.success())
}

/// G14.
///
/// # Errors
/// When something here does not work.
pub(crate) async fn measure(server: &Server, folder: &Path) -> Result<(), Failure> {
    let root: PathBuf = server.home().join("tree");
    fs::create_dir(&root)?;
    plant(&root)?;
    tokio::time::sleep(SETTLED).await;
    let launch = server.launch()?;
    let app = site::app(0, "shop", &root)?;
    let rsynced = folder.join("rsynced");
    fs::create_dir(&rsynced)?;
    fs::set_permissions(&rsynced, fs::Permissions::from_mode(0o700))?;
    let with_rsync = has_rsync();
    if !with_rsync {
        println!("rsync is not to be had here");
    }

    let mut first = Samples::new("healerd, first backup, durable, read back");
    let mut stream = Samples::new("tar over ssh into a file");
    for round in 0..PAIRS {
        let private = crate::private(folder, &format!("first{round}"))?;
        let world = site::world(&private, vec![server.host(0, &launch)?]).await?;
        first.push(timed(&world, &app).await?);
        world.store.close().await;
        drop(world);
        fs::remove_dir_all(private)?;
        let archive = folder.join("tree.tar");
        stream.push(tar(server, &root, &archive, None)?);
        fs::remove_file(archive)?;
    }
    println!("backup of {FILES} remote files, {PAIRS} pairs, {}", load());
    stream.print_alone(" ms");
    first.print(" ms", &[("tar", &stream)]);

    let private = crate::private(folder, "again")?;
    let world = site::world(&private, vec![server.host(0, &launch)?]).await?;
    drop(back_up(&world, &app).await?);
    let mut unchanged = Samples::new("healerd, unchanged backup");
    let mut synced = Samples::new("rsync -aH, unchanged");
    if with_rsync {
        rsync(server, &root, &rsynced, None)?;
    }
    for _ in 0..PAIRS {
        unchanged.push(timed(&world, &app).await?);
        if with_rsync {
            synced.push(rsync(server, &root, &rsynced, None)?);
        }
    }
    synced.print_alone(" ms");
    unchanged.print(" ms", &[("rsync", &synced)]);
    world.store.close().await;
    drop(world);
    bytes(server, folder, &root, with_rsync.then_some(&rsynced)).await
}

/// Bytes over the wire, in a run of their own that nothing is timed in.
async fn bytes(
    server: &Server,
    folder: &Path,
    root: &Path,
    rsynced: Option<&PathBuf>,
) -> Result<(), Failure> {
    let counter = Counter::open(server).await?;
    let app = site::app(0, "shop", root)?;
    let launch = server.launch()?;
    let host = server.host_at(0, "127.0.0.1", counter.port, &launch)?;
    let world = site::world(&crate::private(folder, "bytes")?, vec![host]).await?;
    // The agent is there already; asking for it is part of every first call.
    drop(back_up(&world, &app).await?);
    let first = counter.take();
    drop(back_up(&world, &app).await?);
    let unchanged = counter.take();
    world.store.close().await;
    let port = Some(counter.port);
    tokio::task::block_in_place(|| tar(server, root, &folder.join("counted.tar"), port))?;
    let stream = counter.take();
    let synced = match rsynced {
        Some(into) => {
            tokio::task::block_in_place(|| rsync(server, root, into, port))?;
            counter.take()
        }
        None => 0,
    };
    println!(
        "bytes over the wire: tar {stream}, first backup {first}, unchanged backup {unchanged} ({} of tar's), unchanged rsync \
         {synced}",
        percent(unchanged, stream)
    );
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "bytes of a bench are few")]
fn percent(part: u64, whole: u64) -> String {
    format!("{:.2} %", 100.0 * part as f64 / whole.max(1) as f64)
}
