//! nginx and php-fpm as an ordinary user: one document root on one loopback port.

use std::net::TcpStream;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use super::{Lab, find_program, process, wait_for};

/// The pair of servers in front of one application.
#[derive(Debug, Clone)]
pub(crate) struct Web {
    /// Ends in a slash.
    pub(crate) url: String,
    pub(crate) nginx: u32,
    /// php-fpm's master process.
    pub(crate) fpm: u32,
    pub(crate) fpm_socket: PathBuf,
    name: String,
}

/// What a lab with PHP needs.
pub(crate) const PROGRAMS: &[&str] = &["nginx", "php-fpm", "php"];

impl Web {
    /// Serves `documents`; `error_log` is where PHP writes what goes wrong.
    pub(super) fn serve(lab: &Lab, name: &str, documents: &Path, error_log: &Path) -> Self {
        let dir = lab.dir().join(format!("web-{name}"));
        std::fs::create_dir(&dir).expect("each application has a name of its own");
        lab.user.own(&dir);
        let port = lab.port();
        let socket = dir.join("fpm.sock");
        std::fs::write(dir.join("fpm.conf"), fpm_config(&dir, &socket, error_log))
            .expect("root can write");
        std::fs::write(
            dir.join("nginx.conf"),
            nginx_config(&dir, &socket, port, documents),
        )
        .expect("root can write");
        let fpm = start_fpm(lab, name);
        wait_for("php-fpm listens", || socket.exists());
        let nginx = lab.spawn(
            &format!("nginx-{name}"),
            lab.as_user(find_program("nginx").expect("checked when the lab opened"))
                .arg("-p")
                .arg(&dir)
                .arg("-c")
                .arg(dir.join("nginx.conf")),
        );
        let url = format!("http://127.0.0.1:{port}/");
        // No request: the application is to be untouched until the test looks at it.
        wait_for("nginx listens", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Self {
            url,
            nginx,
            fpm,
            fpm_socket: socket,
            name: name.to_owned(),
        }
    }

    /// The address of a page; `path` without its first slash.
    pub(crate) fn page(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// Ends php-fpm at once; its socket stays behind, as in life.
    pub(crate) fn kill_fpm(&self, lab: &Lab) {
        for child in children(self.fpm) {
            process::signal(child, Signal::KILL);
        }
        process::signal(self.fpm, Signal::KILL);
        wait_for("php-fpm is gone", || !lab.runs(self.fpm));
    }

    /// Starts php-fpm again.
    pub(crate) fn start_fpm(&mut self, lab: &Lab) {
        self.fpm = start_fpm(lab, &self.name);
    }
}

fn start_fpm(lab: &Lab, name: &str) -> u32 {
    lab.spawn(
        &format!("fpm-{name}"),
        lab.as_user(find_program("php-fpm").expect("checked when the lab opened"))
            .arg("-F")
            .arg("-y")
            .arg(lab.dir().join(format!("web-{name}/fpm.conf"))),
    )
}

fn children(pid: u32) -> Vec<u32> {
    std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|child| child.parse().ok())
        .collect()
}

pub(super) fn fpm_config(dir: &Path, socket: &Path, error_log: &Path) -> String {
    // opcache looks at files only every two seconds by default; a cure must be seen at once.
    format!(
        "[global]
pid = {dir}/fpm.pid
error_log = {dir}/fpm.err
[www]
listen = {socket}
pm = static
pm.max_children = 2
php_admin_value[error_log] = {log}
php_admin_flag[log_errors] = on
php_admin_flag[display_errors] = off
php_admin_value[opcache.revalidate_freq] = 0
php_admin_value[realpath_cache_ttl] = 0
",
        dir = dir.display(),
        socket = socket.display(),
        log = error_log.display(),
    )
}

pub(super) fn nginx_config(dir: &Path, socket: &Path, port: u16, documents: &Path) -> String {
    let dir = dir.display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("  {kind}_temp_path {dir}/tmp_{kind};\n"))
        .concat();
    format!(
        "daemon off;
pid {dir}/nginx.pid;
error_log {dir}/nginx.err;
worker_processes 1;
events {{ worker_connections 64; }}
http {{
  access_log off;
  include /etc/nginx/mime.types;
{temporary}  server {{
    listen 127.0.0.1:{port};
    root {documents};
    index index.php;
    location ~ /\\. {{ deny all; }}
    location / {{ try_files $uri $uri/ /index.php?$args; }}
    location ~ \\.php$ {{
      include /etc/nginx/fastcgi.conf;
      fastcgi_read_timeout 10;
      fastcgi_pass unix:{socket};
    }}
  }}
}}
",
        documents = documents.display(),
        socket = socket.display(),
    )
}
