//! A real Laravel 8 application on Debian's framework, with SQLite, behind real nginx and php-fpm.
//!
//! Composer installs the framework from a `path` repository, so that vendor/ can really be missing and really come back
//! without a network.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::process::{Output, run};
use super::web::Web;
use super::{Lab, PATIENCE, fixture, set_mode, store};

/// What a lab with Laravel needs.
pub(crate) const PROGRAMS: &[&str] = &["nginx", "php-fpm", "php", "composer"];

/// The running application.
#[derive(Debug)]
pub(crate) struct Laravel {
    pub(crate) web: Web,
    /// The installation's directory; its document root is `public/`.
    pub(crate) path: PathBuf,
}

impl Lab {
    /// Starts it, migrated and with a key of its own; `/` and `/health` answer 200.
    pub(crate) fn laravel(&self) -> Laravel {
        let path = self.dir().join("laravel");
        store::copy_tree(&self.prepared_laravel(), &path);
        let web = Web::serve(
            self,
            "laravel",
            &path.join("public"),
            &path.join("storage/logs/php-errors.log"),
        );
        Laravel { web, path }
    }

    fn prepared_laravel(&self) -> PathBuf {
        let framework = std::fs::read("/usr/share/php/Illuminate/autoload.php")
            .unwrap_or_else(|error| panic!("php-laravel-framework is not installed: {error}"));
        // The number changes with the recipe below.
        let salt = format!("2 {} {}", self.user.uid, blake3::hash(&framework).to_hex());
        let made = store::prepared("laravel", &fixture("laravel"), &salt, |place| {
            let app = place.join("app");
            store::copy_tree(&fixture("laravel"), &app);
            std::fs::copy(app.join(".env.example"), app.join(".env")).expect("root can write");
            std::fs::write(app.join("database/database.sqlite"), "").expect("root can write");
            // As `artisan storage:link` does it, but relative: the prepared application is copied elsewhere.
            std::fs::create_dir(app.join("storage/app/public")).expect("root can write");
            std::os::unix::fs::symlink("../storage/app/public", app.join("public/storage"))
                .expect("root can write");
            self.user.own_all(&app);
            let mut composer = self.as_user("composer");
            composer
                .args(["install", "-n", "--no-progress", "-d"])
                .arg(&app);
            run(&mut composer, Duration::from_mins(2)).expect_success();
            for command in ["key:generate", "migrate"] {
                run(artisan(self, &app).args([command, "--force"]), PATIENCE).expect_success();
            }
            set_mode(&app.join(".env"), 0o640);
        });
        made.join("app")
    }
}

fn artisan(lab: &Lab, app: &Path) -> Command {
    let mut command = lab.as_user("php");
    command
        .arg(app.join("artisan"))
        .arg("--no-ansi")
        .current_dir(app);
    command
}

impl Laravel {
    /// Runs an artisan command as the application's user.
    pub(crate) fn artisan(&self, lab: &Lab, arguments: &[&str]) -> Output {
        run(artisan(lab, &self.path).args(arguments), PATIENCE)
    }

    pub(crate) fn file(&self, path: &str) -> PathBuf {
        self.path.join(path)
    }
}
