//! A client of the agent and a place for it to work in.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use healer_agent::protocol::{
    Answer, Finished, Frame, Hello, Refusal, Request, Start, Target, VERSION, WitnessState,
    WriteKind, WriteMember,
};
use healer_agent::step::Step;
use healer_agent::tree::Pattern;

/// Says that a test cannot run here; where every test must run that is a failure.
#[expect(clippy::print_stderr, reason = "whoever runs the tests reads it there")]
pub(crate) fn skip(reason: &str) {
    eprintln!("SKIP: {reason}");
    assert!(
        std::env::var("HEALERD_TESTS_REQUIRE_ALL").as_deref() != Ok("1"),
        "this test must run here: {reason}"
    );
}

pub(crate) const OWNER: &str = "daemon-of-the-test";

/// A root, a state directory, a place outside of both, and a user who owns them.
pub(crate) struct Place {
    _directory: tempfile::TempDir,
    pub(crate) root: PathBuf,
    pub(crate) state: PathBuf,
    pub(crate) outside: PathBuf,
    pub(crate) uid: u32,
}

impl Place {
    pub(crate) fn new() -> Self {
        // A user of its own per place, so that limits and signals of one test never meet another's processes.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let root_runs = rustix::process::geteuid().is_root();
        let uid = if root_runs {
            700_000 + std::process::id() % 10_000 * 20 + NEXT.fetch_add(1, Ordering::Relaxed)
        } else {
            rustix::process::geteuid().as_raw()
        };
        let directory = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(directory.path()).unwrap();
        fs::set_permissions(&base, fs::Permissions::from_mode(0o755)).unwrap();
        let made = |name: &str, mode: u32| {
            let path = base.join(name);
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            if root_runs {
                chown(&path, Some(uid), Some(uid)).unwrap();
            }
            path
        };
        Self {
            root: made("app", 0o755),
            state: made("state", 0o700),
            outside: made("outside", 0o755),
            uid,
            _directory: directory,
        }
    }

    pub(crate) fn target(&self) -> Target {
        Target {
            root: self.root.display().to_string(),
            roots: vec![],
            uid: self.uid,
            gid: self.uid,
            volatile: vec![],
        }
    }

    pub(crate) fn start(&self, heal: &str, steps: Vec<Step>) -> Start {
        Start {
            heal: heal.to_owned(),
            fence: 1,
            owner: OWNER.to_owned(),
            action: "test".to_owned(),
            target: self.target(),
            steps,
            finally: vec![],
            writes: vec![WriteMember {
                pattern: Pattern::parse("**").unwrap(),
                what: WriteKind::Content,
                shared: false,
            }],
            scratch: vec![self.outside.display().to_string()],
            timeout_ms: 60_000,
        }
    }

    pub(crate) fn text(&self, name: &str) -> String {
        fs::read_to_string(self.outside.join(name)).unwrap_or_default()
    }

    /// Processes of this place's user that are alive, but for agents and supervisors.
    pub(crate) fn programs(&self) -> Vec<String> {
        let alive = |pid: &str| -> Option<String> {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
            let zombie = status.contains("\nState:\tZ");
            let mine = uid.split_whitespace().next()? == self.uid.to_string();
            let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            (mine
                && !zombie
                && !command.contains("healer-agent")
                && !command.contains("/proc/self/exe"))
            .then_some(format!("{pid}: {command}"))
        };
        fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| alive(entry.ok()?.file_name().to_str()?))
            .collect()
    }
}

/// A shell script as a step. Only tests write such a thing.
pub(crate) fn script(text: &str, timeout_ms: u64) -> Step {
    Step::Run {
        argv: ["sh", "-c", text].map(str::to_owned).to_vec(),
        env: BTreeMap::new(),
        ok: vec![0],
        timeout_ms,
    }
}

/// An agent at work and the two ends of its pipes.
pub(crate) struct Agent {
    pub(crate) child: Child,
    input: ChildStdin,
    output: ChildStdout,
    next: u64,
}

impl Agent {
    pub(crate) fn new(place: &Place) -> Self {
        Self::with(place, OWNER, &[])
    }

    pub(crate) fn with(place: &Place, owner: &str, environment: &[(&str, &str)]) -> Self {
        let mut agent = Self::silent(place, environment);
        agent.hello(owner).unwrap();
        agent
    }

    pub(crate) fn silent(place: &Place, environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_healer-agent"));
        if rustix::process::geteuid().is_root() {
            let id = place.uid.to_string();
            command.args(["--uid", &id, "--gid", &id]);
        }
        command.envs(environment.iter().copied());
        Self::spawn(command, place)
    }

    /// An agent that stays root, with an allow list.
    pub(crate) fn as_root(place: &Place, allow: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_healer-agent"));
        command.args(["--identity", "root", "--allow"]).arg(allow);
        Self::spawn(command, place)
    }

    fn spawn(mut command: Command, place: &Place) -> Self {
        let mut child = command
            .arg("--state")
            .arg(&place.state)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            input: child.stdin.take().unwrap(),
            output: child.stdout.take().unwrap(),
            child,
            next: 0,
        }
    }

    pub(crate) fn hello(&mut self, owner: &str) -> Result<Hello, Refusal> {
        let answer = self.ask(Request::Hello {
            version: VERSION,
            owner: owner.to_owned(),
        })?;
        match answer {
            Answer::Hello(hello) => Ok(hello),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn send(&mut self, request: &Request, body: &[u8]) -> u64 {
        use std::io::Write as _;
        self.next += 1;
        let frame = Frame {
            id: self.next,
            header: serde_json::to_vec(request).unwrap(),
            body: body.to_vec(),
        };
        self.input.write_all(&frame.encode().unwrap()).unwrap();
        self.next
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        use std::io::Write as _;
        self.input.write_all(bytes).unwrap();
    }

    pub(crate) fn receive(&mut self) -> (u64, Answer, Vec<u8>) {
        let frame = healer_agent::serve::read_frame(&mut self.output)
            .unwrap()
            .expect("the agent answers");
        let answer: Answer = serde_json::from_slice(&frame.header).unwrap();
        let (answer, body) = answer.unpacked(frame.body).unwrap();
        (frame.id, answer, body)
    }

    pub(crate) fn ask_with(
        &mut self,
        request: &Request,
        body: &[u8],
    ) -> Result<(Answer, Vec<u8>), Refusal> {
        let sent = self.send(request, body);
        let (id, answer, body) = self.receive();
        assert_eq!(id, sent);
        match answer {
            Answer::Refused(refusal) => Err(refusal),
            answer => Ok((answer, body)),
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "reads better at the calls")]
    pub(crate) fn ask(&mut self, request: Request) -> Result<Answer, Refusal> {
        self.ask_with(&request, b"").map(|(answer, _)| answer)
    }

    pub(crate) fn start(&mut self, start: Start) -> Result<Answer, Refusal> {
        self.ask(Request::Start(Box::new(start)))
    }

    pub(crate) fn look(&mut self, heal: &str) -> WitnessState {
        self.look_for(heal, 0)
    }

    pub(crate) fn look_for(&mut self, heal: &str, wait_ms: u64) -> WitnessState {
        let answer = self.ask(Request::Look {
            heal: heal.to_owned(),
            wait_ms,
        });
        match answer.unwrap() {
            Answer::Witness(state) => state,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn finished(&mut self, heal: &str) -> Finished {
        match self.look_for(heal, 60_000) {
            WitnessState::Finished(finished) => finished,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn output(&mut self, heal: &str, step: u32) -> (Vec<u8>, u64) {
        let request = Request::Output {
            heal: heal.to_owned(),
            step,
            offset: 0,
            budget: 1 << 20,
        };
        match self.ask_with(&request, b"").unwrap() {
            (Answer::Output { total, end }, bytes) => {
                assert!(end);
                (bytes, total)
            }
            other => panic!("{other:?}"),
        }
    }

    /// Closes the input and waits for the end.
    pub(crate) fn close(self) -> std::process::ExitStatus {
        let Self {
            mut child, input, ..
        } = self;
        drop(input);
        child.wait().unwrap()
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Waits for a state of the world; a test that waits for what never comes fails and tells for what.
pub(crate) fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !there() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::yield_now();
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The supervisor of a heal, by its command line.
pub(crate) fn supervisor(state: &Path, heal: &str) -> Option<i32> {
    let wanted = format!("supervise\0{}\0{heal}\0", state.display());
    fs::read_dir("/proc").unwrap().find_map(|entry| {
        let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        String::from_utf8_lossy(&command)
            .contains(&wanted)
            .then_some(pid)
    })
}

pub(crate) fn kill(pid: i32) {
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
}
