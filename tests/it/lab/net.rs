//! A network of a test's own: a hub, and hosts that each have a link of their own to it.
//!
//! Every network namespace is held by one process of the lab, has no name, and is gone with the last process in it; so
//! nothing outlives the lab, nor a killed suite. Faults are real ones: a link that is down, packets that are dropped by
//! chance, a rate, connections that are reset.

use std::os::fd::AsFd as _;
use std::process::Command;

use super::process::run;
use super::{Lab, PATIENCE, wait_for};

/// What a network needs beside what its hosts run.
pub(crate) const PROGRAMS: [&str; 5] = ["ip", "tc", "ss", "nsenter", "unshare"];

/// Of 2^32 random numbers, those below are 30 %.
const THREE_TENTHS: u32 = 1_288_490_188;

/// The middle, where the daemon and its listener are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hub {
    /// The process that holds its namespace.
    pub(crate) net: u32,
}

/// A host's end of its link.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    /// The process that holds its namespace.
    pub(crate) net: u32,
    /// Its address.
    pub(crate) address: String,
    hub: u32,
    /// The hub's device.
    device: String,
}

/// The host's device has the same name everywhere.
const FAR: &str = "eth0";

impl Lab {
    /// A namespace with nothing but its own loopback.
    pub(crate) fn hub(&self) -> Hub {
        Hub {
            net: self.namespace("hub"),
        }
    }

    /// The `number`-th host of a hub, 1 to 250: `10.77.NUMBER.2`, where the hub is `.1`.
    pub(crate) fn link(&self, hub: Hub, number: u8) -> Link {
        let net = self.namespace(&format!("link{number}"));
        let device = format!("far{number}");
        let far = net.to_string();
        self.ip(
            hub.net,
            &[
                "link", "add", &device, "type", "veth", "peer", "name", FAR, "netns", &far,
            ],
        );
        let near = format!("10.77.{number}.1/24");
        self.ip(hub.net, &["addr", "add", &near, "dev", &device]);
        self.ip(hub.net, &["link", "set", &device, "up"]);
        let address = format!("10.77.{number}.2");
        let own = format!("{address}/24");
        self.ip(net, &["addr", "add", &own, "dev", FAR]);
        self.ip(net, &["link", "set", FAR, "up"]);
        Link {
            net,
            address,
            hub: hub.net,
            device,
        }
    }

    /// A program that will run as root in the network namespace of a process.
    pub(crate) fn inside(&self, net: u32, program: &str) -> Command {
        let mut command = self.as_root("nsenter");
        command.args(["--net", "--target", &net.to_string(), "--", program]);
        command
    }

    fn namespace(&self, name: &str) -> u32 {
        // Longer than any test; it ends with the lab.
        let mut command = self.as_root("unshare");
        let net = self.spawn(name, command.args(["--net", "sleep", "3600"]));
        let own = namespace_of("self");
        wait_for("a namespace is made", || {
            assert!(self.runs(net), "{}", self.log(name));
            namespace_of(&net.to_string()).is_some_and(|made| Some(made) != own)
        });
        self.ip(net, &["link", "set", "lo", "up"]);
        net
    }

    fn ip(&self, net: u32, arguments: &[&str]) {
        self.inside_to_end(net, "ip", arguments);
    }

    /// Runs a program inside, and its end is success.
    #[track_caller]
    fn inside_to_end(&self, net: u32, program: &str, arguments: &[&str]) {
        run(self.inside(net, program).args(arguments), PATIENCE).expect_success();
    }

    /// The cable is pulled, or put back.
    pub(crate) fn set_link(&self, link: &Link, up: bool) {
        let word = if up { "up" } else { "down" };
        self.ip(link.hub, &["link", "set", &link.device, word]);
    }

    /// Of every ten packets three are lost, in both directions.
    pub(crate) fn lose_packets(&self, link: &Link) {
        // The kernel may lack netem; a class whose queue holds nothing, chosen by a random number, loses as well.
        let program = format!(
            "4,32 0 0 4294963256,53 0 1 {THREE_TENTHS},6 0 0 {},6 0 0 {}",
            0x1_0010, 0x1_0066
        );
        for (net, device) in link.ends() {
            let tc = |line: &str| {
                let words: Vec<&str> = line
                    .split(' ')
                    .map(|word| match word {
                        "DEVICE" => device,
                        "PROGRAM" => program.as_str(),
                        other => other,
                    })
                    .collect();
                self.inside_to_end(net, "tc", &words);
            };
            tc("qdisc add dev DEVICE root handle 1: htb default 10");
            tc("class add dev DEVICE parent 1: classid 1:10 htb rate 100mbit");
            tc("class add dev DEVICE parent 1: classid 1:66 htb rate 100mbit");
            tc("qdisc add dev DEVICE parent 1:66 handle 66: bfifo limit 1");
            tc("filter add dev DEVICE parent 1: protocol ip bpf bytecode PROGRAM classid 1:10");
        }
    }

    /// 64 kbit a second, in both directions, with a queue of two seconds as such lines have it.
    pub(crate) fn slow_down(&self, link: &Link) {
        for (net, device) in link.ends() {
            let arguments = [
                "qdisc", "add", "dev", device, "root", "tbf", "rate", "64kbit", "burst", "4kb",
                "latency", "2s",
            ];
            self.inside_to_end(net, "tc", &arguments);
        }
    }

    /// Loses and slows down no more.
    pub(crate) fn clear_link(&self, link: &Link) {
        for (net, device) in link.ends() {
            self.inside_to_end(net, "tc", &["qdisc", "del", "dev", device, "root"]);
        }
    }

    /// Packets that the link has dropped at both ends since it was made bad.
    pub(crate) fn dropped(&self, link: &Link) -> u64 {
        let counted = |(net, device)| {
            let shown = run(
                self.inside(net, "tc")
                    .args(["-s", "-j", "qdisc", "show", "dev", device]),
                PATIENCE,
            );
            let list: serde_json::Value =
                serde_json::from_str(&shown.expect_success().stdout).expect("it is JSON");
            let drops = list.as_array().into_iter().flatten();
            let holes = drops.filter(|one| one["kind"] == "bfifo");
            holes.filter_map(|one| one["drops"].as_u64()).sum::<u64>()
        };
        link.ends().into_iter().map(counted).sum()
    }

    /// Every connection of the host is reset.
    pub(crate) fn reset_connections(&self, link: &Link) {
        let arguments = ["-K", "-t", "state", "established", "src", &link.address];
        let cut = run(self.inside(link.net, "ss").args(arguments), PATIENCE).expect_success();
        assert!(
            cut.stdout.contains(&link.address),
            "nothing was there to be reset: {}{}",
            cut.stdout,
            cut.stderr
        );
    }
}

impl Link {
    fn ends(&self) -> [(u32, &str); 2] {
        [(self.hub, self.device.as_str()), (self.net, FAR)]
    }
}

fn namespace_of(process: &str) -> Option<std::path::PathBuf> {
    std::fs::read_link(format!("/proc/{process}/ns/net")).ok()
}

/// Runs `work` on a thread of its own that is in the network namespace of a process.
pub(crate) fn thread_inside<T: Send + 'static>(
    net: u32,
    work: impl FnOnce() -> T + Send + 'static,
) -> std::thread::JoinHandle<T> {
    std::thread::spawn(move || {
        let file = std::fs::File::open(format!("/proc/{net}/ns/net")).expect("it lives");
        rustix::thread::move_into_link_name_space(
            file.as_fd(),
            Some(rustix::thread::LinkNameSpaceType::Network),
        )
        .expect("root can enter a namespace");
        work()
    })
}
