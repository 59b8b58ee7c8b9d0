//! Checks: alone in a round, ten in a round, and ten thousand of fifty users behind one server.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use healerd::catalogue::Stack;
use healerd::model::app::App;
use healerd::seam::World;

use crate::Failure;
use crate::report::{Samples, load, rate};
use crate::server::{HOSTS, Server};
use crate::site::{self, Which};
use crate::yardsticks::{Ansible, Bare, Masters};

const PAIRS: usize = 5;
/// Commands, or rounds, of one sample; the slow yardsticks make do with fewer.
const COMMANDS: usize = 400;
const SLOW_COMMANDS: usize = 160;
/// Rounds of one sample against ten channels.
const ROUNDS: usize = 50;

/// The world of sixteen hosts, with a small application on each.
struct Fleet {
    world: Arc<World>,
    stack: Arc<Stack>,
    apps: Vec<Arc<App>>,
}

impl Fleet {
    async fn open(server: &Server, private: &Path, root: &Path) -> Result<Self, Failure> {
        let launch = server.launch()?;
        let hosts = (0..HOSTS)
            .map(|host| server.host(host, &launch))
            .collect::<Result<_, _>>()?;
        let fleet = Self {
            world: Arc::new(site::world(private, hosts).await?),
            stack: site::stack()?,
            apps: (0..HOSTS)
                .map(|host| site::app(host, "shop", root).map(Arc::new))
                .collect::<Result<_, _>>()?,
        };
        for app in &fleet.apps {
            site::round(&fleet.world, app, &fleet.stack, Which::One).await?;
        }
        Ok(fleet)
    }

    /// Time for so many rounds, one at a time on each host.
    async fn rounds(&self, total: usize, which: Which) -> Result<Duration, Failure> {
        let count = Arc::new(AtomicUsize::new(0));
        let began = Instant::now();
        let tasks: Vec<_> = self
            .apps
            .iter()
            .map(|app| {
                let (world, stack) = (Arc::clone(&self.world), Arc::clone(&self.stack));
                let (app, count) = (Arc::clone(app), Arc::clone(&count));
                tokio::spawn(async move {
                    while count.fetch_add(1, Ordering::Relaxed) < total {
                        site::round(&world, &app, &stack, which).await?;
                    }
                    Ok::<(), Failure>(())
                })
            })
            .collect();
        for task in tasks {
            task.await??;
        }
        Ok(began.elapsed())
    }

    async fn close(&self) {
        for host in self.world.hosts.all() {
            host.close().await;
        }
        self.world.store.close().await;
    }
}

/// G8 and G9.
///
/// # Errors
/// When something here does not work.
pub(crate) async fn measure(server: &Server, folder: &Path, root: &Path) -> Result<(), Failure> {
    let fleet = Fleet::open(server, &crate::private(folder, "fleet")?, root).await?;
    let bare = Bare::open(server, HOSTS).await?;
    let masters = Masters::open(server, folder)?;
    let ansible = match Ansible::find(server, folder) {
        Ok(ansible) => Some(ansible),
        Err(error) => {
            println!("ansible is not to be had here: {error}");
            None
        }
    };
    let mut exec = Samples::new("bare russh, `true` in a channel each");
    let mut mux = Samples::new("OpenSSH ControlMaster, `true`");
    let mut raw = Samples::new("ansible -m raw, `true`");
    let mut ours = [
        (
            Which::Program,
            Samples::new("healerd, a check that starts `true`"),
        ),
        (
            Which::One,
            Samples::new("healerd, one native check a round"),
        ),
        (
            Which::Ten,
            Samples::new("healerd, ten native checks a round"),
        ),
    ];
    for _ in 0..PAIRS {
        exec.push(rate(COMMANDS, bare.commands(COMMANDS).await?));
        for (which, samples) in &mut ours {
            let time = fleet.rounds(COMMANDS, *which).await?;
            samples.push(rate(COMMANDS * which.count(), time));
        }
        let taken = tokio::task::block_in_place(|| masters.commands(server, SLOW_COMMANDS))?;
        mux.push(rate(SLOW_COMMANDS, taken));
        if let Some(ansible) = &ansible {
            raw.push(rate(
                HOSTS,
                tokio::task::block_in_place(|| ansible.commands())?,
            ));
        }
    }
    println!(
        "checks a second on {HOSTS} hosts, {PAIRS} pairs, {}",
        load()
    );
    for yardstick in [&exec, &mux, &raw] {
        yardstick.print_alone("/s");
    }
    for (_, samples) in &ours {
        samples.print(
            "/s",
            &[("russh", &exec), ("OpenSSH", &mux), ("ansible", &raw)],
        );
    }

    let mut one_by_one = Samples::new("ten exec channels, one after the other");
    let mut side_by_side = Samples::new("ten exec channels, five at a time");
    let mut round = Samples::new("healerd, a round of ten checks");
    let app = fleet.apps.first().ok_or("no application")?;
    for _ in 0..PAIRS {
        for (samples, parallel) in [(&mut one_by_one, false), (&mut side_by_side, true)] {
            let mut time = Duration::ZERO;
            for _ in 0..ROUNDS / 5 {
                time += bare.ten(parallel).await?;
            }
            samples.push(rate(ROUNDS / 5, time));
        }
        let began = Instant::now();
        for _ in 0..ROUNDS {
            site::round(&fleet.world, app, &fleet.stack, Which::Ten).await?;
        }
        round.push(rate(ROUNDS, began.elapsed()));
    }
    println!(
        "rounds of ten a second on one host, {PAIRS} pairs, {}",
        load()
    );
    one_by_one.print_alone("/s");
    side_by_side.print_alone("/s");
    round.print(
        "/s",
        &[("one by one", &one_by_one), ("five", &side_by_side)],
    );
    bare.close().await?;
    fleet.close().await;
    Ok(())
}

/// G10: fifty applications, each of a user of its own, behind one server.
///
/// # Errors
/// When something here does not work.
pub(crate) async fn crowd(server: &Server, folder: &Path, root: &Path) -> Result<(), Failure> {
    const APPS: usize = 50;
    const ROUNDS: usize = 20;
    let host = server.host(0, &server.launch()?)?;
    let world = site::world(&crate::private(folder, "crowd")?, vec![host]).await?;
    let (world, stack) = (Arc::new(world), site::stack()?);
    let logins = |log: &str| log.matches("Accepted publickey").count();
    let before = logins(&server.log()?);
    let began = Instant::now();
    let tasks: Vec<_> = (0..APPS)
        .map(|user| {
            let app = site::app(0, &format!("user{user}"), root)?;
            let (world, stack) = (Arc::clone(&world), Arc::clone(&stack));
            Ok(tokio::spawn(async move {
                for _ in 0..ROUNDS {
                    site::round(&world, &app, &stack, Which::Ten).await?;
                }
                Ok::<(), Failure>(())
            }))
        })
        .collect::<Result<_, Failure>>()?;
    let mut failed = 0;
    for task in tasks {
        if let Err(error) = task.await? {
            println!("  refused: {error}");
            failed += 1;
        }
    }
    let time = began.elapsed();
    let log = server.log()?;
    let dropped = log.matches("drop connection").count() + log.matches("no more sessions").count();
    println!(
        "{} checks of {APPS} users on one server with default limits, from nothing: {time:.1?} ({:.0}/s), {} logins, \
         {failed} applications refused, {dropped} complaints of the server, {}",
        APPS * ROUNDS * 10,
        rate(APPS * ROUNDS * 10, time),
        logins(&log) - before,
        load()
    );
    for host in world.hosts.all() {
        host.close().await;
    }
    world.store.close().await;
    Ok(())
}
