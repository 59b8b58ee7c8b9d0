//! A plain PHP application without framework and packages, behind real nginx and php-fpm.

use std::path::PathBuf;

use super::web::Web;
use super::{Lab, fixture, set_mode, store};

/// The running application.
#[derive(Debug)]
pub(crate) struct Php {
    pub(crate) web: Web,
    /// The installation's directory, also its document root.
    pub(crate) path: PathBuf,
    /// Where PHP writes its errors.
    pub(crate) error_log: PathBuf,
}

impl Lab {
    /// Starts it; `/` and `/health.php` answer 200.
    pub(crate) fn php(&self) -> Php {
        let path = self.dir().join("php");
        store::copy_tree(&fixture("php"), &path);
        std::fs::copy(path.join(".env.example"), path.join(".env")).expect("root can write");
        self.user.own_all(&path);
        set_mode(&path.join(".env"), 0o640);
        set_mode(&path.join("config.php"), 0o640);
        let error_log = path.join("logs/php-errors.log");
        let web = Web::serve(self, "php", &path, &error_log);
        Php {
            web,
            path,
            error_log,
        }
    }
}
