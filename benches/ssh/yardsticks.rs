//! What others need for the same: russh alone, OpenSSH's client over a kept connection, ansible.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use russh::client::{self, Handle};
use russh::keys::{PrivateKeyWithHashAlg, PublicKeyOrCertificate, load_secret_key};
use russh::{ChannelMsg, Disconnect};

use crate::Failure;
use crate::server::{HOSTS, Server, address, run};

/// Clients of others at a time: below the ten logins at once from which on a server begins to drop some.
const CLIENTS: usize = 8;

/// Whoever answers on the bench's own loopback port is the bench's own server.
struct Trusting;

impl client::Handler for Trusting {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(true)
    }
}

/// One bare connection to each host.
pub(crate) struct Bare(Vec<Arc<Handle<Trusting>>>);

impl Bare {
    /// Connects and logs in.
    ///
    /// # Errors
    /// The server's.
    pub(crate) async fn open(server: &Server, hosts: usize) -> Result<Self, Failure> {
        let key = Arc::new(load_secret_key(server.key(), None)?);
        let mut handles = Vec::new();
        for host in 0..hosts {
            let config = client::Config {
                nodelay: true,
                ..client::Config::default()
            };
            let at = (address(host), server.port);
            let mut handle = client::connect(Arc::new(config), at, Trusting).await?;
            let key = PrivateKeyWithHashAlg::new(Arc::clone(&key), None);
            if !handle.authenticate_publickey("shop", key).await?.success() {
                return Err("the server does not let its own key in".into());
            }
            handles.push(Arc::new(handle));
        }
        Ok(Self(handles))
    }

    /// Time for so many commands, one at a time on each host.
    ///
    /// # Errors
    /// The server's.
    pub(crate) async fn commands(&self, total: usize) -> Result<Duration, Failure> {
        let count = Arc::new(AtomicUsize::new(0));
        let began = Instant::now();
        let tasks: Vec<_> = self
            .0
            .iter()
            .map(|handle| {
                let (handle, count) = (Arc::clone(handle), Arc::clone(&count));
                tokio::spawn(async move {
                    while count.fetch_add(1, Ordering::Relaxed) < total {
                        command(&handle).await?;
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

    /// Time for ten commands on the first host: one after the other, or five at a time.
    ///
    /// # Errors
    /// The server's.
    pub(crate) async fn ten(&self, side_by_side: bool) -> Result<Duration, Failure> {
        let handle = self.0.first().ok_or("no host")?;
        let began = Instant::now();
        if side_by_side {
            for _ in 0..2 {
                let five = (0..5).map(|_| command(handle));
                futures_util::future::try_join_all(five).await?;
            }
        } else {
            for _ in 0..10 {
                command(handle).await?;
            }
        }
        Ok(began.elapsed())
    }

    /// Says goodbye.
    ///
    /// # Errors
    /// The server's.
    pub(crate) async fn close(self) -> Result<(), Failure> {
        for handle in self.0 {
            handle.disconnect(Disconnect::ByApplication, "", "").await?;
        }
        Ok(())
    }
}

async fn command(handle: &Handle<Trusting>) -> Result<(), Failure> {
    let mut channel = handle.channel_open_session().await?;
    channel.exec(true, "true").await?;
    let mut exit = None;
    while let Some(message) = channel.wait().await {
        if let ChannelMsg::ExitStatus { exit_status } = message {
            exit = Some(exit_status);
        }
    }
    match exit {
        Some(0) => Ok(()),
        other => Err(format!("`true` ended with {other:?}").into()),
    }
}

/// OpenSSH's clients with a kept connection to each host.
pub(crate) struct Masters {
    children: Vec<Child>,
    sockets: PathBuf,
}

impl Drop for Masters {
    fn drop(&mut self) {
        for child in &mut self.children {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

impl Masters {
    /// Starts them and waits until they are connected.
    ///
    /// # Errors
    /// When one does not come up.
    pub(crate) fn open(server: &Server, folder: &Path) -> Result<Self, Failure> {
        let mut masters = Self {
            children: Vec::new(),
            sockets: folder.to_path_buf(),
        };
        for host in 0..HOSTS {
            let child = server
                .ssh()
                .args(["-N", "-o", "ControlMaster=yes"])
                .arg("-o")
                .arg(masters.socket(host))
                .arg(address(host))
                .stdin(Stdio::null())
                .spawn()?;
            masters.children.push(child);
            let end = Instant::now() + Duration::from_secs(20);
            while !folder.join(format!("cm{host}")).exists() {
                if Instant::now() > end {
                    return Err("a control master did not come up".into());
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(masters)
    }

    fn socket(&self, host: usize) -> String {
        format!("ControlPath={}/cm{host}", self.sockets.display())
    }

    /// Time for so many commands, eight clients at a time.
    ///
    /// # Errors
    /// The clients'.
    pub(crate) fn commands(&self, server: &Server, total: usize) -> Result<Duration, Failure> {
        let count = AtomicUsize::new(0);
        let began = Instant::now();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..CLIENTS)
                .map(|_| {
                    scope.spawn(|| {
                        loop {
                            let number = count.fetch_add(1, Ordering::Relaxed);
                            if number >= total {
                                return Ok::<(), String>(());
                            }
                            let mut ssh = server.ssh();
                            ssh.arg("-o").arg(self.socket(number % HOSTS));
                            run(ssh.arg(address(number)).arg("true")).map_err(|e| e.to_string())?;
                        }
                    })
                })
                .collect();
            threads
                .into_iter()
                .try_for_each(|thread| match thread.join() {
                    Ok(done) => done.map_err(Failure::from),
                    Err(_) => Err("a thread of the bench failed".into()),
                })
        })?;
        Ok(began.elapsed())
    }
}

/// `ansible -m raw` with a kept connection to each host.
pub(crate) struct Ansible {
    program: PathBuf,
    folder: PathBuf,
}

impl Ansible {
    /// The one that `ANSIBLE` names, else one installed with pip below `folder`.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn find(server: &Server, folder: &Path) -> Result<Self, Failure> {
        let program = if let Some(program) = std::env::var_os("ANSIBLE") {
            PathBuf::from(program)
        } else {
            let venv = folder.join("venv");
            run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
            run(Command::new(venv.join("bin/pip")).args(["install", "-q", "ansible-core"]))?;
            venv.join("bin/ansible")
        };
        let mut inventory = String::new();
        for host in 0..HOSTS {
            writeln!(
                inventory,
                "{} ansible_port={} ansible_user=shop ansible_ssh_private_key_file={} \
                 ansible_python_interpreter=/usr/bin/python3",
                address(host),
                server.port,
                server.key().display()
            )?;
        }
        std::fs::write(folder.join("inventory.ini"), inventory)?;
        let config = format!(
            "[defaults]\nhost_key_checking=False\nforks={CLIENTS}\n[ssh_connection]\npipelining=True\n\
             control_path_dir={}/cp\nssh_args=-o ControlMaster=auto -o ControlPersist=20s -o UserKnownHostsFile=/dev/null \
             -o StrictHostKeyChecking=no -o LogLevel=ERROR\n",
            folder.display()
        );
        std::fs::write(folder.join("ansible.cfg"), config)?;
        let ansible = Self {
            program,
            folder: folder.to_path_buf(),
        };
        ansible.commands()?; // connections are made, modules compiled
        Ok(ansible)
    }

    /// Time for one command on every host.
    ///
    /// # Errors
    /// The program's.
    pub(crate) fn commands(&self) -> Result<Duration, Failure> {
        let began = Instant::now();
        run(Command::new(&self.program)
            .env("ANSIBLE_CONFIG", self.folder.join("ansible.cfg"))
            .env("ANSIBLE_HOME", self.folder.join("ansible_home"))
            .env("LC_ALL", "C.UTF-8")
            .arg("-i")
            .arg(self.folder.join("inventory.ini"))
            .args(["all", "-m", "raw", "-a", "true"]))?;
        Ok(began.elapsed())
    }
}
