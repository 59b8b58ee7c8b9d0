//! A real WordPress (Debian's), with MariaDB, php-fpm and nginx, as an ordinary user.
//!
//! Installed once by WordPress' own installer, kept with its database, copied for each lab. Nothing of it reaches the
//! world: no updates, no cron of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::mariadb::{self, MariaDb};
use super::process::run;
use super::web::Web;
use super::{Lab, fixture, say_skip, set_mode, store};

/// What a lab with WordPress needs.
pub(crate) const PROGRAMS: &[&str] = &[
    "nginx",
    "php-fpm",
    "php",
    "mariadbd",
    "mariadb",
    "mariadb-install-db",
];

/// Where Debian's package puts it.
const PACKAGE: &str = "/usr/share/wordpress";

/// The running application.
#[derive(Debug)]
pub(crate) struct WordPress {
    pub(crate) web: Web,
    pub(crate) database: MariaDb,
    /// The installation's directory, also its document root.
    pub(crate) path: PathBuf,
}

impl Lab {
    /// Starts it with these plugins of the fixtures active; `/` answers 200.
    pub(crate) fn wordpress(&self, plugins: &[&str]) -> WordPress {
        let prepared = self.prepared_wordpress();
        let path = self.dir().join("wordpress");
        store::copy_tree(&prepared.join("site"), &path);
        let data = self.dir().join("database");
        store::copy_tree(&prepared.join("database"), &data);
        let database = MariaDb::serve(self, &data);
        let web = Web::serve(self, "wordpress", &path, &path.join("wp-content/debug.log"));
        write_config(self, &path, &database, &web.url);
        let app = WordPress {
            web,
            database,
            path,
        };
        app.install_plugins(self, plugins);
        app
    }

    pub(super) fn prepared_wordpress(&self) -> PathBuf {
        let version = fs::read(Path::new(PACKAGE).join("wp-includes/version.php"))
            .unwrap_or_else(|error| panic!("wordpress is not installed: {error}"));
        // The number changes with the recipe below.
        let salt = format!("2 {} {}", self.user.uid, blake3::hash(&version).to_hex());
        store::prepared("wordpress", &fixture("wordpress"), &salt, |place| {
            let site = place.join("site");
            // The package is full of links into other packages.
            run(
                self.as_root("cp").args(["-rL", PACKAGE]).arg(&site),
                Duration::from_mins(1),
            )
            .expect_success();
            for name in [".htaccess", "wp-config.php"] {
                drop(fs::remove_file(site.join(name)));
            }
            fs::create_dir_all(site.join("wp-content/uploads")).expect("root can write");
            fs::create_dir(site.join("wp-content/upgrade")).expect("root can write");
            self.user.own_all(&site);
            let data = place.join("database");
            fs::create_dir(&data).expect("a new place is empty");
            self.user.own(&data);
            self.user.own(place);
            mariadb::install(self, &data);
            let server = MariaDb::serve(self, &data);
            server.sql(
                self,
                "create database wordpress; create user wordpress@'127.0.0.1' identified by 'fB7-mQ2x-lab'; \
                 grant all on wordpress.* to wordpress@'127.0.0.1'",
            );
            write_config(self, &site, &server, "http://127.0.0.1:9/");
            let mut install = self.as_user("php");
            install
                .arg(fixture("wordpress/install.php"))
                .current_dir(&site);
            run(&mut install, Duration::from_mins(1)).expect_success();
            fs::remove_file(site.join("wp-config.php")).expect("root can write");
            server.stop(self);
        })
    }
}

/// WP-CLI as `tests/run` keeps it. The one thing that may be missing anywhere: its absence is told and fails nothing.
pub(crate) fn wp_cli() -> Option<PathBuf> {
    let phar = store::cache().join("wp-cli/wp-cli.phar");
    if !phar.is_file() {
        say_skip("needs wp-cli.phar; tests/run takes it out of the npm package wp-studio");
        return None;
    }
    Some(phar)
}

/// What a person has there, mode included. Only the addresses differ from lab to lab.
fn write_config(lab: &Lab, path: &Path, database: &MariaDb, url: &str) {
    let host = format!("127.0.0.1:{}", database.port);
    write_config_for(lab, path, &host, url);
}

/// The same for a database that is not this lab's own.
pub(super) fn write_config_for(lab: &Lab, path: &Path, host: &str, url: &str) {
    let template =
        fs::read_to_string(fixture("wordpress/wp-config.php")).expect("the fixture is there");
    let text = template
        .replace("@DB_HOST@", host)
        .replace("@URL@", url.trim_end_matches('/'));
    let file = path.join("wp-config.php");
    fs::write(&file, text).expect("root can write");
    lab.user.own(&file);
    set_mode(&file, 0o640);
}

impl WordPress {
    pub(crate) fn file(&self, path: &str) -> PathBuf {
        self.path.join(path)
    }

    /// The directory of a plugin.
    pub(crate) fn plugin(&self, name: &str) -> PathBuf {
        self.path.join("wp-content/plugins").join(name)
    }

    /// Puts plugins of the fixtures in place and switches exactly them on, whatever they do then.
    pub(crate) fn install_plugins(&self, lab: &Lab, names: &[&str]) {
        for name in names {
            let place = self.plugin(name);
            if !place.exists() {
                store::copy_tree(&fixture("wordpress/plugins").join(name), &place);
                lab.user.own_all(&place);
            }
        }
        let list = names
            .iter()
            .enumerate()
            .map(|(at, name)| {
                let file = format!("{name}/{name}.php");
                format!("i:{at};s:{}:\"{file}\";", file.len())
            })
            .collect::<Vec<String>>()
            .concat();
        self.database.sql(
            lab,
            &format!(
                "update wordpress.wp_options set option_value = 'a:{}:{{{list}}}' where option_name = 'active_plugins'",
                names.len()
            ),
        );
    }

    /// The plugins that the database calls active, as it is stored.
    pub(crate) fn active_plugins(&self, lab: &Lab) -> String {
        self.database.sql(
            lab,
            "select option_value from wordpress.wp_options where option_name = 'active_plugins'",
        )
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;

    use crate::lab::http::{status, wait_for_status};
    use crate::lab::tree::hash_tree;
    use crate::lab::{Lab, faults, set_mode};

    #[test]
    fn wordpress_is_healthy_and_its_faults_are_seen_and_can_be_cured() {
        let Some(lab) = Lab::open(super::PROGRAMS) else {
            return;
        };
        let mut app = lab.wordpress(&["greeting", "banner"]);
        let before = hash_tree(&app.path, &[]);
        let page = wait_for_status(&app.web.url, 200).body;
        assert!(page.contains("greeting was here"), "{page}");
        before.assert_same(&hash_tree(&app.path, &[]));

        let config = app.file("wp-config.php");
        let good = fs::read(&config).unwrap();
        faults::wp_config_missing(&app);
        let answer = wait_for_status(&app.web.url, 302);
        assert!(answer.body.is_empty(), "{}", answer.body);
        fs::write(&config, &good).unwrap();
        set_mode(&config, 0o640);
        lab.user.own(&config);
        faults::wp_config_truncated(&app);
        wait_for_status(&app.web.url, 500);
        fs::write(&config, &good).unwrap();
        wait_for_status(&app.web.url, 200);

        let flag = app.file(".maintenance");
        faults::wp_maintenance(&lab, &app, "time()");
        wait_for_status(&app.web.url, 503);
        // WordPress itself no longer believes a number that is ten minutes old.
        faults::wp_maintenance(&lab, &app, "1500000000");
        wait_for_status(&app.web.url, 200);
        fs::remove_file(&flag).unwrap();

        let core = app.file("wp-includes/capabilities.php");
        let good = fs::read(&core).unwrap();
        faults::core_file_missing(&app, "wp-includes/capabilities.php");
        wait_for_status(&app.web.url, 500);
        fs::write(&core, good).unwrap();
        wait_for_status(&app.web.url, 200);

        app.install_plugins(&lab, &["greeting", "fatal"]);
        wait_for_status(&app.web.url, 500);
        let log = fs::read_to_string(app.file("wp-content/debug.log")).unwrap();
        assert!(log.contains("wp-content/plugins/fatal/includes"), "{log}");
        app.install_plugins(&lab, &["clash-one", "greeting"]);
        wait_for_status(&app.web.url, 200);
        app.install_plugins(&lab, &["clash-two", "greeting"]);
        wait_for_status(&app.web.url, 200);
        app.install_plugins(&lab, &["clash-one", "clash-two", "greeting"]);
        wait_for_status(&app.web.url, 500);
        app.install_plugins(&lab, &["greeting"]);
        wait_for_status(&app.web.url, 200);

        faults::uploads_owned_by_root(&app);
        assert_eq!(
            fs::metadata(app.file("wp-content/uploads")).unwrap().uid(),
            0
        );
        assert_eq!(status(&app.web.url), Some(200));

        app.database.stop(&lab);
        let page = wait_for_status(&app.web.url, 500).body;
        assert!(page.contains("database connection"), "{page}");
        app.database.start(&lab);
        wait_for_status(&app.web.url, 200);
    }
}
