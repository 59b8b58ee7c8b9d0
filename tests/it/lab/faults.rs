//! The failures of real life, each as one function that breaks a running application.
//!
//! Each says what is seen from outside afterwards. None cures anything: a cure by hand stands in the test that shows it.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;

use rustix::process::Signal;

use super::laravel::Laravel;
use super::node::Express;
use super::user::User;
use super::wordpress::WordPress;
use super::{Lab, PATIENCE, process, set_mode};

/// storage/ and bootstrap/cache/ belong to root, as after `sudo php artisan`: 500, and artisan fails too.
pub(crate) fn storage_owned_by_root(app: &Laravel) {
    let root = User {
        name: "root".to_owned(),
        uid: 0,
        gid: 0,
    };
    root.own_all(&app.file("storage"));
    root.own_all(&app.file("bootstrap/cache"));
}

/// bootstrap/cache/config.php was made from a configuration that is no longer true: 500.
pub(crate) fn stale_config_cache(lab: &Lab, app: &Laravel) {
    let env = app.file(".env");
    let good = fs::read(&env).expect("the application has an environment");
    let mut old = good.clone();
    old.extend_from_slice(b"DB_DATABASE=/var/lib/gone/database.sqlite\n");
    // In place, so that owner and mode stay.
    fs::write(&env, old).expect("root can write");
    app.artisan(lab, &["config:cache"]).expect_success();
    fs::write(&env, good).expect("root can write");
}

/// bootstrap/cache/config.php was cut while it was written: 500, and artisan fails too.
pub(crate) fn broken_config_cache(lab: &Lab, app: &Laravel) {
    app.artisan(lab, &["config:cache"]).expect_success();
    cut(&app.file("bootstrap/cache/config.php"), 2);
}

/// .env is gone: 500.
pub(crate) fn env_missing(app: &Path) {
    fs::remove_file(app.join(".env")).expect("the application has an environment");
}

/// The line stays, the key is gone: 500.
pub(crate) fn app_key_empty(app: &Laravel) {
    let env = app.file(".env");
    let text = fs::read_to_string(&env).expect("the application has an environment");
    let emptied: String = text
        .lines()
        .map(|line| {
            if line.starts_with("APP_KEY=") {
                "APP_KEY=\n".to_owned()
            } else {
                format!("{line}\n")
            }
        })
        .collect();
    fs::write(&env, emptied).expect("root can write");
}

/// .env ends in the middle of a line, as after a full disk.
pub(crate) fn env_truncated(app: &Path) {
    cut(&app.join(".env"), 2);
}

/// `artisan down` was left on: 503.
pub(crate) fn maintenance_left_on(lab: &Lab, app: &Laravel) {
    app.artisan(lab, &["down"]).expect_success();
}

/// vendor/ is gone: 500.
pub(crate) fn vendor_missing(app: &Laravel) {
    fs::remove_dir_all(app.file("vendor")).expect("the application has packages");
}

/// A release brought a migration that nobody ran: the site still answers, `migrate:status` tells.
pub(crate) fn migration_pending(lab: &Lab, app: &Laravel) {
    let file = app.file("database/migrations/2026_02_01_000000_create_orders.php");
    let source = "<?php
return new class extends Illuminate\\Database\\Migrations\\Migration {
    public function up(): void { Illuminate\\Support\\Facades\\Schema::create('orders', fn ($t) => $t->id()); }
    public function down(): void { Illuminate\\Support\\Facades\\Schema::dropIfExists('orders'); }
};
";
    fs::write(&file, source).expect("root can write");
    lab.user.own(&file);
}

/// `APP_DEBUG=true` was left on: errors show the code and its secrets to everybody.
pub(crate) fn debug_left_on(app: &Laravel) {
    let env = app.file(".env");
    let text = fs::read_to_string(&env).expect("the application has an environment");
    assert!(text.contains("APP_DEBUG=false"), "{text}");
    fs::write(&env, text.replace("APP_DEBUG=false", "APP_DEBUG=true")).expect("root can write");
}

/// The link from public/ to the files that users uploaded is gone.
pub(crate) fn storage_link_missing(app: &Laravel) {
    fs::remove_file(app.file("public/storage")).expect("the application has the link");
}

/// wp-config.php is gone: 302 to the installer, open to anyone.
pub(crate) fn wp_config_missing(app: &WordPress) {
    fs::remove_file(app.file("wp-config.php")).expect("the application has a configuration");
}

/// wp-config.php ends in the middle of a line, as after a full disk: 500.
pub(crate) fn wp_config_truncated(app: &WordPress) {
    cut(&app.file("wp-config.php"), 3);
}

/// wp-content/uploads belongs to root, as after `sudo wp media import`: the site answers, uploads fail.
pub(crate) fn uploads_owned_by_root(app: &WordPress) {
    let root = User {
        name: "root".to_owned(),
        uid: 0,
        gid: 0,
    };
    root.own_all(&app.file("wp-content/uploads"));
}

/// An update left its flag: 503 as long as WordPress takes what it says for fresh.
pub(crate) fn wp_maintenance(lab: &Lab, app: &WordPress, upgrading: &str) {
    let flag = app.file(".maintenance");
    fs::write(&flag, format!("<?php $upgrading = {upgrading}; ?>")).expect("root can write");
    lab.user.own(&flag);
}

/// A file of WordPress itself is gone, as after a broken update: 500.
pub(crate) fn core_file_missing(app: &WordPress, path: &str) {
    fs::remove_file(app.file(path)).expect("the application has all its files");
}

/// A file of WordPress itself was cut off, as on a full disk: 500.
pub(crate) fn core_file_cut(app: &WordPress, path: &str) {
    cut(&app.file(path), 2);
}

/// package.json was cut while it was written: npm says EJSONPARSE.
pub(crate) fn package_json_cut(app: &Express) {
    cut(&app.path.join("package.json"), 2);
}

/// package.json asks for a package that the lock file does not know: `npm ci` says EUSAGE. It is a local one, so that
/// npm comes to this answer without a network.
pub(crate) fn lock_out_of_step(lab: &Lab, app: &Express) {
    let package = app.path.join("packages/prices");
    fs::create_dir_all(&package).expect("root can write");
    fs::write(
        package.join("package.json"),
        "{ \"name\": \"prices\", \"version\": \"1.0.0\" }\n",
    )
    .expect("root can write");
    lab.user.own_all(&app.path.join("packages"));
    let file = app.path.join("package.json");
    let text = fs::read_to_string(&file).expect("the application has a manifest");
    let changed = text.replace(
        "\"dependencies\": {",
        "\"dependencies\": {\n    \"prices\": \"file:packages/prices\",",
    );
    assert_ne!(text, changed, "{text}");
    fs::write(&file, changed).expect("root can write");
}

/// A file that was edited by hand and saved half: 500.
pub(crate) fn syntax_error(file: &Path) {
    let mut file = fs::File::options()
        .append(true)
        .open(file)
        .expect("the file is there");
    file.write_all(b"\nif (true {\n").expect("root can write");
}

/// A log of this many bytes at least, all of it real lines, owned by `user`.
pub(crate) fn huge_log(log: &Path, user: &User, bytes: u64) {
    let line = b"[2026-01-01 00:00:00] production.ERROR: Connection refused {\"exception\":\"[object] (PDOException(code: 2002))\"}\n";
    let block = line.repeat((1 << 20) / line.len());
    let mut file = fs::File::options()
        .create(true)
        .append(true)
        .open(log)
        .expect("root can write");
    let mut written = 0;
    while written < bytes {
        file.write_all(&block).expect("the disk has room");
        written += block.len() as u64;
    }
    user.own(log);
}

/// Permissions wider than anybody wants (0666, 0777).
pub(crate) fn loose_mode(path: &Path, mode: u32) {
    set_mode(path, mode);
}

/// One package is gone from `node_modules`; the running process does not notice before its next start, so it is restarted:
/// "Cannot find module", and the manager gives up.
pub(crate) fn package_missing(lab: &Lab, app: &Express, package: &str) {
    fs::remove_dir_all(app.path.join("node_modules").join(package))
        .expect("the package is installed");
    app.pm2(lab, &["restart", &app.name]);
}

/// `pm2 stop`: the manager knows the application and does not run it.
pub(crate) fn stopped_in_pm2(lab: &Lab, app: &Express) {
    app.pm2(lab, &["stop", &app.name]).expect_success();
}

/// The process dies as by the kernel's memory killer; its manager starts it again.
pub(crate) fn process_killed(pid: u32) {
    process::signal(pid, Signal::KILL);
}

/// Somebody else listens on the application's port: EADDRINUSE at its next start. Ends with [`Lab::stop`] of the pid.
pub(crate) fn port_taken(lab: &Lab, port: u16) -> u32 {
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    let mut holder = lab.as_root("node");
    User::named("nobody")
        .expect("every system has nobody")
        .drop_to(&mut holder);
    holder.arg("-e").arg(format!(
        "require('net').createServer((socket) => socket.destroy()).listen({port}, '127.0.0.1')"
    ));
    let pid = lab.spawn("port-holder", &mut holder);
    super::wait_for("the port is taken", || {
        std::net::TcpStream::connect_timeout(&address.into(), PATIENCE).is_ok()
    });
    pid
}

/// Keeps the first `1/share` of a file, in its inode.
fn cut(path: &Path, share: u64) {
    let file = fs::File::options()
        .write(true)
        .open(path)
        .expect("the file is there");
    let length = file.metadata().expect("an open file has metadata").len();
    file.set_len(length / share).expect("root can write");
}
