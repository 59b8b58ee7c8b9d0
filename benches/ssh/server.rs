//! An SSH server of the bench's own, with default limits, and users who exist in it alone.
//!
//! It listens on sixteen loopback addresses, so that one server stands for as many hosts, and runs in a mount namespace
//! whose user list has more lines. Nothing of the machine changes but sshd's own empty directory in /run.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, lchown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use healerd::host::ssh::{AgentFiles, Pacer};
use healerd::host::{SshHost, SshLaunch};
use healerd::model::host::{SshAddress, SshHop, SshSettings};
use healerd::system::{OsRandom, RealClock};

use crate::Failure;

/// Number of all users of the server.
pub(crate) const UID: u32 = 47_001;
/// Hosts that the server stands for, and users beside `shop`.
pub(crate) const HOSTS: usize = 16;
pub(crate) const USERS: usize = 51;

const PATIENCE: Duration = Duration::from_secs(20);

/// The server; it ends with this value.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    folder: PathBuf,
    agents: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Connections outlive the server that took them, and end with their clients.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs a program to its end; its errors are ours.
///
/// # Errors
/// When it cannot be started or does not succeed.
pub(crate) fn run(command: &mut Command) -> Result<Vec<u8>, Failure> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(format!("{command:?}: {}: {said}", output.status).into())
}

/// The address of a host.
pub(crate) fn address(host: usize) -> String {
    format!("127.0.1.{}", host % HOSTS + 1)
}

impl Server {
    /// Starts it and waits until it listens.
    ///
    /// # Errors
    /// When something is missing here.
    pub(crate) fn start(folder: &Path, agents: &Path) -> Result<Self, Failure> {
        let folder = folder.join("sshd");
        fs::create_dir(&folder)?;
        fs::create_dir_all("/run/sshd")?;
        for key in ["host_key", "id"] {
            run(Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(folder.join(key)))?;
        }
        let home = folder.join("home");
        fs::create_dir(&home)?;
        lchown(&home, Some(UID), Some(UID))?;
        let mut passwd = fs::read_to_string("/etc/passwd")?;
        let users = (0..USERS).map(|number| format!("user{number}"));
        for user in users.chain(["shop".to_owned()]) {
            writeln!(passwd, "{user}:*:{UID}:{UID}::{}:/bin/sh", home.display())?;
        }
        fs::write(folder.join("passwd"), passwd)?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let at = folder.display();
        let mut config = format!(
            "Port {port}\nPidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nAuthorizedKeysFile {at}/id.pub\nHostKey {at}/host_key\n\
             Subsystem sftp internal-sftp\n"
        );
        for host in 0..HOSTS {
            writeln!(config, "ListenAddress {}", address(host))?;
        }
        fs::write(folder.join("config"), config)?;
        let mut client = String::from("Host 127.0.1.*\n");
        for line in [
            format!("Port {port}"),
            "User shop".to_owned(),
            format!("IdentityFile {at}/id"),
            "IdentitiesOnly yes".to_owned(),
            "StrictHostKeyChecking no".to_owned(),
            "UserKnownHostsFile /dev/null".to_owned(),
            "LogLevel ERROR".to_owned(),
        ] {
            writeln!(client, "  {line}")?;
        }
        fs::write(folder.join("client"), client)?;
        let sshd = ["/usr/sbin/sshd", "/usr/local/sbin/sshd"]
            .into_iter()
            .find(|path| Path::new(path).exists())
            .ok_or("there is no sshd")?;
        let script =
            format!("mount --bind {at}/passwd /etc/passwd && exec {sshd} -D -e -f {at}/config");
        let log = fs::File::create(folder.join("log"))?;
        let child = Command::new("unshare")
            .args(["--mount", "sh", "-c", &script])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let mut server = Self {
            child,
            port,
            folder,
            agents: agents.to_path_buf(),
        };
        let end = Instant::now() + PATIENCE;
        while server.log()?.matches("Server listening").count() < HOSTS {
            if server.child.try_wait()?.is_some() || Instant::now() > end {
                return Err(format!("sshd does not listen: {}", server.log()?).into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// What it has said.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn log(&self) -> Result<String, Failure> {
        Ok(fs::read_to_string(self.folder.join("log"))?)
    }

    /// The users' home.
    pub(crate) fn home(&self) -> PathBuf {
        self.folder.join("home")
    }

    /// The private key that it lets in.
    pub(crate) fn key(&self) -> PathBuf {
        self.folder.join("id")
    }

    /// OpenSSH's client, ready to reach it.
    pub(crate) fn ssh(&self) -> Command {
        let mut command = Command::new("ssh");
        command.arg("-F").arg(self.folder.join("client"));
        command
    }

    /// The client as one word for programs that start it themselves.
    pub(crate) fn ssh_line(&self) -> String {
        format!("ssh -F {}/client", self.folder.display())
    }

    /// Its public host key, as it is pinned.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn host_key(&self) -> Result<String, Failure> {
        let text = fs::read_to_string(self.folder.join("host_key.pub"))?;
        Ok(text
            .split_whitespace()
            .take(2)
            .collect::<Vec<_>>()
            .join(" "))
    }

    /// A host of ours behind it.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn host(&self, number: usize, launch: &SshLaunch) -> Result<SshHost, Failure> {
        self.host_at(number, &address(number), self.port, launch)
    }

    /// The same, on another way.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn host_at(
        &self,
        number: usize,
        address: &str,
        port: u16,
        launch: &SshLaunch,
    ) -> Result<SshHost, Failure> {
        let settings = settings(address, port, &self.host_key()?, &self.key());
        Ok(SshHost::new(
            format!("web{number}").parse()?,
            settings,
            launch.clone(),
        ))
    }

    /// What all hosts have in common.
    ///
    /// # Errors
    /// When the machine has no clock to be read.
    pub(crate) fn launch(&self) -> Result<SshLaunch, Failure> {
        launch(&self.agents)
    }

    /// Where agents are that can be pushed.
    pub(crate) fn agents(&self) -> &Path {
        &self.agents
    }
}

/// As an operator would configure it.
pub(crate) fn settings(address: &str, port: u16, host_key: &str, key: &Path) -> SshSettings {
    SshSettings {
        target: SshHop {
            address: SshAddress {
                user: "shop".to_owned(),
                host: address.to_owned(),
                port,
            },
            host_keys: vec![host_key.to_owned()],
        },
        jumps: Vec::new(),
        keys: vec![key.to_path_buf()],
        certificates: Vec::new(),
        agent: None,
        r#become: None,
        forced_command: false,
        connect_within: Duration::from_secs(15),
        idle: Duration::from_mins(10),
    }
}

/// What all hosts have in common.
///
/// # Errors
/// When the machine has no clock to be read.
pub(crate) fn launch(agents: &Path) -> Result<SshLaunch, Failure> {
    Ok(SshLaunch {
        agents: AgentFiles {
            directories: vec![agents.to_path_buf()],
        },
        owner: "bench".to_owned(),
        answered: Arc::new(|| {}),
        clock: Arc::new(RealClock::new()?),
        random: Arc::new(OsRandom),
        pacer: Arc::new(Pacer::default()),
    })
}

/// Gives a tree to the server's users.
///
/// # Errors
/// The system's.
pub(crate) fn give_away(path: &Path) -> Result<(), Failure> {
    lchown(path, Some(UID), Some(UID))?;
    if path.symlink_metadata()?.is_dir() {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        for entry in fs::read_dir(path)? {
            give_away(&entry?.path())?;
        }
    }
    Ok(())
}
